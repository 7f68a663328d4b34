//! Every way a sandbox can end, each with its reason; and what keeps it from ending.

use std::time::Duration;

use skerry_control::{Clock, CreateRequest, Need, OnDrain, OnTimeout, Settings, TimeoutRequest};
use skerry_types::{ErrorCode, FailureReason, SandboxState};

use crate::fake::Fault;
use crate::world::{PATIENCE, World, code, eventually};

fn lives(ttl: u64, idle: u64, on_timeout: OnTimeout) -> CreateRequest {
    CreateRequest {
        ttl_seconds: Some(ttl),
        idle_seconds: Some(idle),
        on_timeout: Some(on_timeout),
        ..CreateRequest::default()
    }
}

#[tokio::test]
async fn age_ends_it_as_asked_with_one_warning() {
    let world = World::new(3).await;
    let stops = world.running_with(lives(100, 0, OnTimeout::Stop)).await;
    let pauses = world.running_with(lives(100, 0, OnTimeout::Pause)).await;
    let goes = world.running_with(lives(100, 0, OnTimeout::Delete)).await;
    world.pass(39);
    assert!(world.node.warnings().is_empty());
    world.pass(1);
    eventually("three warnings", || world.node.warnings().len() == 3).await;
    assert!(world.node.warnings().iter().all(|(_, left)| *left == 60));
    world.pass(59);
    assert_eq!(world.get(stops).await.status, SandboxState::Running);
    world.pass(1);
    let ended = world.becomes(stops, SandboxState::Stopped).await;
    assert_eq!(ended.failure_reason, Some(FailureReason::TtlExceeded));
    assert_eq!(
        world.node.stops(),
        [(stops, Some(FailureReason::TtlExceeded))]
    );
    world.becomes(pauses, SandboxState::Paused).await;
    let gone = world.becomes(goes, SandboxState::Deleted).await;
    assert_eq!(gone.failure_reason, Some(FailureReason::TtlExceeded));
    assert_eq!(world.node.state(goes), None);
    assert_eq!(world.node.warnings().len(), 3);

    // Thawed, it gets its time again.
    world.control.resume(&world.caller, pauses).await.unwrap();
    let thawed = world.becomes(pauses, SandboxState::Running).await;
    assert_eq!(thawed.ttl_seconds, 100, "as it was asked for");
    world.pass(99);
    assert_eq!(world.get(pauses).await.status, SandboxState::Running);
    world.pass(1);
    world.becomes(pauses, SandboxState::Paused).await;
}

#[tokio::test]
async fn what_cannot_be_paused_at_its_end_is_stopped() {
    let world = World::new(1).await;
    world.node.breaks(Fault::PauseFails);
    let id = world.running_with(lives(5, 0, OnTimeout::Pause)).await;
    world.pass(5);
    let ended = world.becomes(id, SandboxState::Stopped).await;
    assert_eq!(ended.failure_reason, Some(FailureReason::TtlExceeded));
}

#[tokio::test]
async fn a_driver_that_cannot_pause_stops() {
    let world = World::new(1).await;
    world.node.breaks(Fault::NoPause);
    let id = world.running_with(lives(5, 0, OnTimeout::Pause)).await;
    let refused = world.control.pause(&world.caller, id).await;
    assert_eq!(code(refused), ErrorCode::Unsupported);
    world.pass(5);
    let ended = world.becomes(id, SandboxState::Stopped).await;
    assert_eq!(ended.failure_reason, Some(FailureReason::TtlExceeded));
}

#[tokio::test]
async fn idleness_ends_it_but_not_while_it_is_used() {
    let world = World::new(1).await;
    let id = world.running_with(lives(9000, 30, OnTimeout::Stop)).await;
    // Used inside, which only the node knows.
    world.pass(20);
    world.node.use_now(id);
    world.pass(20);
    // Used by a caller.
    world.control.ping(&world.caller, id).await.unwrap();
    assert_eq!(world.get(id).await.status, SandboxState::Running);
    world.pass(29);
    assert_eq!(world.get(id).await.status, SandboxState::Running);
    world.pass(1);
    let ended = world.becomes(id, SandboxState::Stopped).await;
    assert_eq!(ended.failure_reason, Some(FailureReason::IdleTimeout));
    let late = world.control.ping(&world.caller, id).await;
    assert_eq!(code(late), ErrorCode::SandboxNotRunning);
}

#[tokio::test]
async fn idleness_pauses_and_age_still_ends_it() {
    let world = World::new(1).await;
    let id = world
        .running_with(CreateRequest {
            on_idle: Some(OnTimeout::Pause),
            auto_resume: true,
            ..lives(100, 30, OnTimeout::Stop)
        })
        .await;
    // Somebody came between the look and the pause.
    world.node.breaks(Fault::UsedBeforePause);
    world.pass(30);
    eventually("it was looked at and left alone", || {
        world.node.pauses_refused() == 1
    })
    .await;
    assert_eq!(world.get(id).await.status, SandboxState::Running);
    world.node.heals(Fault::UsedBeforePause);
    world.pass(30);
    world.becomes(id, SandboxState::Paused).await;

    let (control, caller) = (&world.control, &world.caller);
    control.authorize(caller, id, Need::Use).await.unwrap();
    let running = control.authorize(caller, id, Need::Running).await;
    assert_eq!(code(running.map(drop)), ErrorCode::SandboxNotRunning);
    world.node.wake(id);
    world.becomes(id, SandboxState::Running).await;
    world.pass(30);
    world.becomes(id, SandboxState::Paused).await;
    world.pass(10);
    let ended = world.becomes(id, SandboxState::Stopped).await;
    assert_eq!(ended.failure_reason, Some(FailureReason::TtlExceeded));
}

#[tokio::test]
async fn waking_up_by_itself_can_be_changed() {
    let world = World::new(1).await;
    let (control, caller) = (&world.control, &world.caller);
    let id = world.running_with(lives(100, 0, OnTimeout::Stop)).await;
    assert!(!world.get(id).await.auto_resume);
    control.pause(caller, id).await.unwrap();
    let refused = control.authorize(caller, id, Need::Use).await;
    let refused = refused.map(drop).unwrap_err();
    assert!(refused.hint.unwrap().contains("auto_resume"));
    let set = async |auto_resume| {
        let request = TimeoutRequest {
            auto_resume: Some(auto_resume),
            ..TimeoutRequest::default()
        };
        control.set_timeout(caller, id, request).await
    };
    assert!(set(true).await.unwrap().auto_resume);
    control.authorize(caller, id, Need::Use).await.unwrap();
    world.node.breaks(Fault::Unreachable);
    set(false).await.unwrap_err();
    world.node.heals(Fault::Unreachable);
    assert!(world.get(id).await.auto_resume, "its node was not told");
    set(false).await.unwrap();
    assert_eq!(world.node.told_to_wake(), [(id, true), (id, false)]);
}

#[tokio::test]
async fn a_new_end_counts_from_now_and_within_the_largest_age() {
    let world = World::new(1).await;
    let id = world.running_with(lives(100, 0, OnTimeout::Stop)).await;
    let set = async |seconds| {
        let request = TimeoutRequest {
            ttl_seconds: Some(seconds),
            ..TimeoutRequest::default()
        };
        world.control.set_timeout(&world.caller, id, request).await
    };
    world.pass(50);
    assert_eq!(code(set(0).await), ErrorCode::ValidationError);
    assert_eq!(code(set(14_400).await), ErrorCode::ValidationError);
    let longer = set(200).await.unwrap();
    let end = longer.expires_at.unwrap();
    assert_eq!(
        end.duration_since(longer.started_at.unwrap()).as_secs(),
        250
    );
    world.pass(199);
    assert_eq!(world.get(id).await.status, SandboxState::Running);
    world.pass(1);
    world.becomes(id, SandboxState::Stopped).await;
    assert_eq!(code(set(10).await), ErrorCode::SandboxNotRunning);
}

#[tokio::test]
async fn a_new_idle_limit_counts_from_now_and_leaves_the_age_alone() {
    let world = World::new(1).await;
    let id = world.running_with(lives(9000, 0, OnTimeout::Stop)).await;
    let set = async |request| world.control.set_timeout(&world.caller, id, request).await;
    let before = world.get(id).await;
    world.pass(100);
    let request = TimeoutRequest {
        idle_seconds: Some(30),
        on_timeout: Some(OnTimeout::Pause),
        ..TimeoutRequest::default()
    };
    let after = set(request).await.unwrap();
    assert_eq!(
        (after.idle_seconds, after.on_timeout),
        (30, OnTimeout::Pause)
    );
    assert_eq!(
        (after.ttl_seconds, after.expires_at),
        (9000, before.expires_at)
    );
    let too_long = TimeoutRequest {
        idle_seconds: Some(u64::MAX),
        ..TimeoutRequest::default()
    };
    assert_eq!(code(set(too_long).await), ErrorCode::ValidationError);
    let nothing = TimeoutRequest::default();
    assert_eq!(code(set(nothing).await), ErrorCode::ValidationError);
    world.pass(29);
    assert_eq!(world.get(id).await.status, SandboxState::Running);
    world.pass(1);
    world.becomes(id, SandboxState::Paused).await;
}

#[tokio::test]
async fn stopping_is_said_at_once_and_again_is_fine() {
    let world = World::new(1).await;
    let id = world.running().await;
    let stop = async || world.control.stop(&world.caller, id).await.unwrap();
    assert_eq!(stop().await.status, SandboxState::Stopping);
    let ended = world.becomes(id, SandboxState::Stopped).await;
    assert_eq!(ended.failure_reason, Some(FailureReason::SandboxStopped));
    assert!(ended.ended_at.is_some());
    assert_eq!(stop().await.status, SandboxState::Stopped);
    assert_eq!(world.node.stops(), [(id, None)]);
    // Its place is free.
    world.running().await;
}

#[tokio::test]
async fn what_does_not_stop_is_killed_with_its_files_kept() {
    let world = World::new(1).await;
    let id = world.running().await;
    world.node.breaks(Fault::StopHangs);
    world.control.stop(&world.caller, id).await.unwrap();
    eventually("its node was told", || world.node.stops().len() == 1).await;
    world.pass(29);
    assert_eq!(world.get(id).await.status, SandboxState::Stopping);
    world.pass(1);
    world.becomes(id, SandboxState::Stopped).await;
    assert_eq!(world.node.deletes_of(id), 0);
    assert_eq!(world.node.state(id), Some(SandboxState::Stopped));
}

#[tokio::test]
async fn deleting_works_from_every_state_and_leaves_nothing() {
    let world = World::new(3).await;
    let delete = async |id| world.control.delete(&world.caller, id).await.unwrap();
    let running = world.running().await;
    let paused = world.running().await;
    world.control.pause(&world.caller, paused).await.unwrap();
    let stopped = world.running().await;
    world.control.stop(&world.caller, stopped).await.unwrap();
    world.becomes(stopped, SandboxState::Stopped).await;
    world.node.breaks(Fault::CreateHangs);
    let provisioning = world.create().await.id;
    let queued = world.create().await;
    assert_eq!(queued.status, SandboxState::Queued);
    for id in [queued.id, provisioning, running, paused, stopped] {
        world.node.heals(Fault::CreateHangs);
        let gone = delete(id).await;
        assert_eq!(gone.status, SandboxState::Deleted);
        assert_eq!(delete(id).await.status, SandboxState::Deleted);
    }
    assert_eq!(world.node.ids(), []);
    let reason = world.get(running).await.failure_reason;
    assert_eq!(reason, Some(FailureReason::SandboxDeleted));
    let reason = world.get(stopped).await.failure_reason;
    assert_eq!(reason, Some(FailureReason::SandboxStopped));
}

#[tokio::test]
async fn a_failed_create_is_cleaned_away_and_its_place_is_free() {
    let world = World::new(1).await;
    world.node.breaks(Fault::CreateFails);
    let id = world.create().await.id;
    let failed = world.becomes(id, SandboxState::Failed).await;
    assert_eq!(failed.failure_reason, Some(FailureReason::ProvisionFailed));
    assert!(
        failed
            .failure_message
            .unwrap()
            .contains("could not be mounted")
    );
    assert_eq!(world.node.ids(), []);
    world.node.heals(Fault::CreateFails);
    world.running().await;
}

#[tokio::test]
async fn a_create_that_takes_too_long_fails() {
    let world = World::new(1).await;
    world.node.breaks(Fault::CreateHangs);
    let id = world.create().await.id;
    eventually("the node began", || !world.node.ids().is_empty()).await;
    world.pass(30);
    // The node lets go of it once told to delete it.
    eventually("it was taken away", || world.node.ids().is_empty()).await;
    world.node.heals(Fault::CreateHangs);
    let failed = world.becomes(id, SandboxState::Failed).await;
    assert_eq!(failed.failure_reason, Some(FailureReason::ProvisionFailed));
    assert!(failed.failure_message.unwrap().contains("30 s"));
}

#[tokio::test]
async fn the_queue_is_first_come_first_served() {
    let world = World::new(1).await;
    let first = world.running().await;
    let mut waiting = Vec::new();
    for position in 1..=3 {
        let queued = world.create().await;
        assert_eq!(queued.status, SandboxState::Queued);
        assert_eq!(queued.queue_position, Some(position));
        waiting.push(queued.id);
    }
    world.control.stop(&world.caller, waiting[1]).await.unwrap();
    assert_eq!(world.get(waiting[2]).await.queue_position, Some(2));
    let mut order = vec![first];
    for next in [waiting[0], waiting[2]] {
        let last = *order.last().unwrap();
        world.control.delete(&world.caller, last).await.unwrap();
        world.becomes(next, SandboxState::Running).await;
        order.push(next);
    }
    assert_eq!(world.node.started(), order);
    assert_eq!(world.node.most_at_once(), 1);
}

#[tokio::test]
async fn waiting_in_the_queue_has_an_end() {
    let world = World::new(1).await;
    world.running().await;
    let waits = |seconds| CreateRequest {
        queue_timeout_seconds: Some(seconds),
        ..CreateRequest::default()
    };
    let short = world.create_with(waits(10)).await.id;
    let long = world.create_with(waits(20)).await.id;
    world.pass(10);
    let failed = world.becomes(short, SandboxState::Failed).await;
    assert_eq!(failed.failure_reason, Some(FailureReason::QueueTimeout));
    assert_eq!(world.get(long).await.queue_position, Some(1));
}

/// Lets time pass until control knows whether its node answers.
async fn noticed(world: &World, answers: bool) {
    let known = async {
        while world.control.readiness().await.node.is_some() != answers {
            world.pass(1);
        }
    };
    tokio::time::timeout(PATIENCE, known).await.unwrap();
}

#[tokio::test]
async fn waiting_for_a_node_that_is_silent_ends_as_lack_of_capacity() {
    let world = World::new(1).await;
    world.node.breaks(Fault::Unreachable);
    noticed(&world, false).await;
    let id = world.create().await.id;
    assert_eq!(world.get(id).await.status, SandboxState::Queued);
    world.pass(300);
    let failed = world.becomes(id, SandboxState::Failed).await;
    assert_eq!(failed.failure_reason, Some(FailureReason::CapacityTimeout));
}

#[tokio::test]
async fn a_sandbox_whose_agent_dies_has_failed() {
    let world = World::new(1).await;
    let id = world.running().await;
    world.node.crash(id);
    let failed = world.becomes(id, SandboxState::Failed).await;
    assert_eq!(failed.failure_reason, Some(FailureReason::AgentLost));
    assert_eq!(failed.failure_message.as_deref(), Some("its agent died"));
}

#[tokio::test]
async fn a_silent_node_makes_them_missing_then_lost() {
    let settings = Settings {
        resync_every: Duration::from_secs(1),
        missing_after: Duration::from_secs(1000),
        lost_after: Duration::from_secs(5000),
        ..Settings::default()
    };
    let world = World::with(2, settings).await;
    let id = world.running_with(lives(14_400, 0, OnTimeout::Stop)).await;
    let frozen = world.running_with(lives(14_400, 0, OnTimeout::Stop)).await;
    world.control.pause(&world.caller, frozen).await.unwrap();
    world.node.breaks(Fault::Unreachable);
    noticed(&world, false).await;
    assert_eq!(world.get(id).await.status, SandboxState::Running);
    world.pass(1000);
    world.becomes(id, SandboxState::Missing).await;
    world.becomes(frozen, SandboxState::Missing).await;
    let late = world.control.ping(&world.caller, id).await;
    assert_eq!(code(late), ErrorCode::NodeUnreachable);

    world.node.heals(Fault::Unreachable);
    noticed(&world, true).await;
    world.becomes(id, SandboxState::Running).await;
    world.becomes(frozen, SandboxState::Paused).await;

    world.node.breaks(Fault::Unreachable);
    noticed(&world, false).await;
    world.pass(5000);
    let lost = world.becomes(id, SandboxState::Failed).await;
    assert_eq!(lost.failure_reason, Some(FailureReason::NodeLost));
    world.node.heals(Fault::Unreachable);
    noticed(&world, true).await;
    for lost in [id, frozen] {
        eventually("what was lost is not left running", || {
            world.node.state(lost) == Some(SandboxState::Stopped)
        })
        .await;
    }
    let again = world.control.start_sandbox(&world.caller, id).await;
    assert_eq!(again.unwrap().status, SandboxState::Running);
}

#[tokio::test]
async fn draining_refuses_new_work_and_leaves_what_runs() {
    let world = World::new(2).await;
    let id = world.running().await;
    world.control.drain().await;
    let readiness = world.control.readiness().await;
    assert!(readiness.draining && !readiness.ready());
    let refused = world
        .control
        .create(&world.caller, CreateRequest::default())
        .await;
    assert_eq!(code(refused), ErrorCode::ServiceUnavailable);
    assert_eq!(world.node.state(id), Some(SandboxState::Running));
}

#[tokio::test]
async fn draining_stops_everything_if_so_set() {
    let settings = Settings {
        on_drain: OnDrain::Stop,
        ..Settings::default()
    };
    let world = World::with(1, settings).await;
    let id = world.running().await;
    let queued = world.create().await.id;
    world.control.drain().await;
    assert_eq!(world.get(id).await.status, SandboxState::Stopped);
    assert_eq!(world.get(queued).await.status, SandboxState::Stopped);
}

#[tokio::test]
async fn old_records_are_forgotten_and_young_ones_kept() {
    const DAY: i64 = 24 * 3600;
    let world = World::new(2).await;
    let old = world.running().await;
    world.control.delete(&world.caller, old).await.unwrap();
    world.pass(20 * DAY);
    let young = world.running().await;
    world.control.delete(&world.caller, young).await.unwrap();
    world.pass(11 * DAY);
    let forgotten = async {
        while world.control.get(&world.caller, old).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, forgotten).await.unwrap();
    assert_eq!(world.get(young).await.status, SandboxState::Deleted);
    eventually("journals too", || world.node.purged_before().is_some()).await;
}

#[tokio::test]
async fn an_end_that_may_only_be_later_never_comes_sooner() {
    let world = World::new(1).await;
    let id = world.running_with(lives(100, 0, OnTimeout::Stop)).await;
    let set = async |seconds| {
        let request = TimeoutRequest {
            ttl_seconds: Some(seconds),
            only_longer: true,
            ..TimeoutRequest::default()
        };
        let set = world.control.set_timeout(&world.caller, id, request).await;
        let seen = set.unwrap();
        let lives = seen.expires_at.unwrap().duration_since(world.clock.now());
        lives.as_secs()
    };
    assert_eq!(set(50).await, 100);
    assert_eq!(set(200).await, 200);
    world.pass(150);
    assert_eq!(set(49).await, 50);
    assert_eq!(set(60).await, 60);
}

#[tokio::test]
async fn what_is_paused_to_stay_stays_and_may_live_on_when_it_is_resumed() {
    let world = World::new(2).await;
    let request = CreateRequest {
        keep_paused: true,
        ..lives(100, 0, OnTimeout::Delete)
    };
    let kept = world.running_with(request).await;
    let other = world.running_with(lives(100, 0, OnTimeout::Delete)).await;
    let (control, caller) = (&world.control, &world.caller);
    for id in [kept, other] {
        control.pause(caller, id).await.unwrap();
    }
    // Longer than the largest age.
    world.pass(20_000);
    world.becomes(other, SandboxState::Deleted).await;
    assert_eq!(world.get(kept).await.status, SandboxState::Paused);
    let longer = TimeoutRequest {
        ttl_seconds: Some(300),
        ..TimeoutRequest::default()
    };
    control.set_timeout(caller, kept, longer).await.unwrap();
    control.resume(caller, kept).await.unwrap();
    world.pass(200);
    let set = control.set_timeout(caller, kept, longer).await.unwrap();
    assert_eq!(set.status, SandboxState::Running);
    world.pass(300);
    world.becomes(kept, SandboxState::Deleted).await;
}
