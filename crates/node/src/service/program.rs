//! The program that runs in a sandbox from the start, where no memory has brought it along.

use std::time::Duration;

use futures::StreamExt;
use skerry_proto::node::{Command, ExecEventBody, Execs, Map, START_TAG, Start, StartExec};
use skerry_types::{Error, ExecEnd, ExecId, Result, SandboxId};

use crate::node::Node;

/// How long it may take to be ready: less than making a sandbox may.
const READY_LIMIT: Duration = Duration::from_secs(25);
/// Bytes of its last words that an error shows.
const SHOWN: usize = 2048;

impl Node {
    /// Starts it, and returns once it is ready. On error the sandbox is there without it.
    pub(super) async fn start_program(&self, sandbox: SandboxId, start: &Start) -> Result<()> {
        let program = script(start.command.clone(), None, Some(START_TAG.to_owned()));
        let program = self.start_exec(sandbox, program).await?.id;
        let check = format!(
            "until {{\n{}\n}} >/dev/null 2>&1; do sleep 0.1; done",
            start.ready
        );
        let check = script(check, Some(READY_LIMIT), None);
        let check = self.start_exec(sandbox, check).await?.id;
        let (what, said) = tokio::select! {
            ready = self.end_of(sandbox, check) => match ready? {
                (Some(ExecEnd::Exited { code: 0 }), _) => return Ok(()),
                _ => ("was not ready in time", String::new()),
            },
            ended = self.end_of(sandbox, program) => ("ended before it was ready", ended?.1),
        };
        Err(Error::conflict(format!(
            "`{}`, which this template starts, {what}{said}",
            start.command
        )))
    }

    /// Waits for the end of a command; gives it with the command's last words.
    async fn end_of(&self, sandbox: SandboxId, exec: ExecId) -> Result<(Option<ExecEnd>, String)> {
        let mut events = self.exec_events(sandbox, exec, 0, true).await?;
        let mut said = Vec::new();
        while let Some(event) = events.next().await {
            match event?.body {
                ExecEventBody::Stdout(bytes) | ExecEventBody::Stderr(bytes) => {
                    said.extend_from_slice(&bytes);
                    said.drain(..said.len().saturating_sub(SHOWN));
                }
                ExecEventBody::End { end, .. } => {
                    let said = String::from_utf8_lossy(&said);
                    return Ok((Some(end), format!(": {}", said.trim())));
                }
            }
        }
        Ok((None, String::new()))
    }
}

fn script(script: String, timeout: Option<Duration>, tag: Option<String>) -> StartExec {
    StartExec {
        id: ExecId::new(),
        command: Command::Shell(script),
        cwd: None,
        env: Map::new(),
        user: None,
        stdin: false,
        tty: None,
        timeout,
        session: None,
        tag,
    }
}
