//! Many things at once: never more than there is room for, never an illegal state, never anything left.

use std::collections::HashSet;

use futures::future::join_all;
use proptest::prelude::*;
use skerry_control::{Clock, CreateRequest, ForkRequest};
use skerry_store::Quotas;
use skerry_types::{ErrorCode, FailureReason, SandboxId, SandboxState};

use crate::fake::Fault;
use crate::world::{World, code, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_at_once_on_four_places() {
    let world = World::new(4).await;
    let mut made = join_all((0..50).map(|_| world.create())).await;
    // Ids are in the order of the queue.
    made.sort_by_key(|s| s.id);
    let ids: HashSet<SandboxId> = made.iter().map(|s| s.id).collect();
    assert_eq!(ids.len(), 50);
    let waiting = made.iter().filter(|s| s.status == SandboxState::Queued);
    assert_eq!(waiting.count(), 46);
    for sandbox in made {
        world.becomes(sandbox.id, SandboxState::Running).await;
        world
            .control
            .delete(&world.caller, sandbox.id)
            .await
            .unwrap();
    }
    assert_eq!(world.node.most_at_once(), 4);
    assert_eq!(world.node.started().len(), 50);
    assert_eq!(world.node.ids(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_quota_holds_in_a_race_and_is_freed() {
    let world = World::new(100).await;
    world.allow(|q| q.max_concurrent_sandboxes = 7).await;
    let all = join_all((0..50).map(|_| {
        world
            .control
            .create(&world.caller, CreateRequest::default())
    }))
    .await;
    let (made, refused): (Vec<_>, Vec<_>) = all.into_iter().partition(Result::is_ok);
    assert_eq!((made.len(), refused.len()), (7, 43));
    for error in refused {
        assert_eq!(code(error), ErrorCode::QuotaExceeded);
    }
    let id = made[0].as_ref().unwrap().id;
    world.becomes(id, SandboxState::Running).await;
    let child = world
        .control
        .fork(&world.caller, id, ForkRequest::default())
        .await;
    assert_eq!(code(child), ErrorCode::QuotaExceeded);
    world.control.delete(&world.caller, id).await.unwrap();
    world.running().await;
}

#[tokio::test]
async fn a_create_that_outlives_its_delete_is_taken_away() {
    let world = World::new(1).await;
    world.node.breaks(Fault::CreateHangs);
    world.node.breaks(Fault::CreateOutlivesDelete);
    let id = world.create().await.id;
    eventually("the node began", || !world.node.ids().is_empty()).await;
    let (control, caller) = (world.control.clone(), world.caller.clone());
    let deleting = tokio::spawn(async move { control.delete(&caller, id).await });
    eventually("the delete reached the node", || {
        world.node.ids().is_empty()
    })
    .await;
    world.node.heals(Fault::CreateHangs);
    let gone = deleting.await.unwrap().unwrap();
    assert_eq!(gone.status, SandboxState::Deleted);
    assert_eq!(world.node.ids(), []);
}

/// What several callers do at once.
#[derive(Debug, Clone, Copy)]
enum Op {
    Create,
    Stop(usize),
    Delete(usize),
    Fork(usize),
    Pause(usize),
    Resume(usize),
    Start(usize),
    Crash(usize),
    Pass(u8),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => Just(Op::Create),
        2 => any::<usize>().prop_map(Op::Stop),
        2 => any::<usize>().prop_map(Op::Delete),
        2 => any::<usize>().prop_map(Op::Fork),
        1 => any::<usize>().prop_map(Op::Pause),
        1 => any::<usize>().prop_map(Op::Resume),
        2 => any::<usize>().prop_map(Op::Start),
        1 => any::<usize>().prop_map(Op::Crash),
        1 => (0..40u8).prop_map(Op::Pass),
    ]
}

/// Does it; a refusal must be one of those that the contract names.
async fn perform(world: &World, op: Op, known: &[SandboxId]) -> Option<SandboxId> {
    let pick = |n: usize| known.get(n % known.len().max(1)).copied();
    let (control, caller) = (&world.control, &world.caller);
    let done = match op {
        Op::Create => control.create(caller, CreateRequest::default()).await,
        Op::Stop(n) => control.stop(caller, pick(n)?).await,
        Op::Delete(n) => control.delete(caller, pick(n)?).await,
        Op::Fork(n) => control.fork(caller, pick(n)?, ForkRequest::default()).await,
        Op::Pause(n) => control.pause(caller, pick(n)?).await,
        Op::Resume(n) => control.resume(caller, pick(n)?).await,
        Op::Start(n) => control.start_sandbox(caller, pick(n)?).await,
        Op::Crash(n) => {
            world.node.crash(pick(n)?);
            return None;
        }
        Op::Pass(seconds) => {
            world.pass(seconds.into());
            return None;
        }
    };
    match done {
        Ok(sandbox) => Some(sandbox.id),
        Err(error) => {
            let status = error.code.status();
            assert!([404, 409, 422, 503].contains(&status), "{op:?}: {error}");
            None
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 0, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_done_at_once_record_and_node_agree_in_the_end(
        rounds in prop::collection::vec(prop::collection::vec(op(), 1..8), 1..8)
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let world = World::new(3).await;
            let mut known: Vec<SandboxId> = vec![world.running().await];
            for round in rounds {
                let done = join_all(round.iter().map(|&op| perform(&world, op, &known))).await;
                known.extend(done.into_iter().flatten());
                known.sort();
                known.dedup();
            }
            settle(&world, &known).await;
            assert!(world.node.most_at_once() <= 3);
            for &id in &known {
                world.control.delete(&world.caller, id).await.unwrap();
            }
            world.pass(15);
            eventually("nothing is left", || world.node.ids().is_empty()).await;
        });
    }
}

/// Waits until everything that has an end of its own has come to it, then compares.
async fn settle(world: &World, known: &[SandboxId]) {
    for &id in known {
        let agreed = async {
            loop {
                let recorded = world.get(id).await.status;
                let on_node = world.node.state(id);
                let same = match on_node {
                    Some(state) => state == recorded,
                    None => recorded.is_ended() || recorded == SandboxState::Queued,
                };
                if same {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        let waited = tokio::time::timeout(crate::world::PATIENCE, agreed).await;
        assert!(
            waited.is_ok(),
            "{id}: on record {}, on its node {:?}",
            world.get(id).await.status,
            world.node.state(id)
        );
    }
}

#[tokio::test]
async fn a_deletion_that_a_crash_cut_short_is_finished() {
    let mut world = World::new(5).await;
    let unasked = world.running().await;
    world.node.plant(unasked, SandboxState::Deleted);
    // Asked for, and then the server died: before it did anything, in the middle, and when only the record was missing.
    let untouched = world.running().await;
    let broken = world.running().await;
    let gone = world.running().await;
    let stopped = world.running().await;
    world.control.stop(&world.caller, stopped).await.unwrap();
    world.becomes(stopped, SandboxState::Stopped).await;
    let asked = [untouched, broken, gone, stopped];
    for id in asked {
        let reason = FailureReason::SandboxDeleted;
        let (tenant, now) = (&world.caller.tenant, world.clock.now());
        let noted = world.store.ask_deletion(tenant, id, reason, now);
        noted.await.unwrap();
    }
    world.node.plant(broken, SandboxState::Failed);
    world.node.lose(gone);
    world.restart().await;
    for id in asked.into_iter().chain([unasked]) {
        let record = world.becomes(id, SandboxState::Deleted).await;
        let reason = if id == stopped {
            FailureReason::SandboxStopped
        } else {
            FailureReason::SandboxDeleted
        };
        assert_eq!(record.failure_reason, Some(reason));
    }
    assert_eq!(world.node.ids(), []);
}

#[tokio::test]
async fn a_deletion_that_its_node_refuses_is_tried_again() {
    let world = World::new(1).await;
    let id = world.running().await;
    world.node.breaks(Fault::DeleteFails);
    let refused = world.control.delete(&world.caller, id).await;
    assert_eq!(code(refused), ErrorCode::InternalError);
    assert_eq!(world.get(id).await.status, SandboxState::Running);
    world.node.heals(Fault::DeleteFails);
    world.pass(15);
    world.becomes(id, SandboxState::Deleted).await;
    assert_eq!(world.node.ids(), []);
}

#[tokio::test]
async fn one_that_is_being_deleted_is_not_deleted_again_beside_that() {
    let world = World::new(3).await;
    let [runs, ended, open] = [
        world.running().await,
        world.running().await,
        world.running().await,
    ];
    // For those that have ended no time is ever up, however much of it passes here.
    for id in [ended, open] {
        world.control.stop(&world.caller, id).await.unwrap();
        world.becomes(id, SandboxState::Stopped).await;
    }
    world.node.breaks(Fault::DeleteHangs);
    let reason = FailureReason::SandboxDeleted;
    let (tenant, now) = (&world.caller.tenant, world.clock.now());
    let noted = world.store.ask_deletion(tenant, open, reason, now);
    noted.await.unwrap();
    let deletes = [runs, ended, runs, ended].map(|id| {
        let (control, caller) = (world.control.clone(), world.caller.clone());
        tokio::spawn(async move { control.delete(&caller, id).await })
    });
    let begun = |id| world.node.deletes_of(id) > 0;
    eventually("two are at it", || begun(runs) && begun(ended)).await;
    let lists = world.node.lists();
    eventually("control looked several times", || {
        world.pass(15);
        begun(open) && world.node.lists() > lists + 3
    })
    .await;
    // Nobody learns from the time it takes that there is one.
    let stranger = world.stranger(Quotas::DEFAULT).await;
    let refused = world.control.delete(&stranger, ended).await;
    assert_eq!(code(refused), ErrorCode::NotFound);
    world.node.heals(Fault::DeleteHangs);
    for delete in deletes {
        assert_eq!(delete.await.unwrap().unwrap().status, SandboxState::Deleted);
    }
    world.becomes(open, SandboxState::Deleted).await;
    for id in [runs, ended, open] {
        assert_eq!(world.node.deletes_of(id), 1);
    }
}
