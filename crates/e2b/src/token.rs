//! What a client needs to use one sandbox, or what is in one volume: made from its id and the installation's secret, so nothing has to be kept.

use skerry_control::Control;
use skerry_types::{SandboxId, VolumeId};
use subtle::ConstantTimeEq;

const ENVD: &str = "envd-access";
const TRAFFIC: &str = "port-access";
const VOLUME: &str = "volume-access";
/// Characters of an id's label, with which each token begins.
const LABEL: usize = 26;

/// Opens all of `envd`.
pub(crate) fn envd(control: &Control, sandbox: SandboxId) -> String {
    make(control, ENVD, sandbox.label())
}

/// Opens the sandbox's ports.
pub(crate) fn traffic(control: &Control, sandbox: SandboxId) -> String {
    make(control, TRAFFIC, sandbox.label())
}

/// Opens what is in a volume.
pub(crate) fn volume(control: &Control, volume: VolumeId) -> String {
    make(control, VOLUME, volume.label())
}

/// Whether this opens that volume.
pub(crate) fn is_volume(control: &Control, volume: VolumeId, token: &str) -> bool {
    is_same(token, &self::volume(control, volume))
}

/// Whether this opens `envd` of that sandbox.
pub(crate) fn is_envd(control: &Control, sandbox: SandboxId, token: &str) -> bool {
    is_same(token, &envd(control, sandbox))
}

/// Whether this opens ports of that sandbox.
pub(crate) fn is_traffic(control: &Control, sandbox: SandboxId, token: &str) -> bool {
    is_same(token, &traffic(control, sandbox))
}

/// The sandbox that a token of `envd` is for, if it is a real one. Old clients send nothing else.
pub(crate) fn sandbox_of(control: &Control, token: &str) -> Option<SandboxId> {
    let sandbox = token.get(..LABEL)?.parse().ok()?;
    is_envd(control, sandbox, token).then_some(sandbox)
}

fn make(control: &Control, purpose: &'static str, label: String) -> String {
    let tag = control.sign(purpose, label.as_bytes());
    let hex: String = tag[..16].iter().map(|b| format!("{b:02x}")).collect();
    label + &hex
}

/// Takes the same time whatever differs.
pub(crate) fn is_same(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}
