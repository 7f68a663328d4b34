//! Starting again: what has ended runs once more, in a new place that has its files.

use std::sync::Weak;
use std::time::Instant;

use skerry_proto::node::SandboxReport;
use skerry_types::state::{Action, next};
use skerry_types::{Error, SandboxId, SandboxState};

use super::{Actor, journal_error};
use crate::event::Event;
use crate::made::{in_time, ready};
use crate::meta::Meta;
use crate::names::Names;
use crate::node::Node;
use crate::publish::Doors;

impl Actor {
    /// Lets one that has ended run again. On error it is as it was.
    pub(super) async fn start_again(
        &mut self,
        mut doors: Doors,
        node: &Weak<Node>,
    ) -> Result<SandboxReport, Error> {
        if self.state() == SandboxState::Running {
            return Ok(self.shared.report());
        }
        self.can_start()?;
        let meta = self.meta_elsewhere(&doors);
        let ready = match self.enter_again(&meta).await {
            Ok(ready) => ready,
            Err(error) => {
                self.leave(meta.spec.id).await;
                let message = error.message.clone();
                self.note_anyway(&Event::SandboxStartFailed { message });
                return Err(error);
            }
        };
        let left = self.move_to(meta);
        let noted = self.note_all(&[Event::SandboxStarted {}, ready]);
        self.leave(left).await;
        if let Err(error) = noted {
            self.kill().await;
            return Err(journal_error(&error));
        }
        self.is_live = true;
        doors.open(node, self.shared.id);
        self.doors = doors;
        self.touch();
        Ok(self.report())
    }

    /// Makes its files in a new place, from which it reaches what it may reach. Once this is done they are there, whatever happens next.
    async fn enter_again(&mut self, meta: &Meta) -> Result<Event, Error> {
        let began = Instant::now();
        self.way_out.rule(meta).await?;
        let forked = in_time(self.driver.fork(self.place(), &meta.spec)).await?;
        let ready = ready(began, &forked, meta, false);
        self.save(meta)?;
        Ok(ready)
    }

    fn can_start(&self) -> Result<(), Error> {
        next(self.state(), Action::Start)?;
        if self.shared.history.read().started_at.is_none() {
            return Err(Error::conflict("it never ran, so it has no files"));
        }
        if self.is_record_full() {
            let text = "its record is full, so nothing more can happen in it";
            return Err(Error::conflict(text));
        }
        let capabilities = self.driver.capabilities();
        if capabilities.file_fork {
            Ok(())
        } else {
            Err(capabilities.unsupported("start a sandbox again").into())
        }
    }

    fn meta_elsewhere(&self, doors: &Doors) -> Meta {
        let mut meta = self.meta.clone();
        meta.spec.id = SandboxId::new();
        meta.names = Names::default();
        meta.published = doors.published();
        meta
    }
}
