//! What this driver can do, by what the machine has.

use skerry_driver::{Capabilities, Isolation, Machine};

const NO_MEMORY: &str =
    "forks and snapshots have no memory: that needs CRIU 4.1 or newer, root and control groups";
const NO_CGROUPS: [&str; 2] = [
    "the number of processes is bounded all the same, by an rlimit",
    "a fork copies files while the parent writes, since it cannot be frozen",
];

/// See the module.
pub fn capabilities(machine: &Machine) -> Capabilities {
    let memory = machine.root && machine.cgroups && machine.criu;
    let mut notes = Vec::new();
    if !machine.cgroups {
        notes.extend(NO_CGROUPS.map(str::to_owned));
    }
    if !memory {
        notes.push(NO_MEMORY.to_owned());
    }
    Capabilities {
        driver: "ns".to_owned(),
        isolation: Isolation::Namespace,
        rootless: !machine.root,
        pause: machine.cgroups,
        pause_to_disk: false,
        file_snapshot: true,
        memory_snapshot: memory,
        keeps_connections: memory,
        file_fork: true,
        constant_time_fork: machine.sharing,
        limits: machine.cgroups,
        limits_spare_sandbox: machine.cgroups,
        disk_quota: machine.quota,
        call_filter: true,
        level_root: machine.ids,
        users: machine.ids,
        nat: machine.nat,
        volumes: true,
        notes,
    }
}
