//! What this machine has for virtual machines, for whoever asks before there is a driver.

use std::path::Path;

use crate::accelerator::try_kvm;
use crate::engine::{Engine, EngineError};
use crate::options::{Programs, Tools};

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    /// QEMU's version.
    pub qemu: String,
    /// The release of the guests' kernel.
    pub kernel: String,
    /// Why no guest runs on KVM, so that machines are translated; `None`: one does.
    pub no_kvm: Option<String>,
}

/// Looks, and lets a guest boot where there is KVM. Writes into `scratch` only.
pub async fn survey(
    tools: &Tools,
    programs: Programs,
    scratch: &Path,
) -> Result<Survey, EngineError> {
    let engine = Engine::open(tools, programs, scratch)?;
    let no_kvm = try_kvm(&engine).await.err();
    Ok(Survey {
        kernel: engine.kernel_release(),
        qemu: engine.version,
        no_kvm,
    })
}
