//! Output that is known beforehand, and a reader that keeps the books of what it got.

use skerry_client::api::StreamEvent;
use skerry_client::{Exit, Output, Sandbox, shell};
use skerry_types::{ExecId, ExecStatus};

/// Both streams and the end of an exec, put together from events whose numbers must follow each other.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Transcript {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) exit: Option<Exit>,
    pub(crate) last_seq: u64,
}

impl Transcript {
    /// Takes the next event in; one out of turn is a failure.
    pub(crate) fn take(&mut self, event: StreamEvent) {
        assert_eq!(
            event.seq,
            self.last_seq + 1,
            "a gap or a repetition: {event:?}"
        );
        assert!(self.exit.is_none(), "an event after the end: {event:?}");
        self.last_seq = event.seq;
        match Output::of(event).unwrap() {
            Output::Stdout(bytes) => self.stdout.extend_from_slice(&bytes),
            Output::Stderr(bytes) => self.stderr.extend_from_slice(&bytes),
            Output::Exit(exit) => self.exit = Some(exit),
        }
    }

    /// The whole of it, as the server tells it now.
    pub(crate) async fn read(sandbox: &Sandbox, exec: ExecId) -> Self {
        let mut whole = Self::default();
        let mut events = sandbox.follow(exec, 0);
        while let Some(event) = events.next().await.unwrap() {
            whole.take(event);
        }
        whole
    }

    /// The whole of one that began with a copy: its first event is not number 1.
    pub(crate) async fn read_from_first(sandbox: &Sandbox, exec: ExecId) -> Self {
        let mut events = sandbox.follow(exec, 0);
        let first = events.next().await.unwrap().unwrap();
        let mut whole = Self {
            last_seq: first.seq - 1,
            ..Self::default()
        };
        whole.take(first);
        while let Some(event) = events.next().await.unwrap() {
            whole.take(event);
        }
        whole
    }

    /// This is a later reading of the same exec: it says all that `earlier` said, byte for byte.
    pub(crate) fn assert_continues(&self, earlier: &Self) {
        assert!(
            self.stdout.starts_with(&earlier.stdout),
            "stdout that was told before is different or gone"
        );
        assert!(
            self.stderr.starts_with(&earlier.stderr),
            "stderr that was told before is different or gone"
        );
        assert!(
            self.last_seq >= earlier.last_seq,
            "events that were told before are gone"
        );
        if let Some(exit) = &earlier.exit {
            assert_eq!(self.exit.as_ref(), Some(exit), "the end is another one now");
        }
    }

    pub(crate) fn assert_is(&self, (stdout, stderr): &(Vec<u8>, Vec<u8>)) {
        assert_eq!(self.stdout.len(), stdout.len(), "stdout has another length");
        assert!(self.stdout == *stdout, "stdout has other bytes");
        assert!(self.stderr == *stderr, "stderr has other bytes");
    }
}

/// Starts a command and waits until it runs: a node that dies before that says, truly, that it never did.
pub(crate) async fn start(sandbox: &Sandbox, script: String) -> ExecId {
    let exec = sandbox.start(&shell(script)).await.unwrap().exec_id;
    while sandbox.exec(exec).await.unwrap().status == ExecStatus::Queued {
        tokio::task::yield_now().await;
    }
    exec
}

/// A script that writes text, bytes that are no text, and now and then to stderr; it ends with code 7.
pub(crate) fn chatter(rounds: usize) -> String {
    format!(
        "i=0; while [ $i -lt {rounds} ]; do i=$((i+1)); printf 'round %d \\303\\251 \\377\\000\\n' $i; \
         seq $i 7 $((i+2000)); [ $((i % 5)) -ne 0 ] || echo \"warning $i\" >&2; done; exit 7"
    )
}

/// What it writes.
pub(crate) fn chatter_output(rounds: usize) -> (Vec<u8>, Vec<u8>) {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        stdout.extend_from_slice(format!("round {round} é ").as_bytes());
        stdout.extend_from_slice(b"\xff\0\n");
        stdout.extend(seq((round..=round + 2000).step_by(7)));
        if round % 5 == 0 {
            stderr.extend_from_slice(format!("warning {round}\n").as_bytes());
        }
    }
    (stdout, stderr)
}

/// What `seq` writes.
pub(crate) fn seq(numbers: impl IntoIterator<Item = usize>) -> Vec<u8> {
    let lines = numbers.into_iter().map(|number| format!("{number}\n"));
    lines.flat_map(String::into_bytes).collect()
}

/// Whole server-sent events out of however much of a stream came; what is not whole is left out.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    buffer: Vec<u8>,
}

impl Frames {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    pub(crate) fn next(&mut self) -> Option<StreamEvent> {
        loop {
            let end = self.buffer.windows(2).position(|two| two == b"\n\n")?;
            let frame: Vec<u8> = self.buffer.drain(..end + 2).collect();
            let text = String::from_utf8(frame).unwrap();
            let field = |name| text.lines().find_map(|line| line.strip_prefix(name));
            let Some(data) = field("data: ").or_else(|| field("data:")) else {
                continue;
            };
            let event: StreamEvent =
                serde_json::from_str(data).unwrap_or_else(|e| panic!("{text}: {e}"));
            let id = field("id: ")
                .or_else(|| field("id:"))
                .and_then(|id| id.parse().ok());
            assert_eq!(id, Some(event.seq), "{text}");
            return Some(event);
        }
    }
}
