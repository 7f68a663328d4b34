//! Where CRIU runs: a root with its program, the images, the processes of the host and nothing else, in a mount namespace of its own.

use std::convert::Infallible;
use std::ffi::CStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use skerry_sys::clone::{Forked, Namespaces, SingleThreaded};
use skerry_sys::mount::{self, Attributes};
use skerry_sys::{exec, fdpass, pidfd};

use super::PATIENCE;
use crate::spawner::{Failure, tree};

/// The images, as seen from in there: by a link, since CRIU asks where it leads.
pub(super) const IMAGES: &str = "/kept";
const PROGRAM: &str = "/usr/sbin/criu";
const LOG: &str = "/run/log";
/// What it may write beside images: its log, and what it remembers of the kernel.
const SCRATCH: &str = "1m";
/// Of its log.
const MAX_LOG: u64 = 64 * 1024;
/// Whatever it says, it says no more about one thing.
const MAX_REASON: usize = 240;
/// Said whenever it looks at the kernel from in here, or restores without privilege on the host: it goes on.
const HARMLESS: [&str; 5] = [
    "rlimit: Can't setup RLIMIT_NOFILE",
    "tun: Unable to create tun",
    "net: Unexpected error: -1",
    "suspending seccomp failed",
    "failed to suspend seccomp",
];

/// The mounts that the jail is made of, mounted nowhere yet.
#[derive(Debug)]
pub(super) struct Jail {
    usr: OwnedFd,
    images: OwnedFd,
    null: OwnedFd,
    proc: OwnedFd,
}

impl Jail {
    pub(super) const MOUNTS: usize = 4;

    /// Copies the mounts: of the folder that CRIU is installed in, and of one for images. With `users` it shows the images to them, read-only.
    pub(super) fn collect(
        tool: &Path,
        images: &Path,
        users: Option<&OwnedFd>,
    ) -> Result<Self, Failure> {
        let quiet = Attributes::NO_SUID.and(Attributes::NO_DEV);
        let fixed = quiet.and(Attributes::READ_ONLY);
        let attributes = if users.is_some() { fixed } else { quiet };
        Ok(Self {
            usr: tree(&tool.join("usr"), fixed, None)?,
            images: tree(images, attributes, users.map(AsFd::as_fd))?,
            null: host("/dev/null")?,
            proc: host("/proc")?,
        })
    }

    pub(super) fn into_fds(self) -> [OwnedFd; Self::MOUNTS] {
        [self.usr, self.images, self.null, self.proc]
    }

    /// The other end of [`Jail::into_fds`].
    pub(super) fn sort(fds: Vec<OwnedFd>) -> Option<Self> {
        let [usr, images, null, proc] = <[OwnedFd; Self::MOUNTS]>::try_from(fds).ok()?;
        Some(Self {
            usr,
            images,
            null,
            proc,
        })
    }

    /// One of the images, before they are mounted anywhere.
    pub(super) fn open_image(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.images, name, flags, Mode::empty())?.into())
    }

    /// Goes in. The mount namespace is the caller's own, and private.
    pub(super) fn enter(&self) -> io::Result<()> {
        let options = [("mode", Some("700")), ("size", Some(SCRATCH))];
        let root = mount::new("tmpfs", &options, Attributes::NO_DEV)?;
        // Anywhere but over the root: a root that is covered is no longer the one that a pivot lets go of.
        mount::attach(root.as_fd(), Path::new("/sys"))?;
        rustix::process::fchdir(&root)?;
        let folders = [
            ("usr", &self.usr),
            ("images", &self.images),
            ("proc", &self.proc),
        ];
        for (name, tree) in folders {
            fs::create_dir(name)?;
            mount::attach(tree.as_fd(), Path::new(name))?;
        }
        let links = [
            ("usr/lib", "lib"),
            ("usr/lib64", "lib64"),
            ("images", "kept"),
        ];
        for (target, link) in links {
            symlink(target, link)?;
        }
        for folder in ["dev", "dev/pts", "run", "tmp"] {
            fs::create_dir(folder)?;
        }
        // It asks which file systems these are, and nothing more.
        let pts = mount::new("devpts", &[], Attributes::NO_EXEC)?;
        mount::attach(pts.as_fd(), Path::new("dev/pts"))?;
        File::create("dev/null")?;
        mount::attach(self.null.as_fd(), Path::new("dev/null"))?;
        mount::enter_root()
    }
}

/// One of the host's own mounts.
pub(super) fn host(path: &str) -> Result<OwnedFd, Failure> {
    let copied = mount::copy(Path::new(path));
    copied.map_err(Failure::at(format!("show {path} to CRIU")))
}

/// A CRIU that runs in the jail that the caller is in, and waits for a request.
pub(super) struct Criu {
    pub(super) socket: OwnedFd,
    pub(super) pidfd: OwnedFd,
}

impl Criu {
    /// Starts it with these descriptors beside its own, from [`Criu::FIRST_FD`] on. No file that it writes gets longer than `max_bytes`, if said.
    pub(super) fn start(
        single: &SingleThreaded,
        given: &[&OwnedFd],
        max_bytes: Option<u64>,
    ) -> io::Result<Self> {
        let (ours, theirs) = fdpass::pair()?;
        let pidfd = start(single, || serve(&theirs, given, max_bytes))?;
        Ok(Self {
            socket: ours,
            pidfd,
        })
    }

    pub(super) const FIRST_FD: i32 = 4;

    /// Waits until it has ended. One that did not answer is killed first: it may itself wait for what never comes. Tells whether it was killed, by
    /// whomever; where children are not kept nobody knows.
    pub(super) fn end(self, has_answered: bool) -> io::Result<bool> {
        drop(self.socket);
        if !has_answered || !pidfd::wait(&self.pidfd, PATIENCE)? {
            pidfd::kill(&self.pidfd)?;
            if !pidfd::wait(&self.pidfd, PATIENCE)? {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        pidfd::reap(&self.pidfd)
    }
}

fn serve(socket: &OwnedFd, given: &[&OwnedFd], max_bytes: Option<u64>) -> io::Result<Infallible> {
    let log = File::create(LOG)?.into();
    max_bytes.map_or(Ok(()), exec::bound_files)?;
    let fds = [&[&log, socket], given].concat();
    become_criu(&[c"criu", c"swrk", c"3"], &fds)
}

/// Starts one that asks the kernel what it can do and leaves the answers behind; `is_root`: of the host.
pub(super) fn start_check(single: &SingleThreaded, is_root: bool) -> io::Result<OwnedFd> {
    let all = [c"criu", c"check", c"--unprivileged"];
    let args = if is_root { &all[..2] } else { &all };
    start(single, || become_criu(args, &[]))
}

fn start(
    single: &SingleThreaded,
    work: impl FnOnce() -> io::Result<Infallible>,
) -> io::Result<OwnedFd> {
    match single.fork(Namespaces::NONE, None)? {
        Forked::Parent { pidfd, .. } => Ok(pidfd),
        Forked::Child => {
            // Nobody hears why: what it was to say or to leave behind is missing.
            let _failed = work();
            #[expect(clippy::exit, reason = "a forked child has nothing to return to")]
            std::process::exit(1)
        }
    }
}

/// Has this process be CRIU, with these descriptors from 2 on.
fn become_criu(args: &[&CStr], fds: &[&OwnedFd]) -> io::Result<Infallible> {
    exec::keep_children();
    let null = rustix::fs::open("/dev/null", OFlags::RDWR, Mode::empty())?;
    let program = File::open(PROGRAM)?;
    let program = rustix::io::fcntl_dupfd_cloexec(&program, 16)?;
    let fds: Vec<_> = [&null, &null]
        .into_iter()
        .chain(fds.iter().copied())
        .collect();
    let fds: Vec<_> = fds.into_iter().map(AsFd::as_fd).collect();
    exec::hand_over(&fds)?;
    exec::exec(program.as_fd(), args, &[c"XDG_RUNTIME_DIR=/run"])
}

/// Why it could not: the first error in its log, in one line.
pub(super) fn reason() -> String {
    let mut log = String::new();
    let read = File::open(LOG).and_then(|file| file.take(MAX_LOG).read_to_string(&mut log));
    match read {
        Ok(_) => first_error(&log).unwrap_or_else(|| "it does not say why".to_owned()),
        Err(error) => format!("its log cannot be read: {error}"),
    }
}

/// `(00.021) 7: Error (criu/files.c:12): Can't` is `Can't`.
pub(super) fn first_error(log: &str) -> Option<String> {
    let errors = log.lines().filter_map(|line| {
        let (_, error) = line.split_once("Error (")?;
        Some(error.split_once("): ")?.1)
    });
    let is_harmless = |error: &&str| HARMLESS.iter().any(|begin| error.starts_with(begin));
    let mut errors = errors.filter(|error| !is_harmless(error));
    let printable = |c: &char| !c.is_control();
    Some(
        errors
            .next()?
            .chars()
            .filter(printable)
            .take(MAX_REASON)
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_the_first_error_that_matters() {
        let log = "(00.05) Error (criu/util.c:1): rlimit: Can't setup RLIMIT_NOFILE for self\n\
                   (00.06)  7: Warn (criu/a.c:2): odd\n\
                   (00.07)  7: Error (criu/b.c:3): Can't \u{1b}[31mdump it\n\
                   (00.08) Error (criu/c.c:4): Dumping FAILED.\n";
        assert_eq!(first_error(log).as_deref(), Some("Can't [31mdump it"));
        assert_eq!(first_error("no error at all"), None);
    }
}
