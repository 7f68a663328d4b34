//! Standing still: while something is done to the sandbox as a whole, nothing in it runs but its agent, and nothing else is asked of it.

use std::future::ready;
use std::time::Duration;

use futures::FutureExt;
use skerry_driver::{DriverError, Extent, Snapshot};
use skerry_proto::agent::{Call, Hold, Release, Renew};
use skerry_types::{Error, SandboxState, SnapshotId};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::{Actor, Incoming};
use crate::event::{BootStep, Event};
use crate::history::History;
use crate::meta::Meta;
use crate::transfer::unwrap;

/// For the agent to stop everybody, or to let them go on.
const PATIENCE: Duration = Duration::from_secs(15);

/// An end may be seen this long after what it made fail.
const SIGN_OF_DEATH: Duration = Duration::from_millis(250);

/// A snapshot, and where in its record the sandbox was then.
#[derive(Debug)]
pub(crate) struct Taken {
    /// As the driver made it; `held` is what the sandbox's processes missed.
    pub(crate) snapshot: Snapshot,
    /// The last event that it has.
    pub(crate) at_seq: u64,
    /// Execs and sessions that go on in whatever is made from it.
    pub(crate) open: Vec<Event>,
    /// What the sandbox was then.
    pub(crate) meta: Meta,
}

impl Actor {
    pub(super) async fn take_snapshot(
        &mut self,
        id: SnapshotId,
        extent: Extent,
    ) -> Result<Taken, Error> {
        self.must_run()?;
        let began = Instant::now();
        let has_memory = extent == Extent::Memory;
        if has_memory {
            self.hold().await?;
        }
        // From here until it is taken the link is not read: the copy must not have heard of more than this.
        let (at_seq, open) = {
            let history = self.shared.history.read();
            let open = if has_memory {
                open(&history)
            } else {
                Vec::new()
            };
            (self.shared.journal.last_seq(), open)
        };
        let taken = self.driver.take_snapshot(self.place(), id, extent).await;
        if has_memory {
            self.release(None).await?;
        }
        let held = began.elapsed();
        let mut snapshot = taken?.await?;
        if has_memory {
            snapshot.held = held;
        }
        let event = Event::SandboxSnapshot {
            snapshot_id: id,
            memory: has_memory,
            held_us: snapshot.held.as_micros() as u64,
            steps: snapshot.steps.iter().map(BootStep::from).collect(),
        };
        self.note_anyway(&event);
        Ok(Taken {
            snapshot,
            at_seq,
            open,
            meta: self.meta.clone(),
        })
    }

    /// Has the agent stop everybody. On error they go on.
    pub(super) async fn hold(&mut self) -> Result<(), Error> {
        self.is_holding = true;
        let held = self.ask_agent(Call::Hold(Hold {})).await;
        if held.is_err() {
            self.let_go();
        }
        held
    }

    /// Has the agent let them go on, with this made new before. Whatever goes wrong, it is told to again when its link is next up.
    pub(super) async fn release(&mut self, renew: Option<Renew>) -> Result<(), Error> {
        let released = self.ask_agent(Call::Release(Release { renew })).await;
        self.is_holding = false;
        if released.is_err() {
            drop(
                self.link
                    .reset("the agent does not let its processes go on"),
            );
            self.drop_requests();
        }
        released
    }

    /// The same, and nobody waits for the answer.
    pub(super) fn let_go(&mut self) {
        self.is_holding = false;
        let (nobody, _) = mpsc::channel(1);
        self.send_request(Call::Release(Release { renew: None }), nobody);
    }

    /// On a new link: a daemon that died may have left its processes held, or an answer may have been lost.
    pub(super) fn let_go_if_held(&mut self) {
        let capabilities = self.driver.capabilities();
        let can_be_held = capabilities.memory_snapshot || capabilities.pause_to_disk;
        if can_be_held && !self.is_holding && self.state() == SandboxState::Running {
            self.let_go();
        }
    }

    /// Asks the agent for something that may be asked again, on as many links as it takes, and serves the link meanwhile.
    pub(super) async fn ask_agent(&mut self, call: Call) -> Result<(), Error> {
        let until = Instant::now() + PATIENCE;
        loop {
            self.until_linked(until).await?;
            let (sink, mut answers) = mpsc::channel(1);
            let request = self.send_request(call.clone(), sink);
            // A link that broke took the answer with it.
            while self.link.is_up() {
                let may_read = self.may_read();
                tokio::select! {
                    answer = answers.recv() => match answer {
                        Some(Incoming::Response(response)) => {
                            self.requests.remove(&request);
                            return unwrap(response).map(drop);
                        }
                        Some(_) => {}
                        None => break,
                    },
                    event = self.link.next(may_read) => self.on_link(event).await,
                    gone = &mut self.gone => return Err(self.died(gone)),
                    () = sleep_until(until) => return Err(silent(PATIENCE)),
                }
            }
        }
    }

    async fn until_linked(&mut self, until: Instant) -> Result<(), Error> {
        while !self.link.is_up() {
            tokio::select! {
                event = self.link.next(true) => self.on_link(event).await,
                gone = &mut self.gone => return Err(self.died(gone)),
                () = sleep_until(until) => return Err(silent(PATIENCE)),
            }
        }
        Ok(())
    }

    /// Why the driver could not do it: where the sandbox has just died, that.
    pub(super) async fn or_died(&mut self, error: DriverError) -> Error {
        match timeout(SIGN_OF_DEATH, &mut self.gone).await {
            Ok(gone) => self.died(gone),
            Err(_) => error.into(),
        }
    }

    /// Its end was seen while something was done to it. What becomes of it is for `on_gone`, which sees it again.
    fn died(&mut self, gone: Result<(), DriverError>) -> Error {
        self.gone = ready(gone).boxed();
        DriverError::NotRunning(self.shared.id).into()
    }
}

pub(super) fn silent(patience: Duration) -> Error {
    Error::internal(format!(
        "the sandbox's agent did not answer within {} s",
        patience.as_secs()
    ))
}

/// What is open, as the beginning of another record.
fn open(history: &History) -> Vec<Event> {
    let sessions = history.sessions.iter().filter(|s| s.open);
    let sessions = sessions.map(|s| Event::SessionCreated {
        session_id: s.id,
        shell: s.shell.clone(),
    });
    let execs = history
        .open_execs()
        .zip(1..)
        .map(|(exec, number)| Event::ExecStarted {
            exec_id: exec.id,
            number,
            cmd: exec.command.clone(),
            cwd: exec.cwd.clone(),
            user: exec.user.clone(),
            env_names: Vec::new(),
            session_id: exec.session,
            tty: exec.tty,
            timeout_ms: exec.timeout.map(|t| t.as_millis() as u64),
            after_seq: exec.last_seq,
            tag: exec.tag.clone(),
        });
    sessions.chain(execs).collect()
}
