//! What a copy of a sandbox must not share with the one it was copied from, as far as that is the sandbox's own: names and keys. Clock and random
//! numbers are the kernel's, which the driver sees to.
#![expect(
    unsafe_code,
    reason = "code between fork and exec has no safe interface"
)]

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use skerry_proto::agent::Renew;

use crate::files::error::{Doing, FileError};
use crate::privilege::{Level, confine_child, may_mount};

/// Kinds of host keys that are made anew; what else is called one only goes.
const KEY_KINDS: [&str; 3] = ["ed25519", "ecdsa", "rsa"];
/// For the image's program to make one of them: one for RSA takes seconds where a machine is translated and others are busy.
const KEY_PATIENCE: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Makes everything new.
pub(crate) fn renew(renew: &Renew) -> Result<(), FileError> {
    let ids = renew.entropy.split_first_chunk::<16>();
    let (machine_id, rest) = ids.ok_or(FileError::NoEntropy)?;
    let boot_id = rest.first_chunk::<16>().ok_or(FileError::NoEntropy)?;
    // A kernel that was copied keeps it; nobody may touch the host's.
    if may_mount() {
        renew_boot_id(boot_id)?;
    }
    renew_hostname(&renew.hostname)?;
    let path = Path::new("/etc/machine-id");
    rewrite(path, &format!("{}\n", hex(machine_id))).doing("write", path)?;
    renew_host_keys(Path::new("/etc/ssh"), keygen)
}

fn keygen(kind: &str, key: &Path) -> Command {
    let mut keygen = Command::new("/usr/bin/ssh-keygen");
    keygen.args(["-q", "-t", kind, "-N", "", "-f"]).arg(key);
    keygen
}

/// The kernel's own cannot be written, so another file lies over it.
fn renew_boot_id(id: &[u8; 16]) -> Result<(), FileError> {
    let boot_id = Path::new("/proc/sys/kernel/random/boot_id");
    let text = hex(id);
    let uuid = format!(
        "{}-{}-4{}-a{}-{}",
        &text[..8],
        &text[8..12],
        &text[13..16],
        &text[17..20],
        &text[20..]
    );
    // A name that nobody could take before.
    let own = PathBuf::from(format!("/dev/shm/.{uuid}"));
    let made = OpenOptions::new().write(true).create_new(true).open(&own);
    let written = made.and_then(|mut file| writeln!(file, "{uuid}"));
    written.doing("write", &own)?;
    // What lies over it in a copy of a copy has no name any more, and nothing can lie over that.
    let _nothing_there = unmount(boot_id, UnmountFlags::DETACH);
    let bound = mount_bind(&own, boot_id).doing("replace", boot_id);
    // The mount keeps it.
    fs::remove_file(&own).doing("remove", &own)?;
    bound
}

/// Only where whoever made the copy has not seen to it.
fn renew_hostname(name: &str) -> Result<(), FileError> {
    if rustix::system::uname().nodename().to_bytes() == name.as_bytes() {
        return Ok(());
    }
    rustix::system::sethostname(name.as_bytes()).doing("set the host name", Path::new("/"))
}

/// Writes a file of the system's if there is one. A link is replaced and not followed, and what is no file is left alone: it says nothing that
/// could be another's. On a disk that is full too: what is there is written over before it is cut.
fn rewrite(path: &Path, text: &str) -> io::Result<()> {
    let flags =
        OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o644);
    let opened = match rustix::fs::open(path, flags, mode) {
        Err(Errno::NOENT | Errno::ISDIR | Errno::NXIO) => return Ok(()),
        Err(Errno::LOOP) => {
            fs::remove_file(path)?;
            rustix::fs::open(path, flags | OFlags::CREATE | OFlags::EXCL, mode)?
        }
        opened => opened?,
    };
    let mut file = File::from(opened);
    if !file.metadata()?.is_file() {
        return Ok(());
    }
    file.write_all(text.as_bytes())?;
    file.set_len(text.len() as u64)
}

/// Of the kinds that there were, with the image's own program; without that there is nobody who would need them.
fn renew_host_keys(folder: &Path, maker: impl Fn(&str, &Path) -> Command) -> Result<(), FileError> {
    let keys = host_keys(folder);
    for key in &keys {
        fs::remove_file(key).doing("remove", key)?;
    }
    for kind in KEY_KINDS {
        let key = folder.join(format!("ssh_host_{kind}_key"));
        if !keys.contains(&key) {
            continue;
        }
        match run(maker(kind, &key)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            done => done.doing("make a new host key,", &key)?,
        }
        if !key.exists() {
            return Err(io::Error::other("none was made")).doing("make a new host key,", &key);
        }
    }
    Ok(())
}

fn host_keys(folder: &Path) -> Vec<PathBuf> {
    let is_key = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("ssh_host_") && name.contains("_key")
    };
    let entries = fs::read_dir(folder).into_iter().flatten();
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.filter(is_key).collect()
}

/// Runs a program that anybody may have put there: with no privilege, and not for longer than it may take.
fn run(mut program: Command) -> io::Result<()> {
    program.env_clear();
    program.stdin(Stdio::null()).stdout(Stdio::null());
    program.stderr(Stdio::null());
    // SAFETY: system calls only, no lock and no allocation.
    unsafe { program.pre_exec(|| confine_child(Level::Restricted)) };
    let mut running = program.spawn()?;
    let until = Instant::now() + KEY_PATIENCE;
    // An error is that there is no such child: the reaper was faster.
    while let Ok(None) = running.try_wait() {
        if Instant::now() > until {
            running.kill()?;
            return Err(io::ErrorKind::TimedOut.into());
        }
        sleep(LOOK_AGAIN);
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _: std::fmt::Result = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_a_file_is_rewritten_and_no_link_followed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        rewrite(&at("missing"), "new").unwrap();
        assert!(!at("missing").exists());
        fs::write(at("file"), "longer before").unwrap();
        symlink(at("file"), at("link")).unwrap();
        rewrite(&at("link"), "new").unwrap();
        assert_eq!(fs::read_to_string(at("link")).unwrap(), "new");
        assert_eq!(fs::read_to_string(at("file")).unwrap(), "longer before");
        rewrite(&at("file"), "new").unwrap();
        assert_eq!(fs::read_to_string(at("file")).unwrap(), "new");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            at("pipe"),
            rustix::fs::FileType::Fifo,
            Mode::RWXU,
            0,
        )
        .unwrap();
        fs::create_dir(at("folder")).unwrap();
        let reader = OpenOptions::new().read(true).write(true).open(at("pipe"));
        for name in ["pipe", "folder"] {
            rewrite(&at(name), "new").unwrap();
        }
        drop(reader);
        rewrite(&at("pipe"), "new").unwrap();
    }

    #[test]
    fn host_keys_are_others_by_a_maker_without_privileges() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let key = at("ssh_host_ed25519_key");
        let maker = |script: &'static str| {
            move |_: &str, key: &Path| {
                let mut shell = Command::new("/bin/sh");
                shell.args(["-c", script, "maker"]).arg(key);
                shell
            }
        };
        let makes = "grep -E 'CapEff|NoNewPrivs' /proc/self/status >$1";
        renew_host_keys(folder.path(), maker(makes)).unwrap();
        assert!(!key.exists());
        for key in [&key, &at("ssh_host_odd_key")] {
            fs::write(key, "old").unwrap();
        }
        renew_host_keys(folder.path(), maker(makes)).unwrap();
        assert_eq!(host_keys(folder.path()), std::slice::from_ref(&key));
        let had = "CapEff:\t0000000000000000\nNoNewPrivs:\t1\n";
        assert_eq!(fs::read_to_string(&key).unwrap(), had);
        renew_host_keys(folder.path(), maker("true")).unwrap_err();
        fs::write(&key, "old").unwrap();
        renew_host_keys(folder.path(), |_, _| Command::new("/nowhere/keygen")).unwrap();
        assert!(!key.exists());
    }
}
