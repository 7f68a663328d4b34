//! The numbered events of one exec that the node does not have yet.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use skerry_proto::agent::from_agent::Body;
use skerry_proto::agent::{Ended, ExecEnded, ExecOutput, WINDOW_BYTES};

/// What an event costs beside its bytes, so that a stream of tiny chunks is bounded too.
const EVENT_COST: usize = 128;

/// What an exec used.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) cpu: Duration,
    pub(crate) peak_memory: u64,
    pub(crate) duration: Duration,
}

/// Keeps every event until it is acknowledged.
#[derive(Debug)]
pub(crate) struct Log {
    exec_id: Bytes,
    events: VecDeque<(u64, Body)>,
    /// Cost of the kept output.
    kept: usize,
    last: u64,
    ended: bool,
}

impl Log {
    pub(crate) fn new(exec_id: Bytes) -> Self {
        Self {
            exec_id,
            events: VecDeque::new(),
            kept: 0,
            last: 0,
            ended: false,
        }
    }

    /// Bytes that may be read from the process now.
    pub(crate) fn room(&self) -> usize {
        WINDOW_BYTES.saturating_sub(self.kept)
    }

    pub(crate) fn ended(&self) -> bool {
        self.ended
    }

    /// Adds a chunk and returns its event.
    pub(crate) fn output(&mut self, stream: u32, data: Bytes) -> Body {
        self.kept += data.len() + EVENT_COST;
        self.last += 1;
        self.keep(Body::ExecOutput(ExecOutput {
            exec_id: self.exec_id.clone(),
            seq: self.last,
            stream,
            data,
        }))
    }

    /// Adds the end, after which there is nothing.
    pub(crate) fn end(&mut self, ended: Ended, usage: Usage) -> Body {
        self.ended = true;
        self.last += 1;
        self.keep(Body::ExecEnded(ExecEnded {
            exec_id: self.exec_id.clone(),
            seq: self.last,
            ended: Some(ended),
            cpu_ms: millis(usage.cpu),
            peak_memory_bytes: usage.peak_memory,
            duration_ms: millis(usage.duration),
        }))
    }

    fn keep(&mut self, event: Body) -> Body {
        self.events.push_back((self.last, event.clone()));
        event
    }

    /// Forgets events up to `seq`. True once nothing more can be asked for.
    pub(crate) fn acknowledge(&mut self, seq: u64) -> bool {
        while let Some((_, event)) = self.events.pop_front_if(|(number, _)| *number <= seq) {
            if let Body::ExecOutput(output) = event {
                self.kept -= output.data.len() + EVENT_COST;
            }
        }
        self.ended && self.events.is_empty()
    }

    /// The kept events with a number above `seq`.
    pub(crate) fn after(&self, seq: u64) -> impl Iterator<Item = Body> {
        self.events
            .iter()
            .filter(move |(number, _)| *number > seq)
            .map(|(_, event)| event.clone())
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(event: &Body) -> u64 {
        match event {
            Body::ExecOutput(output) => output.seq,
            Body::ExecEnded(end) => end.seq,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_not_acknowledged_can_be_had_again_and_the_rest_is_forgotten() {
        let mut log = Log::new(Bytes::new());
        for _ in 0..3 {
            log.output(1, Bytes::from_static(b"abc"));
        }
        assert!(!log.acknowledge(2));
        log.end(Ended::Code(0), Usage::default());
        let numbers = |log: &Log, seq| log.after(seq).map(|e| number(&e)).collect::<Vec<_>>();
        assert_eq!(numbers(&log, 0), [3, 4]);
        assert_eq!(numbers(&log, 3), [4]);
        assert!(log.acknowledge(4));
        assert_eq!(log.room(), WINDOW_BYTES);
    }

    #[test]
    fn many_tiny_chunks_fill_the_window_too() {
        let mut log = Log::new(Bytes::new());
        let mut chunks = 0;
        while log.room() > 0 {
            log.output(1, Bytes::from_static(b"x"));
            chunks += 1;
        }
        assert!(chunks < 3000);
        assert!(!log.acknowledge(u64::MAX));
        assert_eq!(log.room(), WINDOW_BYTES);
    }
}
