//! Limits bind, and hurt only the one who runs into them.

use skerry_proto::agent::Ended;

use super::agent::{python, sh};
use super::failure::{Failure, Verdict, ensure, same};
use super::ground::Ground;
use super::{Check, checks};
use crate::Capabilities;

fn declared(capabilities: &Capabilities) -> bool {
    capabilities.limits
}

pub(super) const CHECKS: &[Check] = checks! {
    "limits: a memory hog is killed, counted, and alone", declared => memory;
    "limits: a fork bomb stops at its limit, and a neighbour does not notice", declared => pids;
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

async fn memory(ground: Ground<'_>) -> Verdict {
    let mut spec = ground.spec();
    spec.resources.memory_mb = 64;
    let mut agent = ground.create(&spec).await?;
    let (other, mut neighbour) = ground.sandbox().await?;
    let before = ground.driver().stats(spec.id).await?.oom_kills;
    let hog = agent.run(python(HOG)).await?;
    same("the hog's end", hog.end, Some(Ended::Signal(9)))?;
    same("its sandbox", agent.sh("echo well").await?, "well\n")?;
    same("its neighbour", neighbour.sh("echo well").await?, "well\n")?;
    let after = ground.driver().stats(spec.id).await?;
    ensure!(after.oom_kills > before, "not counted: {after:?}");
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

async fn pids(ground: Ground<'_>) -> Verdict {
    let mut spec = ground.spec();
    spec.resources.pids = 40;
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
used = os.times()
print(used.user + used.system + used.children_user + used.children_system, time.monotonic() - began)
";

async fn processor(ground: Ground<'_>) -> Verdict {
    let mut spec = ground.spec();
    spec.resources.vcpus = 1;
    let mut agent = ground.create(&spec).await?;
    let mut said = String::new();
    // A machine with others on it can be late to stop a process; one without a quota never stops it.
    for _ in 0..TRIES {
        said = agent.python(BUSY).await?;
        if is_rationed(&said)? {
            return Ok(());
        }
    }
    Err(Failure::new(format!("seconds used and gone by: {said}")))
}

/// Without the quota four processes would use as much on each processor.
fn is_rationed(said: &str) -> Result<bool, Failure> {
    let numbers: Vec<f64> = said
        .split_whitespace()
        .filter_map(|n| n.parse().ok())
        .collect();
    let [used, wall] = numbers[..] else {
        return Err(Failure::new(format!("said {said:?}")));
    };
    Ok(used <= wall * 1.6)
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
    let size = neighbour
        .sh("dd if=/dev/urandom of=/tmp/big bs=1M count=40 conv=fsync 2>/dev/null; stat -c %s /tmp/big")
        .await?;
    same("its neighbour's file", size, "41943040\n")
}
