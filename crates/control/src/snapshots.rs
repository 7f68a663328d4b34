//! Snapshots: on record before they are taken, taken on their sandbox's node, and a source that sandboxes can be made from.

use std::collections::HashSet;

use skerry_proto::node::{Defaults, MemoryWish, SnapshotReport, TakeSnapshot};
use skerry_store::{Cursor, Network, Sandbox as Row, Snapshot, TakenSnapshot, Tenant};
use skerry_types::{Error, ErrorCode, Result, SandboxId, SandboxState, SnapshotId, limits};

use crate::read::not_running;
use crate::service::SYSTEM;
use crate::validate;
use crate::{Caller, Control, CreateRequest, Member, Sandbox, VolumeWish};

/// Names that images have: a snapshot of that name could not be told from them.
pub(crate) const RESERVED: [&str; 2] = ["host", "base"];

/// A snapshot to take.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotRequest {
    /// Its id; a new one unless given.
    pub id: Option<SnapshotId>,
    /// A name that no other snapshot of the org has, unless that one is to be overwritten.
    pub name: Option<String>,
    /// Whether processes are kept.
    pub memory: MemoryWish,
    /// Take the name over from the one that has it, and remove that one.
    pub overwrite: bool,
    /// What commands start with in what is made from it; `None`: the same as in the sandbox.
    pub defaults: Option<Defaults>,
}

/// Which snapshots to list, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotQuery {
    /// Only of this sandbox.
    pub sandbox: Option<SandboxId>,
    /// Where the last page ended.
    pub cursor: Option<String>,
    /// 1 to 200; `None`: 50.
    pub limit: Option<u32>,
}

/// Some snapshots of a longer list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotPage {
    /// Newest first.
    pub snapshots: Vec<Snapshot>,
    /// Where the next page begins, if there is one.
    pub next_cursor: Option<String>,
}

impl Control {
    /// Takes a snapshot of a running sandbox, which runs on. Returns when it is there.
    pub async fn take_snapshot(
        &self,
        caller: &Caller,
        sandbox: SandboxId,
        request: SnapshotRequest,
    ) -> Result<Snapshot> {
        self.takes_work()?;
        request.name.as_deref().map(check_name).transpose()?;
        let row = self.running_row(caller, sandbox).await?;
        let (control, tenant) = (self.clone(), caller.tenant);
        self.detached(async move { control.begin_snapshot(&tenant, row, request).await })
            .await
    }

    async fn begin_snapshot(
        &self,
        tenant: &Tenant,
        row: Row,
        request: SnapshotRequest,
    ) -> Result<Snapshot> {
        let member = self.member_of(&row)?;
        let (id, store) = (request.id.unwrap_or_else(SnapshotId::new), &self.0.store);
        let taken_over = request.name.clone().filter(|_| request.overwrite);
        let reserved = request.name.filter(|_| !request.overwrite);
        self.0.snapshotting.lock().insert(id);
        let taken = async {
            let begun = store.begin_snapshot(tenant, id, reserved, &row, self.now());
            begun.await?;
            let order = TakeSnapshot {
                sandbox: row.id,
                id,
                memory: request.memory,
                defaults: request.defaults,
            };
            let report = member.handle.take_snapshot(order).await?;
            let name = taken_over.as_deref();
            let finished = store.finish_snapshot(tenant, id, taken(&report), name, self.now());
            finished
                .await?
                .ok_or_else(|| Error::conflict("the snapshot was removed while it was taken"))
        };
        let outcome = taken.await;
        self.0.snapshotting.lock().remove(&id);
        let (outcome, superfluous) = match outcome {
            Ok((snapshot, replaced)) => (Ok(snapshot), replaced),
            Err(error) => (Err(error), Some(id)),
        };
        if let Some(id) = superfluous
            && let Err(error) = self.remove_from(&member, tenant, id).await
        {
            // One that nobody was told of goes at the next comparison; one that lost its name can still be removed by its id.
            tracing::warn!(%id, %error, "a snapshot that nobody wants could not be removed yet");
        }
        outcome
    }

    /// Takes one that only the forks of one request are made from. It never becomes ready, so nobody else sees it, and whoever comes after a crash
    /// removes it.
    pub(crate) async fn take_base(
        &self,
        tenant: &Tenant,
        of: &Row,
        id: SnapshotId,
        memory: MemoryWish,
    ) -> Result<SnapshotReport> {
        self.0.snapshotting.lock().insert(id);
        let store = &self.0.store;
        store
            .begin_snapshot(tenant, id, None, of, self.now())
            .await?;
        let order = TakeSnapshot {
            sandbox: of.id,
            id,
            memory,
            defaults: None,
        };
        self.member_of(of)?.handle.take_snapshot(order).await
    }

    /// Removes it, as far as it came.
    pub(crate) async fn remove_base(&self, tenant: &Tenant, of: &Row, id: SnapshotId) {
        let removed = match self.member_of(of) {
            Ok(member) => self.remove_from(&member, tenant, id).await,
            Err(error) => Err(error),
        };
        self.0.snapshotting.lock().remove(&id);
        if let Err(error) = removed {
            tracing::warn!(%id, %error, "what forks were made from goes at the next comparison");
        }
    }

    async fn running_row(&self, caller: &Caller, id: SandboxId) -> Result<Row> {
        let row = self.0.store.sandbox(&caller.tenant, id).await?;
        match row.state {
            SandboxState::Running => Ok(row),
            state => Err(not_running(id, state)),
        }
    }

    /// Several, newest first.
    pub async fn snapshots(&self, caller: &Caller, query: SnapshotQuery) -> Result<SnapshotPage> {
        let limit = query.limit.unwrap_or(limits::DEFAULT_PAGE);
        validate::within("limit", limit.into(), 1, limits::MAX_PAGE)?;
        let cursor = query.cursor.map(|c| c.parse::<Cursor>()).transpose()?;
        let store = &self.0.store;
        let page = store.snapshots(&caller.tenant, query.sandbox, cursor, limit);
        let page = page.await?;
        Ok(SnapshotPage {
            snapshots: page.items,
            next_cursor: page.next.map(|cursor| cursor.to_string()),
        })
    }

    /// One, by id or name.
    pub async fn snapshot(&self, caller: &Caller, reference: &str) -> Result<Snapshot> {
        let found = self.find_snapshot(&caller.tenant, reference).await?;
        found.ok_or_else(|| {
            let text = format!("snapshot {}", validate::shown(reference));
            Error::not_found(text).with_hint("`skerry snapshot ls` shows those there are")
        })
    }

    pub(crate) async fn find_snapshot(
        &self,
        tenant: &Tenant,
        reference: &str,
    ) -> Result<Option<Snapshot>> {
        let store = &self.0.store;
        Ok(match reference.parse::<SnapshotId>() {
            Ok(id) => store.snapshot(tenant, id).await?,
            Err(_) => store.snapshot_named(tenant, reference).await?,
        })
    }

    /// Removes one, by id or name. What was made from it lives on.
    pub async fn remove_snapshot(&self, caller: &Caller, reference: &str) -> Result<()> {
        let snapshot = self.snapshot(caller, reference).await?;
        if self.0.store.is_layer(&caller.tenant, snapshot.id).await? {
            let text = format!("snapshot {} belongs to a template's builds", snapshot.id);
            return Err(Error::conflict(text).with_hint("remove the template"));
        }
        let member = self.0.nodes.get(snapshot.node_id).cloned().ok_or_else(|| {
            Error::new(
                ErrorCode::NodeUnreachable,
                "the node of this snapshot is not known here",
            )
        })?;
        let (control, tenant) = (self.clone(), caller.tenant);
        self.detached(async move { control.remove_from(&member, &tenant, snapshot.id).await })
            .await
    }

    /// From the node, then from the record: what is on no record is removed from the node at the next look.
    pub(crate) async fn remove_from(
        &self,
        member: &Member,
        tenant: &Tenant,
        id: SnapshotId,
    ) -> Result<()> {
        member.handle.remove_snapshot(id).await?;
        Ok(self.0.store.forget_snapshot(tenant, id).await?)
    }

    /// Puts a running or paused sandbox back to one of its own snapshots; it runs afterwards.
    pub async fn roll_back(
        &self,
        caller: &Caller,
        sandbox: SandboxId,
        reference: &str,
    ) -> Result<Sandbox> {
        let row = self.0.store.sandbox(&caller.tenant, sandbox).await?;
        if !matches!(row.state, SandboxState::Running | SandboxState::Paused) {
            return Err(not_running(sandbox, row.state));
        }
        let snapshot = self.snapshot(caller, reference).await?;
        if snapshot.sandbox_id != sandbox {
            let text = format!("snapshot {} of sandbox {sandbox}", snapshot.id);
            return Err(Error::not_found(text)
                .with_hint("create a sandbox from it, or roll back to one of its own snapshots"));
        }
        let control = self.clone();
        self.detached(async move {
            let member = control.member_of(&row)?;
            let report = member.handle.roll_back(sandbox, snapshot.id).await?;
            control.follow_report(row, &report).await
        })
        .await
    }

    /// Removes from a node what is on no record, and from the record what never came to be or is there no more.
    pub(crate) async fn agree_on_snapshots(&self, member: &Member) -> Result<()> {
        let on_record = async || self.0.store.snapshots_on(&SYSTEM, member.facts.id).await;
        // Snapshots come and go meanwhile. Whatever the node has was on record before it had it, and what is ready on record it had before that:
        // so only what was on record before is missed on the node, and only what is not on record after it is too much there.
        let before = on_record().await?;
        let busy = self.0.snapshotting.lock().clone();
        let there = member.handle.list_snapshots().await?;
        let there: HashSet<SnapshotId> = there.iter().map(|report| report.id).collect();
        let after = on_record().await?;
        let known: HashSet<SnapshotId> = after.iter().map(|snapshot| snapshot.id).collect();
        let mut all = Ok(());
        for id in there.difference(&known) {
            all = all.and(member.handle.remove_snapshot(*id).await);
        }
        let was_ready = |id| {
            before
                .iter()
                .find(|s| s.id == id)
                .map(|s| s.ready_at.is_some())
        };
        for snapshot in &after {
            let is_lost = match (was_ready(snapshot.id), snapshot.ready_at) {
                // One that nobody was told of is as if it had not been taken.
                (Some(false), None) => !busy.contains(&snapshot.id),
                (Some(true), Some(_)) => !there.contains(&snapshot.id),
                _ => false,
            };
            if is_lost {
                let tenant = Tenant::of(snapshot.org_id);
                all = all.and(self.remove_from(member, &tenant, snapshot.id).await);
            }
        }
        all
    }
}

/// A name must say which: an id or an image of the same name would be found before it.
fn check_name(name: &str) -> Result<()> {
    validate::name("name", name)?;
    let is_taken = RESERVED.contains(&name) || name.parse::<SnapshotId>().is_ok();
    if is_taken {
        let text = format!("name `{name}` is an image's or an id; take another");
        return Err(Error::new(ErrorCode::Conflict, text));
    }
    Ok(())
}

fn taken(report: &SnapshotReport) -> TakenSnapshot {
    TakenSnapshot {
        memory: report.memory,
        bytes: report.bytes,
        held_us: report.held_us,
    }
}

/// A request for a sandbox from a snapshot, with what the snapshot fixes. What contradicts that is refused.
pub(crate) fn of_snapshot(mut request: CreateRequest, from: &Snapshot) -> Result<CreateRequest> {
    let fixed = |field: &str, asked: &mut Option<String>, own: &str| match asked.as_deref() {
        Some(other) if other != own => Err(Error::validation(format!(
            "{field} is {}; a sandbox from snapshot {} has {field} {own}",
            validate::shown(other),
            from.id
        ))),
        _ => {
            *asked = Some(own.to_owned());
            Ok(())
        }
    };
    fixed("driver", &mut request.driver, &from.driver)?;
    fixed("privilege", &mut request.privilege, from.privilege.as_str())?;
    if from.memory {
        // Its processes know their interfaces.
        fixed("network", &mut request.network, from.network.as_str())?;
    }
    request
        .network
        .get_or_insert_with(|| from.network.as_str().to_owned());
    if request.network.as_deref() == Some(Network::Nat.as_str()) {
        request.egress.get_or_insert_with(|| from.egress.clone());
    }
    if request.volumes.is_empty() {
        let own = from.volumes.iter().map(|mounted| VolumeWish {
            volume: mounted.volume.to_string(),
            path: mounted.path.clone(),
        });
        request.volumes = own.collect();
    } else if from.memory {
        return Err(Error::validation(format!(
            "a sandbox from snapshot {}, which has memory, has the volumes of the one it was taken of",
            from.id
        ))
        .with_hint("leave out volumes"));
    }
    let sized = validate::single_values(&request) || request.profile.is_some();
    if from.memory && sized {
        return Err(Error::validation(format!(
            "a sandbox from snapshot {}, which has memory, is as large as the one it was taken of",
            from.id
        ))
        .with_hint("leave out profile, vcpus, memory_mb, disk_mb and pids"));
    }
    if request.profile.is_none() {
        let own = from.resources;
        request.vcpus.get_or_insert(own.vcpus);
        request.memory_mb.get_or_insert(own.memory_mb);
        request.disk_mb.get_or_insert(own.disk_mb);
        request.pids.get_or_insert(own.pids);
    }
    Ok(request)
}
