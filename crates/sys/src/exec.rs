//! The last steps of a launcher: becoming another program.
#![expect(
    unsafe_code,
    reason = "execveat, keyctl, signal dispositions and fixed descriptor numbers have no safe interface"
)]

use std::convert::Infallible;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Runs the program in `fd` instead of this one. Returns only if that failed.
pub fn exec(fd: BorrowedFd<'_>, args: &[&CStr], env: &[&CStr]) -> io::Result<Infallible> {
    let list = |strings: &[&CStr]| -> Vec<*const libc::c_char> {
        let pointers = strings.iter().map(|s| s.as_ptr());
        pointers.chain([ptr::null()]).collect()
    };
    let (args, env) = (list(args), list(env));
    // SAFETY: both lists end in null, and what they point at outlives the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            fd.as_raw_fd(),
            c"".as_ptr(),
            args.as_ptr(),
            env.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    Err(io::Error::last_os_error())
}

/// Puts `fds` at the numbers 0, 1, 2 … for the next program, and closes everything else when it starts.
///
/// What had these numbers before is lost.
pub fn hand_over(fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    // First out of the way of each other.
    let first_free = fds.len() as RawFd;
    let above = |fd: &BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(fd, first_free);
    let fds: Vec<OwnedFd> = fds.iter().map(above).collect::<Result<_, _>>()?;
    for (number, fd) in fds.iter().enumerate() {
        // SAFETY: plain numbers, and the caller knows that what had them is lost.
        if unsafe { libc::dup2(fd.as_raw_fd(), number as RawFd) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    close_at_exec(fds.len() as libc::c_uint)
}

/// No program that this process starts gets what it was given itself, or has open, unless that is handed over.
pub fn hand_on_nothing() -> io::Result<()> {
    close_at_exec(3)
}

/// Everything from that number on.
fn close_at_exec(first: libc::c_uint) -> io::Result<()> {
    let (last, flags) = (libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
    // SAFETY: takes numbers only, and closes nothing before the exec.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// What the command starts leads a session of its own.
pub fn lead_session(command: &mut Command) {
    let lead = || rustix::process::setsid().map(drop).map_err(io::Error::from);
    // SAFETY: one system call, and nothing is allocated between fork and exec.
    unsafe { command.pre_exec(lead) };
}

/// Lets this process have as many files open as the machine grants it.
pub fn open_many_files() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: limit.maximum,
        ..limit
    };
    Ok(setrlimit(Resource::Nofile, most)?)
}

/// No file that this process, or a program that it becomes, writes gets longer than that: the write fails, and kills nobody.
pub fn bound_files(bytes: u64) -> io::Result<()> {
    let limit = libc::rlimit {
        rlim_cur: bytes,
        rlim_max: bytes,
    };
    // SAFETY: ignoring is not a handler, and the limit lives for the call.
    let done = unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit)
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Children that end are forgotten at once: this process never waits for one.
pub fn forget_children() {
    // SAFETY: ignoring is not a handler.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
}

/// Children that end are kept until waited for, as a fresh process has it.
pub fn keep_children() {
    // SAFETY: the default is not a handler.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

/// Leaves the session keyring of whoever started this process for a new, empty one.
pub fn new_session_keyring() -> io::Result<()> {
    const JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: a null name asks for an anonymous keyring.
    let key = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            JOIN_SESSION_KEYRING,
            ptr::null::<libc::c_char>(),
        )
    };
    let error = io::Error::last_os_error();
    // A kernel without keyrings has none to leave.
    if key >= 0 || error.raw_os_error() == Some(libc::ENOSYS) {
        Ok(())
    } else {
        Err(error)
    }
}
