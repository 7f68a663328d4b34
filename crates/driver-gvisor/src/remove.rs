//! Taking a sandbox up, and taking it away, however much of it there is: each step is fine with there being nothing to do.

use std::io;
use std::sync::Arc;

use skerry_driver::{DriverError, Instance, blocking};
use skerry_sys::pidfd::{self, Identity};
use skerry_types::SandboxId;

use crate::driver::GvisorDriver;
use crate::live::{Live, Now, Running};
use crate::record::{State, remove_folder};
use crate::start::running;

impl GvisorDriver {
    /// Takes up a sandbox that an earlier daemon made.
    pub(crate) async fn take_up(&self, id: SandboxId) -> Result<Option<Instance>, DriverError> {
        let state = self.records.read(id);
        let Some(state) = state.map_err(DriverError::step("read the record"))? else {
            return Ok(None);
        };
        let taken_up = match self.live(id) {
            Some(live) => !live
                .has_ended()
                .map_err(DriverError::step("look at the sentry"))?,
            None => self.find(&state).await?,
        };
        Ok(taken_up.then_some(Instance {
            facts: state.facts,
            steps: Vec::new(),
        }))
    }

    async fn find(&self, state: &State) -> Result<bool, DriverError> {
        let id = state.spec.id;
        let now = if state.on_disk {
            self.end_processes(id, None).await?;
            self.note_end(id, true)?;
            Now::OnDisk
        } else {
            let found = state.sentry.map(Identity::open);
            let found = found.transpose();
            let found = found.map_err(DriverError::step("find the sentry"))?;
            let Some(pidfd) = found.flatten() else {
                return Ok(false);
            };
            // A daemon that died while it forked this one left it frozen.
            let thawed = self.group(id).thaw();
            thawed.map_err(DriverError::step("thaw the control group"))?;
            Now::Runs(running(pidfd, self.listen(id, state.first_id)?)?)
        };
        self.live.lock().insert(id, Live::new(now));
        Ok(true)
    }

    /// Ends every process and gives back all but the files and the record.
    pub(crate) async fn stop(&self, id: SandboxId) -> Result<(), DriverError> {
        let live = self.live.lock().remove(&id);
        let running = live.as_ref().and_then(|live| live.running());
        self.end_processes(id, running.as_deref()).await?;
        if let Some(live) = live {
            live.becomes(Now::Gone);
        }
        if let Some(network) = &self.network {
            let released = network.release(id).await;
            released.map_err(DriverError::step("give the network back"))?;
        }
        self.note_end(id, false)?;
        let memory = self.folder(id).memory();
        blocking("remove its memory", move || remove_folder(&memory)).await
    }

    /// Takes away everything, the record last.
    pub(crate) async fn remove(&self, id: SandboxId) -> Result<(), DriverError> {
        self.stop(id).await?;
        let state = self.records.read(id).ok().flatten();
        let (storage, records) = (Arc::clone(&self.storage), self.records.clone());
        blocking("remove volume and record", move || {
            storage.destroy(id).map_err(io::Error::other)?;
            records.remove(id)
        })
        .await?;
        if let Some(state) = state {
            self.ranges.give_back(state.first_id);
        }
        Ok(())
    }

    /// Ends every process of the sandbox, known or not, and removes the group that they were in.
    pub(crate) async fn end_processes(
        &self,
        id: SandboxId,
        running: Option<&Running>,
    ) -> Result<(), DriverError> {
        let group = self.group(id);
        if let Some(running) = running {
            pidfd::kill(running.pidfd.get_ref()).map_err(DriverError::step("kill the sentry"))?;
            // A frozen process dies when it thaws.
            let killed = group.kill();
            killed.map_err(DriverError::step("kill the control group"))?;
            let gone = running.gone().await;
            gone.map_err(DriverError::step("wait for the sentry"))?;
        }
        // A launcher that has not entered the group yet finds none when it wants to.
        blocking("end its processes", move || group.end()).await
    }

    /// Writes down that nothing of it runs.
    pub(crate) fn note_end(&self, id: SandboxId, on_disk: bool) -> Result<(), DriverError> {
        let state = self.records.read(id);
        let Some(mut state) = state.map_err(DriverError::step("read the record"))? else {
            return Ok(());
        };
        state.sentry = None;
        state.on_disk = on_disk;
        self.record(&state)
    }
}
