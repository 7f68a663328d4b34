//! Pause and resume.

use std::time::Duration;

use skerry_proto::agent::{Call, Health};
use skerry_types::SandboxId;
use tokio::time::sleep;

use super::agent::{Agent, sh};
use super::failure::{Verdict, ensure, same};
use super::ground::{Ground, refused};
use super::{Check, checks};

/// How long a paused sandbox is watched. One that does not stand still ticks some twenty times.
const WATCHED: Duration = Duration::from_millis(200);
/// Until what was under way before a pause has been read.
const SETTLED: Duration = Duration::from_millis(100);

pub(super) const CHECKS: &[Check] = checks! {
    "pause: is refused where it is not declared", |c| !c.pause => not_declared;
    "pause: a counter stops, and goes on after resume", |c| c.pause => counter;
    "pause: a paused sandbox can be killed", |c| c.pause => killed;
    "pause: a paused sandbox can be destroyed", |c| c.pause => left_paused;
};

async fn not_declared(ground: Ground<'_>) -> Verdict {
    let (id, mut agent) = ground.sandbox().await?;
    refused("pause", ground.driver().pause(id).await)?;
    refused("resume", ground.driver().resume(id).await)?;
    same("runs on", agent.sh("echo on").await?, "on\n")
}

/// A sandbox in which something counts.
async fn counting(agent: &mut Agent) -> Verdict<bytes::Bytes> {
    let id = agent
        .start(sh("while true; do echo tick; sleep 0.01; done"))
        .await?;
    agent.until_out(&id, 10).await?;
    Ok(id)
}

async fn counter(ground: Ground<'_>) -> Verdict {
    let (sandbox, mut agent) = ground.sandbox().await?;
    let id = counting(&mut agent).await?;
    for _ in 0..2 {
        ground.driver().pause(sandbox).await?;
        if ground.capabilities().pause_to_disk {
            agent = from_disk(&ground, sandbox, agent, &id).await?;
            continue;
        }
        agent.listen(sleep(SETTLED)).await?;
        let stood = agent.seen(&id).stdout.len();
        let question = agent.ask(Call::Health(Health {})).await?;
        agent.listen(sleep(WATCHED)).await?;
        same("bytes while paused", agent.seen(&id).stdout.len(), stood)?;
        ensure!(!agent.has_answer(question), "a paused agent answers");
        ground.driver().resume(sandbox).await?;
        agent.answer(question).await?;
        agent.until_out(&id, stood + 50).await?;
    }
    Ok(())
}

/// What is on disk has no link. After it is resumed, what ran goes on with no byte lost or doubled.
async fn from_disk(
    ground: &Ground<'_>,
    sandbox: SandboxId,
    mut agent: Agent,
    id: &bytes::Bytes,
) -> Verdict<Agent> {
    let early = ground.driver().connect(sandbox).await.err();
    ensure!(early.is_some(), "a paused agent has a link");
    // The last words may still have been on their way; then the link ends.
    drop(agent.listen(sleep(SETTLED)).await);
    let stood = agent.seen(id).stdout.len();
    ground.driver().resume(sandbox).await?;
    let link = ground.driver().connect(sandbox).await?;
    let mut agent = agent.relink(link).await?;
    agent.attach(id).await?;
    agent.until_out(id, stood + 50).await?;
    Ok(agent)
}

async fn killed(ground: Ground<'_>) -> Verdict {
    let (sandbox, mut agent) = ground.sandbox().await?;
    counting(&mut agent).await?;
    ground.driver().pause(sandbox).await?;
    ground.driver().kill(sandbox).await?;
    ground.driver().wait(sandbox).await?;
    Ok(())
}

async fn left_paused(ground: Ground<'_>) -> Verdict {
    let (sandbox, mut agent) = ground.sandbox().await?;
    counting(&mut agent).await?;
    ground.driver().pause(sandbox).await?;
    Ok(())
}
