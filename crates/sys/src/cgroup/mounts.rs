//! Where the control group trees are mounted, and where in them this process is.

use std::path::PathBuf;
use std::{fs, io};

/// A mounted tree.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tree {
    pub(super) at: PathBuf,
    /// The v1 controllers; empty for v2.
    pub(super) controllers: Vec<String>,
    pub(super) v2: bool,
}

/// Every control group tree that this process sees.
pub(super) fn read() -> io::Result<Vec<Tree>> {
    let text = fs::read_to_string("/proc/self/mountinfo")?;
    Ok(text.lines().filter_map(parse).collect())
}

fn parse(line: &str) -> Option<Tree> {
    let (front, back) = line.split_once(" - ")?;
    let at = PathBuf::from(front.split(' ').nth(4)?);
    let mut back = back.split(' ');
    match back.next()? {
        "cgroup2" => Some(Tree {
            at,
            controllers: Vec::new(),
            v2: true,
        }),
        "cgroup" => Some(Tree {
            at,
            controllers: back.nth(1)?.split(',').map(str::to_owned).collect(),
            v2: false,
        }),
        _ => None,
    }
}

/// Where in the v2 tree this process is, relative to the tree's root.
pub(super) fn own_v2_group() -> io::Result<Option<String>> {
    let text = fs::read_to_string("/proc/self/cgroup")?;
    let own = text.lines().find_map(|line| line.strip_prefix("0::/"));
    Ok(own.map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_generations_are_told_apart() {
        let v1 =
            "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime shared:5 - cgroup cgroup rw,cpu,cpuacct";
        let tree = parse(v1).unwrap();
        assert!(!tree.v2 && tree.controllers.contains(&"cpuacct".to_owned()));
        let v2 = parse("41 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw").unwrap();
        assert!(v2.v2);
        assert_eq!(parse("27 1 254:0 / / rw - ext4 /dev/vda rw"), None);
        assert_eq!(parse("garbage"), None);
    }
}
