//! Connections to programs in a sandbox: port 7 of a simulated one gives back what it gets.

use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use skerry_proto::node::{ByteStream, Ports, Sandboxes};
use skerry_types::{Error, ErrorCode, Result, SandboxState};
use tokio::sync::mpsc;

use crate::bed::{Bed, Island, request};

const ECHO: u16 = 7;

impl Island {
    async fn dial(&self, outgoing: ByteStream) -> ByteStream {
        self.node.dial(self.id, ECHO, outgoing).await.unwrap()
    }
}

/// What a test says, as it says it.
fn said() -> (
    mpsc::Sender<Result<Bytes>>,
    BoxStream<'static, Result<Bytes>>,
) {
    let (say, said) = mpsc::channel(4);
    let said = stream::unfold(said, |mut said| async { Some((said.recv().await?, said)) });
    (say, said.boxed())
}

fn counted(pieces: u32, bytes: usize) -> Vec<Bytes> {
    (0..pieces)
        .map(|n| Bytes::from(n.to_le_bytes().repeat(bytes / 4)))
        .collect()
}

async fn whole(heard: ByteStream) -> Vec<u8> {
    heard
        .try_fold(Vec::new(), |mut all, piece| async move {
            all.extend_from_slice(&piece);
            Ok(all)
        })
        .await
        .unwrap()
}

#[tokio::test]
async fn what_is_said_is_heard_in_pieces_of_every_size() {
    let bed = Bed::new().await;
    let island = bed.island().await;
    for (pieces, bytes) in [(1, 0), (20_000, 4), (300, 100_000)] {
        let said = counted(pieces, bytes);
        let sent = said.concat();
        let heard = island.dial(stream::iter(said).map(Ok).boxed()).await;
        assert!(whole(heard).await == sent, "{pieces} of {bytes} bytes");
    }
}

#[tokio::test]
async fn a_closed_port_and_a_sandbox_that_does_not_run_are_different_things() {
    let bed = Bed::new().await;
    let island = bed.island().await;
    let dial = |port| island.node.dial(island.id, port, stream::empty().boxed());
    let closed = dial(8).await.err().unwrap();
    assert_eq!(closed.code, ErrorCode::PortClosed);
    island.node.stop(island.id, None).await.unwrap();
    island.until(SandboxState::Stopped).await;
    let stopped = dial(ECHO).await.err().unwrap();
    assert_eq!(stopped.code, ErrorCode::SandboxNotRunning);
}

#[tokio::test]
async fn a_broken_link_and_a_pause_end_connections() {
    let bed = Bed::new().await;
    let island = bed.island().await;
    for cut in ["link", "pause"] {
        let (say, said) = said();
        let mut heard = island.dial(said).await;
        say.send(Ok(Bytes::from_static(b"once"))).await.unwrap();
        assert_eq!(heard.next().await.unwrap().unwrap(), "once");
        match cut {
            "link" => bed.world.break_links(island.id),
            _ => drop(island.node.pause(island.id, None).await.unwrap()),
        }
        heard.next().await.unwrap().unwrap_err();
        assert!(heard.next().await.is_none());
        // Nobody listens to the caller any more.
        say.closed().await;
    }
}

#[tokio::test]
async fn a_sleeping_sandbox_wakes_up_for_a_connection_and_was_used() {
    let bed = Bed::new().await;
    let node = bed.node().await;
    let id = skerry_types::SandboxId::new();
    let order = skerry_proto::node::CreateSandbox {
        auto_resume: true,
        ..request(id)
    };
    node.create(order).await.unwrap();
    let island = Island { node, id };
    let paused = island.node.pause(id, None).await.unwrap();
    assert_eq!(paused.state, SandboxState::Paused);
    let heard = island.dial(stream::iter([Ok(Bytes::from_static(b"hello"))]).boxed());
    assert_eq!(whole(heard.await).await, b"hello");
    let now = island.report().await;
    assert_eq!(now.state, SandboxState::Running);
    assert!(now.last_active_at > paused.last_active_at);
}

#[tokio::test]
async fn whoever_leaves_or_breaks_off_frees_the_place() {
    let bed = Bed::new().await;
    let island = bed.island().await;
    // Far more than may be open at once.
    for round in 0..1500 {
        let (say, said) = said();
        let mut heard = island.dial(said).await;
        if round % 2 == 0 {
            say.send(Err(Error::internal("broke off"))).await.unwrap();
            heard.next().await.unwrap().unwrap_err();
        } else {
            drop(heard);
            say.closed().await;
        }
    }
}

#[tokio::test]
async fn a_caller_who_does_not_read_holds_nobody_up() {
    let bed = Bed::new().await;
    let island = bed.island().await;
    let much = || stream::iter(counted(64, 64 * 1024)).map(Ok).boxed();
    let unread = island.dial(much()).await;
    tokio::time::timeout(Duration::from_mins(1), async {
        assert_eq!(whole(island.dial(much()).await).await.len(), 64 * 64 * 1024);
        assert_eq!(island.ok("echo hi").await, "hi\n");
    })
    .await
    .expect("no other connection gets on");
    assert_eq!(whole(unread).await.len(), 64 * 64 * 1024);
}
