//! Follows an exec to its end: its output here, our input and signals there.

use std::io::{self, Write};
use std::process::ExitCode;

use bytes::{Bytes, BytesMut};
use skerry_api::{Signal, StreamEvent};
use skerry_client::{Exit, Output, Sandbox};
use skerry_types::{ErrorCode, ExecEnd, ExecId};
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{self, SignalKind};

use super::Context;
use super::failure::{Failure, OWN};
use super::output::{self, duration, note, size};

/// Input is sent in pieces of at most this.
const INPUT_BYTES: usize = 128 * 1024;

/// Follows an exec to its end. `stdin`: what we are given goes to it.
pub(crate) async fn attach(
    ctx: &Context,
    sandbox: &Sandbox,
    exec: ExecId,
    stdin: bool,
) -> anyhow::Result<Exit> {
    let mut events = sandbox.follow(exec, 0);
    let mut signals = Signals::new()?;
    let mut input = tokio::spawn(feed(stdin, sandbox.clone(), exec));
    let (mut is_fed, mut lost) = (false, None);
    let exit = loop {
        tokio::select! {
            event = events.next() => {
                let event = event?.ok_or_else(|| Failure::failed("the output ended without an end"))?;
                match show(ctx, event) {
                    Ok(Some(exit)) => break exit,
                    Ok(None) => {}
                    Err(error) => {
                        // Nobody reads what it writes: the same as at the end of a pipe, and as unimportant when it comes too late.
                        drop(sandbox.signal(exec, Signal::Name("PIPE".to_owned())).await);
                        return Err(error);
                    }
                }
            }
            fed = &mut input, if !is_fed => {
                (is_fed, lost) = (true, fed?.err());
                if lost.is_some() {
                    // It would wait for the rest. Where it cannot be told, its end is on its way.
                    drop(sandbox.signal(exec, Signal::Name("TERM".to_owned())).await);
                }
            }
            signal = signals.next() => {
                let sandbox = sandbox.clone();
                let signal = signal?;
                // One that comes too late finds nobody.
                tokio::spawn(async move { sandbox.signal(exec, signal).await });
            }
        }
    };
    input.abort();
    match lost {
        // Whatever code it made of half its input says nothing.
        Some(error) if matches!(exit.end, ExecEnd::Exited { .. } | ExecEnd::Signaled { .. }) => {
            Err(anyhow::Error::new(error).context("its input was lost"))
        }
        _ => Ok(exit),
    }
}

/// Writes an event; the exit if it is that.
fn show(ctx: &Context, event: StreamEvent) -> anyhow::Result<Option<Exit>> {
    if ctx.out.json {
        output::json_line(&event)?;
    }
    match Output::of(event)? {
        Output::Exit(exit) => return Ok(Some(exit)),
        _ if ctx.out.json => {}
        Output::Stdout(bytes) => output::bytes(&bytes)?,
        Output::Stderr(bytes) => {
            let mut stderr = io::stderr().lock();
            stderr.write_all(&bytes)?;
            stderr.flush()?;
        }
    }
    Ok(None)
}

/// Gives it what we are given, if it shall have that, as long as it takes any.
async fn feed(is_wanted: bool, sandbox: Sandbox, exec: ExecId) -> skerry_client::Result<()> {
    if !is_wanted {
        return Ok(());
    }
    match try_feed(&sandbox, exec).await {
        Err(error) if error.code() == Some(ErrorCode::Conflict) => Ok(()),
        fed => fed,
    }
}

async fn try_feed(sandbox: &Sandbox, exec: ExecId) -> skerry_client::Result<()> {
    let mut stdin = tokio::io::stdin();
    let mut buffer = BytesMut::with_capacity(INPUT_BYTES);
    loop {
        buffer.reserve(INPUT_BYTES);
        // An input that cannot be read has nothing more for us.
        let read = stdin.read_buf(&mut buffer).await.unwrap_or(0);
        if read == 0 {
            return sandbox.stdin(exec, Bytes::new(), true).await;
        }
        sandbox.stdin(exec, buffer.split().freeze(), false).await?;
    }
}

/// Signals to pass on. The second interrupt kills, the third gives up.
struct Signals {
    interrupts: u32,
    int: unix::Signal,
    term: unix::Signal,
    hup: unix::Signal,
    quit: unix::Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupts: 0,
            int: unix::signal(SignalKind::interrupt())?,
            term: unix::signal(SignalKind::terminate())?,
            hup: unix::signal(SignalKind::hangup())?,
            quit: unix::signal(SignalKind::quit())?,
        })
    }

    async fn next(&mut self) -> Result<Signal, Failure> {
        let name = tokio::select! {
            _ = self.int.recv() => {
                self.interrupts += 1;
                match self.interrupts {
                    1 => "INT",
                    2 => "KILL",
                    _ => return Err(Failure::failed("interrupted")),
                }
            }
            _ = self.term.recv() => "TERM",
            _ = self.hup.recv() => "HUP",
            _ = self.quit.recv() => "QUIT",
        };
        Ok(Signal::Name(name.to_owned()))
    }
}

/// The code to end with. Says what a code alone would not.
pub(crate) fn finish(exit: &Exit, stats: bool) -> ExitCode {
    if let Some(remark) = remark(&exit.end) {
        note(&format!("error: {remark}"));
    }
    if stats {
        note(&summary(exit));
    }
    let code = exit
        .end
        .exit_code()
        .and_then(|code| u8::try_from(code).ok());
    ExitCode::from(code.unwrap_or(OWN))
}

fn remark(end: &ExecEnd) -> Option<String> {
    Some(match end {
        ExecEnd::Exited { .. } | ExecEnd::Signaled { .. } => return None,
        ExecEnd::OomKilled => {
            "the sandbox was out of memory, and the command was killed".to_owned()
        }
        ExecEnd::TimedOut => "the command took too long and was ended".to_owned(),
        ExecEnd::SandboxStopped => "the sandbox was stopped under the command".to_owned(),
        ExecEnd::SandboxDeleted => "the sandbox was deleted under the command".to_owned(),
        ExecEnd::NodeLost => {
            "the machine of the sandbox is gone; how the command ended is not known".to_owned()
        }
        ExecEnd::FailedToStart { reason } => format!("the command could not be started: {reason}"),
    })
}

/// An end on one line: `exit 0 · 0.31 s · 14.2 MiB`.
pub(crate) fn summary(exit: &Exit) -> String {
    let how = match &exit.end {
        ExecEnd::Exited { code } => format!("exit {code}"),
        ExecEnd::Signaled { signal } => format!("signal {signal}"),
        ExecEnd::OomKilled => "out of memory".to_owned(),
        ExecEnd::TimedOut => "timed out".to_owned(),
        other => other.status().as_str().to_owned(),
    };
    let memory = exit.usage.peak_memory_bytes;
    let memory = memory.map_or_else(String::new, |bytes| format!(" · {}", size(bytes)));
    format!("{how} · {}{memory}", duration(exit.duration_ms))
}
