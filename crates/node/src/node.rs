//! The node: its sandboxes, and how it takes them up again when it starts.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use parking_lot::{Mutex, RwLock};
use skerry_driver::{Driver, DriverError};
use skerry_image::{Hold, Images};
use skerry_journal::{JournalError, Record};
use skerry_proto::node::SandboxReport;
use skerry_storage::Storage;
use skerry_types::{Error, ErrorCode, ExecEnd, FailureReason, SandboxId, SandboxState, Usage};
use tokio::sync::{Notify, mpsc};

use crate::actor::{self, Handle, Parts, Shared};
use crate::aside::{Aside, keep_trying};
use crate::budget::{Budget, default_budget};
use crate::event::Event;
use crate::gate::{Gate, WayOut};
use crate::layout::Layout;
use crate::meta::Meta;
use crate::patient::Patient;
use crate::pool::{Pool, ReadyLimits};
use crate::prepared::Prepared;
use crate::publish::{Doors, Publish, Publisher};
use crate::reports::Reports;
use crate::snapshots::Archive;
use crate::volumes::Shelf;

/// Journals of ended sandboxes kept open for readers.
const COLD_JOURNALS: usize = 32;

/// What a node is made of.
#[derive(Debug)]
pub struct Options {
    /// Where it keeps sandboxes and journals.
    pub data_dir: PathBuf,
    /// What it can run sandboxes with; the first is the default.
    pub drivers: Vec<Arc<dyn Driver>>,
    /// What sandboxes start from.
    pub images: Arc<Images>,
    /// Who keeps the rules of where sandboxes may connect; without it none can have any.
    pub gate: Option<Arc<dyn Gate>>,
    /// Where volumes are; without it there are none.
    pub storage: Option<Arc<Storage>>,
    /// How much it makes ahead of its use.
    pub ready: ReadyLimits,
    /// What all journals together may take, in bytes; a share of the disk if not said.
    pub journal_bytes: Option<u64>,
    /// Where ports of sandboxes are published; `None`: none can be.
    pub publish: Option<Publish>,
}

/// Why a node could not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// It was given no driver.
    #[error("a node needs a driver")]
    NoDriver,
    /// The data folder cannot be used.
    #[error("cannot use the data folder {path}: {source}")]
    DataDir {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A driver could not say what it has.
    #[error("cannot list what runs: {0}")]
    List(#[source] DriverError),
}

/// See the crate.
#[derive(Debug)]
pub struct Node {
    pub(crate) drivers: Vec<Arc<dyn Driver>>,
    pub(crate) images: Arc<Images>,
    pub(crate) shelf: Shelf,
    pub(crate) layout: Layout,
    pub(crate) reports: Reports,
    pub(crate) pool: Arc<Pool>,
    pub(crate) prepared: Arc<Prepared>,
    pub(crate) publisher: Arc<Publisher>,
    pub(crate) archive: Arc<Archive>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) way_out: WayOut,
    handles: RwLock<HashMap<SandboxId, Handle>>,
    cold: Mutex<Vec<Arc<Shared>>>,
    /// Sandboxes that are being made: they have no handle yet, and a record once there is something to tell.
    making: Mutex<HashMap<SandboxId, Option<Arc<Shared>>>>,
    made: Notify,
    /// Sandboxes that could not be taken up, and why.
    pub(crate) aside: Mutex<HashMap<SandboxId, Aside>>,
    /// For whoever takes one of them up, or deletes it.
    pub(crate) taking_up: tokio::sync::Mutex<()>,
    pub(crate) myself: Weak<Self>,
}

impl Node {
    /// Starts a node: takes up what still runs, closes the books of what does not, and removes what belongs to nobody.
    pub async fn start(options: Options) -> Result<Arc<Self>, NodeError> {
        if options.drivers.is_empty() {
            return Err(NodeError::NoDriver);
        }
        let failed = |source| NodeError::DataDir {
            path: options.data_dir.clone(),
            source,
        };
        let layout = Layout::open(&options.data_dir).map_err(failed)?;
        let journal_bytes = match options.journal_bytes {
            Some(bytes) => bytes,
            None => default_budget(&options.data_dir).map_err(failed)?,
        };
        // What cannot be listed must not be taken for nothing: it would be swept away.
        let ids = layout.list().map_err(failed)?;
        let archive = Archive::open(layout.clone(), &options.images).map_err(failed)?;
        let archive = Arc::new(archive);
        let (budget, exceeded) = Budget::new(&options.data_dir, journal_bytes);
        let node = Arc::new_cyclic(|myself| Self {
            drivers: options.drivers.into_iter().map(patient).collect(),
            pool: Pool::start(
                options.ready,
                Arc::clone(&options.images),
                Arc::clone(&archive),
            ),
            prepared: Prepared::start(options.ready.prepared),
            publisher: Publisher::new(options.publish),
            budget: Arc::new(budget),
            way_out: WayOut(options.gate),
            archive,
            images: options.images,
            shelf: Shelf::new(options.storage),
            layout,
            reports: Reports::default(),
            handles: RwLock::default(),
            cold: Mutex::default(),
            making: Mutex::default(),
            made: Notify::new(),
            aside: Mutex::default(),
            taking_up: tokio::sync::Mutex::default(),
            myself: Weak::clone(myself),
        });
        node.take_up(ids).await;
        node.sweep().await?;
        tokio::spawn(keep_budget(Arc::downgrade(&node), exceeded));
        tokio::spawn(keep_trying(Arc::downgrade(&node)));
        // Every image that a sandbox still needs is held by now.
        if let Err(error) = node.images.collect() {
            tracing::warn!(%error, "layers that nothing needs are still there");
        }
        Ok(node)
    }

    /// Counts the journal of a deleted sandbox; removes the folder of one that never got as far as a journal.
    pub(crate) fn take_up_journal(&self, id: SandboxId) {
        let journal = self.layout.journal(id);
        if journal.exists() {
            return self.budget.end(id, &journal);
        }
        if let Err(error) = std::fs::remove_dir_all(self.layout.folder(id)) {
            tracing::error!(sandbox = %id, %error, "cannot remove an empty folder");
        }
    }

    /// Takes up one of an earlier daemon. Until this succeeds nothing of it may be lost, and it may be tried again.
    pub(crate) async fn adopt(&self, id: SandboxId, meta: Meta) -> Result<(), Error> {
        let driver = self.driver(Some(&meta.driver))?;
        if meta.deleting {
            // An earlier daemon died over it.
            driver.destroy(meta.spec.id).await?;
            self.way_out.forget(meta.spec.id);
            return self.close_record(id, &ExecEnd::SandboxDeleted);
        }
        let shared = self.open_shared(id)?;
        if !shared.history.read().state.is_ended() {
            self.publisher.reserve(&meta.published);
        }
        let adopted = self.adopt_with(driver, Arc::clone(&shared), meta).await;
        if adopted.is_err() {
            self.budget.live.take_off(shared.journal.size());
        }
        adopted
    }

    async fn adopt_with(
        &self,
        driver: Arc<dyn Driver>,
        shared: Arc<Shared>,
        meta: Meta,
    ) -> Result<(), Error> {
        let id = shared.id;
        let state = shared.history.read().state;
        let place = meta.spec.id;
        // An earlier daemon may have died before the gate knew what it had written down.
        self.way_out.rule(&meta).await?;
        let runs = driver.adopt(place).await?.is_some();
        let mut owed = Vec::new();
        if state.is_ended() {
            // Only if an earlier daemon died while it started it again, which nobody was told.
            if runs {
                driver.kill(place).await?;
            }
        } else if !runs {
            owed = close_books(&shared, state);
            match driver.kill(place).await {
                // A crash of the machine may have taken all of it.
                Err(DriverError::NotFound(_)) => {}
                killed => killed?,
            }
        } else if shared.history.read().started_at.is_none() {
            // It came up after the daemon that asked for it died: nobody was told that it runs.
            owed = close_books(&shared, state);
            driver.destroy(place).await?;
        } else if state == SandboxState::Running
            && driver.capabilities().pause
            && let Err(error) = driver.resume(place).await
        {
            // Only if an earlier daemon died while it paused it, which nobody was told: then it stands still.
            tracing::error!(sandbox = %id, %error, "it may stand still although it runs on record");
        } else if state == SandboxState::Paused
            && let Err(error) = driver.pause(place).await
        {
            // The same of one that was being resumed.
            tracing::error!(sandbox = %id, %error, "it may run although it is paused on record");
        }
        tracing::info!(sandbox = %id, state = %shared.history.read().state, "taken up");
        let image = self.images.hold(&meta.image);
        if let Err(error) = &image {
            tracing::warn!(sandbox = %id, %error, "its image is not whole any more");
        }
        // What one had that ended earlier may be another's by now.
        let published = if state.is_ended() {
            &[]
        } else {
            &*meta.published
        };
        let doors = self.publisher.doors(published);
        self.insert(
            id,
            self.start_actor(shared, driver, meta, image.ok(), doors, owed),
        );
        Ok(())
    }

    /// Removes from the host what no sandbox of ours owns.
    async fn sweep(&self) -> Result<(), NodeError> {
        let mut known: HashSet<SandboxId> =
            self.handles().iter().map(|h| h.shared.place()).collect();
        for (sandbox, aside) in &*self.aside.lock() {
            let Some(place) = aside.place else {
                // Whatever is there may be its own.
                tracing::warn!(%sandbox, "nothing is swept away, since nobody can say where this is");
                return Ok(());
            };
            known.insert(place);
        }
        for driver in &self.drivers {
            for place in driver.list().await.map_err(NodeError::List)? {
                if !known.contains(&place)
                    && let Err(error) = driver.destroy(place).await
                {
                    tracing::error!(%place, %error, "cannot sweep");
                }
            }
            for snapshot in driver.list_snapshots().await.map_err(NodeError::List)? {
                if !self.archive.exists(snapshot)
                    && let Err(error) = driver.remove_snapshot(snapshot).await
                {
                    tracing::error!(%snapshot, %error, "cannot sweep");
                }
            }
        }
        Ok(())
    }

    /// How many sandboxes stand ready for the next create.
    pub fn ready(&self) -> usize {
        self.pool.count()
    }

    /// How many places are prepared for sandboxes of any kind.
    pub fn prepared(&self) -> usize {
        self.prepared.count()
    }

    /// Removes what stands ready for nobody yet. Sandboxes stay.
    pub async fn close(&self) {
        self.pool.close().await;
        self.prepared.close().await;
    }

    /// Makes a sandbox to the end, whoever waits for it. Until then it is one that is being made.
    pub(crate) async fn make<F>(
        &self,
        id: SandboxId,
        work: impl FnOnce(Arc<Self>) -> F,
    ) -> Result<SandboxReport, Error>
    where
        F: Future<Output = Result<SandboxReport, Error>> + Send + 'static,
    {
        let Some(node) = self.myself.upgrade() else {
            return Err(Error::internal("the node is ending"));
        };
        match self.making.lock().entry(id) {
            Entry::Occupied(_) => return Err(DriverError::Exists(id).into()),
            Entry::Vacant(entry) => entry.insert(None),
        };
        let work = work(Arc::clone(&node));
        let task = tokio::spawn(async move {
            let made = work.await;
            node.making.lock().remove(&id);
            node.made.notify_waiters();
            made
        });
        task.await
            .map_err(|e| Error::internal(format!("making the sandbox broke off: {e}")))?
    }

    /// Waits until this one is not being made.
    pub(crate) async fn until_made(&self, id: SandboxId) {
        loop {
            let made = self.made.notified();
            if !self.making.lock().contains_key(&id) {
                return;
            }
            made.await;
        }
    }

    pub(crate) fn start_actor(
        &self,
        shared: Arc<Shared>,
        driver: Arc<dyn Driver>,
        meta: Meta,
        image: Option<Hold>,
        mut doors: Doors,
        owed: Vec<Record>,
    ) -> Handle {
        if shared.history.read().state.is_ended() {
            doors.close();
        } else {
            doors.open(&self.myself, shared.id);
        }
        actor::start(Parts {
            doors,
            image,
            shared,
            driver,
            layout: self.layout.clone(),
            meta,
            reports: self.reports.clone(),
            budget: Arc::clone(&self.budget),
            way_out: self.way_out.clone(),
            owed,
        })
    }

    pub(crate) fn insert(&self, id: SandboxId, handle: Handle) {
        self.handles.write().insert(id, handle);
    }

    /// The record of one that is being made can be read from now on.
    pub(crate) fn begun(&self, shared: &Arc<Shared>) {
        let known = Some(Arc::clone(shared));
        self.making.lock().insert(shared.id, known);
    }

    /// It is gone from here; its record stays at hand for a while.
    pub(crate) fn remove(&self, id: SandboxId) {
        if let Some(handle) = self.handles.write().remove(&id) {
            self.budget.live.take_off(handle.shared.journal.size());
            self.budget.end(id, &self.layout.journal(id));
            self.keep_cold(handle.shared);
        }
    }

    /// Ends the record of one that has no actor: it is deleted, and with it what ran in it ended so.
    pub(crate) fn close_record(&self, id: SandboxId, end: &ExecEnd) -> Result<(), Error> {
        let shared = self.open_shared(id)?;
        let mut events = last_of_all(&shared, end);
        // A daemon that died right after this left only the rest to do.
        if shared.history.read().state != SandboxState::Deleted {
            events.push(Event::SandboxDeleted {});
        }
        let noted = note(&shared, &events);
        self.budget.live.take_off(shared.journal.size());
        noted.map_err(|error| actor::journal_error(&error))?;
        Meta::forget(&self.layout, id).map_err(Error::internal)?;
        self.budget.end(id, &self.layout.journal(id));
        self.reports.tell(shared.report());
        self.keep_cold(shared);
        Ok(())
    }

    /// Removes the journals of deleted sandboxes from the oldest on: those that end before this time, and what there is too much of. How many.
    pub(crate) fn remove_journals(&self, before: SystemTime) -> io::Result<u64> {
        let mut removed = 0;
        while let Some(id) = self.budget.next_to_remove(before) {
            self.forget_cold(id);
            match std::fs::remove_dir_all(self.layout.folder(id)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => removed += 1,
            }
        }
        Ok(removed)
    }

    pub(crate) fn handles(&self) -> Vec<Handle> {
        self.handles.read().values().cloned().collect()
    }

    /// The way to a sandbox that is not deleted.
    pub(crate) fn handle(&self, id: SandboxId) -> Result<Handle, Error> {
        self.must_not_be_aside(id)?;
        let handle = self.handles.read().get(&id).cloned();
        handle.ok_or_else(|| Error::not_found(format!("sandbox {id}")))
    }

    /// The record of a sandbox, deleted or not.
    pub(crate) async fn shared(&self, id: SandboxId) -> Result<Arc<Shared>, Error> {
        if let Some(shared) = self.at_hand(id) {
            return Ok(shared);
        }
        let path = self.layout.journal(id);
        let opened = tokio::task::spawn_blocking(move || Shared::read(id, &path))
            .await
            .map_err(Error::internal)?;
        let shared = opened.map_err(|e| match e {
            JournalError::Open { .. } => Error::not_found(format!("sandbox {id}")),
            other => actor::journal_error(&other),
        })?;
        self.keep_cold(Arc::clone(&shared));
        Ok(shared)
    }

    /// As [`Node::shared`], for somebody who reads the record of a sandbox that was here.
    pub(crate) async fn record(&self, id: SandboxId) -> Result<Arc<Shared>, Error> {
        self.shared(id).await.map_err(|error| match error.code {
            ErrorCode::NotFound => Error::new(
                ErrorCode::Gone,
                format!("there is no record of sandbox {id} any more"),
            )
            .with_hint(
                "records of deleted sandboxes go after a time, or when others need the room",
            ),
            _ => error,
        })
    }

    fn at_hand(&self, id: SandboxId) -> Option<Arc<Shared>> {
        if let Some(handle) = self.handles.read().get(&id) {
            return Some(Arc::clone(&handle.shared));
        }
        if let Some(Some(shared)) = self.making.lock().get(&id) {
            return Some(Arc::clone(shared));
        }
        let mut cold = self.cold.lock();
        let at = cold.iter().position(|s| s.id == id)?;
        let shared = cold.remove(at);
        cold.push(Arc::clone(&shared));
        Some(shared)
    }

    fn keep_cold(&self, shared: Arc<Shared>) {
        let mut cold = self.cold.lock();
        cold.retain(|s| s.id != shared.id);
        if cold.len() >= COLD_JOURNALS {
            cold.remove(0);
        }
        cold.push(shared);
    }

    pub(crate) fn forget_cold(&self, id: SandboxId) {
        self.cold.lock().retain(|s| s.id != id);
    }

    pub(crate) fn open_shared(&self, id: SandboxId) -> Result<Arc<Shared>, Error> {
        Shared::open(id, &self.layout.journal(id), &self.budget.live)
            .map_err(|e| actor::journal_error(&e))
    }

    /// Writes down that a sandbox was kept from reaching something, where its record has room. One that is gone by now is of no interest.
    pub fn note_egress_refused(&self, place: SandboxId, destination: String, reason: String) {
        let found = self
            .handles
            .read()
            .values()
            .find(|h| h.shared.place() == place)
            .cloned();
        let Some(handle) = found else { return };
        handle.mention(Event::EgressRefused {
            destination,
            reason,
        });
    }

    /// The driver of this name, or the default.
    pub(crate) fn driver(&self, name: Option<&str>) -> Result<Arc<dyn Driver>, Error> {
        let found = match name {
            None => self.drivers.first(),
            Some(name) => self
                .drivers
                .iter()
                .find(|d| d.capabilities().driver == name),
        };
        found.cloned().ok_or_else(|| {
            let known: Vec<&str> = self
                .drivers
                .iter()
                .map(|d| d.capabilities().driver.as_str())
                .collect();
            Error::new(
                ErrorCode::Unsupported,
                format!("this node has no driver `{}`", name.unwrap_or_default()),
            )
            .with_hint(format!("it has: {}", known.join(", ")))
        })
    }
}

fn patient(driver: Arc<dyn Driver>) -> Arc<dyn Driver> {
    Arc::new(Patient(driver))
}

/// Removes old journals whenever all of them take too much, as long as there is a node.
async fn keep_budget(node: Weak<Node>, mut exceeded: mpsc::Receiver<()>) {
    while exceeded.recv().await.is_some() {
        let Some(node) = node.upgrade() else { return };
        let removing = tokio::task::spawn_blocking(move || node.remove_journals(UNIX_EPOCH));
        match removing.await {
            Ok(Ok(removed)) => tracing::info!(removed, "old journals made room"),
            Ok(Err(error)) => tracing::error!(%error, "cannot remove old journals"),
            Err(error) => tracing::error!(%error, "removing old journals broke off"),
        }
    }
}

/// Ends everything in a journal whose sandbox ended while no daemon looked. Gives what could not be written.
fn close_books(shared: &Shared, state: SandboxState) -> Vec<Record> {
    use SandboxState as S;
    let end = match state {
        S::Stopping => ExecEnd::SandboxStopped,
        // It may have ended by itself before the sandbox did.
        _ => ExecEnd::NodeLost,
    };
    let mut events = last_of_all(shared, &end);
    events.push(match state {
        S::Stopping => Event::SandboxStopped {
            reason: FailureReason::SandboxStopped,
            total_duration_ms: 0,
        },
        S::Provisioning => Event::SandboxFailed {
            failure_reason: FailureReason::ProvisionFailed,
            message: "the node restarted while the sandbox was being made".to_owned(),
        },
        _ => Event::SandboxFailed {
            failure_reason: FailureReason::AgentLost,
            message: "the sandbox ended while the node was down".to_owned(),
        },
    });
    let Err(error) = note(shared, &events) else {
        return Vec::new();
    };
    tracing::error!(sandbox = %shared.id, %error, "the end is not in the journal yet");
    events.iter().map(Event::record).collect()
}

/// The ends of whatever is open on its record.
fn last_of_all(shared: &Shared, end: &ExecEnd) -> Vec<Event> {
    let history = shared.history.read();
    let execs = history.open_execs().map(|exec| {
        let seq = history.exec_seq(exec.id) + 1;
        Event::ended(exec.id, seq, end.clone(), Usage::default(), 0)
    });
    let open = history.sessions.iter().filter(|session| session.open);
    let sessions = open.map(|session| Event::SessionDestroyed {
        session_id: session.id,
    });
    execs.chain(sessions).collect()
}

/// Puts it on record; what is told of it is the same even if that fails.
fn note(shared: &Shared, events: &[Event]) -> Result<(), JournalError> {
    let records: Vec<_> = events.iter().map(Event::record).collect();
    let appended = shared.journal.append(&records);
    let at = appended
        .as_ref()
        .map_or_else(|_| Timestamp::now(), |appended| appended.at);
    let mut history = shared.history.write();
    for event in events {
        history.event(event, at);
    }
    appended.map(drop)
}
