//! What the gateway may touch of the file system once it runs. It hears strangers, and as root's it would own much that they want.

use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, BitFlags, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetError, Scope, make_bitflags,
};

/// Rights and scopes of a kernel that knows them all; an older one enforces those that it knows.
const NEWEST: ABI = ABI::V6;

/// Confines the calling thread and all that it starts from now on: it reads `/proc`, writes settings of networks, removes its socket from
/// `folder`, and signals or connects to no process but its own. Nothing happens on a kernel without Landlock.
pub(crate) fn confine(folder: &Path) -> Result<(), RulesetError> {
    let read = make_bitflags!(AccessFs::{ReadFile | ReadDir});
    let write = make_bitflags!(AccessFs::{WriteFile | Truncate});
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?;
    for (path, access) in [
        (Path::new("/proc"), read),
        (Path::new("/proc/sys/net"), write),
        (folder, make_bitflags!(AccessFs::{RemoveFile})),
    ] {
        rules = allow(rules, path, access)?;
    }
    rules.restrict_self().map(drop)
}

/// What is not there needs no rule.
fn allow(
    rules: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    match PathFd::new(path) {
        Ok(folder) => rules.add_rule(PathBeneath::new(folder, access)),
        Err(_) => Ok(rules),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, thread};

    use landlock::Compatible;

    use super::*;

    #[test]
    fn what_is_confined_reaches_only_what_it_needs() {
        let folder = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir().unwrap();
        let (socket, secret) = (folder.path().join("socket"), other.path().join("secret"));
        fs::write(&socket, "").unwrap();
        fs::write(&secret, "hidden").unwrap();
        let denied = thread::spawn({
            let (folder, secret) = (folder.path().to_owned(), secret.clone());
            move || {
                confine(&folder).unwrap();
                fs::read_to_string("/proc/self/gid_map").unwrap();
                fs::remove_file(folder.join("socket")).unwrap();
                let denied = |done: std::io::Result<()>| {
                    done.is_err_and(|e| e.kind() == std::io::ErrorKind::PermissionDenied)
                };
                denied(fs::read(&secret).map(drop))
                    && denied(fs::read("/etc/passwd").map(drop))
                    && denied(fs::write(folder.join("new"), ""))
                    && denied(fs::remove_file(&secret))
                    && denied(std::process::Command::new("/bin/true").status().map(drop))
            }
        });
        let has_landlock = Ruleset::default()
            .set_compatibility(landlock::CompatLevel::HardRequirement)
            .handle_access(AccessFs::from_all(ABI::V1))
            .and_then(Ruleset::create)
            .is_ok();
        assert_eq!(denied.join().unwrap(), has_landlock);
        assert_eq!(fs::read_to_string(secret).unwrap(), "hidden");
    }
}
