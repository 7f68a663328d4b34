//! Volumes: whoever has one keeps it there, and nothing goes that nobody removed.

use skerry_control::{
    CreateRequest, ForkRequest, Quotas, SnapshotRequest, VolumeRequest, VolumeWish,
};
use skerry_proto::node::{MemoryWish, Mount, Volumes};
use skerry_types::{ErrorCode, SandboxId, VolumeId};

use crate::fake::Fault;
use crate::world::{World, code};

fn named(name: &str) -> VolumeRequest {
    VolumeRequest {
        name: name.to_owned(),
        ..VolumeRequest::default()
    }
}

fn with(volume: &str) -> CreateRequest {
    CreateRequest {
        volumes: vec![VolumeWish {
            volume: volume.to_owned(),
            path: "/data".to_owned(),
        }],
        ..CreateRequest::default()
    }
}

impl World {
    async fn volume(&self, name: &str) -> VolumeId {
        let made = self.control.create_volume(&self.caller, named(name)).await;
        made.unwrap().0.id
    }

    fn mounts(&self, sandbox: SandboxId) -> Vec<Mount> {
        self.node.order(sandbox).unwrap().volumes
    }

    async fn remove_volume(&self, reference: &str) -> skerry_types::Result<()> {
        self.control.remove_volume(&self.caller, reference).await
    }
}

fn at_data(volume: VolumeId) -> Vec<Mount> {
    vec![Mount {
        volume,
        path: "/data".to_owned(),
    }]
}

#[tokio::test]
async fn one_that_is_in_use_stays() {
    let world = World::new(5).await;
    let volume = world.volume("data").await;
    let user = world.running_with(with("data")).await;
    assert_eq!(world.mounts(user), at_data(volume));
    assert_eq!(world.get(user).await.volumes[0].name, "data");
    let refused = world.remove_volume("data").await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Conflict);
    assert!(refused.message.contains(&user.to_string()), "{refused}");
    world.control.stop(&world.caller, user).await.unwrap();
    let stopped = world.remove_volume("data").await;
    assert_eq!(
        code(stopped),
        ErrorCode::Conflict,
        "it could be started again"
    );
    world.control.delete(&world.caller, user).await.unwrap();
    world.remove_volume("data").await.unwrap();
    assert_eq!(world.node.list_volumes().await.unwrap(), []);
    assert_eq!(code(world.remove_volume("data").await), ErrorCode::NotFound);
    let late = world.control.create(&world.caller, with("data")).await;
    assert_eq!(code(late), ErrorCode::NotFound);
    assert_ne!(world.volume("data").await, volume, "its name is free");
}

#[tokio::test]
async fn copies_have_the_volumes_of_what_they_are_copies_of() {
    let world = World::new(9).await;
    let volume = world.volume("data").await;
    let parent = world.running_with(with("data")).await;
    let fork = ForkRequest::default();
    let child = world
        .control
        .fork(&world.caller, parent, fork)
        .await
        .unwrap();
    assert_eq!(child.volumes, world.get(parent).await.volumes);
    let snapshot = |name: &str, memory| SnapshotRequest {
        name: Some(name.to_owned()),
        memory,
        ..SnapshotRequest::default()
    };
    for (name, memory) in [
        ("files", MemoryWish::None),
        ("memory", MemoryWish::Required),
    ] {
        let taken = world
            .control
            .take_snapshot(&world.caller, parent, snapshot(name, memory));
        taken.await.unwrap();
    }
    let from = |image: &str, request| CreateRequest {
        image: Some(image.to_owned()),
        ..request
    };
    for image in ["files", "memory"] {
        let made = world
            .running_with(from(image, CreateRequest::default()))
            .await;
        assert_eq!(world.mounts(made), at_data(volume), "{image}");
    }
    let other = world.volume("other").await;
    let made = world.running_with(from("files", with("other"))).await;
    assert_eq!(world.mounts(made), at_data(other));
    let refused = world
        .control
        .create(&world.caller, from("memory", with("other")));
    assert_eq!(code(refused.await), ErrorCode::ValidationError);
}

#[tokio::test]
async fn what_cannot_be_is_refused_before_anything_is_made() {
    let world = World::new(5).await;
    world.volume("data").await;
    let again = world
        .control
        .create_volume(&world.caller, named("data"))
        .await;
    assert_eq!(code(again), ErrorCode::Conflict);
    let like_an_id = VolumeId::new().to_string();
    for name in ["", "a/b", &like_an_id] {
        let made = world
            .control
            .create_volume(&world.caller, named(name))
            .await;
        assert_eq!(code(made), ErrorCode::ValidationError, "{name}");
    }
    let huge = VolumeRequest {
        size_mb: Some(1 << 40),
        ..named("huge")
    };
    let made = world.control.create_volume(&world.caller, huge).await;
    assert_eq!(code(made), ErrorCode::ValidationError);
    for path in ["data", "/", "/proc/x", "/a/../b"] {
        let mut wish = with("data");
        path.clone_into(&mut wish.volumes[0].path);
        let made = world.control.create(&world.caller, wish).await;
        assert_eq!(code(made), ErrorCode::ValidationError, "{path}");
    }
    let spy = world.stranger(Quotas::DEFAULT).await;
    let theirs = world.control.create(&spy, with("data")).await;
    assert_eq!(code(theirs), ErrorCode::NotFound);
    assert_eq!(
        code(world.control.volume(&spy, "data").await),
        ErrorCode::NotFound
    );
    assert_eq!(world.node.ids(), []);
}

#[tokio::test]
async fn a_failure_on_the_node_leaves_no_record() {
    let world = World::new(5).await;
    world.node.breaks(Fault::CreateFails);
    let made = world
        .control
        .create_volume(&world.caller, named("data"))
        .await;
    assert_eq!(code(made), ErrorCode::InternalError);
    world.node.heals(Fault::CreateFails);
    world.volume("data").await;
}

#[tokio::test]
async fn a_start_removes_what_was_to_go_and_nothing_else() {
    let mut world = World::new(5).await;
    let kept = world.volume("kept").await;
    let leaving = world.volume("leaving").await;
    let unknown = VolumeId::new();
    world.node.create_volume(unknown, 1).await.unwrap();
    world.node.breaks(Fault::DeleteFails);
    assert_eq!(
        code(world.remove_volume("leaving").await),
        ErrorCode::InternalError
    );
    let gone = world.control.volume(&world.caller, "leaving").await;
    assert_eq!(code(gone), ErrorCode::NotFound, "nobody gets it any more");
    assert!(world.node.list_volumes().await.unwrap().contains(&leaving));
    world.node.heals(Fault::DeleteFails);
    world.restart().await;
    for _ in 0..2 {
        let there = world.node.list_volumes().await.unwrap();
        assert!(there.contains(&kept) && there.contains(&unknown));
        assert!(!there.contains(&leaving));
        world.restart().await;
    }
}
