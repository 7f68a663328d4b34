//! Links that break while output flows: what was not acknowledged comes again, and nothing else.

use skerry_proto::agent::{ExecAck, WINDOW_BYTES, to_agent::Body as To};

use super::agent::{command, sh};
use super::exec::counted;
use super::failure::{Verdict, ensure, same};
use super::ground::Ground;
use super::{Check, always, checks};

const LINES: u32 = 150_000;

pub(super) const CHECKS: &[Check] = checks! {
    "attach: a link cut again and again while output flows loses and doubles nothing", always => cut;
    "attach: a new link takes the place of the one before", always => replaced;
    "attach: an end that nobody heard is told on the next link", always => unheard_end;
    "attach: without acknowledgement the process waits, and goes on with it", always => held_back;
    "attach: an acknowledgement that was lost with its link is made up for", always => lost_acknowledgement;
    "attach: stdin goes on where it was", always => stdin;
};

async fn cut(ground: Ground<'_>) -> Verdict {
    let (sandbox, mut agent) = ground.sandbox().await?;
    let last = LINES.to_string();
    let id = agent.start(command(&["seq", "1", &last])).await?;
    agent.until(|agent| agent.seen(&id).started).await?;
    for round in 1..=12 {
        // Every other time what was heard is not acknowledged.
        agent.acks = round % 2 == 0;
        let further = agent.seen(&id).stdout.len() + round * 7_001;
        agent.until_out(&id, further).await?;
        let link = ground.driver().connect(sandbox).await?;
        agent = agent.relink(link).await?;
        agent.attach(&id).await?;
    }
    agent.acks = true;
    let output = agent.finish(&id).await?.ok()?;
    let wanted = counted(LINES);
    ensure!(
        output == wanted,
        "{} bytes instead of {}, or others",
        output.len(),
        wanted.len()
    );
    Ok(())
}

async fn replaced(ground: Ground<'_>) -> Verdict {
    let (sandbox, mut first) = ground.sandbox().await?;
    first.sh("true").await?;
    let mut second = ground.connect(sandbox).await?;
    same("second", second.sh("echo second").await?, "second\n")?;
    let heard = first.sh("true").await;
    ensure!(heard.is_err(), "the earlier link still answers: {heard:?}");
    same("still", second.sh("echo still").await?, "still\n")
}

async fn unheard_end(ground: Ground<'_>) -> Verdict {
    let (sandbox, mut agent) = ground.sandbox().await?;
    let id = agent
        .start(sh("echo done > /tmp/done; echo said; exit 7"))
        .await?;
    agent.until(|agent| agent.seen(&id).started).await?;
    agent.acks = false;
    agent.finish(&id).await?;
    let mut later = ground.connect(sandbox).await?;
    later.attach(&id).await?;
    let seen = later.finish(&id).await?;
    same("output", seen.out(), "said\n")?;
    same("end", seen.end, Some(skerry_proto::agent::Ended::Code(7)))
}

async fn held_back(ground: Ground<'_>) -> Verdict {
    let (_, mut agent) = ground.sandbox().await?;
    agent.acks = false;
    let last = LINES.to_string();
    let id = agent.start(command(&["seq", "1", &last])).await?;
    agent.until_out(&id, WINDOW_BYTES / 2).await?;
    // Others are not held back, and more than a window never comes.
    agent.sh("true").await?;
    agent.acks = true;
    let seen = agent.seen(&id);
    ensure!(seen.end.is_none(), "ended before anything was acknowledged");
    ensure!(
        seen.stdout.len() <= WINDOW_BYTES,
        "{} bytes without acknowledgement",
        seen.stdout.len()
    );
    let (exec_id, seq) = (id.clone(), seen.last);
    agent.send(To::ExecAck(ExecAck { exec_id, seq })).await?;
    let output = agent.finish(&id).await?.ok()?;
    ensure!(output == counted(LINES), "{} other bytes", output.len());
    Ok(())
}

/// The window is full, all in it was heard, and the link broke before that was said.
async fn lost_acknowledgement(ground: Ground<'_>) -> Verdict {
    let (sandbox, mut agent) = ground.sandbox().await?;
    agent.acks = false;
    let last = LINES.to_string();
    let id = agent.start(command(&["seq", "1", &last])).await?;
    agent.until_out(&id, WINDOW_BYTES / 2).await?;
    // Answered after everything that the window lets through.
    agent.sh("true").await?;
    let link = ground.driver().connect(sandbox).await?;
    agent = agent.relink(link).await?;
    agent.acks = true;
    agent.attach(&id).await?;
    let output = agent.finish(&id).await?.ok()?;
    ensure!(output == counted(LINES), "{} other bytes", output.len());
    Ok(())
}

async fn stdin(ground: Ground<'_>) -> Verdict {
    let (sandbox, mut agent) = ground.sandbox().await?;
    let mut start = command(&["cat"]);
    start.stdin = true;
    let id = agent.start(start).await?;
    agent.stdin(&id, 0, b"one ", false).await?;
    agent.until_out(&id, 4).await?;
    let link = ground.driver().connect(sandbox).await?;
    agent = agent.relink(link).await?;
    agent.attach(&id).await?;
    // Its first half is known already.
    agent.stdin(&id, 0, b"one two", true).await?;
    same("output", agent.finish(&id).await?.ok()?, "one two")
}
