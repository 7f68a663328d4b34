//! Just enough of a node to run a command through the agent.

use bytes::{Bytes, BytesMut};
use skerry_driver::AgentLink;
use skerry_proto::agent::{
    Call, Ended, ExecStart, FromAgent, GENERATION, NodeHello, Reply, Request, STDERR, ToAgent,
    from_agent, to_agent,
};
use skerry_proto::frame;
use skerry_types::ExecId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What came of a command.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) ended: Ended,
}

impl Output {
    /// Its standard output, if it exited with 0.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.ended, Ended::Code(0), "{self:?}");
        self.stdout
    }
}

pub(crate) struct Agent {
    link: AgentLink,
    buffer: BytesMut,
}

impl Agent {
    pub(crate) async fn new(link: AgentLink) -> Self {
        let mut agent = Self {
            link,
            buffer: BytesMut::new(),
        };
        agent
            .send(to_agent::Body::Hello(NodeHello {
                generation: GENERATION,
            }))
            .await;
        let hello = agent.next().await.expect("the agent says hello");
        assert!(matches!(hello, from_agent::Body::Hello(_)), "{hello:?}");
        agent
    }

    async fn send(&mut self, body: to_agent::Body) {
        let mut out = BytesMut::new();
        frame::encode(&ToAgent { body: Some(body) }, &mut out);
        self.link.write_all(&out).await.unwrap();
    }

    async fn next(&mut self) -> Option<from_agent::Body> {
        loop {
            if let Some(message) = frame::decode::<FromAgent>(&mut self.buffer).unwrap() {
                return message.body;
            }
            if self.link.read_buf(&mut self.buffer).await.unwrap() == 0 {
                return None;
            }
        }
    }

    /// Starts a command and does not wait for it.
    pub(crate) async fn start(&mut self, user: &str, argv: &[&str]) -> ExecId {
        let exec = ExecId::new();
        let argv = argv.iter().map(|a| Bytes::copy_from_slice(a.as_bytes()));
        self.send(to_agent::Body::ExecStart(ExecStart {
            exec_id: exec.bytes().to_vec().into(),
            argv: argv.collect(),
            cwd: "/".into(),
            user: user.to_owned(),
            timeout_ms: 60_000,
            kill_grace_ms: 100,
            ..ExecStart::default()
        }))
        .await;
        exec
    }

    /// Runs a command to its end.
    pub(crate) async fn run(&mut self, user: &str, argv: &[&str]) -> Output {
        let exec = self.start(user, argv).await;
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        loop {
            let body = self
                .next()
                .await
                .expect("the link holds while a command runs");
            match body {
                from_agent::Body::ExecOutput(o) if o.exec_id[..] == exec.bytes() => {
                    let stream = if o.stream == STDERR {
                        &mut stderr
                    } else {
                        &mut stdout
                    };
                    stream.extend_from_slice(&o.data);
                }
                from_agent::Body::ExecEnded(e) if e.exec_id[..] == exec.bytes() => {
                    return Output {
                        stdout: String::from_utf8_lossy(&stdout).into_owned(),
                        stderr: String::from_utf8_lossy(&stderr).into_owned(),
                        ended: e.ended.expect("an end says how"),
                    };
                }
                _ => {}
            }
        }
    }

    /// Has it do something that has no data.
    pub(crate) async fn ask(&mut self, call: Call) {
        let id = 1;
        let call = Some(call);
        self.send(to_agent::Body::Request(Request { id, call }))
            .await;
        loop {
            let body = self.next().await.expect("the link holds until the answer");
            if let from_agent::Body::Response(response) = body {
                let reply = response.reply;
                assert!(matches!(reply, Some(Reply::Done(_))), "{reply:?}");
                return;
            }
        }
    }

    /// Runs a shell script as uid 0.
    pub(crate) async fn sh(&mut self, script: &str) -> Output {
        self.run("", &["/bin/sh", "-c", script]).await
    }

    /// Runs a Python program as uid 0.
    pub(crate) async fn python(&mut self, program: &str) -> Output {
        self.run("", &["/usr/bin/python3", "-I", "-c", program])
            .await
    }
}
