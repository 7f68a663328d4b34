//! What happens to a process, as its client hears of it.

use bytes::{BufMut, Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::BoxStream;
use serde_json::json;
use skerry_proto::node::{ExecEvent, ExecEventBody};
use skerry_types::{Error, ExecEnd};

use super::super::connect::{Code, Refusal, put};
use super::super::stream::{Words, late};
use super::message::base64;
use crate::frame;

/// Output in one message at most.
const CHUNK_BYTES: usize = 32 * 1024;

/// An event of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    Output(&'static str, Bytes),
    End(End),
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    code: i32,
    exited: bool,
    status: String,
    error: Option<String>,
}

/// The events of an exec. An end that is none of the process's own is an error of the call.
pub(super) fn events(
    source: BoxStream<'static, Result<ExecEvent, Error>>,
    tty: bool,
) -> BoxStream<'static, Result<Event, Refusal>> {
    source
        .map(move |event| match event?.body {
            ExecEventBody::Stdout(data) => {
                Ok(Event::Output(if tty { "pty" } else { "stdout" }, data))
            }
            ExecEventBody::Stderr(data) => Ok(Event::Output("stderr", data)),
            ExecEventBody::End { end, .. } => ended(end).map(Event::End),
        })
        .boxed()
}

fn ended(end: ExecEnd) -> Result<End, Refusal> {
    match end {
        ExecEnd::Exited { code } => {
            let status = format!("exit status {code}");
            Ok(End {
                code,
                exited: true,
                error: (code != 0).then(|| status.clone()),
                status,
            })
        }
        ExecEnd::Signaled { signal } => Ok(killed(format!("signal: {}", signal_name(signal)))),
        ExecEnd::OomKilled => Ok(killed(
            "signal: killed (the sandbox was out of memory)".into(),
        )),
        ExecEnd::TimedOut => Err(late()),
        ExecEnd::SandboxStopped | ExecEnd::SandboxDeleted => {
            Err(Refusal::new(Code::Unavailable, "the sandbox has ended"))
        }
        ExecEnd::NodeLost => {
            let message = "how the process ended is not known";
            Err(Refusal::new(Code::Internal, message))
        }
        ExecEnd::FailedToStart { reason } => Err(Refusal::invalid(reason)),
    }
}

fn killed(status: String) -> End {
    End {
        code: -1,
        exited: false,
        error: Some(status.clone()),
        status,
    }
}

/// A signal in the words that clients know.
fn signal_name(signal: i32) -> String {
    const NAMES: [&str; 15] = [
        "hangup",
        "interrupt",
        "quit",
        "illegal instruction",
        "trace/breakpoint trap",
        "aborted",
        "bus error",
        "floating point exception",
        "killed",
        "user defined signal 1",
        "segmentation fault",
        "user defined signal 2",
        "broken pipe",
        "alarm clock",
        "terminated",
    ];
    let name = usize::try_from(signal)
        .ok()
        .and_then(|n| NAMES.get(n.checked_sub(1)?));
    name.map_or_else(|| format!("signal {signal}"), |name| (*name).to_owned())
}

/// How they are written.
pub(super) fn words(pid: u32) -> Words<Event> {
    Words {
        start: json!({ "event": { "start": { "pid": pid } } }).to_string(),
        keep_alive: r#"{"event":{"keepalive":{}}}"#,
        write,
    }
}

fn write(out: &mut BytesMut, event: &Event) {
    match event {
        Event::Output(stream, data) => {
            for chunk in data.chunks(CHUNK_BYTES) {
                frame::message(out, |out| output(out, stream, chunk));
            }
        }
        Event::End(end) => {
            let mut event = json!({
                "exitCode": end.code,
                "exited": end.exited,
                "status": end.status,
            });
            if let Some(error) = &end.error {
                event["error"] = error.as_str().into();
            }
            let event = json!({ "event": { "end": event } });
            frame::message(out, |out| put(out, &event));
        }
    }
}

fn output(out: &mut BytesMut, stream: &str, data: &[u8]) {
    out.put_slice(b"{\"event\":{\"data\":{\"");
    out.put_slice(stream.as_bytes());
    out.put_slice(b"\":\"");
    base64(out, data);
    out.put_slice(b"\"}}}");
}
