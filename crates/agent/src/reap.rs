//! The only place that waits for processes: our children, and every orphan of the sandbox.
#![expect(
    unsafe_code,
    reason = "wait4 has no safe interface with resource usage"
)]

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, oneshot};

/// How a process ended, from the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    Code(i32),
    Signal(i32),
}

/// A process that is no more.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exit {
    pub(crate) how: How,
    /// Processor time of it and the children it waited for.
    pub(crate) cpu: Duration,
    /// The largest resident size of any one of them, in bytes.
    pub(crate) peak_memory: u64,
}

/// Hands each exit to whoever started the process.
#[derive(Debug, Default)]
pub(crate) struct Reaper {
    waiting: RefCell<HashMap<u32, oneshot::Sender<Exit>>>,
    /// Told after every round in which something was reaped.
    pub(crate) reaped: Notify,
}

impl Reaper {
    /// The exit of a child. To be called before control returns to the loop after starting it.
    pub(crate) fn exit_of(&self, pid: u32) -> oneshot::Receiver<Exit> {
        let (sender, receiver) = oneshot::channel();
        self.waiting.borrow_mut().insert(pid, sender);
        receiver
    }

    /// Reaps for as long as the agent lives.
    pub(crate) async fn run(self: Rc<Self>) -> io::Result<()> {
        let mut child = signal(SignalKind::child())?;
        loop {
            self.reap_all();
            if child.recv().await.is_none() {
                return Ok(());
            }
        }
    }

    fn reap_all(&self) {
        let mut any = false;
        while let Some((pid, exit)) = reap_one() {
            any = true;
            let waiting = self.waiting.borrow_mut().remove(&pid);
            if let Some(waiting) = waiting {
                // Whoever waited may have lost interest.
                let _: Result<(), Exit> = waiting.send(exit);
            }
        }
        if any {
            self.reaped.notify_waiters();
        }
    }
}

fn reap_one() -> Option<(u32, Exit)> {
    let mut status = 0;
    // SAFETY: plain numbers for which zero is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are valid for the call.
    let pid = unsafe {
        libc::wait4(
            -1,
            &raw mut status,
            libc::WNOHANG | libc::__WALL,
            &raw mut usage,
        )
    };
    let pid = u32::try_from(pid).ok().filter(|pid| *pid != 0)?;
    let how = if libc::WIFSIGNALED(status) {
        How::Signal(libc::WTERMSIG(status))
    } else {
        How::Code(libc::WEXITSTATUS(status))
    };
    let exit = Exit {
        how,
        cpu: duration(usage.ru_utime) + duration(usage.ru_stime),
        peak_memory: u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024,
    };
    Some((pid, exit))
}

fn duration(time: libc::timeval) -> Duration {
    Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or(0))
        + Duration::from_micros(u64::try_from(time.tv_usec).unwrap_or(0))
}
