//! A server that died at any point: at its next start store and node are brought into agreement.

use std::collections::BTreeMap;

use skerry_control::{Clock, CreateRequest, ForkRequest, OnTimeout};
use skerry_store::{Change, LOCAL_NODE, Network, NewSandbox, Wanted};
use skerry_types::{Action, Egress, FailureReason, SandboxId, SandboxState};

use crate::fake::Fault;
use crate::world::{World, eventually};

/// Makes one, then puts record and node into whatever a crash may leave.
async fn left(world: &World, recorded: &[Action], on_node: Option<SandboxState>) -> SandboxId {
    let tenant = world.caller.tenant;
    let id = world.running().await;
    match on_node {
        Some(state) => world.node.plant(id, state),
        None => world.node.lose(id),
    }
    for &action in recorded {
        let at = jiff::Timestamp::now();
        let change = Change::default();
        world
            .store
            .act(&tenant, id, action, &change, at)
            .await
            .unwrap();
    }
    id
}

#[tokio::test]
async fn record_and_node_agree_after_a_restart() {
    use SandboxState as S;
    let mut world = World::new(20).await;
    let cases = [
        (&[][..], Some(S::Running), S::Running, None),
        (&[], Some(S::Paused), S::Paused, None),
        (&[], Some(S::Stopped), S::Stopped, None),
        (&[], Some(S::Failed), S::Failed, None),
        (&[], None, S::Failed, Some(FailureReason::NodeLost)),
        (&[Action::Pause], Some(S::Running), S::Running, None),
        (
            &[Action::Pause],
            None,
            S::Failed,
            Some(FailureReason::NodeLost),
        ),
        (&[Action::Stop], Some(S::Stopped), S::Stopped, None),
        (
            &[Action::Stop],
            Some(S::Running),
            S::Stopped,
            Some(FailureReason::SandboxStopped),
        ),
        (&[Action::Stop], None, S::Stopped, None),
        (&[Action::Lose], Some(S::Running), S::Running, None),
        (&[Action::Lose], None, S::Stopped, None),
    ];
    let mut made = Vec::new();
    for (recorded, on_node, _, _) in cases {
        made.push(left(&world, recorded, on_node).await);
    }
    world.restart().await;
    for (id, (recorded, on_node, becomes, reason)) in made.into_iter().zip(cases) {
        let now = world.becomes(id, becomes).await;
        assert_eq!(now.failure_reason, reason, "{recorded:?} {on_node:?}");
    }
}

#[tokio::test]
async fn what_was_being_made_is_found_or_has_failed() {
    let mut world = World::new(3).await;
    let mut made = Vec::new();
    for on_node in [
        None,
        Some(SandboxState::Running),
        Some(SandboxState::Provisioning),
    ] {
        let id = insert_provisioning(&world).await;
        if let Some(state) = on_node {
            world.node.plant(id, state);
        }
        made.push(id);
    }
    world.restart().await;
    let lost = world.becomes(made[0], SandboxState::Failed).await;
    assert_eq!(lost.failure_reason, Some(FailureReason::ProvisionFailed));
    world.becomes(made[1], SandboxState::Running).await;
    assert_eq!(world.get(made[2]).await.status, SandboxState::Provisioning);
    // Nobody finishes the third: it is cleaned away.
    world.pass(30);
    let stuck = world.becomes(made[2], SandboxState::Failed).await;
    assert_eq!(stuck.failure_reason, Some(FailureReason::ProvisionFailed));
    assert_eq!(world.node.state(made[2]), None);
}

async fn insert_provisioning(world: &World) -> SandboxId {
    let new = NewSandbox {
        id: SandboxId::new(),
        name: None,
        project: None,
        region: "local".into(),
        image: "base".into(),
        profile: None,
        resources: skerry_types::Resources::FREE_FORM,
        wanted: Wanted::default(),
        network: Network::None,
        metadata: BTreeMap::new(),
        env_names: Vec::new(),
        ttl_seconds: 100,
        idle_seconds: 0,
        on_timeout: OnTimeout::Stop,
        on_idle: None,
        auto_resume: false,
        keep_paused: false,
        public_ports: false,
        ports: Vec::new(),
        egress: Egress::default(),
        volumes: Vec::new(),
        template: None,
        queue_timeout_seconds: 10,
    };
    let now = world.clock.now();
    let row = world
        .store
        .create_sandbox(&world.caller.tenant, new, Some(LOCAL_NODE), now)
        .await
        .unwrap();
    assert_eq!(row.state, SandboxState::Provisioning);
    row.id
}

#[tokio::test]
async fn the_queue_survives_but_not_the_values_of_an_environment() {
    let mut world = World::new(1).await;
    let first = world.running().await;
    let plain = world.create().await.id;
    let with_env = world
        .create_with(CreateRequest {
            env: BTreeMap::from([("A".into(), "1".into())]),
            ..CreateRequest::default()
        })
        .await
        .id;
    world.restart().await;
    let failed = world.becomes(with_env, SandboxState::Failed).await;
    assert_eq!(failed.failure_reason, Some(FailureReason::ProvisionFailed));
    assert!(failed.failure_message.unwrap().contains("environment"));
    assert_eq!(world.get(plain).await.queue_position, Some(1));
    world.control.delete(&world.caller, first).await.unwrap();
    world.becomes(plain, SandboxState::Running).await;
}

#[tokio::test]
async fn what_was_asked_of_a_queued_one_is_kept_and_has_effect() {
    let mut world = World::new(1).await;
    let first = world.running().await;
    let asked = CreateRequest {
        isolation: Some("namespace".into()),
        privilege: Some("root".into()),
        network: Some("none".into()),
        name: Some("box".into()),
        project: Some("p".into()),
        ..CreateRequest::default()
    };
    let queued = world.create_with(asked).await;
    world.restart().await;
    assert_eq!(world.get(queued.id).await, queued);
    world.control.delete(&world.caller, first).await.unwrap();
    let runs = world.becomes(queued.id, SandboxState::Running).await;
    assert_eq!(runs.isolation.as_deref(), Some("namespace"));
    assert_eq!(runs.privilege.as_deref(), Some("root"));
    let order = world.node.order(queued.id).unwrap();
    assert_eq!(
        order.driver.as_deref(),
        Some("sim"),
        "the one that meets it"
    );
    assert_eq!(order.privilege.as_deref(), Some("root"));
    assert_eq!(
        (order.network.as_str(), order.name.as_deref()),
        ("none", Some("box"))
    );
}

#[tokio::test]
async fn isolation_that_its_node_has_no_more_is_refused_not_weakened() {
    let mut world = World::new(1).await;
    let first = world.running().await;
    let asked = CreateRequest {
        isolation: Some("namespace".into()),
        ..CreateRequest::default()
    };
    let queued = world.create_with(asked).await.id;
    world.isolation = "none";
    world.restart().await;
    world.control.delete(&world.caller, first).await.unwrap();
    let failed = world.becomes(queued, SandboxState::Failed).await;
    assert_eq!(failed.failure_reason, Some(FailureReason::ProvisionFailed));
    assert!(failed.failure_message.unwrap().contains("isolation"));
    assert!(world.node.order(queued).is_none());
}

#[tokio::test]
async fn orphans_are_removed_and_the_ended_keep_what_they_left() {
    let mut world = World::new(5).await;
    let stopped = world.running().await;
    world.control.stop(&world.caller, stopped).await.unwrap();
    world.becomes(stopped, SandboxState::Stopped).await;
    let deleted = world.running().await;
    world.control.delete(&world.caller, deleted).await.unwrap();
    let stranger = SandboxId::new();
    world.node.plant(stranger, SandboxState::Running);
    world.node.plant(deleted, SandboxState::Stopped);
    world.restart().await;
    eventually("orphans are gone", || world.node.ids() == [stopped]).await;
}

#[tokio::test]
async fn one_that_resists_keeps_no_other_from_being_looked_at() {
    let mut world = World::new(2).await;
    let lost = world.running().await;
    world.node.plant(SandboxId::new(), SandboxState::Running);
    world.node.breaks(Fault::DeleteFails);
    world.node.lose(lost);
    world.restart().await;
    let found = world.becomes(lost, SandboxState::Failed).await;
    assert_eq!(found.failure_reason, Some(FailureReason::NodeLost));
}

#[tokio::test]
async fn published_ports_are_on_record_and_a_fork_has_none() {
    let mut world = World::new(2).await;
    let request = CreateRequest {
        ports: vec![3000, 5432],
        ..CreateRequest::default()
    };
    let id = world.running_with(request).await;
    let of = async |world: &World, id| {
        let facts = world.get(id).await.facts.unwrap();
        let published = facts.published.iter();
        let ports = published.map(|one| (one.port, one.address.to_string()));
        ports.collect::<Vec<_>>()
    };
    let expected = [
        (3000, "127.0.0.1:3001".to_owned()),
        (5432, "127.0.0.1:5433".to_owned()),
    ];
    assert_eq!(of(&world, id).await, expected);
    let fork = ForkRequest::default();
    let child = world.control.fork(&world.caller, id, fork).await.unwrap();
    assert_eq!(of(&world, child.id).await, []);
    world.restart().await;
    assert_eq!(of(&world, id).await, expected);
}
