//! Starting a process: everything between clone and exec.
//!
//! The child borrows the agent's memory until it executes, and the agent's thread rests meanwhile: no page is copied, and what
//! goes wrong is left where the agent finds it. That memory is not dumpable, so nobody of the child's user reaches it through the child.
//! Whoever may signal the child can hold it up, so the agent rests for a bounded time only.
#![expect(
    unsafe_code,
    reason = "code between clone and exec has no safe interface"
)]

use std::cell::Cell;
use std::convert::Infallible;
use std::ffi::{CString, OsString, c_char, c_int, c_void};
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::ptr;

use parking_lot::{Mutex, MutexGuard};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    DumpableBehavior, Gid, Signal, Uid, chdir, getegid, geteuid, ioctl_tiocsctty,
    set_dumpable_behavior, setsid,
};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::boot::UNUSUAL_SIGNALS;
use crate::exec::command::{Command, StartError};
use crate::privilege::{Level, confine_child, may_set_groups};
use crate::procs;

/// System calls only, one after the other: a fraction of this.
const STACK_BYTES: usize = 64 * 1024;
/// A child that did not execute within this time was stopped by somebody, or is starved: it is told to go on.
const NUDGE: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};
/// So often; then it is killed. Counted, since the agent may have been frozen meanwhile together with the child.
const NUDGES: u32 = 5;
/// Runs what is a program to people and not to the kernel: text without an interpreter's name.
const SHELL: &std::ffi::CStr = c"/bin/sh";

/// Held while there is a process that is not yet what it is to become.
static STARTING: Mutex<()> = Mutex::new(());

/// As long as the answer lives no process borrows the agent's memory. Who stopped one that does would stop the agent with it.
pub(crate) fn nobody_starts() -> MutexGuard<'static, ()> {
    STARTING.lock()
}

/// What went wrong between clone and exec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Clone,
    Exec,
    Session,
    Terminal,
    Descriptors,
    User,
    Cwd,
    Privileges,
    Held,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Clone => "no process",
            Self::Exec => "it does not execute",
            Self::Session => "no session",
            Self::Terminal => "no controlling terminal",
            Self::Descriptors => "no descriptors",
            Self::User => "cannot become that user",
            Self::Cwd => "cannot enter its cwd",
            Self::Privileges => "cannot give up privileges",
            Self::Held => "another process holds it up",
        })
    }
}

/// The step and the kernel's number for what is wrong.
#[derive(Debug, Clone, Copy)]
struct Failure(Step, c_int);

const HELD: Failure = Failure(Step::Held, libc::ETIMEDOUT);

/// The descriptors a process starts with.
#[derive(Debug)]
pub(crate) struct Descriptors {
    pub(crate) stdin: OwnedFd,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
    /// More of them, below 10.
    pub(crate) extra: Vec<(RawFd, OwnedFd)>,
    /// Stdin is to be its controlling terminal.
    pub(crate) terminal: bool,
}

/// Starts a command in a session and group of its own and returns its pid. The reaper must be told before the loop goes on.
pub(crate) fn spawn(
    command: &Command,
    descriptors: Descriptors,
    level: Level,
) -> Result<u32, StartError> {
    let child = Child {
        program: Program::new(command)?,
        descriptors,
        groups: command
            .user
            .groups
            .iter()
            .copied()
            .map(Gid::from_raw)
            .collect(),
        uid: Uid::from_raw(command.user.uid),
        gid: Gid::from_raw(command.user.gid),
        change_groups: may_set_groups(),
        cwd: command.cwd.clone(),
        level,
        failure: Cell::new(None),
    };
    child
        .start()
        .map_err(|Failure(step, errno)| StartError::Spawn {
            program: command.program.clone(),
            step,
            source: io::Error::from_raw_os_error(errno),
        })
}

/// What `execve` takes: strings, and lists of pointers to them that end in null.
struct Program {
    path: CString,
    args: Vec<*const c_char>,
    /// The same for the shell that is to read it.
    shell_args: Vec<*const c_char>,
    env: Vec<*const c_char>,
    _strings: [Vec<CString>; 2],
}

impl Program {
    fn new(command: &Command) -> Result<Self, StartError> {
        let c_string = |bytes: &[u8]| CString::new(bytes).map_err(|_| StartError::Nul);
        let path = c_string(command.program.as_os_str().as_bytes())?;
        let argv: Vec<CString> = (command.argv.iter())
            .map(|arg| c_string(arg.as_bytes()))
            .collect::<Result<_, _>>()?;
        let assignment = |(name, value): (&OsString, &OsString)| {
            c_string(&[name.as_bytes(), b"=", value.as_bytes()].concat())
        };
        let env: Vec<CString> = (command.env.iter())
            .map(assignment)
            .collect::<Result<_, _>>()?;
        let script = [SHELL.as_ptr(), path.as_ptr()];
        Ok(Self {
            args: pointers(&[], &argv),
            shell_args: pointers(&script, argv.get(1..).unwrap_or_default()),
            env: pointers(&[], &env),
            path,
            _strings: [argv, env],
        })
    }

    /// Returns only if it cannot be executed, with the kernel's number for why.
    fn execute(&self) -> c_int {
        // SAFETY: all strings end in NUL and all lists in null, and `self` owns what they point at.
        unsafe {
            libc::execve(self.path.as_ptr(), self.args.as_ptr(), self.env.as_ptr());
            if errno() == libc::ENOEXEC {
                libc::execve(SHELL.as_ptr(), self.shell_args.as_ptr(), self.env.as_ptr());
            }
        }
        errno()
    }
}

fn pointers(first: &[*const c_char], rest: &[CString]) -> Vec<*const c_char> {
    let rest = rest.iter().map(|string| string.as_ptr());
    let first = first.iter().copied();
    first.chain(rest).chain([ptr::null()]).collect()
}

/// All that the new process needs to make itself what was asked for.
struct Child {
    program: Program,
    descriptors: Descriptors,
    groups: Vec<Gid>,
    uid: Uid,
    gid: Gid,
    change_groups: bool,
    cwd: CString,
    level: Level,
    /// Left here by the new process if it does not become the program.
    failure: Cell<Option<Failure>>,
}

impl Child {
    /// Returns once the child executes its program or has ended.
    fn start(&self) -> Result<u32, Failure> {
        let mut stack: Vec<u128> = Vec::with_capacity(STACK_BYTES / size_of::<u128>());
        let top = stack.spare_capacity_mut().as_mut_ptr_range().end;
        let own: *const Self = self;
        let _only_one = STARTING.lock();
        let _quiet = Quiet::begin();
        let (done, borrowing) = at(Step::Descriptors, pipe_with(PipeFlags::CLOEXEC))?;
        // SAFETY: a child that shares this memory on a stack of its own, while this thread stands still until it is done with both.
        // Other threads go on; the child takes no lock, allocates nothing, and no handler runs in it, since it lets signals in without any.
        let pid = unsafe {
            libc::clone(
                child_main,
                top.cast(),
                libc::CLONE_VM | libc::SIGCHLD,
                own.cast_mut().cast(),
            )
        };
        if pid < 0 {
            return Err(Failure(Step::Clone, errno()));
        }
        drop(borrowing);
        let was_held = !returns_memory(pid.cast_unsigned(), &done);
        let Some(failure) = self.failure.get().or(was_held.then_some(HELD)) else {
            return Ok(pid.cast_unsigned());
        };
        // SAFETY: it is our child, it has ended, and nobody asks for how. The number stays its own until this returns.
        while unsafe { libc::waitpid(pid, ptr::null_mut(), 0) } < 0 && errno() == libc::EINTR {}
        Err(failure)
    }

    fn become_program(&self) -> Result<Infallible, Failure> {
        self.take_descriptors()?;
        at(Step::Session, setsid())?;
        if self.descriptors.terminal {
            at(Step::Terminal, ioctl_tiocsctty(rustix::stdio::stdin()))?;
        }
        raise_oom_score();
        at(Step::User, self.become_user())?;
        at(Step::Cwd, chdir(&self.cwd))?;
        let confined = confine_child(self.level);
        confined.map_err(|e| Failure(Step::Privileges, e.raw_os_error().unwrap_or(libc::EIO)))?;
        hear_signals();
        Err(Failure(Step::Exec, self.program.execute()))
    }

    fn take_descriptors(&self) -> Result<(), Failure> {
        let Descriptors {
            stdin,
            stdout,
            stderr,
            extra,
            ..
        } = &self.descriptors;
        let standard = [(0, stdin), (1, stdout), (2, stderr)];
        let extra = extra.iter().map(|(number, fd)| (*number, fd));
        for (number, fd) in standard.into_iter().chain(extra) {
            // SAFETY: the low numbers hold nothing but fillers, so nobody's descriptor is closed by this; and the table is the child's own.
            if unsafe { libc::dup2(fd.as_raw_fd(), number) } < 0 {
                return Err(Failure(Step::Descriptors, errno()));
            }
        }
        Ok(())
    }

    fn become_user(&self) -> rustix::io::Result<()> {
        if self.change_groups {
            set_thread_groups(&self.groups)?;
        }
        if self.gid != getegid() {
            set_thread_res_gid(self.gid, self.gid, self.gid)?;
        }
        if self.uid != geteuid() {
            set_thread_res_uid(self.uid, self.uid, self.uid)?;
        }
        // The kernel makes of it whatever the machine is set to when a process changes its user, and the memory is the agent's.
        set_dumpable_behavior(DumpableBehavior::NotDumpable)
    }
}

/// Waits until the child has let go of `borrowing`, which it does when it executes or ends. False if it had to be killed.
fn returns_memory(child: u32, done: &OwnedFd) -> bool {
    let ends = |patience| {
        let mut done = [PollFd::new(done, PollFlags::empty())];
        poll(&mut done, patience).is_ok_and(|count| count > 0)
    };
    for _ in 0..NUDGES {
        if ends(Some(&NUDGE)) {
            return true;
        }
        procs::signal(&[child], Signal::CONT);
    }
    procs::signal(&[child], Signal::KILL);
    // Nobody can keep it from that.
    while !ends(None) {}
    false
}

/// The new process. What it returns is its exit code, which nobody sees.
extern "C" fn child_main(child: *mut c_void) -> c_int {
    // SAFETY: `Child::start` gives its own `self`, and waits.
    let child = unsafe { &*child.cast_const().cast::<Child>() };
    let Err(failure) = child.become_program();
    child.failure.set(Some(failure));
    1
}

/// No signal reaches this thread as long as this lives.
struct Quiet(libc::sigset_t);

impl Quiet {
    fn begin() -> Self {
        // SAFETY: both sets live for the calls, which fill them.
        unsafe {
            let (mut all, mut before) = (std::mem::zeroed(), std::mem::zeroed());
            libc::sigfillset(&raw mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
            Self(before)
        }
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // SAFETY: the set was filled by `begin`.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, ptr::null_mut()) };
    }
}

/// Signals as a program expects them. Handlers go first: one that ran here for a signal that came early would tell the agent of it.
fn hear_signals() {
    // SAFETY: the default is no handler, an all-zero set is the empty set, and dispositions and mask are the child's own.
    unsafe {
        for signal in UNUSUAL_SIGNALS {
            libc::signal(signal, libc::SIG_DFL);
        }
        let none: libc::sigset_t = std::mem::zeroed();
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
    }
}

/// When memory runs out, a child dies and not the agent. Where it is not allowed, the launcher's value stays.
fn raise_oom_score() {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    if let Ok(file) = rustix::fs::open(c"/proc/self/oom_score_adj", flags, Mode::empty()) {
        let _: rustix::io::Result<usize> = rustix::io::write(file, b"500");
    }
}

fn at<T>(step: Step, result: rustix::io::Result<T>) -> Result<T, Failure> {
    result.map_err(|error| Failure(step, error.raw_os_error()))
}

fn errno() -> c_int {
    // SAFETY: it is there for every thread; a child uses that of the thread that waits for it.
    unsafe { *libc::__errno_location() }
}
