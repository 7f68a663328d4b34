//! Looking: one sandbox, a list, a tree, and waiting for a change.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use skerry_proto::node::{Node, NodeHealth};
use skerry_store::{Cursor, Filter, Sandbox as Row, Tenant};
use skerry_types::{Error, ErrorCode, Result, SandboxId, SandboxState, limits};

use crate::sandbox::TreeMember;
use crate::validate;
use crate::{Caller, Control, ListQuery, Need, Page, Readiness, Sandbox, Tree, Until};

impl Control {
    /// One sandbox.
    pub async fn get(&self, caller: &Caller, id: SandboxId) -> Result<Sandbox> {
        let store = &self.0.store;
        let row = store.sandbox(&caller.tenant, id).await?;
        let queued = row.state == SandboxState::Queued;
        let mut seen = self.view(row);
        if queued {
            seen.queue_position = store.queue_position(&caller.tenant, id).await?;
        }
        Ok(seen)
    }

    /// Several, newest first unless asked otherwise.
    pub async fn list(&self, caller: &Caller, query: ListQuery) -> Result<Page> {
        let limit = query.limit.unwrap_or(limits::DEFAULT_PAGE);
        validate::within("limit", limit.into(), 1, limits::MAX_PAGE)?;
        validate::metadata(&query.metadata)?;
        let filter = Filter {
            states: query.status,
            image: query.image,
            template: self.template_name(&caller.tenant, query.template).await?,
            started_after: query.started_after,
            oldest_first: query.oldest_first,
            name: query.name,
            project: query.project,
            forked_from: query.forked_from,
            metadata: query.metadata,
            cursor: query.cursor.map(|c| c.parse::<Cursor>()).transpose()?,
            limit,
        };
        let page = self.0.store.sandboxes(&caller.tenant, &filter).await?;
        Ok(Page {
            sandboxes: page.items.into_iter().map(|row| self.view(row)).collect(),
            next_cursor: page.next.map(|cursor| cursor.to_string()),
        })
    }

    /// The name of a template that is asked for by name or id.
    async fn template_name(
        &self,
        tenant: &Tenant,
        asked: Option<String>,
    ) -> Result<Option<String>> {
        match asked.as_ref().and_then(|asked| asked.parse().ok()) {
            Some(id) => {
                let found = self.0.store.template(tenant, id).await?;
                Ok(found.map(|template| template.name).or(asked))
            }
            None => Ok(asked),
        }
    }

    /// The whole tree of forks that it is in.
    pub async fn tree(&self, caller: &Caller, id: SandboxId) -> Result<Tree> {
        let rows = self.0.store.fork_tree(&caller.tenant, id).await?;
        let members = rows.iter().map(|row| TreeMember {
            id: row.id,
            name: row.name.clone(),
            status: row.state,
            forked_from: row.forked_from,
            created_at: row.created_at,
            children: rows
                .iter()
                .filter(|child| child.forked_from == Some(row.id))
                .map(|child| child.id)
                .collect(),
        });
        Ok(Tree {
            root: rows.first().map_or(id, |row| row.fork_root),
            members: members.collect(),
        })
    }

    /// Waits; returns the sandbox as it then is, also when the time was up first.
    pub async fn wait_until(
        &self,
        caller: &Caller,
        id: SandboxId,
        until: Until,
        timeout: Duration,
    ) -> Result<Sandbox> {
        match tokio::time::timeout(timeout, self.wait(caller, id, until)).await {
            Ok(row) => Ok(self.view(row?)),
            Err(_) => self.get(caller, id).await,
        }
    }

    /// The row as it was last stored by this process, from memory if it has not ended.
    pub(crate) async fn known(&self, tenant: &Tenant, id: SandboxId) -> Result<Row> {
        match self.0.live.row(id).filter(|row| row.tenant() == *tenant) {
            Some(row) => Ok(row),
            None => Ok(self.0.store.sandbox(tenant, id).await?),
        }
    }

    async fn wait(&self, caller: &Caller, id: SandboxId, until: Until) -> Result<Row> {
        loop {
            // Subscribed before it is looked at, so that no change falls between.
            let changes = self.0.live.subscribe(id);
            // A change is in the store before it is in memory, and is told after that: memory is behind for a moment only.
            let row = self.known(&caller.tenant, id).await?;
            let Some(mut changes) = changes.filter(|_| !until.is_met(row.state)) else {
                return Ok(row);
            };
            // An error means that it ended and was dropped: the next look tells.
            let _changed = changes.changed().await;
        }
    }

    /// The node to ask about this sandbox, if this caller may. Costs a look into memory for one that has not ended.
    pub async fn authorize(
        &self,
        caller: &Caller,
        id: SandboxId,
        need: Need,
    ) -> Result<Arc<dyn Node>> {
        let known = self.0.live.with(id, |entry| {
            let row = &entry.row;
            let mine = row.org_id == caller.tenant.org();
            (mine && need.is_met(row)).then_some((row.state, row.node_id))
        });
        // Memory follows the store by a moment, so only the store may refuse.
        let (state, node) = if let Some(known) = known.flatten() {
            known
        } else {
            let row = self.0.store.sandbox(&caller.tenant, id).await?;
            if !need.is_met(&row) {
                return Err(not_running(id, row.state));
            }
            (row.state, row.node_id)
        };
        let node = node.ok_or_else(|| not_running(id, state))?;
        let member =
            self.0.nodes.get(node).ok_or_else(|| {
                Error::new(ErrorCode::NodeUnreachable, "its node is not known here")
            })?;
        Ok(member.handle.clone())
    }

    /// Whether requests can be served.
    pub async fn readiness(&self) -> Readiness {
        Readiness {
            store: self.0.store.nodes(&crate::service::SYSTEM).await.is_ok(),
            node: self.best_health().await,
            draining: self.0.draining.load(Ordering::Acquire),
        }
    }

    /// How the first node is that is well, or else any that answers.
    async fn best_health(&self) -> Option<NodeHealth> {
        let mut any = None;
        for member in self.0.nodes.all() {
            if self.0.silent.lock().contains_key(&member.facts.id) {
                continue;
            }
            match member.handle.health().await {
                Ok(health) if health == NodeHealth::default() => return Some(health),
                Ok(health) => any = Some(health),
                Err(error) => {
                    tracing::debug!(node = member.facts.name, %error, "it does not say how it is");
                }
            }
        }
        any
    }

    /// A row as callers get to see it.
    pub(crate) fn view(&self, mut row: Row) -> Sandbox {
        if let Some(used) = self.0.live.with(row.id, |e| e.row.last_active_at) {
            row.last_active_at = row.last_active_at.max(used);
        }
        let position = (row.state == SandboxState::Queued)
            .then(|| self.0.live.queue_position(row.id))
            .flatten();
        Sandbox::of(row, position)
    }
}

impl Need {
    fn is_met(self, row: &Row) -> bool {
        match self {
            Self::Exists | Self::Journal => true,
            Self::Running => row.state == SandboxState::Running,
            Self::Use => {
                row.state == SandboxState::Running
                    || row.state == SandboxState::Paused && row.auto_resume
            }
        }
    }
}

impl Until {
    const fn is_met(self, state: SandboxState) -> bool {
        use SandboxState as S;
        match self {
            Self::Ready => !matches!(state, S::Queued | S::Provisioning),
            Self::Ended => state.is_ended(),
            Self::Leaves(from) => state as u8 != from as u8,
        }
    }
}

/// What to tell a caller who needs it to run.
pub(crate) fn not_running(id: SandboxId, state: SandboxState) -> Error {
    use SandboxState as S;
    let message = format!("sandbox {id} is {state}, not running");
    let hint = match state {
        S::Queued | S::Provisioning => "wait until it runs",
        S::Paused => "resume it first, or let it wake up by itself with `auto_resume`",
        S::Missing => {
            return Error::new(ErrorCode::NodeUnreachable, message)
                .with_hint("its node cannot be reached; it may come back")
                .retry_after(15);
        }
        S::Stopped | S::Failed => {
            "start it again, or create another one; its events and logs can still be read"
        }
        _ => "create another one; its events and logs can still be read",
    };
    Error::new(ErrorCode::SandboxNotRunning, message).with_hint(hint)
}
