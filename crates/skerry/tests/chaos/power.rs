//! The machine loses its power: what sleeps on disk wakes up as it was, and what ran says so and can be started again with its files.

use std::fs;

use skerry_client::api::{CreateSandbox, MemoryWish, TakeSnapshot};
use skerry_client::shell;
use skerry_types::{ErrorCode, ExecEnd, SandboxState, SnapshotId};

use crate::copies::{ok, with_memory, with_tools};
use crate::world::{World, launch};

const COUNT: &str = "i=0; while :; do i=$((i+1)); echo $i >/tmp/n; sleep 0.01; done";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_sleeps_on_disk_wakes_up_as_it_was() {
    let mut world = World::launch(with_tools(launch())).await;
    let wishes = CreateSandbox {
        driver: Some("gvisor".to_owned()),
        image: Some("host".to_owned()),
        ..CreateSandbox::default()
    };
    let sandbox = match world.client.create(&wishes).await {
        Ok(made) => world.client.sandbox(made.sandbox_id),
        Err(error) if error.code() == Some(ErrorCode::Unsupported) => {
            println!("skipped: {error}");
            return world.end().await;
        }
        Err(error) => panic!("{error}"),
    };
    sandbox.wait_running(60).await.unwrap();
    let counting = sandbox.start(&shell(COUNT)).await.unwrap().exec_id;
    ok(&sandbox, "until [ -s /tmp/n ]; do sleep 0.01; done").await;
    sandbox.pause().await.unwrap();

    world.server.cut_power().unwrap();
    world.server.start().unwrap();

    assert_eq!(sandbox.get().await.unwrap().status, SandboxState::Paused);
    sandbox.resume().await.unwrap();
    let far = ok(&sandbox, "cat /tmp/n").await;
    let further = format!(
        "until [ $(cat /tmp/n || echo 0) -gt {} ]; do sleep 0.01; done",
        far.trim()
    );
    ok(&sandbox, &further).await;
    assert_eq!(sandbox.exec(counting).await.unwrap().end, None);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_ran_says_so_and_starts_again_with_its_files() {
    let mut world = World::start().await;
    let sandbox = world.sandbox().await;
    let counting = sandbox.start(&shell(COUNT)).await.unwrap().exec_id;
    ok(
        &sandbox,
        "until [ -s /tmp/n ]; do sleep 0.01; done; echo kept >~/file; sync",
    )
    .await;

    world.server.cut_power().unwrap();
    world.server.start().unwrap();

    let record = world
        .eventually("it is known to have ended", async || {
            let record = sandbox.get().await.unwrap();
            record.status.is_ended().then_some(record)
        })
        .await;
    assert_eq!(record.status, SandboxState::Failed, "{record:?}");
    let end = sandbox.exec(counting).await.unwrap().end;
    assert_eq!(end, Some(ExecEnd::NodeLost), "nobody saw how it ended");
    sandbox.start_again().await.unwrap();
    sandbox.wait_running(60).await.unwrap();
    assert_eq!(ok(&sandbox, "cat ~/file").await, "kept\n");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory_that_no_snapshot_knows_goes_and_other_memory_stays() {
    let mut world = World::launch(with_tools(launch())).await;
    let mut lost = Vec::new();
    for subject in with_memory(&world).await {
        let request = TakeSnapshot {
            memory: MemoryWish::Required,
            ..TakeSnapshot::default()
        };
        subject.take_snapshot(&request).await.unwrap();
        let driver = subject.get().await.unwrap().driver.unwrap();
        if driver != "vm" {
            lost.push(format!("{driver}-memory/{}", SnapshotId::new().label()));
        }
    }
    for lost in &lost {
        let folder = world.server.path(lost);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("pages"), "of nobody").unwrap();
    }

    world.server.kill().unwrap();
    world.server.start().unwrap();

    for lost in &lost {
        assert!(!world.server.path(lost).exists(), "{lost}");
    }
    for snapshot in world.client.snapshots().await.unwrap() {
        let wishes = CreateSandbox {
            image: Some(snapshot.snapshot_id.to_string()),
            ..CreateSandbox::default()
        };
        ok(&world.make(&wishes).await, "true").await;
    }
    world.delete_all().await;
    world.remove_snapshots().await;
    world.end().await;
}
