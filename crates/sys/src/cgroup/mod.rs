//! Control groups of either version behind one type: limits, usage, freezing, and who is in there.

mod end;
mod files;
mod found;
mod mounts;
mod still;
mod v1;
mod v2;

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use crate::pidfd;

pub use self::still::Frozen;

/// What a group may use at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Memory and swap together.
    pub memory_bytes: u64,
    /// Thousandths of a processor.
    pub cpu_milli: u64,
    /// Processes and threads.
    pub pids: u64,
}

/// What a group uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time of all it ever ran, in microseconds.
    pub cpu_us: u64,
    /// Memory now, without file pages that could be dropped at once.
    pub memory_bytes: u64,
    /// The most it used, such file pages included.
    pub memory_peak_bytes: u64,
    /// Processes and threads now.
    pub pids: u64,
    /// Processes the kernel killed because there was no memory left.
    pub oom_kills: u64,
}

/// Which generation of control groups has the controllers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// One tree for each controller.
    V1,
    /// One tree.
    V2,
}

/// The way into a group.
#[derive(Debug)]
pub enum Door {
    /// v1: a process with one thread enters by writing `0` to each.
    Tasks(Vec<OwnedFd>),
    /// v2: a child is born into it.
    Folder(OwnedFd),
}

/// The folder of groups that belongs to us.
#[derive(Debug, Clone)]
pub struct Cgroups {
    version: Version,
    /// v1: one for each controller, in the order of [`v1::CONTROLLERS`]. v2: one.
    parents: Vec<PathBuf>,
}

/// One group, which may or may not exist.
#[derive(Debug, Clone)]
pub struct Group {
    version: Version,
    folders: Vec<PathBuf>,
}

impl Cgroups {
    /// Makes `parent`, a relative path, where this process may make groups with memory, cpu and pids limits.
    ///
    /// The error's text says what is missing.
    pub fn open(parent: &str) -> io::Result<Self> {
        let mounts = mounts::read()?;
        if let Some(found) = v2::parent(&mounts, parent)? {
            return Ok(Self {
                version: Version::V2,
                parents: vec![found],
            });
        }
        Ok(Self {
            version: Version::V1,
            parents: v1::parents(&mounts, parent)?,
        })
    }

    /// Whether [`Cgroups::open`] would work, as far as looking tells: nothing is made.
    pub fn look() -> io::Result<Version> {
        let mounts = mounts::read()?;
        match v2::base(&mounts)? {
            Some(_) => Ok(Version::V2),
            None => v1::look(&mounts).map(|()| Version::V1),
        }
    }

    /// Which generation it is.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The group with this name.
    pub fn group(&self, name: &str) -> Group {
        Group {
            version: self.version,
            folders: self.parents.iter().map(|p| p.join(name)).collect(),
        }
    }

    /// Gives the folder itself back, if there is no group in it.
    pub fn close(self) -> io::Result<()> {
        self.parents.iter().try_for_each(|p| files::remove(p))
    }

    /// The names of all groups, those half made or half removed included.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for parent in &self.parents {
            for entry in fs::read_dir(parent)? {
                let entry = entry?;
                if entry.file_type()?.is_dir()
                    && let Ok(name) = entry.file_name().into_string()
                {
                    names.push(name);
                }
            }
        }
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }
}

impl Group {
    /// Makes it, empty and with its limits set.
    pub fn create(&self, limits: Limits) -> io::Result<()> {
        self.make()?;
        self.limit(limits)
    }

    /// Makes it, empty and without limits of its own.
    pub fn make(&self) -> io::Result<()> {
        self.folders
            .iter()
            .try_for_each(|folder| files::make(folder))
    }

    /// Sets its limits.
    pub fn limit(&self, limits: Limits) -> io::Result<()> {
        match self.version {
            Version::V1 => v1::limit(&self.folders, limits),
            Version::V2 => v2::limit(&self.folders[0], limits),
        }
    }

    /// The way in for a new process, without the lock that moving one takes for as long as a machine is busy.
    pub fn door(&self) -> io::Result<Door> {
        match self.version {
            Version::V1 => v1::tasks(&self.folders).map(Door::Tasks),
            Version::V2 => v2::folder(&self.folders[0]).map(Door::Folder),
        }
    }

    /// The processes in it, by the caller's numbers.
    pub fn processes(&self) -> io::Result<Vec<u32>> {
        let mut pids = Vec::new();
        for folder in &self.folders {
            let text = files::read_if_there(&folder.join("cgroup.procs"))?;
            pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
        }
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// What it uses now.
    pub fn usage(&self) -> io::Result<Usage> {
        match self.version {
            Version::V1 => v1::usage(&self.folders),
            Version::V2 => v2::usage(&self.folders[0]),
        }
    }

    /// [`Usage::oom_kills`] alone, which costs far less than all of it.
    pub fn oom_kills(&self) -> io::Result<u64> {
        match self.version {
            Version::V1 => v1::oom_kills(&self.folders),
            Version::V2 => v2::oom_kills(&self.folders[0]),
        }
    }

    /// Bytes its processes wrote to files that are not on disk yet.
    pub fn dirty_bytes(&self) -> io::Result<u64> {
        match self.version {
            Version::V1 => v1::dirty_bytes(&self.folders),
            Version::V2 => v2::dirty_bytes(&self.folders[0]),
        }
    }

    /// Starts to freeze or to thaw all its processes. [`Group::is_frozen`] tells when that is done.
    fn set_frozen(&self, frozen: bool) -> io::Result<()> {
        match self.version {
            Version::V1 => v1::set_frozen(&self.folders, frozen),
            Version::V2 => v2::set_frozen(&self.folders[0], frozen),
        }
    }

    /// Does none of its processes run?
    pub fn is_frozen(&self) -> io::Result<bool> {
        match self.version {
            Version::V1 => v1::is_frozen(&self.folders),
            Version::V2 => v2::is_frozen(&self.folders[0]),
        }
    }

    /// Kills all that is in it now, frozen or not. To be repeated until [`Group::processes`] is empty: they may be forking.
    pub fn kill(&self) -> io::Result<()> {
        if self.version == Version::V2 && v2::kill(&self.folders[0])? {
            return Ok(());
        }
        for pid in self.processes()? {
            let Some(pidfd) = pidfd::open(pid)? else {
                continue;
            };
            // The handle holds the number; only now is it known to be the process that is in the group.
            if self.processes()?.contains(&pid) {
                pidfd::kill(&pidfd)?;
            }
        }
        self.thaw()
    }

    /// Lets its processes go on, and so die if they are to; fine if it is not there.
    pub fn thaw(&self) -> io::Result<()> {
        match self.set_frozen(false) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    /// Removes it; fine if it is not there. Fails with `ResourceBusy` while a process is in it.
    pub fn remove(&self) -> io::Result<()> {
        self.folders.iter().try_for_each(|f| files::remove(f))
    }
}
