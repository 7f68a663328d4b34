//! Which users and groups a user namespace has, and what they are outside.

use std::{fs, io};

/// A run of ids in a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// The first id inside.
    pub inside: u32,
    /// The id outside that it stands for.
    pub outside: u32,
    /// How many, in order.
    pub count: u32,
}

impl IdRange {
    fn line(self) -> String {
        format!("{} {} {}", self.inside, self.outside, self.count)
    }
}

/// Gives the user namespace of a process its users and groups. It can be done once.
///
/// Without privilege only a single id can be mapped, the caller's own, and only if the namespace can never set groups.
pub fn write(pid: u32, users: IdRange, groups: IdRange, privileged: bool) -> io::Result<()> {
    if !privileged {
        fs::write(format!("/proc/{pid}/setgroups"), "deny")?;
    }
    fs::write(format!("/proc/{pid}/uid_map"), users.line())?;
    fs::write(format!("/proc/{pid}/gid_map"), groups.line())
}
