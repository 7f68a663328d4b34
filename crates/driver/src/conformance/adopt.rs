//! A daemon that takes up what another made.

use skerry_proto::agent::Ended;

use super::agent::sh;
use super::exec::counted;
use super::failure::{Failure, Verdict, ensure, same};
use super::ground::Ground;
use super::{Check, always, checks};

const LINES: u32 = 100_000;

pub(super) const CHECKS: &[Check] = checks! {
    "adopt: a later daemon finds a running exec with all its output", always => running;
    "adopt: what a daemon killed is not taken up, and can be destroyed", always => killed;
    "adopt: a sandbox that nobody takes up is listed, and goes when destroyed", always => swept;
    "adopt: a paused sandbox is still paused", |c| c.pause => paused;
    "adopt: what was taken up is limited, counted and forked like before", always => as_before;
};

async fn running(ground: Ground<'_>) -> Verdict {
    let (sandbox, mut agent) = ground.sandbox().await?;
    let mut start = sh(&format!("seq 1 {LINES}; cat; exit 9"));
    start.stdin = true;
    let id = agent.start(start).await?;
    agent.until_out(&id, 50_000).await?;
    let facts = ground.driver().adopt(sandbox).await?.map(|made| made.facts);
    let ground = ground.after_restart().await;
    let adopted = ground.driver().adopt(sandbox).await?;
    let adopted = adopted.ok_or_else(|| Failure::new("it runs, and is not taken up"))?;
    same("facts", Some(adopted.facts), facts)?;
    let link = ground.driver().connect(sandbox).await?;
    let mut agent = agent.relink(link).await?;
    agent.attach(&id).await?;
    agent.stdin(&id, 0, b"the end", true).await?;
    let seen = agent.finish(&id).await?;
    same("end", seen.end.clone(), Some(Ended::Code(9)))?;
    ensure!(
        seen.out() == counted(LINES) + "the end",
        "{} other bytes",
        seen.stdout.len()
    );
    Ok(())
}

async fn killed(ground: Ground<'_>) -> Verdict {
    let (sandbox, _) = ground.sandbox().await?;
    ground.driver().kill(sandbox).await?;
    let ground = ground.after_restart().await;
    same("adopt", ground.driver().adopt(sandbox).await?, None)?;
    same(
        "list",
        ground.driver().list().await?.contains(&sandbox),
        true,
    )?;
    ground.driver().destroy(sandbox).await?;
    same(
        "list",
        ground.driver().list().await?.contains(&sandbox),
        false,
    )
}

async fn swept(ground: Ground<'_>) -> Verdict {
    let (sandbox, mut agent) = ground.sandbox().await?;
    agent.start(sh("sleep 1000")).await?;
    let ground = ground.after_restart().await;
    same(
        "list",
        ground.driver().list().await?.contains(&sandbox),
        true,
    )?;
    ground.driver().destroy(sandbox).await?;
    let gone = agent.sh("true").await;
    ensure!(gone.is_err(), "its agent still answers: {gone:?}");
    Ok(())
}

async fn paused(ground: Ground<'_>) -> Verdict {
    use skerry_proto::agent::{Call, Health};
    let (sandbox, agent) = ground.sandbox().await?;
    ground.driver().pause(sandbox).await?;
    drop(agent);
    let ground = ground.after_restart().await;
    ground.driver().adopt(sandbox).await?;
    let greeting = ground.connect(sandbox);
    let early = tokio::time::timeout(std::time::Duration::from_millis(100), greeting).await;
    ensure!(!matches!(early, Ok(Ok(_))), "a paused agent answers");
    ground.driver().resume(sandbox).await?;
    let mut agent = ground.connect(sandbox).await?;
    agent.call(Call::Health(Health {})).await?;
    Ok(())
}

async fn as_before(ground: Ground<'_>) -> Verdict {
    let (sandbox, mut agent) = ground.sandbox().await?;
    agent.sh("echo kept > /tmp/kept").await?;
    let ground = ground.after_restart().await;
    ground.driver().adopt(sandbox).await?;
    ground.driver().stats(sandbox).await?;
    if ground.capabilities().file_fork {
        let (_, mut child) = ground.fork(sandbox).await?;
        same("in a fork", child.sh("cat /tmp/kept").await?, "kept\n")?;
    }
    ground.driver().kill(sandbox).await?;
    ground.driver().wait(sandbox).await?;
    Ok(())
}
