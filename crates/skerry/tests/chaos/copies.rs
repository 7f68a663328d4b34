//! Copies with memory: all of one instant, none with anything of another that must be its own, and the one that was copied misses nothing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use futures::future::join_all;
use serde_json::Value;
use skerry_client::api::{CreateSandbox, ForkMany, Map, MemoryWish, RunExec, Signal, TakeSnapshot};
use skerry_client::{Sandbox, shell};
use skerry_testkit::server::Launch;
use skerry_types::{ErrorCode, ExecEnd, ExecId};

use crate::output::{Transcript, seq};
use crate::world::{World, is_long, launch, rounds};

/// Counts in memory and on disk; says so if time goes back. Waits for a connection to the outside, and notes by which name it was when that ended.
const COUNTER: &str = "\
import socket, threading, time
def hear(server):
    while True:
        try:
            socket.create_connection((server, 53)).recv(1)
        except OSError:
            pass
        print(socket.gethostname(), file=open('/tmp/cut', 'a'), flush=True)
        time.sleep(0.05)
servers = [line.split()[1] for line in open('/etc/resolv.conf') if line.startswith('nameserver')]
for server in servers:
    threading.Thread(target=hear, args=(server,)).start()
last, count, log = time.monotonic(), 0, open('/tmp/log', 'w', buffering=1)
while True:
    now = time.monotonic()
    if now < last:
        open('/tmp/back', 'w').write(f'{last} {now}')
    last, count = now, count + 1
    log.write(f'{count}\\n')
    time.sleep(0.005)
";
/// What no two sandboxes have in common, a line each.
const OWN: &str = "\
od -An -N16 -tx1 /dev/urandom | tr -d ' '
python3 -c 'import random; print(random.getrandbits(128))'; python3 -c 'import uuid; print(uuid.uuid4())'
cat /etc/machine-id; hostname; cat /etc/ssh/ssh_host_ed25519_key.pub; echo address $(hostname -I)
echo boot $(cat /proc/sys/kernel/random/boot_id)";
/// Until a connection that it had as another has ended, if there was one.
const IS_CUT: &str = "! grep -q nameserver /etc/resolv.conf || until grep -qx $(hostname) /tmp/cut; do sleep 0.01; done";
/// How far a copy's clock may be from the host's, in seconds.
const CLOCK_ERROR: f64 = 0.01;

/// A server with every driver that the machine has the programs for: they may lie in the cache folder of whoever runs this.
pub(crate) fn with_tools(launch: Launch) -> Launch {
    match cache_folder() {
        Some(cache) => launch.env("XDG_CACHE_HOME", &cache.display()),
        None => launch,
    }
}

pub(crate) fn cache_folder() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"));
    cache.or_else(home)
}

/// A sandbox of each driver that keeps memory here. `vm` has a machine of its own to boot, which only a long run waits for.
pub(crate) async fn with_memory(world: &World) -> Vec<Sandbox> {
    let drivers: &[&str] = if is_long() {
        &["ns", "gvisor", "vm"]
    } else {
        &["ns", "gvisor"]
    };
    let mut found = Vec::new();
    for driver in drivers {
        let mut wishes = CreateSandbox {
            driver: Some((*driver).to_owned()),
            image: Some("host".to_owned()),
            ..CreateSandbox::default()
        };
        if *driver == "vm" {
            wishes.image = Some(small_image(world).await);
            wishes.memory_mb = Some(1280);
            wishes.disk_mb = Some(512);
        }
        let sandbox = match world.client.create(&wishes).await {
            Ok(made) => world.client.sandbox(made.sandbox_id),
            Err(error) if error.code() == Some(ErrorCode::Unsupported) => continue,
            Err(error) => panic!("{error}"),
        };
        sandbox.wait_running(60).await.unwrap();
        let request = TakeSnapshot {
            memory: MemoryWish::Required,
            ..TakeSnapshot::default()
        };
        match sandbox.take_snapshot(&request).await {
            Ok(taken) => {
                let id = taken.snapshot_id.to_string();
                world.client.remove_snapshot(&id).await.unwrap();
                found.push(sandbox);
            }
            Err(error) => assert_eq!(error.code(), Some(ErrorCode::Unsupported), "{error}"),
        }
    }
    if found.is_empty() {
        println!("skipped: no driver here keeps memory; `skerry doctor` says what is missing");
    }
    found
}

/// An image that needs nothing of this machine, as a virtual machine cannot show folders of it.
async fn small_image(world: &World) -> String {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let archive = skerry_testkit::root::small_archive(cache).unwrap();
    let image = world.client.import_image("small", archive).await.unwrap();
    image.reference
}

/// A translated machine starts ten programs a second when the host is busy, and each copy that counts makes it so.
pub(crate) async fn is_slow(sandbox: &Sandbox) -> bool {
    sandbox.get().await.unwrap().driver.as_deref() == Some("vm")
}

/// What it writes, of a script that ends well.
pub(crate) async fn ok(sandbox: &Sandbox, script: &str) -> String {
    let ran = sandbox.run(&shell(script)).await.unwrap();
    assert_eq!(ran.exit_code, Some(0), "{script}: {ran:?}");
    ran.stdout
}

/// Children of one instant, all of which run.
async fn fork(parent: &Sandbox, world: &World, count: u32) -> Vec<Sandbox> {
    let request = ForkMany {
        count,
        env: Map::new(),
        ttl_seconds: None,
        name: None,
        metadata: Map::new(),
        memory: MemoryWish::Required,
    };
    let forked = parent.fork_many(&request).await.unwrap();
    assert_eq!(forked.kind, "files+memory");
    assert!(forked.held_us.is_some_and(|us| us > 0));
    let children = forked.forks.into_iter().map(|fork| {
        let made = fork.sandbox.unwrap_or_else(|| panic!("{:?}", fork.error));
        assert_eq!(made.facts.unwrap().fork.as_deref(), Some("files+memory"));
        world.client.sandbox(fork.sandbox_id)
    });
    children.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn children_of_one_instant_share_it_and_nothing_else() {
    let world = World::launch(with_tools(launch())).await;
    for parent in with_memory(&world).await {
        plant_key(&parent).await;
        start_counter(&parent).await;
        let mut own = BTreeSet::new();
        let mut began = BTreeSet::new();
        let mut left = rounds(5, 100) as u32;
        // As many as there is memory for on a small machine; then few, since what they count keeps translated machines from all else.
        let mut at_once = 20;
        while left > 0 {
            let count = left.min(at_once);
            left -= count;
            at_once = 5;
            let children = fork(&parent, &world, count).await;
            began.clear();
            for child in &children {
                let created = child.events(None).await.unwrap();
                began.insert(created.events[0].data["forked_at_seq"].to_string());
            }
            assert_eq!(began.len(), 1, "not of one instant: {began:?}");
            check_held(&parent, began.first().unwrap().parse().unwrap()).await;
            // That of the parent stood with it.
            for one in children.iter().chain([&parent]) {
                check_clock(one).await;
            }
            join_all(children.iter().map(counts_on)).await;
            join_all(children.iter().map(|child| ok(child, IS_CUT))).await;
            for child in children {
                for value in its_own(&child).await {
                    assert!(own.insert(value.clone()), "{value} of two");
                }
                child.delete().await.unwrap();
            }
        }
        for value in its_own(&parent).await {
            assert!(own.insert(value.clone()), "{value} of parent and child");
        }
        counts_on(&parent).await;
    }
    world.end().await;
}

/// Gives it a host key for SSH, which no copy may keep.
pub(crate) async fn plant_key(sandbox: &Sandbox) {
    let make =
        "mkdir -p /etc/ssh && ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key";
    let plant = RunExec {
        user: Some("root".to_owned()),
        ..shell(make)
    };
    let planted = sandbox.run(&plant).await.unwrap();
    assert_eq!(planted.exit_code, Some(0), "{planted:?}");
}

/// Has a program count in it.
pub(crate) async fn start_counter(sandbox: &Sandbox) {
    let counter = RunExec {
        // Longer than any test.
        timeout_seconds: Some(7200),
        ..shell(format!("python3 -c \"{COUNTER}\""))
    };
    sandbox.start(&counter).await.unwrap();
    ok(sandbox, "until [ -s /tmp/log ]; do sleep 0.01; done").await;
}

/// The time for which the original is said to have stood is what the steps took for which it did, and not less.
async fn check_held(original: &Sandbox, after: u64) {
    let mut events = original.follow_events(after);
    let taken = loop {
        let event = events.next().await.unwrap().unwrap();
        if event.kind == "sandbox.snapshot" {
            break event.data;
        }
    };
    let steps = taken["steps"].as_array().unwrap();
    let stood = |name: &Value| name != "write the memory" && name != "total";
    let each = steps.iter().filter(|step| stood(&step["name"]));
    let took: u64 = each.map(|step| step["us"].as_u64().unwrap()).sum();
    let held = taken["held_us"].as_u64().unwrap();
    assert!(0 < took && took <= held, "held for {held} us: {steps:?}");
}

/// Its program has lost no step and goes on, and its time never went back.
pub(crate) async fn counts_on(sandbox: &Sandbox) {
    let more = "\
        n=$(wc -l </tmp/log) end=$(($(date +%s) + 120)); until [ $(wc -l </tmp/log) -gt $((n + 3)) ]; do \
        [ $(date +%s) -lt $end ] || { cat /proc/[0-9]*/stat; exit 1; }; sleep 0.01; done";
    ok(sandbox, more).await;
    let all =
        "n=$(wc -l </tmp/log); [ \"$(head -n $n /tmp/log | sha1sum)\" = \"$(seq $n | sha1sum)\" ]";
    ok(sandbox, all).await;
    ok(sandbox, "[ ! -e /tmp/back ] || { cat /tmp/back; exit 1; }").await;
}

/// Its clock says what the host's does.
pub(crate) async fn check_clock(sandbox: &Sandbox) {
    let now = || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.unwrap().as_secs_f64()
    };
    for _ in 0..5 {
        let before = now();
        let said = ok(sandbox, "date +%s.%N").await;
        let after = now();
        let clock: f64 = said.trim().parse().unwrap();
        assert!(
            before - CLOCK_ERROR < clock && clock < after + CLOCK_ERROR,
            "its clock says {clock} between {before} and {after}"
        );
    }
}

/// What must be its own.
pub(crate) async fn its_own(sandbox: &Sandbox) -> Vec<String> {
    let said = ok(sandbox, OWN).await;
    let mut lines: Vec<String> = said.lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 8, "{said}");
    // One without a network has no address, and one on the host's kernel was booted with it.
    let facts = sandbox.get().await.unwrap().facts.unwrap();
    lines.retain(|line| {
        line != "address" && (facts.isolation != "namespace" || !line.starts_with("boot "))
    });
    lines
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn output_across_a_fork_is_whole_in_parent_and_children() {
    let world = World::launch(with_tools(launch())).await;
    for parent in with_memory(&world).await {
        let forks = if is_slow(&parent).await {
            1
        } else {
            rounds(1, 5)
        };
        // Enough to go on beyond the last fork: a line takes some milliseconds.
        let lines = 600 * forks;
        let ticker = format!(
            "i=0; while [ $i -lt {lines} ]; do i=$((i+1)); echo $i; sleep 0.001; done; exit 7"
        );
        let ticker = RunExec {
            timeout_seconds: Some(1800),
            ..shell(&ticker)
        };
        let exec = parent.start(&ticker).await.unwrap().exec_id;
        let heard = {
            let parent = parent.clone();
            tokio::spawn(async move { Transcript::read(&parent, exec).await })
        };
        let mut children = Vec::new();
        for _ in 0..forks {
            children.extend(fork(&parent, &world, 2).await);
        }
        let heard = heard.await.unwrap();
        assert!(
            heard.stdout == seq(1..=lines),
            "the parent's reader missed something"
        );
        assert_eq!(heard.exit.clone().unwrap().end, ExecEnd::Exited { code: 7 });
        for child in children {
            let stitched = stitched(&parent, &child, exec).await;
            assert!(
                stitched == seq(1..=lines),
                "a child's output does not go on where it was"
            );
            child.delete().await.unwrap();
        }
    }
    world.end().await;
}

/// What the parent's record has up to the fork, and the child's from there on.
async fn stitched(parent: &Sandbox, child: &Sandbox, exec: ExecId) -> Vec<u8> {
    let mut of_child = child.follow(exec, 0);
    let mut rest = Transcript::default();
    let first = of_child
        .next()
        .await
        .unwrap()
        .expect("it goes on in the child");
    rest.last_seq = first.seq - 1;
    let mut whole = Transcript::default();
    let mut of_parent = parent.follow(exec, 0);
    while whole.last_seq < rest.last_seq {
        whole.take(of_parent.next().await.unwrap().unwrap());
    }
    rest.take(first);
    while let Some(event) = of_child.next().await.unwrap() {
        rest.take(event);
    }
    assert_eq!(rest.exit.unwrap().end, ExecEnd::Exited { code: 7 });
    [whole.stdout, rest.stdout].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory_goes_back_in_place_and_the_record_goes_on() {
    let world = World::launch(with_tools(launch())).await;
    for sandbox in with_memory(&world).await {
        let count = "i=0; while :; do i=$((i+1)); echo $i; echo $i >/tmp/n; sleep 0.01; done";
        let exec = sandbox.start(&shell(count)).await.unwrap().exec_id;
        let until =
            |n: u32| format!("until [ $(cat /tmp/n || echo 0) -gt {n} ]; do sleep 0.01; done");
        ok(&sandbox, &until(20)).await;
        let request = TakeSnapshot {
            memory: MemoryWish::Required,
            ..TakeSnapshot::default()
        };
        let taken = sandbox.take_snapshot(&request).await.unwrap();
        ok(&sandbox, &until(200)).await;
        sandbox.pause().await.unwrap();
        for _ in 0..2 {
            sandbox
                .roll_back(&taken.snapshot_id.to_string())
                .await
                .unwrap();
            let old = Transcript::read(&sandbox, exec).await;
            assert_eq!(old.exit.unwrap().end, ExecEnd::SandboxStopped);
            let execs = sandbox.execs(None).await.unwrap().execs;
            let open: Vec<_> = execs.iter().filter(|exec| exec.end.is_none()).collect();
            assert_eq!(open.len(), 1, "{execs:?}");
            let mut heard = sandbox.follow(open[0].exec_id, 0);
            let said = heard.next().await.unwrap().unwrap().data.unwrap();
            let first: u32 = said.lines().next().unwrap().parse().unwrap();
            assert!((20..200).contains(&first), "it goes on at {first}");
            ok(&sandbox, &until(first + 10)).await;
        }
        world
            .client
            .remove_snapshot(&taken.snapshot_id.to_string())
            .await
            .unwrap();
        counts_to_the_end(&sandbox).await;
    }
    world.end().await;
}

/// What goes on can be ended like everything else.
async fn counts_to_the_end(sandbox: &Sandbox) {
    let execs = sandbox.execs(None).await.unwrap().execs;
    let open = execs
        .iter()
        .find(|exec| exec.end.is_none())
        .unwrap()
        .exec_id;
    sandbox.signal(open, Signal::Number(9)).await.unwrap();
    let heard = Transcript::read_from_first(sandbox, open).await;
    assert!(matches!(
        heard.exit.unwrap().end,
        ExecEnd::Signaled { signal: 9, .. }
    ));
}
