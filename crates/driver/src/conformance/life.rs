//! From create to destroy.

use std::time::Duration;

use skerry_proto::agent::{Shutdown, to_agent::Body as To};
use skerry_types::SandboxId;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::agent::sh;
use super::failure::{Failure, Verdict, ensure, same};
use super::ground::{Ground, refused};
use super::{Check, always, checks};
use crate::{DriverError, NetworkMode, Privilege, Spec};

/// A file system may count what was written a moment later.
const LOOKS: usize = 100;
const LOOK_AGAIN: Duration = Duration::from_millis(100);

pub(super) const CHECKS: &[Check] = checks! {
    "life: a sandbox is made, listed, killed and destroyed", always => whole;
    "life: its facts are what was asked for and declared", always => facts;
    "life: an id that is there is refused, and what is there stays as it was", always => twice;
    "life: what is not there is not found, and destroying it is fine", always => unknown;
    "life: destroying again is fine, also of what runs", always => destroy_again;
    "life: wait returns when it is killed and not before", always => wait;
    "life: an agent told to shut down takes the sandbox with it", always => shutdown;
    "life: files outlive a kill, processes do not", always => after_kill;
    "life: eight at once", always => many;
    "life: two sandboxes share no file and no process", always => apart;
    "life: what cannot be made says so and leaves nothing", |c| c.isolation != crate::Isolation::None => broken;
    "life: level root is refused where it is not declared", |c| !c.level_root => no_level_root;
    "life: network nat is refused where it is not declared", |c| !c.nat => no_nat;
    "life: stats tell what it wrote", always => stats;
};

async fn whole(ground: Ground<'_>) -> Verdict {
    let driver = ground.driver();
    let (id, mut agent) = ground.sandbox().await?;
    same("output", agent.sh("echo here").await?, "here\n")?;
    same("list", driver.list().await?.contains(&id), true)?;
    driver.kill(id).await?;
    driver.wait(id).await?;
    let again = driver.connect(id).await.err();
    ensure!(
        matches!(again, Some(DriverError::NotRunning(_))),
        "connect after kill: {again:?}"
    );
    driver.kill(id).await?;
    same("list after kill", driver.list().await?.contains(&id), true)?;
    driver.destroy(id).await?;
    same(
        "list after destroy",
        driver.list().await?.contains(&id),
        false,
    )
}

async fn facts(ground: Ground<'_>) -> Verdict {
    let declared = ground.capabilities().clone();
    for privilege in ground.levels() {
        let spec = Spec {
            privilege,
            ..ground.spec()
        };
        let made = ground.driver().create(&spec).await?.facts;
        same("driver", made.driver, declared.driver.as_str())?;
        same("isolation", made.isolation, declared.isolation)?;
        same("privilege", made.privilege, privilege)?;
        same("limits", made.limits, declared.limits)?;
        same("disk quota", made.disk_quota, declared.disk_quota)?;
        let mut agent = ground.connect(spec.id).await?;
        let name = agent.sh("cat /etc/hostname").await?;
        same("host name", name.trim(), spec.hostname.as_str())?;
        ground.driver().destroy(spec.id).await?;
    }
    Ok(())
}

async fn twice(ground: Ground<'_>) -> Verdict {
    let spec = ground.spec();
    let mut agent = ground.create(&spec).await?;
    agent.sh("echo kept > /tmp/kept").await?;
    for _ in 0..2 {
        let again = ground.driver().create(&spec).await;
        ensure!(
            matches!(again, Err(DriverError::Exists(_))),
            "the same id again: {again:?}"
        );
    }
    same("its file", agent.sh("cat /tmp/kept").await?, "kept\n")?;
    ground.driver().kill(spec.id).await?;
    let again = ground.driver().create(&spec).await;
    ensure!(
        matches!(again, Err(DriverError::Exists(_))),
        "the same id after a kill: {again:?}"
    );
    ground.driver().destroy(spec.id).await?;
    ground.create(&spec).await?.sh("true").await?;
    Ok(())
}

async fn unknown(ground: Ground<'_>) -> Verdict {
    let (driver, id) = (ground.driver(), SandboxId::new());
    driver.destroy(id).await?;
    same("adopt", driver.adopt(id).await?, None)?;
    let answers = [
        ("wait", driver.wait(id).await.err()),
        ("kill", driver.kill(id).await.err()),
    ];
    for (what, answer) in answers {
        ensure!(
            matches!(answer, Some(DriverError::NotFound(_))),
            "{what}: {answer:?}"
        );
    }
    let answers = [
        ("connect", driver.connect(id).await.err()),
        ("stats", driver.stats(id).await.err()),
    ];
    for (what, answer) in answers {
        ensure!(
            matches!(
                answer,
                Some(DriverError::NotFound(_) | DriverError::NotRunning(_))
            ),
            "{what}: {answer:?}"
        );
    }
    Ok(())
}

async fn destroy_again(ground: Ground<'_>) -> Verdict {
    let (id, mut agent) = ground.sandbox().await?;
    agent.start(sh("sleep 1000")).await?;
    ground.driver().destroy(id).await?;
    ground.driver().destroy(id).await?;
    let gone = ground.driver().wait(id).await;
    ensure!(
        matches!(gone, Err(DriverError::NotFound(_))),
        "wait after destroy: {gone:?}"
    );
    Ok(())
}

async fn wait(ground: Ground<'_>) -> Verdict {
    let (id, mut agent) = ground.sandbox().await?;
    let driver = ground.driver().clone();
    let mut waiting = tokio::spawn(async move { driver.wait(id).await });
    agent.sh("true").await?;
    let early = timeout(Duration::from_millis(50), &mut waiting).await;
    ensure!(early.is_err(), "wait returned while it ran: {early:?}");
    ground.driver().kill(id).await?;
    waiting.await??;
    Ok(())
}

async fn shutdown(ground: Ground<'_>) -> Verdict {
    let (id, mut agent) = ground.sandbox().await?;
    let sleeper = agent.start(sh("sleep 1000")).await?;
    agent.until(|agent| agent.seen(&sleeper).started).await?;
    // It may be gone before it could read one.
    agent.acks = false;
    let kill_grace_ms = 5000;
    agent.send(To::Shutdown(Shutdown { kill_grace_ms })).await?;
    ground.driver().wait(id).await?;
    // The end of what ran is told before the agent goes.
    let seen = agent.finish(&sleeper).await?;
    ensure!(
        matches!(seen.end, Some(skerry_proto::agent::Ended::Signal(15))),
        "the sleeper ended with {:?}",
        seen.end
    );
    ground.driver().kill(id).await?;
    Ok(())
}

async fn after_kill(ground: Ground<'_>) -> Verdict {
    let (id, mut agent) = ground.sandbox().await?;
    agent.sh("echo kept > /tmp/kept").await?;
    ground.driver().kill(id).await?;
    same("adopt after kill", ground.driver().adopt(id).await?, None)?;
    let stats = ground.driver().stats(id).await;
    ensure!(
        matches!(stats, Err(DriverError::NotRunning(_))),
        "stats after kill: {stats:?}"
    );
    if ground.capabilities().file_fork {
        let (_, mut child) = ground.fork(id).await?;
        same("kept", child.sh("cat /tmp/kept").await?, "kept\n")?;
    }
    Ok(())
}

async fn many(ground: Ground<'_>) -> Verdict {
    let specs: Vec<Spec> = (0..8).map(|_| ground.spec()).collect();
    let mut making = JoinSet::new();
    for spec in specs.clone() {
        let driver = ground.driver().clone();
        making.spawn(async move { driver.create(&spec).await });
    }
    while let Some(made) = making.join_next().await {
        made??;
    }
    for spec in &specs {
        let mut agent = ground.connect(spec.id).await?;
        let name = agent.sh("cat /etc/hostname").await?;
        same("host name", name.trim(), spec.hostname.as_str())?;
    }
    let mut ending = JoinSet::new();
    for spec in specs {
        let driver = ground.driver().clone();
        ending.spawn(async move { driver.destroy(spec.id).await });
    }
    while let Some(ended) = ending.join_next().await {
        ended??;
    }
    Ok(())
}

async fn apart(ground: Ground<'_>) -> Verdict {
    use skerry_proto::agent::{Call, ListProcesses, Reply};
    let (_, mut one) = ground.sandbox().await?;
    let (_, mut other) = ground.sandbox().await?;
    one.sh("echo mine > /tmp/mine").await?;
    let sleeper = one.start(sh("sleep 54321")).await?;
    one.until(|agent| agent.seen(&sleeper).started).await?;
    let read = other.run(sh("cat /tmp/mine")).await?;
    ensure!(read.stdout.is_empty(), "the other's file shows: {read:?}");
    let Reply::Processes(seen) = other.call(Call::ListProcesses(ListProcesses {})).await? else {
        return Err(super::Failure::new("no list of processes"));
    };
    let shows = format!("{:?}", seen.processes);
    ensure!(
        !shows.contains("54321"),
        "the other's process shows: {shows}"
    );
    Ok(())
}

async fn broken(ground: Ground<'_>) -> Verdict {
    let mut spec = ground.spec();
    spec.rootfs.layers = vec!["/nowhere/at/all".into()];
    let made = ground.driver().create(&spec).await;
    ensure!(made.is_err(), "made out of nothing: {made:?}");
    let list = ground.driver().list().await?;
    ensure!(!list.contains(&spec.id), "listed though it was not made");
    Ok(())
}

async fn no_level_root(ground: Ground<'_>) -> Verdict {
    let spec = Spec {
        privilege: Privilege::Root,
        ..ground.spec()
    };
    refused("level root", ground.driver().create(&spec).await)
}

async fn no_nat(ground: Ground<'_>) -> Verdict {
    let spec = Spec {
        network: NetworkMode::Nat,
        ..ground.spec()
    };
    refused("network nat", ground.driver().create(&spec).await)
}

async fn stats(ground: Ground<'_>) -> Verdict {
    let (id, mut agent) = ground.sandbox().await?;
    let before = ground.driver().stats(id).await?;
    agent.sh("seq 1 300000 > /tmp/much; sync").await?;
    let mut disk_bytes = 0;
    for _ in 0..LOOKS {
        disk_bytes = ground.driver().stats(id).await?.disk_bytes;
        if disk_bytes > before.disk_bytes + 1_000_000 {
            return Ok(());
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Err(Failure::new(format!(
        "2 MB were written; disk was {} and is {disk_bytes}",
        before.disk_bytes
    )))
}
