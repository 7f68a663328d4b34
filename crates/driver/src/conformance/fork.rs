//! Forks of files.

use skerry_proto::agent::{Call, ListProcesses, Reply};
use skerry_types::SandboxId;

use super::agent::{Agent, sh};
use super::failure::{Failure, Verdict, ensure, same};
use super::files::{read, stat};
use super::ground::{Ground, refused};
use super::{Check, checks};
use crate::{Capabilities, DriverError};

fn declared(capabilities: &Capabilities) -> bool {
    capabilities.file_fork
}

pub(super) const CHECKS: &[Check] = checks! {
    "fork: is refused where it is not declared", |c| !c.file_fork => not_declared;
    "fork: has the files of one instant, and the parent runs on", declared => instant;
    "fork: writes on either side stay there", declared => apart;
    "fork: has its own names and none of the parent's processes", declared => own;
    "fork: of a fork, and both outlive the first", declared => generations;
    "fork: of what is not there, or onto what is", declared => wrong;
    "fork: four at once of a parent that writes", declared => many;
    "fork: of a parent that was killed, and outlives it", declared => killed;
    "fork: of a paused parent, which stays paused", |c| c.file_fork && c.pause => paused;
};

async fn not_declared(ground: Ground<'_>) -> Verdict {
    let (id, _) = ground.sandbox().await?;
    refused("fork", ground.driver().fork(id, &ground.spec()).await)
}

/// Two files grow in turn: at each instant they are equal, or the first is a line ahead.
const WRITER: &str = "while true; do echo x >> /tmp/a; echo x >> /tmp/b; done";

async fn writing(agent: &mut Agent) -> Verdict<bytes::Bytes> {
    agent.sh("echo x > /tmp/a; echo x > /tmp/b").await?;
    let id = agent.start(sh(WRITER)).await?;
    grown(agent, 2).await?;
    Ok(id)
}

/// Until the second file is longer than that.
async fn grown(agent: &mut Agent, than: u64) -> Verdict {
    loop {
        match stat(agent, "/tmp/b").await? {
            Reply::Entry(entry) if entry.size > than => return Ok(()),
            Reply::Entry(_) => {}
            other => return Err(Failure::new(format!("no size but {other:?}"))),
        }
    }
}

async fn one_instant(ground: &Ground<'_>, child: &mut Agent) -> Verdict {
    // What cannot be frozen goes on writing.
    if !ground.capabilities().pause {
        return Ok(());
    }
    let (a, b) = (read(child, "/tmp/a").await?, read(child, "/tmp/b").await?);
    ensure!(
        a.len() == b.len() || a.len() == b.len() + 2,
        "not one instant: {} and {} bytes",
        a.len(),
        b.len()
    );
    Ok(())
}

async fn instant(ground: Ground<'_>) -> Verdict {
    let (parent, mut agent) = ground.sandbox().await?;
    let writer = writing(&mut agent).await?;
    let (_, mut child) = ground.fork(parent).await?;
    one_instant(&ground, &mut child).await?;
    let now = read(&mut agent, "/tmp/b").await?.len() as u64;
    grown(&mut agent, now).await?;
    same("the parent's writer", agent.seen(&writer).end, None)
}

async fn apart(ground: Ground<'_>) -> Verdict {
    let (parent, mut agent) = ground.sandbox().await?;
    agent
        .sh("echo both > /tmp/both; echo both > /tmp/gone")
        .await?;
    let (_, mut child) = ground.fork(parent).await?;
    same("inherited", child.sh("cat /tmp/both").await?, "both\n")?;
    child
        .sh("echo child > /tmp/both; rm /tmp/gone; echo new > /tmp/new")
        .await?;
    same(
        "in the parent",
        agent.sh("cat /tmp/both /tmp/gone").await?,
        "both\nboth\n",
    )?;
    let new = stat(&mut agent, "/tmp/new").await?;
    ensure!(
        matches!(new, Reply::Failed(_)),
        "the child's file shows: {new:?}"
    );
    agent.sh("echo parent > /tmp/both").await?;
    same("in the child", child.sh("cat /tmp/both").await?, "child\n")
}

async fn own(ground: Ground<'_>) -> Verdict {
    let (parent, mut agent) = ground.sandbox().await?;
    let sleeper = agent.start(sh("sleep 54321")).await?;
    agent.until(|agent| agent.seen(&sleeper).started).await?;
    let (_, mut child) = ground.fork(parent).await?;
    for name in ["/etc/hostname", "/etc/machine-id"] {
        let (mine, yours) = (read(&mut agent, name).await?, read(&mut child, name).await?);
        ensure!(
            !mine.is_empty() && mine != yours,
            "{name} is the same: {mine:?}"
        );
    }
    if !ground.capabilities().memory_snapshot {
        let Reply::Processes(all) = child.call(Call::ListProcesses(ListProcesses {})).await? else {
            return Err(Failure::new("no list of processes"));
        };
        let shows = format!("{:?}", all.processes);
        ensure!(!shows.contains("54321"), "the parent's process: {shows}");
    }
    same("the parent's process", agent.seen(&sleeper).end, None)
}

async fn generations(ground: Ground<'_>) -> Verdict {
    let (first, mut agent) = ground.sandbox().await?;
    agent.sh("echo first > /tmp/who").await?;
    let (second, mut agent) = ground.fork(first).await?;
    agent.sh("echo second >> /tmp/who").await?;
    let (_, mut third) = ground.fork(second).await?;
    ground.driver().destroy(first).await?;
    same(
        "grandchild",
        third.sh("cat /tmp/who").await?,
        "first\nsecond\n",
    )?;
    same("child", agent.sh("cat /tmp/who").await?, "first\nsecond\n")?;
    ground.driver().destroy(second).await?;
    third.sh("echo third >> /tmp/who").await?;
    same(
        "alone",
        third.sh("cat /tmp/who").await?,
        "first\nsecond\nthird\n",
    )
}

async fn wrong(ground: Ground<'_>) -> Verdict {
    let missing = ground.driver().fork(SandboxId::new(), &ground.spec()).await;
    ensure!(
        matches!(missing, Err(DriverError::NotFound(_))),
        "of nothing: {missing:?}"
    );
    let (parent, _agent) = ground.sandbox().await?;
    let taken = ground.spec();
    let mut there = ground.create(&taken).await?;
    there.sh("echo kept > /tmp/kept").await?;
    let onto = ground.driver().fork(parent, &taken).await;
    ensure!(
        matches!(onto, Err(DriverError::Exists(_))),
        "onto another: {onto:?}"
    );
    same("kept", there.sh("cat /tmp/kept").await?, "kept\n")
}

async fn many(ground: Ground<'_>) -> Verdict {
    let (parent, mut agent) = ground.sandbox().await?;
    let writer = writing(&mut agent).await?;
    let specs: Vec<_> = (0..4).map(|_| ground.spec()).collect();
    let mut making = tokio::task::JoinSet::new();
    for spec in specs.clone() {
        let driver = ground.driver().clone();
        making.spawn(async move { driver.fork(parent, &spec).await });
    }
    while let Some(made) = making.join_next().await {
        made??;
    }
    for spec in specs {
        one_instant(&ground, &mut ground.connect(spec.id).await?).await?;
    }
    let now = read(&mut agent, "/tmp/b").await?.len() as u64;
    grown(&mut agent, now).await?;
    same("the parent's writer", agent.seen(&writer).end, None)
}

async fn killed(ground: Ground<'_>) -> Verdict {
    let (parent, mut agent) = ground.sandbox().await?;
    agent.sh("echo kept > /tmp/file").await?;
    ground.driver().kill(parent).await?;
    let (_, mut child) = ground.fork(parent).await?;
    ground.driver().destroy(parent).await?;
    let script = "cat /tmp/file; echo more >> /tmp/file; cat /tmp/file";
    same(
        "in the child",
        child.sh(script).await?,
        "kept\nkept\nmore\n",
    )
}

async fn paused(ground: Ground<'_>) -> Verdict {
    let (parent, mut agent) = ground.sandbox().await?;
    writing(&mut agent).await?;
    ground.driver().pause(parent).await?;
    let (_, mut child) = ground.fork(parent).await?;
    one_instant(&ground, &mut child).await?;
    if ground.capabilities().pause_to_disk {
        let link = ground.driver().connect(parent).await;
        ensure!(link.is_err(), "the parent is not paused any more");
        ground.driver().resume(parent).await?;
        let on = ground.connect(parent).await?.sh("echo on").await?;
        return same("after it was resumed", on, "on\n");
    }
    let question = agent
        .ask(Call::Health(skerry_proto::agent::Health {}))
        .await?;
    agent
        .listen(tokio::time::sleep(std::time::Duration::from_millis(100)))
        .await?;
    ensure!(
        !agent.has_answer(question),
        "the parent is not paused any more"
    );
    ground.driver().resume(parent).await?;
    agent.answer(question).await?;
    Ok(())
}
