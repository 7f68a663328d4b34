//! Snapshots with memory: every copy wakes up where the sandbox was, held, and is its own from its first step.

use std::time::Duration;

use bytes::Bytes;
use skerry_proto::agent::{Call, Hold, Release, Renew, Reply};
use skerry_types::{SandboxId, SnapshotId};

use super::agent::{Agent, Seen, python, sh};
use super::failure::{Failure, Verdict, ensure, same};
use super::ground::Ground;
use super::{Check, checks};
use crate::{Capabilities, DriverError, Extent, Spec};

pub(super) fn declared(capabilities: &Capabilities) -> bool {
    capabilities.memory_snapshot
}

pub(super) const CHECKS: &[Check] = checks! {
    "memory: a program counts on from the same number in each copy, and in what was copied", declared => counts_on;
    "memory: an exec goes on in a copy with no byte lost or doubled", declared => stream;
    "memory: writes to memory and files stay where they were made", declared => apart;
    "memory: a copy runs nothing before it is released", declared => held;
    "memory: a snapshot outlives its sandbox and the daemon", declared => outlives;
    "memory: a copy of a copy", declared => generations;
};

/// Counts in memory, a line for each line of input.
const COUNTER: &str = "
import sys
count = 0
for line in sys.stdin:
    count += 1
    print(count, flush=True)
";

async fn done(agent: &mut Agent, call: Call) -> Verdict {
    match agent.call(call).await? {
        Reply::Done(_) => Ok(()),
        other => Err(Failure::new(format!("not done but {other:?}"))),
    }
}

/// Keeps a snapshot of a sandbox that stands still, and lets it go on. Its link may have been replaced over that.
pub(super) async fn keep(
    ground: &Ground<'_>,
    sandbox: SandboxId,
    agent: Agent,
) -> Verdict<(SnapshotId, Agent)> {
    let (kept, agent) = try_keep(ground, sandbox, agent).await?;
    Ok((kept?, agent))
}

/// The same, where it may be refused.
pub(super) async fn try_keep(
    ground: &Ground<'_>,
    sandbox: SandboxId,
    mut agent: Agent,
) -> Verdict<(Result<SnapshotId, DriverError>, Agent)> {
    done(&mut agent, Call::Hold(Hold {})).await?;
    let id = ground.snapshot_id();
    let memory = Extent::Memory;
    let taken = ground.driver().snapshot(sandbox, id, memory).await;
    let link = ground.driver().connect(sandbox).await?;
    let mut agent = agent.relink(link).await?;
    done(&mut agent, Call::Release(Release { renew: None })).await?;
    Ok((taken.map(|_| id), agent))
}

/// What must be new in a copy that has this name.
fn renewal(spec: &Spec) -> Renew {
    // Ids are random for the most part, and no two are the same.
    let entropy = [spec.id.bytes(), SandboxId::new().bytes()].concat();
    Renew {
        entropy: Bytes::from(entropy),
        hostname: spec.hostname.clone(),
    }
}

pub(super) async fn release(spec: &Spec, agent: &mut Agent) -> Verdict {
    let renew = Some(renewal(spec));
    done(agent, Call::Release(Release { renew })).await
}

/// A copy that runs.
pub(super) async fn copy(ground: &Ground<'_>, from: SnapshotId) -> Verdict<(Spec, Agent)> {
    let spec = ground.spec();
    let agent = copy_as(ground, from, &spec).await?;
    Ok((spec, agent))
}

/// One that this describes.
pub(super) async fn copy_as(ground: &Ground<'_>, from: SnapshotId, spec: &Spec) -> Verdict<Agent> {
    ground.driver().restore(from, spec).await?;
    let mut agent = ground.connect(spec.id).await?;
    release(spec, &mut agent).await?;
    Ok(agent)
}

/// Gives the counter a line, and takes its answer.
async fn count(agent: &mut Agent, id: &Bytes) -> Verdict<u32> {
    let seen = agent.seen(id);
    let before = seen.stdout.len();
    agent.stdin(id, seen.stdin_taken, b"\n", false).await?;
    agent.until_out(id, before + 2).await?;
    let said = agent.seen(id).out();
    let last = said.lines().next_back().unwrap_or_default();
    last.parse()
        .map_err(|_| Failure::new(format!("the counter said {said:?}")))
}

async fn counter(agent: &mut Agent) -> Verdict<Bytes> {
    let mut start = python(COUNTER);
    start.stdin = true;
    agent.start(start).await
}

/// What was heard of an exec goes with the link.
pub(super) async fn go_on(agent: &mut Agent, id: &Bytes, heard: Seen) -> Verdict {
    agent.execs.insert(id.clone(), heard);
    agent.attach(id).await
}

async fn counts_on(ground: Ground<'_>) -> Verdict {
    let (sandbox, mut agent) = ground.sandbox().await?;
    let id = counter(&mut agent).await?;
    for number in 1..=3 {
        same("number", count(&mut agent, &id).await?, number)?;
    }
    let (snapshot, mut agent) = keep(&ground, sandbox, agent).await?;
    let (_, mut one) = copy(&ground, snapshot).await?;
    let (_, mut other) = copy(&ground, snapshot).await?;
    go_on(&mut one, &id, agent.seen(&id)).await?;
    go_on(&mut other, &id, agent.seen(&id)).await?;
    agent.attach(&id).await?;
    same("in one copy", count(&mut one, &id).await?, 4)?;
    same("again", count(&mut one, &id).await?, 5)?;
    same("in the other", count(&mut other, &id).await?, 4)?;
    same("in what was copied", count(&mut agent, &id).await?, 4)?;
    let (_, mut late) = copy(&ground, snapshot).await?;
    let heard = heard_before(other.seen(&id), 3);
    go_on(&mut late, &id, heard).await?;
    same("in a later one", count(&mut late, &id).await?, 4)
}

/// What had been heard when there were so many lines.
fn heard_before(mut seen: Seen, lines: u64) -> Seen {
    seen.stdout = (1..=lines)
        .fold(String::new(), |all, n| all + &format!("{n}\n"))
        .into();
    (seen.last, seen.stdin_taken) = (lines, lines);
    seen
}

/// Longer than any window, and never done while it is copied.
const LINES: u32 = 60_000;

async fn stream(ground: Ground<'_>) -> Verdict {
    let (sandbox, mut agent) = ground.sandbox().await?;
    // Without acknowledgement it waits half-way, and so is under way whenever it is copied.
    agent.acks = false;
    let script = format!("seq 1 {LINES}; exit 7");
    let id = agent.start(sh(&script)).await?;
    agent.until_out(&id, 70_000).await?;
    let heard = agent.seen(&id);
    let (snapshot, mut agent) = keep(&ground, sandbox, agent).await?;
    let wanted = super::exec::counted(LINES);
    for round in 0..2 {
        let (_, mut copy) = copy(&ground, snapshot).await?;
        go_on(&mut copy, &id, heard.clone()).await?;
        let seen = copy.finish(&id).await?;
        let is_whole = seen.out() == wanted;
        ensure!(is_whole, "copy {round}: {} other bytes", seen.stdout.len());
        same(
            "its end",
            seen.end,
            Some(skerry_proto::agent::Ended::Code(7)),
        )?;
    }
    agent.acks = true;
    agent.attach(&id).await?;
    let seen = agent.finish(&id).await?;
    ensure!(seen.out() == wanted, "{} other bytes", seen.stdout.len());
    Ok(())
}

/// A number in memory, and files: each written to when told.
const NOTES: &str = "
import sys
notes = ['both']
print('ready', flush=True)
for line in sys.stdin:
    notes.append(line.strip())
    open('/tmp/notes', 'a').write(line)
    print(*notes, '|', *open('/tmp/notes').read().split(), flush=True)
";

async fn note(agent: &mut Agent, id: &Bytes, word: &str) -> Verdict<String> {
    let seen = agent.seen(id);
    let line = format!("{word}\n");
    agent
        .stdin(id, seen.stdin_taken, line.as_bytes(), false)
        .await?;
    agent.until_out(id, seen.stdout.len() + 1).await?;
    let said = agent.seen(id).out();
    Ok(said.lines().next_back().unwrap_or_default().to_owned())
}

async fn apart(ground: Ground<'_>) -> Verdict {
    let (sandbox, mut agent) = ground.sandbox().await?;
    let mut start = python(NOTES);
    start.stdin = true;
    let id = agent.start(start).await?;
    agent.until_out(&id, 6).await?;
    let (snapshot, mut agent) = keep(&ground, sandbox, agent).await?;
    let (_, mut one) = copy(&ground, snapshot).await?;
    let (_, mut other) = copy(&ground, snapshot).await?;
    go_on(&mut one, &id, agent.seen(&id)).await?;
    go_on(&mut other, &id, agent.seen(&id)).await?;
    agent.attach(&id).await?;
    let said = note(&mut agent, &id, "first").await?;
    same("in what was copied", said, "both first | first")?;
    same(
        "in one",
        note(&mut one, &id, "one").await?,
        "both one | one",
    )?;
    let said = note(&mut other, &id, "other").await?;
    same("in the other", said, "both other | other")
}

async fn held(ground: Ground<'_>) -> Verdict {
    let (sandbox, mut agent) = ground.sandbox().await?;
    let ticks = "while true; do echo tick; sleep 0.01; done";
    let id = agent.start(sh(ticks)).await?;
    agent.until_out(&id, 20).await?;
    let (snapshot, mut agent) = keep(&ground, sandbox, agent).await?;
    agent.attach(&id).await?;
    let on = agent.seen(&id).stdout.len() + 50;
    let spec = ground.spec();
    ground.driver().restore(snapshot, &spec).await?;
    let mut copy = ground.connect(spec.id).await?;
    go_on(&mut copy, &id, agent.seen(&id)).await?;
    // What was under way when it was copied comes at once.
    let pause = || tokio::time::sleep(Duration::from_millis(200));
    copy.listen(pause()).await?;
    let stood = copy.seen(&id).stdout.len();
    copy.listen(pause()).await?;
    same("while it is held", copy.seen(&id).stdout.len(), stood)?;
    release(&spec, &mut copy).await?;
    copy.until_out(&id, stood + 50).await?;
    agent.until_out(&id, on).await
}

async fn outlives(ground: Ground<'_>) -> Verdict {
    let (sandbox, mut agent) = ground.sandbox().await?;
    let id = counter(&mut agent).await?;
    same("number", count(&mut agent, &id).await?, 1)?;
    let (snapshot, agent) = keep(&ground, sandbox, agent).await?;
    ground.driver().destroy(sandbox).await?;
    let ground = ground.after_restart().await;
    let listed = ground.driver().list_snapshots().await?;
    ensure!(listed.contains(&snapshot), "not listed: {listed:?}");
    let (_, mut copy) = copy(&ground, snapshot).await?;
    ground.driver().remove_snapshot(snapshot).await?;
    go_on(&mut copy, &id, agent.seen(&id)).await?;
    same("number", count(&mut copy, &id).await?, 2)
}

async fn generations(ground: Ground<'_>) -> Verdict {
    let (first, mut agent) = ground.sandbox().await?;
    let id = counter(&mut agent).await?;
    same("number", count(&mut agent, &id).await?, 1)?;
    let (snapshot, agent) = keep(&ground, first, agent).await?;
    let (second, mut child) = copy(&ground, snapshot).await?;
    ground.driver().destroy(first).await?;
    go_on(&mut child, &id, agent.seen(&id)).await?;
    same("in the child", count(&mut child, &id).await?, 2)?;
    let (snapshot, child) = keep(&ground, second.id, child).await?;
    let (_, mut grandchild) = copy(&ground, snapshot).await?;
    ground.driver().destroy(second.id).await?;
    go_on(&mut grandchild, &id, child.seen(&id)).await?;
    same("in its child", count(&mut grandchild, &id).await?, 3)
}
