//! Limits bind, and hurt only the one who runs into them.

use std::time::Duration;

use skerry_proto::agent::Ended;
use tokio::time::Instant;

use super::agent::{Agent, python, sh};
use super::failure::{Failure, Verdict, ensure, same};
use super::ground::Ground;
use super::{Check, checks};
use crate::{Capabilities, Spec};

fn declared(capabilities: &Capabilities) -> bool {
    capabilities.limits
}

pub(super) const CHECKS: &[Check] = checks! {
    "limits: a memory hog is killed, counted, and alone", |c| c.limits && c.limits_spare_sandbox => memory;
    "limits: a fork bomb stops at its limit, and a neighbour does not notice", |c| c.limits && c.limits_spare_sandbox => pids;
    "limits: a memory hog ends its sandbox, is counted, and a neighbour does not notice", |c| c.limits && !c.limits_spare_sandbox => memory_of_all;
    "limits: a fork bomb ends its sandbox, and a neighbour does not notice", |c| c.limits && !c.limits_spare_sandbox => pids_of_all;
    "limits: processor time is rationed", declared => processor;
    "limits: stats move with what it does", declared => stats;
    "limits: a full disk is an error inside, and a neighbour still writes", |c| c.disk_quota => disk;
};

/// How often processor time is measured, until it is as it should be.
const TRIES: usize = 5;
/// Takes memory until there is none.
const HOG: &str = "
blocks = []
while True:
    blocks.append(bytearray(b'x') * (1 << 20))
";

fn with_little_memory(ground: &Ground<'_>) -> Spec {
    let mut spec = ground.spec();
    spec.resources.memory_mb = 64;
    spec
}

async fn memory(ground: Ground<'_>) -> Verdict {
    let spec = with_little_memory(&ground);
    let mut agent = ground.create(&spec).await?;
    let (other, mut neighbour) = ground.sandbox().await?;
    let before = ground.driver().stats(spec.id).await?.oom_kills;
    let hog = agent.run(python(HOG)).await?;
    same("the hog's end", hog.end, Some(Ended::Signal(9)))?;
    same("its sandbox", agent.sh("echo well").await?, "well\n")?;
    same("its neighbour", neighbour.sh("echo well").await?, "well\n")?;
    let after = ground.driver().stats(spec.id).await?;
    ensure!(after.oom_kills > before, "not counted: {after:?}");
    let alone = ground.driver().oom_kills(spec.id).await?;
    same("the same kills alone", alone, after.oom_kills)?;
    ensure!(
        after.memory_peak_bytes <= 64 << 20,
        "over the limit: {after:?}"
    );
    same(
        "the neighbour's kills",
        ground.driver().stats(other).await?.oom_kills,
        0,
    )
}

async fn memory_of_all(ground: Ground<'_>) -> Verdict {
    let spec = with_little_memory(&ground);
    let mut agent = ground.create(&spec).await?;
    let (other, mut neighbour) = ground.sandbox().await?;
    let before = ground.driver().stats(spec.id).await?.oom_kills;
    ends(&ground, &spec, &mut agent, HOG).await?;
    let after = ground.driver().stats(spec.id).await?.oom_kills;
    ensure!(after > before, "not counted: {after}");
    same("its neighbour", neighbour.sh("echo well").await?, "well\n")?;
    let kills = ground.driver().stats(other).await?.oom_kills;
    same("the neighbour's kills", kills, 0)
}

/// A program with which the whole sandbox ends.
async fn ends(ground: &Ground<'_>, spec: &Spec, agent: &mut Agent, program: &str) -> Verdict {
    let id = agent.start(python(program)).await?;
    let end = agent.finish(&id).await;
    ensure!(end.is_err(), "it ended alone: {end:?}");
    ground.driver().wait(spec.id).await?;
    Ok(())
}

/// Starts processes until that fails; says how many there were, and why.
const BOMB: &str = "
import os, time
count = 0
try:
    while count < 5000:
        if os.fork() == 0:
            time.sleep(1000)
        count += 1
except OSError as error:
    print(count, error.errno, flush=True)
";
const TRY_AGAIN: &str = "11";

fn with_few_processes(ground: &Ground<'_>) -> Spec {
    let mut spec = ground.spec();
    spec.resources.pids = 40;
    spec
}

async fn pids_of_all(ground: Ground<'_>) -> Verdict {
    let spec = with_few_processes(&ground);
    let mut agent = ground.create(&spec).await?;
    let (_, mut neighbour) = ground.sandbox().await?;
    ends(&ground, &spec, &mut agent, BOMB).await?;
    same("its neighbour", neighbour.sh("echo well").await?, "well\n")
}

async fn pids(ground: Ground<'_>) -> Verdict {
    let spec = with_few_processes(&ground);
    let mut agent = ground.create(&spec).await?;
    let (_, mut neighbour) = ground.sandbox().await?;
    let said = agent.python(BOMB).await?;
    let (count, errno) = said.trim().split_once(' ').unwrap_or_default();
    ensure!(
        count.parse().is_ok_and(|count: u32| count < 40),
        "said {said:?}"
    );
    same("error", errno, TRY_AGAIN)?;
    same("its neighbour", neighbour.sh("echo well").await?, "well\n")
}

/// Four busy processes: together they may use as much as time goes by, and a period's burst.
const BUSY: &str = "
import os, time
began = time.monotonic()
for _ in range(3):
    if os.fork() == 0:
        while time.monotonic() < began + 1: pass
        os._exit(0)
while time.monotonic() < began + 1: pass
for _ in range(3): os.wait()
";

async fn processor(ground: Ground<'_>) -> Verdict {
    let mut spec = ground.spec();
    spec.resources.vcpus = 1;
    let mut agent = ground.create(&spec).await?;
    let mut seen = String::new();
    // A machine with others on it can be late to stop a process; one without a quota never stops it.
    for _ in 0..TRIES {
        let before = ground.driver().stats(spec.id).await?.cpu_us;
        let began = Instant::now();
        agent.python(BUSY).await?;
        let wall = began.elapsed().as_secs_f64();
        let used = ground.driver().stats(spec.id).await?.cpu_us - before;
        let used = Duration::from_micros(used).as_secs_f64();
        // Without the quota four processes would use as much on each processor.
        if used <= wall * 1.6 {
            return Ok(());
        }
        seen = format!("{used} s of processor time in {wall} s");
    }
    Err(Failure::new(seen))
}

async fn stats(ground: Ground<'_>) -> Verdict {
    let (id, mut agent) = ground.sandbox().await?;
    let before = ground.driver().stats(id).await?;
    agent
        .python("x = bytearray(b'x') * (32 << 20)\nsum(range(3000000))")
        .await?;
    let after = ground.driver().stats(id).await?;
    ensure!(after.cpu_us > before.cpu_us, "cpu: {before:?}, {after:?}");
    ensure!(
        after.memory_peak_bytes > before.memory_peak_bytes + (30 << 20),
        "memory: {before:?}, {after:?}"
    );
    ensure!(after.pids >= 1, "processes: {after:?}");
    Ok(())
}

async fn disk(ground: Ground<'_>) -> Verdict {
    let mut spec = ground.spec();
    spec.resources.disk_mb = 32;
    let mut agent = ground.create(&spec).await?;
    let (_, mut neighbour) = ground.sandbox().await?;
    let filler = agent
        .run(sh(
            "dd if=/dev/urandom of=/tmp/big bs=1M count=200 conv=fsync",
        ))
        .await?;
    let said = String::from_utf8_lossy(&filler.stderr).into_owned();
    ensure!(
        filler.end == Some(Ended::Code(1)) && (said.contains("quota") || said.contains("space")),
        "ended with {:?}, said {said:?}",
        filler.end
    );
    same(
        "its sandbox",
        agent.sh("rm /tmp/big; echo well").await?,
        "well\n",
    )?;
    // Random bytes may come in smaller portions than were asked for.
    let size = neighbour
        .sh("dd if=/dev/urandom of=/tmp/big bs=1M count=40 iflag=fullblock conv=fsync 2>/dev/null; stat -c %s /tmp/big")
        .await?;
    same("its neighbour's file", size, "41943040\n")
}
