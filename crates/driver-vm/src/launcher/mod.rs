//! The launcher: a short-lived process with one thread that locks a QEMU in and starts it, or makes a base disk, and ends.
//!
//! QEMU gets namespaces and a control group of its own, a root that holds nothing but a few of its files, none of them in a folder it could write,
//! a user that owns nothing else, no capability and no new privileges; its sockets and its network card come as open descriptors. It outlives the
//! launcher and the daemon.

mod base;
mod cage;
mod message;
mod tap;

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use skerry_sys::cgroup::Door;
use skerry_sys::clone::{Forked, Namespaces, SingleThreaded};
use skerry_sys::fdpass;

pub(crate) use base::command as base_command;
pub(crate) use message::{DoorKind, Failure, Fds, File, MAX_BYTES, Reply, Request};

use cage::Cage;

/// The launcher's whole life. Without arguments its standard input is a socket with one request; `base` and what follows make a base disk.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.collect();
    let done = match args.split_first() {
        Some((word, rest)) if word == "base" => base::make(rest).map(|never| match never {}),
        _ => answer(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _unheard = writeln!(io::stderr(), "{failure}");
            ExitCode::FAILURE
        }
    }
}

fn answer() -> Result<(), Failure> {
    let mut buffer = vec![0; MAX_BYTES];
    let (len, fds) =
        fdpass::receive(io::stdin(), &mut buffer).map_err(Failure::at("read the request"))?;
    let started = start(&buffer[..len], fds);
    let (reply, pidfd) = match started {
        Ok((pid, pidfd)) => (Reply::Started { pid }, Some(pidfd)),
        Err(failure) => (Reply::Failed(failure), None),
    };
    let text = serde_json::to_vec(&reply).map_err(io::Error::from);
    let text = text.map_err(Failure::at("write the answer"))?;
    let pidfd: Vec<_> = pidfd.iter().map(AsFd::as_fd).collect();
    fdpass::send(io::stdin(), &text, &pidfd).map_err(Failure::at("write the answer"))
}

fn start(message: &[u8], fds: Vec<OwnedFd>) -> Result<(u32, OwnedFd), Failure> {
    let request: Request = serde_json::from_slice(message)
        .map_err(io::Error::from)
        .map_err(Failure::at("understand the request"))?;
    let fds = Fds::sort(fds, &request)
        .ok_or(io::ErrorKind::InvalidInput)
        .map_err(Failure::at("find the request's descriptors"))?;
    let tap = fds
        .netns
        .as_ref()
        .map(|netns| tap::join(netns, request.address));
    let tap = tap.transpose().map_err(Failure::at("join the network"))?;
    let single = SingleThreaded::check().map_err(Failure::at("be the only thread"))?;
    let (told, tell) = fdpass::pair().map_err(Failure::at("make a socket pair"))?;
    let namespaces =
        Namespaces::PID | Namespaces::MOUNT | Namespaces::IPC | Namespaces::UTS | Namespaces::NET;
    let group = match &fds.door {
        Some(Door::Folder(folder)) => Some(folder.as_fd()),
        _ => None,
    };
    let forked = single.fork(namespaces, group);
    let forked = forked.map_err(Failure::at("make the namespaces"))?;
    let Forked::Parent { pid, pidfd } = forked else {
        let cage = Cage {
            request: &request,
            fds: &fds,
            tap: tap.as_ref(),
            tell: &tell,
        };
        cage.become_qemu();
    };
    drop(tell);
    hear(&told).map(|()| (pid, pidfd))
}

/// The child says why it failed, or nothing: then it has become QEMU.
fn hear(told: &OwnedFd) -> Result<(), Failure> {
    let mut buffer = vec![0; MAX_BYTES];
    let (len, _) =
        fdpass::receive(told, &mut buffer).map_err(Failure::at("hear from the child"))?;
    if len == 0 {
        return Ok(());
    }
    let failure = serde_json::from_slice(&buffer[..len]).map_err(io::Error::from);
    Err(failure.map_err(Failure::at("understand the child"))?)
}
