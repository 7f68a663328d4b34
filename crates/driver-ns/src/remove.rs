//! Taking a sandbox away, however much of it there is: each step is fine with there being nothing to do.

use std::io;
use std::sync::Arc;

use skerry_driver::DriverError;
use skerry_sys::cgroup::Group;
use skerry_sys::pidfd;
use skerry_sys::processes::until_ended;
use skerry_types::SandboxId;

use crate::driver::{NsDriver, blocking};
use crate::processes;

impl NsDriver {
    /// Ends every process and gives back all but the files and the record.
    pub(crate) async fn stop(&self, id: SandboxId) -> Result<(), DriverError> {
        self.kill_processes(id).await?;
        let group = self.group(id);
        let gone = blocking("remove the control group", move || remove_group(group));
        let (gone, released) = tokio::join!(gone, self.release_network(id));
        gone.and(released)?;
        self.forget_agent(id)
    }

    /// Takes away everything, the record last.
    pub(crate) async fn remove(&self, id: SandboxId) -> Result<(), DriverError> {
        self.kill_processes(id).await?;
        let state = self.records.read(id).ok().flatten();
        let (group, storage) = (self.group(id), Arc::clone(&self.storage));
        let gone = blocking("remove control group and volume", move || {
            remove_group(group)?;
            storage.destroy(id).map_err(io::Error::other)
        });
        let (gone, released) = tokio::join!(gone, self.release_network(id));
        gone.and(released)?;
        let ended = self.records.remove(id);
        let ended = ended.map_err(DriverError::step("remove the record"))?;
        // Once only: after that they may be another's.
        if let Some(first) = state.filter(|_| ended).and_then(|state| state.first_id) {
            self.ranges.give_back(first);
        }
        Ok(())
    }

    async fn release_network(&self, id: SandboxId) -> Result<(), DriverError> {
        let Some(network) = &self.network else {
            return Ok(());
        };
        let released = network.release(id).await;
        released.map_err(DriverError::step("give the network back"))
    }

    /// Every sandbox that has a record or a control group: what else there is of one was made after its record and goes before it. Volumes and
    /// networks are not asked for, since other drivers have theirs in the same place.
    pub(crate) async fn everything(&self) -> Result<Vec<SandboxId>, DriverError> {
        let (records, cgroups) = (self.records.clone(), self.cgroups.clone());
        blocking("list what there is", move || {
            let mut ids = records.list()?;
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

    /// Ends every process of the sandbox, known or not, and waits until they are gone.
    pub(crate) async fn kill_processes(&self, id: SandboxId) -> Result<(), DriverError> {
        drop(self.sites.lock().remove(&id));
        let (live, group) = (self.live.lock().remove(&id), self.group(id));
        if let Some(live) = live {
            // The first process takes all others with it. None is anywhere else: only it was let in.
            pidfd::kill(live.pidfd.get_ref()).map_err(DriverError::step("kill the agent"))?;
            // A frozen process dies when it thaws.
            let thawed = group.as_ref().map_or(Ok(()), Group::thaw);
            thawed.map_err(DriverError::step("thaw the control group"))?;
            let gone = live.gone().await;
            return gone.map_err(DriverError::step("wait for the agent"));
        }
        let state = self
            .records
            .read(id)
            .map_err(DriverError::step("read the record"))?;
        let agent = state.and_then(|state| state.agent);
        blocking("kill its processes", move || {
            kill_agent(id, agent, group.as_ref())?;
            group.map_or(Ok(()), |group| group.clear())
        })
        .await
    }

    fn forget_agent(&self, id: SandboxId) -> Result<(), DriverError> {
        let step = || DriverError::step("write the record");
        let Some(mut state) = self.records.read(id).map_err(step())? else {
            return Ok(());
        };
        state.agent = None;
        self.records.write(id, &state).map_err(step())
    }
}

/// Kills an agent that this daemon did not start: by its record, or by its name if there is none.
fn kill_agent(
    id: SandboxId,
    recorded: Option<pidfd::Identity>,
    group: Option<&Group>,
) -> io::Result<()> {
    let recorded = recorded.map(pidfd::Identity::open).transpose()?.flatten();
    // In a group is all that there is. The name is for where there is none: a copy with memory goes by that of what it is a copy of.
    let named = match group {
        Some(_) => Vec::new(),
        None => processes::agents_of(&id.label())?,
    };
    let named = named
        .into_iter()
        .filter_map(|pid| pidfd::open(pid).ok().flatten());
    for agent in recorded.into_iter().chain(named) {
        pidfd::kill(&agent)?;
        until_ended(|| {
            // A frozen process dies when it thaws.
            group.map_or(Ok(()), Group::kill)?;
            pidfd::has_exited(&agent)
        })?;
    }
    Ok(())
}

fn remove_group(group: Option<Group>) -> io::Result<()> {
    group.map_or(Ok(()), |group| group.end())
}
