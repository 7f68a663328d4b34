//! A root file system with a shell and Python, put together from the packages of this Debian.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is in it, with all that they need.
const PACKAGES: [&str; 6] = ["dash", "coreutils", "sed", "grep", "python3", "libc-bin"];
/// What nothing in it reads.
const LEFT_OUT: [&str; 4] = [
    "/usr/share/doc/",
    "/usr/share/man/",
    "/usr/share/locale/",
    "/usr/lib/python3.11/test/",
];

/// The image's folder, made by the first who asks.
pub(crate) fn folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("vm-image");
    if !folder.is_dir() {
        let new = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        make(new.path());
        // Two at once: the one that comes later finds it there.
        drop(fs::rename(new.keep(), &folder));
    }
    folder
}

fn make(root: &Path) {
    for name in [
        "tmp",
        "etc",
        "proc",
        "sys",
        "dev",
        "root",
        "home/user",
        "usr/bin",
        "usr/lib",
        "usr/lib64",
        "usr/sbin",
    ] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    for name in ["bin", "lib", "lib64", "sbin"] {
        symlink(format!("usr/{name}"), root.join(name)).unwrap();
    }
    fs::set_permissions(
        root.join("tmp"),
        std::os::unix::fs::PermissionsExt::from_mode(0o1777),
    )
    .unwrap();
    fs::set_permissions(root, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let users = "root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n";
    fs::write(root.join("etc/passwd"), users).unwrap();
    fs::write(root.join("etc/group"), "root:x:0:\nuser:x:1000:\n").unwrap();
    fs::copy("/etc/ld.so.cache", root.join("etc/ld.so.cache")).unwrap();
    symlink("dash", root.join("usr/bin/sh")).unwrap();
    std::os::unix::fs::chown(root.join("home/user"), Some(1000), Some(1000)).unwrap();
    for file in files() {
        // Merged folders: what a package calls /bin is /usr/bin.
        let from = Path::new(&file);
        let real = from
            .parent()
            .unwrap()
            .canonicalize()
            .unwrap()
            .join(from.file_name().unwrap());
        copy(&real, &root.join(real.strip_prefix("/").unwrap()));
    }
}

fn copy(from: &Path, to: &Path) {
    let Ok(meta) = fs::symlink_metadata(from) else {
        return;
    };
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    if meta.is_symlink() {
        drop(symlink(fs::read_link(from).unwrap(), to));
    } else if meta.is_file() {
        fs::copy(from, to).unwrap();
    }
}

fn files() -> Vec<String> {
    let mut wanted: Vec<String> = PACKAGES.map(str::to_owned).into();
    let mut seen = BTreeSet::new();
    let mut files = Vec::new();
    while let Some(package) = wanted.pop() {
        if !seen.insert(package.clone()) {
            continue;
        }
        let listed = output("dpkg", &["-L", &package]);
        let kept = |file: &&str| {
            !LEFT_OUT.iter().any(|left| file.starts_with(left))
                && file.starts_with('/')
                && file.len() > 2
        };
        files.extend(listed.lines().filter(kept).map(str::to_owned));
        let needs = output(
            "dpkg-query",
            &["-W", "-f", "${Depends}, ${Pre-Depends}", &package],
        );
        let names = needs
            .split([',', '|'])
            .filter_map(|need| need.split_whitespace().next());
        wanted.extend(names.map(|name| name.split(':').next().unwrap().to_owned()));
    }
    files
}

/// What a program says; nothing if it knows nothing.
fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}
