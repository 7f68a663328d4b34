//! What no two machines share: clock, random numbers, names, address.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use nix::sched::{CloneFlags, unshare};
use rustix::fs::OFlags;
use rustix::mount::mount_bind;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};
use skerry_proto::guest::{Identity, Network};
use skerry_sys::netlink::{Netlink, Route};
use skerry_sys::{connections, entropy};

use crate::failure::Failure;

const NANOSECONDS: i64 = 1_000_000_000;
const EVERYWHERE: (Ipv4Addr, u8) = (Ipv4Addr::UNSPECIFIED, 0);
/// The bytes of the entropy that the boot id is made of.
const BOOT_ID: std::ops::Range<usize> = 16..32;

/// Takes clock, random numbers and host name, which are the kernel's.
pub(crate) fn take(identity: &Identity) -> Result<(), Failure> {
    set_clock(identity.wall_clock_ns)?;
    entropy::add(&identity.entropy).map_err(Failure::at("feed the random pool"))?;
    rustix::system::sethostname(identity.hostname.as_bytes())
        .map_err(Failure::at("set the host name"))
}

/// Sets the clock on or back by so many nanoseconds, and tells what it says.
pub(crate) fn shift_clock(by_ns: i64) -> Result<i64, Failure> {
    if by_ns != 0 {
        set_clock(clock().saturating_add(by_ns))?;
    }
    Ok(clock())
}

fn clock() -> i64 {
    let time = clock_gettime(ClockId::Realtime);
    time.tv_sec * NANOSECONDS + time.tv_nsec
}

fn set_clock(wall_clock_ns: i64) -> Result<(), Failure> {
    let time = Timespec {
        tv_sec: wall_clock_ns / NANOSECONDS,
        tv_nsec: wall_clock_ns % NANOSECONDS,
    };
    clock_settime(ClockId::Realtime, time).map_err(Failure::at("set the clock"))
}

/// Gives the network card its address, in place of the one it had.
pub(crate) fn take_network(network: Network, earlier: Option<Network>) -> Result<(), Failure> {
    let set = || -> io::Result<()> {
        let mut netlink = Netlink::open()?;
        let interface = netlink.index_of("eth0")?;
        if let Some(earlier) = earlier {
            netlink.remove_address(interface, earlier.address.into(), 32)?;
            if earlier.address != network.address {
                // They are those of the machine that this one was copied from.
                connections::abort_from(earlier.address.into())?;
            }
        }
        netlink.add_address(interface, network.address.into(), 32)?;
        netlink.set_up(interface)?;
        netlink.add_route(Route {
            to: EVERYWHERE,
            via: Some(network.gateway.into()),
            interface,
        })
    };
    match set() {
        // The route outlives an address that nothing but it used.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        done => done.map_err(Failure::at("set up the network")),
    }
}

/// A thread among the sandbox's files: only a thread can be elsewhere than the others, and to start one takes long where it is translated.
#[derive(Debug)]
pub(crate) struct Inside {
    ask: Sender<Identity>,
    done: Receiver<io::Result<()>>,
}

impl Inside {
    /// Starts it among the mounts of `namespace`.
    pub(crate) fn start(namespace: fs::File) -> io::Result<Self> {
        let (ask, asked) = channel::<Identity>();
        let (tell, done) = channel();
        let life = move || {
            let entered = enter(&namespace);
            let is_there = entered.is_ok();
            // Whoever started it waits for this.
            let _heard = tell.send(entered);
            while is_there && let Ok(identity) = asked.recv() {
                let _heard = tell.send(write(&identity));
            }
        };
        thread::Builder::new()
            .name("inside".to_owned())
            .spawn(life)?;
        let inside = Self { ask, done };
        inside.hear()?;
        Ok(inside)
    }

    /// Writes names and a boot id.
    pub(crate) fn write(&self, identity: &Identity) -> Result<(), Failure> {
        let sent = self.ask.send(identity.clone());
        let done = sent.map_err(io::Error::other).and_then(|()| self.hear());
        done.map_err(Failure::at("write the sandbox's names"))
    }

    fn hear(&self) -> io::Result<()> {
        self.done.recv().map_err(io::Error::other).flatten()
    }
}

fn enter(namespace: &fs::File) -> io::Result<()> {
    unshare(CloneFlags::CLONE_FS)?;
    let mounts = Some(LinkNameSpaceType::Mount);
    Ok(move_into_link_name_space(namespace.as_fd(), mounts)?)
}

fn write(identity: &Identity) -> io::Result<()> {
    write_boot_id(&identity.entropy)?;
    for file in &identity.files {
        // What programs inside put in its way, or a disk that they filled, must not keep it from being woken up or ended.
        let _theirs = replace(Path::new(&file.path), file.content.as_bytes());
    }
    Ok(())
}

/// Whatever was there before: a link too, which is replaced and not followed. What is right already costs no room on a full disk.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    if is_already(path, content).unwrap_or(false) {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let new = path.with_extension("skerry-new");
    // Of one who did not come this far, or of a program inside.
    drop(fs::remove_file(&new));
    File::create_new(&new)?.write_all(content)?;
    fs::rename(new, path)
}

/// Opens only what is a file when it is opened, and reads no more of it than there should be.
fn is_already(path: &Path, content: &[u8]) -> io::Result<bool> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut options = OpenOptions::new();
    let file = options
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    let mut was = Vec::new();
    let most = content.len() as u64 + 1;
    let is_file = file.metadata()?.is_file();
    Ok(is_file && file.take(most).read_to_end(&mut was).is_ok() && was == content)
}

/// The kernel's own cannot be written, so another file lies over it; from the second time on that one is there already.
fn write_boot_id(entropy: &[u8]) -> io::Result<()> {
    let bytes = entropy.get(BOOT_ID).ok_or(io::ErrorKind::InvalidInput)?;
    let (text, shown) = (
        format!("{}\n", uuid(bytes)),
        "/proc/sys/kernel/random/boot_id",
    );
    if fs::write(shown, &text).is_ok() {
        return Ok(());
    }
    let own = Path::new("/dev/shm/.boot_id");
    fs::write(own, text)?;
    mount_bind(own, shown)?;
    // The mount keeps it.
    fs::remove_file(own)
}

/// Sixteen bytes as a random UUID is written.
fn uuid(bytes: &[u8]) -> String {
    let text = bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _: std::fmt::Result = write!(text, "{byte:02x}");
        text
    });
    format!(
        "{}-{}-4{}-a{}-{}",
        &text[..8],
        &text[8..12],
        &text[13..16],
        &text[17..20],
        &text[20..]
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, Mode, mkfifoat};

    use super::*;

    #[test]
    fn what_is_in_the_way_is_replaced_and_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, new) = (folder.path().join("etc/hosts"), "hosts.skerry-new");
        let new = folder.path().join("etc").join(new);
        let elsewhere = folder.path().join("elsewhere");
        fs::write(&elsewhere, "theirs").unwrap();
        replace(&path, b"ours").unwrap();
        let is_ours = || fs::read(&path).unwrap() == b"ours";
        assert!(is_ours());
        for in_the_way in [&path, &new] {
            fs::write(&path, "other").unwrap();
            drop(fs::remove_file(in_the_way));
            symlink(&elsewhere, in_the_way).unwrap();
            replace(&path, b"ours").unwrap();
            assert!(is_ours());
            fs::remove_file(&path).unwrap();
            mkfifoat(CWD, in_the_way, Mode::RWXU).unwrap();
            replace(&path, b"ours").unwrap();
            assert!(is_ours());
        }
        assert_eq!(fs::read(&elsewhere).unwrap(), b"theirs");
        fs::remove_file(&path).unwrap();
        fs::create_dir_all(path.join("full")).unwrap();
        assert!(replace(&path, b"ours").is_err());
    }

    #[test]
    fn a_boot_id_is_a_random_uuid() {
        let text = uuid(&[0xfe; 16]);
        assert_eq!(text, "fefefefe-fefe-4efe-aefe-fefefefefefe");
    }
}
