//! Full disks: a sandbox's own, and the node's. The error is clear, nothing that was told is lost, and all goes on when there is space again.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};

use serde_json::json;
use skerry_client::api::{CreateSandbox, Signal};
use skerry_client::{Sandbox, shell};
use skerry_testkit::host;
use skerry_testkit::server::Launch;
use skerry_types::{ErrorCode, ExecEnd, ExecId};

use crate::api::{Answer, Call};
use crate::output::Transcript;
use crate::world::{NOBODY, World, launch};

const FILL: &str = "head -c 300M /dev/zero > fill; echo code $?; ls -s fill | cut -d' ' -f1";
/// A data folder of its own, which nobody else sees.
const SMALL: &str = "mount -t tmpfs -o size=1g,mode=700,uid=$(stat -c %u \"$SKERRY_DATA_DIR\") none \"$SKERRY_DATA_DIR\" && exec \"$@\"";
/// Takes whatever room there is until it may end, and looks whether it still has what it wrote first.
const GREEDY: &str = "trap enough=1 TERM; head -c 20M /dev/urandom > kept; sha256sum kept > sums; echo ready; \
                      until [ $enough ]; do head -c 1M /dev/zero >> fill; done 2> /dev/null; sha256sum -c sums";
/// The same until nothing fits any more: where sandboxes share the folder with the records, one that never gives up leaves none any room.
const MODEST: &str = "head -c 20M /dev/urandom > kept; sha256sum kept > sums; echo ready; \
                      while head -c 1M /dev/zero >> fill; do :; done; sha256sum -c sums";
/// Writes as fast as it can until it may end.
const PRODUCER: &str = "trap end=1 TERM; until [ $end ]; do i=$((i+1)); echo \"$i ..............................................................\"; done; exit 4";
const TERM: i32 = 15;
/// Commands whose ends take more than is left of a block of the record.
const DOOMED: usize = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_full_sandbox_hurts_only_itself() {
    let world = World::start().await;
    let small = CreateSandbox {
        disk_mb: Some(128),
        ..CreateSandbox::default()
    };
    let (full, other) = (world.make(&small).await, world.make(&small).await);
    let quota = full.get().await.unwrap().facts.unwrap().disk_quota;
    assert!(quota, "root has quotas wherever the pool works");
    let filled = full.run(&shell(FILL)).await.unwrap();
    assert!(filled.stdout.starts_with("code 1\n"), "{filled:?}");
    let kib: u64 = filled.stdout.lines().nth(1).unwrap().parse().unwrap();
    assert!(kib <= 128 * 1024, "{kib} KiB in a sandbox of 128 MiB");
    // It still runs and its commands are still recorded.
    let said = full
        .run(&shell("echo still here; echo more > more"))
        .await
        .unwrap();
    assert_eq!(said.stdout, "still here\n");
    let wrote = other
        .run(&shell("head -c 50M /dev/zero > mine && echo fine"))
        .await
        .unwrap();
    assert_eq!(wrote.stdout, "fine\n", "{wrote:?}");
    let again = full
        .run(&shell("rm -f fill && echo more > more && cat more"))
        .await
        .unwrap();
    assert_eq!(again.stdout, "more\n", "{again:?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_full_node_refuses_and_forgets_nothing() {
    if rustix::process::geteuid().is_root() {
        a_full_node(small(), GREEDY).await;
    }
}

/// As an ordinary user, whose sandboxes keep their files in the folder itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_full_node_without_privilege_refuses_and_forgets_nothing() {
    if rustix::process::geteuid().is_root() {
        a_full_node(small().uid(NOBODY), MODEST).await;
    }
}

/// On a small disk of its own, which only root can make.
fn small() -> Launch {
    launch().wrapper(["unshare", "-m", "sh", "-c", SMALL, "sh"])
}

async fn a_full_node(launch: Launch, greed: &str) {
    let world = World::launch(launch).await;
    let (sandbox, greedy) = (world.sandbox().await, world.sandbox().await);
    let doomed = world.sandbox().await;
    let mut sleeping = Vec::new();
    for _ in 0..DOOMED {
        sleeping.push(
            doomed
                .start(&shell("sleep infinity"))
                .await
                .unwrap()
                .exec_id,
        );
    }
    let heart = world.server.agent(&doomed.id().label()).unwrap();
    let exec = sandbox.start(&shell(PRODUCER)).await.unwrap().exec_id;
    let mut heard = Transcript::default();
    let mut events = sandbox.follow(exec, 0);
    while heard.stdout.len() < 100_000 {
        heard.take(events.next().await.unwrap().unwrap());
    }
    let filling = greedy.start(&shell(greed)).await.unwrap().exec_id;
    events = greedy.follow(filling, 0);
    events.next().await.unwrap().expect("it is ready");
    drop(events);
    let ballast = world.server.path("ballast");
    fill(&ballast);
    world
        .eventually("the disk is full", async || {
            let refused = start(&world, &sandbox).await;
            (refused.text("error") == ErrorCode::DiskFull.as_str()).then_some(())
        })
        .await;
    let refused = create(&world).await;
    assert_eq!(
        refused.text("error"),
        ErrorCode::DiskFull.as_str(),
        "{refused:?}"
    );
    let known = sandbox.exec(exec).await.unwrap();
    assert_eq!(known.end, None, "a full disk is no end of a command");
    // That one dies now is on record later.
    host::signal(heart, "KILL");
    world
        .eventually("it is known to have died", async || {
            let last = doomed.exec(sleeping[DOOMED - 1]).await.unwrap();
            last.end.is_some().then_some(())
        })
        .await;
    fs::remove_file(&ballast).unwrap();
    for exec in sleeping {
        let told = Transcript::read(&doomed, exec).await;
        assert_eq!(told.exit.unwrap().end, ExecEnd::SandboxStopped);
    }
    world
        .eventually("there is space again", async || {
            start(&world, &sandbox).await.is_success().then_some(())
        })
        .await;
    sandbox.signal(exec, Signal::Number(TERM)).await.unwrap();
    check(&sandbox, exec, &mut heard).await;
    if greed == GREEDY {
        greedy.signal(filling, Signal::Number(TERM)).await.unwrap();
    }
    let filled = Transcript::read(&greedy, filling).await;
    assert_eq!(
        String::from_utf8_lossy(&filled.stdout),
        "ready\nkept: OK\n",
        "{}",
        String::from_utf8_lossy(&filled.stderr)
    );
    greedy.delete().await.unwrap();
    world
        .eventually("sandboxes can be made again", async || {
            create(&world).await.is_success().then_some(())
        })
        .await;
    world.end().await;
}

/// Asks for a sandbox like any other.
async fn create(world: &World) -> Answer {
    let call = Call::post("sandboxes", json!({}));
    world.api.call(&call).await.unwrap()
}

/// Asks for a command like any other.
async fn start(world: &World, sandbox: &Sandbox) -> Answer {
    let path = format!("sandboxes/{}/exec", sandbox.id());
    world
        .api
        .call(&Call::post(path, json!({ "cmd": "true", "wait": false })))
        .await
        .unwrap()
}

/// The producer, held up while the disk was full, wrote every line once and ended as it meant to.
async fn check(sandbox: &Sandbox, exec: ExecId, heard: &mut Transcript) {
    let whole = Transcript::read(sandbox, exec).await;
    whole.assert_continues(heard);
    assert_eq!(
        whole.exit.as_ref().map(|exit| &exit.end),
        Some(&ExecEnd::Exited { code: 4 })
    );
    let text = String::from_utf8(whole.stdout).unwrap();
    for (number, line) in (1..).zip(text.lines()) {
        assert_eq!(line.split(' ').next(), Some(number.to_string().as_str()));
    }
}

/// Writes until nothing fits any more.
fn fill(path: &std::path::Path) {
    let mut file = File::create(path).unwrap();
    for size in [1 << 20, 4096] {
        loop {
            match file.write_all(&vec![1; size]) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
}
