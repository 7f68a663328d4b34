//! Copies of a sandbox with memory are sandboxes of their own: what must differ differs, what must go on goes on, and the time is right.

use std::env;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::task::JoinSet;

use super::agent::{Agent, python};
use super::failure::{Failure, Verdict, ensure, same};
use super::ground::Ground;
use super::memory::{copy, declared, go_on, keep, release, try_keep};
use super::{Check, checks};
use crate::{DriverError, Isolation, NetworkMode, Spec};

pub(super) const CHECKS: &[Check] = checks! {
    "copies: many at once count on from one number, and share no name and no random number", declared => many;
    "copies: the time is right, and no clock goes back", declared => clocks;
    "copies: timers that were set go off", declared => timers;
    "copies: connections end, those inside may go on in a kernel of its own", |c| declared(c) && c.nat => connections;
};

/// Copies at once; all of them only where there is time for that.
const FEW: usize = 3;
const MANY: usize = 20;
/// How far the time may be off where the clock is the host's, and where it is set through a link.
const CLOCK: Duration = Duration::from_millis(10);
const SET_CLOCK: Duration = Duration::from_millis(100);

/// Answers what it is asked, a line for a line.
const ORACLE: &str = "
import os, random, socket, sys, threading, time, uuid
kept = []
def read(path):
    return open(path).read().strip()
for line in sys.stdin:
    try:
        print(eval(line), flush=True)
    except Exception as error:
        print(type(error).__name__, flush=True)
";

async fn oracle(agent: &mut Agent) -> Verdict<Bytes> {
    let mut start = python(ORACLE);
    start.stdin = true;
    agent.start(start).await
}

async fn ask(agent: &mut Agent, oracle: &Bytes, question: &str) -> Verdict<String> {
    let seen = agent.seen(oracle);
    let line = format!("{question}\n");
    let lines = seen.out().lines().count();
    agent
        .stdin(oracle, seen.stdin_taken, line.as_bytes(), false)
        .await?;
    agent
        .until(|agent| {
            let seen = agent.seen(oracle);
            seen.stdout.ends_with(b"\n") && seen.out().lines().count() > lines || seen.end.is_some()
        })
        .await?;
    let said = agent.seen(oracle).out();
    Ok(said.lines().next_back().unwrap_or_default().to_owned())
}

/// What no two sandboxes may share.
fn own(ground: &Ground<'_>) -> Vec<&'static str> {
    let mut own = vec![
        "socket.gethostname()",
        "read('/etc/hostname')",
        "read('/etc/machine-id')",
        "os.urandom(16).hex()",
        "os.getrandom(16).hex()",
        "uuid.uuid4()",
        "random.Random().random()",
        "random.SystemRandom().random()",
    ];
    // What shares the host's kernel shares its boot.
    if ground.capabilities().isolation != Isolation::Namespace {
        own.push("read('/proc/sys/kernel/random/boot_id')");
    }
    own
}

async fn all_own(ground: &Ground<'_>, agent: &mut Agent, oracle: &Bytes) -> Verdict<Vec<String>> {
    let mut answers = Vec::new();
    for question in own(ground) {
        answers.push(ask(agent, oracle, question).await?);
    }
    Ok(answers)
}

/// Counts in memory.
const COUNT: &str = "kept.append(1) or len(kept)";

async fn many(ground: Ground<'_>) -> Verdict {
    let (sandbox, mut agent) = ground.sandbox().await?;
    let id = oracle(&mut agent).await?;
    same("number", ask(&mut agent, &id, COUNT).await?, "1")?;
    // What was asked before is remembered by nobody: the host name is as the kernel says it.
    all_own(&ground, &mut agent, &id).await?;
    let (snapshot, mut agent) = keep(&ground, sandbox, agent).await?;
    let is_thorough = env::var_os("SKERRY_TEST_ALL").is_some();
    let count = if is_thorough { MANY } else { FEW };
    let specs: Vec<Spec> = (0..count).map(|_| ground.spec()).collect();
    let mut making = JoinSet::new();
    for spec in specs.clone() {
        let driver = ground.driver().clone();
        making.spawn(async move { driver.restore(snapshot, &spec).await });
    }
    while let Some(made) = making.join_next().await {
        made??;
    }
    let mut said = Vec::new();
    for (number, spec) in specs.iter().enumerate() {
        let mut copy = ground.connect(spec.id).await?;
        release(spec, &mut copy).await?;
        go_on(&mut copy, &id, agent.seen(&id)).await?;
        for further in 0..=number {
            let counted = ask(&mut copy, &id, COUNT).await?;
            same("number", counted, (further + 2).to_string())?;
        }
        let answers = all_own(&ground, &mut copy, &id).await?;
        same("host name", &answers[0], &spec.hostname)?;
        said.push(answers);
    }
    agent.attach(&id).await?;
    same(
        "in what was copied",
        ask(&mut agent, &id, COUNT).await?,
        "2",
    )?;
    said.push(all_own(&ground, &mut agent, &id).await?);
    let questions = own(&ground);
    for (number, one) in said.iter().enumerate() {
        for other in &said[number + 1..] {
            let both = questions.iter().zip(one.iter().zip(other));
            for (question, (one, other)) in both {
                ensure!(one != other, "{question} is {one} in two sandboxes");
            }
        }
    }
    Ok(())
}

async fn number(agent: &mut Agent, oracle: &Bytes, question: &str) -> Verdict<u128> {
    let said = ask(agent, oracle, question).await?;
    said.parse()
        .map_err(|_| Failure::new(format!("{question} is {said:?}")))
}

fn now() -> Verdict<u128> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())
}

const MONOTONIC: &str = "time.monotonic_ns()";

async fn clocks(ground: Ground<'_>) -> Verdict {
    let (sandbox, mut agent) = ground.sandbox().await?;
    let id = oracle(&mut agent).await?;
    let then = number(&mut agent, &id, MONOTONIC).await?;
    let (snapshot, agent) = keep(&ground, sandbox, agent).await?;
    // A clock that stood still would be behind by that.
    tokio::time::sleep(SET_CLOCK * 2).await;
    let is_set = ground.capabilities().isolation == Isolation::Vm;
    let tolerated = if is_set { SET_CLOCK } else { CLOCK }.as_nanos();
    for _ in 0..2 {
        let (_, mut copy) = copy(&ground, snapshot).await?;
        go_on(&mut copy, &id, agent.seen(&id)).await?;
        let later = number(&mut copy, &id, MONOTONIC).await?;
        ensure!(later >= then, "monotonic time went from {then} to {later}");
        let before = now()?;
        let said = number(&mut copy, &id, "time.time_ns()").await?;
        let after = now()?;
        ensure!(
            said + tolerated >= before && said <= after + tolerated,
            "between {before} and {after} its clock says {said}"
        );
    }
    Ok(())
}

/// Goes off a while after it was set, however long that takes by the host's clock.
const SET_TIMER: &str = "threading.Timer(2, lambda: kept.append('off')).start()";
const HAS_GONE_OFF: &str = "kept or time.sleep(0.01)";

async fn timers(ground: Ground<'_>) -> Verdict {
    let (sandbox, mut agent) = ground.sandbox().await?;
    let id = oracle(&mut agent).await?;
    ask(&mut agent, &id, SET_TIMER).await?;
    let (snapshot, mut agent) = keep(&ground, sandbox, agent).await?;
    let (_, mut copy) = copy(&ground, snapshot).await?;
    go_on(&mut copy, &id, agent.seen(&id)).await?;
    agent.attach(&id).await?;
    for agent in [&mut copy, &mut agent] {
        while ask(agent, &id, HAS_GONE_OFF).await? != "['off']" {}
    }
    Ok(())
}

/// To the name server that it was given, which is outside.
const TO_OUTSIDE: &str =
    "kept.append(socket.create_connection((read('/etc/resolv.conf').split()[1], 53), 5))";
const TO_ITSELF: &str = "kept.append(socket.create_server(('127.0.0.1', 0))) \
    or kept.append(socket.create_connection(kept[1].getsockname())) or kept.append(kept[1].accept()[0])";
/// The end of it, or an error, at once; or nothing, which takes its time.
const HEAR: &str = "kept[0].settimeout(1) or kept[0].recv(1)";
const ECHO: &str = "kept[2].send(b'x') and kept[3].recv(1)";
const CONNECT_AGAIN: &str = "bool(socket.create_connection(kept[1].getsockname()))";

/// The program was told.
fn cut(what: &str, heard: &str) -> Verdict {
    let told = heard == "b''" || heard.ends_with("Error") && heard != "TimeoutError";
    ensure!(told, "{what}: {heard}");
    Ok(())
}

async fn connections(ground: Ground<'_>) -> Verdict {
    let network = NetworkMode::Nat;
    let spec = |spec| Spec { network, ..spec };
    let first = spec(ground.spec());
    let mut agent = ground.create(&first).await?;
    let id = oracle(&mut agent).await?;
    same(
        "to the outside",
        ask(&mut agent, &id, TO_OUTSIDE).await?,
        "None",
    )?;
    same("to itself", ask(&mut agent, &id, TO_ITSELF).await?, "None")?;
    let (kept, mut agent) = try_keep(&ground, first.id, agent).await?;
    let snapshot = match kept {
        // What cannot cut them in a copy may refuse, and then has to leave them alone.
        Err(DriverError::Unsupported(_)) => {
            agent.attach(&id).await?;
            return same("still", ask(&mut agent, &id, HEAR).await?, "TimeoutError");
        }
        kept => kept?,
    };
    let second = spec(ground.spec());
    ground.driver().restore(snapshot, &second).await?;
    let mut copy = ground.connect(second.id).await?;
    release(&second, &mut copy).await?;
    go_on(&mut copy, &id, agent.seen(&id)).await?;
    agent.attach(&id).await?;
    cut("in the copy", &ask(&mut copy, &id, HEAR).await?)?;
    let heard = ask(&mut agent, &id, HEAR).await?;
    if ground.capabilities().keeps_connections {
        same("in what was copied", heard, "TimeoutError")?;
    } else {
        cut("in what was copied", &heard)?;
    }
    let inside = ask(&mut copy, &id, ECHO).await?;
    if ground.capabilities().isolation == Isolation::Namespace {
        cut("inside the copy", &inside)?;
    } else {
        same("inside the copy", inside, "b'x'")?;
    }
    let to_outside = TO_OUTSIDE.replace("kept.append", "bool");
    for (what, again) in [("inside", CONNECT_AGAIN), ("to the outside", &to_outside)] {
        let connected = ask(&mut copy, &id, again).await?;
        same(&format!("again {what}"), connected, "True")?;
    }
    same(
        "inside the parent",
        ask(&mut agent, &id, ECHO).await?,
        "b'x'",
    )
}
