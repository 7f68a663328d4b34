//! Taking a sandbox away, however much of it there is: each step is fine with there being nothing to do.

use std::io;
use std::sync::Arc;

use skerry_driver::DriverError;
use skerry_sys::cgroup::Group;
use skerry_sys::pidfd;
use skerry_types::SandboxId;

use crate::driver::{GvisorDriver, blocking};
use crate::processes::until_done;

impl GvisorDriver {
    /// Ends every process and gives back all but the files and the record.
    pub(crate) async fn stop(&self, id: SandboxId) -> Result<(), DriverError> {
        self.kill_processes(id).await?;
        let group = self.group(id);
        blocking("remove the control group", move || {
            until_done(|| removed(&group))
        })
        .await?;
        if let Some(network) = &self.network {
            let released = network.release(id).await;
            released.map_err(DriverError::step("give the network back"))?;
        }
        self.forget_sentry(id)
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
            self.taken.lock().remove(&state.first_id);
        }
        Ok(())
    }

    /// Ends every process of the sandbox, known or not, and waits until they are gone.
    async fn kill_processes(&self, id: SandboxId) -> Result<(), DriverError> {
        let live = self.live.lock().remove(&id);
        let group = self.group(id);
        if let Some(live) = &live {
            pidfd::kill(live.pidfd.get_ref()).map_err(DriverError::step("kill the sentry"))?;
            // A frozen process dies when it thaws.
            group
                .kill()
                .map_err(DriverError::step("kill the control group"))?;
            live.gone()
                .await
                .map_err(DriverError::step("wait for the sentry"))?;
        }
        // A launcher that has not entered the group yet finds none when it wants to.
        blocking("kill its processes", move || until_done(|| emptied(&group))).await
    }

    fn forget_sentry(&self, id: SandboxId) -> Result<(), DriverError> {
        let state = self.records.read(id);
        let Some(mut state) = state.map_err(DriverError::step("read the record"))? else {
            return Ok(());
        };
        state.sentry = None;
        self.record(id, &state)
    }
}

fn emptied(group: &Group) -> io::Result<bool> {
    group.kill()?;
    Ok(group.processes()?.is_empty())
}

fn removed(group: &Group) -> io::Result<bool> {
    match group.remove() {
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => emptied(group).map(|_| false),
        done => done.map(|()| true),
    }
}
