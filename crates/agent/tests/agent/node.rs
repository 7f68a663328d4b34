//! A node as the tests need it: starts an agent, speaks agent.v1 with it, and checks the numbering of everything.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use skerry_proto::agent::from_agent::Body as From;
use skerry_proto::agent::to_agent::Body as To;
use skerry_proto::agent::*;
use skerry_proto::frame;
use tempfile::TempDir;

/// Long enough for a loaded machine; only a hang takes it.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// The binary that ships, as a file.
pub(crate) fn binary() -> &'static PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let path = folder.join(format!("skerry-agent-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let last = folder.join("skerry-agent");
        std::fs::write(&path, skerry_agent_bin::AGENT).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::rename(&path, &last).unwrap();
        last
    })
}

pub(crate) fn b(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(crate) fn sh(script: &str) -> ExecStart {
    command(&["/bin/sh", "-c", script])
}

pub(crate) fn command(argv: &[&str]) -> ExecStart {
    ExecStart {
        exec_id: new_id(),
        argv: argv.iter().map(|arg| b(arg)).collect(),
        kill_grace_ms: 5000,
        ..ExecStart::default()
    }
}

pub(crate) fn new_id() -> Bytes {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let mut id = [7; 16];
    id[..8].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_le_bytes());
    Bytes::copy_from_slice(&id)
}

/// What the node has of an exec.
#[derive(Debug, Default, Clone)]
pub(crate) struct Seen {
    pub(crate) pid: Option<u32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) last: u64,
    pub(crate) end: Option<ExecEnded>,
    pub(crate) unknown: bool,
    pub(crate) stdin_taken: u64,
    pub(crate) stdin_closed: bool,
}

impl Seen {
    pub(crate) fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    pub(crate) fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    pub(crate) fn ended(&self) -> Ended {
        self.end.clone().unwrap().ended.unwrap()
    }
}

/// An agent that ends, with all it runs, when the test does.
pub(crate) struct Agent {
    pub(crate) dir: TempDir,
    pub(crate) process: Child,
}

impl Agent {
    pub(crate) fn start() -> Self {
        Self::with(&["--level", "restricted"])
    }

    pub(crate) fn with(args: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let process = Command::new(binary())
            .arg("--listen")
            .arg(dir.path().join("agent.sock"))
            .args(args)
            .spawn()
            .unwrap();
        Self { dir, process }
    }

    pub(crate) fn node(&self) -> Node {
        Node::new(self.dir.path().join("agent.sock"))
    }

    /// A number in kB of `/proc/PID/smaps_rollup`.
    pub(crate) fn memory(&self, what: &str) -> u64 {
        let path = format!("/proc/{}/smaps_rollup", self.process.id());
        let text = std::fs::read_to_string(path).unwrap();
        let line = text.lines().find(|line| line.starts_with(what)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// The most it ever took, in kB.
    pub(crate) fn peak_memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.process.id());
        let text = std::fs::read_to_string(path).unwrap();
        let line = text.lines().find(|line| line.starts_with("VmHWM")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    pub(crate) fn wait(&mut self) -> std::process::ExitStatus {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status;
            }
            std::thread::yield_now();
        }
        panic!("the agent does not end");
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Ok(mut stream) = UnixStream::connect(self.dir.path().join("agent.sock")) {
            let mut out = BytesMut::new();
            let body = Some(To::Shutdown(Shutdown { kill_grace_ms: 0 }));
            frame::encode(&ToAgent { body }, &mut out);
            let _ = stream.write_all(&out);
        } else {
            let _ = self.process.kill();
        }
        let _ = self.process.wait();
    }
}

/// One side of the conversation.
pub(crate) struct Node {
    path: PathBuf,
    pub(crate) stream: UnixStream,
    input: BytesMut,
    pub(crate) hello: Option<AgentHello>,
    pub(crate) execs: HashMap<Bytes, Seen>,
    pub(crate) sessions: HashMap<Bytes, SessionState>,
    pub(crate) replies: HashMap<u64, Vec<Reply>>,
    pub(crate) data: HashMap<u64, (Vec<u8>, bool)>,
    pub(crate) credit: HashMap<u64, u64>,
    pub(crate) watched: Vec<Watched>,
    /// Acknowledge what arrives.
    pub(crate) acks: bool,
    next_request: u64,
}

impl Node {
    fn new(path: PathBuf) -> Self {
        let stream = connect(&path);
        let mut node = Self {
            path,
            stream,
            input: BytesMut::new(),
            hello: None,
            execs: HashMap::new(),
            sessions: HashMap::new(),
            replies: HashMap::new(),
            data: HashMap::new(),
            credit: HashMap::new(),
            watched: Vec::new(),
            acks: true,
            next_request: 0,
        };
        node.until("hello", |node| node.hello.is_some());
        node
    }

    /// A new link instead of this one.
    pub(crate) fn reconnect(&mut self) {
        self.stream = connect(&self.path);
        self.input.clear();
        self.hello = None;
        self.until("hello", |node| node.hello.is_some());
    }

    pub(crate) fn send(&mut self, body: To) {
        self.try_send(body).unwrap();
    }

    fn try_send(&mut self, body: To) -> std::io::Result<()> {
        let mut out = BytesMut::new();
        frame::encode(&ToAgent { body: Some(body) }, &mut out);
        self.stream.write_all(&out)
    }

    /// Reads once and takes in all that came.
    pub(crate) fn read(&mut self) {
        let mut buffer = vec![0; 256 * 1024];
        let count = self
            .stream
            .read(&mut buffer)
            .expect("the agent says nothing");
        assert!(count > 0, "the agent closed the link");
        self.input.extend_from_slice(&buffer[..count]);
        while let Some(message) = frame::decode::<FromAgent>(&mut self.input).unwrap() {
            self.take(message.body.unwrap());
        }
    }

    pub(crate) fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let limit = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(Instant::now() < limit, "no {what}");
            self.read();
        }
    }

    fn take(&mut self, message: From) {
        match message {
            From::Hello(hello) => self.hello = Some(hello),
            From::ExecStarted(started) => {
                self.execs.entry(started.exec_id).or_default().pid = Some(started.pid);
            }
            From::ExecOutput(output) => {
                assert!(output.data.len() <= frame::CHUNK_BYTES);
                let seen = self.execs.entry(output.exec_id.clone()).or_default();
                assert_eq!(output.seq, seen.last + 1, "a gap or a repetition");
                assert!(seen.end.is_none(), "output after the end");
                seen.last = output.seq;
                match output.stream {
                    STDOUT => seen.stdout.extend_from_slice(&output.data),
                    STDERR => seen.stderr.extend_from_slice(&output.data),
                    other => panic!("stream {other}"),
                }
                self.ack(output.exec_id, output.seq);
            }
            From::ExecEnded(end) => {
                let seen = self.execs.entry(end.exec_id.clone()).or_default();
                assert_eq!(end.seq, seen.last + 1, "a gap or a repetition");
                seen.last = end.seq;
                let (id, seq) = (end.exec_id.clone(), end.seq);
                seen.end = Some(end);
                self.ack(id, seq);
            }
            From::ExecUnknown(unknown) => {
                self.execs.entry(unknown.exec_id).or_default().unknown = true;
            }
            From::ExecStdinAck(ack) => {
                let seen = self.execs.entry(ack.exec_id).or_default();
                seen.stdin_taken = ack.offset;
                seen.stdin_closed = ack.closed;
            }
            From::SessionState(state) => {
                self.sessions.insert(state.session_id.clone(), state);
            }
            From::Response(response) => {
                self.replies
                    .entry(response.id)
                    .or_default()
                    .push(response.reply.unwrap());
            }
            From::Data(data) => {
                let bytes = u32::try_from(data.data.len()).unwrap();
                let kept = self.data.entry(data.id).or_default();
                kept.0.extend_from_slice(&data.data);
                kept.1 = data.eof;
                if self.acks && bytes > 0 {
                    self.send(To::Credit(Credit { id: data.id, bytes }));
                }
            }
            From::Credit(credit) => {
                *self.credit.entry(credit.id).or_default() += u64::from(credit.bytes);
            }
            From::Watched(watched) => self.watched.push(watched),
        }
    }

    fn ack(&mut self, exec_id: Bytes, seq: u64) {
        if self.acks {
            // An agent that said its last words may be gone.
            let _gone = self.try_send(To::ExecAck(ExecAck { exec_id, seq }));
        }
    }

    pub(crate) fn start(&mut self, start: ExecStart) -> Bytes {
        let id = start.exec_id.clone();
        self.execs.insert(id.clone(), Seen::default());
        self.send(To::ExecStart(start));
        id
    }

    pub(crate) fn finish(&mut self, id: &Bytes) -> Seen {
        self.until("end", |node| node.execs[id].end.is_some());
        self.execs[id].clone()
    }

    pub(crate) fn run(&mut self, start: ExecStart) -> Seen {
        let id = self.start(start);
        self.finish(&id)
    }

    /// Until the output has this text.
    pub(crate) fn until_out(&mut self, id: &Bytes, text: &str) {
        self.until(text, |node| node.execs[id].out().contains(text));
    }

    pub(crate) fn stdin(&mut self, id: &Bytes, offset: u64, data: &[u8], eof: bool) {
        self.send(To::ExecStdin(ExecStdin {
            exec_id: id.clone(),
            offset,
            data: Bytes::copy_from_slice(data),
            eof,
        }));
    }

    pub(crate) fn signal(&mut self, id: &Bytes, signal: i32) {
        let exec_id = id.clone();
        self.ask(Call::Signal(Signal { exec_id, signal }));
    }

    /// Asks without waiting.
    pub(crate) fn ask(&mut self, call: Call) -> u64 {
        self.next_request += 1;
        let id = self.next_request;
        self.send(To::Request(Request {
            id,
            call: Some(call),
        }));
        id
    }

    pub(crate) fn reply(&mut self, id: u64) -> Reply {
        self.until("reply", |node| node.replies.contains_key(&id));
        self.replies[&id].last().unwrap().clone()
    }

    pub(crate) fn call(&mut self, call: Call) -> Reply {
        let id = self.ask(call);
        self.reply(id)
    }

    /// Sends all of a body under credit.
    pub(crate) fn send_body(&mut self, id: u64, body: &[u8]) {
        let mut sent = 0;
        for chunk in body.chunks(frame::CHUNK_BYTES) {
            let window = u64::from(CREDIT_BYTES);
            self.until("credit", |node| {
                let credit = node.credit.get(&id).copied().unwrap_or(0);
                node.replies.contains_key(&id) || sent + chunk.len() as u64 <= window + credit
            });
            sent += chunk.len() as u64;
            let data = Bytes::copy_from_slice(chunk);
            self.send(To::Data(Data {
                id,
                data,
                eof: false,
            }));
        }
        let data = Bytes::new();
        self.send(To::Data(Data {
            id,
            data,
            eof: true,
        }));
    }

    /// All data of a request.
    pub(crate) fn body(&mut self, id: u64) -> Vec<u8> {
        self.until("data", |node| {
            node.data.get(&id).is_some_and(|(_, eof)| *eof)
                || matches!(
                    node.replies.get(&id).and_then(|all| all.last()),
                    Some(Reply::Failed(_))
                )
        });
        self.data.remove(&id).unwrap_or_default().0
    }
}

fn connect(path: &PathBuf) -> UnixStream {
    let limit = Instant::now() + PATIENCE;
    loop {
        if let Ok(stream) = UnixStream::connect(path) {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            return stream;
        }
        assert!(Instant::now() < limit, "no agent");
        std::thread::yield_now();
    }
}

/// Is a process alive (not only a corpse)?
pub(crate) fn alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !stat
            .rsplit_once(')')
            .unwrap()
            .1
            .trim_start()
            .starts_with('Z')
    })
}
