//! Where sandboxes may connect: what is on record is what their node has.

use skerry_control::{CreateRequest, ForkRequest, SnapshotRequest};
use skerry_types::{Egress, ErrorCode, SandboxId};

use crate::fake::Fault;
use crate::world::{World, code};

fn only(name: &str) -> Egress {
    Egress::new(&[name], &["0.0.0.0/0"]).unwrap()
}

fn nat(egress: Option<Egress>) -> CreateRequest {
    CreateRequest {
        network: Some("nat".into()),
        egress,
        ..CreateRequest::default()
    }
}

impl World {
    /// On record, and as its node was told when it was made.
    async fn egress(&self, id: SandboxId) -> (Egress, Egress) {
        let ordered = self.node.order(id).unwrap().egress;
        (self.get(id).await.egress, ordered)
    }
}

#[tokio::test]
async fn new_rules_are_the_nodes_before_they_are_on_record() {
    let world = World::new(5).await;
    let id = world.running_with(nat(Some(only("one.example")))).await;
    assert_eq!(
        world.egress(id).await,
        (only("one.example"), only("one.example"))
    );
    let set = async |egress| world.control.set_egress(&world.caller, id, egress).await;
    world.node.breaks(Fault::Unreachable);
    set(only("lost.example")).await.unwrap_err();
    world.node.heals(Fault::Unreachable);
    assert_eq!(world.get(id).await.egress, only("one.example"));
    let changed = set(only("two.example")).await.unwrap();
    assert_eq!(changed.egress, only("two.example"));
    assert_eq!(world.node.told_egress(), [(id, only("two.example"))]);
    assert!(set(Egress::default()).await.unwrap().egress.is_empty());
    world.control.stop(&world.caller, id).await.unwrap();
    assert_eq!(
        code(set(only("late.example")).await),
        ErrorCode::SandboxNotRunning
    );
}

#[tokio::test]
async fn copies_have_the_rules_of_what_they_are_made_from() {
    let world = World::new(9).await;
    let (control, caller) = (&world.control, &world.caller);
    let parent = world.running_with(nat(Some(only("one.example")))).await;
    let fork = control.fork(caller, parent, ForkRequest::default()).await;
    assert_eq!(fork.unwrap().egress, only("one.example"));
    let request = SnapshotRequest {
        name: Some("kept".into()),
        ..SnapshotRequest::default()
    };
    control
        .take_snapshot(caller, parent, request)
        .await
        .unwrap();
    let made = async |egress, network: Option<&str>| {
        let request = CreateRequest {
            image: Some("kept".into()),
            network: network.map(str::to_owned),
            egress,
            ..CreateRequest::default()
        };
        let id = world.running_with(request).await;
        world.egress(id).await.1
    };
    assert_eq!(made(None, None).await, only("one.example"));
    let other = only("two.example");
    assert_eq!(made(Some(other.clone()), None).await, other);
    let open = Egress::default();
    assert_eq!(made(Some(open.clone()), None).await, open);
    assert_eq!(made(None, Some("none")).await, open);
}

#[tokio::test]
async fn rules_need_a_way_out() {
    let world = World::new(5).await;
    let request = CreateRequest {
        network: Some("none".into()),
        ..nat(Some(only("one.example")))
    };
    let refused = world.control.create(&world.caller, request).await;
    assert_eq!(code(refused), ErrorCode::ValidationError);
    let plain = CreateRequest {
        network: Some("none".into()),
        ..CreateRequest::default()
    };
    let id = world.running_with(plain).await;
    let set = async |egress| world.control.set_egress(&world.caller, id, egress).await;
    assert_eq!(
        code(set(only("a.example")).await),
        ErrorCode::ValidationError
    );
    set(Egress::default()).await.unwrap();
}
