//! Snapshots of files.

use skerry_proto::agent::Reply;
use skerry_types::SnapshotId;

use super::agent::{Agent, sh};
use super::failure::{Verdict, ensure, same};
use super::files::{read, stat};
use super::ground::{Ground, refused};
use super::{Check, checks};
use crate::{Capabilities, DriverError, Extent};

fn declared(capabilities: &Capabilities) -> bool {
    capabilities.file_snapshot
}

pub(super) const CHECKS: &[Check] = checks! {
    "snapshot: is refused where it is not declared", |c| !c.file_snapshot || !c.memory_snapshot => not_declared;
    "snapshot: has the files of its instant, each time it is restored, and the sandbox runs on", declared => files;
    "snapshot: is of files that were written by all who restored it only there", declared => apart;
    "snapshot: outlives its sandbox and the daemon, and what was made of it outlives it", declared => outlives;
    "snapshot: is listed until it is removed, and removing it again is fine", declared => listed;
    "snapshot: of what is not there, and restored from what is not there", declared => wrong;
};

/// A sandbox from a snapshot, with its agent greeted.
pub(super) async fn restored(ground: &Ground<'_>, from: SnapshotId) -> Verdict<Agent> {
    let spec = ground.spec();
    ground.driver().restore(from, &spec).await?;
    ground.connect(spec.id).await
}

async fn not_declared(ground: Ground<'_>) -> Verdict {
    let (id, mut agent) = ground.sandbox().await?;
    let can = ground.capabilities().clone();
    for (extent, is_declared) in [
        (Extent::Files, can.file_snapshot),
        (Extent::Memory, can.memory_snapshot),
    ] {
        let snapshot = ground.snapshot_id();
        if !is_declared {
            let answer = ground.driver().snapshot(id, snapshot, extent).await;
            refused("a snapshot", answer)?;
        }
    }
    same("runs on", agent.sh("echo on").await?, "on\n")
}

async fn files(ground: Ground<'_>) -> Verdict {
    let (id, mut agent) = ground.sandbox().await?;
    let script = "echo then > /tmp/when; while true; do echo on; sleep 0.01; done";
    let runs = agent.start(sh(script)).await?;
    agent.until_out(&runs, 1).await?;
    let snapshot = ground.snapshot_id();
    let files = Extent::Files;
    ground.driver().snapshot(id, snapshot, files).await?;
    agent.sh("echo now > /tmp/when").await?;
    for _ in 0..2 {
        let mut copy = restored(&ground, snapshot).await?;
        same("in a copy", copy.sh("cat /tmp/when").await?, "then\n")?;
        copy.sh("echo later > /tmp/when").await?;
        let names = ["/etc/hostname", "/etc/machine-id"];
        for name in names {
            let (one, other) = (read(&mut agent, name).await?, read(&mut copy, name).await?);
            ensure!(one != other, "{name} is the same: {one:?}");
        }
    }
    same("the sandbox's", agent.sh("cat /tmp/when").await?, "now\n")?;
    same("what ran", agent.seen(&runs).end, None)
}

async fn apart(ground: Ground<'_>) -> Verdict {
    let (id, mut agent) = ground.sandbox().await?;
    agent.sh("echo both > /tmp/both").await?;
    let snapshot = ground.snapshot_id();
    ground
        .driver()
        .snapshot(id, snapshot, Extent::Files)
        .await?;
    let mut one = restored(&ground, snapshot).await?;
    let mut other = restored(&ground, snapshot).await?;
    one.sh("rm /tmp/both; echo one > /tmp/one").await?;
    for reader in [&mut other, &mut agent] {
        same(
            "of both",
            read(reader, "/tmp/both").await?,
            b"both\n".to_vec(),
        )?;
        let not_there = stat(reader, "/tmp/one").await?;
        ensure!(matches!(not_there, Reply::Failed(_)), "{not_there:?}");
    }
    Ok(())
}

async fn outlives(ground: Ground<'_>) -> Verdict {
    let (id, mut agent) = ground.sandbox().await?;
    agent.sh("echo kept > /tmp/kept").await?;
    let snapshot = ground.snapshot_id();
    ground
        .driver()
        .snapshot(id, snapshot, Extent::Files)
        .await?;
    ground.driver().destroy(id).await?;
    let ground = ground.after_restart().await;
    let mut copy = restored(&ground, snapshot).await?;
    ground.driver().remove_snapshot(snapshot).await?;
    same("kept", copy.sh("cat /tmp/kept").await?, "kept\n")
}

async fn listed(ground: Ground<'_>) -> Verdict {
    let (id, _agent) = ground.sandbox().await?;
    let snapshot = ground.snapshot_id();
    let driver = ground.driver();
    let has = async || Ok::<_, DriverError>(driver.list_snapshots().await?.contains(&snapshot));
    same("before", has().await?, false)?;
    driver.snapshot(id, snapshot, Extent::Files).await?;
    same("while it is there", has().await?, true)?;
    let sandboxes = driver.list().await?.len();
    driver.remove_snapshot(snapshot).await?;
    driver.remove_snapshot(snapshot).await?;
    same("after", has().await?, false)?;
    same("sandboxes", driver.list().await?.len(), sandboxes)?;
    let gone = driver.restore(snapshot, &ground.spec()).await;
    ensure!(gone.is_err(), "restored after it was removed: {gone:?}");
    Ok(())
}

async fn wrong(ground: Ground<'_>) -> Verdict {
    let nobody = skerry_types::SandboxId::new();
    let driver = ground.driver();
    let missing = driver.snapshot(nobody, ground.snapshot_id(), Extent::Files);
    let missing = missing.await;
    ensure!(
        matches!(missing, Err(DriverError::NotFound(_))),
        "of nothing: {missing:?}"
    );
    let spec = ground.spec();
    let from_nothing = driver.restore(ground.snapshot_id(), &spec).await;
    ensure!(from_nothing.is_err(), "from nothing: {from_nothing:?}");
    let left = driver.list().await?.contains(&spec.id);
    same("left of it", left, false)
}
