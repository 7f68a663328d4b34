//! Volumes: on record before their node has them, in use as long as a sandbox that is not deleted has them, gone from the node before the record.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use skerry_proto::node::{Node, VolumeReport};
use skerry_store::{Cursor, Mounted, NewVolume, Tenant, Volume};
use skerry_types::{Error, ErrorCode, NodeId, Result, VolumeId, limits, mounts};

use crate::nodes::{Wish, join};
use crate::service::SYSTEM;
use crate::validate;
use crate::{Caller, Control, Member};

/// Sandboxes that a refusal to remove a volume names, at most.
const USERS_NAMED: u32 = 5;

/// A volume to make.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VolumeRequest {
    /// Its id; a new one unless given.
    pub id: Option<VolumeId>,
    /// A name that no other volume of the org has.
    pub name: String,
    /// What it may hold, in MiB.
    pub size_mb: Option<u64>,
}

/// A volume that a sandbox is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeWish {
    /// Its id or name.
    pub volume: String,
    /// Where inside, an absolute path.
    pub path: String,
}

/// Some volumes of a longer list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VolumePage {
    /// Newest first.
    pub volumes: Vec<Volume>,
    /// Where the next page begins, if there is one.
    pub next_cursor: Option<String>,
}

impl Control {
    /// Makes a volume. Returns when its node has it.
    pub async fn create_volume(
        &self,
        caller: &Caller,
        request: VolumeRequest,
    ) -> Result<(Volume, VolumeReport)> {
        self.takes_work()?;
        check_name(&request.name)?;
        let size = request.size_mb.unwrap_or(limits::DEFAULT_VOLUME_MB.into());
        let (least, most) = (limits::MIN_VOLUME_MB, limits::MAX_VOLUME_MB);
        let wish = Wish {
            region: self.0.settings.region.clone(),
            ..Wish::default()
        };
        let new = NewVolume {
            id: request.id.unwrap_or_else(VolumeId::new),
            name: request.name,
            node_id: self.choose(&wish)?.ok_or_else(unreachable)?,
            size_mb: validate::within("size_mb", size, least, most)?,
        };
        let (control, tenant) = (self.clone(), caller.tenant);
        self.detached(async move { control.make_volume(&tenant, new).await })
            .await
    }

    async fn make_volume(&self, tenant: &Tenant, new: NewVolume) -> Result<(Volume, VolumeReport)> {
        let member = self.member(new.node_id)?;
        let volume = self.0.store.create_volume(tenant, new, self.now()).await?;
        let limit = u64::from(volume.size_mb) << 20;
        match member.handle.create_volume(volume.id, limit).await {
            Ok(report) => Ok((volume, report)),
            Err(error) => {
                // On record until its node surely has nothing of it.
                let now = self.now();
                self.0.store.retire_volume(tenant, volume.id, now).await?;
                if let Err(left) = self.remove_volume_from(&member, tenant, volume.id).await {
                    tracing::warn!(id = %volume.id, error = %left, "what is left of a volume goes at the next comparison");
                }
                Err(error)
            }
        }
    }

    /// Several, newest first.
    pub async fn volumes(
        &self,
        caller: &Caller,
        cursor: Option<String>,
        limit: Option<u32>,
    ) -> Result<VolumePage> {
        let limit = limit.unwrap_or(limits::DEFAULT_PAGE);
        validate::within("limit", limit.into(), 1, limits::MAX_PAGE)?;
        let cursor = cursor.map(|c| c.parse::<Cursor>()).transpose()?;
        let page = self.0.store.volumes(&caller.tenant, cursor, limit).await?;
        Ok(VolumePage {
            volumes: page.items,
            next_cursor: page.next.map(|cursor| cursor.to_string()),
        })
    }

    /// One, by id or name.
    pub async fn volume(&self, caller: &Caller, reference: &str) -> Result<Volume> {
        self.find_volume(&caller.tenant, reference).await
    }

    /// One, by id or name, and what its node says of it.
    pub async fn look_at_volume(
        &self,
        caller: &Caller,
        reference: &str,
    ) -> Result<(Volume, VolumeReport)> {
        let volume = self.volume(caller, reference).await?;
        let node = self.node_of_volume(&volume)?;
        let report = node.volume_report(volume.id).await?;
        Ok((volume, report))
    }

    /// The way to what is in one.
    pub fn node_of_volume(&self, volume: &Volume) -> Result<Arc<dyn Node>> {
        Ok(self.member(volume.node_id)?.handle)
    }

    /// The way to what is in this one, whoever's it is: for those whose right to it was seen otherwise.
    pub async fn opened_volume(&self, id: VolumeId) -> Result<Arc<dyn Node>> {
        let found = self.0.store.volume_of_any_org(&SYSTEM, id).await?;
        let volume = found.ok_or_else(|| Error::not_found(format!("volume {id}")))?;
        self.node_of_volume(&volume)
    }

    /// Removes one that nobody uses, by id or name.
    pub async fn remove_volume(&self, caller: &Caller, reference: &str) -> Result<()> {
        let volume = self.volume(caller, reference).await?;
        let (control, tenant) = (self.clone(), caller.tenant);
        self.detached(async move {
            control.retire(&tenant, &volume).await?;
            let member = control.member(volume.node_id)?;
            control
                .remove_volume_from(&member, &tenant, volume.id)
                .await
        })
        .await
    }

    /// From now on nobody gets it, unless somebody has it.
    async fn retire(&self, tenant: &Tenant, volume: &Volume) -> Result<()> {
        // Whoever places a sandbox looks whether its volumes are there.
        let _one_at_a_time = self.0.placing.lock().await;
        let (store, id) = (&self.0.store, volume.id);
        let users = store.volume_users(tenant, id, USERS_NAMED).await?;
        if users.is_empty() {
            return Ok(store.retire_volume(tenant, id, self.now()).await?);
        }
        let named: Vec<_> = users.iter().map(ToString::to_string).collect();
        let and_more = if named.len() == USERS_NAMED as usize {
            " and perhaps more"
        } else {
            ""
        };
        Err(Error::conflict(format!(
            "volume {} is in use by {}{and_more}",
            volume.name,
            join(named.iter().map(String::as_str))
        ))
        .with_hint("delete those sandboxes first; a stopped one has its volumes too"))
    }

    async fn remove_volume_from(
        &self,
        member: &Member,
        tenant: &Tenant,
        id: VolumeId,
    ) -> Result<()> {
        member.handle.remove_volume(id).await?;
        Ok(self.0.store.forget_volume(tenant, id).await?)
    }

    async fn find_volume(&self, tenant: &Tenant, reference: &str) -> Result<Volume> {
        let store = &self.0.store;
        let found = match reference.parse::<VolumeId>() {
            Ok(id) => store.volume(tenant, id).await?,
            Err(_) => store.volume_named(tenant, reference).await?,
        };
        found.ok_or_else(|| {
            Error::not_found(format!("volume {}", validate::shown(reference)))
                .with_hint("`skerry volume ls` shows those there are")
        })
    }

    /// The volumes that a sandbox is to have, and the node that has them.
    pub(crate) async fn mounts(
        &self,
        tenant: &Tenant,
        wishes: &[VolumeWish],
    ) -> Result<(Vec<Mounted>, Option<NodeId>)> {
        let paths = wishes.iter().map(|wish| Path::new(&wish.path));
        mounts::check(paths).map_err(|why| Error::validation(format!("volumes: {why}")))?;
        let (mut mounts, mut node) = (Vec::with_capacity(wishes.len()), None);
        for wish in wishes {
            let volume = self.find_volume(tenant, &wish.volume).await?;
            if *node.get_or_insert(volume.node_id) != volume.node_id {
                return Err(Error::unsupported("volumes: they are on different nodes"));
            }
            mounts.push(Mounted {
                volume: volume.id,
                name: volume.name,
                path: wish.path.clone(),
            });
        }
        Ok((mounts, node))
    }

    /// Fails if one of them is no more. To be asked by whoever places a sandbox, before it is on record.
    pub(crate) async fn still_there(&self, tenant: &Tenant, mounts: &[Mounted]) -> Result<()> {
        for mount in mounts {
            self.find_volume(tenant, &mount.volume.to_string()).await?;
        }
        Ok(())
    }

    fn member(&self, id: NodeId) -> Result<Member> {
        self.0.nodes.get(id).cloned().ok_or_else(unreachable)
    }

    /// Removes from a node what was to be removed. What is on no record stays: only a record that was lost makes that, and it is somebody's data.
    pub(crate) async fn agree_on_volumes(&self, member: &Member) -> Result<()> {
        let there = member.handle.list_volumes().await?;
        let on_record = self.0.store.volumes_on(&SYSTEM, member.facts.id).await?;
        let known: HashSet<VolumeId> = on_record.iter().map(|volume| volume.id).collect();
        for id in there.into_iter().filter(|id| !known.contains(id)) {
            tracing::warn!(%id, "a volume is on no record of this server, and stays");
        }
        let mut all = Ok(());
        for volume in on_record
            .iter()
            .filter(|volume| volume.removed_at.is_some())
        {
            let tenant = Tenant::of(volume.org_id);
            let removed = self.remove_volume_from(member, &tenant, volume.id).await;
            all = all.and(removed);
        }
        all
    }
}

/// A name must say which: an id of the same name would be found before it.
fn check_name(name: &str) -> Result<()> {
    validate::name("name", name)?;
    if name.parse::<VolumeId>().is_ok() {
        return Err(Error::validation("name: is an id; take another"));
    }
    Ok(())
}

fn unreachable() -> Error {
    Error::new(
        ErrorCode::NodeUnreachable,
        "the node of this volume cannot be reached",
    )
}
