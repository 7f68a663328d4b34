//! Forking a running sandbox: children on the same node, within the same limits. Several at once are made from one instant of their parent.

use futures::future::join_all;
use skerry_proto::node::{ForkSandbox, Map, SnapshotReport};
use skerry_store::{NewFork, Sandbox as Row, Tenant};
use skerry_types::{Error, Result, SandboxId, SandboxState, SnapshotId, limits};
use tokio::sync::Semaphore;

use crate::live::Making;
use crate::make::Recipe;
use crate::rate::Kind;
use crate::validate;
use crate::{Attempt, Caller, Control, ForkRequest, Sandbox};

/// Children of one request that are made at the same time; more would only slow each other down.
const AT_ONCE: usize = 4;

/// Children of one instant, each with how it went.
#[derive(Debug)]
pub struct Forks {
    /// They have their parent's memory and processes.
    pub memory: bool,
    /// For how long the parent stood still, in microseconds; `None`: nobody knows any more.
    pub held_us: Option<u64>,
    /// In the order asked for.
    pub children: Vec<(SandboxId, Result<Sandbox>)>,
}

impl Control {
    /// Forks a running one; returns when the child runs.
    pub async fn fork(
        &self,
        caller: &Caller,
        parent: SandboxId,
        request: ForkRequest,
    ) -> Result<Sandbox> {
        self.takes_work()?;
        let mut fork = self.new_fork(caller, &request).await?;
        let (control, tenant) = (self.clone(), caller.tenant);
        self.detached(async move {
            let (row, making) = {
                let _one_at_a_time = control.0.placing.lock().await;
                fork.id = request.id.unwrap_or_else(SandboxId::new);
                let store = &control.0.store;
                let placed = store.fork_sandbox(&tenant, parent, fork, control.now());
                control.begin_fork(placed.await?)
            };
            let recipe = recipe(parent, &row, request, None);
            let made = control.make(row, recipe, making).await?;
            Ok(control.view(made))
        })
        .await
    }

    /// Makes several forks of one instant: places for all of them, or for none. Returns when each runs or has failed; an error if none runs.
    pub async fn fork_many(
        &self,
        caller: &Caller,
        parent: SandboxId,
        count: u32,
        request: ForkRequest,
        attempt: Attempt,
    ) -> Result<Forks> {
        self.takes_work()?;
        validate::within("count", count.into(), 1, limits::MAX_FORKS_AT_ONCE)?;
        let children: Vec<_> = attempt.ids(count).map(SandboxId::from_uuid).collect();
        let earlier = attempt.earlier(self.earlier_forks(caller, &children));
        if let Some(forks) = earlier.await? {
            return Ok(forks);
        }
        // The request itself was counted as one.
        for _ in 1..count {
            if let Some(standing) = self.count(caller, Kind::Create).await? {
                standing.admit()?;
            }
        }
        let fork = self.new_fork(caller, &request).await?;
        let forks: Result<Vec<_>> = children
            .into_iter()
            .zip(1..)
            .map(|(id, number)| numbered(&fork, id, number))
            .collect();
        let (control, tenant, forks) = (self.clone(), caller.tenant, forks?);
        self.detached(async move { control.fork_all(&tenant, parent, forks, request).await })
            .await
    }

    async fn new_fork(&self, caller: &Caller, request: &ForkRequest) -> Result<NewFork> {
        if let Some(name) = &request.name {
            validate::name("name", name)?;
        }
        validate::env(&request.env)?;
        validate::metadata(&request.metadata)?;
        let max_ttl = self.quotas(caller).await?.max_ttl_seconds;
        let ttl = request.ttl_seconds.map(|ttl| validate::ttl(ttl, max_ttl));
        Ok(NewFork {
            // The real one is given when its turn has come.
            id: SandboxId::new(),
            name: request.name.clone(),
            env_names: request.env.keys().cloned().collect(),
            ttl_seconds: ttl.transpose()?,
            metadata: request.metadata.clone(),
        })
    }

    /// What came of them before the server died, as they are now.
    async fn earlier_forks(&self, caller: &Caller, children: &[SandboxId]) -> Result<Forks> {
        let mut forks = Forks {
            memory: false,
            held_us: None,
            children: Vec::with_capacity(children.len()),
        };
        for &id in children {
            let row = self.0.store.sandbox(&caller.tenant, id).await?;
            forks.memory |= row.facts.fork_kind.as_deref() == Some("files+memory");
            let made = match row.failure_message.clone() {
                Some(why) if row.state == SandboxState::Failed => Err(Error::internal(why)),
                _ => Ok(self.view(row)),
            };
            forks.children.push((id, made));
        }
        Ok(forks)
    }

    /// One that has its place is being made from now on.
    fn begin_fork(&self, row: Row) -> (Row, Making) {
        self.0.live.insert(row.clone(), Map::new());
        let making = self.begin_making(row.id);
        (row, making)
    }

    async fn fork_all(
        &self,
        tenant: &Tenant,
        parent: SandboxId,
        forks: Vec<NewFork>,
        request: ForkRequest,
    ) -> Result<Forks> {
        let of = self.0.store.sandbox(tenant, parent).await?;
        let placed: Vec<_> = {
            let _one_at_a_time = self.0.placing.lock().await;
            let store = &self.0.store;
            let rows = store.fork_sandboxes(tenant, parent, forks, self.now());
            let rows = rows.await?.into_iter();
            rows.map(|row| self.begin_fork(row)).collect()
        };
        let base = SnapshotId::new();
        let outcome = match self.take_base(tenant, &of, base, request.memory).await {
            Ok(taken) => {
                let children = self.make_all(parent, base, placed, &request).await;
                forked(children, &taken)
            }
            Err(error) => {
                for (row, making) in placed {
                    drop(self.give_up(row, error.clone(), making).await);
                }
                Err(error)
            }
        };
        self.remove_base(tenant, &of, base).await;
        outcome
    }

    async fn make_all(
        &self,
        parent: SandboxId,
        base: SnapshotId,
        placed: Vec<(Row, Making)>,
        request: &ForkRequest,
    ) -> Vec<(SandboxId, Result<Sandbox>)> {
        let turns = Semaphore::new(AT_ONCE);
        let turns = &turns;
        join_all(placed.into_iter().map(async |(row, making)| {
            // One that is called off need not wait.
            let _turn = tokio::select! {
                turn = turns.acquire() => turn.ok(),
                () = making.cancel.cancelled() => None,
            };
            let id = row.id;
            let recipe = recipe(parent, &row, request.clone(), Some(base));
            let made = self.make(row, recipe, making).await;
            (id, made.map(|row| self.view(row)))
        }))
        .await
    }
}

fn forked(mut children: Vec<(SandboxId, Result<Sandbox>)>, base: &SnapshotReport) -> Result<Forks> {
    if children.iter().all(|(_, made)| made.is_err())
        && let Some((_, Err(error))) = children.pop()
    {
        return Err(error);
    }
    Ok(Forks {
        memory: base.memory,
        held_us: Some(base.held_us),
        children,
    })
}

fn recipe(
    parent: SandboxId,
    child: &Row,
    request: ForkRequest,
    base: Option<SnapshotId>,
) -> Recipe {
    Recipe::Fork(ForkSandbox {
        parent,
        id: child.id,
        env: request.env,
        name: child.name.clone(),
        egress: child.egress.clone(),
        memory: request.memory,
        base,
    })
}

/// One of several, whose name has its number behind it.
fn numbered(fork: &NewFork, id: SandboxId, number: u32) -> Result<NewFork> {
    let name = fork.name.as_ref().map(|name| format!("{name}-{number}"));
    if let Some(name) = &name {
        validate::name("name", name)?;
    }
    Ok(NewFork {
        id,
        name,
        ..fork.clone()
    })
}
