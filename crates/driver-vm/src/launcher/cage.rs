//! The child's half of a start: from a fork of the launcher to QEMU in its cage.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::process::{Gid, Resource, Rlimit, Uid, setrlimit};
use rustix::thread::{set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use skerry_sys::cgroup::Door;
use skerry_sys::mount::{self, Attributes};
use skerry_sys::{exec, fdpass};

use super::message::{Failure, Fds, Request};

/// Where the tree with QEMU is shown.
const QEMU: &str = "qemu";
const PROGRAM: &str = "/qemu/bin/qemu-system-x86_64";
/// It loads parts of itself from there.
const MODULES: &str = "QEMU_MODULE_DIR=/qemu/lib/x86_64-linux-gnu/qemu";
/// The host's libraries, without which it does not run.
const LIBRARIES: [&str; 2] = ["/usr/lib", "/usr/lib64"];
const LINKS: [(&str, &str); 2] = [("usr/lib", "lib"), ("usr/lib64", "lib64")];
const MAX_OPEN_FILES: u64 = 1024;

/// What the child has.
pub(super) struct Cage<'a> {
    pub(super) request: &'a Request,
    pub(super) fds: &'a Fds,
    pub(super) tap: Option<&'a OwnedFd>,
    pub(super) tell: &'a OwnedFd,
}

impl Cage<'_> {
    /// Becomes QEMU, or says why not and ends.
    pub(super) fn become_qemu(&self) -> ! {
        let Err(failure) = self.go();
        if let Ok(text) = serde_json::to_vec(&failure) {
            let _unheard = fdpass::send(self.tell, &text, &[]);
        }
        std::process::exit(1)
    }

    fn go(&self) -> Result<Infallible, Failure> {
        self.enter_group()
            .map_err(Failure::at("enter the control group"))?;
        rustix::process::setsid().map_err(Failure::at("make a session"))?;
        exec::new_session_keyring().map_err(Failure::at("leave the host's keyring"))?;
        exec::keep_children();
        let null = OpenOptions::new().read(true).write(true).open("/dev/null");
        let null = null.map_err(Failure::at("open /dev/null"))?;
        self.build_root().map_err(Failure::at("make its root"))?;
        let program = OpenOptions::new()
            .read(true)
            .custom_flags((OFlags::PATH | OFlags::CLOEXEC).bits() as i32)
            .open(PROGRAM)
            .map_err(Failure::at("open QEMU"))?;
        self.limit().map_err(Failure::at("set resource limits"))?;
        // Its number lies behind those that are handed over.
        let program = rustix::io::fcntl_dupfd_cloexec(&program, 64)
            .map_err(Failure::at("move a descriptor"))?;
        let tell = rustix::io::fcntl_dupfd_cloexec(self.tell, 65);
        let _tell = tell.map_err(Failure::at("move a descriptor"))?;
        let mut handed: Vec<BorrowedFd<'_>> = vec![null.as_fd(), self.fds.log.as_fd()];
        handed.push(self.fds.log.as_fd());
        handed.extend(self.fds.sockets.iter().map(AsFd::as_fd));
        handed.extend(self.tap.map(AsFd::as_fd));
        exec::hand_over(&handed).map_err(Failure::at("hand over its descriptors"))?;
        self.give_up_rights()
            .map_err(Failure::at("give up all rights"))?;
        self.exec(&program).map_err(Failure::at("start QEMU"))
    }

    /// Before all else, so that whatever it does is within the limits.
    fn enter_group(&self) -> io::Result<()> {
        if let Some(Door::Tasks(tasks)) = &self.fds.door {
            for file in tasks {
                rustix::io::write(file, b"0")?;
            }
        }
        Ok(())
    }

    /// A root with its own files, its program, the host's libraries, and nothing that it could write but what it must.
    fn build_root(&self) -> io::Result<()> {
        mount::make_private()?;
        let options = [("mode", Some("755")), ("size", Some("64k"))];
        let root = mount::new(
            "tmpfs",
            &options,
            Attributes::NO_SUID.and(Attributes::NO_DEV),
        )?;
        let shown = self.shown()?;
        // Anywhere but over the root: a root that is covered is no longer the one that a pivot lets go of.
        mount::attach(root.as_fd(), Path::new("/sys"))?;
        rustix::process::fchdir(&root)?;
        for folder in ["m", QEMU, "usr", "dev"] {
            fs::create_dir(folder)?;
        }
        for (target, link) in LINKS {
            symlink(target, link)?;
        }
        for (tree, at, is_folder) in &shown {
            if *is_folder {
                fs::create_dir_all(at)?;
            } else {
                fs::File::create(at)?;
            }
            mount::attach(tree.as_fd(), at)?;
        }
        mount::enter_root()?;
        mount::restrict(root.as_fd(), Attributes::READ_ONLY, None)
    }

    /// What it sees, mounted nowhere yet: where it goes, and whether it is a folder.
    fn shown(&self) -> io::Result<Vec<(OwnedFd, PathBuf, bool)>> {
        let fixed = Attributes::NO_SUID
            .and(Attributes::NO_DEV)
            .and(Attributes::READ_ONLY);
        let data = Attributes::NO_SUID
            .and(Attributes::NO_DEV)
            .and(Attributes::NO_EXEC);
        let mut shown = Vec::new();
        let mut add = |source: &Path, at: PathBuf, attributes| -> io::Result<()> {
            let tree = mount::copy(source)?;
            mount::restrict(tree.as_fd(), attributes, None)?;
            shown.push((tree, at, fs::metadata(source)?.is_dir()));
            Ok(())
        };
        add(&self.request.qemu.join("usr"), QEMU.into(), fixed)?;
        for library in LIBRARIES.map(Path::new).into_iter().filter(|p| p.exists()) {
            let at = library.strip_prefix("/").unwrap_or(library);
            add(library, at.to_owned(), fixed)?;
        }
        for file in &self.request.files {
            let attributes = if file.writable {
                data
            } else {
                data.and(Attributes::READ_ONLY)
            };
            add(&file.source, Path::new("m").join(&file.name), attributes)?;
        }
        if self.request.kvm {
            let tree = mount::copy(Path::new("/dev/kvm"))?;
            shown.push((tree, "dev/kvm".into(), false));
        }
        Ok(shown)
    }

    fn limit(&self) -> io::Result<()> {
        let both = |value| Rlimit {
            current: Some(value),
            maximum: Some(value),
        };
        setrlimit(Resource::Nofile, both(MAX_OPEN_FILES))?;
        setrlimit(Resource::Core, both(0))?;
        Ok(setrlimit(
            Resource::Fsize,
            both(self.request.max_file_bytes),
        )?)
    }

    /// With the last of the root ids go all capabilities.
    fn give_up_rights(&self) -> io::Result<()> {
        let (uid, gid) = (
            Uid::from_raw(self.request.uid),
            Gid::from_raw(self.request.uid),
        );
        set_thread_groups(&[])?;
        set_thread_res_gid(gid, gid, gid)?;
        set_thread_res_uid(uid, uid, uid)?;
        Ok(set_no_new_privs(true)?)
    }

    fn exec(&self, program: &OwnedFd) -> io::Result<Infallible> {
        let text = |text: &str| CString::new(text).map_err(io::Error::from);
        let name = [text(&self.request.name)];
        let args = name
            .into_iter()
            .chain(self.request.args.iter().map(|arg| text(arg)));
        let args = args.collect::<io::Result<Vec<CString>>>()?;
        let args: Vec<_> = args.iter().map(CString::as_c_str).collect();
        let modules = text(MODULES)?;
        exec::exec(program.as_fd(), &args, &[&modules])
    }
}
