//! Changes of files, told while they happen.

use bytes::Bytes;
use skerry_proto::agent::{Call, Cancel, MakeDir, Move, Reply, Watch, to_agent::Body as To};

use super::agent::Agent;
use super::failure::{Failure, Verdict, ensure};
use super::ground::Ground;
use super::{Check, always, checks};

const CREATED: u32 = 1;
const WRITTEN: u32 = 2;
const REMOVED: u32 = 3;
const RENAMED_AWAY: u32 = 4;
const RENAMED_HERE: u32 = 5;

pub(super) const CHECKS: &[Check] = checks! {
    "watch: tells in order what is made, written, renamed and removed", always => order;
    "watch: goes as deep as was asked, also into what is made later", always => depth;
    "watch: of what is not there is refused, and one that was cancelled is silent", always => ends;
};

fn path(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

async fn make_dir(agent: &mut Agent, at: &str) -> Verdict {
    let call = Call::MakeDir(MakeDir {
        path: path(at),
        ..MakeDir::default()
    });
    agent.call(call).await.map(drop)
}

/// Watches from when this returns.
async fn watch(agent: &mut Agent, at: &str, recursive: bool) -> Verdict<u64> {
    let path = path(at);
    let id = agent.ask(Call::Watch(Watch { path, recursive })).await?;
    match agent.answer(id).await? {
        Reply::Done(_) => Ok(id),
        other => Err(Failure::new(format!("no watch but {other:?}"))),
    }
}

/// Until the watch has told this.
async fn told(agent: &mut Agent, watch: u64, kind: u32, at: &str) -> Verdict {
    let wanted = (kind, path(at));
    agent
        .until(|agent| agent.watched(watch).contains(&wanted))
        .await
}

async fn order(ground: Ground<'_>) -> Verdict {
    let (_, mut agent) = ground.sandbox().await?;
    make_dir(&mut agent, "/tmp/w").await?;
    let id = watch(&mut agent, "/tmp/w", false).await?;
    agent.sh("echo one > /tmp/w/a").await?;
    let (from, to) = (path("/tmp/w/a"), path("/tmp/w/b"));
    let user = String::new();
    agent.call(Call::Move(Move { from, to, user })).await?;
    agent.sh("rm /tmp/w/b").await?;
    told(&mut agent, id, REMOVED, "/tmp/w/b").await?;
    let seen = agent.watched(id);
    let mut rest = seen.iter();
    for (kind, at) in [
        (CREATED, "/tmp/w/a"),
        (WRITTEN, "/tmp/w/a"),
        (RENAMED_AWAY, "/tmp/w/a"),
        (RENAMED_HERE, "/tmp/w/b"),
        (REMOVED, "/tmp/w/b"),
    ] {
        let wanted = (kind, path(at));
        ensure!(
            rest.any(|change| *change == wanted),
            "{wanted:?} is not there, or not in its place: {seen:?}"
        );
    }
    Ok(())
}

async fn depth(ground: Ground<'_>) -> Verdict {
    let (_, mut agent) = ground.sandbox().await?;
    make_dir(&mut agent, "/tmp/w/below").await?;
    let flat = watch(&mut agent, "/tmp/w", false).await?;
    let deep = watch(&mut agent, "/tmp/w", true).await?;
    agent.sh("echo x > /tmp/w/below/file").await?;
    told(&mut agent, deep, CREATED, "/tmp/w/below/file").await?;
    make_dir(&mut agent, "/tmp/w/later/deeper").await?;
    agent.sh("echo x > /tmp/w/later/deeper/file").await?;
    told(&mut agent, deep, CREATED, "/tmp/w/later/deeper/file").await?;
    agent.sh("echo x > /tmp/w/last").await?;
    told(&mut agent, flat, CREATED, "/tmp/w/last").await?;
    let seen = agent.watched(flat);
    let below = |at: &Bytes| at.starts_with(b"/tmp/w/below/") || at.starts_with(b"/tmp/w/later/");
    ensure!(
        !seen.iter().any(|(_, at)| below(at)),
        "a flat watch looked below: {seen:?}"
    );
    Ok(())
}

async fn ends(ground: Ground<'_>) -> Verdict {
    let (_, mut agent) = ground.sandbox().await?;
    let nowhere = Watch {
        path: path("/tmp/none"),
        recursive: false,
    };
    let answer = agent.call(Call::Watch(nowhere)).await?;
    ensure!(matches!(answer, Reply::Failed(_)), "of nothing: {answer:?}");
    make_dir(&mut agent, "/tmp/w").await?;
    let cancelled = watch(&mut agent, "/tmp/w", true).await?;
    agent.send(To::Cancel(Cancel { id: cancelled })).await?;
    let stands = watch(&mut agent, "/tmp/w", true).await?;
    agent.sh("echo x > /tmp/w/file").await?;
    told(&mut agent, stands, CREATED, "/tmp/w/file").await?;
    let seen = agent.watched(cancelled);
    ensure!(seen.is_empty(), "told after it was cancelled: {seen:?}");
    Ok(())
}
