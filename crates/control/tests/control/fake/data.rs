//! Sessions and files. Control asks only for the files that builds need: whatever is written is there.

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use futures::stream::BoxStream;
use skerry_proto::node::{
    ByteStream, FileChange, FileEntry, Files, OpenSession, Overwrite, Ports, SessionEvent,
    SessionRecord, Sessions, UserFacts,
};
use skerry_types::{Error, Result, SandboxId, SessionId};

use super::FakeNode;

fn none<T>() -> Result<T> {
    Err(Error::unsupported("the fake node holds no data"))
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
impl Ports for FakeNode {
    async fn dial(&self, _: SandboxId, _: u16, _: ByteStream) -> Result<ByteStream> {
        none()
    }
}

#[async_trait]
impl Files for FakeNode {
    async fn stat(&self, _: SandboxId, path: &str) -> Result<FileEntry> {
        Err(Error::not_found(path))
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
    async fn make_dir(&self, _: SandboxId, path: &str, _: Option<&str>) -> Result<()> {
        self.world.lock().done.push(format!("mkdir {path}"));
        Ok(())
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
    async fn overwrite_file(&self, _: SandboxId, _: Overwrite, _: ByteStream) -> Result<FileEntry> {
        none()
    }
    async fn find_user(&self, _: SandboxId, _: Option<&str>) -> Result<UserFacts> {
        none()
    }
    async fn read_tar(&self, _: SandboxId, _: &str, _: Vec<String>) -> Result<ByteStream> {
        none()
    }
    async fn write_tar(
        &self,
        _: SandboxId,
        path: &str,
        user: Option<&str>,
        content: ByteStream,
    ) -> Result<u64> {
        let chunks: Vec<Bytes> = content.try_collect().await?;
        let user = user.unwrap_or_default();
        self.world.lock().done.push(format!("tar {path} {user}"));
        Ok(chunks.iter().map(|chunk| chunk.len() as u64).sum())
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
