//! Every way to isolate that this machine can run, the default first.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use skerry_agent_bin::{AGENT, GUEST};
use skerry_driver::Driver;
use skerry_driver_docker::{DockerDriver, Engine, Options as DockerOptions};
use skerry_driver_gvisor::{GvisorDriver, Options as GvisorOptions, Tool};
use skerry_driver_ns::memory::Tool as Criu;
use skerry_driver_ns::{NsDriver, Options as NsOptions};
use skerry_driver_vm::{Options as VmOptions, Programs, Tools, VmDriver};
use skerry_net::Network;
use skerry_storage::Storage;

use crate::data_dir::DataDir;
use crate::internal;

/// What drivers are made of.
pub(super) struct Ground<'a> {
    pub(super) data_dir: &'a DataDir,
    pub(super) storage: Arc<Storage>,
    pub(super) network: Option<Network>,
    pub(super) why_one_id: Option<String>,
    /// What keeps the memory of namespace sandboxes, if it works here.
    pub(super) criu: Option<Criu>,
}

/// Has it prove that it works: once per boot that takes a while.
pub(super) async fn criu(trials: PathBuf) -> Option<Criu> {
    let found = Criu::find_proven(&trials).await;
    found
        .inspect_err(|error| tracing::debug!(%error, "no CRIU"))
        .ok()
}

impl Ground<'_> {
    /// The namespace driver, without which there is no server, and those that the machine has the programs for.
    pub(super) async fn drivers(self) -> anyhow::Result<Vec<Arc<dyn Driver>>> {
        let mut drivers: Vec<Arc<dyn Driver>> = vec![Arc::new(self.ns().await?)];
        drivers.extend(offered("gvisor", self.gvisor().await));
        drivers.extend(offered("vm", self.vm().await));
        drivers.extend(offered("docker", self.docker().await));
        Ok(drivers)
    }

    async fn ns(&self) -> anyhow::Result<NsDriver> {
        let driver = NsDriver::new(NsOptions {
            data_dir: self.data_dir.path().to_owned(),
            agent: AGENT,
            spawner_command: internal::command("spawner")?,
            criu: self.criu.clone(),
            storage: Arc::clone(&self.storage),
            network: self.network.clone(),
            cgroup_parent: cgroup_parent(self.data_dir.path(), "ns")?,
            first_id: NsOptions::FIRST_ID,
            why_one_id: self.why_one_id.clone(),
        });
        Ok(driver.await?)
    }

    async fn gvisor(&self) -> anyhow::Result<GvisorDriver> {
        let scratch = tempfile::tempdir()?;
        let tool = Tool::find(None, scratch.path()).await?;
        let driver = GvisorDriver::new(GvisorOptions {
            data_dir: self.data_dir.path().to_owned(),
            agent: AGENT,
            tool,
            launcher_command: internal::command("gvisor")?,
            storage: Arc::clone(&self.storage),
            network: self.network.clone(),
            cgroup_parent: cgroup_parent(self.data_dir.path(), "gvisor")?,
            first_id: GvisorOptions::FIRST_ID,
        });
        Ok(driver.await?)
    }

    async fn vm(&self) -> anyhow::Result<VmDriver> {
        let driver = VmDriver::new(VmOptions {
            data_dir: self.data_dir.path().to_owned(),
            programs: Programs {
                agent: AGENT,
                guest: GUEST,
            },
            launcher_command: internal::command("vm")?,
            tools: Tools::find(),
            storage: Arc::clone(&self.storage),
            network: self.network.clone(),
            cgroup_parent: cgroup_parent(self.data_dir.path(), "vm")?,
            first_uid: VmOptions::FIRST_UID,
        });
        Ok(driver.await?)
    }

    async fn docker(&self) -> anyhow::Result<DockerDriver> {
        let driver = DockerDriver::new(DockerOptions {
            data_dir: self.data_dir.path().to_owned(),
            agent: AGENT,
            engine: Engine::find().await?,
            scope: own_name(self.data_dir.path())?,
        });
        Ok(driver?)
    }
}

/// A driver if this machine has what it needs; what is missing and what would help, `doctor` says.
fn offered<D: Driver + 'static>(name: &str, made: anyhow::Result<D>) -> Option<Arc<dyn Driver>> {
    match made {
        Ok(driver) => Some(Arc::new(driver)),
        Err(error) => {
            tracing::debug!(%error, "no driver {name}");
            None
        }
    }
}

/// One group per data folder and driver, so that two servers on one machine never meet.
fn cgroup_parent(data_dir: &Path, driver: &str) -> anyhow::Result<String> {
    Ok(format!("skerry/{}-{driver}", own_name(data_dir)?))
}

/// A name that no other data folder on this machine has.
fn own_name(data_dir: &Path) -> anyhow::Result<String> {
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::metadata(data_dir).context("cannot look at the data folder")?;
    Ok(format!("{:x}-{:x}", meta.dev(), meta.ino()))
}
