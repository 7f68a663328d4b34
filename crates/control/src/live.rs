//! The sandboxes that have not ended, in memory: for answers within microseconds, for whoever waits, and for planning.
//!
//! All of it can be read again from the store and the nodes, but for the values of an environment that waits for its node: those are nowhere else.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use skerry_proto::node::Map;
use skerry_store::Sandbox as Row;
use skerry_types::{FailureReason, NodeId, SandboxId, SandboxState};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::plan::Seen;

/// The node is told at most this often that a sandbox is in use.
const TOUCH_EVERY: SignedDuration = SignedDuration::from_secs(1);

/// The making of a sandbox, while it goes on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Making {
    /// Somebody wants it gone.
    pub(crate) cancel: CancellationToken,
    /// Whoever made it is through with it.
    pub(crate) done: CancellationToken,
}

/// What is kept of a sandbox that has not ended.
#[derive(Debug)]
pub(crate) struct Entry {
    /// As it was last stored, with a `last_active_at` that may be newer.
    pub(crate) row: Row,
    /// The values of its environment, until it is made.
    pub(crate) env: Map,
    /// It is being made here.
    pub(crate) making: Option<Making>,
    /// While it was being made its node told of something that may have come after the making.
    pub(crate) missed: bool,
    /// Its node is being told to stop it.
    pub(crate) telling: bool,
    /// A step is being taken by someone who will say when it is over.
    pub(crate) busy: bool,
    /// Why it is to be deleted, if it is: what its node says of it until then is of no interest.
    pub(crate) leaving: Option<FailureReason>,
    /// When its node was last asked for its activity.
    pub(crate) looked_at: Timestamp,
    /// After a failed step: not before this.
    pub(crate) retry_at: Option<Timestamp>,
    touched_at: Timestamp,
    changed: watch::Sender<()>,
    /// Changes of one sandbox take turns, so that what is in memory is what was stored last.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Entry {
    fn new(row: Row, env: Map) -> Self {
        Self {
            env,
            making: None,
            missed: false,
            telling: false,
            busy: false,
            leaving: None,
            looked_at: row.created_at,
            retry_at: None,
            touched_at: row.created_at,
            changed: watch::Sender::new(()),
            turn: Arc::default(),
            row,
        }
    }

    fn seen(&self) -> Seen {
        let row = &self.row;
        let idle = (row.idle_seconds > 0).then(|| seconds(row.idle_seconds));
        Seen {
            id: row.id,
            state: row.state,
            since: row.updated_at,
            node: row.node_id,
            queue_until: row.queued_at.unwrap_or(row.created_at)
                + seconds(row.queue_timeout_seconds),
            expires_at: row.expires_at,
            warned: row.ttl_warned,
            idle,
            last_active_at: row.last_active_at,
            looked_at: self.looked_at,
            on_timeout: row.on_timeout,
            on_idle: row.on_idle.unwrap_or(row.on_timeout),
            keep_paused: row.keep_paused,
            busy: self.busy || self.making.is_some(),
            retry_at: self.retry_at,
        }
    }
}

/// A stored number of seconds.
pub(crate) fn seconds(n: u32) -> SignedDuration {
    SignedDuration::from_secs(n.into())
}

/// See the module. No lock in here is ever held over an await.
#[derive(Debug, Default)]
pub(crate) struct Live(Mutex<BTreeMap<SandboxId, Entry>>);

impl Live {
    /// Takes up a new sandbox, or one found in the store at the start.
    pub(crate) fn insert(&self, row: Row, env: Map) {
        self.0.lock().insert(row.id, Entry::new(row, env));
    }

    /// Whatever `read` takes from the entry, if there is one.
    pub(crate) fn with<T>(&self, id: SandboxId, read: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        self.0.lock().get_mut(&id).map(read)
    }

    /// All of them.
    pub(crate) fn ids(&self) -> Vec<SandboxId> {
        self.0.lock().keys().copied().collect()
    }

    /// The row as it was last stored.
    pub(crate) fn row(&self, id: SandboxId) -> Option<Row> {
        self.with(id, |entry| entry.row.clone())
    }

    /// The turn to change this sandbox.
    pub(crate) fn turn(&self, id: SandboxId) -> Option<Arc<tokio::sync::Mutex<()>>> {
        self.with(id, |entry| entry.turn.clone())
    }

    /// Takes over what was stored, drops what has ended, and wakes whoever waits.
    pub(crate) fn update(&self, row: &Row) {
        let mut entries = self.0.lock();
        let Some(entry) = entries.get_mut(&row.id) else {
            return;
        };
        let used = entry.row.last_active_at.max(row.last_active_at);
        entry.row = row.clone();
        entry.row.last_active_at = used;
        entry.changed.send_replace(());
        if row.state.is_ended() {
            entries.remove(&row.id);
        }
    }

    /// Notes that it was used.
    pub(crate) fn used(&self, id: SandboxId, at: Timestamp) {
        self.with(id, |entry| {
            entry.row.last_active_at = entry.row.last_active_at.max(at);
        });
    }

    /// Notes that it is to be deleted.
    pub(crate) fn leave(&self, id: SandboxId, reason: FailureReason) {
        self.with(id, |entry| entry.leaving = Some(reason));
    }

    /// It is to be deleted.
    pub(crate) fn is_leaving(&self, id: SandboxId) -> bool {
        self.with(id, |entry| entry.leaving.is_some()) == Some(true)
    }

    /// Nobody here is in the middle of something with it.
    pub(crate) fn is_idle(&self, id: SandboxId) -> bool {
        self.with(id, |entry| entry.making.is_none() && !entry.busy)
            .unwrap_or(true)
    }

    /// Whether it is time to tell its node that it is in use, and which node that is.
    pub(crate) fn touch(&self, id: SandboxId, now: Timestamp) -> Option<NodeId> {
        self.with(id, |entry| {
            if now.duration_since(entry.touched_at) < TOUCH_EVERY {
                return None;
            }
            entry.touched_at = now;
            entry.row.node_id
        })?
    }

    /// Tells when it changes or ends.
    pub(crate) fn subscribe(&self, id: SandboxId) -> Option<watch::Receiver<()>> {
        self.with(id, |entry| entry.changed.subscribe())
    }

    /// The place of a queued sandbox in the queue, from 1.
    pub(crate) fn queue_position(&self, id: SandboxId) -> Option<u32> {
        let entries = self.0.lock();
        let place = |e: &Entry| {
            let waits = e.row.state == SandboxState::Queued;
            waits.then_some((e.row.queued_at, e.row.id))
        };
        let mine = place(entries.get(&id)?)?;
        let ahead = entries.values().filter_map(place).filter(|p| *p < mine);
        u32::try_from(ahead.count() + 1).ok()
    }

    /// What planning sees, oldest first.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.0.lock().values().map(Entry::seen).collect()
    }

    /// How many hold a place on this node.
    pub(crate) fn held(&self, node: NodeId) -> usize {
        let entries = self.0.lock();
        entries
            .values()
            .filter(|e| e.row.node_id == Some(node) && e.row.state.holds_slot())
            .count()
    }

    /// Those on this node of which nobody here is in the middle of something.
    pub(crate) fn settled_on(&self, node: NodeId) -> Vec<SandboxId> {
        let entries = self.0.lock();
        entries
            .values()
            .filter(|e| e.row.node_id == Some(node) && e.making.is_none() && !e.busy)
            .map(|e| e.row.id)
            .collect()
    }

    /// Those in this state.
    pub(crate) fn in_state(&self, state: SandboxState) -> Vec<Row> {
        let entries = self.0.lock();
        let rows = entries.values().map(|e| &e.row);
        rows.filter(|r| r.state == state).cloned().collect()
    }
}
