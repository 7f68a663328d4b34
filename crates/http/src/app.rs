//! What every request can reach.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use skerry_control::{Attempt, Caller, Control, Need, Scope};
use skerry_proto::node::Node;
use skerry_types::{Result, SandboxId};
use tokio_util::sync::CancellationToken;

use crate::ImageService;
use crate::serve::Places;

/// What an operator may decide about the edge.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Host names it answers to, beside loopback names, `*.localhost` and addresses. Names below them count too.
    pub domains: Vec<String>,
    /// Origins whose pages may call it, as browsers write them: `https://example.org`.
    pub origins: Vec<String>,
    /// The head of a request, a JSON body, and each further piece of a longer one have to be here by then.
    pub patience: Duration,
    /// A connection without a request is kept this long; shorter when others need its place.
    pub rest: Duration,
    /// Connections at once; more wait in the kernel's queue.
    pub connections: usize,
    /// The certificate of the local CA, in PEM, if there is one.
    pub ca: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            domains: Vec::new(),
            origins: Vec::new(),
            patience: Duration::from_secs(30),
            // Clients believe that theirs are kept for 5 minutes.
            rest: Duration::from_mins(10),
            connections: 4096,
            ca: None,
        }
    }
}

/// What every request can reach. Cheap to clone; every clone is the same one.
#[derive(Clone)]
pub struct App {
    pub(crate) control: Control,
    pub(crate) images: Arc<dyn ImageService>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) places: Places,
    /// Cancelled when the server begins to end: streams end, mutations are refused.
    pub(crate) draining: CancellationToken,
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl App {
    /// An edge over this control and these images.
    pub fn new(control: Control, images: Arc<dyn ImageService>, settings: Settings) -> Self {
        Self {
            control,
            images,
            places: Places::new(settings.connections),
            settings: Arc::new(settings),
            draining: CancellationToken::new(),
        }
    }

    /// From now on: not ready, no new mutations, live streams end (their readers resume elsewhere).
    pub fn drain(&self) {
        self.draining.cancel();
    }

    /// Cancelled when live streams are to end.
    pub fn ending(&self) -> CancellationToken {
        self.draining.clone()
    }

    /// What decides and remembers.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// The node that has this sandbox, if the caller's key has the scope and the sandbox is in a fit state.
    pub async fn node(
        &self,
        caller: &Caller,
        scope: Scope,
        sandbox: SandboxId,
        need: Need,
    ) -> Result<Arc<dyn Node>> {
        caller.require(scope)?;
        self.control.authorize(caller, sandbox, need).await
    }

    /// The same for what uses a sandbox. What an earlier attempt did is found although the sandbox has ended since.
    pub async fn node_for(
        &self,
        caller: &Caller,
        scope: Scope,
        sandbox: SandboxId,
        attempt: Attempt,
    ) -> Result<Arc<dyn Node>> {
        let need = if attempt.again {
            Need::Journal
        } else {
            Need::Use
        };
        self.node(caller, scope, sandbox, need).await
    }
}
