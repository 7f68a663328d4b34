//! File requests, and connections: a task for each, with data under credit.

use std::collections::HashMap;
use std::io::Read as _;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use skerry_proto::agent::from_agent::Body;
use skerry_proto::agent::{
    CREDIT_BYTES, Call, Credit, DIAL_WINDOW_BYTES, Data, Done, Processes, Reply, Request, Response,
    User, Watched, dial_cost,
};
use skerry_proto::frame::CHUNK_BYTES;
use skerry_proto::glob::Globs;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;

use super::Agent;
use crate::tree::{Change, ChangeKind, FileError, Tree, below, clean};

/// What listens here gives back what it gets.
const ECHO_PORT: u32 = 7;

/// A request under way.
struct Open {
    data: mpsc::UnboundedSender<Data>,
    credit: Arc<Semaphore>,
    task: AbortHandle,
}

/// Requests of the current link, by id.
#[derive(Default)]
pub(super) struct Files(Mutex<HashMap<u64, Open>>);

/// What the task of a request has.
struct Work {
    agent: Arc<Agent>,
    id: u64,
    data: mpsc::UnboundedReceiver<Data>,
    credit: Arc<Semaphore>,
}

impl Files {
    pub(super) fn request(&self, agent: &Arc<Agent>, request: Request) {
        let Some(call) = request.call else {
            return;
        };
        // Bounded by the credit that was given.
        let (data, incoming) = mpsc::unbounded_channel();
        let window = match call {
            Call::Dial(_) => DIAL_WINDOW_BYTES,
            _ => CREDIT_BYTES,
        };
        let credit = Arc::new(Semaphore::new(window as usize));
        let work = Work {
            agent: Arc::clone(agent),
            id: request.id,
            data: incoming,
            credit: Arc::clone(&credit),
        };
        // A task that is soon done finds its entry to remove.
        let mut all = self.0.lock();
        let task = agent.spawn(work.run(call));
        all.insert(request.id, Open { data, credit, task });
    }

    pub(super) fn data(&self, data: Data) {
        if let Some(open) = self.0.lock().get(&data.id) {
            // A task that has answered wants no more.
            drop(open.data.send(data));
        }
    }

    pub(super) fn credit(&self, credit: Credit) {
        if let Some(open) = self.0.lock().get(&credit.id) {
            open.credit.add_permits(credit.bytes as usize);
        }
    }

    pub(super) fn cancel(&self, id: u64) {
        if let Some(open) = self.0.lock().remove(&id) {
            open.task.abort();
        }
    }

    pub(super) fn cancel_all(&self) {
        for (_, open) in self.0.lock().drain() {
            open.task.abort();
        }
    }
}

impl Work {
    async fn run(mut self, call: Call) {
        match self.answer(call).await {
            Ok(Some(reply)) => self.reply(reply),
            Ok(None) => {}
            Err(error) => self.reply(Reply::Failed(error.failed())),
        }
        self.agent.files.0.lock().remove(&self.id);
    }

    fn reply(&self, reply: Reply) {
        self.agent.outbox.send(Body::Response(Response {
            id: self.id,
            reply: Some(reply),
        }));
    }

    /// Does it; `None`: everything was said already.
    async fn answer(&mut self, call: Call) -> Result<Option<Reply>, FileError> {
        let tree = Arc::clone(&self.agent.tree);
        let reply = match call {
            Call::Health(_) => done(0),
            Call::Hold(_) | Call::Release(_) => {
                self.agent.hold(matches!(call, Call::Hold(_)));
                done(0)
            }
            Call::Signal(signal) => {
                self.agent.execs.signal(&signal)?;
                done(0)
            }
            Call::Stat(stat) => Reply::Entry(tree.stat(&path(&stat.path)?)?),
            Call::List(list) => {
                let after = String::from_utf8_lossy(&list.after);
                let found = tree.list(&path(&list.path)?, list.depth, &after, list.limit)?;
                Reply::Entries(found)
            }
            Call::MakeDir(dir) => {
                tree.make_dir(&path(&dir.path)?, dir.mode)?;
                done(0)
            }
            Call::Move(moved) => {
                tree.rename(&path(&moved.from)?, &path(&moved.to)?)?;
                done(0)
            }
            Call::Remove(removed) => {
                tree.remove(&path(&removed.path)?)?;
                done(0)
            }
            Call::Read(read) => {
                let at = path(&read.path)?;
                let content = tree.read(&at)?;
                self.reply(Reply::Entry(tree.stat(&at)?));
                self.send(part(&content, read.offset, read.limit)).await;
                return Ok(None);
            }
            Call::Write(write) => {
                let content = self.receive().await;
                Reply::Entry(tree.write(&path(&write.path)?, &content, write.mode)?)
            }
            Call::Overwrite(write) => {
                let content = self.receive().await;
                Reply::Entry(tree.write(&path(&write.path)?, &content, 0)?)
            }
            Call::FindUser(_) => Reply::User(User {
                name: "root".to_owned(),
                home: Bytes::from_static(b"/root"),
            }),
            Call::TarOut(tar) => {
                let archive = pack(&tree, &path(&tar.path)?, &Globs::new(&tar.exclude))?;
                self.send(&archive).await;
                done(0)
            }
            Call::TarIn(tar) => {
                let archive = self.receive().await;
                done(unpack(&tree, &path(&tar.path)?, &archive)?)
            }
            Call::ListProcesses(_) => Reply::Processes(Processes {
                processes: self.agent.execs.processes(),
            }),
            Call::Dial(dial) if dial.port == ECHO_PORT => {
                self.echo().await;
                return Ok(None);
            }
            Call::Dial(_) => return Err(FileError::Refused),
            Call::Watch(watch) => {
                self.watch(&tree, &path(&watch.path)?, watch.recursive)
                    .await?;
                return Ok(None);
            }
        };
        Ok(Some(reply))
    }

    /// Tells of changes until it is cancelled.
    async fn watch(&self, tree: &Tree, root: &str, recursive: bool) -> Result<(), FileError> {
        let mut changes = tree.changes();
        if !tree.is_dir(root) {
            return Err(FileError::NotFound);
        }
        self.reply(done(0));
        let inside = below(root);
        let is_wanted = |path: &str| {
            let name = path.strip_prefix(&inside);
            name.is_some_and(|name| recursive || !name.contains('/'))
        };
        loop {
            let change = match changes.recv().await {
                Ok(change) => change,
                Err(RecvError::Closed) => return Ok(()),
                Err(RecvError::Lagged(_)) => Change {
                    kind: ChangeKind::Lost,
                    path: inside.clone(),
                },
            };
            if change.kind == ChangeKind::Lost || is_wanted(&change.path) {
                self.agent.outbox.send(Body::Watched(Watched {
                    id: self.id,
                    kind: change.kind as u32,
                    path: Bytes::from(change.path),
                }));
            }
        }
    }

    /// The program that listens.
    async fn echo(&mut self) {
        self.reply(done(0));
        let (id, mut bytes) = (self.id, 0);
        while let Some(Data { data, eof, .. }) = self.data.recv().await {
            let cost = dial_cost(data.len());
            match self.credit.acquire_many(cost).await {
                Ok(permit) => permit.forget(),
                Err(_closed) => return,
            }
            self.send_data(&data, eof);
            if eof {
                return;
            }
            bytes += cost;
            if bytes >= DIAL_WINDOW_BYTES / 2 {
                self.agent.outbox.send(Body::Credit(Credit { id, bytes }));
                bytes = 0;
            }
        }
    }

    async fn receive(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(data) = self.data.recv().await {
            all.extend_from_slice(&data.data);
            if data.eof {
                break;
            }
            let bytes = data.data.len() as u32;
            let id = self.id;
            self.agent.outbox.send(Body::Credit(Credit { id, bytes }));
        }
        all
    }

    async fn send(&self, content: &[u8]) {
        for chunk in content.chunks(CHUNK_BYTES) {
            match self.credit.acquire_many(chunk.len() as u32).await {
                Ok(permit) => permit.forget(),
                Err(_closed) => return,
            }
            self.send_data(chunk, false);
        }
        self.send_data(&[], true);
    }

    fn send_data(&self, chunk: &[u8], eof: bool) {
        self.agent.outbox.send(Body::Data(Data {
            id: self.id,
            data: chunk.to_vec().into(),
            eof,
        }));
    }
}

fn done(bytes: u64) -> Reply {
    Reply::Done(Done { bytes })
}

fn path(bytes: &[u8]) -> Result<String, FileError> {
    let text = std::str::from_utf8(bytes).map_err(|_| FileError::Invalid)?;
    if text.starts_with('/') {
        Ok(clean("/", text))
    } else {
        Err(FileError::Invalid)
    }
}

fn part(content: &[u8], offset: u64, limit: u64) -> &[u8] {
    let from = content.len().min(offset as usize);
    let rest = &content[from..];
    let limit = if limit == 0 { u64::MAX } else { limit };
    &rest[..rest.len().min(usize::try_from(limit).unwrap_or(usize::MAX))]
}

fn pack(tree: &Tree, at: &str, exclude: &Globs) -> Result<Vec<u8>, FileError> {
    let mut archive = tar::Builder::new(Vec::new());
    let invalid = |_| FileError::Invalid;
    for entry in tree.list(at, u32::MAX, "", u32::MAX)?.entries {
        let whole = path(&entry.path)?;
        let name = whole[at.len()..].trim_start_matches('/');
        let left_out = |(at, _)| exclude.matches(&name[..at]);
        if exclude.matches(name) || name.match_indices('/').any(left_out) {
            continue;
        }
        let mut header = tar::Header::new_gnu();
        header.set_mode(entry.mode);
        let content = tree.read(&whole).ok();
        let kind = match content {
            Some(_) => tar::EntryType::Regular,
            None => tar::EntryType::Directory,
        };
        header.set_entry_type(kind);
        let content = content.unwrap_or_default();
        header.set_size(content.len() as u64);
        archive
            .append_data(&mut header, name, &content[..])
            .map_err(invalid)?;
    }
    archive.into_inner().map_err(invalid)
}

/// Bytes unpacked. A name that leads outside ends it.
fn unpack(tree: &Tree, at: &str, archive: &[u8]) -> Result<u64, FileError> {
    let invalid = |_| FileError::Invalid;
    let mut bytes = 0;
    tree.make_dir(at, 0)?;
    for entry in tar::Archive::new(archive).entries().map_err(invalid)? {
        let mut entry = entry.map_err(invalid)?;
        let name =
            String::from_utf8(entry.path_bytes().into_owned()).map_err(|_| FileError::Invalid)?;
        if name.starts_with('/') || name.split('/').any(|part| part == "..") {
            return Err(FileError::Invalid);
        }
        let (to, mode) = (clean(at, &name), entry.header().mode().map_err(invalid)?);
        if entry.header().entry_type().is_dir() {
            tree.make_dir(&to, mode)?;
        } else {
            let mut content = Vec::new();
            entry.read_to_end(&mut content).map_err(invalid)?;
            bytes += content.len() as u64;
            tree.write(&to, &content, mode)?;
        }
    }
    Ok(bytes)
}
