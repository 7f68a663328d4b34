//! What the agent may do in its user namespace, and how much less what it starts may do.

use std::io;

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
    clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
    set_no_new_privs,
};

/// How much the programs in the sandbox may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// No capability, ever, whatever the uid.
    Restricted,
    /// Uid 0 has what the launcher left, and set-uid programs work.
    Root,
}

/// What the agent itself needs at [`Level::Restricted`]: to become users, to signal them and to keep their files.
const AGENT: CapabilitySet = CapabilitySet::SETUID
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::CHOWN)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(NAMES);
/// To rename a copy, where the launcher leaves that to the agent. Never for anybody it starts.
const NAMES: CapabilitySet = CapabilitySet::SYS_ADMIN;

/// Gives up what the level does not need. Before any thread is started: capabilities belong to threads.
pub(crate) fn confine_agent(level: Level) -> io::Result<()> {
    let mut own = capabilities(None)?;
    if level == Level::Root {
        return if own.effective.contains(NAMES) {
            // What is not in the bounding set is lost at exec.
            Ok(remove_capability_from_bounding_set(NAMES)?)
        } else {
            Ok(())
        };
    }
    // Without SETPCAP the bounding set stays; no_new_privs then keeps it out of reach of children.
    if own.effective.contains(CapabilitySet::SETPCAP) {
        empty_bounding_set()?;
    }
    own.permitted &= AGENT;
    own.effective &= AGENT;
    own.inheritable = CapabilitySet::empty();
    Ok(set_capabilities(None, own)?)
}

fn empty_bounding_set() -> io::Result<()> {
    for number in 0..64 {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match capability_is_in_bounding_set(capability) {
            Ok(true) => remove_capability_from_bounding_set(capability)?,
            Ok(false) => {}
            // The kernel knows no capability of this number and none above.
            Err(_) => break,
        }
    }
    Ok(())
}

/// Leaves a child only what its level and user allow. Runs between fork and exec: system calls only.
pub(crate) fn confine_child(level: Level) -> io::Result<()> {
    clear_ambient()?;
    match level {
        Level::Restricted => {
            set_no_new_privs(true)?;
            let nothing = CapabilitySets {
                effective: CapabilitySet::empty(),
                permitted: CapabilitySet::empty(),
                inheritable: CapabilitySet::empty(),
            };
            set_capabilities(None, nothing)?;
        }
        Level::Root => {
            let own = capabilities(None)?;
            let inheritable = CapabilitySet::empty();
            set_capabilities(None, CapabilitySets { inheritable, ..own })?;
        }
    }
    Ok(())
}

/// A kernel that knows no ambient capabilities gives none.
fn clear_ambient() -> io::Result<()> {
    match clear_ambient_capability_set() {
        Err(Errno::INVAL) => Ok(()),
        done => Ok(done?),
    }
}

/// May this process change users?
pub(crate) fn may_set_groups() -> bool {
    capabilities(None).is_ok_and(|own| own.effective.contains(CapabilitySet::SETGID))
}

/// May this process mount? Only one that has a kernel to itself.
pub(crate) fn may_mount() -> bool {
    capabilities(None).is_ok_and(|own| own.effective.contains(CapabilitySet::SYS_ADMIN))
}
