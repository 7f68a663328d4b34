//! Commands that builds run. The text of one says how it ends: `exit 3`, `hang` never by itself, all others well. All of them say their text.

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use skerry_control::Clock;
use skerry_proto::node::{
    Command, ExecEvent, ExecEventBody, ExecFilter, ExecName, ExecRecord, Execs, ProcessInfo,
    StartExec, TtySize,
};
use skerry_types::{Error, ExecEnd, ExecId, ExecStatus, Result, SandboxId, Usage};

use super::FakeNode;

fn none<T>() -> Result<T> {
    Err(Error::unsupported("the fake node does not do that"))
}

fn text(command: &Command) -> String {
    match command {
        Command::Shell(script) => script.clone(),
        Command::Argv(argv) => argv.join(" "),
    }
}

fn end(command: &str) -> Option<ExecEnd> {
    if command.starts_with("hang") {
        return None;
    }
    let code = command
        .strip_prefix("exit ")
        .map_or(0, |code| code.parse().unwrap());
    Some(ExecEnd::Exited { code })
}

#[async_trait]
impl Execs for FakeNode {
    async fn start_exec(&self, _: SandboxId, request: StartExec) -> Result<ExecRecord> {
        self.reach()?;
        let text = text(&request.command);
        let user = request.user.clone().unwrap_or_default();
        let cwd = request.cwd.clone().unwrap_or_default();
        let record = ExecRecord {
            id: request.id,
            number: 1,
            command: request.command,
            cwd: request.cwd,
            user: request.user,
            session: None,
            tty: false,
            timeout: request.timeout,
            pid: None,
            status: ExecStatus::Running,
            end: end(&text),
            usage: None,
            duration_ms: None,
            created_at: self.clock.now(),
            ended_at: None,
            stdout_bytes: 0,
            stderr_bytes: 0,
            last_seq: 0,
            tag: request.tag,
        };
        let mut world = self.world.lock();
        let env: Vec<String> = request
            .env
            .iter()
            .map(|(k, v)| format!(" {k}={v}"))
            .collect();
        world
            .done
            .push(format!("run {text} as {user} in {cwd}{}", env.concat()));
        world.programs.insert(record.id, record.clone());
        Ok(record)
    }

    async fn get_exec(&self, _: SandboxId, exec: ExecId) -> Result<ExecRecord> {
        self.reach()?;
        let world = self.world.lock();
        let known = world.programs.get(&exec).cloned();
        known.ok_or_else(|| Error::not_found(exec))
    }

    async fn await_exec(&self, _: SandboxId, _: ExecId) -> Result<ExecRecord> {
        none()
    }

    async fn find_exec(&self, _: SandboxId, _: &ExecName) -> Result<ExecRecord> {
        none()
    }

    async fn list_execs(&self, _: SandboxId, _: ExecFilter) -> Result<Vec<ExecRecord>> {
        none()
    }

    async fn exec_events(
        &self,
        sandbox: SandboxId,
        exec: ExecId,
        _: u64,
        _: bool,
    ) -> Result<BoxStream<'static, Result<ExecEvent>>> {
        let record = self.get_exec(sandbox, exec).await?;
        let event = |seq, body| {
            let at = record.created_at;
            Ok(ExecEvent { seq, at, body })
        };
        let said = format!("{}\n", text(&record.command));
        let mut events = vec![event(1, ExecEventBody::Stdout(Bytes::from(said)))];
        let Some(end) = record.end.clone() else {
            let events = futures::stream::iter(events);
            return Ok(events.chain(futures::stream::pending()).boxed());
        };
        let last = ExecEventBody::End {
            end,
            usage: Usage::default(),
            duration_ms: 1,
        };
        events.push(event(2, last));
        Ok(futures::stream::iter(events).boxed())
    }

    async fn exec_stdin(&self, _: SandboxId, _: ExecId, _: Bytes, _: bool) -> Result<()> {
        none()
    }

    async fn exec_signal(&self, _: SandboxId, _: ExecId, _: i32) -> Result<()> {
        none()
    }

    async fn exec_resize(&self, _: SandboxId, _: ExecId, _: TtySize) -> Result<()> {
        none()
    }

    async fn list_processes(&self, _: SandboxId) -> Result<Vec<ProcessInfo>> {
        none()
    }
}
