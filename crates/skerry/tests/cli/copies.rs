//! Files and folders, in and out.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use crate::bed::Bed;

#[test]
fn files_keep_their_bytes_and_modes() {
    let bed = Bed::new();
    bed.ok(&["create", "--name", "b"]);
    let here = |name: &str| bed.home.path().join(name);
    let bytes: Vec<u8> = (0..=255).cycle().take(700_003).collect();
    fs::write(here("tool"), &bytes).unwrap();
    fs::set_permissions(here("tool"), fs::Permissions::from_mode(0o750)).unwrap();
    bed.ok(&["cp", "tool", "b:/tmp"]);
    assert_eq!(
        bed.ok(&["exec", "b", "--", "stat", "-c", "%a %s", "/tmp/tool"]),
        "750 700003"
    );
    bed.ok(&["cp", "b:/tmp/tool", "back"]);
    assert!(fs::read(here("back")).unwrap() == bytes);
    assert_eq!(
        fs::metadata(here("back")).unwrap().permissions().mode() & 0o777,
        0o750
    );
    assert!(bed.run(&["cp", "b:/tmp/tool", "-"]).bytes == bytes);
    assert_eq!(bed.fed(&["cp", "-", "b:note"], b"typed").code, 0);
    assert_eq!(
        bed.ok(&["exec", "b", "--", "cat", "note"]),
        "typed",
        "a relative path starts where commands start"
    );
}

#[test]
fn folders_come_back_as_they_went() {
    let bed = Bed::new();
    bed.ok(&["create", "--name", "b"]);
    let here = |name: &str| bed.home.path().join(name);
    fs::create_dir_all(here("tree/deep/empty")).unwrap();
    fs::write(here("tree/deep/ä file"), "x").unwrap();
    symlink("ä file", here("tree/deep/link")).unwrap();
    bed.ok(&["cp", "tree", "b:new"]);
    bed.ok(&["cp", "tree", "b:new"]);
    let found = bed.ok(&[
        "exec",
        "b",
        "cd new && find . | LC_ALL=C sort && touch deep/mine",
    ]);
    assert!(
        found.contains("./deep/link\n") && found.contains("./tree/deep/link"),
        "{found}"
    );
    fs::create_dir(here("out")).unwrap();
    bed.ok(&["cp", "b:new", "out"]);
    assert_eq!(fs::read_to_string(here("out/new/deep/link")).unwrap(), "x");
    assert!(here("out/new/tree/deep/empty").is_dir());
}

#[test]
fn what_is_excluded_stays_where_it_is() {
    let bed = Bed::new();
    bed.ok(&["create", "--name", "b"]);
    let here = |name: &str| bed.home.path().join(name);
    fs::create_dir_all(here("tree/src/target")).unwrap();
    for file in ["tree/src/a.rs", "tree/src/a.log", "tree/src/target/a"] {
        fs::write(here(file), "x").unwrap();
    }
    bed.ok(&["cp", "--exclude", "target,*.log", "tree", "b:new"]);
    assert_eq!(bed.ok(&["exec", "b", "find new -type f"]), "new/src/a.rs");
    bed.ok(&["exec", "b", "touch new/mine new/src/mine"]);
    bed.ok(&["cp", "b:new", "out", "--exclude", "/mine"]);
    assert!(here("out/src/mine").exists() && !here("out/mine").exists());
}

#[test]
fn nothing_of_a_sandbox_lands_elsewhere() {
    let bed = Bed::new();
    bed.ok(&["create", "--name", "b"]);
    let here = |name: &str| bed.home.path().join(name);
    fs::create_dir(here("safe")).unwrap();
    let target = here("safe").display().to_string();
    bed.ok(&[
        "exec",
        "b",
        &format!("mkdir d && cd d && ln -s {target} out && mkfifo pipe && echo x > ok"),
    ]);
    let ran = bed.run(&["cp", "b:d", "copy"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(here("copy/ok").is_file() && !here("copy/pipe").exists());
    assert_eq!(fs::read_dir(here("safe")).unwrap().count(), 0);
}
