//! What a guest that broke out of its machine would find: a process without rights, in a root with nothing in it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use skerry_driver::Driver;
use skerry_types::SandboxId;

use crate::bed::{Bed, spec, test};

/// The process that runs a sandbox's machine.
fn machine(id: SandboxId) -> PathBuf {
    let name = format!("skerry-vm:{}", id.label());
    let mut processes = fs::read_dir("/proc").unwrap().flatten();
    let found = processes.find(|process| {
        let line = fs::read_to_string(process.path().join("cmdline")).unwrap_or_default();
        line.split('\0').next() == Some(name.as_str())
    });
    found.expect("the machine runs").path()
}

fn status(process: &Path, key: &str) -> String {
    let text = fs::read_to_string(process.join("status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    line.unwrap().trim_start_matches(':').trim().to_owned()
}

fn names(folder: PathBuf) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap().flatten();
    entries
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect()
}

/// Every file of its own that the machine's user may write.
fn writable(folder: &Path, uid: u32) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap().flatten();
    let owned = entries.filter(|entry| entry.metadata().unwrap().uid() == uid);
    owned
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[test]
fn a_machine_has_no_rights_and_sees_nothing_of_the_host() {
    test(async |bed: Bed| {
        let driver = bed.driver(None).await;
        let (one, other) = (spec(), spec());
        driver.create(&one).await.unwrap();
        driver.create(&other).await.unwrap();
        let process = machine(one.id);
        for (key, wanted) in [
            ("CapPrm", "0000000000000000"),
            ("CapEff", "0000000000000000"),
            ("NoNewPrivs", "1"),
            ("Seccomp", "2"),
            ("Groups", ""),
        ] {
            assert_eq!(status(&process, key), wanted, "{key}");
        }
        let uid: u32 = status(&process, "Uid")
            .split('\t')
            .next()
            .unwrap()
            .parse()
            .unwrap();
        assert_ne!(uid, 0);
        assert_ne!(status(&process, "Uid"), status(&machine(other.id), "Uid"));
        let root = process.join("root");
        let own = ["dev", "lib", "lib64", "m", "qemu", "usr"];
        assert_eq!(names(root.join(".")), set(&own));
        assert_eq!(names(root.join("dev")), set(&[]));
        assert_eq!(names(root.join("usr")), set(&["lib", "lib64"]));
        assert_eq!(
            writable(&root.join("m"), uid),
            set(&["devices.out", "disk"])
        );
        for kind in ["pid", "mnt", "net", "ipc", "uts"] {
            let namespace = |process: &Path| fs::read_link(process.join("ns").join(kind)).unwrap();
            assert_ne!(
                namespace(&process),
                namespace(Path::new("/proc/self")),
                "{kind}"
            );
            assert_ne!(namespace(&process), namespace(&machine(other.id)), "{kind}");
        }
        driver.destroy(one.id).await.unwrap();
        driver.destroy(other.id).await.unwrap();
    });
}
