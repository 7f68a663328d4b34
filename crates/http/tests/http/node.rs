//! A node in memory, with sandboxes, execs, sessions, files and records that behave like the real ones as far as an edge can tell.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use parking_lot::Mutex;
use skerry_proto::node::*;
use skerry_types::*;
use tokio::sync::broadcast;
use tokio_util::io::{ReaderStream, StreamReader};

use crate::log::Log;
use crate::volumes::Inside as VolumeInside;

#[derive(Debug, Default)]
struct Inside {
    execs: BTreeMap<u64, ExecId>,
    sessions: BTreeMap<SessionId, (SessionRecord, Log<SessionEvent>)>,
    files: BTreeMap<String, Bytes>,
    journal: Log<JournalEvent>,
}

#[derive(Debug)]
struct Running {
    record: ExecRecord,
    events: Log<ExecEvent>,
}

type Script = (Vec<Bytes>, Option<ExecEnd>);

#[derive(Debug)]
pub struct FakeNode {
    told: broadcast::Sender<SandboxReport>,
    boxes: Mutex<BTreeMap<SandboxId, SandboxReport>>,
    inside: Mutex<HashMap<SandboxId, Inside>>,
    execs: Mutex<HashMap<ExecId, Running>>,
    /// Output of commands by their text; without an end they go on until a signal.
    scripts: Mutex<HashMap<String, Script>>,
    snapshots: Mutex<BTreeMap<SnapshotId, SnapshotReport>>,
    pub(crate) volumes: Mutex<BTreeMap<VolumeId, VolumeInside>>,
    /// How it says it is.
    pub health: Mutex<NodeHealth>,
    /// The next stat panics.
    pub panics: std::sync::atomic::AtomicBool,
}

fn not_found() -> Error {
    Error::not_found("it")
}

impl FakeNode {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            told: broadcast::Sender::new(256),
            boxes: Mutex::default(),
            inside: Mutex::default(),
            execs: Mutex::default(),
            scripts: Mutex::default(),
            snapshots: Mutex::default(),
            volumes: Mutex::default(),
            health: Mutex::default(),
            panics: false.into(),
        })
    }

    /// The command with this text writes these chunks and ends like this.
    pub fn script(&self, text: &str, chunks: Vec<Bytes>, end: Option<ExecEnd>) {
        self.scripts.lock().insert(text.to_owned(), (chunks, end));
    }

    /// Something happens in a sandbox.
    pub fn happens(&self, id: SandboxId, kind: &str) {
        let journal = self.inside.lock().entry(id).or_default().journal.clone();
        journal.push(|seq| JournalEvent {
            seq,
            ts: Timestamp::now(),
            kind: kind.to_owned(),
            data: serde_json::json!({}),
        });
    }

    /// A running exec writes.
    pub fn writes(&self, exec: ExecId, data: &[u8]) {
        let events = self.execs.lock()[&exec].events.clone();
        let data = Bytes::copy_from_slice(data);
        events.push(|seq| event(seq, ExecEventBody::Stdout(data)));
    }

    pub fn ends(&self, exec: ExecId, end: ExecEnd) {
        let mut execs = self.execs.lock();
        let Some(running) = execs.get_mut(&exec).filter(|r| r.record.end.is_none()) else {
            return;
        };
        let usage = Usage::default();
        running.record.status = end.status();
        running.record.end = Some(end.clone());
        running.record.ended_at = Some(Timestamp::now());
        running.events.push(|seq| {
            let duration_ms = 1;
            event(
                seq,
                ExecEventBody::End {
                    end,
                    usage,
                    duration_ms,
                },
            )
        });
        running.events.close();
    }

    fn change(&self, id: SandboxId, state: SandboxState) -> Result<SandboxReport> {
        let mut boxes = self.boxes.lock();
        let report = boxes.get_mut(&id).ok_or_else(not_found)?;
        report.state = state;
        if state.is_ended() {
            report.ended_at = Some(Timestamp::now());
        }
        let _nobody = self.told.send(report.clone());
        Ok(report.clone())
    }

    fn make(&self, id: SandboxId, ports: &[u16]) -> SandboxReport {
        let now = Timestamp::now();
        let report = SandboxReport {
            id,
            state: SandboxState::Running,
            reason: None,
            message: None,
            facts: Some(SandboxFacts {
                driver: "sim".into(),
                isolation: "none".into(),
                accelerator: Some("tcg".into()),
                privilege: "restricted".into(),
                storage: "copy".into(),
                disk_quota: false,
                limits: false,
                image_digest: "sha256:0".into(),
                fork: None,
                published: published(ports),
            }),
            started_at: Some(now),
            ended_at: None,
            last_active_at: now,
            boot_us: Some(900),
        };
        self.boxes.lock().insert(id, report.clone());
        self.inside.lock().entry(id).or_default();
        self.happens(id, "sandbox.created");
        let _nobody = self.told.send(report.clone());
        report
    }

    fn files<T>(&self, id: SandboxId, look: impl FnOnce(&mut BTreeMap<String, Bytes>) -> T) -> T {
        look(&mut self.inside.lock().entry(id).or_default().files)
    }
}

/// Each at the next port of the node.
fn published(ports: &[u16]) -> Vec<PublishedPort> {
    let at = |(port, host_port)| PublishedPort {
        port,
        address: ([127, 0, 0, 1], host_port).into(),
    };
    ports.iter().copied().zip(8000..).map(at).collect()
}

fn event(seq: u64, body: ExecEventBody) -> ExecEvent {
    let at = Timestamp::now();
    ExecEvent { seq, at, body }
}

#[async_trait]
impl Sandboxes for FakeNode {
    async fn create(&self, request: CreateSandbox) -> Result<SandboxReport> {
        Ok(self.make(request.id, &request.ports))
    }
    async fn fork(&self, request: ForkSandbox) -> Result<SandboxReport> {
        let files = self.files(request.parent, |files| files.clone());
        let report = self.make(request.id, &[]);
        self.files(request.id, |own| *own = files);
        Ok(report)
    }
    async fn stop(&self, id: SandboxId, _: Option<FailureReason>) -> Result<SandboxReport> {
        self.change(id, SandboxState::Stopped)
    }
    async fn start(&self, id: SandboxId) -> Result<SandboxReport> {
        self.change(id, SandboxState::Running)
    }
    async fn delete(&self, id: SandboxId) -> Result<()> {
        self.boxes.lock().remove(&id);
        Ok(())
    }
    async fn pause(&self, id: SandboxId, _: Option<Timestamp>) -> Result<SandboxReport> {
        self.change(id, SandboxState::Paused)
    }
    async fn resume(&self, id: SandboxId) -> Result<SandboxReport> {
        self.change(id, SandboxState::Running)
    }
    async fn set_auto_resume(&self, _: SandboxId, _: bool) -> Result<()> {
        Ok(())
    }
    async fn set_egress(&self, _: SandboxId, _: Egress) -> Result<()> {
        Ok(())
    }
    async fn list(&self) -> Result<Vec<SandboxReport>> {
        Ok(self.boxes.lock().values().cloned().collect())
    }
    async fn get(&self, id: SandboxId) -> Result<SandboxReport> {
        self.boxes.lock().get(&id).cloned().ok_or_else(not_found)
    }
    async fn defaults(&self, _: SandboxId) -> Result<Defaults> {
        Ok(Defaults::default())
    }
    fn watch(&self) -> BoxStream<'static, Result<SandboxReport>> {
        let told = self.told.subscribe();
        futures::stream::unfold(told, |mut told| async {
            let report = told.recv().await.ok()?;
            Some((Ok(report), told))
        })
        .boxed()
    }
    async fn stats(&self, _: SandboxId) -> Result<SandboxStats> {
        Ok(SandboxStats::default())
    }
    async fn touch(&self, _: SandboxId) -> Result<()> {
        Ok(())
    }
    async fn warn_ttl(&self, _: SandboxId, _: u64) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl Snapshots for FakeNode {
    async fn take_snapshot(&self, request: TakeSnapshot) -> Result<SnapshotReport> {
        let report = SnapshotReport {
            id: request.id,
            sandbox: request.sandbox,
            image: "host".to_owned(),
            driver: "sim".to_owned(),
            resources: Resources::FREE_FORM,
            memory: request.memory == MemoryWish::Required,
            bytes: 4096,
            held_us: 10,
            created_at: Timestamp::now(),
        };
        self.snapshots.lock().insert(request.id, report.clone());
        Ok(report)
    }
    async fn list_snapshots(&self) -> Result<Vec<SnapshotReport>> {
        Ok(self.snapshots.lock().values().cloned().collect())
    }
    async fn remove_snapshot(&self, id: SnapshotId) -> Result<()> {
        self.snapshots.lock().remove(&id);
        Ok(())
    }
    async fn roll_back(&self, sandbox: SandboxId, _: SnapshotId) -> Result<SandboxReport> {
        self.change(sandbox, SandboxState::Running)
    }
}

#[async_trait]
impl Execs for FakeNode {
    async fn start_exec(&self, sandbox: SandboxId, request: StartExec) -> Result<ExecRecord> {
        let text = match &request.command {
            Command::Shell(script) => script.clone(),
            Command::Argv(argv) => argv.join(" "),
        };
        let record = {
            let mut inside = self.inside.lock();
            let inside = inside.entry(sandbox).or_default();
            let number = inside.execs.len() as u64 + 1;
            inside.execs.insert(number, request.id);
            ExecRecord {
                id: request.id,
                number,
                command: request.command,
                cwd: request.cwd,
                user: request.user,
                session: request.session,
                tty: request.tty.is_some(),
                timeout: request.timeout,
                pid: Some(2),
                status: ExecStatus::Running,
                end: None,
                usage: None,
                duration_ms: None,
                created_at: Timestamp::now(),
                ended_at: None,
                stdout_bytes: 0,
                stderr_bytes: 0,
                last_seq: 0,
                tag: request.tag,
            }
        };
        let events = Log::default();
        let running = Running {
            record: record.clone(),
            events: events.clone(),
        };
        self.execs.lock().insert(request.id, running);
        let known = self.scripts.lock().get(&text).cloned();
        let reason = format!("there is no program `{text}`");
        let (chunks, end) = known.unwrap_or((vec![], Some(ExecEnd::FailedToStart { reason })));
        for chunk in chunks {
            events.push(|seq| event(seq, ExecEventBody::Stdout(chunk)));
        }
        if let Some(end) = end {
            self.ends(request.id, end);
        }
        Ok(record)
    }
    async fn get_exec(&self, sandbox: SandboxId, exec: ExecId) -> Result<ExecRecord> {
        let found = self.inside.lock()[&sandbox]
            .execs
            .values()
            .any(|id| *id == exec);
        let execs = self.execs.lock();
        let running = execs.get(&exec).filter(|_| found).ok_or_else(not_found)?;
        Ok(running.record.clone())
    }
    async fn await_exec(&self, sandbox: SandboxId, exec: ExecId) -> Result<ExecRecord> {
        self.get_exec(sandbox, exec).await
    }
    async fn find_exec(&self, sandbox: SandboxId, name: &ExecName) -> Result<ExecRecord> {
        let all = ExecFilter {
            limit: usize::MAX,
            ..ExecFilter::default()
        };
        let mut records = self.list_execs(sandbox, all).await?.into_iter().rev();
        let named = |record: &ExecRecord| match name {
            ExecName::Pid(pid) => record.pid == Some(*pid),
            ExecName::Tag(tag) => record.tag.as_ref() == Some(tag),
        };
        records.find(named).ok_or_else(not_found)
    }
    async fn list_execs(&self, sandbox: SandboxId, filter: ExecFilter) -> Result<Vec<ExecRecord>> {
        let ids: Vec<ExecId> = {
            let inside = self.inside.lock();
            let numbers = inside[&sandbox].execs.range(filter.after_number + 1..);
            numbers.map(|(_, id)| *id).collect()
        };
        let execs = self.execs.lock();
        let records = ids.iter().map(|id| execs[id].record.clone());
        let fits = |record: &ExecRecord| {
            filter.status.is_none_or(|status| status == record.status)
                && (filter.session.is_none() || filter.session == record.session)
                && (filter.tag.is_none() || filter.tag == record.tag)
        };
        Ok(records.filter(fits).take(filter.limit).collect())
    }
    async fn exec_events(
        &self,
        sandbox: SandboxId,
        exec: ExecId,
        after_seq: u64,
        follow: bool,
    ) -> Result<BoxStream<'static, Result<ExecEvent>>> {
        self.get_exec(sandbox, exec).await?;
        let events = self.execs.lock()[&exec].events.clone();
        Ok(events.read(after_seq, follow))
    }
    async fn exec_stdin(&self, _: SandboxId, exec: ExecId, data: Bytes, eof: bool) -> Result<()> {
        // Like `cat`.
        if !data.is_empty() {
            self.writes(exec, &data);
        }
        if eof {
            self.ends(exec, ExecEnd::Exited { code: 0 });
        }
        Ok(())
    }
    async fn exec_signal(&self, _: SandboxId, exec: ExecId, signal: i32) -> Result<()> {
        self.ends(exec, ExecEnd::Signaled { signal });
        Ok(())
    }
    async fn exec_resize(&self, _: SandboxId, exec: ExecId, size: TtySize) -> Result<()> {
        self.writes(exec, format!("{}x{}", size.cols, size.rows).as_bytes());
        Ok(())
    }
    async fn list_processes(&self, _: SandboxId) -> Result<Vec<ProcessInfo>> {
        Ok(vec![ProcessInfo {
            pid: 1,
            ppid: 0,
            argv: vec!["agent".into()],
        }])
    }
}

#[async_trait]
impl Sessions for FakeNode {
    async fn open_session(&self, id: SandboxId, request: OpenSession) -> Result<SessionRecord> {
        let record = SessionRecord {
            id: request.id,
            shell: request.shell,
            open: true,
            created_at: Timestamp::now(),
            ended_at: None,
        };
        let mut inside = self.inside.lock();
        let sessions = &mut inside.entry(id).or_default().sessions;
        if sessions.values().filter(|(record, _)| record.open).count() >= limits::MAX_SESSIONS {
            return Err(Error::conflict("five sessions are open"));
        }
        sessions.insert(request.id, (record.clone(), Log::default()));
        Ok(record)
    }
    async fn list_sessions(&self, id: SandboxId) -> Result<Vec<SessionRecord>> {
        let inside = self.inside.lock();
        Ok(inside[&id]
            .sessions
            .values()
            .map(|(r, _)| r.clone())
            .collect())
    }
    async fn close_session(&self, id: SandboxId, session: SessionId) -> Result<SessionRecord> {
        let mut inside = self.inside.lock();
        let sessions = &mut inside.entry(id).or_default().sessions;
        let (record, events) = sessions.get_mut(&session).ok_or_else(not_found)?;
        record.open = false;
        events.close();
        Ok(record.clone())
    }
    async fn session_events(
        &self,
        id: SandboxId,
        session: SessionId,
        after_seq: u64,
    ) -> Result<BoxStream<'static, Result<SessionEvent>>> {
        let inside = self.inside.lock();
        let (_, events) = inside[&id].sessions.get(&session).ok_or_else(not_found)?;
        Ok(events.read(after_seq, true))
    }
    async fn session_input(&self, id: SandboxId, session: SessionId, data: Bytes) -> Result<()> {
        let inside = self.inside.lock();
        let (_, events) = inside[&id].sessions.get(&session).ok_or_else(not_found)?;
        events.push(|seq| SessionEvent {
            seq,
            exec: ExecId::from_uuid(session.uuid()),
            event: event(seq, ExecEventBody::Stdout(data)),
        });
        Ok(())
    }
}

fn entry(path: &str, size: usize) -> FileEntry {
    FileEntry {
        name: path.rsplit('/').next().unwrap_or_default().to_owned(),
        path: path.to_owned(),
        kind: FileKind::File,
        size_bytes: size as u64,
        mode: 0o644,
        owner: "root".into(),
        group: "root".into(),
        modified_at: Timestamp::UNIX_EPOCH,
        symlink_target: None,
        resolved: None,
        attributes: Map::new(),
    }
}

async fn gather(mut content: ByteStream) -> Result<Bytes> {
    let mut all = Vec::new();
    while let Some(chunk) = content.next().await {
        all.extend_from_slice(&chunk?);
    }
    Ok(all.into())
}

#[async_trait]
impl Files for FakeNode {
    async fn stat(&self, id: SandboxId, path: &str) -> Result<FileEntry> {
        assert!(
            !self.panics.load(std::sync::atomic::Ordering::SeqCst),
            "as the test wants"
        );
        let found = self.files(id, |files| {
            files.get(path).map(|data| entry(path, data.len()))
        });
        found.ok_or_else(|| Error::not_found(path))
    }
    async fn list_files(
        &self,
        id: SandboxId,
        path: &str,
        _: u32,
        after: &str,
        limit: u32,
    ) -> Result<(Vec<FileEntry>, bool)> {
        let mut found: Vec<FileEntry> = self.files(id, |files| {
            let below = files.iter().filter(|(name, _)| name.starts_with(path));
            let below = below.filter(|(name, _)| name.as_str() > after);
            below.map(|(name, data)| entry(name, data.len())).collect()
        });
        let more = found.len() > limit as usize;
        found.truncate(limit as usize);
        Ok((found, more))
    }
    async fn make_dir(&self, _: SandboxId, _: &str, _: Option<&str>) -> Result<()> {
        Ok(())
    }
    async fn move_file(&self, id: SandboxId, from: &str, to: &str) -> Result<()> {
        self.files(id, |files| {
            let data = files.remove(from).ok_or_else(not_found)?;
            files.insert(to.to_owned(), data);
            Ok(())
        })
    }
    async fn remove(&self, id: SandboxId, path: &str) -> Result<()> {
        let gone = self.files(id, |files| files.remove(path));
        gone.map(drop).ok_or_else(not_found)
    }
    async fn read_file(
        &self,
        id: SandboxId,
        path: &str,
        offset: u64,
        limit: Option<u64>,
    ) -> Result<(FileEntry, ByteStream)> {
        let data = self.files(id, |files| files.get(path).cloned());
        let data = data.ok_or_else(not_found)?;
        let entry = entry(path, data.len());
        let part = data.slice((offset as usize).min(data.len())..);
        let part = part.slice(..part.len().min(limit.unwrap_or(u64::MAX) as usize));
        Ok((entry, futures::stream::iter([Ok(part)]).boxed()))
    }
    async fn write_file(
        &self,
        id: SandboxId,
        path: &str,
        _: Option<u32>,
        _: Option<&str>,
        content: ByteStream,
    ) -> Result<FileEntry> {
        let data = gather(content).await?;
        let entry = entry(path, data.len());
        self.files(id, |files| files.insert(path.to_owned(), data));
        Ok(entry)
    }
    async fn overwrite_file(
        &self,
        id: SandboxId,
        request: Overwrite,
        content: ByteStream,
    ) -> Result<FileEntry> {
        let user = request.user.as_deref();
        let entry = self.write_file(id, &request.path, None, user, content);
        Ok(FileEntry {
            attributes: request.attributes.clone(),
            ..entry.await?
        })
    }
    async fn find_user(&self, _: SandboxId, user: Option<&str>) -> Result<UserFacts> {
        let name = user.unwrap_or("user").to_owned();
        if name == "nobody-here" {
            return Err(not_found());
        }
        let home = format!("/home/{name}");
        Ok(UserFacts { name, home })
    }
    async fn read_tar(&self, _: SandboxId, _: &str, _: Vec<String>) -> Result<ByteStream> {
        Ok(futures::stream::iter([Ok(Bytes::from_static(b"tar"))]).boxed())
    }
    async fn write_tar(
        &self,
        _: SandboxId,
        _: &str,
        _: Option<&str>,
        content: ByteStream,
    ) -> Result<u64> {
        Ok(gather(content).await?.len() as u64)
    }
    async fn watch_files(
        &self,
        _: SandboxId,
        path: &str,
        _: bool,
    ) -> Result<BoxStream<'static, Result<FileChange>>> {
        let change = FileChange {
            change: FileChangeKind::Created,
            path: format!("{path}/new"),
        };
        Ok(futures::stream::iter([Ok(change)]).boxed())
    }
}

/// What listens on the machine's own loopback listens in every sandbox.
#[async_trait]
impl Ports for FakeNode {
    async fn dial(&self, _: SandboxId, port: u16, outgoing: ByteStream) -> Result<ByteStream> {
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await;
        let stream = stream.map_err(|e| Error::new(ErrorCode::PortClosed, e.to_string()))?;
        let (reader, mut writer) = stream.into_split();
        tokio::spawn(async move {
            let mut outgoing = StreamReader::new(outgoing.map_err(std::io::Error::other));
            if tokio::io::copy(&mut outgoing, &mut writer).await.is_err() {
                // As an agent breaks it.
                let _gone = writer.as_ref().set_zero_linger();
                writer.forget();
            }
        });
        let heard = ReaderStream::new(reader).map_err(Error::internal);
        Ok(heard.boxed())
    }
}

#[async_trait]
impl Events for FakeNode {
    async fn events(
        &self,
        id: SandboxId,
        after_seq: u64,
        follow: bool,
    ) -> Result<BoxStream<'static, Result<JournalEvent>>> {
        let inside = self.inside.lock();
        Ok(inside[&id].journal.read(after_seq, follow))
    }
    async fn purge_journals(&self, _: Timestamp) -> Result<u64> {
        Ok(0)
    }
}

#[async_trait]
impl Health for FakeNode {
    async fn health(&self) -> Result<NodeHealth> {
        Ok(self.health.lock().clone())
    }
}
