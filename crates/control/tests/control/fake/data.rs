//! Execs, sessions and files: control never asks for them.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use skerry_proto::node::{
    ByteStream, ExecEvent, ExecFilter, ExecRecord, Execs, FileChange, FileEntry, Files,
    OpenSession, ProcessInfo, SessionEvent, SessionRecord, Sessions, StartExec, TtySize,
};
use skerry_types::{Error, ExecId, Result, SandboxId, SessionId};

use super::FakeNode;

fn none<T>() -> Result<T> {
    Err(Error::unsupported("the fake node holds no data"))
}

#[async_trait]
impl Execs for FakeNode {
    async fn start_exec(&self, _: SandboxId, _: StartExec) -> Result<ExecRecord> {
        none()
    }
    async fn get_exec(&self, _: SandboxId, _: ExecId) -> Result<ExecRecord> {
        none()
    }
    async fn list_execs(&self, _: SandboxId, _: ExecFilter) -> Result<Vec<ExecRecord>> {
        none()
    }
    async fn exec_events(
        &self,
        _: SandboxId,
        _: ExecId,
        _: u64,
        _: bool,
    ) -> Result<BoxStream<'static, Result<ExecEvent>>> {
        none()
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

#[async_trait]
impl Sessions for FakeNode {
    async fn open_session(&self, _: SandboxId, _: OpenSession) -> Result<SessionRecord> {
        none()
    }
    async fn list_sessions(&self, _: SandboxId) -> Result<Vec<SessionRecord>> {
        none()
    }
    async fn close_session(&self, _: SandboxId, _: SessionId) -> Result<SessionRecord> {
        none()
    }
    async fn session_events(
        &self,
        _: SandboxId,
        _: SessionId,
        _: u64,
    ) -> Result<BoxStream<'static, Result<SessionEvent>>> {
        none()
    }
    async fn session_input(&self, _: SandboxId, _: SessionId, _: Bytes) -> Result<()> {
        none()
    }
}

#[async_trait]
impl Files for FakeNode {
    async fn stat(&self, _: SandboxId, _: &str) -> Result<FileEntry> {
        none()
    }
    async fn list_files(
        &self,
        _: SandboxId,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
    ) -> Result<(Vec<FileEntry>, bool)> {
        none()
    }
    async fn make_dir(&self, _: SandboxId, _: &str, _: Option<&str>) -> Result<()> {
        none()
    }
    async fn move_file(&self, _: SandboxId, _: &str, _: &str) -> Result<()> {
        none()
    }
    async fn remove(&self, _: SandboxId, _: &str) -> Result<()> {
        none()
    }
    async fn read_file(
        &self,
        _: SandboxId,
        _: &str,
        _: u64,
        _: Option<u64>,
    ) -> Result<(FileEntry, ByteStream)> {
        none()
    }
    async fn write_file(
        &self,
        _: SandboxId,
        _: &str,
        _: Option<u32>,
        _: Option<&str>,
        _: ByteStream,
    ) -> Result<FileEntry> {
        none()
    }
    async fn read_tar(&self, _: SandboxId, _: &str, _: Vec<String>) -> Result<ByteStream> {
        none()
    }
    async fn write_tar(
        &self,
        _: SandboxId,
        _: &str,
        _: Option<&str>,
        _: ByteStream,
    ) -> Result<u64> {
        none()
    }
    async fn watch_files(
        &self,
        _: SandboxId,
        _: &str,
        _: bool,
    ) -> Result<BoxStream<'static, Result<FileChange>>> {
        none()
    }
}
