//! Requests to the agent: file work. Each has a sink that its caller reads; bulk data is bounded by credit, so a sink that overflows means an agent
//! that does not keep to it.

use skerry_proto::agent::{Call, Cancel, Data, Request, Response, Watched, to_agent::Body as To};
use skerry_types::Error;
use tokio::sync::mpsc;

use super::Actor;

/// Requests one sandbox may have under way.
const MAX_REQUESTS: usize = 128;

/// What comes back for a request.
#[derive(Debug)]
pub(crate) enum Incoming {
    Response(Response),
    Data(Data),
    /// The agent took this many bytes.
    Credit(u32),
    Watched(Watched),
}

/// Where it goes.
pub(crate) type RequestSink = mpsc::Sender<Incoming>;

impl Actor {
    pub(super) fn request(&mut self, call: Call, sink: RequestSink) -> Result<u64, Error> {
        self.must_run()?;
        self.requests.retain(|_, sink| !sink.is_closed());
        if self.requests.len() >= MAX_REQUESTS {
            return Err(Error::conflict(format!(
                "{MAX_REQUESTS} file operations are under way in this sandbox already"
            )));
        }
        self.touch();
        let id = self.next_request;
        self.next_request += 1;
        self.requests.insert(id, sink);
        self.link.send(To::Request(Request {
            id,
            call: Some(call),
        }));
        Ok(id)
    }

    pub(super) fn on_incoming(&mut self, request: u64, incoming: Incoming) {
        let Some(sink) = self.requests.get(&request) else {
            return;
        };
        if sink.try_send(incoming).is_err() {
            // Its reader left, or the agent sent more than it was given credit for.
            self.cancel(request);
        }
    }

    pub(super) fn cancel(&mut self, request: u64) {
        if self.requests.remove(&request).is_some() {
            self.link.send(To::Cancel(Cancel { id: request }));
        }
    }

    /// A request does not survive its link; dropping the sinks tells the callers.
    pub(super) fn drop_requests(&mut self) {
        self.requests.clear();
    }
}
