//! The agent: what it knows, and who does what with each message.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use skerry_proto::agent::from_agent::Body as From;
use skerry_proto::agent::to_agent::Body as To;
use skerry_proto::agent::{AgentHello, Call, Dial, GENERATION, Request};
use skerry_types::limits::KILL_GRACE_MS;
use tokio::sync::Notify;

use crate::dials::Dials;
use crate::exec::Execs;
use crate::files::Files;
use crate::outbox::Outbox;
use crate::privilege::Level;
use crate::reap::Reaper;
use crate::session::Sessions;

/// Everything there is, for the life of the process. All of it lives on one thread.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) level: Level,
    pub(crate) outbox: Rc<Outbox>,
    pub(crate) reaper: Rc<Reaper>,
    pub(crate) execs: Execs,
    pub(crate) sessions: Sessions,
    pub(crate) files: Rc<Files>,
    dials: Rc<Dials>,
    stop: Notify,
    kill_grace: Cell<Duration>,
}

impl Agent {
    pub(crate) fn new(level: Level) -> Rc<Self> {
        let outbox: Rc<Outbox> = Rc::default();
        Rc::new(Self {
            level,
            files: Files::new(outbox.clone()),
            dials: Dials::new(outbox.clone()),
            outbox,
            reaper: Rc::default(),
            execs: Execs::default(),
            sessions: Sessions::default(),
            stop: Notify::new(),
            kill_grace: Cell::new(Duration::from_millis(KILL_GRACE_MS)),
        })
    }

    /// A new link stands.
    pub(crate) fn linked(&self) {
        self.outbox.open();
        self.execs.detach_all();
        self.outbox.send(From::Hello(AgentHello {
            generation: GENERATION,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            sessions: self.sessions.ids(),
        }));
    }

    /// The link is gone; what runs, runs on.
    pub(crate) fn unlinked(&self) {
        self.execs.detach_all();
        self.files.cancel_all();
        self.dials.cancel_all();
        self.outbox.close();
    }

    /// Does what one message says. False if no node may say so: the link cannot go on.
    pub(crate) fn handle(self: &Rc<Self>, message: To) -> bool {
        match message {
            // Nothing depends on the node's generation yet.
            To::Hello(_) => {}
            To::ExecStart(start) => self.execs.start(self, &start),
            To::ExecAttach(attach) => self.execs.attach(&self.outbox, attach),
            To::ExecAck(ack) => self.execs.acknowledge(&ack),
            To::ExecStdin(input) => self.execs.stdin(input),
            To::ExecResize(resize) => self.execs.resize(&resize),
            To::SessionOpen(open) => self.sessions.open(self, &open),
            To::SessionClose(close) => self.sessions.close(self, &close),
            To::Request(Request {
                id,
                call: Some(Call::Signal(signal)),
            }) => self.files.answer(id, self.execs.signal(&signal)),
            To::Request(Request {
                id,
                call: Some(Call::Dial(Dial { port })),
            }) => self.dials.dial(id, port),
            To::Request(request) => self.files.request(request),
            To::Data(data) if self.dials.has(data.id) => return self.dials.data(data),
            To::Data(data) => return self.files.data(data),
            To::Credit(credit) if self.dials.has(credit.id) => {
                self.dials.credit(credit.id, credit.bytes);
            }
            To::Credit(credit) => self.files.credit(credit.id, credit.bytes),
            To::Cancel(cancel) => {
                self.files.cancel(cancel.id);
                self.dials.cancel(cancel.id);
            }
            To::Shutdown(shutdown) => self.stop(Duration::from_millis(shutdown.kill_grace_ms)),
        }
        true
    }

    /// Ends everything, soon.
    pub(crate) fn stop(&self, kill_grace: Duration) {
        self.kill_grace.set(kill_grace);
        self.stop.notify_one();
    }

    /// Until somebody wants the end; how much time there is from TERM to KILL.
    pub(crate) async fn stopped(&self) -> Duration {
        self.stop.notified().await;
        self.kill_grace.get()
    }
}
