//! What the process makes of itself before it runs anything for anybody.
#![expect(
    unsafe_code,
    reason = "inherited descriptors and signal dispositions have no safe interface"
)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use rustix::event::{EventfdFlags, eventfd};
use rustix::process::{DumpableBehavior, set_child_subreaper, set_dumpable_behavior};

/// The descriptors that a launcher leaves for us.
const LINK_FD: RawFd = 3;
const HOME_FD: RawFd = 4;
/// Descriptors below this number are never ours: a session's shell gets its own there.
const FIRST_OWN_FD: RawFd = 10;

/// Signals that the agent ignores or hears (`main` and `reap` do); all others are at their default.
pub(crate) const UNUSUAL_SIGNALS: [libc::c_int; 3] = [libc::SIGPIPE, libc::SIGTERM, libc::SIGCHLD];

/// Memory that is kept for later.
const FREE_BYTES: libc::c_int = 128 * 1024;
/// Chunks of output from this size on go back to the kernel one by one, and leave no holes.
const OWN_MAPPING_BYTES: libc::c_int = 32 * 1024;

/// The inherited link. To be taken once.
pub(crate) fn take_link() -> io::Result<OwnedFd> {
    take(LINK_FD)
}

/// The inherited home. To be taken once.
pub(crate) fn take_home() -> io::Result<OwnedFd> {
    take(HOME_FD)
}

/// Takes an inherited descriptor out of the way of the low numbers.
fn take(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: only borrowed for one call, which fails cleanly if nothing is open there.
    let inherited = unsafe { BorrowedFd::borrow_raw(number) };
    let own = rustix::io::fcntl_dupfd_cloexec(inherited, FIRST_OWN_FD)?;
    // SAFETY: the call above proved it open, and nothing else in this process owns it.
    drop(unsafe { OwnedFd::from_raw_fd(number) });
    Ok(own)
}

/// Signals as a fresh process has them, nothing for children to inherit, orphans come to us, nobody reads our memory.
pub(crate) fn prepare() -> io::Result<()> {
    keep_memory_small();
    reset_signals();
    close_all_on_exec()?;
    reserve_low_descriptors()?;
    set_child_subreaper(Some(rustix::process::getpid()))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// One heap for all threads, which gives back what it does not need.
fn keep_memory_small() {
    // SAFETY: numbers only, before any other thread exists. What is refused stays at its default.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_TOP_PAD, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, FREE_BYTES);
        libc::mallopt(libc::M_MMAP_THRESHOLD, OWN_MAPPING_BYTES);
    }
}

/// A launcher may have left signals ignored or blocked; our children would inherit that.
fn reset_signals() {
    // What the kernel takes as "default, no flags, empty mask"; libc would not let us at its own two signals.
    let default = [0_u64; 4];
    for signal in 1..=64 {
        // SAFETY: no handler is installed, the kernel reads 32 bytes, and refuses what cannot be set without effect.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null::<u64>(),
                8,
            )
        };
    }
    // SAFETY: ignoring is not a handler. Writing to a broken link must be an error, not our death.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    // SAFETY: an all-zero set is the empty set, and it lives for the call.
    unsafe {
        let none: libc::sigset_t = std::mem::zeroed();
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

fn close_all_on_exec() -> io::Result<()> {
    // SAFETY: the call takes numbers only and closes nothing now.
    let done = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            LINK_FD,
            // No descriptor has a higher number, and not every kernel takes one.
            RawFd::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Fills the low numbers for good, so that putting a child's descriptors there never hits one of ours.
fn reserve_low_descriptors() -> io::Result<()> {
    loop {
        let filler = eventfd(0, EventfdFlags::CLOEXEC)?;
        if filler.as_raw_fd() >= FIRST_OWN_FD {
            return Ok(());
        }
        let _: RawFd = filler.into_raw_fd();
    }
}
