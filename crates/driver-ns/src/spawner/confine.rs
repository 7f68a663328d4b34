//! What a sandbox may never do, whoever it is inside: limits, capabilities, system calls.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{
    CapabilitySet, capability_is_in_bounding_set, remove_capability_from_bounding_set,
    set_no_new_privs,
};
use skerry_driver::Privilege;

use super::message::{Failure, Request};
use crate::seccomp::Filter;

const MAX_OPEN_FILES: u64 = 65_536;

/// Worth nothing where there is one id only, and then not given, so that the agent does not try.
const BECOME: CapabilitySet = CapabilitySet::SETUID.union(CapabilitySet::SETGID);

/// What the agent needs to become users, to signal them and to keep their files, and to give all that up in what it starts.
const RESTRICTED: CapabilitySet = BECOME
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::CHOWN)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::DAC_OVERRIDE);

/// What package managers, sudo and servers need. No raw sockets and no device nodes.
const ROOT: CapabilitySet = RESTRICTED
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::AUDIT_WRITE)
    .union(CapabilitySet::SETFCAP);

/// Open files, core dumps and, if asked for, processes.
pub(crate) fn limit(request: &Request) -> io::Result<()> {
    let both = |value| Rlimit {
        current: Some(value),
        maximum: Some(value),
    };
    let most = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    setrlimit(Resource::Nofile, both(most.min(MAX_OPEN_FILES)))?;
    setrlimit(Resource::Core, both(0))?;
    if let Some(processes) = request.max_processes {
        setrlimit(Resource::Nproc, both(processes))?;
    }
    Ok(())
}

/// Gives up everything that the level does not have. The next program, run by uid 0, gets what is left of the bounding set and no more.
pub(super) fn confine(privilege: Privilege, has_ids: bool, filter: &Filter) -> Result<(), Failure> {
    let kept = match (privilege, has_ids) {
        (Privilege::Restricted, false) => RESTRICTED.difference(BECOME),
        (Privilege::Restricted, true) => RESTRICTED,
        (Privilege::Root, _) => ROOT,
    };
    drop_from_bounding_set(kept).map_err(Failure::at("give up capabilities"))?;
    if privilege == Privilege::Restricted {
        set_no_new_privs(true).map_err(Failure::at("set no_new_privs"))?;
    }
    filter
        .load()
        .map_err(Failure::at("load the system call filter"))
}

fn drop_from_bounding_set(kept: CapabilitySet) -> io::Result<()> {
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
    Ok(())
}
