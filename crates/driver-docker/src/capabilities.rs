//! What this driver can do, by what the machine has.

use skerry_driver::{Capabilities, Isolation, Machine};

const NOTES: [&str; 4] = [
    "isolation is what the engine gives: uid 0 inside is the engine's own user unless it maps users, and the host's paths of what is mounted show",
    "system calls are filtered by the engine's own profile, which lets programs make namespaces and raw sockets of their own",
    "no network `nat`: an engine's bridge leads to the host and to neighbours",
    "no disk limit; a fork or a snapshot takes as long as copying what was written",
];

/// See the module. Its `root` is that of the engine.
pub fn capabilities(machine: &Machine) -> Capabilities {
    Capabilities {
        driver: "docker".to_owned(),
        isolation: Isolation::Namespace,
        rootless: !machine.root,
        pause: true,
        pause_to_disk: false,
        file_snapshot: true,
        memory_snapshot: false,
        keeps_connections: false,
        file_fork: true,
        constant_time_fork: false,
        limits: true,
        limits_spare_sandbox: true,
        disk_quota: false,
        call_filter: false,
        level_root: true,
        users: true,
        nat: false,
        volumes: false,
        notes: NOTES.map(str::to_owned).into(),
    }
}
