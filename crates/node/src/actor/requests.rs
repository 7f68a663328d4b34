//! Requests to the agent: file work. Each has a sink that its caller reads. What an agent may send into it is counted, so that one that keeps to
//! no rule takes no more memory than another.

use skerry_proto::agent::{
    CREDIT_BYTES, Call, Cancel, Credit, Data, Request, Response, Watched, to_agent::Body as To,
};
use skerry_types::Error;
use skerry_types::limits::MAX_PATH_BYTES;
use tokio::sync::mpsc;

use super::dials::Then;
use super::{Actor, journal_error};

/// Requests one sandbox may have under way.
const MAX_REQUESTS: usize = 128;
/// Answers to one request: a watch has one when it begins and one when it ends.
const MAX_RESPONSES: u8 = 2;
/// The kind of [`Watched`] that says that changes were lost.
const LOST: u32 = 7;

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

/// A request under way.
#[derive(Debug)]
pub(super) struct Open {
    sink: RequestSink,
    /// Bytes of data that the agent may still send.
    credit: u64,
    responses: u8,
    /// Changes are dropped until their reader has caught up.
    is_behind: bool,
}

impl Open {
    fn new(sink: RequestSink) -> Self {
        Self {
            sink,
            credit: CREDIT_BYTES.into(),
            responses: 0,
            is_behind: false,
        }
    }

    /// Passes it on. False if its reader left, or the agent sent more than it may.
    fn take(&mut self, incoming: Incoming) -> bool {
        match &incoming {
            Incoming::Data(data) => {
                let Some(left) = self.credit.checked_sub(data.data.len() as u64) else {
                    return false;
                };
                self.credit = left;
            }
            Incoming::Response(_) if self.responses == MAX_RESPONSES => return false,
            Incoming::Response(_) => self.responses += 1,
            Incoming::Credit(_) => {}
            Incoming::Watched(_) => return self.take_change(incoming),
        }
        self.sink.try_send(incoming).is_ok()
    }

    /// Changes come as fast as a program makes them. Whoever reads too slowly hears that some were lost.
    fn take_change(&mut self, incoming: Incoming) -> bool {
        let Incoming::Watched(mut change) = incoming else {
            return true;
        };
        let room = self.sink.capacity();
        if change.path.len() > MAX_PATH_BYTES
            || self.is_behind && room < self.sink.max_capacity() / 2
        {
            return !self.sink.is_closed();
        }
        self.is_behind = room == 1;
        if self.is_behind {
            change.kind = LOST;
        }
        self.sink.try_send(Incoming::Watched(change)).is_ok()
    }
}

/// It changes files, and its caller has that written down.
fn goes_on_record(call: &Call) -> bool {
    matches!(
        call,
        Call::Write(_) | Call::Overwrite(_) | Call::Move(_) | Call::Remove(_) | Call::TarIn(_)
    )
}

impl Actor {
    pub(super) fn request(&mut self, call: Call, sink: RequestSink) -> Result<u64, Error> {
        self.must_run()?;
        self.requests.retain(|_, open| !open.sink.is_closed());
        if self.requests.len() >= MAX_REQUESTS {
            return Err(Error::conflict(format!(
                "{MAX_REQUESTS} file operations are under way in this sandbox already"
            )));
        }
        if goes_on_record(&call) {
            self.must_have_room_on_record()?;
        }
        self.touch();
        Ok(self.send_request(call, sink))
    }

    /// What was done can be undone by nobody, so it is looked at before.
    fn must_have_room_on_record(&mut self) -> Result<(), Error> {
        if self.is_record_full() {
            let text = "its record is full, so nothing more can happen in it";
            return Err(Error::conflict(text));
        }
        self.budget.check_share(self.shared.journal.size())?;
        self.pay().map_err(|error| journal_error(&error))
    }

    /// Sends a request whatever the state.
    pub(super) fn send_request(&mut self, call: Call, sink: RequestSink) -> u64 {
        let id = self.ask(call);
        self.requests.insert(id, Open::new(sink));
        id
    }

    /// Says it to the agent under the next id.
    pub(super) fn ask(&mut self, call: Call) -> u64 {
        let id = self.next_request;
        self.next_request += 1;
        let call = Some(call);
        self.link.send(To::Request(Request { id, call }));
        id
    }

    pub(super) fn on_incoming(&mut self, request: u64, incoming: Incoming) {
        if let Some(line) = self.dials.get_mut(&request) {
            match line.take(incoming) {
                Then::GoesOn => self.touch(),
                Then::IsOver => drop(self.dials.remove(&request)),
                Then::IsCancelled => self.cancel(request),
            }
        } else if let Some(open) = self.requests.get_mut(&request)
            && !open.take(incoming)
        {
            self.cancel(request);
        }
    }

    /// The caller took this much: the agent may send as much again.
    pub(super) fn give_credit(&mut self, credit: Credit) {
        if let Some(line) = self.dials.get_mut(&credit.id) {
            line.credit(credit.bytes);
        } else if let Some(open) = self.requests.get_mut(&credit.id) {
            open.credit += u64::from(credit.bytes);
        } else {
            return;
        }
        self.link.send(To::Credit(credit));
    }

    pub(super) fn cancel(&mut self, request: u64) {
        let was_open =
            self.requests.remove(&request).is_some() || self.dials.remove(&request).is_some();
        if was_open {
            self.link.send(To::Cancel(Cancel { id: request }));
        }
    }

    /// A request does not survive its link; dropping the sinks tells the callers.
    pub(super) fn drop_requests(&mut self) {
        self.requests.clear();
        self.dials.clear();
    }
}
