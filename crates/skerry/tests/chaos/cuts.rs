//! Connections cut at random points while output flows: whoever resumes gets every byte once, and the right end.

use futures::StreamExt;
use rand::Rng;
use rand::rngs::StdRng;
use skerry_client::{Sandbox, shell};
use skerry_types::{ExecEnd, ExecId};
use tokio_tungstenite::tungstenite::Message;

use crate::output::{Frames, Transcript, chatter, chatter_output};
use crate::world::{World, dice, rounds};

/// The largest part of a stream that one connection carries.
const MOST_BYTES: usize = 16 * 1024;

async fn chat(sandbox: &Sandbox, rounds: usize) -> ExecId {
    sandbox
        .start(&shell(chatter(rounds)))
        .await
        .unwrap()
        .exec_id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cut_stream_resumes_without_gap_or_repetition() {
    let cuts = rounds(60, 1000);
    let (world, mut dice) = (World::start().await, dice());
    let sandbox = world.sandbox().await;
    let length = cuts * 8;
    let exec = chat(&sandbox, length).await;
    let path = format!("sandboxes/{}/exec/{exec}/stream", sandbox.id());
    let mut heard = Transcript::default();
    let mut done = 0;
    while heard.exit.is_none() {
        let most = if done < cuts {
            dice.random_range(0..MOST_BYTES)
        } else {
            usize::MAX
        };
        read_some(&world, &path, most, &mut heard).await;
        done += 1;
    }
    assert!(done > cuts, "only {done} cuts before the end");
    check(&sandbox, exec, &heard, length).await;
    world.end().await;
}

/// One connection, cut after this many bytes of its body.
async fn read_some(world: &World, path: &str, most: usize, heard: &mut Transcript) {
    let mut response = world.api.stream(path, heard.last_seq).await.unwrap();
    let (mut frames, mut left) = (Frames::default(), most);
    while left > 0 && heard.exit.is_none() {
        let Some(bytes) = response.chunk().await.unwrap() else {
            assert!(heard.exit.is_some(), "the stream ended before the exec");
            return;
        };
        let got = bytes.len().min(left);
        left -= got;
        frames.push(&bytes[..got]);
        while let Some(event) = frames.next() {
            heard.take(event);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cut_websocket_resumes_too() {
    let cuts = rounds(10, 100);
    let (world, mut dice) = (World::start().await, dice());
    let sandbox = world.sandbox().await;
    let length = cuts * 30;
    let exec = chat(&sandbox, length).await;
    let mut heard = Transcript::default();
    let mut done = 0;
    while heard.exit.is_none() {
        let most = if done < cuts {
            dice.random_range(0..40)
        } else {
            usize::MAX
        };
        let path = format!(
            "sandboxes/{}/exec/{exec}/ws?after={}",
            sandbox.id(),
            heard.last_seq
        );
        hear_some(&world, &path, most, &mut dice, &mut heard).await;
        done += 1;
    }
    check(&sandbox, exec, &heard, length).await;
    world.end().await;
}

/// One connection, cut after this many messages; sometimes with the farewell that the protocol wants.
async fn hear_some(
    world: &World,
    path: &str,
    most: usize,
    dice: &mut StdRng,
    heard: &mut Transcript,
) {
    let request = world.api.socket(path);
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
    for _ in 0..most {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => heard.take(serde_json::from_str(&text).unwrap()),
            Some(Ok(Message::Ping(_))) => {}
            other => {
                assert!(heard.exit.is_some(), "{other:?} before the exec ended");
                return;
            }
        }
    }
    if dice.random() {
        let _cut = socket.close(None).await;
    }
}

async fn check(sandbox: &Sandbox, exec: ExecId, heard: &Transcript, length: usize) {
    heard.assert_is(&chatter_output(length));
    assert_eq!(
        heard.exit.as_ref().map(|exit| &exit.end),
        Some(&ExecEnd::Exited { code: 7 })
    );
    assert_eq!(
        &Transcript::read(sandbox, exec).await,
        heard,
        "the log tells another story"
    );
}
