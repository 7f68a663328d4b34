//! Files and folders in volumes, without a sandbox.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use crate::bed::Bed;

#[test]
fn folders_go_into_a_volume_and_come_back() {
    let bed = Bed::new();
    bed.ok(&["volume", "create", "kept", "--size", "64M"]);
    let here = |name: &str| bed.home.path().join(name);
    fs::create_dir_all(here("tree/deep/empty")).unwrap();
    fs::write(here("tree/deep/ä file"), "x").unwrap();
    fs::write(here("tree/tool"), "#!/bin/sh").unwrap();
    fs::set_permissions(here("tree/tool"), fs::Permissions::from_mode(0o750)).unwrap();
    symlink("tool", here("tree/link")).unwrap();
    for _again in 0..2 {
        let put = bed.run(&["volume", "put", "kept", "tree", "/new"]);
        assert_eq!(put.code, 0, "{}", put.stderr);
        assert!(put.stderr.contains("1 links"), "{}", put.stderr);
    }
    bed.ok(&["volume", "get", "kept", "/", "out"]);
    assert_eq!(
        fs::read_to_string(here("out/new/deep/ä file")).unwrap(),
        "x"
    );
    let tool = fs::metadata(here("out/new/tool")).unwrap();
    assert_eq!(tool.permissions().mode() & 0o777, 0o750);
    assert!(here("out/new/deep/empty").is_dir() && !here("out/new/link").exists());
    assert_eq!(
        bed.fed(&["volume", "put", "kept", "-", "/note"], b"typed")
            .code,
        0
    );
    bed.ok(&["volume", "get", "kept", "/note", "note"]);
    assert_eq!(fs::read_to_string(here("note")).unwrap(), "typed");
    let absent = bed.run(&["volume", "get", "kept", "/absent", "x"]);
    assert_ne!(absent.code, 0);
    assert!(!here("x").exists());
}
