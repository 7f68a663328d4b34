//! Sizes of sandboxes.

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorCode};

/// A named size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// 2 CPUs, 4 GiB memory, 40 GiB disk.
    Small,
    /// 4 CPUs, 8 GiB memory, 80 GiB disk.
    Medium,
    /// 8 CPUs, 16 GiB memory, 160 GiB disk.
    Large,
}

impl Profile {
    /// Every profile, smallest first.
    pub const ALL: [Self; 3] = [Self::Small, Self::Medium, Self::Large];

    /// The name on the wire and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Medium => "medium",
            Self::Large => "large",
        }
    }

    /// The profile with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.as_str() == name)
    }

    /// What a sandbox of this size gets.
    pub const fn resources(self) -> Resources {
        let (vcpus, memory_mb, disk_gb) = match self {
            Self::Small => (2, 4096, 40),
            Self::Medium => (4, 8192, 80),
            Self::Large => (8, 16384, 160),
        };
        Resources {
            vcpus,
            memory_mb,
            disk_mb: disk_gb * 1024,
            pids: Resources::DEFAULT_PIDS,
        }
    }
}

/// What a sandbox may use at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Processors' worth of time.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mb: u32,
    /// Space for what it writes, in MiB.
    pub disk_mb: u32,
    /// Processes and threads.
    pub pids: u32,
}

impl Resources {
    /// Processes and threads unless told otherwise.
    pub const DEFAULT_PIDS: u32 = 256;

    /// What a sandbox gets that names single values and no profile, for those it leaves out.
    pub const FREE_FORM: Self = Self {
        vcpus: 1,
        memory_mb: 512,
        disk_mb: 5 * 1024,
        pids: Self::DEFAULT_PIDS,
    };

    /// Refuses what no machine of ours would give.
    pub fn check(self) -> Result<Self, Error> {
        let bounds = [
            ("vcpus", self.vcpus, 1, 64),
            ("memory_mb", self.memory_mb, 16, 262_144),
            ("disk_mb", self.disk_mb, 16, 1_048_576),
            ("pids", self.pids, 4, 32_768),
        ];
        for (field, value, min, max) in bounds {
            if value < min || value > max {
                return Err(Error::new(
                    ErrorCode::ValidationError,
                    format!("{field} is {value}; it must be {min} to {max}"),
                ));
            }
        }
        Ok(self)
    }
}
