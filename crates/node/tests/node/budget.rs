//! What the journals of all sandboxes may take together.

use std::sync::Arc;

use futures::StreamExt;
use skerry_node::{Node, Options};
use skerry_proto::node::{
    Events, ExecEventBody, ExecFilter, Execs, Files, Health, NodeHealth, Sandboxes,
};
use skerry_types::{ErrorCode, ExecEnd, ExecId, SandboxId};

use crate::bed::{Bed, Island, patiently, request, sh};

const BUDGET_BYTES: u64 = 300_000;
/// Says a bit more than 100 000 bytes.
const TALK: &str = "seq 1 20000";

async fn node(bed: &Bed) -> Arc<Node> {
    let options = Options {
        journal_bytes: Some(BUDGET_BYTES),
        ..bed.options()
    };
    Node::start(options).await.unwrap()
}

async fn island(node: &Arc<Node>) -> Island {
    let id = SandboxId::new();
    node.create(request(id)).await.unwrap();
    let node = Arc::clone(node);
    Island { node, id }
}

/// One that said its part and was deleted.
async fn talked(node: &Arc<Node>) -> SandboxId {
    let island = island(node).await;
    island.ok(TALK).await;
    node.delete(island.id).await.unwrap();
    island.id
}

fn has_journal(bed: &Bed, id: SandboxId) -> bool {
    bed.data_dir()
        .join("node/sandboxes")
        .join(id.label())
        .exists()
}

#[tokio::test]
async fn the_oldest_journals_of_deleted_sandboxes_go_first() {
    let bed = Bed::new().await;
    let first = node(&bed).await;
    let (one, two) = (talked(&first).await, talked(&first).await);
    assert!(has_journal(&bed, one) && has_journal(&bed, two));
    drop(first);
    // Those of an earlier daemon count too.
    let node = node(&bed).await;
    let three = talked(&node).await;
    patiently("the oldest is gone", || !has_journal(&bed, one)).await;
    assert!(has_journal(&bed, two) && has_journal(&bed, three));
    let answer = node.get(one).await;
    assert_eq!(answer.unwrap_err().code, ErrorCode::NotFound);
    // It was there, and whoever reads it should not look on.
    let record = node.events(one, 0, false).await;
    assert_eq!(record.err().map(|e| e.code), Some(ErrorCode::Gone));
    let execs = node.list_execs(one, ExecFilter::default()).await;
    assert_eq!(execs.unwrap_err().code, ErrorCode::Gone);
    assert!(node.events(two, 0, false).await.is_ok());
}

#[tokio::test]
async fn who_wrote_little_does_not_make_room_for_who_wrote_much() {
    let bed = Bed::new().await;
    let node = node(&bed).await;
    let little = island(&node).await;
    little.ok("true").await;
    node.delete(little.id).await.unwrap();
    let (one, two) = (talked(&node).await, talked(&node).await);
    let three = talked(&node).await;
    patiently("a large one is gone", || !has_journal(&bed, one)).await;
    for kept in [little.id, two, three] {
        assert!(has_journal(&bed, kept));
    }
}

/// One that says more than there is room for, as far as it is let.
async fn flooding(node: &Arc<Node>) -> (Island, ExecId) {
    let island = island(node).await;
    let exec = island.start(sh("seq 1 200000; exit 3")).await;
    until_full(&island).await;
    (island, exec)
}

async fn until_full(island: &Island) {
    let is_held = async || {
        let refused = island.node.start_exec(island.id, sh("true")).await;
        refused.err().map(|error| error.code) == Some(ErrorCode::DiskFull)
    };
    while !is_held().await {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn who_writes_much_waits_and_others_go_on() {
    let bed = Bed::new().await;
    let node = node(&bed).await;
    let quiet = island(&node).await;
    let (full, exec) = flooding(&node).await;
    quiet.ok("true").await;
    island(&node).await.ok("true").await;
    assert_eq!(node.health().await.unwrap(), NodeHealth::default());
    assert_eq!(full.exec(exec).await.end, None, "held up, not ended");
    // What could not be put on record is not done.
    let refused = full.node.move_file(full.id, "/etc", "/moved").await;
    assert_eq!(refused.unwrap_err().code, ErrorCode::DiskFull);
    assert!(full.node.stat(full.id, "/etc").await.is_ok());
    // Whoever reads is told what it said until then and how it ended, and the sandbox can be deleted, which makes room.
    let events = node.exec_events(full.id, exec, 0, true).await.unwrap();
    node.exec_signal(full.id, exec, 9).await.unwrap();
    node.delete(full.id).await.unwrap();
    let events: Vec<_> = events.map(|event| event.unwrap().body).collect().await;
    let last = events.last().unwrap();
    assert!(
        matches!(last, ExecEventBody::End { end, .. } if matches!(end, ExecEnd::SandboxDeleted | ExecEnd::Signaled { .. })),
        "{last:?}"
    );
    quiet.ok("seq 1 10000").await;
}

#[tokio::test]
async fn what_ended_without_room_for_it_is_told_when_the_sandbox_dies() {
    let bed = Bed::new().await;
    let node = node(&bed).await;
    let island = island(&node).await;
    let sleeper = island.start(sh("sleep 1000")).await;
    let flood = island.start(sh("seq 1 200000; exit 3")).await;
    until_full(&island).await;
    node.exec_signal(island.id, sleeper, 9).await.unwrap();
    while node.stats(island.id).await.unwrap().pids > 2 {
        tokio::task::yield_now().await;
    }
    // Said before this is answered.
    node.stat(island.id, "/tmp").await.unwrap();
    let untold = island.exec(sleeper).await.end;
    assert_eq!(untold, None, "there is no room for its end");
    bed.world.lose_agent(island.id);
    let told = island.finish(sleeper).await.end;
    assert_eq!(told, ExecEnd::Signaled { signal: 9 });
    let cut = island.finish(flood).await.end;
    assert_eq!(cut, ExecEnd::SandboxStopped);
}

#[tokio::test]
async fn once_live_ones_take_all_nothing_new_begins() {
    let bed = Bed::new().await;
    let node = node(&bed).await;
    let mut floods = Vec::new();
    while node.health().await.unwrap().records.is_none() {
        floods.push(flooding(&node).await.0);
    }
    let refused = node.create(request(SandboxId::new())).await;
    assert_eq!(refused.unwrap_err().code, ErrorCode::DiskFull);
    for flood in floods {
        node.delete(flood.id).await.unwrap();
    }
    island(&node).await.ok("true").await;
    assert_eq!(node.health().await.unwrap(), NodeHealth::default());
}
