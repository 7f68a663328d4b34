//! What the sandbox may never do, whoever it is inside. The kernel is its own, but the proof of what runs in it is not.

use std::io;

use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::{
    CapabilitySet, capability_is_in_bounding_set, remove_capability_from_bounding_set,
    set_no_new_privs,
};

const MAX_OPEN_FILES: u64 = 65_536;

/// What the agent needs to become users, to signal them and to keep their files, and to give all that up in what it starts.
const RESTRICTED: CapabilitySet = CapabilitySet::SETUID
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::CHOWN)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::DAC_OVERRIDE);

/// What package managers, sudo and servers need.
const ROOT: CapabilitySet = RESTRICTED
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::AUDIT_WRITE)
    .union(CapabilitySet::SETFCAP);

/// Gives up everything that the level does not have, for the next program and all that come from it.
pub(crate) fn confine(level_root: bool) -> io::Result<()> {
    let both = |value| Rlimit {
        current: Some(value),
        maximum: Some(value),
    };
    setrlimit(Resource::Nofile, both(MAX_OPEN_FILES))?;
    setrlimit(Resource::Core, both(0))?;
    let kept = if level_root { ROOT } else { RESTRICTED };
    for number in 0..64 {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        // The kernel knows no capability of this number and none above.
        if capability_is_in_bounding_set(capability).is_err() {
            break;
        }
        if !kept.contains(capability) {
            remove_capability_from_bounding_set(capability)?;
        }
    }
    if !level_root {
        set_no_new_privs(true)?;
    }
    Ok(())
}
