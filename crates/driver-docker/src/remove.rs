//! Taking a sandbox away, however much of it there is: each step is fine with there being nothing to do.

use bollard::query_parameters::{KillContainerOptionsBuilder, RemoveContainerOptionsBuilder};
use skerry_driver::DriverError;
use skerry_types::SandboxId;

use crate::driver::{DockerDriver, is_missing, is_refused};

impl DockerDriver {
    /// Ends every process; the files stay.
    pub(crate) async fn stop(&self, id: SandboxId) -> Result<(), DriverError> {
        let name = self.container(id);
        // Engines do not kill what is paused.
        match self.api.unpause_container(&name).await {
            Err(error) if !is_missing(&error) && !is_refused(&error) => {
                return Err(DriverError::step("let the container go on")(error));
            }
            _ => {}
        }
        let options = KillContainerOptionsBuilder::new().signal("SIGKILL").build();
        match self.api.kill_container(&name, Some(options)).await {
            Err(error) if !is_missing(&error) && !is_refused(&error) => {
                return Err(DriverError::step("kill the container")(error));
            }
            _ => {}
        }
        let live = self.live.lock().remove(&id);
        if let Some(live) = live {
            let gone = live.gone().await;
            gone.map_err(DriverError::step("wait for the container"))?;
        }
        Ok(())
    }

    /// Takes away everything, the record last.
    pub(crate) async fn remove(&self, id: SandboxId) -> Result<(), DriverError> {
        self.live.lock().remove(&id);
        let options = RemoveContainerOptionsBuilder::new()
            .force(true)
            .v(true)
            .build();
        match self
            .api
            .remove_container(&self.container(id), Some(options))
            .await
        {
            Err(error) if !is_missing(&error) => {
                return Err(DriverError::step("remove the container")(error));
            }
            _ => {}
        }
        self.images.remove(&self.images.of_sandbox(id)).await?;
        let removed = self.records.remove(id);
        removed.map_err(DriverError::step("remove the record"))
    }
}
