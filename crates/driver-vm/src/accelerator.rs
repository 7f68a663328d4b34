//! What runs the guest's instructions.

use std::fs::File;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use skerry_driver::DriverError;

use crate::driver::VmDriver;
use crate::error::{at, blocking};
use crate::machine::Shape;
use crate::{disk, layout};

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Accelerator {
    /// The processor itself.
    Kvm,
    /// QEMU, which translates them.
    Tcg,
}

impl Accelerator {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }

    /// How long a guest may take to boot. Where the processor itself runs it that takes a second, and one that hangs must not hold up the
    /// daemon's start; one that is translated beside busy others takes a while.
    pub(crate) const fn boot_patience(self) -> Duration {
        match self {
            Self::Kvm => Duration::from_secs(15),
            Self::Tcg => Duration::from_mins(2),
        }
    }
}

/// Where the processor's own virtualization is offered.
const KVM: &str = "/dev/kvm";
/// The base disk of a guest that has nothing to show.
const PROBE: &str = "probe";

impl VmDriver {
    /// Takes KVM only if a guest really runs on it: that the device is there says little on a machine that is virtual itself.
    pub(crate) async fn choose_accelerator(&mut self) {
        if File::options().read(true).write(true).open(KVM).is_err() {
            return;
        }
        self.engine.accelerator = Accelerator::Kvm;
        if let Err(error) = self.try_out().await {
            tracing::info!(%error, "KVM does not run a guest");
            self.engine.accelerator = Accelerator::Tcg;
        }
    }

    async fn try_out(&self) -> Result<(), DriverError> {
        let disk = self.layout.base(PROBE);
        blocking("format a disk", move || disk::format(&disk, 1)).await?;
        let shape = Shape {
            engine: self.engine.key(),
            base: PROBE.to_owned(),
            vcpus: 1,
            memory_mb: 128,
            network: false,
        };
        let template = self.template(&shape).await?;
        layout::remove(&template).map_err(at("remove the probe"))
    }
}
