//! Forking a running sandbox: a child on the same node, within the same limits.

use skerry_proto::node::{ForkSandbox, Map, MemoryWish};
use skerry_store::{NewFork, Tenant};
use skerry_types::{Result, SandboxId};

use crate::make::Recipe;
use crate::validate;
use crate::{Caller, Control, ForkRequest, Sandbox};

impl Control {
    /// Forks a running one; returns when the child runs.
    pub async fn fork(
        &self,
        caller: &Caller,
        id: SandboxId,
        request: ForkRequest,
    ) -> Result<Sandbox> {
        self.takes_work()?;
        if let Some(name) = &request.name {
            validate::name("name", name)?;
        }
        validate::env(&request.env)?;
        validate::metadata(&request.metadata)?;
        let max_ttl = self.quotas(caller).await?.max_ttl_seconds;
        let ttl = request.ttl_seconds.map(|ttl| validate::ttl(ttl, max_ttl));
        let fork = NewFork {
            // The real one is given when its turn has come.
            id: SandboxId::new(),
            name: request.name,
            env_names: request.env.keys().cloned().collect(),
            ttl_seconds: ttl.transpose()?,
            metadata: request.metadata,
        };
        let (control, tenant) = (self.clone(), caller.tenant);
        self.detached(async move {
            control
                .place_fork(&tenant, id, fork, (request.id, request.env, request.memory))
                .await
        })
        .await
    }

    async fn place_fork(
        &self,
        tenant: &Tenant,
        parent: SandboxId,
        mut fork: NewFork,
        (child, env, memory): (Option<SandboxId>, Map, MemoryWish),
    ) -> Result<Sandbox> {
        let placed = {
            let _one_at_a_time = self.0.placing.lock().await;
            fork.id = child.unwrap_or_else(SandboxId::new);
            let (store, now) = (&self.0.store, self.now());
            let row = store.fork_sandbox(tenant, parent, fork, now).await?;
            self.0.live.insert(row.clone(), Map::new());
            let making = self.begin_making(row.id);
            (row, making)
        };
        let (row, making) = placed;
        let recipe = Recipe::Fork(ForkSandbox {
            parent,
            id: row.id,
            env,
            name: row.name.clone(),
            memory,
        });
        let made = self.make(row, recipe, making).await?;
        Ok(self.view(made))
    }
}
