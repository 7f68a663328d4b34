//! Groups that somebody else made, found by a process that is in them.

use std::io;
use std::path::PathBuf;

use super::mounts::{self, Tree};
use super::{Group, Version, v1};

impl Group {
    /// The group that a process is in, to look at what is used there.
    pub fn of_process(pid: u32) -> io::Result<Self> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
        let mounts = mounts::read()?;
        let is_v1 = |line: &str| controllers(line).any(|name| name == "memory");
        if !text.lines().any(is_v1) {
            let folder = folder(&mounts, &text, |tree| tree.v2, "")?;
            return Ok(Self {
                version: Version::V2,
                folders: vec![folder],
            });
        }
        let folder = |name: &&str| {
            let has = |tree: &Tree| tree.controllers.iter().any(|own| own == name);
            folder(&mounts, &text, has, name)
        };
        Ok(Self {
            version: Version::V1,
            folders: v1::CONTROLLERS
                .iter()
                .map(folder)
                .collect::<Result<_, _>>()?,
        })
    }
}

fn controllers(line: &str) -> impl Iterator<Item = &str> {
    line.split(':').nth(1).unwrap_or_default().split(',')
}

/// Where in a tree the process is whose membership this text tells.
fn folder(
    mounts: &[Tree],
    text: &str,
    is_it: impl Fn(&Tree) -> bool,
    controller: &str,
) -> io::Result<PathBuf> {
    let missing = || io::Error::other(format!("no control group tree {controller:?} in sight"));
    let tree = mounts.iter().find(|tree| is_it(tree)).ok_or_else(missing)?;
    let mut lines = text.lines();
    let line = lines.find(|line| controllers(line).any(|name| name == controller));
    let path = line.and_then(|line| line.splitn(3, ':').nth(2));
    Ok(tree
        .at
        .join(path.ok_or_else(missing)?.trim_start_matches('/')))
}
