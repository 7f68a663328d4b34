//! CRIU, tried out: that the kernel has what it asks for does not mean that it works.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use skerry_sys::{boot, exec, pidfd};
use tokio::process::Command;

use super::jail;
use super::tool::{Tool, ToolError, call};

/// Does nothing. Should it be forgotten, it ends by itself.
const IDLE: [&str; 2] = ["sleep", "60"];
/// In the folder of trials: which CRIU was good, and since when.
const PROOF: &str = "proof";
const IMAGES: &str = "images";
/// Of a restored process: its number, in the folder of images.
const NUMBER: &str = "pid";

impl Tool {
    /// Asks it and tries it out, if that was not done with success since this machine started.
    pub(super) async fn prove(&self, folder: &Path) -> Result<(), ToolError> {
        let proof = format!(
            "{}{} {}",
            boot::id(),
            self.version(),
            self.program.display()
        );
        let path = folder.join(PROOF);
        if fs::read_to_string(&path).is_ok_and(|known| known == proof) {
            return Ok(());
        }
        self.check().await?;
        let images = folder.join(IMAGES);
        make_empty(&images).map_err(ToolError::Room)?;
        let tried = self.try_out(&images).await;
        fs::remove_dir_all(&images).map_err(ToolError::Room)?;
        tried?;
        fs::write(path, proof).map_err(ToolError::Room)
    }

    /// Has it keep a process, which ends with that, and wake it up again.
    async fn try_out(&self, images: &Path) -> Result<(), ToolError> {
        let failed = |source| ToolError::Start(PathBuf::from(IDLE[0]), source);
        // It would be kept with whatever this process was given by accident.
        exec::hand_on_nothing().map_err(failed)?;
        let mut idle = Command::new(IDLE[0]);
        idle.args(&IDLE[1..])
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        // Who leads ours may be somewhere CRIU cannot see.
        exec::lead_session(idle.as_std_mut());
        let mut idle = idle.spawn().map_err(failed)?;
        let tree = idle.id().unwrap_or_default().to_string();
        let dump = ["--tree", &tree].map(OsStr::new);
        self.order("dump", images, &dump).await?;
        // Until it was waited for, its number is not free.
        idle.wait().await.map_err(failed)?;
        let number = images.join(NUMBER);
        let restore = ["--restore-detached", "--pidfile"].map(OsStr::new);
        let restore = [&restore[..], &[number.as_os_str()]].concat();
        self.order("restore", images, &restore).await?;
        end(&number).map_err(|error| ToolError::Trial {
            what: "restore",
            why: format!("the process is not there: {error}"),
        })
    }

    async fn order(
        &self,
        what: &'static str,
        images: &Path,
        more: &[&OsStr],
    ) -> Result<(), ToolError> {
        let common = [OsStr::new("--images-dir"), images.as_os_str()];
        let args = [&common[..], more].concat();
        let said = call(&self.program, what, &args).await?;
        if said.success {
            return Ok(());
        }
        let why = jail::first_error(&said.err);
        let why = why.unwrap_or_else(|| "it does not say why".to_owned());
        Err(ToolError::Trial { what, why })
    }
}

/// What a trial that was cut off left there goes.
fn make_empty(folder: &Path) -> io::Result<()> {
    if let Err(error) = fs::remove_dir_all(folder)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Ends the process whose number stands in the file.
fn end(number: &Path) -> io::Result<()> {
    let pid = fs::read_to_string(number)?;
    let pid = pid.trim().parse().map_err(io::Error::other)?;
    let process = pidfd::open(pid)?.ok_or(io::ErrorKind::NotFound)?;
    pidfd::kill(&process)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A program that answers as CRIU does, until it has to dump.
    fn pretender(folder: &Path) -> Tool {
        let program = folder.join("usr/sbin/criu");
        fs::create_dir_all(program.parent().unwrap()).unwrap();
        let script = "#!/bin/sh\ncase $1 in\n--version) echo Version: 4.1 ;;\ncheck) exit 0 ;;\n\
            *) echo \"(00.1) Error (criu/a.c:1): Can't $1\" >&2; exit 1 ;;\nesac\n";
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        Tool {
            root: folder.to_owned(),
            program,
            version: "4.1".to_owned(),
        }
    }

    fn left(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[tokio::test]
    async fn one_that_says_it_can_and_cannot_is_found_out() {
        let (root, trials) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let refused = pretender(root.path()).prove(trials.path()).await;
        let said = refused.unwrap_err().to_string();
        assert!(said.ends_with("does nothing: Can't dump"), "{said}");
        assert_eq!(left(trials.path()), [""; 0]);
    }

    #[tokio::test]
    async fn one_that_works_is_tried_once() {
        let trials = tempfile::tempdir().unwrap();
        let Ok(tool) = Tool::find().await else {
            // Left out where there is none, or no root.
            return;
        };
        tool.prove(trials.path()).await.unwrap();
        assert_eq!(left(trials.path()), [PROOF]);
        // Nothing can be tried there any more.
        fs::write(trials.path().join(IMAGES), "").unwrap();
        tool.prove(trials.path()).await.unwrap();
        fs::write(trials.path().join(PROOF), "of another boot").unwrap();
        tool.prove(trials.path()).await.unwrap_err();
    }
}
