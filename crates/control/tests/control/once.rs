//! Idempotency keys.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures::future::join_all;
use skerry_control::Reply;
use skerry_store::Quotas;
use skerry_types::{ErrorCode, Result};
use tokio::sync::Semaphore;

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
        let work = work.clone().answer(201);
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
        .once(&other, "k1", b"b", work.clone().answer(201));
    assert!(!theirs.await.unwrap().replayed);
    world.pass(24 * 3600 + 1);
    assert!(!ask(b"a").await.unwrap().replayed);
}

#[tokio::test]
async fn only_success_is_kept() {
    let world = World::new(1).await;
    let work = Work::default();
    for (status, done) in [(500, 1), (429, 2), (201, 3), (201, 3)] {
        let work_again = work.clone().answer(status);
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
            .once(&world.caller, "k", b"", work.clone().answer(201))
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
        control.once(&caller, "k", b"", slow).await
    });
    eventually("it began", || began.load(Ordering::SeqCst) == 1).await;
    first.abort();
    gate.add_permits(1);
    let again = world
        .control
        .once(&world.caller, "k", b"", work.clone().answer(201));
    assert!(again.await.unwrap().replayed);
    assert_eq!(work.done(), 1);
}
