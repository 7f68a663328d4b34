//! Files in sandboxes.

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use skerry_proto::agent::{
    self, Attribute, Call, Entries, Entry, FindUser, List, MakeDir, Move, Read, Remove, Reply,
    Stat, TarIn, TarOut, Watch, Write,
};
use skerry_proto::node::{ByteStream, FileChange, FileEntry, Files, Overwrite, UserFacts};
use skerry_types::limits::MAX_PATH_BYTES;
use skerry_types::{Error, Result, SandboxId};

use crate::actor::{Command, Handle};
use crate::agent::{bytes, change, entry, text};
use crate::event::Event;
use crate::node::Node;
use crate::transfer::Transfer;

#[async_trait]
impl Files for Node {
    async fn stat(&self, sandbox: SandboxId, path: &str) -> Result<FileEntry> {
        let path = checked(path)?;
        let reply = call(&self.handle(sandbox)?, Call::Stat(Stat { path })).await?;
        Ok(entry(&expect_entry(reply)?))
    }

    async fn list_files(
        &self,
        sandbox: SandboxId,
        path: &str,
        depth: u32,
        after: &str,
        limit: u32,
    ) -> Result<(Vec<FileEntry>, bool)> {
        let list = List {
            path: checked(path)?,
            depth,
            after: bytes(after),
            limit,
        };
        let reply = call(&self.handle(sandbox)?, Call::List(list)).await?;
        let Reply::Entries(Entries { entries, more }) = reply else {
            return Err(unexpected());
        };
        Ok((entries.iter().map(entry).collect(), more))
    }

    async fn make_dir(&self, sandbox: SandboxId, path: &str, user: Option<&str>) -> Result<()> {
        let handle = self.handle(sandbox)?;
        let make = MakeDir {
            path: checked(path)?,
            mode: 0,
            user: handle.user(user),
        };
        call(&handle, Call::MakeDir(make)).await?;
        Ok(())
    }

    async fn move_file(&self, sandbox: SandboxId, from: &str, to: &str) -> Result<()> {
        let handle = self.handle(sandbox)?;
        let rename = Move {
            from: checked(from)?,
            to: checked(to)?,
            user: handle.user(None),
        };
        call(&handle, Call::Move(rename)).await?;
        let moved = Event::FileMoved {
            from: from.to_owned(),
            to: to.to_owned(),
        };
        note(&handle, moved).await
    }

    async fn remove(&self, sandbox: SandboxId, path: &str) -> Result<()> {
        let handle = self.handle(sandbox)?;
        let remove = Remove {
            path: checked(path)?,
        };
        call(&handle, Call::Remove(remove)).await?;
        let path = path.to_owned();
        note(&handle, Event::FileDeleted { path }).await
    }

    async fn read_file(
        &self,
        sandbox: SandboxId,
        path: &str,
        offset: u64,
        limit: Option<u64>,
    ) -> Result<(FileEntry, ByteStream)> {
        let read = Read {
            path: checked(path)?,
            offset,
            limit: limit.unwrap_or(0),
        };
        let transfer = Transfer::start(&self.handle(sandbox)?, Call::Read(read)).await?;
        let (reply, content) = transfer.download().await?;
        Ok((entry(&expect_entry(reply)?), content))
    }

    async fn write_file(
        &self,
        sandbox: SandboxId,
        path: &str,
        mode: Option<u32>,
        user: Option<&str>,
        content: ByteStream,
    ) -> Result<FileEntry> {
        let handle = self.handle(sandbox)?;
        let write = Write {
            path: checked(path)?,
            mode: mode.unwrap_or(0),
            user: handle.user(user),
        };
        let transfer = Transfer::start(&handle, Call::Write(write)).await?;
        let written = entry(&expect_entry(transfer.upload(content).await?)?);
        let event = Event::FileWritten {
            path: path.to_owned(),
            size_bytes: written.size_bytes,
        };
        note(&handle, event).await?;
        Ok(written)
    }

    async fn overwrite_file(
        &self,
        sandbox: SandboxId,
        request: Overwrite,
        content: ByteStream,
    ) -> Result<FileEntry> {
        let handle = self.handle(sandbox)?;
        let attributes = request.attributes.iter();
        let overwrite = agent::Overwrite {
            path: checked(&request.path)?,
            user: handle.user(request.user.as_deref()),
            attribute_prefix: request.attribute_prefix,
            attributes: attributes
                .map(|(name, value)| Attribute {
                    name: bytes(name),
                    value: bytes(value),
                })
                .collect(),
        };
        let transfer = Transfer::start(&handle, Call::Overwrite(overwrite)).await?;
        let written = entry(&expect_entry(transfer.upload(content).await?)?);
        let event = Event::FileWritten {
            path: request.path,
            size_bytes: written.size_bytes,
        };
        note(&handle, event).await?;
        Ok(written)
    }

    async fn find_user(&self, sandbox: SandboxId, user: Option<&str>) -> Result<UserFacts> {
        let handle = self.handle(sandbox)?;
        let user = handle.user(user);
        match call(&handle, Call::FindUser(FindUser { user })).await? {
            Reply::User(found) => Ok(UserFacts {
                name: found.name,
                home: text(&found.home),
            }),
            _ => Err(unexpected()),
        }
    }

    async fn read_tar(
        &self,
        sandbox: SandboxId,
        path: &str,
        exclude: Vec<String>,
    ) -> Result<ByteStream> {
        let tar = TarOut {
            path: checked(path)?,
            exclude,
        };
        let transfer = Transfer::start(&self.handle(sandbox)?, Call::TarOut(tar)).await?;
        Ok(transfer.bytes())
    }

    async fn write_tar(
        &self,
        sandbox: SandboxId,
        path: &str,
        user: Option<&str>,
        content: ByteStream,
    ) -> Result<u64> {
        let handle = self.handle(sandbox)?;
        let tar = TarIn {
            path: checked(path)?,
            user: handle.user(user),
        };
        let transfer = Transfer::start(&handle, Call::TarIn(tar)).await?;
        let Reply::Done(done) = transfer.upload(content).await? else {
            return Err(unexpected());
        };
        let event = Event::FileWritten {
            path: path.to_owned(),
            size_bytes: done.bytes,
        };
        note(&handle, event).await?;
        Ok(done.bytes)
    }

    async fn watch_files(
        &self,
        sandbox: SandboxId,
        path: &str,
        recursive: bool,
    ) -> Result<BoxStream<'static, Result<FileChange>>> {
        let watch = Watch {
            path: checked(path)?,
            recursive,
        };
        let transfer = Transfer::start(&self.handle(sandbox)?, Call::Watch(watch)).await?;
        let changes = transfer.watch().await?;
        Ok(changes
            .filter_map(|item| async move { item.map(|w| change(&w)).transpose() })
            .boxed())
    }
}

async fn call(handle: &Handle, call: Call) -> Result<Reply> {
    Transfer::start(handle, call).await?.answer().await
}

async fn note(handle: &Handle, event: Event) -> Result<()> {
    handle.ask(|reply| Command::Note(event, reply)).await
}

fn checked(path: &str) -> Result<bytes::Bytes> {
    let problem = if !path.starts_with('/') {
        "it must be absolute"
    } else if path.len() > MAX_PATH_BYTES {
        "it is too long"
    } else if path.contains('\0') {
        "it has a NUL byte"
    } else {
        return Ok(bytes(path));
    };
    let shown: String = path.chars().take(100).collect();
    Err(Error::validation(format!("path `{shown}`: {problem}")))
}

fn expect_entry(reply: Reply) -> Result<Entry> {
    match reply {
        Reply::Entry(entry) => Ok(entry),
        _ => Err(unexpected()),
    }
}

fn unexpected() -> Error {
    Error::internal("the agent answered something else than it was asked")
}
