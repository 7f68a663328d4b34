//! The numbered events of one exec that the node does not have yet.

use std::collections::VecDeque;

use skerry_proto::agent::from_agent::Body;
use skerry_proto::agent::{Ended, ExecEnded, ExecOutput, WINDOW_BYTES};

use super::Id;

/// What an event costs beside its bytes.
const EVENT_COST: usize = 128;

/// Keeps every event until it is acknowledged.
#[derive(Debug)]
pub(super) struct Log {
    id: Id,
    events: VecDeque<(u64, Body)>,
    kept: usize,
    last: u64,
    ended: bool,
}

impl Log {
    pub(super) fn new(id: Id) -> Self {
        Self {
            id,
            events: VecDeque::new(),
            kept: 0,
            last: 0,
            ended: false,
        }
    }

    pub(super) fn room(&self) -> usize {
        WINDOW_BYTES.saturating_sub(self.kept)
    }

    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    pub(super) fn output(&mut self, stream: u32, data: &[u8]) -> Body {
        self.kept += data.len() + EVENT_COST;
        self.last += 1;
        self.keep(Body::ExecOutput(ExecOutput {
            exec_id: self.id.clone(),
            seq: self.last,
            stream,
            data: data.to_vec().into(),
        }))
    }

    pub(super) fn end(&mut self, ended: Ended, duration_ms: u64) -> Body {
        self.ended = true;
        self.last += 1;
        self.keep(Body::ExecEnded(ExecEnded {
            exec_id: self.id.clone(),
            seq: self.last,
            ended: Some(ended),
            duration_ms,
            ..ExecEnded::default()
        }))
    }

    fn keep(&mut self, event: Body) -> Body {
        self.events.push_back((self.last, event.clone()));
        event
    }

    /// Forgets events up to `seq`. True once nothing more can be asked for.
    pub(super) fn acknowledge(&mut self, seq: u64) -> bool {
        while let Some((_, event)) = self.events.pop_front_if(|(number, _)| *number <= seq) {
            if let Body::ExecOutput(output) = event {
                self.kept -= output.data.len() + EVENT_COST;
            }
        }
        self.ended && self.events.is_empty()
    }

    pub(super) fn after(&self, seq: u64) -> impl Iterator<Item = Body> {
        let later = self.events.iter().filter(move |(number, _)| *number > seq);
        later.map(|(_, event)| event.clone())
    }
}
