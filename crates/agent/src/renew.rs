//! What a copy of a sandbox must not share with the one it was copied from: clock, random numbers, names, keys.
//!
//! In a sandbox on the host's kernel the driver does what needs rights there; the agent does what is the sandbox's own.
#![expect(
    unsafe_code,
    reason = "feeding the kernel's random pool has no safe interface"
)]

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::mount::mount_bind;
use rustix::time::{ClockId, Timespec, clock_settime};
use skerry_proto::agent::Renew;

use crate::files::error::{Doing, FileError};
use crate::privilege::may_set_clock;

/// The kernel takes at most this much at once.
const MAX_ENTROPY: usize = 256;
const RNDADDENTROPY: libc::Ioctl = 0x4008_5203;
const RNDRESEEDCRNG: libc::Ioctl = 0x5207;
const NANOSECONDS: i64 = 1_000_000_000;

/// Makes everything new.
pub(crate) fn renew(renew: &Renew) -> Result<(), FileError> {
    let entropy = renew.entropy.as_ref();
    // A kernel whose clock is wrong is the sandbox's own. Who may not set it has a driver that did, and saw to the rest of the kernel, too.
    if renew.wall_clock_ns != 0 && may_set_clock() {
        set_clock(renew.wall_clock_ns)?;
        add_entropy(entropy)?;
        renew_boot_id(entropy)?;
    }
    renew_hostname(&renew.hostname)?;
    renew_machine_id(entropy)?;
    renew_ssh_host_keys()
}

fn set_clock(wall_clock_ns: i64) -> Result<(), FileError> {
    let time = Timespec {
        tv_sec: wall_clock_ns / NANOSECONDS,
        tv_nsec: wall_clock_ns % NANOSECONDS,
    };
    clock_settime(ClockId::Realtime, time).doing("set the clock", Path::new("/"))
}

/// What the kernel reads: how many bits, how many bytes, the bytes.
#[repr(C)]
struct PoolInfo {
    bits: libc::c_int,
    bytes: libc::c_int,
    data: [u8; MAX_ENTROPY],
}

fn add_entropy(entropy: &[u8]) -> Result<(), FileError> {
    let path = Path::new("/dev/urandom");
    let mut info = PoolInfo {
        bits: 0,
        bytes: 0,
        data: [0; MAX_ENTROPY],
    };
    for (into, byte) in info.data.iter_mut().zip(entropy) {
        *into = *byte;
        info.bytes += 1;
        info.bits += 8;
    }
    let pool = File::open(path).doing("open", path)?;
    // SAFETY: the kernel reads the header and as many bytes as it says, all inside `info`.
    let added = unsafe { libc::ioctl(pool.as_raw_fd(), RNDADDENTROPY, &raw const info) };
    // SAFETY: takes no argument.
    let reseeded = unsafe { libc::ioctl(pool.as_raw_fd(), RNDRESEEDCRNG) };
    if added < 0 || reseeded < 0 {
        return Err(io::Error::last_os_error()).doing("reseed", path);
    }
    Ok(())
}

/// The kernel's own cannot be written, so another file lies over it.
fn renew_boot_id(entropy: &[u8]) -> Result<(), FileError> {
    let boot_id = Path::new("/proc/sys/kernel/random/boot_id");
    let text = hex(entropy.iter().skip(16).take(16));
    let uuid = format!(
        "{}-{}-4{}-a{}-{}\n",
        &text[..8],
        &text[8..12],
        &text[13..16],
        &text[17..20],
        &text[20..]
    );
    let own = Path::new("/dev/shm/.boot_id");
    fs::write(own, uuid).doing("write", own)?;
    mount_bind(own, boot_id).doing("replace", boot_id)?;
    // The mount keeps it.
    fs::remove_file(own).doing("remove", own)
}

/// Only where whoever made the copy has not seen to it.
fn renew_hostname(name: &str) -> Result<(), FileError> {
    if rustix::system::uname().nodename().to_bytes() == name.as_bytes() {
        return Ok(());
    }
    rustix::system::sethostname(name.as_bytes()).doing("set the host name", Path::new("/"))
}

/// Only where the image has one.
fn renew_machine_id(entropy: &[u8]) -> Result<(), FileError> {
    let path = Path::new("/etc/machine-id");
    if !path.exists() {
        return Ok(());
    }
    let id = hex(entropy.iter().take(16));
    fs::write(path, format!("{id}\n")).doing("write", path)
}

/// Only where there are any, and with the image's own program.
fn renew_ssh_host_keys() -> Result<(), FileError> {
    let folder = Path::new("/etc/ssh");
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(());
    };
    let is_key = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("ssh_host_") && name.contains("_key")
    };
    let entries = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let keys: Vec<PathBuf> = entries.filter(is_key).collect();
    if keys.is_empty() {
        return Ok(());
    }
    for key in &keys {
        fs::remove_file(key).doing("remove", key)?;
    }
    let made = Command::new("/usr/bin/ssh-keygen")
        .arg("-A")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .doing("make new host keys in", folder)?;
    if made.success() {
        Ok(())
    } else {
        Err(io::Error::other("ssh-keygen failed")).doing("make new host keys in", folder)
    }
}

fn hex<'a>(bytes: impl Iterator<Item = &'a u8>) -> String {
    bytes.fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _: std::fmt::Result = write!(text, "{byte:02x}");
        text
    })
}
