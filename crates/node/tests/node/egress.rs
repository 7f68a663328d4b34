//! Where sandboxes may connect: whoever keeps the rules has them before anything runs.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use futures::StreamExt;
use parking_lot::Mutex;
use skerry_driver::DriverError;
use skerry_driver_sim::SimDriver;
use skerry_node::{Gate, Node, Options, ReadyLimits};
use skerry_proto::node::{
    CreateSandbox, Events, ForkSandbox, Map, MemoryWish, Sandboxes, Snapshots,
};
use skerry_types::{Egress, ErrorCode, SandboxId};

use crate::bed::{Bed, Island, patiently, request};

/// Remembers what it is told, until it refuses to be told anything.
#[derive(Debug, Default)]
struct Book(Mutex<HashMap<SandboxId, Egress>>, AtomicBool);

#[async_trait]
impl Gate for Book {
    async fn rule(&self, place: SandboxId, egress: &Egress) -> Result<(), DriverError> {
        if self.1.load(Ordering::Relaxed) {
            let gone = io::Error::other("it is gone");
            return Err(DriverError::step("tell the gateway")(gone));
        }
        self.0.lock().insert(place, egress.clone());
        Ok(())
    }

    fn forget(&self, place: SandboxId) {
        self.0.lock().remove(&place);
    }
}

impl Book {
    fn refuses(&self) {
        self.1.store(true, Ordering::Relaxed);
    }

    fn rules(&self) -> Vec<Egress> {
        self.0.lock().values().cloned().collect()
    }
}

async fn node(bed: &Bed, gate: &Arc<Book>, ready: usize) -> Arc<Node> {
    let driver = SimDriver::that_has_nat(Arc::clone(&bed.world));
    let gate: Arc<dyn Gate> = Arc::clone(gate) as _;
    let options = Options {
        drivers: vec![Arc::new(driver)],
        gate: Some(gate),
        ready: ReadyLimits {
            each: ready,
            memory_mb: 0,
            prepared: 0,
        },
        ..bed.options()
    };
    Node::start(options).await.unwrap()
}

fn only(name: &str) -> Egress {
    Egress::new(&[name], &["0.0.0.0/0"]).unwrap()
}

fn nat(egress: Egress) -> CreateSandbox {
    CreateSandbox {
        network: "nat".to_owned(),
        egress,
        ..request(SandboxId::new())
    }
}

async fn island(node: &Arc<Node>, egress: Egress) -> Island {
    let order = nat(egress);
    let id = order.id;
    node.create(order).await.unwrap();
    Island {
        node: Arc::clone(node),
        id,
    }
}

#[tokio::test]
async fn rules_are_kept_through_a_restart_and_gone_with_the_sandbox() {
    let (bed, book) = (Bed::new().await, Arc::new(Book::default()));
    let first = node(&bed, &book, 0).await;
    let made = island(&first, only("one.example")).await;
    assert_eq!(book.rules(), [only("one.example")]);
    for _ in 0..2 {
        made.node
            .set_egress(made.id, only("two.example"))
            .await
            .unwrap();
    }
    assert_eq!(book.rules(), [only("two.example")]);
    let events = made.node.events(made.id, 0, false).await.unwrap();
    let events: Vec<_> = events.map(Result::unwrap).collect().await;
    let told = events.iter().filter(|event| event.kind == "egress.changed");
    let allowed: Vec<_> = told.map(|event| event.data["allow"][0].clone()).collect();
    assert_eq!(allowed, ["one.example", "two.example"]);
    drop((made.node, first));

    let later = Arc::new(Book::default());
    let second = node(&bed, &later, 0).await;
    assert_eq!(later.rules(), [only("two.example")]);
    second.delete(made.id).await.unwrap();
    assert!(later.rules().is_empty());
}

#[tokio::test]
async fn a_copy_has_the_rules_that_it_is_given_and_a_rollback_keeps_those_of_now() {
    let (bed, book) = (Bed::new().await, Arc::new(Book::default()));
    let node = node(&bed, &book, 0).await;
    let parent = island(&node, only("then.example")).await;
    let snapshot = parent.snapshot().await;
    node.set_egress(parent.id, only("now.example"))
        .await
        .unwrap();
    node.roll_back(parent.id, snapshot).await.unwrap();
    assert_eq!(book.rules(), [only("now.example")], "of its new place");
    let fork = ForkSandbox {
        parent: parent.id,
        id: SandboxId::new(),
        env: Map::new(),
        name: None,
        egress: only("fork.example"),
        memory: MemoryWish::None,
        base: None,
    };
    node.fork(fork).await.unwrap();
    assert!(book.rules().contains(&only("fork.example")));
    let made = CreateSandbox {
        snapshot: Some(snapshot),
        ..nat(only("made.example"))
    };
    node.create(made).await.unwrap();
    assert!(book.rules().contains(&only("made.example")));
    assert_eq!(book.rules().len(), 3);
}

#[tokio::test]
async fn rules_that_the_gate_does_not_take_are_nowhere() {
    let (bed, book) = (Bed::new().await, Arc::new(Book::default()));
    let first = node(&bed, &book, 0).await;
    let made = island(&first, only("one.example")).await;
    book.refuses();
    let refused = made.node.set_egress(made.id, only("two.example")).await;
    assert_eq!(refused.unwrap_err().code, ErrorCode::InternalError);
    assert_eq!(book.rules(), [only("one.example")]);
    let kinds = made.kinds().await;
    let told = kinds.iter().filter(|kind| *kind == "egress.changed");
    assert_eq!(told.count(), 1, "when it was made");
    drop((made.node, first));
    let later = Arc::new(Book::default());
    let _second = node(&bed, &later, 0).await;
    assert_eq!(later.rules(), [only("one.example")], "on record");
}

#[tokio::test]
async fn started_again_it_has_the_rules_in_its_new_place_before_it_runs_there() {
    let (bed, book) = (Bed::new().await, Arc::new(Book::default()));
    let node = node(&bed, &book, 0).await;
    let island = island(&node, only("one.example")).await;
    island.stop().await;
    node.start(island.id).await.unwrap();
    let places = bed.world.sandboxes();
    assert_ne!(places, [island.id]);
    let ruled: Vec<_> = book.0.lock().keys().copied().collect();
    assert_eq!(ruled, places);
    assert_eq!(book.rules(), [only("one.example")]);
    island.stop().await;
    book.refuses();
    node.start(island.id).await.unwrap_err();
    assert_eq!(bed.world.sandboxes(), places, "nothing runs without them");
}

#[tokio::test]
async fn one_that_stood_ready_has_them_in_its_own_place() {
    let (bed, book) = (Bed::new().await, Arc::new(Book::default()));
    let node = node(&bed, &book, 1).await;
    island(&node, Egress::default()).await;
    patiently("one stands ready", || node.ready() == 1).await;
    let ready = bed.world.sandboxes();
    let made = island(&node, only("one.example")).await;
    let place = *book.0.lock().keys().next().unwrap();
    assert!(place != made.id && ready.contains(&place));
    node.close().await;
}

#[tokio::test]
async fn rules_that_nobody_would_keep_are_refused() {
    let (bed, book) = (Bed::new().await, Arc::new(Book::default()));
    let with_gate = node(&bed, &book, 0).await;
    let order = CreateSandbox {
        egress: only("one.example"),
        ..request(SandboxId::new())
    };
    let refused = with_gate.create(order).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Unsupported);
    let plain = request(SandboxId::new());
    let id = plain.id;
    with_gate.create(plain).await.unwrap();
    let refused = with_gate.set_egress(id, only("one.example")).await;
    assert_eq!(refused.unwrap_err().code, ErrorCode::Unsupported);
    with_gate.delete(id).await.unwrap();
    drop(with_gate);
    let without = Options {
        drivers: vec![Arc::new(SimDriver::that_has_nat(Arc::clone(&bed.world)))],
        ..bed.options()
    };
    let without = Node::start(without).await.unwrap();
    let refused = without.create(nat(only("one.example"))).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Unsupported);
    without.create(nat(Egress::default())).await.unwrap();
    assert_eq!(bed.world.sandboxes().len(), 1);
}
