//! Where in a sandbox volumes can be.

use std::path::{Component, Path, PathBuf};

use crate::limits::{MAX_MOUNTS, MAX_PATH_BYTES};

/// The system's own folders inside, over which nothing is mounted.
const RESERVED: [&str; 4] = ["/dev", "/etc", "/proc", "/sys"];

/// Whether volumes can be at these paths: each an absolute one that is its own shortest spelling, none inside another or in a folder of the system's.
/// If not, why.
pub fn check<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Result<(), String> {
    let paths: Vec<&Path> = paths.into_iter().collect();
    if paths.len() > MAX_MOUNTS {
        return Err(format!("a sandbox has {MAX_MOUNTS} at most"));
    }
    for (number, path) in paths.iter().enumerate() {
        let shown = path.display();
        if !is_plain(path) {
            return Err(format!(
                "`{shown}` is no absolute path below the root without `.`, `..` and `//`"
            ));
        }
        if RESERVED.iter().any(|folder| path.starts_with(folder)) {
            return Err(format!("`{shown}` is in a folder of the system's"));
        }
        let mut others = paths.iter().enumerate();
        if others.any(|(other, folder)| other != number && path.starts_with(folder)) {
            return Err(format!("`{shown}` is inside another volume"));
        }
    }
    Ok(())
}

fn is_plain(path: &Path) -> bool {
    let mut parts = path.components();
    let spelled: PathBuf = path.components().collect();
    parts.next() == Some(Component::RootDir)
        && parts.clone().next().is_some()
        && parts.all(|part| matches!(part, Component::Normal(_)))
        && spelled.as_os_str() == path.as_os_str()
        && path.as_os_str().len() <= MAX_PATH_BYTES
        && !path.as_os_str().as_encoded_bytes().contains(&0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(paths: &[&str]) -> bool {
        check(paths.iter().map(Path::new)).is_ok()
    }

    #[test]
    fn volumes_are_at_plain_paths_beside_each_other() {
        assert!(allowed(&["/data", "/data-2", "/mnt/other", "/etcetera"]));
        let bad = [
            "", "/", "data", "/a/../b", "/a/./b", "/a//b", "/a/", "/a\0", "/proc", "/etc/x",
            "/dev/shm",
        ];
        for path in bad {
            assert!(!allowed(&[path]), "{path}");
        }
        assert!(!allowed(&["/a", "/a"]));
        assert!(!allowed(&["/a", "/a/b"]) && !allowed(&["/a/b", "/a"]));
        let many: Vec<String> = (0..=MAX_MOUNTS).map(|n| format!("/v{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(allowed(&many[1..]) && !allowed(&many));
    }
}
