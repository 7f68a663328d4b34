//! Making a sandbox that has its place: on the node, within a time, and with nothing left when it fails.

use std::time::Duration;

use jiff::SignedDuration;
use skerry_proto::node::{CreateSandbox, ForkSandbox, Map, Mount, SandboxReport};
use skerry_store::{Change, Sandbox as Row};
use skerry_types::{Action, Error, ErrorCode, FailureReason, Result, SandboxId, SandboxState};
use tokio::task::JoinHandle;

use crate::live::Making;
use crate::{Control, Member, NodeFacts, Wish};

/// How long a create that was called off may take to come to its end before nobody waits for it any more.
const CALLED_OFF: SignedDuration = SignedDuration::from_secs(5);

/// How a sandbox is made.
pub(crate) enum Recipe {
    /// From its image, with this environment.
    New(Map),
    /// From its parent.
    Fork(ForkSandbox),
    /// From the files that it had when it ended.
    Again,
}

impl Control {
    /// Marks a sandbox as being made here. To be done before anyone else can see it placed.
    pub(crate) fn begin_making(&self, id: SandboxId) -> Making {
        let making = Making::default();
        self.0
            .live
            .with(id, |entry| entry.making = Some(making.clone()));
        making
    }

    /// Makes a sandbox that has its place; its row says how it went.
    pub(crate) async fn make(&self, row: Row, recipe: Recipe, making: Making) -> Result<Row> {
        let outcome = match self.member_of(&row) {
            Ok(member) => match self.ask(&member, &row, recipe, &making).await {
                Ok(report) => self.made(&member, &row, &report).await,
                Err(error) => self.not_made(&row, error, &making).await,
            },
            Err(error) => self.not_made(&row, error, &making).await,
        };
        self.end_making(&row, &making).await;
        outcome
    }

    /// Does not even begin to make it; its row says why.
    pub(crate) async fn give_up(&self, row: Row, error: Error, making: Making) -> Result<Row> {
        let outcome = self.not_made(&row, error, &making).await;
        self.end_making(&row, &making).await;
        outcome
    }

    async fn end_making(&self, row: &Row, making: &Making) {
        let missed = self.0.live.with(row.id, |entry| {
            entry.making = None;
            std::mem::take(&mut entry.missed)
        });
        making.done.cancel();
        if missed == Some(true) {
            self.look_again(row).await;
        }
        self.0.wake.notify_one();
    }

    /// Hears from the node what it told while nobody listened.
    async fn look_again(&self, row: &Row) {
        let seen = async {
            self.apply(&self.member_of(row)?.handle.get(row.id).await?)
                .await
        };
        if let Err(error) = seen.await {
            tracing::warn!(id = %row.id, %error, "a change could not be followed; the next comparison will");
        }
    }

    /// The node that a sandbox is placed on.
    pub(crate) fn member_of(&self, row: &Row) -> Result<Member> {
        row.node_id
            .and_then(|id| self.0.nodes.get(id))
            .cloned()
            .ok_or_else(|| {
                Error::new(
                    ErrorCode::NodeUnreachable,
                    "the node of this sandbox is not known here",
                )
            })
    }

    /// Asks the node, and takes everything away again if that does not end well.
    async fn ask(
        &self,
        member: &Member,
        row: &Row,
        recipe: Recipe,
        making: &Making,
    ) -> Result<SandboxReport> {
        if making.cancel.is_cancelled() {
            return Err(called_off());
        }
        let id = row.id;
        let patience = self.0.settings.provision_timeout;
        let deadline = self.now() + signed(patience);
        let mut work = match recipe {
            Recipe::New(env) => {
                let request = order(&member.facts, row, env)?;
                let node = member.handle.clone();
                tokio::spawn(async move { node.create(request).await })
            }
            Recipe::Fork(request) => {
                let node = member.handle.clone();
                tokio::spawn(async move { node.fork(request).await })
            }
            Recipe::Again => {
                let node = member.handle.clone();
                tokio::spawn(async move { node.start(id).await })
            }
        };
        let error = tokio::select! {
            made = &mut work => match finished(made) {
                Ok(report) if !making.cancel.is_cancelled() => return Ok(report),
                Ok(_) => called_off(),
                Err(error) => error,
            },
            () = making.cancel.cancelled() => called_off(),
            () = self.0.settings.clock.sleep_until(deadline) => Error::internal(format!(
                "making it took longer than {} s", patience.as_secs()
            )),
        };
        self.clear_away(member, row).await;
        self.await_called_off(member, row, work).await;
        Err(error)
    }

    /// A node may finish a create although it was told to delete it: then it is deleted again.
    async fn await_called_off(
        &self,
        member: &Member,
        row: &Row,
        mut work: JoinHandle<Result<SandboxReport>>,
    ) {
        if work.is_finished() {
            return;
        }
        let until = self.now() + CALLED_OFF;
        tokio::select! {
            made = &mut work => if finished(made).is_ok() {
                self.clear_away(member, row).await;
            },
            // Whatever comes out later has no running row and is swept away as an orphan.
            () = self.0.settings.clock.sleep_until(until) => {}
        }
    }

    async fn clear_away(&self, member: &Member, row: &Row) {
        if let Err(error) = end_on(member, row).await {
            tracing::warn!(id = %row.id, %error, "what is left of a sandbox could not be removed yet");
        }
    }

    async fn made(&self, member: &Member, row: &Row, report: &SandboxReport) -> Result<Row> {
        if let Some(row) = self.apply(report).await? {
            return Ok(row);
        }
        self.clear_away(member, row).await;
        Err(called_off())
    }

    /// Puts the failure on record, unless whoever called it off will put there what comes next.
    async fn not_made(&self, row: &Row, error: Error, making: &Making) -> Result<Row> {
        if making.cancel.is_cancelled() {
            return Err(called_off());
        }
        tracing::warn!(id = %row.id, %error, "a sandbox could not be made");
        if row.started_at.is_some() {
            self.not_started(row).await?;
            return Err(error);
        }
        let change = Change {
            reason: Some(FailureReason::ProvisionFailed),
            message: Some(error.message.clone()),
            ..Change::default()
        };
        let tenant = row.tenant();
        self.act(&tenant, row.id, Action::Fail, &change).await?;
        Err(error)
    }

    /// One that could not be started again is what its node says, which is as it had ended before; `stopped` if that cannot be asked.
    async fn not_started(&self, row: &Row) -> Result<()> {
        self.look_again(row).await;
        match self.0.live.row(row.id) {
            Some(now) if now.state == SandboxState::Provisioning => {
                let change = Change::default();
                self.act_from(&now, Action::Ended, &change).await.map(drop)
            }
            _ => Ok(()),
        }
    }
}

/// Takes from its node one that should not be there; what has run before only stops, since its files are still somebody's.
pub(crate) async fn end_on(member: &Member, row: &Row) -> Result<()> {
    if row.started_at.is_some() {
        member.handle.stop(row.id, None).await.map(drop)
    } else {
        member.handle.delete(row.id).await
    }
}

fn finished(made: Result<Result<SandboxReport>, tokio::task::JoinError>) -> Result<SandboxReport> {
    made.unwrap_or_else(|_| Err(Error::internal("making it broke off")))
}

fn called_off() -> Error {
    Error::conflict("the sandbox was deleted while it was being made")
}

/// A setting's length of time.
pub(crate) fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX / 4)
}

/// What the node needs to make this sandbox from its image. What was wished is refused rather than weakened if the node has it no more.
fn order(node: &NodeFacts, row: &Row, env: Map) -> Result<CreateSandbox> {
    let wish = Wish::of(row);
    let offer = node.offer(&wish).ok_or_else(|| {
        Error::unsupported("its node no longer offers the driver or isolation that it asked for")
    })?;
    Ok(CreateSandbox {
        id: row.id,
        image: row.image.clone(),
        resources: row.resources,
        env,
        privilege: row.wanted.privilege.map(|p| p.as_str().to_owned()),
        network: row.network.as_str().to_owned(),
        egress: row.egress.clone(),
        driver: (!wish.is_open()).then(|| offer.driver.clone()),
        name: row.name.clone(),
        auto_resume: row.auto_resume,
        snapshot: row.image.parse().ok(),
        ports: row.ports.clone(),
        volumes: (row.volumes.iter())
            .map(|mounted| Mount {
                volume: mounted.volume,
                path: mounted.path.clone(),
            })
            .collect(),
    })
}
