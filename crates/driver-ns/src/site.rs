//! Where a sandbox will be: its record, control group and network, and in them a blank process. The same whichever sandbox it becomes.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use skerry_driver::{DriverError, NetworkMode, Step};
use skerry_net::{Netns, NetworkKind};
use skerry_sys::cgroup::Door;
use skerry_sys::idmap::Ids;
use skerry_types::SandboxId;

use crate::driver::{NsDriver, blocking};
use crate::record::State;
use crate::spawner::{Blank, Bounds, DoorKind, Fds, Lap, SpawnError};
use crate::start::{inner, noted, spawn_error, timed};

/// See the module.
#[derive(Debug)]
pub(crate) struct Site {
    network: NetworkMode,
    pub(crate) bounds: Bounds,
    pub(crate) fds: Arc<Fds>,
    /// The socket that the agent will listen on.
    pub(crate) listener: OwnedFd,
    pub(crate) netns: Option<Netns>,
    /// `None` where copied processes are to wake up.
    pub(crate) blank: Option<Blank>,
}

impl Site {
    pub(crate) fn address(&self) -> Option<Ipv4Addr> {
        self.netns.as_ref().and_then(|net| net.address)
    }

    pub(crate) fn fit_for(self, network: NetworkMode) -> Result<Self, DriverError> {
        if self.network == network {
            return Ok(self);
        }
        Err(DriverError::step("use what was prepared")(
            "it has another network",
        ))
    }
}

impl NsDriver {
    /// Makes a site for whichever sandbox is made under this id. On error nothing of it is left.
    pub(crate) async fn prepare_site(
        &self,
        id: SandboxId,
        network: NetworkMode,
    ) -> Result<(), DriverError> {
        self.begin(id)?;
        let mut steps = Vec::new();
        let made = match self.lay_site(id, network, &mut steps).await {
            Ok(mut site) => self.man(id, &mut site, &mut steps).await.map(|_| site),
            Err(error) => Err(error),
        };
        match made {
            Ok(site) => {
                self.sites.lock().insert(id, site);
                Ok(())
            }
            Err(error) => {
                self.remove(id).await?;
                Err(error)
            }
        }
    }

    /// Begins a record: whatever else there is of a sandbox comes after it.
    pub(crate) fn begin(&self, id: SandboxId) -> Result<(), DriverError> {
        let begun = self.records.begin(id);
        begun.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => DriverError::Exists(id),
            _ => DriverError::step("begin the record")(error),
        })
    }

    /// Makes a site without a process.
    pub(crate) async fn lay_site(
        &self,
        id: SandboxId,
        network: NetworkMode,
        steps: &mut Vec<Step>,
    ) -> Result<Site, DriverError> {
        if network == NetworkMode::Nat && !self.capabilities.nat {
            return Err(self.capabilities.unsupported("give network nat"));
        }
        let first_id = self.take_ids()?;
        // All are waited for, so that none still makes something while a failure is cleaned up.
        let (door, listener, netns) = tokio::join!(
            timed("cgroup", self.door(id)),
            timed("record, socket", self.listen(id, first_id)),
            timed("netns", self.netns(id, network)),
        );
        let door = noted(door, steps)?;
        let listener = noted(listener, steps)?;
        let netns = noted(netns, steps)?;
        let share = || DriverError::step("share a descriptor");
        let owner = self.network.as_ref().and_then(|network| network.userns());
        let owner = owner.filter(|_| netns.is_some());
        let fds = Fds {
            netns: (netns.as_ref())
                .map(|netns| netns.fd.try_clone())
                .transpose()
                .map_err(share())?,
            net_owner: owner.map(OwnedFd::try_clone).transpose().map_err(share())?,
            door,
        };
        let bounds = Bounds {
            first_id,
            has_netns: fds.netns.is_some(),
            has_net_owner: fds.net_owner.is_some(),
            door: fds.door.as_ref().map(|door| match door {
                Door::Tasks(_) => DoorKind::Tasks,
                Door::Folder(_) => DoorKind::Folder,
            }),
        };
        Ok(Site {
            network,
            bounds,
            fds: Arc::new(fds),
            listener,
            netns,
            blank: None,
        })
    }

    /// Sees that there is a process at the site, and gives its number.
    pub(crate) async fn man(
        &self,
        id: SandboxId,
        site: &mut Site,
        steps: &mut Vec<Step>,
    ) -> Result<u32, DriverError> {
        if let Some(blank) = site.blank.as_ref().filter(|blank| blank.lives()) {
            return Ok(blank.pid);
        }
        let (spawned, took) = timed("spawner", self.spawn(id, site)).await?;
        let (blank, laps) = spawned;
        let pid = blank.pid;
        site.blank = Some(blank);
        steps.push(took);
        steps.extend(inner(laps));
        Ok(pid)
    }

    /// Asks the spawner; once more, after cleaning up, if it died over it.
    async fn spawn(&self, id: SandboxId, site: &Site) -> Result<(Blank, Vec<Lap>), DriverError> {
        match self.client.spawn(site.bounds, Arc::clone(&site.fds)).await {
            Err(SpawnError::Lost(error)) => {
                tracing::warn!(%id, %error, "the spawner died over a request, which is made again");
                self.kill_processes(id).await?;
                let again = self.client.spawn(site.bounds, Arc::clone(&site.fds)).await;
                again.map_err(spawn_error)
            }
            done => done.map_err(spawn_error),
        }
    }

    /// A range of ids that no other sandbox of this node has, where there is more than one; `None` if there is a single id.
    fn take_ids(&self) -> Result<Option<u32>, DriverError> {
        match self.ids {
            Ids::One => Ok(None),
            Ids::Range { first } => Ok(Some(first)),
            Ids::All => {
                let taken = self.ranges.take();
                taken.map(Some).map_err(DriverError::step("take ids"))
            }
        }
    }

    /// The way into the control group.
    async fn door(&self, id: SandboxId) -> Result<Option<Door>, DriverError> {
        let Some(group) = self.group(id) else {
            return Ok(None);
        };
        blocking("make the control group", move || {
            group.make()?;
            group.door().map(Some)
        })
        .await
    }

    /// The agent's socket. Writes down the ids first: they are taken until the record ends.
    async fn listen(&self, id: SandboxId, first_id: Option<u32>) -> Result<OwnedFd, DriverError> {
        let records = self.records.clone();
        let state = State {
            agent: None,
            first_id,
            program: None,
            paused: false,
            facts: None,
        };
        let has_home = self.memory.is_some();
        blocking("write the record and make the socket", move || {
            records.write(id, &state)?;
            if has_home {
                records.make_home(id)?;
            }
            records.listen(id)
        })
        .await
    }

    async fn netns(
        &self,
        id: SandboxId,
        network: NetworkMode,
    ) -> Result<Option<Netns>, DriverError> {
        let kind = match network {
            NetworkMode::None => NetworkKind::None,
            NetworkMode::Nat => NetworkKind::Nat,
        };
        let Some(network) = &self.network else {
            return Ok(None);
        };
        let netns = network.acquire(kind, id).await;
        netns.map(Some).map_err(DriverError::step("get a network"))
    }
}
