//! Pausing to disk: memory and processes are written down beside the record, and end; resuming restores them onto the files that the sandbox has
//! had all along.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use skerry_driver::{DriverError, blocking};
use skerry_types::SandboxId;

use crate::driver::GvisorDriver;
use crate::laps::Laps;
use crate::live::{Live, Now};
use crate::record::remove_folder;
use crate::start::Memory;

impl GvisorDriver {
    /// Whoever calls has had the agent hold the processes.
    pub(crate) async fn to_disk(&self, id: SandboxId) -> Result<(), DriverError> {
        self.state(id)?;
        let live = self.live(id).ok_or(DriverError::NotRunning(id))?;
        let _turn = live.turn().await;
        let running = match live.now() {
            Now::Runs(running) => running,
            Now::OnDisk => return Ok(()),
            Now::Gone => return Err(DriverError::NotRunning(id)),
        };
        let closed = running.exchange.close().await;
        let closed = closed.map_err(DriverError::step("let the agent hang up"))?;
        if let Err(error) = self.write_down(id, &live).await {
            let reopened = closed.reopen();
            let half = self.folder(id).memory();
            let step = "remove what was written of its memory";
            let removed = blocking(step, move || remove_folder(&half)).await;
            return reopened
                .map_err(DriverError::step("listen for the agent"))
                .and(removed)
                .and(Err(error));
        }
        self.end_processes(id, Some(&running)).await?;
        self.note_end(id, true)
    }

    /// Afterwards all of it is on disk, and what still runs is what it was.
    async fn write_down(&self, id: SandboxId, live: &Live) -> Result<(), DriverError> {
        let mut state = self.state(id)?;
        let memory = self.folder(id).memory();
        let image = memory.clone();
        blocking("make a folder for its memory", move || {
            remove_folder(&image)?;
            fs::create_dir(image)
        })
        .await?;
        self.checkpoint(id, memory.clone()).await?;
        let volume = self.storage.get(id).ok_or(DriverError::NotFound(id))?;
        blocking("wait for the disk", move || {
            settle(&memory)?;
            Ok(rustix::fs::syncfs(File::open(volume.path())?)?)
        })
        .await?;
        state.on_disk = true;
        self.record(&state)?;
        live.becomes(Now::OnDisk);
        Ok(())
    }

    /// Restores it.
    pub(crate) async fn wake(&self, id: SandboxId) -> Result<(), DriverError> {
        let live = self.live(id).ok_or(DriverError::NotRunning(id))?;
        let _turn = live.turn().await;
        match live.now() {
            Now::Runs(_) => return Ok(()),
            Now::OnDisk => {}
            Now::Gone => return Err(DriverError::NotRunning(id)),
        }
        // Where a pause was given up at its end.
        self.end_processes(id, None).await?;
        let mut state = self.state(id)?;
        let volume = self.storage.get(id).ok_or(DriverError::NotFound(id))?;
        let memory = Memory {
            image: self.folder(id).memory(),
            agent: state.agent.clone(),
        };
        state.on_disk = false;
        match self
            .run(&mut state, &volume, Some(&memory), &mut Laps::start())
            .await
        {
            Ok(running) => live.becomes(Now::Runs(running)),
            Err(error) => {
                // It is as whole on disk as it was.
                self.end_processes(id, None).await?;
                state.on_disk = true;
                state.sentry = None;
                self.record(&state)?;
                return Err(error);
            }
        }
        blocking("remove the memory it had", move || {
            remove_folder(&memory.image)
        })
        .await
    }
}

/// What is on disk now survives the machine.
fn settle(folder: &Path) -> io::Result<()> {
    for file in fs::read_dir(folder)? {
        File::open(file?.path())?.sync_all()?;
    }
    File::open(folder)?.sync_all()
}
