//! Terminals for commands that want one.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, fchown, open};
use rustix::io::Errno;
use rustix::process::Uid;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use skerry_proto::agent::TtySize;

use crate::exec::spawn::Descriptors;

/// The agent's side of a terminal.
#[derive(Debug)]
pub(crate) struct Terminal {
    controller: OwnedFd,
}

/// By descriptor, so that no mount in the way matters; by name on a kernel that cannot.
fn other_side(controller: &OwnedFd, flags: OpenptFlags) -> io::Result<OwnedFd> {
    match ioctl_tiocgptpeer(controller, flags) {
        Err(Errno::NOTTY | Errno::INVAL) => {
            let name = ptsname(controller, Vec::new())?;
            let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
            Ok(open(name, flags, Mode::empty())?)
        }
        opened => Ok(opened?),
    }
}

impl Terminal {
    /// A new terminal of this size for this user, and the descriptors for its process.
    pub(crate) fn open(size: TtySize, uid: u32) -> io::Result<(Self, Descriptors)> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let controller = openpt(flags)?;
        unlockpt(&controller)?;
        let stdin = other_side(&controller, flags)?;
        // Programs like sudo open the terminal anew, by name; where it cannot be given away, those alone fail.
        let _: rustix::io::Result<()> = fchown(&stdin, Some(Uid::from_raw(uid)), None);
        let terminal = Self { controller };
        terminal.resize(size);
        let descriptors = Descriptors {
            stdout: stdin.try_clone()?,
            stderr: stdin.try_clone()?,
            stdin,
            extra: Vec::new(),
            terminal: true,
        };
        Ok((terminal, descriptors))
    }

    /// A descriptor to read what the process writes, or to write what it reads.
    pub(crate) fn side(&self) -> io::Result<OwnedFd> {
        self.controller.try_clone()
    }

    /// Gives it another size; its foreground group gets WINCH.
    pub(crate) fn resize(&self, size: TtySize) {
        let clamp = |value: u32| u16::try_from(value).unwrap_or(u16::MAX);
        let size = Winsize {
            ws_row: clamp(size.rows),
            ws_col: clamp(size.cols),
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // It fails only for a terminal that is gone, which has no size.
        let _: rustix::io::Result<()> = tcsetwinsize(&self.controller, size);
    }
}
