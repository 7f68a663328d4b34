//! Taking a sandbox up, and taking it away, however much of it there is: each step is fine with there being nothing to do.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use skerry_driver::{DriverError, Instance};
use skerry_proto::guest::{Call, Freeze};
use skerry_sys::pidfd::{self, Identity};
use skerry_sys::{processes, watch};
use skerry_types::SandboxId;

use crate::driver::VmDriver;
use crate::error::{at, blocking};
use crate::layout;
use crate::live::{Live, Now};
use crate::process::name;
use crate::record::Place;
use crate::still;

/// How long a guest may take to write its files out before it is killed.
const SETTLE_PATIENCE: Duration = Duration::from_secs(10);

impl VmDriver {
    /// Takes up a sandbox that an earlier daemon made.
    pub(crate) async fn take_up(&self, id: SandboxId) -> Result<Option<Instance>, DriverError> {
        let Some(mut state) = self.records.read(id).map_err(at("read the record"))? else {
            return Ok(None);
        };
        let facts = state.facts.clone();
        let instance = Instance {
            facts,
            steps: Vec::new(),
        };
        if let Some(live) = self.live(id) {
            return Ok((!is_gone(&live)?).then_some(instance));
        }
        if state.on_disk {
            self.end_machine(id, state.process).await?;
            self.settle_paused(id, &mut state).await?;
            self.live
                .lock()
                .insert(id, Arc::new(Live::new(Now::OnDisk)));
            return Ok(Some(instance));
        }
        let Some(pidfd) = open(state.process).map_err(at("find the machine"))? else {
            return Ok(None);
        };
        let pidfd = watch::readable(pidfd).map_err(at("watch the machine"))?;
        let now = Now::Runs(Arc::new(pidfd));
        self.live.lock().insert(id, Arc::new(Live::new(now)));
        // A daemon that died while it kept this one left it standing.
        still::go_on(id, &Place::of(&self.records, id)?).await;
        Ok(Some(instance))
    }

    /// What was written inside goes to the disk, as far as the guest can still do that.
    pub(crate) async fn settle_disk(&self, id: SandboxId) {
        let Some(live) = self.live(id) else {
            return;
        };
        if let Now::Runs(pidfd) = live.now() {
            let settle = self.ask(id, Call::Freeze(Freeze {}), SETTLE_PATIENCE);
            tokio::select! {
                settled = settle => if let Err(error) = settled {
                    tracing::warn!(%id, %error, "what was written last may be lost");
                },
                _gone = pidfd.readable() => {}
            }
        }
    }

    /// Ends every process and gives back all but the files.
    pub(crate) async fn stop(&self, id: SandboxId) -> Result<(), DriverError> {
        let state = self.records.read(id).map_err(at("read the record"))?;
        let live = self.live.lock().remove(&id);
        self.end_machine(id, state.as_ref().and_then(|state| state.process))
            .await?;
        if let Some(live) = live {
            live.becomes(Now::Gone);
        }
        if let Some(network) = &self.network {
            let released = network.release(id).await;
            released.map_err(DriverError::step("give the network back"))?;
        }
        let Some(mut state) = state else {
            return Ok(());
        };
        state.process = None;
        state.on_disk = false;
        self.records
            .write(id, &state)
            .map_err(at("write the record"))
    }

    /// Kills its QEMU, recorded or not, and removes its control group.
    pub(crate) async fn end_machine(
        &self,
        id: SandboxId,
        process: Option<Identity>,
    ) -> Result<(), DriverError> {
        let (group, starting) = (self.group(id), self.starting.clone());
        blocking("end the machine", move || {
            processes::until_ended(|| Ok(!starting.has(id)))?;
            let recorded = open(process)?;
            // Any process can take the name, so it counts only where nothing better is known.
            let named = match &group {
                Some(_) => Vec::new(),
                None => named(&name(&id.label()))?,
            };
            recorded.into_iter().chain(named).try_for_each(pidfd::end)?;
            group.map_or(Ok(()), |group| group.end())
        })
        .await
    }

    /// Takes away everything, the record last.
    pub(crate) async fn remove(&self, id: SandboxId) -> Result<(), DriverError> {
        self.stop(id).await?;
        let state = self.records.read(id).ok().flatten();
        let (layout, records) = (self.layout.clone(), self.records.clone());
        blocking("remove files and record", move || {
            layout::remove(&layout.sandbox(id))?;
            records.remove(id)
        })
        .await?;
        if let Some(state) = state {
            self.ranges.give_back(state.uid);
        }
        Ok(())
    }

    /// Every sandbox that has a record, files or a control group. Its network it has only while it has a record.
    pub(crate) async fn everything(&self) -> Result<Vec<SandboxId>, DriverError> {
        let (layout, records) = (self.layout.clone(), self.records.clone());
        let cgroups = self.cgroups.clone();
        blocking("list what there is", move || {
            let mut ids = records.list()?;
            ids.extend(layout.sandboxes()?);
            let names = cgroups.map(|cgroups| cgroups.names()).transpose()?;
            let names = names.unwrap_or_default();
            ids.extend(
                names
                    .iter()
                    .filter_map(|name| name.parse::<SandboxId>().ok()),
            );
            ids.sort_unstable();
            ids.dedup();
            Ok(ids)
        })
        .await
    }
}

fn is_gone(live: &Live) -> Result<bool, DriverError> {
    match live.now() {
        Now::Runs(machine) => {
            let gone = pidfd::has_exited(machine.get_ref());
            gone.map_err(at("look at the machine"))
        }
        Now::OnDisk => Ok(false),
        Now::Gone => Ok(true),
    }
}

fn open(process: Option<Identity>) -> io::Result<Option<OwnedFd>> {
    let opened = process.map(Identity::open);
    Ok(opened.transpose()?.flatten())
}

/// Processes of this name: those that a daemon started and died before it wrote that down.
fn named(name: &str) -> io::Result<Vec<OwnedFd>> {
    let pids = processes::with_arguments(|arguments| arguments.first() == Some(&name.as_bytes()))?;
    let opened = pids.into_iter().map(pidfd::open);
    opened.filter_map(io::Result::transpose).collect()
}
