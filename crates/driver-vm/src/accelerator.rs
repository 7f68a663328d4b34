//! What runs the guest's instructions.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use skerry_driver::Accelerator;
use skerry_sys::boot;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use crate::engine::Engine;
use crate::layout::Layout;

/// Where the processor's own virtualization is offered.
const KVM: &str = "/dev/kvm";
/// Where the processor itself runs it, a guest is up within a second. One that hangs must not hold up the first create.
const PATIENCE: Duration = Duration::from_secs(8);
/// What the guest's first process says on the console of a machine that has no disk.
const ALIVE: &str = "skerry-guest:";
/// A machine with a console, and nothing else that a guest could use.
const MACHINE: &str = "-M q35,vmport=off,hpet=off -m 256M -nodefaults -no-user-config -no-reboot -display none -serial stdio";
/// More than a guest that works says.
const MAX_SAID: u64 = 64 * 1024;

/// What came of trying KVM, true until this machine starts anew or the programs change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Trial {
    boot: String,
    programs: String,
    /// `None`: a guest runs.
    why_not: Option<String>,
}

impl Trial {
    fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        fs::write(path, serde_json::to_vec(self)?)
    }
}

/// KVM only if a guest really runs on it, which is tried once: that the device is there says little on a machine that is virtual itself.
pub(crate) async fn choose(engine: &Engine, layout: &Layout) -> Accelerator {
    let boot = boot::id();
    let (path, programs) = (layout.trial(), engine.programs.clone());
    let known = Trial::read(&path);
    let known = known.filter(|trial| trial.boot == boot && trial.programs == programs);
    let why_not = if let Some(trial) = known {
        trial.why_not
    } else {
        let why_not = try_kvm(engine).await.err();
        let trial = Trial {
            boot,
            programs,
            why_not,
        };
        if let Err(error) = trial.write(&path) {
            tracing::warn!(%error, "whether KVM works is tried again by the next server");
        }
        trial.why_not
    };
    why_not.map_or(Accelerator::Kvm, |why| {
        tracing::info!(why, "no KVM that runs a guest; machines are translated");
        Accelerator::Tcg
    })
}

/// Whether a guest runs on KVM. Why it does not, if it does not.
pub(crate) async fn try_kvm(engine: &Engine) -> Result<(), String> {
    if let Err(error) = File::options().read(true).write(true).open(KVM) {
        return Err(format!("cannot open {KVM}: {error}"));
    }
    let runs = runs(engine, "-accel kvm -cpu host", PATIENCE).await;
    runs.map_err(|why| format!("{KVM} is there, but {why}"))
}

/// Lets a guest boot until its first process speaks.
async fn runs(engine: &Engine, on: &str, patience: Duration) -> Result<(), String> {
    let mut qemu = Command::new(engine.program());
    for folder in engine.firmware() {
        qemu.arg("-L").arg(folder);
    }
    qemu.env_clear()
        .args(MACHINE.split(' ').chain(on.split(' ')))
        .args(["-append", "console=ttyS0 quiet panic=-1", "-kernel"])
        .arg(&engine.kernel)
        .arg("-initrd")
        .arg(&engine.initial_files)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let qemu = qemu.spawn();
    let mut qemu = qemu.map_err(|error| format!("QEMU cannot be started: {error}"))?;
    let Some(console) = qemu.stdout.take() else {
        return Err("QEMU has no output".to_owned());
    };
    let mut lines = BufReader::new(console.take(MAX_SAID)).lines();
    let spoke = async {
        while let Ok(Some(line)) = lines.next_line().await {
            if line.contains(ALIVE) {
                return true;
            }
        }
        false
    };
    match timeout(patience, spoke).await {
        Ok(true) => Ok(()),
        Ok(false) => Err("QEMU ends on it before a guest runs".to_owned()),
        Err(_) => Err("a guest hangs on it".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use skerry_agent_bin::{AGENT, GUEST};

    use super::*;
    use crate::options::{Programs, Tools};

    #[tokio::test]
    async fn a_guest_that_runs_is_told_from_one_that_does_not() {
        let (folder, tools) = (tempfile::tempdir().unwrap(), Tools::find());
        let programs = Programs {
            agent: AGENT,
            guest: GUEST,
        };
        let Ok(mut engine) = Engine::open(&tools, programs, folder.path()) else {
            // Left out where there is no QEMU.
            return;
        };
        let patience = Duration::from_mins(1);
        runs(&engine, "-accel tcg -cpu max", patience)
            .await
            .unwrap();
        // A kernel that finds no first process.
        engine.initial_files = folder.path().join("empty");
        fs::write(&engine.initial_files, "").unwrap();
        assert!(
            runs(&engine, "-accel tcg -cpu max", patience)
                .await
                .is_err()
        );
    }
}
