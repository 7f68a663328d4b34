//! `host`: the machine's own `/usr` under a clean, synthesised skeleton.
//!
//! Invariant: nothing of the host enters the skeleton but what is listed here by name, and of that only
//! files that everybody on the host may read and that hold no private key.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use skerry_sys::idmap::Ids;

use crate::digest::hex_of;
use crate::error::{ImageError, Result};
use crate::image::{Bind, Config};

/// The user programs run as when ids can be mapped, and its home.
pub(crate) const USER_ID: u32 = 1000;
/// Changes whenever the skeleton does, so that old ones are made anew.
const VERSION: &str = "skeleton 1";
/// No public file of `/etc` is larger.
const MAX_PUBLIC_BYTES: u64 = 16 * 1024 * 1024;

/// What the skeleton copies from; a change shows in these.
const WATCHED: [&str; 5] = [
    "/bin",
    "/etc/alternatives",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf.d",
    "/etc/ssl/certs",
];

/// Links of a merged `/usr`, or folders to bind where the machine has not merged them.
const USR_LINKS: &[&str] = &["bin", "sbin", "lib", "lib32", "lib64", "libx32"];
/// Where the systems we know keep the bundle of public certificate authorities.
const CA_BUNDLES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// Tables that are the same on every machine of a distribution.
const PUBLIC_FILES: &[&str] = &[
    "ld.so.cache",
    "ld.so.conf",
    "mime.types",
    "protocols",
    "services",
];

/// Folders and their modes; those of `user` follow in [`build`].
const FOLDERS: &[(&str, u32)] = &[
    ("dev", 0o755),
    ("etc", 0o755),
    ("etc/alternatives", 0o755),
    ("etc/ld.so.conf.d", 0o755),
    ("etc/pki", 0o755),
    ("etc/pki/tls", 0o755),
    ("etc/pki/tls/certs", 0o755),
    ("etc/ssl", 0o755),
    ("etc/ssl/certs", 0o755),
    ("home", 0o755),
    ("home/user", 0o755),
    ("media", 0o755),
    ("mnt", 0o755),
    ("opt", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("run/lock", 0o1777),
    ("srv", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("var", 0o755),
    ("var/cache", 0o755),
    ("var/lib", 0o755),
    ("var/local", 0o755),
    ("var/log", 0o755),
    ("var/mail", 0o755),
    ("var/opt", 0o755),
    ("var/spool", 0o755),
    ("var/tmp", 0o1777),
];

const LINKS: &[(&str, &str)] = &[
    ("etc/localtime", "/usr/share/zoneinfo/UTC"),
    ("etc/mtab", "/proc/self/mounts"),
    ("etc/os-release", "../usr/lib/os-release"),
    (
        "etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/certs/ca-certificates.crt",
    ),
    ("etc/ssl/cert.pem", "certs/ca-certificates.crt"),
    ("var/lock", "/run/lock"),
    ("var/run", "/run"),
];

const FILES: &[(&str, &str)] = &[
    ("etc/bash.bashrc", "PS1='\\u@\\h:\\w\\$ '\n"),
    (
        "etc/group",
        "root:x:0:\ndaemon:x:1:\nbin:x:2:\nsys:x:3:\ntty:x:5:\nmail:x:8:\nutmp:x:43:\nstaff:x:50:\n\
         users:x:100:\nuser:x:1000:\nnogroup:x:65534:\n",
    ),
    (
        "etc/hosts",
        "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n",
    ),
    (
        "etc/nsswitch.conf",
        "passwd: files\ngroup: files\nhosts: files dns\nnetworks: files\nprotocols: files\nservices: files\n",
    ),
    (
        "etc/profile",
        "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n\
         [ -n \"$BASH\" ] && . /etc/bash.bashrc\numask 022\n",
    ),
    ("etc/resolv.conf", ""),
    ("etc/shells", "/bin/sh\n/bin/bash\n"),
    ("etc/timezone", "Etc/UTC\n"),
];

/// When each of [`WATCHED`] was last changed, and which file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp([Option<(i64, i64, u64)>; WATCHED.len()]);

impl Stamp {
    /// Changes when something that the skeleton copies has changed on the host.
    pub(crate) fn now() -> Self {
        Self(WATCHED.map(|path| {
            let meta = fs::symlink_metadata(path).ok()?;
            Some((meta.mtime(), meta.mtime_nsec(), meta.ino()))
        }))
    }

    /// The name of the skeleton that is right for this state of the host.
    pub(crate) fn layer_name(&self, ids: Ids) -> String {
        hex_of(format!("{VERSION} {ids:?} {:?}", self.0).as_bytes())
    }
}

/// What a sandbox on `host` mounts over the skeleton.
pub(crate) fn binds() -> Vec<Bind> {
    let unmerged = USR_LINKS
        .iter()
        .map(|name| Path::new("/").join(name))
        .filter(|path| fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir()));
    std::iter::once(PathBuf::from("/usr"))
        .chain(unmerged)
        .map(|path| Bind {
            source: path.clone(),
            target: path,
            read_only: true,
        })
        .collect()
}

/// As `user` where there are several ids, else as the one there is.
pub(crate) fn config(ids: Ids) -> Config {
    let (user, home) = if ids == Ids::One {
        ("root", "/root")
    } else {
        ("user", "/home/user")
    };
    let env = [
        (
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        ),
        ("LANG", "C.UTF-8"),
    ];
    Config {
        user: user.to_owned(),
        workdir: home.to_owned(),
        env: env.map(|(k, v)| (k.to_owned(), v.to_owned())).to_vec(),
        entrypoint: Vec::new(),
        cmd: vec!["/bin/bash".to_owned()],
    }
}

/// Fills the empty folder `root` with the skeleton.
pub(crate) fn build(root: &Path, ids: Ids) -> Result<()> {
    let fail = ImageError::io("make the skeleton in", root);
    write_tree(root, ids).map_err(fail)
}

fn write_tree(root: &Path, ids: Ids) -> io::Result<()> {
    fs::set_permissions(root, Permissions::from_mode(0o755))?;
    for (name, mode) in FOLDERS {
        fs::create_dir(root.join(name))?;
        fs::set_permissions(root.join(name), Permissions::from_mode(*mode))?;
    }
    for (name, target) in LINKS {
        symlink(target, root.join(name))?;
    }
    for (name, text) in FILES {
        write_file(&root.join(name), text.as_bytes())?;
    }
    write_file(&root.join("etc/passwd"), passwd().as_bytes())?;
    for name in USR_LINKS {
        copy_usr_link(root, name)?;
    }
    for name in PUBLIC_FILES {
        copy_public(&Path::new("/etc").join(name), &root.join("etc").join(name))?;
    }
    copy_folder("/etc/ld.so.conf.d", &root.join("etc/ld.so.conf.d"))?;
    copy_folder("/etc/alternatives", &root.join("etc/alternatives"))?;
    copy_certificates(root)?;
    give(root, ids.on_disk(0))?;
    give(&root.join("home/user"), ids.on_disk(USER_ID))
}

/// Gives all of a tree to this user and group. `None`: it belongs to whom it should.
fn give(tree: &Path, owner: Option<u32>) -> io::Result<()> {
    let Some(owner) = owner else { return Ok(()) };
    lchown(tree, Some(owner), Some(owner))?;
    if fs::symlink_metadata(tree)?.is_dir() {
        for entry in fs::read_dir(tree)? {
            give(&entry?.path(), Some(owner))?;
        }
    }
    Ok(())
}

fn passwd() -> String {
    let shell = if Path::new("/bin/bash").exists() {
        "/bin/bash"
    } else {
        "/bin/sh"
    };
    format!(
        "root:*:0:0:root:/root:{shell}\n\
         daemon:*:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n\
         user:*:{USER_ID}:{USER_ID}:user:/home/user:{shell}\n\
         nobody:*:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
    )
}

/// `/bin` and its like: the same link as on the host, or a mount point for [`binds`].
fn copy_usr_link(root: &Path, name: &str) -> io::Result<()> {
    let source = Path::new("/").join(name);
    match fs::symlink_metadata(&source) {
        Ok(meta) if meta.is_symlink() => symlink(fs::read_link(&source)?, root.join(name)),
        Ok(meta) if meta.is_dir() => fs::create_dir(root.join(name)),
        _ => Ok(()),
    }
}

fn copy_certificates(root: &Path) -> io::Result<()> {
    let certs = root.join("etc/ssl/certs");
    copy_folder("/etc/ssl/certs", &certs)?;
    let bundle = certs.join("ca-certificates.crt");
    let found = CA_BUNDLES.iter().find(|path| Path::new(path).exists());
    match found {
        Some(source) if !bundle.exists() => copy_public(Path::new(source), &bundle),
        _ => Ok(()),
    }
}

/// Copies public files, and links that stay in the folder or lead into `/usr`; folders in it are left out.
fn copy_folder(source: &str, target: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(source) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        let to = target.join(entry.file_name());
        if entry.file_type()?.is_symlink() {
            let link = fs::read_link(entry.path())?;
            if link.starts_with("/usr") || link.components().count() == 1 {
                symlink(link, to)?;
            }
        } else {
            copy_public(&entry.path(), &to)?;
        }
    }
    Ok(())
}

/// Copies a file that everybody may read and that holds no key; leaves all others out.
fn copy_public(source: &Path, target: &Path) -> io::Result<()> {
    let meta = match fs::metadata(source) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    if !meta.is_file() || meta.mode() & 0o004 == 0 || meta.len() > MAX_PUBLIC_BYTES {
        return Ok(());
    }
    let bytes = fs::read(source)?;
    if holds_private_key(&bytes) {
        return Ok(());
    }
    write_file(target, &bytes)
}

fn holds_private_key(bytes: &[u8]) -> bool {
    const MARK: &[u8] = b"PRIVATE KEY-----";
    bytes.windows(MARK.len()).any(|window| window == MARK)
}

fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::write(path, bytes)?;
    fs::set_permissions(path, Permissions::from_mode(0o644))
}
