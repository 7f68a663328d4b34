//! Sandboxes whose processes stand still: they never do for longer than somebody wants them to.

use std::sync::Arc;
use std::time::Duration;

use skerry_driver::Driver;
use skerry_driver_sim::SimDriver;
use skerry_node::{Node, Options};
use skerry_proto::node::Sandboxes;
use skerry_types::{SandboxId, SandboxState};

use crate::bed::{Bed, Island, patiently, request};

async fn node(bed: &Bed) -> Arc<Node> {
    let driver = SimDriver::that_holds(Arc::clone(&bed.world));
    let options = Options {
        drivers: vec![Arc::new(driver)],
        ..bed.options()
    };
    Node::start(options).await.unwrap()
}

#[tokio::test]
async fn a_pause_that_fails_holds_nobody() {
    let bed = Bed::new().await;
    let node = node(&bed).await;
    let id = SandboxId::new();
    node.create(request(id)).await.unwrap();
    bed.world.script(|script| script.fail_pauses = true);
    node.pause(id, None).await.unwrap_err();
    patiently("they go on", || !bed.world.is_held(id)).await;

    bed.world.script(|script| script.fail_pauses = false);
    let paused = node.pause(id, None).await.unwrap();
    assert_eq!(paused.state, SandboxState::Paused);
    assert!(bed.world.is_held(id), "or this test tests nothing");
}

#[tokio::test]
async fn the_next_daemon_lets_go_of_what_a_dead_one_held() {
    let bed = Bed::new().await;
    let first = node(&bed).await;
    let id = SandboxId::new();
    first.create(request(id)).await.unwrap();
    let island = Island { node: first, id };
    // Its own word to let go was heard by then.
    island.ok("true").await;
    drop(island);
    bed.world.hold(id);
    let _next = node(&bed).await;
    patiently("they go on", || !bed.world.is_held(id)).await;
}

#[tokio::test]
async fn a_pause_that_a_daemon_died_in_is_undone_by_the_next() {
    let bed = Bed::new().await;
    let island = bed.island().await;
    let id = island.id;
    drop(island);
    // Done, and not yet on record.
    let driver = SimDriver::new(Arc::clone(&bed.world));
    driver.pause(id).await.unwrap();
    let node = bed.node().await;
    let island = Island { node, id };
    let alive = tokio::time::timeout(Duration::from_mins(1), island.ok("true"));
    assert!(alive.await.is_ok(), "it stands still");
}
