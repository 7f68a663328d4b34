//! Commands in a sandbox.

use bytes::Bytes;
use reqwest::Method;
use serde::Serialize;
use skerry_api::{Command, Exec, ExecPage, ExecResult, RunExec, SendSignal, Signal, StreamEvent};
use skerry_types::ExecId;

use crate::error::{ClientError, Result};
use crate::files::Download;
use crate::follow::{Follow, Outage};
use crate::retry::Repeat;
use crate::sandbox::Sandbox;

/// A script for the sandbox's shell, with nothing else asked for.
pub fn shell(script: impl Into<String>) -> RunExec {
    run(Command::Shell(script.into()))
}

/// A program and its arguments, with nothing else asked for.
pub fn argv<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> RunExec {
    run(Command::Argv(argv.into_iter().map(Into::into).collect()))
}

fn run(cmd: Command) -> RunExec {
    RunExec {
        cmd,
        args: None,
        cwd: None,
        env: skerry_api::Map::new(),
        user: None,
        stdin: false,
        timeout_seconds: None,
        wait: None,
        tag: None,
    }
}

#[derive(Serialize)]
struct PageQuery<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<&'a str>,
    limit: u32,
}

impl Sandbox {
    /// Runs a command and waits for its end: at most 300 s, at most 1 MiB of each stream. It runs on if this is dropped.
    pub async fn run(&self, request: &RunExec) -> Result<ExecResult> {
        let request = RunExec {
            wait: Some(true),
            ..request.clone()
        };
        self.client()
            .post_once(&self.below(&["exec"]), &request)
            .await
    }

    /// Starts a command.
    pub async fn start(&self, request: &RunExec) -> Result<Exec> {
        let request = RunExec {
            wait: Some(false),
            ..request.clone()
        };
        self.client()
            .post_once(&self.below(&["exec"]), &request)
            .await
    }

    /// What is known of an exec.
    pub async fn exec(&self, exec: ExecId) -> Result<Exec> {
        let id = exec.to_string();
        self.client().get(&self.below(&["exec", &id]), &()).await
    }

    /// A page of its execs, by number; also after it ended.
    pub async fn execs(&self, cursor: Option<&str>) -> Result<ExecPage> {
        let limit = skerry_types::limits::MAX_PAGE;
        let query = PageQuery { cursor, limit };
        self.client().get(&self.below(&["execs"]), &query).await
    }

    /// What an exec writes after the event with this number, until its end. [`crate::Output::of`] reads an event.
    pub fn follow(&self, exec: ExecId, after: u64) -> Follow<StreamEvent> {
        let id = exec.to_string();
        let url = self.client().route(&self.below(&["exec", &id, "stream"]));
        let is_last = |event: &StreamEvent| event.t == "exit";
        Follow::new(self.client().clone(), url, after, is_last)
    }

    /// What an exec wrote so far, byte for byte, both streams in their order.
    pub async fn log(&self, exec: ExecId) -> Result<Download> {
        let id = exec.to_string();
        let request = self
            .client()
            .request(Method::GET, &self.below(&["exec", &id, "log"]));
        let response = self.client().send(request, Repeat::Safe).await?;
        Ok(Download::new(response))
    }

    /// Gives an exec input. Answers when the sandbox took it. Sent again only to a server that did not take it, or was not there.
    pub async fn stdin(&self, exec: ExecId, data: Bytes, eof: bool) -> Result<()> {
        let id = exec.to_string();
        let mut outage = Outage::default();
        loop {
            let request = self
                .client()
                .request(Method::POST, &self.below(&["exec", &id, "stdin"]))
                .query(&[("eof", eof)])
                .header("content-type", "application/octet-stream")
                .body(data.clone());
            match self.client().send(request, Repeat::IfRefused).await {
                Err(error @ ClientError::Unreachable { .. }) => outage.pause(error).await?,
                sent => return sent.map(drop),
            }
        }
    }

    /// Sends a signal to an exec's process group.
    pub async fn signal(&self, exec: ExecId, signal: Signal) -> Result<()> {
        let id = exec.to_string();
        let route = self.below(&["exec", &id, "signal"]);
        let body = SendSignal { signal };
        self.client().post(&route, &body, Repeat::IfRefused).await
    }
}
