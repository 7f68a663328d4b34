//! Whoever stands at the way out of sandboxes, and is told where each may connect.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use skerry_driver::{DriverError, NetworkMode};
use skerry_net::Network;
use skerry_types::{Egress, SandboxId};

use crate::meta::Meta;

/// See the module. Sandboxes go by what their driver calls them.
#[async_trait]
pub trait Gate: fmt::Debug + Send + Sync {
    /// From now on a sandbox connects only where these rules let it, whether it has its network already or gets it later.
    async fn rule(&self, place: SandboxId, egress: &Egress) -> Result<(), DriverError>;

    /// A sandbox is gone for good.
    fn forget(&self, place: SandboxId);
}

#[async_trait]
impl Gate for Network {
    async fn rule(&self, place: SandboxId, egress: &Egress) -> Result<(), DriverError> {
        let ruled = Self::rule(self, place, egress.clone()).await;
        ruled.map_err(DriverError::step("tell the gateway where it may connect"))
    }

    fn forget(&self, place: SandboxId) {
        self.forget_rules(place);
    }
}

/// The gate of a node, if its sandboxes have a way out.
#[derive(Debug, Clone, Default)]
pub(crate) struct WayOut(pub(crate) Option<Arc<dyn Gate>>);

impl WayOut {
    /// Whether the rules of a sandbox can be kept.
    pub(crate) fn check(&self, meta: &Meta) -> Result<(), DriverError> {
        if meta.egress.is_empty() || (self.0.is_some() && has_way_out(meta)) {
            return Ok(());
        }
        let text = "egress rules are for sandboxes with network nat, on a node that has a gateway";
        Err(DriverError::Unsupported(text.to_owned()))
    }

    /// Has the rules of a sandbox kept in its place, and no others. To be done before anything of it runs there.
    pub(crate) async fn rule(&self, meta: &Meta) -> Result<(), DriverError> {
        match &self.0 {
            Some(gate) if has_way_out(meta) => gate.rule(meta.spec.id, &meta.egress).await,
            _ => Ok(()),
        }
    }

    /// Nothing will run there again.
    pub(crate) fn forget(&self, place: SandboxId) {
        if let Some(gate) = &self.0 {
            gate.forget(place);
        }
    }
}

fn has_way_out(meta: &Meta) -> bool {
    meta.spec.network == NetworkMode::Nat
}
