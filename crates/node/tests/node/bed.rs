//! A node over a simulated machine, and its data folder.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use skerry_driver_sim::{SimDriver, World};
use skerry_image::{Images, Progress};
use skerry_node::{Node, Options, Publish, ReadyLimits};
use skerry_proto::node::{
    Command, CreateSandbox, ExecEventBody, ExecRecord, Execs, Map, SandboxReport, Sandboxes,
    StartExec,
};
use skerry_types::{Egress, ExecEnd, ExecId, Resources, SandboxId, SandboxState};
use tempfile::TempDir;

pub(crate) struct Bed {
    folder: TempDir,
    images: Arc<Images>,
    pub(crate) world: Arc<World>,
    /// Where its nodes publish ports.
    pub(crate) publish: Option<Publish>,
}

impl Bed {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (images, source) = (folder.path().join("images"), folder.path().join("source"));
        std::fs::create_dir(&images).unwrap();
        std::fs::create_dir_all(source.join("etc")).unwrap();
        let images = Images::open(&images).unwrap();
        let progress = Progress::none();
        images
            .import_folder(&source, "sim", progress)
            .await
            .unwrap();
        Self {
            folder,
            images: Arc::new(images),
            world: World::new(),
            publish: None,
        }
    }

    /// A node over the same machine and folder, each time.
    pub(crate) async fn node(&self) -> Arc<Node> {
        Node::start(self.options()).await.unwrap()
    }

    pub(crate) fn options(&self) -> Options {
        let data_dir = self.folder.path().join("node");
        std::fs::create_dir_all(&data_dir).unwrap();
        Options {
            data_dir,
            drivers: vec![Arc::new(SimDriver::new(Arc::clone(&self.world)))],
            images: Arc::clone(&self.images),
            storage: None,
            ready: ReadyLimits {
                each: 0,
                memory_mb: 0,
                prepared: 0,
            },
            gate: None,
            journal_bytes: None,
            publish: self.publish.clone(),
        }
    }

    pub(crate) fn data_dir(&self) -> &Path {
        self.folder.path()
    }

    /// Another sandbox on the same node.
    pub(crate) async fn second(&self, first: &Island) -> Island {
        let (node, id) = (Arc::clone(&first.node), SandboxId::new());
        node.create(request(id)).await.unwrap();
        Island { node, id }
    }

    /// A node with one sandbox.
    pub(crate) async fn island(&self) -> Island {
        let node = self.node().await;
        let id = SandboxId::new();
        let made = node.create(request(id)).await.unwrap();
        assert_eq!(made.state, SandboxState::Running);
        Island { node, id }
    }
}

pub(crate) fn request(id: SandboxId) -> CreateSandbox {
    CreateSandbox {
        id,
        image: "sim".to_owned(),
        resources: Resources::FREE_FORM,
        env: Map::new(),
        privilege: None,
        network: "none".to_owned(),
        egress: Egress::default(),
        driver: None,
        name: None,
        auto_resume: false,
        snapshot: None,
        ports: Vec::new(),
        volumes: Vec::new(),
    }
}

pub(crate) fn sh(script: &str) -> StartExec {
    StartExec {
        id: ExecId::new(),
        command: Command::Shell(script.to_owned()),
        cwd: None,
        env: Map::new(),
        user: None,
        stdin: false,
        tty: None,
        timeout: None,
        session: None,
        tag: None,
    }
}

/// What `seq 1 last` prints.
pub(crate) fn counted(last: u32) -> Vec<u8> {
    (1..=last)
        .flat_map(|number| format!("{number}\n").into_bytes())
        .collect()
}

/// All that the log of an ended exec says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finished {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) end: ExecEnd,
}

/// A sandbox and its node.
#[derive(Clone)]
pub(crate) struct Island {
    pub(crate) node: Arc<Node>,
    pub(crate) id: SandboxId,
}

impl Island {
    pub(crate) async fn start(&self, request: StartExec) -> ExecId {
        self.node.start_exec(self.id, request).await.unwrap().id
    }

    /// Reads the whole log, and checks that its events are numbered without gaps.
    pub(crate) async fn finish(&self, exec: ExecId) -> Finished {
        let mut events = self.node.exec_events(self.id, exec, 0, true).await.unwrap();
        let (mut stdout, mut stderr, mut last) = (Vec::new(), Vec::new(), 0);
        while let Some(event) = events.next().await {
            let event = event.unwrap();
            assert_eq!(event.seq, last + 1, "a gap or a repetition");
            last = event.seq;
            match event.body {
                ExecEventBody::Stdout(data) => stdout.extend_from_slice(&data),
                ExecEventBody::Stderr(data) => stderr.extend_from_slice(&data),
                ExecEventBody::End { end, .. } => {
                    assert!(events.next().await.is_none(), "something after the end");
                    assert_eq!(self.exec(exec).await.end.as_ref(), Some(&end));
                    return Finished {
                        stdout,
                        stderr,
                        end,
                    };
                }
            }
        }
        panic!("the log of {exec} has no end");
    }

    pub(crate) async fn run(&self, script: &str) -> Finished {
        let exec = self.start(sh(script)).await;
        self.finish(exec).await
    }

    /// The output of a script that exits with 0.
    pub(crate) async fn ok(&self, script: &str) -> String {
        let finished = self.run(script).await;
        assert_eq!(finished.end, ExecEnd::Exited { code: 0 }, "{finished:?}");
        String::from_utf8(finished.stdout).unwrap()
    }

    /// Until so much of its output is in the journal; returns what is there.
    pub(crate) async fn until_out(&self, exec: ExecId, bytes: usize) -> Vec<u8> {
        let mut events = self.node.exec_events(self.id, exec, 0, true).await.unwrap();
        let mut output = Vec::new();
        while output.len() < bytes {
            match events.next().await.expect("more output").unwrap().body {
                ExecEventBody::Stdout(data) => output.extend_from_slice(&data),
                other => panic!("{other:?} instead of output"),
            }
        }
        output
    }

    pub(crate) async fn exec(&self, exec: ExecId) -> ExecRecord {
        self.node.get_exec(self.id, exec).await.unwrap()
    }

    pub(crate) async fn report(&self) -> SandboxReport {
        self.node.get(self.id).await.unwrap()
    }

    /// Until the node says that it is in this state.
    pub(crate) async fn until(&self, state: SandboxState) -> SandboxReport {
        let mut changes = self.node.watch();
        loop {
            let now = self.report().await;
            if now.state == state {
                return now;
            }
            changes.next().await;
        }
    }

    pub(crate) async fn stdin(&self, exec: ExecId, data: &[u8], eof: bool) {
        let data = Bytes::copy_from_slice(data);
        self.node
            .exec_stdin(self.id, exec, data, eof)
            .await
            .unwrap();
    }
}

/// A daemon that can be killed: a node on a runtime of its own.
pub(crate) struct Daemon {
    runtime: tokio::runtime::Runtime,
    node: Arc<Node>,
}

impl Daemon {
    pub(crate) fn start(bed: &Bed) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let node = runtime.block_on(bed.node());
        Self { runtime, node }
    }

    /// Does something in the daemon.
    pub(crate) fn run<T, F>(&self, work: impl FnOnce(Arc<Node>) -> F) -> T
    where
        F: Future<Output = T>,
    {
        self.runtime.block_on(work(Arc::clone(&self.node)))
    }

    /// Ends it wherever it is, like SIGKILL: nothing gets to say goodbye.
    pub(crate) fn kill(self) {
        drop(self.runtime);
    }
}

/// Until it is so; only a hang takes long.
pub(crate) async fn patiently(what: &str, is_so: impl Fn() -> bool) {
    let until = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    let patience = std::time::Duration::from_mins(1);
    assert!(
        tokio::time::timeout(patience, until).await.is_ok(),
        "never: {what}"
    );
}
