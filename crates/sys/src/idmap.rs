//! Which users and groups a user namespace has, and what they are outside.

use std::{fs, io};

/// The ids of a sandbox: as many as images count on, `nobody` among them.
pub const RANGE: u32 = 65_536;
const NOBODY: u32 = 65_534;

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

    fn parse(line: &str) -> Option<Self> {
        let mut numbers = line.split_whitespace().map(|word| word.parse().ok());
        Some(Self {
            inside: numbers.next()??,
            outside: numbers.next()??,
            count: numbers.next()??,
        })
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

/// The ids that this process may give to sandboxes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ids {
    /// All there are: it is the machine's root, and each sandbox has a range of its own.
    All,
    /// One range, which all sandboxes share: it is root in a user namespace, where nothing can be shown with other ids than it has on disk.
    Range {
        /// What uid 0 of a sandbox is in this process's namespace, and so on disk.
        first: u32,
    },
    /// Its own and no other.
    One,
}

impl Ids {
    /// What this process has.
    pub fn own() -> io::Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self::One);
        }
        let users = fs::read_to_string("/proc/self/uid_map")?;
        let groups = fs::read_to_string("/proc/self/gid_map")?;
        Ok(Self::of(&users, &groups))
    }

    fn of(users: &str, groups: &str) -> Self {
        let has = |first, count| covers(users, first, count) && covers(groups, first, count);
        if has(0, u32::MAX) {
            Self::All
        } else if has(1, RANGE) {
            // Id 0 is this process itself, and nothing to sandboxes.
            Self::Range { first: 1 }
        } else if has(0, RANGE) {
            Self::Range { first: 0 }
        } else {
            Self::One
        }
    }

    /// The owner on disk of what belongs to this id in a sandbox; `None` if everything belongs to this process.
    pub fn on_disk(self, inside: u32) -> Option<u32> {
        match self {
            Self::All => Some(inside),
            Self::Range { first } if inside < RANGE => Some(first + inside),
            Self::Range { first } => Some(first + NOBODY),
            Self::One => None,
        }
    }

    /// The id in a sandbox of what has this owner on disk.
    pub fn inside(self, on_disk: u32) -> u32 {
        let inside = match self {
            Self::All => Some(on_disk),
            Self::Range { first } => on_disk.checked_sub(first),
            Self::One => Some(0),
        };
        inside.filter(|id| *id < RANGE).unwrap_or(NOBODY)
    }
}

/// Does a map have all of these ids?
fn covers(map: &str, first: u32, count: u32) -> bool {
    let mut ranges: Vec<IdRange> = map.lines().filter_map(IdRange::parse).collect();
    ranges.sort_by_key(|range| range.inside);
    let end = u64::from(first) + u64::from(count);
    let mut next = u64::from(first);
    for range in ranges {
        if u64::from(range.inside) <= next {
            next = next.max(u64::from(range.inside) + u64::from(range.count));
        }
    }
    next >= end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_says_what_sandboxes_can_have() {
        let all = "         0          0 4294967295\n";
        assert_eq!(Ids::of(all, all), Ids::All);
        let own = "0 1000 1\n1 100000 65536\n";
        assert_eq!(Ids::of(own, own), Ids::Range { first: 1 });
        let container = "0 100000 65536\n";
        assert_eq!(Ids::of(container, container), Ids::Range { first: 0 });
        assert_eq!(Ids::of(own, "0 1000 1\n"), Ids::One);
        assert_eq!(Ids::of(all, own), Ids::Range { first: 1 });
        let hole = "0 1000 1\n2 100000 65536\n";
        assert_eq!(Ids::of(hole, hole), Ids::One);
        assert_eq!(Ids::of("", ""), Ids::One);
    }

    #[test]
    fn an_id_that_a_range_lacks_is_nobody() {
        let range = Ids::Range { first: 1 };
        assert_eq!(range.on_disk(0), Some(1));
        assert_eq!(range.on_disk(RANGE - 1), Some(RANGE));
        assert_eq!(range.on_disk(RANGE), Some(1 + NOBODY));
        assert_eq!(range.on_disk(u32::MAX), Some(1 + NOBODY));
        assert_eq!(Ids::All.on_disk(u32::MAX), Some(u32::MAX));
        assert_eq!(Ids::One.on_disk(0), None);
        assert_eq!((range.inside(1), range.inside(1001)), (0, 1000));
        assert_eq!((range.inside(0), range.inside(RANGE + 1)), (NOBODY, NOBODY));
        assert_eq!((Ids::All.inside(1000), Ids::One.inside(1000)), (1000, 0));
    }
}
