//! `clone3`: a child process in namespaces of its own.
#![expect(unsafe_code, reason = "clone3 has no safe interface")]

use std::io;
use std::marker::PhantomData;
use std::ops::BitOr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// `libc` has it as a smaller type than the field.
const CLONE_INTO_CGROUP: u64 = 1 << 33;

/// A set of namespaces to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Namespaces(u64);

impl Namespaces {
    /// All as they are.
    pub const NONE: Self = Self(0);
    /// Users, groups and capabilities.
    pub const USER: Self = Self(libc::CLONE_NEWUSER as u64);
    /// Process numbers.
    pub const PID: Self = Self(libc::CLONE_NEWPID as u64);
    /// Mounts.
    pub const MOUNT: Self = Self(libc::CLONE_NEWNS as u64);
    /// Interfaces, addresses, ports and abstract sockets.
    pub const NET: Self = Self(libc::CLONE_NEWNET as u64);
    /// Host name.
    pub const UTS: Self = Self(libc::CLONE_NEWUTS as u64);
    /// System V IPC and message queues.
    pub const IPC: Self = Self(libc::CLONE_NEWIPC as u64);
    /// Offsets of the monotonic clocks. `libc` lacks the number.
    pub const TIME: Self = Self(0x80);
    /// The roots of the trees of control groups.
    pub const CGROUP: Self = Self(libc::CLONE_NEWCGROUP as u64);

    /// Makes those of a process, given by a handle on it, this process's own; of `PID` and `TIME` those of its children.
    pub fn join(self, pidfd: BorrowedFd<'_>) -> io::Result<()> {
        // SAFETY: takes numbers only.
        let done = unsafe { libc::setns(pidfd.as_raw_fd(), self.0 as libc::c_int) };
        if done == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

impl BitOr for Namespaces {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The proof that this process has one thread, without which a forked child could find locks held by threads that do not exist in it.
#[derive(Debug)]
pub struct SingleThreaded(PhantomData<*const ()>);

/// Who returns from [`SingleThreaded::fork`].
#[derive(Debug)]
pub enum Forked {
    /// The new process.
    Child,
    /// The one that asked.
    Parent {
        /// The child, as the parent numbers it.
        pid: u32,
        /// A handle on it that no other process can take over.
        pidfd: OwnedFd,
    },
}

impl SingleThreaded {
    /// Looks whether this is the only thread. The holder starts none while it forks.
    pub fn check() -> io::Result<Self> {
        let threads = std::fs::read_dir("/proc/self/task")?.count();
        if threads == 1 {
            return Ok(Self(PhantomData));
        }
        Err(io::Error::other(format!(
            "{threads} threads where one is wanted"
        )))
    }

    /// Forks a child into new namespaces, and into this control group of version 2, given by its folder.
    pub fn fork(
        &self,
        namespaces: Namespaces,
        group: Option<BorrowedFd<'_>>,
    ) -> io::Result<Forked> {
        let mut pidfd: libc::c_int = -1;
        // SAFETY: all-zero is a valid `clone_args`.
        let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
        args.flags = namespaces.0 | libc::CLONE_PIDFD as u64;
        args.pidfd = (&raw mut pidfd) as u64;
        if let Some(group) = group {
            args.flags |= CLONE_INTO_CGROUP;
            args.cgroup = group.as_raw_fd() as u64;
        }
        args.exit_signal = libc::SIGCHLD as u64;
        // SAFETY: no shared memory and no new stack, so it is a plain fork; `self` proves that no other thread is left behind.
        let pid = unsafe {
            libc::syscall(
                libc::SYS_clone3,
                &raw const args,
                size_of::<libc::clone_args>(),
            )
        };
        match pid {
            -1 => Err(io::Error::last_os_error()),
            0 => Ok(Forked::Child),
            pid => Ok(Forked::Parent {
                pid: pid as u32,
                // SAFETY: the kernel opened it for us.
                pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) },
            }),
        }
    }
}

/// The control groups that this process is in become the roots of the trees that it and its children see.
pub fn own_cgroup_namespace() -> io::Result<()> {
    Ok(nix::sched::unshare(
        nix::sched::CloneFlags::CLONE_NEWCGROUP,
    )?)
}

/// Gives the children of this process clocks of their own, which show this much more than its own do.
pub fn shift_clocks_of_children(monotonic: Shift, boottime: Shift) -> io::Result<()> {
    nix::sched::unshare(nix::sched::CloneFlags::from_bits_retain(
        Namespaces::TIME.0 as libc::c_int,
    ))?;
    let line =
        |name: &str, shift: Shift| format!("{name} {} {}\n", shift.seconds, shift.nanoseconds);
    let text = line("monotonic", monotonic) + &line("boottime", boottime);
    std::fs::write("/proc/self/timens_offsets", text)
}

/// A difference of time; the nanoseconds go forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shift {
    /// Whole seconds, possibly backward.
    pub seconds: i64,
    /// Less than a second.
    pub nanoseconds: i64,
}

/// Leaves the network for a new one, in which there is nothing.
pub fn own_network_namespace() -> io::Result<()> {
    Ok(nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)?)
}
