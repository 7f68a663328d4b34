//! Connections to programs inside: requests whose data goes both ways. What an agent may send for one is counted, as for every request.

use skerry_proto::agent::{
    Call, DIAL_WINDOW_BYTES, Data, Dial, Reply, dial_cost, to_agent::Body as To,
};
use skerry_types::Error;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::{Actor, Incoming, RequestSink};

/// Connections that one sandbox may have open.
const MAX_DIALS: usize = 1024;

/// Where what comes back for a connection goes. Credit has a way of its own: it must not wait for somebody to read.
#[derive(Debug)]
pub(crate) struct DialSink {
    pub(crate) sink: RequestSink,
    pub(crate) credits: mpsc::Sender<u32>,
}

/// A connection. Dropping it tells both halves of its caller.
#[derive(Debug)]
pub(super) struct Line {
    to: DialSink,
    /// What the agent may still send, as [`dial_cost`] counts.
    credit: u32,
    is_made: bool,
    /// The caller has said its last.
    is_said: bool,
    /// The program has.
    is_heard: bool,
}

/// What becomes of a connection after something was heard of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Then {
    GoesOn,
    IsOver,
    /// Its reader left, or that cannot have been.
    IsCancelled,
}

impl Line {
    /// Its reader took this much.
    pub(super) fn credit(&mut self, bytes: u32) {
        self.credit = self.credit.saturating_add(bytes);
    }

    pub(super) fn take(&mut self, incoming: Incoming) -> Then {
        let then = match &incoming {
            Incoming::Data(data) => self.take_data(data),
            Incoming::Response(response) => match response.reply {
                Some(Reply::Done(_)) if !self.is_made => {
                    self.is_made = true;
                    Then::GoesOn
                }
                Some(Reply::Failed(_)) => Then::IsOver,
                _ => Then::IsCancelled,
            },
            Incoming::Credit(bytes) => {
                return match self.to.credits.try_send(*bytes) {
                    Err(TrySendError::Full(_)) => Then::IsCancelled,
                    // Who has said all needs none.
                    Ok(()) | Err(TrySendError::Closed(_)) => Then::GoesOn,
                };
            }
            Incoming::Watched(_) => Then::IsCancelled,
        };
        if then != Then::IsCancelled && self.to.sink.try_send(incoming).is_err() {
            return Then::IsCancelled;
        }
        then
    }

    fn take_data(&mut self, data: &Data) -> Then {
        let left = self.credit.checked_sub(dial_cost(data.data.len()));
        let Some(left) = left.filter(|_| self.is_made && !self.is_heard) else {
            return Then::IsCancelled;
        };
        self.credit = left;
        self.is_heard = data.eof;
        self.then()
    }

    fn then(&self) -> Then {
        if self.is_said && self.is_heard {
            Then::IsOver
        } else {
            Then::GoesOn
        }
    }
}

impl Actor {
    /// Has the agent connect.
    pub(super) fn dial(&mut self, dial: Dial, to: DialSink) -> Result<u64, Error> {
        self.must_run()?;
        if self.dials.len() >= MAX_DIALS {
            return Err(Error::conflict(format!(
                "{MAX_DIALS} connections to this sandbox are open already"
            )));
        }
        self.touch();
        let id = self.ask(Call::Dial(dial));
        let line = Line {
            to,
            credit: DIAL_WINDOW_BYTES,
            is_made: false,
            is_said: false,
            is_heard: false,
        };
        self.dials.insert(id, line);
        Ok(id)
    }

    /// Something that a caller says to the agent.
    pub(super) fn on_bulk(&mut self, body: To) {
        match body {
            To::Credit(credit) => self.give_credit(credit),
            To::Data(data) => {
                self.note_data(&data);
                self.link.send(To::Data(data));
            }
            other => self.link.send(other),
        }
    }

    fn note_data(&mut self, data: &Data) {
        let Some(line) = self.dials.get_mut(&data.id) else {
            return;
        };
        line.is_said |= data.eof;
        if line.then() == Then::IsOver {
            self.dials.remove(&data.id);
        }
        self.touch();
    }

    /// Breaks all connections.
    pub(super) fn cancel_dials(&mut self) {
        let all: Vec<u64> = self.dials.keys().copied().collect();
        for id in all {
            self.cancel(id);
        }
    }
}
