//! Sandboxes that wake up when they are used.

use std::sync::Arc;

use futures::StreamExt;
use futures::future::join_all;
use skerry_driver::Driver;
use skerry_driver_sim::SimDriver;
use skerry_proto::node::{Events, Execs, Files, Map, OpenSession, Sandboxes, Sessions};
use skerry_types::{ErrorCode, SandboxId, SandboxState, SessionId};

use crate::bed::{Bed, Daemon, Island, patiently, request, sh};

async fn sleeper(bed: &Bed) -> Island {
    let node = bed.node().await;
    let mut asked = request(SandboxId::new());
    asked.auto_resume = true;
    node.create(asked.clone()).await.unwrap();
    let island = Island { node, id: asked.id };
    island.sleep().await;
    island
}

impl Island {
    async fn sleep(&self) {
        let paused = self.node.pause(self.id, None).await.unwrap();
        assert_eq!(paused.state, SandboxState::Paused);
    }

    async fn woke_up(&self) -> usize {
        let events = self.node.events(self.id, 0, false).await.unwrap();
        let events: Vec<_> = events.map(|event| event.unwrap().kind).collect().await;
        events
            .iter()
            .filter(|kind| *kind == "sandbox.resumed")
            .count()
    }
}

#[tokio::test]
async fn every_kind_of_use_wakes_it_once() {
    let bed = Bed::new().await;
    let island = sleeper(&bed).await;
    let all = (0..20).map(|_| island.ok("echo up"));
    assert!(join_all(all).await.iter().all(|said| said == "up\n"));
    assert_eq!(island.woke_up().await, 1, "twenty at once wake it once");

    let exec = island.start(sh("sleep 1000")).await;
    island.sleep().await;
    island.node.exec_signal(island.id, exec, 9).await.unwrap();
    island.finish(exec).await;
    island.sleep().await;
    let node = &island.node;
    node.stat(island.id, "/tmp").await.unwrap();
    island.sleep().await;
    let session = OpenSession {
        id: SessionId::new(),
        shell: None,
        env: Map::new(),
        cwd: None,
        user: None,
    };
    node.open_session(island.id, session.clone()).await.unwrap();
    island.sleep().await;
    node.close_session(island.id, session.id).await.unwrap();
    assert_eq!(island.woke_up().await, 5);

    island.sleep().await;
    node.get_exec(island.id, exec).await.unwrap();
    node.stats(island.id).await.unwrap();
    assert_eq!(
        island.report().await.state,
        SandboxState::Paused,
        "looking is no use"
    );
}

#[tokio::test]
async fn one_that_cannot_be_woken_up_refuses_with_the_reason() {
    let bed = Bed::new().await;
    let island = sleeper(&bed).await;
    bed.world.script(|script| script.fail_resumes = true);
    let refused = island.node.start_exec(island.id, sh("true")).await;
    let refused = refused.unwrap_err();
    assert!(refused.message.contains("resume it"), "{refused}");
    assert_eq!(island.report().await.state, SandboxState::Paused);
    bed.world.script(|script| script.fail_resumes = false);
    island.ok("true").await;
}

#[tokio::test]
async fn one_that_cannot_be_woken_up_can_be_stopped() {
    let bed = Bed::new().await;
    let island = sleeper(&bed).await;
    bed.world.script(|script| script.fail_resumes = true);
    island.node.stop(island.id, None).await.unwrap();
    island.until(SandboxState::Stopped).await;
}

#[tokio::test]
async fn one_that_was_used_meanwhile_is_not_paused_for_being_idle() {
    let bed = Bed::new().await;
    let island = bed.island().await;
    let seen = island.report().await.last_active_at;
    island.ok("true").await;
    let left = island.node.pause(island.id, Some(seen)).await.unwrap();
    assert_eq!(left.state, SandboxState::Running);
    let exec = island.start(sh("sleep 1000")).await;
    let seen = left
        .last_active_at
        .max(island.report().await.last_active_at);
    let left = island.node.pause(island.id, Some(seen)).await.unwrap();
    assert_eq!(left.state, SandboxState::Running, "a command runs");
    island.node.exec_signal(island.id, exec, 9).await.unwrap();
    island.finish(exec).await;
    let seen = island.report().await.last_active_at;
    let paused = island.node.pause(island.id, Some(seen)).await.unwrap();
    assert_eq!(paused.state, SandboxState::Paused);
}

#[test]
fn a_daemon_that_is_killed_forgets_neither_sleep_nor_that_it_wakes_up() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let bed = runtime.block_on(Bed::new());
    let id = SandboxId::new();
    let first = Daemon::start(&bed);
    first.run(|node| async move {
        node.create(request(id)).await.unwrap();
        node.set_auto_resume(id, true).await.unwrap();
        node.pause(id, None).await.unwrap();
    });
    first.kill();
    let second = Daemon::start(&bed);
    second.run(|node| async move {
        let island = Island {
            node: Arc::clone(&node),
            id,
        };
        assert_eq!(island.report().await.state, SandboxState::Paused);
        island.ok("true").await;
        node.set_auto_resume(id, false).await.unwrap();
        island.sleep().await;
        let refused = node.start_exec(id, sh("true")).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::SandboxNotRunning);
    });
    second.kill();
}

#[tokio::test]
async fn a_resume_that_a_daemon_died_in_is_undone_by_the_next() {
    let bed = Bed::new().await;
    let island = sleeper(&bed).await;
    let id = island.id;
    drop(island);
    // Done, and not yet on record.
    let driver = SimDriver::new(Arc::clone(&bed.world));
    driver.resume(id).await.unwrap();
    let _next = bed.node().await;
    patiently("it stands still", || bed.world.is_paused(id)).await;
}
