//! The daemon killed in the middle of a pause, a resume, a start, a snapshot, a rollback or a fork of several, and a disk that is full under a snapshot:
//! no answer is a lie, before or after, and nothing is left.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::time::Duration;

use rand::rngs::StdRng;
use serde_json::{Value, json};
use skerry_client::api::{MemoryWish, TakeSnapshot};
use skerry_client::{Sandbox, shell};
use skerry_testkit::server::Launch;
use skerry_types::ErrorCode;

use crate::api::{Answer, Call};
use crate::copies::{ok, with_memory, with_tools};
use crate::world::{World, dice, launch, moment, rounds};

/// As many children as one request makes here.
const CHILDREN: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Pause,
    Resume,
    Start,
    Snapshot,
    RollBack,
    Forks,
}

impl Phase {
    const ALL: [Self; 6] = [
        Self::Pause,
        Self::Resume,
        Self::Start,
        Self::Snapshot,
        Self::RollBack,
        Self::Forks,
    ];

    /// A little longer than it takes in a debug build.
    fn span(self) -> Duration {
        Duration::from_millis(match self {
            Self::Pause | Self::Resume => 20,
            Self::Snapshot => 150,
            Self::Start | Self::RollBack => 400,
            Self::Forks => 800,
        })
    }

    fn call(self, subject: &Sandbox, then: &str) -> Call {
        let path = format!("sandboxes/{}", subject.id());
        match self {
            Self::Pause => Call::post(format!("{path}/pause"), Value::Null),
            Self::Resume => Call::post(format!("{path}/resume"), Value::Null),
            Self::Start => Call::post(format!("{path}/start"), Value::Null),
            Self::Snapshot => Call::post(format!("{path}/snapshots"), json!({})),
            Self::RollBack => Call::post(format!("{path}/rollback"), json!({ "snapshot": then })),
            Self::Forks => Call::post(format!("{path}/forks"), json!({ "count": CHILDREN })),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_daemon_may_be_killed_while_time_is_travelled() {
    let (mut world, mut dice) = (World::launch(with_tools(launch())).await, dice());
    let mut subjects = with_memory(&world).await;
    // One that has only files to go back to, too.
    subjects.push(world.sandbox().await);
    for subject in subjects {
        for round in 0..rounds(1, 15) {
            for phase in Phase::ALL {
                println!("{} {phase:?} {round}", subject.id());
                play(&mut world, &subject, phase, &mut dice).await;
            }
        }
        subject.delete().await.unwrap();
    }
    world.end().await;
}

async fn play(world: &mut World, subject: &Sandbox, phase: Phase, dice: &mut StdRng) {
    ok(subject, "echo then >/tmp/when").await;
    let then = subject.take_snapshot(&TakeSnapshot::default()).await;
    let then = then.unwrap().snapshot_id.to_string();
    ok(subject, "echo later >/tmp/when").await;
    if phase == Phase::Resume {
        subject.pause().await.unwrap();
    }
    if phase == Phase::Start {
        subject.stop().await.unwrap();
        subject.wait_ended(60).await.unwrap();
    }
    let call = phase.call(subject, &then);
    let under_way = {
        let (api, call) = (world.api.clone(), call.clone());
        tokio::spawn(async move { api.call(&call).await })
    };
    tokio::time::sleep(moment(dice, phase.span())).await;
    world.server.kill().unwrap();
    let answer = under_way.await.unwrap();
    world.server.start().unwrap();
    println!("  {:?}", answer.as_ref().map(|answer| answer.status));
    let again = world
        .eventually("it is done", async || {
            let again = world.api.call(&call).await?;
            assert!(again.status < 500, "{again:?}");
            again.is_success().then_some(again)
        })
        .await;
    if let (Some(first), Phase::Snapshot) = (&answer, phase) {
        assert_eq!(first.body, again.body, "what was told is so");
    }
    check(world, subject, phase, &again).await;
    for snapshot in world.client.snapshots().await.unwrap() {
        let id = snapshot.snapshot_id.to_string();
        world.client.remove_snapshot(&id).await.unwrap();
    }
}

async fn check(world: &World, subject: &Sandbox, phase: Phase, answer: &Answer) {
    let status = subject.get().await.unwrap().status;
    let expected = if phase == Phase::Pause {
        "paused"
    } else {
        "running"
    };
    assert_eq!(status.as_str(), expected);
    if phase == Phase::Pause {
        subject.resume().await.unwrap();
    }
    let when = if phase == Phase::RollBack {
        "then\n"
    } else {
        "later\n"
    };
    assert_eq!(ok(subject, "cat /tmp/when").await, when);
    // `then`, and what this phase made.
    let kept = world.client.snapshots().await.unwrap();
    assert_eq!(
        kept.len(),
        1 + usize::from(phase == Phase::Snapshot),
        "{kept:?}"
    );
    match phase {
        Phase::Snapshot => {
            let made = Call::post("sandboxes", json!({ "image": answer.text("snapshot_id") }));
            let made = world.api.call(&made).await.unwrap();
            assert_eq!(made.text("status"), "running", "{made:?}");
            remembers(world, &made.body).await;
        }
        Phase::Forks => {
            let forks = answer.body["forks"].as_array().unwrap();
            assert_eq!(forks.len(), CHILDREN);
            for fork in forks {
                if fork["sandbox"].is_object() {
                    remembers(world, fork).await;
                } else {
                    // Its server died while it was made.
                    let id = fork["sandbox_id"].as_str().unwrap().parse().unwrap();
                    let record = world.client.sandbox(id).get().await.unwrap();
                    assert_eq!(record.status.as_str(), "failed", "{fork}");
                    world.client.sandbox(id).delete().await.unwrap();
                }
            }
        }
        _ => {}
    }
}

/// A copy is of the time at which it was made.
async fn remembers(world: &World, record: &Value) {
    let id = record["sandbox_id"].as_str().unwrap().parse().unwrap();
    let copy = world.client.sandbox(id);
    assert_eq!(ok(&copy, "cat /tmp/when").await, "later\n");
    copy.delete().await.unwrap();
}

/// A data folder of its own, which nobody else sees.
fn small() -> Launch {
    const SMALL: &str =
        "mount -t tmpfs -o size=1g,mode=700 none \"$SKERRY_DATA_DIR\" && exec \"$@\"";
    launch().wrapper(["unshare", "-m", "sh", "-c", SMALL, "sh"])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_snapshot_that_does_not_fit_is_none_and_the_sandbox_runs_on() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can make a disk of its own");
        return;
    }
    let world = World::launch(with_tools(small())).await;
    let request = TakeSnapshot {
        memory: MemoryWish::Required,
        ..TakeSnapshot::default()
    };
    for sandbox in with_memory(&world).await {
        ok(&sandbox, "echo kept >/tmp/file").await;
        let filler = world.server.path("filler");
        let size = fill(&mut File::create(&filler).unwrap());
        // Enough for control's own records.
        let file = File::options().write(true).open(&filler).unwrap();
        file.set_len(size.saturating_sub(512 * 1024)).unwrap();
        drop(file);
        match sandbox.take_snapshot(&request).await {
            Err(full) => assert_eq!(full.code(), Some(ErrorCode::DiskFull), "{full}"),
            // A machine's memory lies in the pool, which may have taken room enough before.
            Ok(fits) if fits.driver == "vm" => world.remove_snapshots().await,
            Ok(odd) => panic!("{odd:?}"),
        }
        std::fs::remove_file(&filler).unwrap();
        // The node looks at its disk now and then.
        let there_is_room = async || sandbox.run(&shell("true")).await.ok();
        world.eventually("there is room", there_is_room).await;
        assert_eq!(ok(&sandbox, "cat /tmp/file").await, "kept\n");
        assert_eq!(world.client.snapshots().await.unwrap(), []);
        let taken = sandbox.take_snapshot(&request).await.unwrap();
        let id = taken.snapshot_id.to_string();
        world.client.remove_snapshot(&id).await.unwrap();
        sandbox.delete().await.unwrap();
    }
    world.end().await;
}

/// Writes until nothing fits any more; how much that was.
fn fill(file: &mut File) -> u64 {
    let block = vec![1; 64 * 1024];
    let mut size = 0;
    loop {
        match file.write(&block) {
            Ok(wrote) => size += wrote as u64,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::StorageFull);
                return size;
            }
        }
    }
}
