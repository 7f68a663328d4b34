//! A user namespace in which an ordinary user is root over the ids that the machine set aside for them.
#![expect(
    unsafe_code,
    reason = "asking for a namespace's parent has no safe interface"
)]

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::process::Command;

use nix::unistd::User;
use rustix::process::{DumpableBehavior, WaitId, WaitIdOptions, set_dumpable_behavior, waitid};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::clone::{Forked, Namespaces, SingleThreaded};
use crate::fdpass;
use crate::idmap::RANGE;

/// The two halves of an id map: the file that says which ids a user has, and the set-uid program that hands them out.
const USERS: (&str, &str) = ("/etc/subuid", "newuidmap");
const GROUPS: (&str, &str) = ("/etc/subgid", "newgidmap");
/// `_IO(0xb7, 2)`, which `libc` lacks.
const NS_GET_PARENT: libc::Ioctl = 0xb702;

/// Why this user has one id only.
#[derive(Debug, thiserror::Error)]
pub enum UsernsError {
    /// The machine set too few ids aside, or none.
    #[error("{file} gives this user no {RANGE} ids in a row")]
    NoRange {
        /// The file that would.
        file: &'static str,
    },
    /// The program that hands ids out is not there.
    #[error("cannot run {program}: {source}")]
    Start {
        /// The program.
        program: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// It refused.
    #[error("{program} refused: {said}")]
    Refused {
        /// The program.
        program: &'static str,
        /// What it said.
        said: String,
    },
    /// The namespace could not be made or entered.
    #[error("cannot {step}: {source}")]
    Namespace {
        /// What could not be done.
        step: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl UsernsError {
    fn at<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Namespace {
            step,
            source: source.into(),
        }
    }
}

/// Makes a namespace: this user is 0 in it, and the ids set aside for them are 1 to 65 536. It lasts as long as somebody has it.
pub fn make(single: &SingleThreaded) -> Result<OwnedFd, UsernsError> {
    let users = set_aside(USERS.0)?;
    let groups = set_aside(GROUPS.0)?;
    let failed = UsernsError::at("make a user namespace");
    let (ours, childs) = fdpass::pair().map_err(UsernsError::at("make a socket pair"))?;
    let (pid, pidfd) = match single.fork(Namespaces::USER, None).map_err(failed)? {
        Forked::Child => {
            drop(ours);
            // It is there for its namespace, until the other end closes.
            let _end = fdpass::receive(&childs, &mut [0]);
            #[expect(clippy::exit, reason = "a forked child has nothing to return to")]
            std::process::exit(0)
        }
        Forked::Parent { pid, pidfd } => (pid, pidfd),
    };
    drop(childs);
    let user = rustix::process::geteuid().as_raw();
    let group = rustix::process::getegid().as_raw();
    let made = map(USERS.1, pid, user, users)
        .and_then(|()| map(GROUPS.1, pid, group, groups))
        .and_then(|()| {
            let made = File::open(format!("/proc/{pid}/ns/user"));
            Ok(made
                .map_err(UsernsError::at("open the user namespace"))?
                .into())
        });
    drop(ours);
    // Already reaped where children are forgotten.
    let _reaped = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
    made
}

/// Whether [`make`] would work, as far as looking tells: nothing is made.
pub fn look() -> Result<(), UsernsError> {
    for (file, program) in [USERS, GROUPS] {
        set_aside(file)?;
        let path = std::env::var_os("PATH").unwrap_or_default();
        let there = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
        if !there {
            let source = io::ErrorKind::NotFound.into();
            return Err(UsernsError::Start { program, source });
        }
    }
    Ok(())
}

/// Moves this process into it, as root there. The caller has one thread.
pub fn enter(_single: &SingleThreaded, userns: &OwnedFd) -> Result<(), UsernsError> {
    move_into_link_name_space(userns.as_fd(), Some(LinkNameSpaceType::User))
        .map_err(UsernsError::at("enter the user namespace"))?;
    // Whoever gains rights cannot be looked at any more, also not by its own children, which are no less privileged here.
    set_dumpable_behavior(DumpableBehavior::Dumpable)
        .map_err(UsernsError::at("stay readable to its own children"))
}

/// The namespace that the user namespace of this process was made in, unless that is our own or out of our sight.
pub fn parent_of(pid: u32) -> io::Result<Option<OwnedFd>> {
    let child = File::open(format!("/proc/{pid}/ns/user"))?;
    // SAFETY: the request takes no argument.
    let parent = unsafe { libc::ioctl(child.as_raw_fd(), NS_GET_PARENT) };
    if parent < 0 {
        return match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::EPERM) => Ok(None),
            error => Err(error),
        };
    }
    // SAFETY: the kernel opened it for us.
    let parent = unsafe { OwnedFd::from_raw_fd(parent) };
    Ok((!is_own(&parent)?).then_some(parent))
}

/// Is it the user namespace that this process is in?
pub fn is_own(userns: impl AsFd) -> io::Result<bool> {
    let theirs = rustix::fs::fstat(userns)?;
    let own = rustix::fs::stat("/proc/self/ns/user")?;
    Ok((theirs.st_dev, theirs.st_ino) == (own.st_dev, own.st_ino))
}

/// The first of the ids that a file like `/etc/subuid` sets aside for this user.
fn set_aside(file: &'static str) -> Result<u32, UsernsError> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let user = rustix::process::geteuid().as_raw();
    let name = User::from_uid(user.into()).ok().flatten();
    let name = name.map_or(String::new(), |user| user.name);
    first_range(&text, &[name, user.to_string()]).ok_or(UsernsError::NoRange { file })
}

fn first_range(text: &str, owners: &[String]) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut fields = line.trim().split(':');
        let owner = fields.next().filter(|owner| !owner.is_empty())?;
        let first = fields.next()?.parse().ok()?;
        let count: u64 = fields.next()?.parse().ok()?;
        let ours = owners.iter().any(|name| name == owner) && count >= u64::from(RANGE);
        ours.then_some(first)
    })
}

fn map(program: &'static str, pid: u32, own: u32, first: u32) -> Result<(), UsernsError> {
    let numbers = [pid, 0, own, 1, 1, first, RANGE].map(|number| number.to_string());
    let output = Command::new(program).args(numbers).output();
    let output = output.map_err(|source| UsernsError::Start { program, source })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(UsernsError::Refused {
        program,
        said: said.trim().chars().take(200).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_counts_if_it_is_ours_and_whole() {
        let of = |text| first_range(text, &["ada".to_owned(), "1000".to_owned()]);
        assert_eq!(of("bob:1:65536\nada:165536:65536\n"), Some(165_536));
        assert_eq!(of("1000:7:70000"), Some(7));
        assert_eq!(of("ada:165536:65535\nada:300000:65536"), Some(300_000));
        assert_eq!(of("adam:1:65536\n:1:65536\nada:x:65536\nada:1\n\n"), None);
        assert_eq!(first_range(":5:65536", &[String::new()]), None);
    }
}
