//! More output than anyone reads: every byte is in the record, and the server does not grow.

use std::io::Read;
use std::process::{Command, Stdio};

use skerry_client::{Sandbox, shell};
use skerry_types::{ExecEnd, ExecId};

use crate::output::{Transcript, seq};
use crate::world::{World, is_long};

/// How much a server may grow while it carries any amount of output.
const MOST_GROWTH: u64 = 64 << 20;
const PARALLEL: usize = 20;

/// `seq` to here writes about this many bytes: 30 MB usually, 200 MB in a long run.
fn length() -> u64 {
    if is_long() { 23_000_000 } else { 4_000_000 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_flood_is_recorded_whole_whoever_reads_it() {
    let world = World::start().await;
    let sandbox = world.sandbox().await;
    let before = world.server.resident_bytes().unwrap();
    let unread = flood(&sandbox).await;
    let watched = flood(&sandbox).await;
    let path = format!("sandboxes/{}/exec/{watched}/stream", sandbox.id());
    let never_read = world.api.stream(&path, 0).await.unwrap();
    let mut most = 0;
    let (mut seq, mut bytes) = (0, 0);
    let mut events = sandbox.follow(watched, 0);
    while let Some(event) = events.next().await.unwrap() {
        assert_eq!(event.seq, seq + 1);
        seq = event.seq;
        bytes += event.data.map_or(0, |data| data.len());
        most = most.max(world.server.resident_bytes().unwrap());
    }
    world
        .eventually("the unread flood ends", async || {
            most = most.max(world.server.resident_bytes().unwrap());
            sandbox.exec(unread).await.unwrap().end
        })
        .await;
    for exec in [watched, unread] {
        let compared = compare_log(&sandbox, exec).await;
        assert_eq!(compared, sandbox.exec(exec).await.unwrap().stdout_bytes);
        most = most.max(world.server.resident_bytes().unwrap());
    }
    assert_eq!(
        bytes as u64,
        sandbox.exec(watched).await.unwrap().stdout_bytes
    );
    assert!(
        most <= before + MOST_GROWTH,
        "it grew from {before} to {most} bytes"
    );
    drop(never_read);
    world.end().await;
}

async fn flood(sandbox: &Sandbox) -> ExecId {
    let script = format!("seq 1 {}", length());
    sandbox.start(&shell(script)).await.unwrap().exec_id
}

/// Reads the log beside what the same command writes here. Returns its length.
async fn compare_log(sandbox: &Sandbox, exec: ExecId) -> u64 {
    let mut here = Command::new("seq")
        .args(["1", &length().to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut expected = here.stdout.take().unwrap();
    let (mut log, mut buffer, mut total) = (sandbox.log(exec).await.unwrap(), Vec::new(), 0);
    while let Some(chunk) = log.chunk().await.unwrap() {
        buffer.resize(chunk.len(), 0);
        expected.read_exact(&mut buffer).unwrap();
        assert!(chunk == buffer, "other bytes after {total}");
        total += chunk.len() as u64;
    }
    assert_eq!(expected.read(&mut [0]).unwrap(), 0, "the log is short");
    assert!(here.wait().unwrap().success());
    total
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_write_at_once() {
    let world = World::start().await;
    let sandbox = world.sandbox().await;
    let writers: Vec<_> = (0..PARALLEL)
        .map(|n| {
            let sandbox = sandbox.clone();
            tokio::spawn(async move {
                let script = format!("seq {n} {}; exit {n}", n + 60_000);
                let exec = sandbox.start(&shell(script)).await.unwrap().exec_id;
                Transcript::read(&sandbox, exec).await
            })
        })
        .collect();
    for (n, writer) in writers.into_iter().enumerate() {
        let heard = writer.await.unwrap();
        let expected = seq(n..=n + 60_000);
        assert!(heard.stdout == expected, "writer {n} was heard wrongly");
        let code = i32::try_from(n).unwrap();
        assert_eq!(heard.exit.unwrap().end, ExecEnd::Exited { code });
    }
    world.end().await;
}
