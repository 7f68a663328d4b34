//! What this driver can do, by what the machine has.

use skerry_driver::{Capabilities, Isolation, Machine};

const NOTES: [&str; 2] = [
    "image `host` is refused: it shows folders of the host, which would have to be copied whole",
    "a copy with memory keeps the size, the network and the level that it was kept with",
];

/// See the module.
pub fn capabilities(machine: &Machine) -> Capabilities {
    Capabilities {
        driver: "vm".to_owned(),
        isolation: Isolation::Vm,
        rootless: false,
        pause: true,
        pause_to_disk: true,
        file_snapshot: true,
        memory_snapshot: true,
        keeps_connections: true,
        file_fork: true,
        constant_time_fork: machine.sharing,
        limits: true,
        limits_spare_sandbox: true,
        disk_quota: true,
        call_filter: true,
        level_root: true,
        users: true,
        nat: machine.nat,
        volumes: false,
        notes: NOTES.map(str::to_owned).into(),
    }
}
