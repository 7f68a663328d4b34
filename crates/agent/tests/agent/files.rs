//! File work: entries, transfers, changes.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use bytes::Bytes;
use skerry_proto::agent::to_agent::Body as To;
use skerry_proto::agent::*;

use crate::node::*;

pub(crate) fn at(path: &Path) -> Bytes {
    b(path.to_str().unwrap())
}

pub(crate) fn failed(reply: Reply) -> Failed {
    match reply {
        Reply::Failed(failed) => failed,
        other => panic!("not refused: {other:?}"),
    }
}

fn write(node: &mut Node, path: &Path, mode: u32, body: &[u8]) -> Reply {
    let user = "4242:4343".into();
    let id = node.ask(Call::Write(Write {
        path: at(path),
        mode,
        user,
    }));
    node.send_body(id, body);
    node.reply(id)
}

fn read(node: &mut Node, path: &Path, offset: u64, limit: u64) -> Vec<u8> {
    let id = node.ask(Call::Read(Read {
        path: at(path),
        offset,
        limit,
    }));
    node.body(id)
}

#[test]
fn any_size_makes_the_round_trip() {
    let agent = Agent::start();
    let mut node = agent.node();
    for size in [0, 1, 65_535, 65_536, 65_537, 20_000_000] {
        let body: Vec<u8> = (0..size)
            .map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        let path = agent.dir.path().join(format!("new/dir/{size}"));
        let Reply::Entry(entry) = write(&mut node, &path, 0, &body) else {
            panic!("not written");
        };
        assert_eq!(
            (entry.size, entry.mode, entry.uid, entry.gid),
            (size.into(), 0o644, 4242, 4343)
        );
        assert!(read(&mut node, &path, 0, 0) == body, "{size}");
    }
    let path = agent.dir.path().join("new/dir/65537");
    assert_eq!(read(&mut node, &path, 65_530, 5).len(), 5);
    assert_eq!(
        fs::metadata(agent.dir.path().join("new")).unwrap().uid(),
        4242
    );
}

#[test]
fn replacing_keeps_what_the_file_was_and_breaking_off_changes_nothing() {
    let agent = Agent::start();
    let mut node = agent.node();
    let path = agent.dir.path().join("file");
    let link = agent.dir.path().join("link");
    fs::write(&path, "old").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o751)).unwrap();
    symlink(&path, &link).unwrap();
    write(&mut node, &link, 0, b"new");
    let found = fs::metadata(&path).unwrap();
    assert_eq!(
        (
            fs::read_to_string(&path).unwrap().as_str(),
            found.mode() & 0o7777,
            found.uid()
        ),
        ("new", 0o751, 0)
    );
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());

    let names = || fs::read_dir(agent.dir.path()).unwrap().count();
    let before = names();
    for end in ["cancel", "cut"] {
        let call = Write {
            path: at(&path),
            mode: 0,
            user: String::new(),
        };
        let id = node.ask(Call::Write(call));
        let data = Bytes::from_static(b"half");
        node.send(To::Data(Data {
            id,
            data,
            eof: false,
        }));
        node.until("credit", |node| node.credit.contains_key(&id));
        if end == "cancel" {
            node.send(To::Cancel(Cancel { id }));
        } else {
            node.reconnect();
        }
        let limit = std::time::Instant::now() + PATIENCE;
        while names() != before {
            assert!(
                std::time::Instant::now() < limit,
                "{end} leaves a file behind"
            );
            std::thread::yield_now();
        }
        node.credit.clear();
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), "new");
    assert_eq!(
        failed(write(&mut node, agent.dir.path(), 0, b"x")).errno,
        libc::EISDIR
    );
    assert_eq!(
        failed(write(&mut node, Path::new("/dev/null"), 0, b"x")).errno,
        libc::EINVAL
    );
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
}

#[test]
fn a_slow_reader_is_waited_for_and_others_go_on() {
    let agent = Agent::start();
    let mut node = agent.node();
    let path = agent.dir.path().join("big");
    fs::File::create(&path)
        .unwrap()
        .set_len(100_000_000)
        .unwrap();
    node.acks = false;
    let ids: Vec<_> = (0..3)
        .map(|_| {
            node.ask(Call::Read(Read {
                path: at(&path),
                offset: 0,
                limit: 0,
            }))
        })
        .collect();
    node.until("windows", |node| {
        ids.iter().all(|id| {
            node.data
                .get(id)
                .is_some_and(|(data, _)| data.len() == CREDIT_BYTES as usize)
        })
    });
    assert!(matches!(node.call(Call::Health(Health {})), Reply::Done(_)));
    assert!(agent.memory("Rss") < 4000, "{} kB", agent.memory("Rss"));
    for id in ids {
        node.send(To::Cancel(Cancel { id }));
    }
    assert!(matches!(
        node.call(Call::Stat(Stat { path: at(&path) })),
        Reply::Entry(_)
    ));
}

#[test]
fn lists_are_sorted_paged_and_as_deep_as_asked() {
    let agent = Agent::start();
    let mut node = agent.node();
    let dir = agent.dir.path().join("many");
    fs::create_dir_all(dir.join("0-sub/deep")).unwrap();
    for i in 0..500 {
        fs::write(dir.join(format!("f{i:03}")), "x").unwrap();
    }
    symlink("nowhere", dir.join("z-link")).unwrap();
    let (mut names, mut after) = (Vec::new(), Bytes::new());
    loop {
        let list = List {
            path: at(&dir),
            depth: 2,
            after: after.clone(),
            limit: 200,
        };
        let Reply::Entries(page) = node.call(Call::List(list)) else {
            panic!("no list");
        };
        assert!(page.entries.len() <= 200);
        after = page.entries.last().unwrap().path.clone();
        names.extend(page.entries);
        if !page.more {
            break;
        }
    }
    assert_eq!(names.len(), 503);
    assert!(names.is_sorted_by_key(|entry| entry.path.clone()));
    assert_eq!(
        (names[1].path.clone(), names[1].kind),
        (at(&dir.join("0-sub/deep")), 2)
    );
    let link = names.last().unwrap();
    assert_eq!((link.kind, &link.target[..]), (3, &b"nowhere"[..]));
    let itself = List {
        path: at(&dir.join("f000")),
        limit: 10,
        ..List::default()
    };
    assert!(
        matches!(node.call(Call::List(itself)), Reply::Entries(page) if page.entries.len() == 1)
    );
    let missing = List {
        path: at(&dir.join("no")),
        ..List::default()
    };
    assert_eq!(failed(node.call(Call::List(missing))).errno, libc::ENOENT);
}

#[test]
fn directories_are_made_moved_and_removed_without_following_links() {
    let agent = Agent::start();
    let mut node = agent.node();
    let dir = agent.dir.path();
    let made = MakeDir {
        path: at(&dir.join("a/b/c")),
        mode: 0o700,
        user: "4242".into(),
    };
    for _ in 0..2 {
        assert!(matches!(
            node.call(Call::MakeDir(made.clone())),
            Reply::Done(_)
        ));
    }
    let found = fs::metadata(dir.join("a/b/c")).unwrap();
    assert_eq!((found.mode() & 0o7777, found.uid()), (0o700, 4242));
    let moved = Move {
        from: at(&dir.join("a")),
        to: at(&dir.join("m")),
        user: String::new(),
    };
    assert!(matches!(node.call(Call::Move(moved)), Reply::Done(_)));

    fs::create_dir(dir.join("outside")).unwrap();
    fs::write(dir.join("outside/kept"), "x").unwrap();
    symlink(dir.join("outside"), dir.join("m/b/out")).unwrap();
    // Deeper than any path can say, and than a small stack can follow.
    fs::create_dir(dir.join("m/deep")).unwrap();
    let deep = node.run(ExecStart {
        cwd: at(&dir.join("m/deep")),
        ..command(&["python3", "-c", "import os\nfor i in range(3000):\n  os.mkdir('d'); open('f','w').close(); os.chdir('d')"])
    });
    assert_eq!(deep.ended(), Ended::Code(0), "{deep:?}");
    let reply = node.call(Call::Remove(Remove {
        path: at(&dir.join("m")),
    }));
    assert!(matches!(reply, Reply::Done(_)), "{reply:?}");
    assert!(!dir.join("m").exists() && dir.join("outside/kept").exists());
    for root in ["/", "//", "/tmp/..", "/."] {
        assert_eq!(
            failed(node.call(Call::Remove(Remove { path: b(root) }))).errno,
            libc::EPERM
        );
    }
    let relative = failed(node.call(Call::Stat(Stat {
        path: b("etc/passwd"),
    })));
    assert_eq!(relative.errno, libc::EINVAL);
    let long = Bytes::from(vec![b'/'; 5000]);
    assert_eq!(
        failed(node.call(Call::Stat(Stat { path: long }))).errno,
        libc::ENAMETOOLONG
    );
}

#[test]
fn changes_are_told_also_in_directories_made_later() {
    let agent = Agent::start();
    let mut node = agent.node();
    let dir = agent.dir.path().join("watched");
    fs::create_dir_all(dir.join("sub")).unwrap();
    let id = node.ask(Call::Watch(Watch {
        path: at(&dir),
        recursive: true,
    }));
    assert!(matches!(node.reply(id), Reply::Done(_)));
    let told = |kind, path: &Path| {
        let path = at(path);
        move |node: &Node| {
            node.watched
                .iter()
                .any(|w| w.kind == kind && w.path == path)
        }
    };
    fs::write(dir.join("sub/f"), "x").unwrap();
    node.until("written", told(2, &dir.join("sub/f")));
    fs::create_dir(dir.join("later")).unwrap();
    fs::write(dir.join("later/g"), "x").unwrap();
    node.until("created", told(1, &dir.join("later/g")));
    fs::rename(dir.join("later"), dir.join("renamed")).unwrap();
    node.until("renamed away", told(4, &dir.join("later")));
    node.until("renamed here", told(5, &dir.join("renamed")));
    fs::remove_file(dir.join("renamed/g")).unwrap();
    node.until("removed", told(3, &dir.join("renamed/g")));
    node.send(To::Cancel(Cancel { id }));
}

#[test]
fn a_tree_that_comes_at_once_is_told_whole_and_costs_no_memory() {
    const FILES: usize = 50_000;
    let agent = Agent::start();
    let mut node = agent.node();
    let (dir, tree) = (agent.dir.path().join("watched"), agent.dir.path().join("t"));
    fs::create_dir_all(&dir).unwrap();
    for folder in 0..10 {
        let folder = tree.join(format!("{folder}/{}", "long".repeat(50)));
        fs::create_dir_all(&folder).unwrap();
        for file in 0..FILES / 10 {
            fs::write(folder.join(file.to_string()), "").unwrap();
        }
    }
    let id = node.ask(Call::Watch(Watch {
        path: at(&dir),
        recursive: true,
    }));
    assert!(matches!(node.reply(id), Reply::Done(_)));
    fs::rename(&tree, dir.join("t")).unwrap();
    node.until("all", |node| node.watched.len() == FILES + 21);
    let unique: std::collections::HashSet<_> = node.watched.iter().map(|w| &w.path).collect();
    assert_eq!(unique.len(), FILES + 21);
    let peak = agent.peak_memory();
    assert!(peak < 8000, "{peak} kB");
}

#[test]
fn processes_are_listed() {
    let agent = Agent::start();
    let mut node = agent.node();
    let id = node.start(command(&["sleep", "12345"]));
    node.until("start", |node| node.execs[&id].pid.is_some());
    let pid = node.execs[&id].pid.unwrap();
    let Reply::Processes(list) = node.call(Call::ListProcesses(ListProcesses {})) else {
        panic!("no list");
    };
    let found = list
        .processes
        .iter()
        .find(|process| process.pid == pid)
        .unwrap();
    assert_eq!(found.argv, [b("sleep"), b("12345")]);
    assert_eq!(found.ppid, agent.process.id());
    node.signal(&id, 9);
}

#[test]
fn what_a_program_swaps_meanwhile_leads_nowhere_else() {
    let agent = Agent::start();
    let mut node = agent.node();
    let dir = agent.dir.path();
    fs::create_dir_all(dir.join("home")).unwrap();
    fs::create_dir_all(dir.join("outside")).unwrap();
    let path = dir.join("home/file");
    let id = node.ask(Call::Write(Write {
        path: at(&path),
        mode: 0,
        user: String::new(),
    }));
    let half = Bytes::from_static(b"half");
    node.send(To::Data(Data {
        id,
        data: half,
        eof: false,
    }));
    let limit = std::time::Instant::now() + PATIENCE;
    while fs::read_dir(dir.join("home")).unwrap().count() == 0 {
        assert!(std::time::Instant::now() < limit, "nothing is written");
        std::thread::yield_now();
    }
    fs::rename(dir.join("home"), dir.join("moved")).unwrap();
    symlink(dir.join("outside"), dir.join("home")).unwrap();
    node.send_body(id, b" whole");
    assert!(matches!(node.reply(id), Reply::Entry(_)));
    assert_eq!(
        fs::read_to_string(dir.join("moved/file")).unwrap(),
        "half whole"
    );
    assert_eq!(fs::read_dir(dir.join("outside")).unwrap().count(), 0);
}

#[test]
fn new_content_does_not_get_the_powers_of_the_old() {
    let agent = Agent::start();
    let mut node = agent.node();
    let path = agent.dir.path().join("tool");
    fs::write(&path, "old").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o6755)).unwrap();
    write(&mut node, &path, 0, b"new");
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn nobody_reads_the_agent_itself() {
    let agent = Agent::start();
    let mut node = agent.node();
    let pid = agent.process.id();
    let link = agent.dir.path().join("link");
    symlink("/proc/self/environ", &link).unwrap();
    let paths = [
        "/proc/self/mem".to_owned(),
        "/proc/thread-self/maps".to_owned(),
        format!("/proc/{pid}/environ"),
        format!("/proc/{pid}/task/{pid}/maps"),
        link.to_str().unwrap().to_owned(),
    ];
    for path in paths {
        let reply = node.call(Call::Read(Read {
            path: b(&path),
            ..Read::default()
        }));
        assert_eq!(failed(reply).errno, libc::EACCES, "{path}");
    }
    assert!(!read(&mut node, Path::new("/proc/meminfo"), 0, 0).is_empty());
    let other = format!("/proc/{}/status", std::process::id());
    assert!(!read(&mut node, Path::new(&other), 0, 0).is_empty());
}

#[test]
fn writing_into_a_file_goes_on_with_it_and_its_attributes_are_told() {
    let agent = Agent::start();
    let mut node = agent.node();
    let path = agent.dir.path().join("below/file");
    let other = agent.dir.path().join("other");
    let mut overwrite = |path: &Path, attributes: &[(&str, &str)], body: &[u8]| {
        let attributes = attributes.iter().map(|(name, value)| Attribute {
            name: b(name),
            value: b(value),
        });
        let id = node.ask(Call::Overwrite(Overwrite {
            path: at(path),
            user: "4242:4343".into(),
            attribute_prefix: "user.note.".into(),
            attributes: attributes.collect(),
        }));
        node.send_body(id, body);
        node.reply(id)
    };
    overwrite(
        &path,
        &[("user.note.a", "1"), ("user.note.b", "2")],
        b"a long text",
    );
    fs::hard_link(&path, &other).unwrap();
    rustix::fs::setxattr(&path, "user.own", b"3", rustix::fs::XattrFlags::empty()).unwrap();
    let Reply::Entry(entry) = overwrite(&path, &[("user.note.c", "4")], b"short") else {
        panic!("not written");
    };
    assert_eq!(
        (entry.size, entry.mode, entry.uid, entry.gid),
        (5, 0o644, 4242, 4343)
    );
    assert_eq!(
        fs::read(&other).unwrap(),
        b"short",
        "a link goes on with it"
    );
    let mut told: Vec<_> = entry
        .attributes
        .iter()
        .map(|a| (&a.name[..], &a.value[..]))
        .collect();
    told.sort_unstable();
    assert_eq!(
        told,
        [(&b"user.note.c"[..], &b"4"[..]), (b"user.own", b"3")]
    );

    let refused = failed(overwrite(&path, &[("user.own", "5")], b""));
    assert_eq!(refused.errno, libc::EPERM, "none but below the prefix");
    failed(overwrite(Path::new("/proc/sys/kernel/hostname"), &[], b"x"));
    failed(overwrite(agent.dir.path(), &[], b"x"));
}

#[test]
fn users_are_found_and_links_are_followed_to_their_end() {
    let agent = Agent::start();
    let mut node = agent.node();
    let ask = |node: &mut Node, user: &str| {
        let id = node.ask(Call::FindUser(FindUser { user: user.into() }));
        node.reply(id)
    };
    let Reply::User(root) = ask(&mut node, "") else {
        panic!("no root");
    };
    assert_eq!(
        (root.name.as_str(), &root.home[..]),
        ("root", &b"/root"[..])
    );
    assert_eq!(failed(ask(&mut node, "nobody-here")).errno, libc::ENOENT);

    let (file, link) = (agent.dir.path().join("file"), agent.dir.path().join("link"));
    fs::write(&file, "").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    symlink("file", agent.dir.path().join("between")).unwrap();
    symlink("between", &link).unwrap();
    let mut stat = || {
        let id = node.ask(Call::Stat(Stat { path: at(&link) }));
        match node.reply(id) {
            Reply::Entry(entry) => entry.resolved,
            other => panic!("no entry: {other:?}"),
        }
    };
    let path = at(&file.canonicalize().unwrap());
    let end = Resolved {
        path,
        kind: 1,
        mode: 0o600,
    };
    assert_eq!(stat(), Some(end));
    fs::remove_file(&file).unwrap();
    assert_eq!(stat(), None);
}
