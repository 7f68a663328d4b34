//! Archives in and out, honest and hostile.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use skerry_proto::agent::*;
use tar::{Builder, EntryType, Header};

use crate::files::{at, failed};
use crate::node::*;

fn unpack(node: &mut Node, target: &Path, archive: &[u8]) -> Reply {
    let user = String::new();
    let id = node.ask(Call::TarIn(TarIn {
        path: at(target),
        user,
    }));
    node.send_body(id, archive);
    node.reply(id)
}

/// Kind, name, and content or link target.
type Raw<'a> = (EntryType, &'a str, &'a str);

/// An archive of raw entries: no library refuses to write these names.
fn archive(entries: &[Raw<'_>]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (kind, name, content) in entries {
        let mut header = Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        let is_link = kind.is_symlink() || kind.is_hard_link();
        let body = if is_link { "" } else { content };
        if is_link {
            header.as_gnu_mut().unwrap().linkname[..content.len()]
                .copy_from_slice(content.as_bytes());
        }
        header.set_size(body.len() as u64);
        header.set_cksum();
        builder.append(&header, body.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn a_tree_comes_back_as_it_went() {
    let agent = Agent::start();
    let mut node = agent.node();
    let (from, to) = (agent.dir.path().join("from"), agent.dir.path().join("to"));
    let long = "long-".repeat(30);
    fs::create_dir_all(from.join("dir").join(&long).join(&long)).unwrap();
    fs::create_dir_all(from.join(".git")).unwrap();
    fs::write(from.join(".git/skipped"), "x").unwrap();
    fs::write(from.join("dir/skipped.sh"), "x").unwrap();
    fs::write(
        from.join("dir").join(&long).join(&long).join("file"),
        "content",
    )
    .unwrap();
    fs::write(from.join("run"), vec![7; 200_000]).unwrap();
    fs::set_permissions(from.join("run"), fs::Permissions::from_mode(0o750)).unwrap();
    fs::hard_link(from.join("run"), from.join("same")).unwrap();
    symlink("/etc/passwd", from.join("link")).unwrap();
    let old = fs::File::open(from.join("run")).unwrap();
    old.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000))
        .unwrap();
    fs::set_permissions(from.join("dir"), fs::Permissions::from_mode(0o555)).unwrap();

    let exclude = vec![".git".into(), "*.sh".into(), "/dir/run".into()];
    let id = node.ask(Call::TarOut(TarOut {
        path: at(&from),
        exclude,
    }));
    let packed = node.body(id);
    assert!(matches!(node.reply(id), Reply::Done(_)));
    let reply = unpack(&mut node, &to, &packed);
    assert_eq!(reply, Reply::Done(Done { bytes: 200_007 }));
    let run = fs::metadata(to.join("run")).unwrap();
    assert_eq!(
        (run.mode() & 0o7777, run.mtime(), run.nlink()),
        (0o750, 1_000_000, 2)
    );
    assert_eq!(
        fs::read_to_string(to.join("dir").join(&long).join(&long).join("file")).unwrap(),
        "content"
    );
    assert_eq!(
        fs::read_link(to.join("link")).unwrap(),
        Path::new("/etc/passwd")
    );
    assert_eq!(fs::metadata(to.join("dir")).unwrap().mode() & 0o7777, 0o555);
    assert!(!to.join(".git").exists() && !to.join("dir/skipped.sh").exists());
}

#[test]
fn no_archive_writes_outside_of_its_target() {
    use EntryType::{Char, Directory, Fifo, Link, Regular, Symlink};
    let agent = Agent::start();
    let mut node = agent.node();
    let root = agent.dir.path();
    let out = root.join("out");
    fs::create_dir(&out).unwrap();
    fs::write(out.join("victim"), "safe").unwrap();
    let out = out.to_str().unwrap();
    let victim = format!("{out}/victim");
    let evil = format!("{out}/evil");
    let cases: Vec<(&str, Vec<Raw<'_>>)> = vec![
        ("dots", vec![(Regular, "../out/evil", "x")]),
        ("dots inside", vec![(Regular, "a/../../out/evil", "x")]),
        ("absolute", vec![(Regular, &evil, "x")]),
        (
            "through a link",
            vec![(Symlink, "l", out), (Regular, "l/evil", "x")],
        ),
        (
            "through a relative link",
            vec![(Symlink, "l", "../out"), (Regular, "l/evil", "x")],
        ),
        (
            "folder through a link",
            vec![(Symlink, "l", out), (Directory, "l/evil", "")],
        ),
        (
            "hard link to outside",
            vec![(Link, "h", &victim), (Regular, "h", "x")],
        ),
        (
            "hard link through a link",
            vec![(Symlink, "l", out), (Link, "h", "l/victim")],
        ),
        ("device", vec![(Char, "dev", "")]),
        ("pipe", vec![(Fifo, "fifo", "")]),
    ];
    for (number, (what, entries)) in cases.into_iter().enumerate() {
        let target = root.join(format!("target{number}"));
        let refusal = failed(unpack(&mut node, &target, &archive(&entries)));
        assert_eq!(refusal.errno, libc::EPERM, "{what}: {refusal:?}");
        assert!(!Path::new(&evil).exists(), "{what}");
        assert_eq!(fs::read_to_string(&victim).unwrap(), "safe", "{what}");
    }
    // A link to outside that stands where a file goes is replaced, not followed.
    let target = root.join("replaced");
    let entries = archive(&[(Symlink, "f", &victim), (Regular, "f", "mine")]);
    assert!(matches!(
        unpack(&mut node, &target, &entries),
        Reply::Done(_)
    ));
    assert_eq!(fs::read_to_string(target.join("f")).unwrap(), "mine");
    assert_eq!(fs::read_to_string(&victim).unwrap(), "safe");
    // A link that stays inside may be used.
    let entries = archive(&[
        (Directory, "d", ""),
        (Symlink, "l", "d"),
        (Regular, "l/f", "x"),
    ]);
    assert!(matches!(
        unpack(&mut node, &root.join("inside"), &entries),
        Reply::Done(_)
    ));
    assert!(root.join("inside/d/f").exists());
}

#[test]
fn damage_and_bombs_are_errors() {
    let agent = Agent::start();
    let mut node = agent.node();
    let target = agent.dir.path().join("t");
    assert!(matches!(
        unpack(&mut node, &target, &[b'x'; 2048]),
        Reply::Failed(_)
    ));
    let whole = archive(&[(EntryType::Regular, "f", &"x".repeat(5000))]);
    assert!(matches!(
        unpack(&mut node, &target, &whole[..1500]),
        Reply::Failed(_)
    ));
    let long = "n".repeat(100_000);
    let bomb = archive(&[
        (EntryType::GNULongName, "././@LongLink", &long),
        (EntryType::Regular, "f", ""),
    ]);
    let refusal = failed(unpack(&mut node, &target, &bomb));
    assert!(refusal.message.contains("65536"), "{refusal:?}");
    let deep = "d/".repeat(2000);
    let deep = archive(&[
        (EntryType::GNULongName, "././@LongLink", &deep),
        (EntryType::Directory, "f", ""),
    ]);
    assert!(matches!(
        unpack(&mut node, &target, &deep),
        Reply::Done(_) | Reply::Failed(_)
    ));
    assert!(matches!(
        node.call(Call::Remove(Remove { path: at(&target) })),
        Reply::Done(_)
    ));
}
