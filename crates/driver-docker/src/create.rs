//! Making a sandbox: its record and socket, then the engine's container, then the agent's first word.

use std::sync::Arc;
use std::time::Instant;
use std::{fs, io};

use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount, MountType, ResourcesUlimits,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, StartContainerOptions, UploadToContainerOptionsBuilder,
};
use bollard::{body_full, models::ContainerStateStatusEnum};
use rustix::process::{Resource, getrlimit};
use skerry_driver::{DriverError, Instance, NetworkMode, Privilege, Spec, Step};
use skerry_types::SandboxId;

use crate::driver::{DockerDriver, Live};
use crate::images::Name;
use crate::link::{Door, SOCKET};
use crate::record::{self, PROGRAM, State};

const MIB: i64 = 1024 * 1024;
const NANOS_OF_A_CPU: i64 = 1_000_000_000;
/// What programs expect who do not ask for more.
const SOFT_FILES: i64 = 1024;
/// What the kernel allows unless told otherwise.
const MOST_FILES: i64 = 1_048_576;
/// Processes that any machine has room for.
const FEWEST_NUMBERS: i64 = 32_768;
const NO_NAT: &str = "driver docker has no network `nat`, since an engine's bridge leads to the host and to neighbours: ask for network `none`";
/// Where the container sees the agent's program and its socket.
const AGENT_FOLDER: &str = "/.skerry";

/// To become users, to signal them and to keep their files; and to give up all else. The agent's alone.
const RESTRICTED: [&str; 8] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
];
/// What uid 0 inside can do beside that at level root.
const ROOT: [&str; 4] = ["NET_BIND_SERVICE", "SYS_CHROOT", "AUDIT_WRITE", "SETFCAP"];

impl DockerDriver {
    /// Makes a sandbox from `image` with its agent started; takes everything away again if that fails.
    pub(crate) async fn start(&self, spec: &Spec, image: Source) -> Result<Instance, DriverError> {
        if spec.network == NetworkMode::Nat {
            return Err(DriverError::Unsupported(NO_NAT.to_owned()));
        }
        self.capabilities.check_volumes(spec)?;
        let state = State {
            facts: self.capabilities.facts(spec, &self.storage_name),
        };
        let begun = record::begin(&self.records, spec.id, &state);
        begun.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => DriverError::Exists(spec.id),
            _ => DriverError::step("begin the record")(error),
        })?;
        let made = self.make(spec, image).await;
        if made.is_err()
            && let Err(error) = self.remove(spec.id).await
        {
            tracing::warn!(id = %spec.id, %error, "a sandbox that could not be made left something; it is listed");
        }
        let steps = made?;
        Ok(Instance {
            facts: state.facts,
            steps,
        })
    }

    async fn make(&self, spec: &Spec, source: Source) -> Result<Vec<Step>, DriverError> {
        let mut steps = Vec::new();
        let mut last = Instant::now();
        let mut lap = |name: &str| {
            let now = Instant::now();
            steps.push(Step {
                name: name.to_owned(),
                took: now - last,
            });
            last = now;
        };
        let image = self.image(spec, source).await?;
        lap("image");
        let door = self.listen(spec.id)?;
        let name = self.container(spec.id);
        let options = CreateContainerOptionsBuilder::new().name(&name).build();
        let created = self
            .api
            .create_container(Some(options), describe(self, spec, &image));
        created
            .await
            .map_err(DriverError::step("create the container"))?;
        self.name_machine(spec.id, &name).await?;
        lap("container");
        let started = self
            .api
            .start_container(&name, None::<StartContainerOptions>);
        started
            .await
            .map_err(DriverError::step("start the container"))?;
        lap("start");
        let pid = self
            .pid(spec.id)
            .await?
            .ok_or(DriverError::NotRunning(spec.id))?;
        let live = self.remember(spec.id, pid, door)?;
        tokio::select! {
            dialled = live.door.dialled() => dialled.map_err(DriverError::step("wait for the agent to dial"))?,
            gone = live.gone() => {
                gone.map_err(DriverError::step("wait for the container"))?;
                return Err(DriverError::NotRunning(spec.id));
            }
        }
        lap("agent");
        Ok(steps)
    }

    async fn image(&self, spec: &Spec, source: Source) -> Result<Name, DriverError> {
        let own = self.images.of_sandbox(spec.id);
        match source {
            Source::Layers => return self.images.of_layers(&spec.rootfs.layers).await,
            Source::Sandbox(parent) => self.commit(parent, &own).await?,
            Source::Image(image) => self.images.tag(&image.whole(), &own).await?,
        }
        Ok(own)
    }

    /// Commits what a sandbox has at one instant. It runs on.
    pub(crate) async fn commit(&self, id: SandboxId, name: &Name) -> Result<(), DriverError> {
        if !self.records.exists(id) {
            return Err(DriverError::NotFound(id));
        }
        let status = self.status(id).await?;
        let runs = status == Some(ContainerStateStatusEnum::RUNNING);
        let committed = self.images.commit(&self.container(id), name, runs).await;
        committed.map_err(DriverError::step("commit the container"))
    }

    /// Writes the one file that differs from sandbox to sandbox and that no engine writes.
    async fn name_machine(&self, id: SandboxId, container: &str) -> Result<(), DriverError> {
        let text = format!("{}\n", id.uuid().simple());
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o444);
        let mut archive = tar::Builder::new(Vec::new());
        let packed = archive.append_data(&mut header, "machine-id", text.as_bytes());
        let archive = packed
            .and_then(|()| archive.into_inner())
            .map_err(DriverError::step("name the machine"))?;
        let options = UploadToContainerOptionsBuilder::new().path("/etc").build();
        let body = body_full(archive.into());
        let sent = self.api.upload_to_container(container, Some(options), body);
        sent.await.map_err(DriverError::step("name the machine"))
    }

    pub(crate) fn listen(&self, id: SandboxId) -> Result<Door, DriverError> {
        Door::open(&record::inside(&self.records, id))
            .map_err(DriverError::step("listen for the agent"))
    }

    /// The host's number of the agent; `None` if it does not run.
    pub(crate) async fn pid(&self, id: SandboxId) -> Result<Option<u32>, DriverError> {
        let found = self.inspect(id).await?;
        let pid = found.and_then(|found| found.state?.pid);
        Ok(pid
            .and_then(|pid| u32::try_from(pid).ok())
            .filter(|&pid| pid != 0))
    }

    pub(crate) fn remember(
        &self,
        id: SandboxId,
        pid: u32,
        door: Door,
    ) -> Result<Arc<Live>, DriverError> {
        let live = Live::new(pid, door).map_err(DriverError::step("watch the agent"))?;
        let live = Arc::new(live.ok_or(DriverError::NotRunning(id))?);
        self.live.lock().insert(id, Arc::clone(&live));
        Ok(live)
    }
}

/// What the files of a new sandbox are.
#[derive(Debug)]
pub(crate) enum Source {
    /// Those of its image.
    Layers,
    /// Those that another has now.
    Sandbox(SandboxId),
    /// Those that were committed.
    Image(Name),
}

fn describe(driver: &DockerDriver, spec: &Spec, image: &Name) -> ContainerCreateBody {
    let level = match spec.privilege {
        Privilege::Restricted => "restricted",
        Privilege::Root => "root",
    };
    let link = format!("{AGENT_FOLDER}/{SOCKET}");
    ContainerCreateBody {
        hostname: Some(spec.hostname.clone()),
        image: Some(image.whole()),
        user: Some("0:0".to_owned()),
        working_dir: Some("/".to_owned()),
        entrypoint: Some(vec![format!("{AGENT_FOLDER}/{PROGRAM}")]),
        cmd: Some(
            ["--level", level, "--dial", &link]
                .map(str::to_owned)
                .into(),
        ),
        env: Some(Vec::new()),
        host_config: Some(fences(driver, spec)),
        ..ContainerCreateBody::default()
    }
}

/// What the container may use, do and see.
fn fences(driver: &DockerDriver, spec: &Spec) -> HostConfig {
    let memory = i64::from(spec.resources.memory_mb) * MIB;
    let mut capabilities = RESTRICTED.to_vec();
    let mut security = Vec::new();
    match spec.privilege {
        Privilege::Restricted => security.push("no-new-privileges".to_owned()),
        Privilege::Root => capabilities.extend(ROOT),
    }
    HostConfig {
        network_mode: Some("none".to_owned()),
        memory: Some(memory),
        memory_swap: Some(memory),
        nano_cpus: Some(i64::from(spec.resources.vcpus) * NANOS_OF_A_CPU),
        pids_limit: Some(spec.resources.pids.into()),
        shm_size: Some(memory / 2),
        cap_drop: Some(vec!["ALL".to_owned()]),
        cap_add: Some(capabilities.into_iter().map(str::to_owned).collect()),
        security_opt: Some(security),
        ulimits: Some(ulimits()),
        // What the agent says on standard error is for nobody.
        log_config: Some(HostConfigLogConfig {
            typ: Some("none".to_owned()),
            ..HostConfigLogConfig::default()
        }),
        mounts: Some(mounts(driver, spec)),
        ..HostConfig::default()
    }
}

fn mounts(driver: &DockerDriver, spec: &Spec) -> Vec<Mount> {
    let shown = |source: &std::path::Path, target: &str| Mount {
        typ: Some(MountType::BIND),
        source: Some(source.to_string_lossy().into_owned()),
        target: Some(target.to_owned()),
        read_only: Some(true),
        ..Mount::default()
    };
    let binds = spec.rootfs.binds.iter();
    let mut mounts: Vec<_> = binds
        .map(|bind| shown(&bind.source, &bind.target.to_string_lossy()))
        .collect();
    mounts.push(shown(
        &record::inside(&driver.records, spec.id),
        AGENT_FOLDER,
    ));
    mounts
}

/// Never more than this process may itself: an engine without the right to raise limits refuses.
fn ulimits() -> Vec<ResourcesUlimits> {
    let most = |resource| {
        let most = getrlimit(resource).maximum.unwrap_or(u64::MAX);
        i64::try_from(most).unwrap_or(i64::MAX)
    };
    // Podman gives itself no more than the machine has numbers for.
    let numbers = fs::read_to_string("/proc/sys/kernel/pid_max").ok();
    let numbers = numbers.and_then(|text| text.trim().parse().ok());
    let limit = |name: &str, soft, hard| ResourcesUlimits {
        name: Some(name.to_owned()),
        soft: Some(soft),
        hard: Some(hard),
    };
    let processes = most(Resource::Nproc).min(numbers.unwrap_or(FEWEST_NUMBERS));
    vec![
        limit("nofile", SOFT_FILES, most(Resource::Nofile).min(MOST_FILES)),
        limit("nproc", processes, processes),
    ]
}
