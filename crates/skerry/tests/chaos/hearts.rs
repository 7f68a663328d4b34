//! What the life of a sandbox hangs on (its first process, its kernel, its machine), or what copies it, killed behind the driver's back: what becomes
//! of it is said, what it was asked is answered, and it can be started again with its files or deleted.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rand::rngs::StdRng;
use serde_json::json;
use skerry_client::api::{MemoryWish, TakeSnapshot};
use skerry_client::{ClientError, ListSandboxes, Sandbox, shell};
use skerry_testkit::host;
use skerry_types::{ErrorCode, ExecEnd, ExecId, FailureReason, SandboxId, SandboxState};
use tempfile::TempDir;

use crate::api::{Answer, Call};
use crate::copies::{cache_folder, counts_on, ok, start_counter, with_memory, with_tools};
use crate::kills::at_rest;
use crate::output::Transcript;
use crate::world::{World, dice, launch, moment, rounds};

/// Below the cache folder.
const TOOLS: &str = "skerry/tools";

/// What is done to a sandbox, or made from it, when a heart stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Nothing,
    Pause,
    Resume,
    Snapshot,
    Forks,
    Create,
}

impl Deed {
    const ALL: [Self; 6] = [
        Self::Nothing,
        Self::Pause,
        Self::Resume,
        Self::Snapshot,
        Self::Forks,
        Self::Create,
    ];

    /// A little longer than it takes in a debug build.
    fn span(self) -> Duration {
        Duration::from_millis(match self {
            Self::Nothing => 0,
            Self::Pause | Self::Resume => 20,
            Self::Snapshot | Self::Forks | Self::Create => 100,
        })
    }

    fn call(self, subject: &Sandbox, then: &str) -> Call {
        let path = format!("sandboxes/{}", subject.id());
        let memory = json!({ "memory": "required" });
        match self {
            Self::Nothing => Call::post(format!("{path}/exec"), json!({ "cmd": "sleep 1000" })),
            Self::Pause => Call::post(format!("{path}/pause"), json!(null)),
            Self::Resume => Call::post(format!("{path}/resume"), json!(null)),
            Self::Snapshot => Call::post(format!("{path}/snapshots"), memory),
            Self::Forks => Call::post(format!("{path}/forks"), json!({ "count": 2 })),
            Self::Create => Call::post("sandboxes", json!({ "image": then })),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_whose_heart_stops_says_so_and_can_be_started_again() {
    let (world, mut dice) = (World::launch(with_tools(launch())).await, dice());
    for subject in with_memory(&world).await {
        for round in 0..rounds(1, 10) {
            for deed in Deed::ALL {
                println!("{} {deed:?} {round}", subject.id());
                play(&world, &subject, deed, &mut dice).await;
            }
        }
    }
    world.end().await;
}

async fn play(world: &World, subject: &Sandbox, deed: Deed, dice: &mut StdRng) {
    ok(subject, "echo kept >/tmp/kept && sync").await;
    let then = subject.take_snapshot(&with_its_memory()).await.unwrap();
    let then = then.snapshot_id.to_string();
    let ticker = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done";
    let exec = subject.start(&shell(ticker)).await.unwrap().exec_id;
    if deed == Deed::Resume {
        subject.pause().await.unwrap();
    }
    let call = deed.call(subject, &then);
    let before = known(world);
    let under_way = {
        let (api, call) = (world.api.clone(), call);
        tokio::spawn(async move { api.call(&call).await.unwrap() })
    };
    // One that was on disk has none until it is awake.
    let find = async || {
        let victim = match deed {
            Deed::Create => *known(world).difference(&before).next()?,
            _ => subject.id(),
        };
        world.server.hearts().remove(&place(world, victim)?)
    };
    let heart = world.eventually("there is a heart", find).await;
    tokio::time::sleep(moment(dice, deed.span())).await;
    host::signal(heart, "KILL");
    let answer = under_way.await.unwrap();
    println!(
        "  {:?}",
        (
            answer.status,
            answer.text("status"),
            answer.text("error"),
            answer.text("message")
        )
    );
    if deed == Deed::Create {
        check_newborn(world, &answer).await;
    } else {
        check_struck(world, subject, deed, &answer).await;
        check_ticker(subject, exec).await;
    }
    tidy(world, subject).await;
}

fn with_its_memory() -> TakeSnapshot {
    TakeSnapshot {
        memory: MemoryWish::Required,
        ..TakeSnapshot::default()
    }
}

/// Sandboxes of which there is a record.
fn known(world: &World) -> BTreeSet<SandboxId> {
    let labels = fs::read_dir(world.server.path("sandboxes")).unwrap();
    let labels = labels.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    labels.filter_map(|label| label.parse().ok()).collect()
}

/// Where the driver has it, if it is known already.
pub(crate) fn place(world: &World, id: SandboxId) -> Option<String> {
    let meta = format!("sandboxes/{}/meta.json", id.label());
    let meta = fs::read(world.server.path(&meta)).ok()?;
    let meta: serde_json::Value = serde_json::from_slice(&meta).ok()?;
    let place: SandboxId = meta["spec"]["id"].as_str()?.parse().ok()?;
    Some(place.label())
}

/// It was there for a while, or never, and nobody is told that it is.
async fn check_newborn(world: &World, answer: &Answer) {
    let id = answer.text("sandbox_id");
    let id: SandboxId = id.parse().unwrap_or_else(|_| panic!("{answer:?}"));
    let newborn = world.client.sandbox(id);
    let ended = newborn.wait_ended(60).await.unwrap();
    assert_eq!(ended.status, SandboxState::Failed, "{ended:?}");
    refuses_work(&newborn).await;
    newborn.delete().await.unwrap();
}

async fn check_struck(world: &World, subject: &Sandbox, deed: Deed, answer: &Answer) {
    // One that could not wake up is still on disk.
    assert!(answer.status < 500 || deed == Deed::Resume, "{answer:?}");
    let state = world
        .eventually("it is known what became of it", async || {
            let state = at_rest(world, &subject.id().to_string()).await;
            (state != "running").then_some(state)
        })
        .await;
    if state == "paused" {
        let is_told = answer.is_success() == (deed == Deed::Pause);
        assert!(is_told, "{answer:?}");
        match subject.resume().await {
            // It is whole on disk.
            Ok(_) => {
                ok(subject, "[ -e /tmp/kept ]").await;
                subject.stop().await.unwrap();
                subject.wait_ended(60).await.unwrap();
                return;
            }
            // What is frozen dies when it is thawed.
            Err(error) => assert_eq!(error.code(), Some(ErrorCode::SandboxNotRunning), "{error}"),
        }
        subject.wait_ended(60).await.unwrap();
    }
    let record = subject.get().await.unwrap();
    assert_eq!(record.status, SandboxState::Failed);
    assert_eq!(record.failure_reason, Some(FailureReason::AgentLost));
    refuses_work(subject).await;
}

async fn refuses_work(sandbox: &Sandbox) {
    let refused = sandbox.run(&shell("true")).await.unwrap_err();
    assert_eq!(
        refused.code(),
        Some(ErrorCode::SandboxNotRunning),
        "{refused}"
    );
}

/// What ran in it has the one end that is true.
async fn check_ticker(subject: &Sandbox, exec: ExecId) {
    let heard = Transcript::read(subject, exec).await;
    assert_eq!(heard.exit.unwrap().end, ExecEnd::SandboxStopped);
}

/// Whatever was made of it is whole; it runs again with its files.
async fn tidy(world: &World, subject: &Sandbox) {
    for record in world
        .client
        .list_all(ListSandboxes::default())
        .await
        .unwrap()
    {
        let sandbox = world.client.sandbox(record.sandbox_id);
        if sandbox.id() != subject.id() && record.forked_from == Some(subject.id()) {
            if record.status == SandboxState::Running {
                ok(&sandbox, "[ -e /tmp/kept ]").await;
            }
            sandbox.delete().await.unwrap();
        }
    }
    world.remove_snapshots().await;
    if subject.get().await.unwrap().status != SandboxState::Running {
        subject.start_again().await.unwrap();
        subject.wait_running(60).await.unwrap();
    }
    assert_eq!(ok(subject, "cat /tmp/kept").await, "kept\n");
}

/// CRIU would wait for ever for what has died while it looked at it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn criu_keeps_nobody_waiting_for_one_that_died() {
    let (world, mut dice) = (World::launch(with_tools(launch())).await, dice());
    let Some(subject) = kept_by_criu(&world).await else {
        return;
    };
    for _ in 0..rounds(20, 200) {
        play(&world, &subject, Deed::Snapshot, &mut dice).await;
    }
    world.end().await;
}

/// A sandbox of which CRIU makes copies, if there is a CRIU here.
async fn kept_by_criu(world: &World) -> Option<Sandbox> {
    let subject = with_memory(world).await.into_iter().next()?;
    let driver = subject.get().await.unwrap().driver;
    if driver.as_deref() != Some("ns") {
        println!("skipped: there is no CRIU here");
        return None;
    }
    Some(subject)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_whose_criu_is_killed_over_it_fails_and_a_copy_fails_alone() {
    let (world, mut dice) = (World::launch(with_tools(launch())).await, dice());
    let Some(subject) = kept_by_criu(&world).await else {
        return;
    };
    start_counter(&subject).await;
    for _ in 0..rounds(5, 50) {
        let parent = subject.clone();
        let taking = tokio::spawn(async move { parent.take_snapshot(&with_its_memory()).await });
        strike_criu(&world, &mut dice, || taking.is_finished()).await;
        let outcome = taking.await.unwrap();
        println!("  {outcome:?}");
        let listed = world.client.snapshots().await.unwrap();
        assert_eq!(listed.len(), usize::from(outcome.is_ok()));
        world.remove_snapshots().await;
        counts_on_or_again(&subject, outcome.map(drop)).await;
    }
    let whole = subject.take_snapshot(&with_its_memory()).await.unwrap();
    let whole = whole.snapshot_id.to_string();
    for _ in 0..rounds(5, 50) {
        let call = Call::post("sandboxes", json!({ "image": whole }));
        let api = world.api.clone();
        let making = tokio::spawn(async move { api.call(&call).await.unwrap() });
        strike_criu(&world, &mut dice, || making.is_finished()).await;
        let answer = making.await.unwrap();
        println!("  {answer:?}");
        let made = answer.text("sandbox_id").parse().unwrap();
        let made = world.client.sandbox(made);
        let record = made.get().await.unwrap();
        if record.status == SandboxState::Running {
            counts_on(&made).await;
        } else {
            assert_eq!(record.status, SandboxState::Failed);
        }
        made.delete().await.unwrap();
    }
    counts_on(&subject).await;
    world.client.remove_snapshot(&whole).await.unwrap();
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_criu_that_does_not_start_keeps_nothing_and_harms_nobody() {
    let cache = TempDir::with_prefix("skerry-test-").unwrap();
    let Some(criu) = criu_of_its_own(cache.path()) else {
        println!("skipped: there is no CRIU in the cache folder");
        return;
    };
    let launch = launch().env("XDG_CACHE_HOME", &cache.path().display());
    let world = World::launch(launch).await;
    let Some(subject) = kept_by_criu(&world).await else {
        return;
    };
    start_counter(&subject).await;
    // Only now, since a server does without one that never worked.
    fs::write(criu.join("usr/sbin/new"), "no program").unwrap();
    fs::rename(criu.join("usr/sbin/new"), criu.join("usr/sbin/criu")).unwrap();
    let taken = subject.take_snapshot(&with_its_memory()).await;
    println!("{taken:?}");
    assert!(taken.is_err());
    counts_on(&subject).await;
    assert_eq!(world.client.snapshots().await.unwrap(), []);
    world.end().await;
}

/// A copy of the one that the tests use.
fn criu_of_its_own(cache: &Path) -> Option<PathBuf> {
    let (tools, copies) = (cache_folder()?.join(TOOLS), cache.join(TOOLS));
    fs::create_dir_all(&copies).unwrap();
    let mut copy = Command::new("cp");
    copy.arg("-a").arg(tools.join("criu")).arg(&copies);
    copy.output()
        .unwrap()
        .status
        .success()
        .then(|| copies.join("criu"))
}

/// It counts on if a snapshot was made of it, or CRIU could still say that it gave up. Else nobody knows what it has left in it, so it has ended.
async fn counts_on_or_again(subject: &Sandbox, kept: Result<(), ClientError>) {
    let gave_up = |error: &ClientError| error.code() == Some(ErrorCode::Unsupported);
    if kept.as_ref().map_or_else(gave_up, |()| true) {
        counts_on(subject).await;
        return;
    }
    let record = subject.wait_ended(60).await.unwrap();
    assert_eq!(record.status, SandboxState::Failed);
    assert_eq!(record.failure_reason, Some(FailureReason::AgentLost));
    subject.start_again().await.unwrap();
    ok(subject, "rm /tmp/log").await;
    start_counter(subject).await;
}

/// Kills the next CRIU that is at work, at some moment of its work.
async fn strike_criu(world: &World, dice: &mut StdRng, is_over: impl Fn() -> bool) {
    let criu = loop {
        match world.server.criu() {
            Some(criu) => break criu,
            None if is_over() => return,
            None => tokio::task::yield_now().await,
        }
    };
    tokio::time::sleep(moment(dice, Duration::from_millis(80))).await;
    host::signal(criu, "KILL");
}
