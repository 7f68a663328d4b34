//! Commands: what goes in, what comes out, and how they end.

use bytes::Bytes;
use skerry_proto::agent::{
    Ended, EnvVar, ExecAttach, ExecResize, SessionOpen, TtySize, to_agent::Body as To,
};
use skerry_types::{ExecId, SessionId};

use super::agent::{Seen, command, sh};
use super::failure::{Verdict, ensure, same};
use super::ground::Ground;
use super::{Check, always, checks};

const KILL: i32 = 9;
const TERM: i32 = 15;

pub(super) const CHECKS: &[Check] = checks! {
    "exec: arguments arrive as they are", always => arguments;
    "exec: environment, with what every program expects", always => environment;
    "exec: working directory", always => directory;
    "exec: exit codes", always => codes;
    "exec: signals end it and are told as such", always => signals;
    "exec: one that ignores TERM dies of KILL", always => stubborn;
    "exec: timeout, also of one that ignores TERM", always => timeouts;
    "exec: a program that is not there fails to start", always => missing;
    "exec: stdin of any bytes, more than a window", always => stdin;
    "exec: stdin that was not asked for is empty", always => no_stdin;
    "exec: stdout and stderr are apart", always => streams;
    "exec: a terminal has one stream and line ends", always => terminal;
    "exec: a terminal has the size it was given last", always => resize;
    "exec: output keeps its order over many windows", always => order;
    "exec: twenty at once", always => parallel;
    "exec: the same id again runs once", always => once;
    "exec: what never ran is unknown, and what ended and was acknowledged", always => unknown;
    "exec: a session keeps directory and variables", always => session;
};

async fn arguments(ground: Ground<'_>) -> Verdict {
    let (_, mut agent) = ground.sandbox().await?;
    let seen = agent
        .run(command(&["echo", "a  b", "", "$HOME;", "\u{e9}\n"]))
        .await?;
    same("output", seen.ok()?, "a  b  $HOME; \u{e9}\n\n")
}

async fn environment(ground: Ground<'_>) -> Verdict {
    let (_, mut agent) = ground.sandbox().await?;
    let mut start = sh("echo \"$GREETING\"; echo \"$HOME\"; echo \"$PATH\"");
    start.env = vec![EnvVar {
        name: Bytes::from_static(b"GREETING"),
        value: Bytes::from_static(b"hello  island"),
    }];
    let output = agent.run(start).await?.ok()?;
    let lines: Vec<&str> = output.lines().collect();
    ensure!(
        matches!(lines[..], ["hello  island", home, path] if home.starts_with('/') && path.contains("/bin")),
        "{lines:?}"
    );
    Ok(())
}

async fn directory(ground: Ground<'_>) -> Verdict {
    let (_, mut agent) = ground.sandbox().await?;
    let mut start = sh("pwd");
    start.cwd = Bytes::from_static(b"/tmp");
    same("pwd", agent.run(start).await?.ok()?, "/tmp\n")?;
    let mut start = sh("pwd");
    start.cwd = Bytes::from_static(b"/nowhere");
    failed_to_start(&agent.run(start).await?)
}

async fn codes(ground: Ground<'_>) -> Verdict {
    let (_, mut agent) = ground.sandbox().await?;
    for code in [0, 1, 42, 255] {
        let seen = agent.run(sh(&format!("exit {code}"))).await?;
        same("end", seen.end, Some(Ended::Code(code)))?;
    }
    same(
        "false",
        agent.run(command(&["false"])).await?.end,
        Some(Ended::Code(1)),
    )
}

async fn signals(ground: Ground<'_>) -> Verdict {
    let (_, mut agent) = ground.sandbox().await?;
    for signal in [TERM, KILL] {
        let id = agent.start(command(&["sleep", "1000"])).await?;
        agent.until(|agent| agent.seen(&id).started).await?;
        agent.signal(&id, signal).await?;
        same(
            "end",
            agent.finish(&id).await?.end,
            Some(Ended::Signal(signal)),
        )?;
    }
    Ok(())
}

/// Says `ready` once TERM does nothing any more.
const STUBBORN: &str = "trap '' TERM; echo ready; while true; do sleep 1000; done";

async fn stubborn(ground: Ground<'_>) -> Verdict {
    let (_, mut agent) = ground.sandbox().await?;
    let id = agent.start(sh(STUBBORN)).await?;
    agent.until_out(&id, 1).await?;
    agent.signal(&id, TERM).await?;
    same("alive after TERM", agent.sh("echo alive").await?, "alive\n")?;
    same("end", agent.seen(&id).end, None)?;
    agent.signal(&id, KILL).await?;
    same(
        "end",
        agent.finish(&id).await?.end,
        Some(Ended::Signal(KILL)),
    )
}

async fn timeouts(ground: Ground<'_>) -> Verdict {
    let (_, mut agent) = ground.sandbox().await?;
    for script in ["echo ready; sleep 1000", STUBBORN] {
        let mut start = sh(script);
        (start.timeout_ms, start.kill_grace_ms) = (500, 50);
        let seen = agent.run(start).await?;
        same("end", seen.end, Some(Ended::TimedOut(true)))?;
    }
    Ok(())
}

async fn missing(ground: Ground<'_>) -> Verdict {
    let (_, mut agent) = ground.sandbox().await?;
    for name in ["no-such-program", "/no/such/program", ""] {
        failed_to_start(&agent.run(command(&[name])).await?)?;
    }
    Ok(())
}

fn failed_to_start(seen: &Seen) -> Verdict {
    ensure!(
        matches!(&seen.end, Some(Ended::FailedToStart(reason)) if !reason.is_empty()),
        "{seen:?}"
    );
    Ok(())
}

async fn stdin(ground: Ground<'_>) -> Verdict {
    let (_, mut agent) = ground.sandbox().await?;
    let bytes: Vec<u8> = (0..700_000u32).map(|i| (i % 251) as u8).collect();
    let mut start = command(&["cat"]);
    start.stdin = true;
    let id = agent.start(start).await?;
    agent.stdin(&id, 0, &bytes, true).await?;
    let seen = agent.finish(&id).await?;
    same("end", seen.end, Some(Ended::Code(0)))?;
    ensure!(
        seen.stdout == bytes,
        "{} bytes in, {} others out",
        bytes.len(),
        seen.stdout.len()
    );
    Ok(())
}

async fn no_stdin(ground: Ground<'_>) -> Verdict {
    let (_, mut agent) = ground.sandbox().await?;
    same("output", agent.run(command(&["cat"])).await?.ok()?, "")
}

async fn streams(ground: Ground<'_>) -> Verdict {
    let (_, mut agent) = ground.sandbox().await?;
    let seen = agent.run(sh("echo out; echo err >&2; exit 3")).await?;
    same("stdout", &seen.stdout[..], &b"out\n"[..])?;
    same("stderr", &seen.stderr[..], &b"err\n"[..])?;
    same("end", seen.end, Some(Ended::Code(3)))
}

async fn terminal(ground: Ground<'_>) -> Verdict {
    let (_, mut agent) = ground.sandbox().await?;
    let mut start = sh("echo out; echo err >&2");
    start.tty = Some(TtySize { cols: 80, rows: 24 });
    let seen = agent.run(start).await?;
    same("stderr", seen.stderr.len(), 0)?;
    same("terminal", seen.ok()?, "out\r\nerr\r\n")
}

/// What `seq 1 last` prints.
pub(super) fn counted(last: u32) -> String {
    (1..=last).fold(String::new(), |text, number| {
        text + &number.to_string() + "\n"
    })
}

async fn resize(ground: Ground<'_>) -> Verdict {
    let (_, mut agent) = ground.sandbox().await?;
    let mut start = sh("while true; do stty size; sleep 0.05; done");
    start.tty = Some(TtySize { cols: 80, rows: 24 });
    let id = agent.start(start).await?;
    for (cols, rows) in [(80, 24), (132, 43), (1, 1)] {
        agent
            .send(To::ExecResize(ExecResize {
                exec_id: id.clone(),
                size: TtySize { cols, rows },
            }))
            .await?;
        let line = format!("{rows} {cols}\r\n");
        agent
            .until(|agent| agent.seen(&id).out().ends_with(&line) || agent.seen(&id).end.is_some())
            .await?;
        same("its end", agent.seen(&id).end, None)?;
    }
    agent.signal(&id, KILL).await?;
    agent.finish(&id).await.map(drop)
}

async fn order(ground: Ground<'_>) -> Verdict {
    let (_, mut agent) = ground.sandbox().await?;
    let output = agent.run(command(&["seq", "1", "200000"])).await?.ok()?;
    ensure!(output == counted(200_000), "{} other bytes", output.len());
    Ok(())
}

async fn parallel(ground: Ground<'_>) -> Verdict {
    let (_, mut agent) = ground.sandbox().await?;
    let mut started = Vec::new();
    for number in 0..20u8 {
        let script = format!("echo {number}; sleep 0.05; exit {number}");
        started.push((i32::from(number), agent.start(sh(&script)).await?));
    }
    for (number, id) in started {
        let seen = agent.finish(&id).await?;
        same("output", seen.out(), format!("{number}\n"))?;
        same("end", seen.end, Some(Ended::Code(number)))?;
    }
    Ok(())
}

async fn once(ground: Ground<'_>) -> Verdict {
    let (_, mut agent) = ground.sandbox().await?;
    agent.acks = false;
    let start = sh("echo ran >> /tmp/runs; echo said");
    let id = agent.start(start.clone()).await?;
    agent.finish(&id).await?;
    agent.execs.remove(&id);
    let seen = agent.run(start).await?;
    same("what it said", seen.ok()?, "said\n")?;
    same("runs", agent.sh("cat /tmp/runs").await?, "ran\n")
}

async fn unknown(ground: Ground<'_>) -> Verdict {
    let (_, mut agent) = ground.sandbox().await?;
    let never = Bytes::copy_from_slice(&ExecId::new().bytes());
    agent.attach(&never).await?;
    agent.until(|agent| agent.seen(&never).unknown).await?;
    let ended = agent.start(sh("true")).await?;
    agent.finish(&ended).await?;
    let exec_id = ended.clone();
    agent
        .send(To::ExecAttach(ExecAttach {
            exec_id,
            after_seq: 0,
        }))
        .await?;
    agent.until(|agent| agent.seen(&ended).unknown).await
}

async fn session(ground: Ground<'_>) -> Verdict {
    let (_, mut agent) = ground.sandbox().await?;
    let session_id = Bytes::copy_from_slice(&SessionId::new().bytes());
    let open = SessionOpen {
        session_id: session_id.clone(),
        cwd: Bytes::from_static(b"/"),
        ..SessionOpen::default()
    };
    agent.send(To::SessionOpen(open)).await?;
    let is_open = |agent: &super::agent::Agent, open| {
        agent
            .sessions
            .get(&session_id)
            .is_some_and(|s| s.open == open)
    };
    agent.until(|agent| is_open(agent, true)).await?;
    let within = |script: &str| {
        let mut start = command(&[script]);
        start.session_id = session_id.clone();
        start.cwd = Bytes::new();
        start
    };
    agent.run(within("cd /tmp; NAME=skerry")).await?.ok()?;
    let output = agent.run(within("pwd; echo \"$NAME\"")).await?.ok()?;
    same("later in the session", output, "/tmp\nskerry\n")?;
    agent.start(within("exit 0")).await?;
    agent.until(|agent| is_open(agent, false)).await
}
