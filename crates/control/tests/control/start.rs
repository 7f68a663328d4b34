//! Starting again what has ended: like a create in what it needs, and nothing of it is lost when it does not come off.

use std::time::Duration;

use skerry_control::{CreateRequest, Sandbox, Settings};
use skerry_store::Quotas;
use skerry_types::{ErrorCode, Result, SandboxId, SandboxState};

use crate::fake::Fault;
use crate::world::{World, code, eventually};

impl World {
    async fn start(&self, id: SandboxId) -> Result<SandboxState> {
        let started = self.control.start_sandbox(&self.caller, id).await;
        started.map(|sandbox| sandbox.status)
    }

    async fn stopped(&self) -> SandboxId {
        let id = self.running().await;
        self.control.stop(&self.caller, id).await.unwrap();
        self.becomes(id, SandboxState::Stopped).await;
        id
    }
}

#[tokio::test]
async fn it_runs_again_under_its_id_with_its_time_anew() {
    let world = World::new(1).await;
    let id = world.stopped().await;
    world.pass(5);
    assert_eq!(world.start(id).await, Ok(SandboxState::Running));
    let runs = world.get(id).await;
    assert_eq!((runs.failure_reason, runs.ended_at), (None, None));
    let age = runs
        .expires_at
        .unwrap()
        .duration_since(runs.started_at.unwrap());
    assert_eq!(u64::try_from(age.as_secs()).unwrap(), runs.ttl_seconds);
    assert_eq!(world.start(id).await, Ok(SandboxState::Running), "it does");
    world.control.pause(&world.caller, id).await.unwrap();
    assert_eq!(code(world.start(id).await), ErrorCode::Conflict);
    world.node.crash(id);
    world.becomes(id, SandboxState::Failed).await;
    assert_eq!(world.start(id).await, Ok(SandboxState::Running));
    world.control.delete(&world.caller, id).await.unwrap();
    assert_eq!(code(world.start(id).await), ErrorCode::Conflict);
}

#[tokio::test]
async fn who_starts_it_and_whether_there_is_room_is_asked_anew() {
    let world = World::new(1).await;
    let id = world.stopped().await;
    let stranger = world.stranger(Quotas::DEFAULT).await;
    let refused = world.control.start_sandbox(&stranger, id).await;
    assert_eq!(code(refused), ErrorCode::NotFound);
    let other = world.running().await;
    assert_eq!(code(world.start(id).await), ErrorCode::NoCapacity);
    let waiting = world.create_with(CreateRequest::default()).await.id;
    world.control.stop(&world.caller, waiting).await.unwrap();
    assert_eq!(code(world.start(waiting).await), ErrorCode::Conflict);
    world.control.delete(&world.caller, other).await.unwrap();
    let at_once = futures::future::join_all((0..8).map(|_| world.start(id))).await;
    assert!(at_once.iter().all(Result::is_ok), "{at_once:?}");
    world.becomes(id, SandboxState::Running).await;
    let started = world.node.started();
    assert_eq!(
        started.iter().filter(|of| **of == id).count(),
        2,
        "once each"
    );
}

#[tokio::test]
async fn one_that_could_not_be_started_is_as_it_was() {
    let settings = Settings {
        provision_timeout: Duration::from_mins(1),
        ..Settings::default()
    };
    let world = World::with(1, settings).await;
    let id = world.stopped().await;
    let fails = async || {
        let before = world.get(id).await;
        world.node.breaks(Fault::CreateFails);
        assert_eq!(code(world.start(id).await), ErrorCode::InternalError);
        world.node.heals(Fault::CreateFails);
        let after = world.get(id).await;
        let how = |it: &Sandbox| (it.status, it.failure_reason, it.started_at);
        assert_eq!(how(&before), how(&after));
        assert!(before.status.is_ended());
    };
    fails().await;
    assert_eq!(world.start(id).await, Ok(SandboxState::Running));
    world.node.crash(id);
    world.becomes(id, SandboxState::Failed).await;
    fails().await;

    world.node.breaks(Fault::CreateHangs);
    let (control, caller) = (world.control.clone(), world.caller.clone());
    let late = tokio::spawn(async move { control.start_sandbox(&caller, id).await });
    eventually("its node began", || world.node.started().len() == 5).await;
    world.pass(60);
    eventually("nobody waits any more", || world.node.stops().len() == 4).await;
    world.node.heals(Fault::CreateHangs);
    late.await.unwrap().unwrap_err();
    eventually("it is not left running", || {
        world.node.state(id) == Some(SandboxState::Stopped)
    })
    .await;
    assert_eq!(world.node.deletes_of(id), 0);
    assert_eq!(world.start(id).await, Ok(SandboxState::Running));
}

#[tokio::test]
async fn a_delete_ends_a_start() {
    let world = World::new(1).await;
    let id = world.stopped().await;
    world.node.breaks(Fault::CreateHangs);
    let (control, caller) = (world.control.clone(), world.caller.clone());
    let starting = tokio::spawn(async move { control.start_sandbox(&caller, id).await });
    world.becomes(id, SandboxState::Provisioning).await;
    let (control, caller) = (world.control.clone(), world.caller.clone());
    let deleting = tokio::spawn(async move { control.delete(&caller, id).await });
    eventually("it is called off", || world.node.stops().len() == 2).await;
    world.node.heals(Fault::CreateHangs);
    starting.await.unwrap().unwrap_err();
    let gone = deleting.await.unwrap().unwrap();
    assert_eq!(gone.status, SandboxState::Deleted);
    assert!(world.node.ids().is_empty());
}

#[tokio::test]
async fn a_server_that_died_over_it_finds_it_as_its_node_says() {
    let mut world = World::new(2).await;
    let (before, after) = (world.stopped().await, world.stopped().await);
    for id in [before, after] {
        let (tenant, now) = (&world.caller.tenant, jiff::Timestamp::now());
        let begun = world.store.start_sandbox(tenant, id, now).await.unwrap();
        assert_eq!(begun.state, SandboxState::Provisioning);
    }
    world.node.plant(after, SandboxState::Running);
    world.restart().await;
    world.becomes(before, SandboxState::Stopped).await;
    world.becomes(after, SandboxState::Running).await;
    assert_eq!(world.start(before).await, Ok(SandboxState::Running));
}
