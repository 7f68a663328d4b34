//! What this driver can do, by what the machine has.

use skerry_driver::{Capabilities, Isolation, Machine};

const NOTES: [&str; 4] = [
    "limits bind a sandbox as a whole, its own kernel included: what needs more memory, or several times more processes, than its limit ends all of it",
    "figures are those of the sandbox with its own kernel; as processes count the host's threads that they take",
    "when memory is kept or a sandbox is paused, connections to the outside end with an error to its programs",
    "set-uid programs give nothing, so at level root there is no way from another user to uid 0",
];

/// See the module.
pub fn capabilities(machine: &Machine) -> Capabilities {
    Capabilities {
        driver: "gvisor".to_owned(),
        isolation: Isolation::ApplicationKernel,
        rootless: false,
        pause: true,
        pause_to_disk: true,
        file_snapshot: true,
        memory_snapshot: true,
        keeps_connections: false,
        file_fork: true,
        constant_time_fork: machine.sharing,
        limits: true,
        limits_spare_sandbox: false,
        disk_quota: machine.quota,
        call_filter: true,
        level_root: true,
        users: true,
        nat: machine.nat,
        volumes: true,
        notes: NOTES.map(str::to_owned).into(),
    }
}
