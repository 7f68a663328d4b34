//! Calls of `runsc` about a sandbox, through the launcher: in the sandbox's control group, so that whatever hangs goes with it.

use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use std::{fs, process};

use skerry_driver::DriverError;
use skerry_net::Netns;
use skerry_storage::Volume;
use skerry_types::SandboxId;
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::time::timeout;

use crate::driver::GvisorDriver;
use crate::launch::{NO_FOLDER, Needs, Request, Way};
use crate::record::{Folder, State};
use crate::start::{memory_bytes, storage_error};

/// `runsc` needs a fraction of a second; on a busy machine, or for much memory, more.
const PATIENCE: Duration = Duration::from_mins(1);
const MAX_SAID: u64 = 4096;
/// What it says where the host's disk, or a limit on it, is full.
const FULL: [&str; 2] = ["no space left on device", "disk quota exceeded"];
/// Of a reason; what follows is where in the program it was.
const MAX_REASON: usize = 300;
/// Restores under way at once: more have been seen to fail, and two processors are busy with fewer.
pub(crate) const RESTORES: usize = 3;
/// The sandbox's name for `runsc`, which knows no other in its folder.
const NAME: &str = "s";

/// Why the launcher, or `runsc`, did not do it.
#[derive(Debug, thiserror::Error)]
enum LaunchError {
    /// It could not be run, or did not end.
    #[error("{0}")]
    Run(#[from] io::Error),
    /// See [`NO_FOLDER`]; what it said.
    #[error("{0}")]
    NoFolder(String),
    /// How it ended, and what it said.
    #[error("{0}")]
    Failed(String),
}

impl GvisorDriver {
    /// What a sandbox starts with.
    pub(crate) fn needs(&self, state: &State, volume: &Volume, netns: Option<&Netns>) -> Needs {
        let spec = &state.spec;
        Needs {
            memory_bytes: memory_bytes(spec),
            first_id: state.first_id,
            privilege: spec.privilege,
            layers: spec.rootfs.layers.clone(),
            volume: volume.path().to_owned(),
            binds: spec.rootfs.binds.clone(),
            shared: spec.volumes.clone(),
            inside: self.folder(spec.id).inside(),
            network: netns.and_then(way),
        }
    }

    /// Starts a sandbox, from the beginning or where its memory was.
    pub(crate) async fn launch(
        &self,
        id: SandboxId,
        image: Option<&Path>,
        needs: Needs,
    ) -> Result<(), DriverError> {
        let folder = self.folder(id);
        let mut args = vec![
            format!("-bundle={}", folder.bundle().display()),
            format!("-pid-file={}", folder.pid_file().display()),
            "-detach".to_owned(),
        ];
        let Some(image) = image else {
            return self.runsc(id, "run", args, Some(needs)).await;
        };
        args.push(image_flag(image));
        let closed = DriverError::step("wait for other restores");
        let _turn = self.restores.acquire().await.map_err(closed)?;
        self.runsc(id, "restore", args, Some(needs)).await
    }

    /// Writes memory and processes down; they run on.
    pub(crate) async fn checkpoint(
        &self,
        id: SandboxId,
        image: PathBuf,
    ) -> Result<(), DriverError> {
        let used = self.group(id).usage();
        let used = used.map_err(DriverError::step("look at what it uses"))?;
        let room = self.storage.room(used.memory_bytes);
        let _room = room.map_err(storage_error("keep room for its memory"))?;
        let args = vec![
            "--leave-running".to_owned(),
            "--compression=none".to_owned(),
            image_flag(&image),
        ];
        self.runsc(id, "checkpoint", args, None).await
    }

    async fn runsc(
        &self,
        id: SandboxId,
        call: &'static str,
        options: Vec<String>,
        needs: Option<Needs>,
    ) -> Result<(), DriverError> {
        let folder = self.folder(id);
        let has_network = needs.as_ref().is_some_and(|needs| needs.network.is_some());
        let network = if has_network { "sandbox" } else { "none" };
        let mut args = self.tool.flags(&folder.root());
        args.push(format!("--log={}", folder.log().display()));
        args.push(format!("--network={network}"));
        args.push(call.to_owned());
        args.extend(options);
        args.push(NAME.to_owned());
        let request = Request {
            group: (self.cgroup_parent.clone(), id.label()),
            runsc: self.tool.path().to_owned(),
            args,
            needs,
        };
        let text = serde_json::to_string(&request);
        let text = text.map_err(DriverError::step("write the request"))?;
        match self.run_launcher(&folder, text).await {
            Ok(()) => Ok(()),
            Err(LaunchError::NoFolder(said)) => Err(DriverError::no_folder(said)),
            Err(error) => Err(DriverError::step(step(call))(error)),
        }
    }

    async fn run_launcher(&self, folder: &Folder, request: String) -> Result<(), LaunchError> {
        let command = self.launcher_command.split_first();
        let (program, args) = command.ok_or(io::Error::from(io::ErrorKind::InvalidInput))?;
        let mut child = Command::new(program)
            .args(args)
            .arg(request)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stderr = child.stderr.take();
        let ending = async {
            let mut said = String::new();
            if let Some(stderr) = stderr {
                stderr.take(MAX_SAID).read_to_string(&mut said).await?;
            }
            Ok::<_, io::Error>((child.wait().await?, said))
        };
        let ended = timeout(PATIENCE, ending).await;
        let (status, said) = ended.map_err(io::Error::from)??;
        if status.success() {
            return Ok(());
        }
        if status.code() == Some(NO_FOLDER.into()) {
            return Err(LaunchError::NoFolder(said.trim().to_owned()));
        }
        // What `runsc` says is in its log; a line is enough.
        let log = fs::read_to_string(folder.log()).unwrap_or_default();
        let last = log.lines().next_back().unwrap_or_default();
        let reason: String = said.lines().chain([last]).collect::<Vec<_>>().join(" ");
        if FULL.iter().any(|said| reason.contains(said)) {
            return Err(io::Error::from(io::ErrorKind::StorageFull).into());
        }
        let reason: String = reason.trim().chars().take(MAX_REASON).collect();
        Err(LaunchError::Failed(format!("{status}: {reason}")))
    }
}

fn image_flag(image: &Path) -> String {
    format!("--image-path={}", image.display())
}

fn step(call: &str) -> &'static str {
    match call {
        "run" => "start the sandbox",
        "restore" => "restore the sandbox",
        _ => "write its memory down",
    }
}

fn way(netns: &Netns) -> Option<Way> {
    Some(Way {
        netns: format!("/proc/{}/fd/{}", process::id(), netns.fd.as_raw_fd()).into(),
        address: netns.address?,
        gateway: netns.gateway,
    })
}
