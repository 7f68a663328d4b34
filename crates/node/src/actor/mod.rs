//! The actor of one sandbox: all that happens to it passes through here, in order.

mod again;
mod back;
mod command;
mod dials;
mod egress;
mod execs;
mod life;
mod requests;
mod sessions;
mod still;
mod wire;

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use parking_lot::RwLock;
use skerry_driver::{Driver, DriverError};
use skerry_image::Hold;
use skerry_journal::{Journal, JournalError, Meter, Record};
use skerry_proto::agent::{FromAgent, to_agent::Body as To};
use skerry_proto::node::SandboxReport;
use skerry_types::{Error, ErrorCode, ExecId, SandboxId, SandboxState, SessionId};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, timeout};

pub(crate) use command::{Command, Reply};
pub(crate) use dials::DialSink;
pub(crate) use requests::{Incoming, RequestSink};
pub(crate) use still::Taken;
use still::silent;

use crate::budget::Budget;
use crate::event::Event;
use crate::gate::WayOut;
use crate::history::History;
use crate::layout::Layout;
use crate::link::{Link, LinkEvent};
use crate::meta::Meta;
use crate::publish::Doors;
use crate::reports::Reports;
use dials::Line;
use execs::LiveExec;
use requests::Open;
use sessions::Opening;

/// Commands waiting for one actor.
const MAILBOX: usize = 64;
/// Pieces of data waiting for one actor.
const BULK: usize = 16;
/// For an answer of an agent that is well; before it, something may be done to the sandbox as a whole.
const ANSWER: Duration = Duration::from_mins(1);
/// How long after a failed write the journal is tried again.
const STALL_RETRY: Duration = Duration::from_millis(200);

/// What everybody may know of a sandbox without asking its actor.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) id: SandboxId,
    pub(crate) journal: Arc<Journal>,
    pub(crate) history: RwLock<History>,
    pub(crate) last_active: RwLock<Timestamp>,
    /// An exec has got its process.
    pub(crate) started: Notify,
    /// The actor's place, for others to see: its own id, that of the one that stood ready and became it, or one given when it was rolled back.
    place: RwLock<SandboxId>,
}

impl Shared {
    /// Of a sandbox with an actor.
    pub(crate) fn open(
        id: SandboxId,
        path: &Path,
        meter: &Meter,
    ) -> Result<Arc<Self>, JournalError> {
        Self::over(id, Journal::open(path, meter)?)
    }

    /// Of one that is gone.
    pub(crate) fn read(id: SandboxId, path: &Path) -> Result<Arc<Self>, JournalError> {
        Self::over(id, Journal::open_ended(path)?)
    }

    fn over(id: SandboxId, journal: Arc<Journal>) -> Result<Arc<Self>, JournalError> {
        let history = History::read(&journal)?;
        Ok(Arc::new(Self {
            id,
            journal,
            last_active: RwLock::new(history.ended_at.unwrap_or_else(Timestamp::now)),
            history: RwLock::new(history),
            started: Notify::new(),
            place: RwLock::new(id),
        }))
    }

    pub(crate) fn place(&self) -> SandboxId {
        *self.place.read()
    }

    pub(crate) fn report(&self) -> SandboxReport {
        let history = self.history.read();
        SandboxReport {
            id: self.id,
            state: history.state,
            reason: history.reason,
            message: history.message.clone(),
            facts: history.facts.clone(),
            started_at: history.started_at,
            ended_at: history.ended_at,
            last_active_at: if history.state == SandboxState::Running && history.is_working() {
                Timestamp::now()
            } else {
                *self.last_active.read()
            },
            boot_us: history.boot_us,
        }
    }
}

/// The way to an actor.
#[derive(Debug, Clone)]
pub(crate) struct Handle {
    pub(crate) shared: Arc<Shared>,
    pub(crate) driver: Arc<dyn Driver>,
    /// Who owns what is written, unless the request says.
    user: Arc<str>,
    mailbox: mpsc::Sender<Command>,
    bulk: mpsc::Sender<To>,
}

impl Handle {
    /// The user asked for, or the one that commands run as.
    pub(crate) fn user(&self, asked: Option<&str>) -> String {
        asked.unwrap_or(&self.user).to_owned()
    }

    /// Hands over a command and waits for its answer.
    pub(crate) async fn ask<T>(
        &self,
        command: impl FnOnce(Reply<T>) -> Command,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let gone = |_| Error::not_found(format!("sandbox {}", self.shared.id));
        self.mailbox
            .send(command(reply))
            .await
            .map_err(|e| gone(e.to_string()))?;
        answer.await.map_err(|e| gone(e.to_string()))?
    }

    /// The same for what the agent answers at once, unless it is not well.
    pub(crate) async fn ask_soon<T>(
        &self,
        command: impl FnOnce(Reply<T>) -> Command,
    ) -> Result<T, Error> {
        let answer = timeout(ANSWER, self.ask(command)).await;
        answer.unwrap_or_else(|_| Err(silent(ANSWER)))
    }

    /// Hands over what may be lost where much waits.
    pub(crate) fn mention(&self, event: Event) {
        drop(self.mailbox.try_send(Command::Mention(event)));
    }

    /// Hands over a command that has no answer.
    pub(crate) async fn tell(&self, command: Command) {
        // An actor that is gone has nothing left to be told.
        drop(self.mailbox.send(command).await);
    }

    /// Hands over data of a request, or credit for it, for which nothing else waits.
    pub(crate) async fn send(&self, body: To) {
        drop(self.bulk.send(body).await);
    }

    /// Hands over a command that has no answer, without waiting; `false` if the mailbox is full.
    pub(crate) fn try_tell(&self, command: Command) -> bool {
        self.mailbox.try_send(command).is_ok()
    }
}

/// What an actor is made of.
pub(crate) struct Parts {
    pub(crate) shared: Arc<Shared>,
    pub(crate) driver: Arc<dyn Driver>,
    pub(crate) layout: Layout,
    pub(crate) meta: Meta,
    pub(crate) reports: Reports,
    pub(crate) budget: Arc<Budget>,
    pub(crate) way_out: WayOut,
    pub(crate) image: Option<Hold>,
    pub(crate) doors: Doors,
    /// What could not be written of its end.
    pub(crate) owed: Vec<Record>,
}

/// See the module.
struct Actor {
    shared: Arc<Shared>,
    driver: Arc<dyn Driver>,
    layout: Layout,
    meta: Meta,
    reports: Reports,
    budget: Arc<Budget>,
    way_out: WayOut,
    /// Its layers stay as long as the sandbox is not deleted.
    _image: Option<Hold>,
    /// Its ports that are reached at ports of this machine, until it ends.
    doors: Doors,
    mailbox: mpsc::Receiver<Command>,
    /// Data of requests: much of it makes no command wait.
    bulk: mpsc::Receiver<To>,
    link: Link,
    /// It has processes, as far as was seen.
    is_live: bool,
    /// Resolves when they are gone; never, once that was seen.
    gone: BoxFuture<'static, Result<(), DriverError>>,
    /// When a stop that was asked for becomes a kill.
    kill_at: Option<Instant>,
    live: HashMap<ExecId, LiveExec>,
    opening: HashMap<SessionId, Opening>,
    requests: HashMap<u64, Open>,
    dials: HashMap<u64, Line>,
    next_request: u64,
    /// What waits for a link.
    waiting: VecDeque<Command>,
    /// Messages that came while the journal could not be written; not much more is read until they are through.
    backlog: VecDeque<FromAgent>,
    /// What was taken in and is not in the journal yet.
    owed: Vec<Record>,
    /// Kills for lack of memory that were already blamed on an exec, or on nobody.
    oom_seen: u64,
    /// The kills before the exec that was just started, while they are counted; else never ready.
    oom_kills: BoxFuture<'static, Option<u64>>,
    /// Its processes stand still because it was asked to have them.
    is_holding: bool,
}

/// Starts an actor for a sandbox that runs.
pub(crate) fn start(parts: Parts) -> Handle {
    let (sender, mailbox) = mpsc::channel(MAILBOX);
    let (data, bulk) = mpsc::channel(BULK);
    let handle = Handle {
        shared: Arc::clone(&parts.shared),
        driver: Arc::clone(&parts.driver),
        user: parts.meta.user.as_str().into(),
        mailbox: sender,
        bulk: data,
    };
    let place = parts.meta.spec.id;
    *parts.shared.place.write() = place;
    let is_live = !parts.shared.history.read().state.is_ended();
    let actor = Actor {
        link: Link::new(Arc::clone(&parts.driver), place, parts.meta.names.clone()),
        gone: if is_live {
            gone(&parts.driver, place)
        } else {
            futures::future::pending().boxed()
        },
        is_live,
        shared: parts.shared,
        driver: parts.driver,
        layout: parts.layout,
        meta: parts.meta,
        reports: parts.reports,
        budget: parts.budget,
        way_out: parts.way_out,
        _image: parts.image,
        doors: parts.doors,
        mailbox,
        bulk,
        kill_at: None,
        live: HashMap::new(),
        opening: HashMap::new(),
        requests: HashMap::new(),
        dials: HashMap::new(),
        next_request: 1,
        waiting: VecDeque::new(),
        backlog: VecDeque::new(),
        owed: parts.owed,
        oom_seen: 0,
        oom_kills: futures::future::pending().boxed(),
        is_holding: false,
    };
    tokio::spawn(actor.run());
    handle
}

impl Actor {
    async fn run(mut self) {
        if self.is_live {
            self.finish_roll_back();
            self.take_up_open_execs();
        }
        loop {
            if let Some(command) = self.next_waiting() {
                if self.command(command).await.is_break() {
                    return self.pay_later();
                }
                continue;
            }
            let stalled = !(self.backlog.is_empty() && self.owed.is_empty());
            let may_read = self.may_read();
            let (is_live, kill_at) = (self.is_live, self.kill_at);
            tokio::select! {
                command = self.mailbox.recv() => {
                    let Some(command) = command else { return };
                    if self.command(command).await.is_break() {
                        return self.pay_later();
                    }
                }
                Some(body) = self.bulk.recv(), if self.link.has_room_for_bulk() => self.on_bulk(body),
                event = self.link.next(may_read), if is_live => self.on_link(event).await,
                result = &mut self.gone, if is_live => self.on_gone(result).await,
                kills = &mut self.oom_kills => self.note_oom_kills(kills),
                () = at(kill_at), if is_live => self.kill().await,
                () = tokio::time::sleep(STALL_RETRY), if stalled => {
                    if self.pay().is_ok() {
                        self.work_off_backlog().await;
                    }
                }
            }
        }
    }

    async fn on_link(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Up => self.attach(),
            LinkEvent::Down(why) => {
                tracing::debug!(sandbox = %self.shared.id, why, "agent link down");
                self.drop_requests();
            }
            LinkEvent::Messages(messages) => {
                self.take_in(messages);
                self.work_off_backlog().await;
            }
        }
    }

    /// What its driver calls it.
    fn place(&self) -> SandboxId {
        self.meta.spec.id
    }

    fn state(&self) -> SandboxState {
        self.shared.history.read().state
    }

    fn must_run(&self) -> Result<(), Error> {
        match self.state() {
            SandboxState::Running => Ok(()),
            state => Err(not_running(self.shared.id, state)),
        }
    }

    /// Writes what happened while nothing could be written.
    fn pay(&mut self) -> Result<(), JournalError> {
        if !self.owed.is_empty() {
            self.shared.journal.append(&self.owed)?;
            self.owed.clear();
        }
        Ok(())
    }

    /// It is deleted. Whoever reads its record is still told how it ended, once that can be written: until then the next daemon knows
    /// that this is left to do.
    fn pay_later(self) {
        let (shared, owed, layout) = (self.shared, self.owed, self.layout);
        if !owed.is_empty() {
            tokio::spawn(async move {
                while shared.journal.append(&owed).is_err() {
                    tokio::time::sleep(STALL_RETRY).await;
                }
                forget(&layout, shared.id);
            });
        }
    }

    /// Writes an event and takes it in.
    fn note(&mut self, event: &Event) -> Result<(), JournalError> {
        self.pay()?;
        // Held over both: who reads of an end in the journal finds it in the history as well.
        let mut history = self.shared.history.write();
        let appended = self.shared.journal.append(&[event.record()])?;
        history.event(event, appended.at);
        Ok(())
    }

    /// Writes several events, all or none, and takes them in.
    fn note_all(&mut self, events: &[Event]) -> Result<(), JournalError> {
        self.pay()?;
        let records: Vec<_> = events.iter().map(Event::record).collect();
        let mut history = self.shared.history.write();
        let appended = self.shared.journal.append(&records)?;
        for event in events {
            history.event(event, appended.at);
        }
        Ok(())
    }

    /// The same for an event that must be taken in whatever the disk does: it is written as soon as that can be.
    fn note_anyway(&mut self, event: &Event) {
        if let Err(error) = self.note(event) {
            tracing::error!(sandbox = %self.shared.id, %error, ?event, "event is not in the journal yet");
            self.shared.history.write().event(event, Timestamp::now());
            self.owed.push(event.record());
        }
    }

    /// Notes it where the record has room.
    fn mention(&mut self, event: &Event) {
        let room = self.budget.check_share(self.shared.journal.size());
        if self.is_record_full() || room.is_err() {
            return;
        }
        if let Err(error) = self.note(event) {
            tracing::debug!(sandbox = %self.shared.id, %error, "event is not in the journal");
        }
    }

    fn report(&self) -> SandboxReport {
        let report = self.shared.report();
        self.reports.tell(report.clone());
        report
    }

    fn touch(&self) {
        *self.shared.last_active.write() = Timestamp::now();
    }
}

/// The env values of one that is deleted go with it.
fn forget(layout: &Layout, id: SandboxId) {
    if let Err(error) = Meta::forget(layout, id) {
        tracing::error!(sandbox = %id, %error, "its env values stay");
    }
}

/// The answer to work for a sandbox that cannot take it.
pub(crate) fn not_running(id: SandboxId, state: SandboxState) -> Error {
    Error::new(
        ErrorCode::SandboxNotRunning,
        format!("sandbox {id} is {state}, not running"),
    )
}

/// A journal that cannot be written, as the caller should see it.
pub(crate) fn journal_error(error: &JournalError) -> Error {
    if error.is_disk_full() {
        Error::new(
            ErrorCode::DiskFull,
            "the node's disk is full: the record of this could not be written, so it was not done",
        )
        .with_hint("free space in the data folder, or delete sandboxes")
    } else if matches!(error, JournalError::TooLarge) {
        Error::new(
            ErrorCode::TooLarge,
            "it is too large to be put on record, so it was not done",
        )
        .with_hint("put what is long into a file, and name that")
    } else {
        Error::internal(error)
    }
}

/// Resolves when the processes of this place are gone.
fn gone(driver: &Arc<dyn Driver>, place: SandboxId) -> BoxFuture<'static, Result<(), DriverError>> {
    let driver = Arc::clone(driver);
    async move { driver.wait(place).await }.boxed()
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}
