//! Starting a process: everything between fork and exec.
#![expect(
    unsafe_code,
    reason = "code between fork and exec has no safe interface"
)]

use std::ffi::CStr;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Gid, Uid, chdir, getegid, geteuid, ioctl_tiocsctty, setsid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::exec::command::{Command, StartError};
use crate::privilege::{Level, confine_child, may_set_groups};

/// What went wrong between fork and exec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Step {
    Exec,
    Session,
    Terminal,
    Descriptors,
    User,
    Cwd,
    Privileges,
}

const STEPS: [Step; 7] = [
    Step::Exec,
    Step::Session,
    Step::Terminal,
    Step::Descriptors,
    Step::User,
    Step::Cwd,
    Step::Privileges,
];

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exec => "it does not execute",
            Self::Session => "no session",
            Self::Terminal => "no controlling terminal",
            Self::Descriptors => "no descriptors",
            Self::User => "cannot become that user",
            Self::Cwd => "cannot enter its cwd",
            Self::Privileges => "cannot give up privileges",
        })
    }
}

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
    let mut process = std::process::Command::new(&command.program);
    if let Some((arg0, args)) = command.argv.split_first() {
        process.arg0(arg0).args(args);
    }
    process.env_clear().envs(&command.env);
    process
        .stdin(descriptors.stdin)
        .stdout(descriptors.stdout)
        .stderr(descriptors.stderr);
    let child = Child {
        terminal: descriptors.terminal,
        extra: descriptors.extra,
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
    };
    // SAFETY: `prepare` makes system calls on data made before the fork: it takes no lock and allocates nothing.
    unsafe { process.pre_exec(move || child.prepare()) };
    match process.spawn() {
        Ok(started) => Ok(started.id()),
        Err(error) => {
            let (step, source) = decode(error);
            let program = command.program.clone();
            Err(StartError::Spawn {
                program,
                step,
                source,
            })
        }
    }
}

/// All that the new process needs to make itself what was asked for.
struct Child {
    terminal: bool,
    extra: Vec<(RawFd, OwnedFd)>,
    groups: Vec<Gid>,
    uid: Uid,
    gid: Gid,
    change_groups: bool,
    cwd: std::ffi::CString,
    level: Level,
}

impl Child {
    fn prepare(&self) -> io::Result<()> {
        at(Step::Session, setsid())?;
        if self.terminal {
            at(Step::Terminal, ioctl_tiocsctty(rustix::stdio::stdin()))?;
        }
        for (number, fd) in &self.extra {
            // SAFETY: the low numbers hold nothing but fillers, so nobody's descriptor is closed by this.
            if unsafe { libc::dup2(fd.as_raw_fd(), *number) } < 0 {
                return Err(encode(Step::Descriptors, &io::Error::last_os_error()));
            }
        }
        raise_oom_score();
        at(Step::User, self.become_user())?;
        at(Step::Cwd, enter(&self.cwd))?;
        confine_child(self.level).map_err(|error| encode(Step::Privileges, &error))
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
        Ok(())
    }
}

fn enter(cwd: &CStr) -> rustix::io::Result<()> {
    chdir(cwd)
}

/// When memory runs out, a child dies and not the agent. Where it is not allowed, the launcher's value stays.
fn raise_oom_score() {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    if let Ok(file) = rustix::fs::open(c"/proc/self/oom_score_adj", flags, Mode::empty()) {
        let _: rustix::io::Result<usize> = rustix::io::write(file, b"500");
    }
}

/// An error number has room for the step it belongs to, which is all that gets through from the child.
fn encode(step: Step, error: &io::Error) -> io::Error {
    let number = error.raw_os_error().unwrap_or(libc::EIO);
    io::Error::from_raw_os_error(i32::from(step as u8) << 16 | number)
}

fn at<T>(step: Step, result: rustix::io::Result<T>) -> io::Result<T> {
    result.map_err(|error| encode(step, &error.into()))
}

fn decode(error: io::Error) -> (Step, io::Error) {
    let Some(number) = error.raw_os_error() else {
        return (Step::Exec, error);
    };
    let step = usize::try_from(number >> 16)
        .ok()
        .and_then(|step| STEPS.get(step));
    (
        step.copied().unwrap_or(Step::Exec),
        io::Error::from_raw_os_error(number & 0xffff),
    )
}
