//! Idempotency keys.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures::future::join_all;
use sha2::{Digest, Sha256};
use skerry_control::{Attempt, Clock, CreateRequest, Reply};
use skerry_store::{Begun, Quotas};
use skerry_types::{ErrorCode, Result, SandboxId, SandboxState};
use tokio::sync::Semaphore;

use crate::fake::Fault;
use crate::world::{World, code, eventually};

/// Work that counts how often it was done.
#[derive(Clone, Default)]
struct Work(Arc<AtomicU32>);

impl Work {
    fn done(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }

    async fn answer(self, status: u16) -> Reply {
        tokio::task::yield_now().await;
        let n = self.0.fetch_add(1, Ordering::SeqCst);
        Reply {
            status,
            body: format!("{{\"n\":{n}}}"),
            replayed: false,
        }
    }
}

#[tokio::test]
async fn the_same_request_again_gets_the_same_answer() {
    let world = World::new(1).await;
    let work = Work::default();
    let ask = async |request: &[u8]| -> Result<Reply> {
        let work = work.clone();
        let work = |_| work.answer(201);
        world.control.once(&world.caller, "k1", request, work).await
    };
    let first = ask(b"a").await.unwrap();
    let second = ask(b"a").await.unwrap();
    assert_eq!((first.status, &first.body), (second.status, &second.body));
    assert!(!first.replayed && second.replayed);
    assert_eq!(code(ask(b"b").await), ErrorCode::Conflict);
    assert_eq!(work.done(), 1);

    let other = world.stranger(Quotas::DEFAULT).await;
    let theirs = world
        .control
        .once(&other, "k1", b"b", |_| work.clone().answer(201));
    assert!(!theirs.await.unwrap().replayed);
    world.pass(24 * 3600 + 1);
    assert!(!ask(b"a").await.unwrap().replayed);
}

#[tokio::test]
async fn only_success_is_kept() {
    let world = World::new(1).await;
    let work = Work::default();
    for (status, done) in [(500, 1), (429, 2), (201, 3), (201, 3)] {
        let work_again = |_| work.clone().answer(status);
        let reply = world
            .control
            .once(&world.caller, "k", b"", work_again)
            .await;
        assert_eq!(reply.unwrap().status, status);
        assert_eq!(work.done(), done);
    }
}

#[tokio::test]
async fn many_at_once_are_done_once() {
    let world = World::new(1).await;
    let work = Work::default();
    let ask = || {
        world
            .control
            .once(&world.caller, "k", b"", |_| work.clone().answer(201))
    };
    let replies = join_all((0..20).map(|_| ask())).await;
    let bodies: Vec<_> = replies.into_iter().map(|r| r.unwrap()).collect();
    assert!(bodies.iter().all(|r| r.body == bodies[0].body));
    assert_eq!(bodies.iter().filter(|r| !r.replayed).count(), 1);
    assert_eq!(work.done(), 1);
}

#[tokio::test]
async fn work_goes_on_when_its_caller_goes_away() {
    let world = World::new(1).await;
    let gate = Arc::new(Semaphore::new(0));
    let work = Work::default();
    let slow = {
        let (gate, work) = (gate.clone(), work.clone());
        async move {
            let _permit = gate.acquire().await.unwrap();
            work.answer(201).await
        }
    };
    let (control, caller) = (world.control.clone(), world.caller.clone());
    let began = Arc::new(AtomicU32::new(0));
    let signal = began.clone();
    let first = tokio::spawn(async move {
        let slow = async move {
            signal.store(1, Ordering::SeqCst);
            slow.await
        };
        control.once(&caller, "k", b"", |_| slow).await
    });
    eventually("it began", || began.load(Ordering::SeqCst) == 1).await;
    first.abort();
    gate.add_permits(1);
    let again = world
        .control
        .once(&world.caller, "k", b"", |_| work.clone().answer(201));
    assert!(again.await.unwrap().replayed);
    assert_eq!(work.done(), 1);
}

#[tokio::test]
async fn what_a_dead_server_began_goes_on_under_the_same_id() {
    let mut world = World::new(3).await;
    let (store, tenant) = (world.store.clone(), world.caller.tenant);
    let hash = Sha256::digest(b"r").into();
    // Two requests were cut short: one before it made anything, one after.
    let mut ids = Vec::new();
    for key in ["nothing", "something"] {
        let replica = &world.settings.replica;
        let begun = store.begin_idempotent(&tenant, key, hash, replica, world.clock.now());
        let Begun::First(claim) = begun.await.unwrap() else {
            panic!("somebody has {key}");
        };
        ids.push(claim.id);
    }
    let request = CreateRequest {
        id: Some(SandboxId::from_uuid(ids[1])),
        ..CreateRequest::default()
    };
    world.running_with(request).await;
    world.restart().await;
    let (control, caller) = (&world.control, &world.caller);
    for (key, id, found) in [("nothing", ids[0], false), ("something", ids[1], true)] {
        let reply = control.once(caller, key, b"r", |attempt: Attempt| {
            let (control, caller) = (control.clone(), caller.clone());
            async move {
                let earlier =
                    attempt.earlier(control.get(&caller, SandboxId::from_uuid(attempt.id)));
                Reply {
                    status: 201,
                    body: format!("{} {}", attempt.id, earlier.await.unwrap().is_some()),
                    replayed: false,
                }
            }
        });
        assert_eq!(reply.await.unwrap().body, format!("{id} {found}"));
    }
}

#[tokio::test]
async fn what_a_dead_server_could_not_finish_is_said_and_made_anew() {
    let mut world = World::new(3).await;
    let (store, tenant) = (world.store.clone(), world.caller.tenant);
    let hash = Sha256::digest(b"r").into();
    let replica = world.settings.replica.clone();
    let begun = store.begin_idempotent(&tenant, "k", hash, &replica, world.clock.now());
    let Begun::First(claim) = begun.await.unwrap() else {
        panic!("somebody has it");
    };
    let cut = SandboxId::from_uuid(claim.id);
    world.node.breaks(Fault::CreateHangs);
    world
        .create_with(CreateRequest {
            id: Some(cut),
            ..CreateRequest::default()
        })
        .await;
    // All of that is forgotten, on the node too.
    let world_before = world.control.clone();
    world.node.lose(cut);
    world.control = world.beside().await;
    world.becomes(cut, SandboxState::Failed).await;
    let ask = async || {
        let work = |attempt: Attempt| {
            let (control, caller) = (world.control.clone(), world.caller.clone());
            async move {
                let made = attempt.earlier_sandbox(&control, &caller).await;
                let (status, body) = match made {
                    Ok(Some(made)) => (201, made.id.to_string()),
                    Ok(None) => (201, SandboxId::from_uuid(attempt.id).to_string()),
                    Err(error) => (error.code.status(), error.message),
                };
                Reply {
                    status,
                    body,
                    replayed: false,
                }
            }
        };
        world.control.once(&world.caller, "k", b"r", work).await
    };
    let first = ask().await.unwrap();
    assert_eq!(first.status, 503, "{}", first.body);
    assert!(first.body.contains(&cut.to_string()), "{}", first.body);
    let second = ask().await.unwrap();
    assert_eq!((second.status, second.replayed), (201, false));
    assert_ne!(second.body, cut.to_string(), "another one");
    assert!(ask().await.unwrap().replayed);
    world.node.heals(Fault::CreateHangs);
    world_before.drain().await;
}
