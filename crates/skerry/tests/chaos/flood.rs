//! More output than anyone reads: every byte is in the record, and the server does not grow.

use std::io::Read;
use std::process::{Command, Stdio};

use skerry_client::{Sandbox, argv, shell};
use skerry_types::{ExecEnd, ExecId};

use crate::output::{Transcript, seq};
use crate::world::{World, is_long, rounds};

/// How much a server may grow while it carries any amount of output.
const MOST_GROWTH: u64 = 64 << 20;
const PARALLEL: usize = 20;
/// What a server keeps in memory of an exec that has ended, at most.
const MOST_PER_EXEC: u64 = 3 << 10;

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

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn very_many_short_execs_take_little_and_are_listed_whole() {
    let world = World::start().await;
    let sandbox = world.sandbox().await;
    let total = rounds(2_000, 100_000);
    let before = world.server.resident_bytes().unwrap();
    let runners: Vec<_> = (0..PARALLEL)
        .map(|_| {
            let sandbox = sandbox.clone();
            tokio::spawn(async move {
                for _ in 0..total / PARALLEL {
                    let ran = sandbox.run(&argv(["/bin/true"])).await.unwrap();
                    assert_eq!(ran.end, ExecEnd::Exited { code: 0 });
                }
            })
        })
        .collect();
    for runner in runners {
        runner.await.unwrap();
    }
    let after = world.server.resident_bytes().unwrap();
    assert!(
        after <= before + MOST_GROWTH + total as u64 * MOST_PER_EXEC,
        "it grew from {before} to {after} bytes"
    );
    let (mut listed, mut cursor) = (0, None);
    loop {
        let page = sandbox.execs(cursor.as_deref()).await.unwrap();
        for exec in page.execs {
            listed += 1;
            assert_eq!(exec.number, listed, "none is left out or told twice");
        }
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(listed, total as u64);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_flood_of_changes_is_watched_without_growing() {
    const PLACE: &str = "/tmp/watched";
    let world = World::start().await;
    let sandbox = world.sandbox().await;
    sandbox.make_dir(PLACE).await.unwrap();
    let mut changes = sandbox.watch(PLACE).await.unwrap();
    let path = format!("sandboxes/{}/files/watch?path={PLACE}", sandbox.id());
    let never_read = world.api.stream(&path, 0).await.unwrap();
    let before = world.server.resident_bytes().unwrap();
    let script = format!(
        "cd {PLACE}; i=0; while [ $i -lt {} ]; do i=$((i+1)); : > f$((i % 100)); done; \
         while :; do : > end; sleep 0.1; done",
        rounds(30_000, 1_000_000)
    );
    let exec = sandbox.start(&shell(script)).await.unwrap().exec_id;
    let mut most = 0;
    loop {
        let change = changes.next().await.unwrap().unwrap();
        if change.path.ends_with("/end") {
            break;
        }
        most = most.max(world.server.resident_bytes().unwrap());
    }
    assert!(
        most <= before + MOST_GROWTH,
        "it grew from {before} to {most} bytes"
    );
    drop(never_read);
    assert_eq!(sandbox.exec(exec).await.unwrap().end, None);
    world.end().await;
}
