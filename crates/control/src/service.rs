//! The one way in: everything the edges may ask of control.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use skerry_proto::node::Node;
use skerry_types::{Error, Result, SandboxId};

use crate::{
    Caller, CreateRequest, ForkRequest, ImageCatalogue, ListQuery, Need, Nodes, Page, Readiness,
    Reply, Sandbox, Settings, TimeoutRequest, Tree, Until,
};

/// Control. Cheap to clone; every clone is the same one.
#[derive(Debug, Clone)]
pub struct Control;

fn unbuilt<T>() -> Result<T> {
    Err(Error::internal("not built yet"))
}

#[expect(clippy::unused_async, reason = "signatures first")]
impl Control {
    /// Brings store and nodes into agreement, then begins to serve.
    pub async fn start(
        _nodes: Nodes,
        _images: Arc<dyn ImageCatalogue>,
        _settings: Settings,
    ) -> Result<Self> {
        Ok(Self)
    }

    /// Who this key belongs to. 401 for one that does not count.
    pub async fn authenticate(&self, _secret: &str) -> Result<Caller> {
        unbuilt()
    }

    /// The key in this file; made, with mode 0600, if there is none that counts.
    pub async fn ensure_local_key(&self, _path: &Path) -> Result<String> {
        unbuilt()
    }

    /// Makes a sandbox. Returns as soon as it is on record, provisioning or queued; [`Control::wait_until`] tells the rest.
    pub async fn create(&self, _caller: &Caller, _request: CreateRequest) -> Result<Sandbox> {
        unbuilt()
    }

    /// One sandbox.
    pub async fn get(&self, _caller: &Caller, _id: SandboxId) -> Result<Sandbox> {
        unbuilt()
    }

    /// Several, newest first.
    pub async fn list(&self, _caller: &Caller, _query: ListQuery) -> Result<Page> {
        unbuilt()
    }

    /// Waits; returns the sandbox as it then is, also when the time was up first.
    pub async fn wait_until(
        &self,
        _caller: &Caller,
        _id: SandboxId,
        _until: Until,
        _timeout: Duration,
    ) -> Result<Sandbox> {
        unbuilt()
    }

    /// Begins to stop it. Returns at once: `stopping`, or how it had ended before.
    pub async fn stop(&self, _caller: &Caller, _id: SandboxId) -> Result<Sandbox> {
        unbuilt()
    }

    /// Deletes it, from every state; returns when nothing of it is left on its node.
    pub async fn delete(&self, _caller: &Caller, _id: SandboxId) -> Result<Sandbox> {
        unbuilt()
    }

    /// Forks a running one; returns when the child runs.
    pub async fn fork(
        &self,
        _caller: &Caller,
        _id: SandboxId,
        _request: ForkRequest,
    ) -> Result<Sandbox> {
        unbuilt()
    }

    /// The whole tree of forks that it is in.
    pub async fn tree(&self, _caller: &Caller, _id: SandboxId) -> Result<Tree> {
        unbuilt()
    }

    /// Changes when it ends.
    pub async fn set_timeout(
        &self,
        _caller: &Caller,
        _id: SandboxId,
        _request: TimeoutRequest,
    ) -> Result<Sandbox> {
        unbuilt()
    }

    /// Freezes it.
    pub async fn pause(&self, _caller: &Caller, _id: SandboxId) -> Result<Sandbox> {
        unbuilt()
    }

    /// Thaws it.
    pub async fn resume(&self, _caller: &Caller, _id: SandboxId) -> Result<Sandbox> {
        unbuilt()
    }

    /// Says that it is in use. 409 when it does not run.
    pub async fn ping(&self, _caller: &Caller, _id: SandboxId) -> Result<()> {
        unbuilt()
    }

    /// The node to ask about this sandbox, if this caller may. Costs a look into memory for one that has not ended.
    pub async fn authorize(
        &self,
        _caller: &Caller,
        _id: SandboxId,
        _need: Need,
    ) -> Result<Arc<dyn Node>> {
        unbuilt()
    }

    /// Notes that a sandbox is in use by something the node does not see; tells the node at most once a second.
    pub fn touch(&self, _id: SandboxId) {}

    /// Runs a mutation once per key and 24 hours: the same key and request again get the same 2xx answer; while the first one still runs they
    /// wait for it, up to a bound; another request under the same key is a conflict. `request` is whatever makes it this request (method, path, body).
    /// The work runs to its end even if the caller goes away.
    pub async fn once<F>(
        &self,
        _caller: &Caller,
        _key: &str,
        _request: &[u8],
        work: F,
    ) -> Result<Reply>
    where
        F: Future<Output = Reply> + Send + 'static,
    {
        Ok(work.await)
    }

    /// Whether requests can be served.
    pub async fn readiness(&self) -> Readiness {
        Readiness {
            store: false,
            nodes: false,
            draining: false,
        }
    }

    /// Takes nothing new, waits for what is in progress, then leaves or stops the sandboxes as the settings say.
    pub async fn drain(&self) {}
}
