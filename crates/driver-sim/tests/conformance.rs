//! The suite that every driver passes.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use skerry_driver::conformance::{Bed, run};
use skerry_driver::{Driver, Rootfs};
use skerry_driver_sim::{SimDriver, World};
use skerry_types::SandboxId;

struct Machine(Arc<World>);

#[async_trait]
impl Bed for Machine {
    async fn driver(&self) -> Arc<dyn Driver> {
        Arc::new(SimDriver::new(Arc::clone(&self.0)))
    }

    fn rootfs(&self) -> Rootfs {
        Rootfs {
            layers: Vec::new(),
            binds: Vec::new(),
        }
    }

    async fn snapshot(&self, _made: &[SandboxId]) -> BTreeSet<String> {
        self.0.sandboxes().iter().map(ToString::to_string).collect()
    }
}

/// `SKERRY_CONFORMANCE` names the checks to run; all without it.
#[tokio::test]
async fn conforms_to_what_it_declares() {
    let filter = std::env::var("SKERRY_CONFORMANCE").unwrap_or_default();
    let report = run(&Machine(World::new()), &filter).await;
    println!("{report}");
    assert_eq!(report.failed().count(), 0, "{report}");
}
