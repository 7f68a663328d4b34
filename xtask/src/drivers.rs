//! What each driver can do, and what a machine needs for it: found by taking one thing after the other from a machine that has all.

use skerry_driver::{Capabilities, Machine};

type Declare = fn(&Machine) -> Capabilities;
type Lack = (&'static str, fn(&mut Machine));

const DRIVERS: [Declare; 4] = [
    skerry_driver_ns::capabilities,
    skerry_driver_gvisor::capabilities,
    skerry_driver_vm::capabilities,
    skerry_driver_docker::capabilities,
];

/// What a machine may not have, as a reader would name it.
const LACKS: [Lack; 7] = [
    ("root", |machine| machine.root = false),
    ("a range of ids", |machine| machine.ids = false),
    ("control groups", |machine| machine.cgroups = false),
    ("storage that shares", |machine| machine.sharing = false),
    ("storage with quotas", |machine| machine.quota = false),
    ("the gateway", |machine| machine.nat = false),
    ("CRIU", |machine| machine.criu = false),
];

/// The document.
pub(crate) fn table() -> String {
    let names = DRIVERS.map(|declare| format!("`{}`", declare(&Machine::FULL).driver));
    let isolations = DRIVERS.map(|declare| declare(&Machine::FULL).isolation.as_str().to_owned());
    let mut text = HEAD.to_owned();
    text += &line("", &names);
    text += "|---|---|---|---|---|\n";
    text += &line("what stands between a sandbox and the host", &isolations);
    text += &line("works without root", &DRIVERS.map(rootless));
    for (row, (what, _)) in abilities(&DRIVERS[0](&Machine::FULL)).iter().enumerate() {
        text += &line(what, &DRIVERS.map(|declare| cell(declare, row)));
    }
    for (name, declare) in names.iter().zip(DRIVERS) {
        for note in declare(&Machine::FULL).notes {
            text += &format!("\n* {name}: {note}.");
        }
    }
    text + "\n"
}

fn line(what: &str, cells: &[String]) -> String {
    format!("| {what} | {} |\n", cells.join(" | "))
}

fn rootless(declare: Declare) -> String {
    let mut machine = Machine::FULL;
    machine.root = false;
    yes(declare(&machine).rootless)
}

fn yes(can: bool) -> String {
    if can { "yes" } else { "–" }.to_owned()
}

/// Whether a driver can do it on a full machine, and if so what it cannot do without.
fn cell(declare: Declare, row: usize) -> String {
    let can = |machine: &Machine| abilities(&declare(machine))[row].1;
    let needs = LACKS.iter().filter(|(_, take)| {
        let mut machine = Machine::FULL;
        take(&mut machine);
        !can(&machine)
    });
    let needs: Vec<&str> = needs.map(|(what, _)| *what).collect();
    match (can(&Machine::FULL), needs.is_empty()) {
        (true, false) => format!("with {}", needs.join(", ")),
        (can, _) => yes(can),
    }
}

/// All that is yes or no, in words. A capability that is new does not compile before it is here.
fn abilities(of: &Capabilities) -> [(&'static str, bool); 15] {
    let Capabilities {
        driver: _,
        isolation: _,
        rootless: _,
        pause,
        pause_to_disk,
        file_snapshot,
        memory_snapshot,
        keeps_connections,
        file_fork,
        constant_time_fork,
        limits,
        limits_spare_sandbox,
        disk_quota,
        call_filter,
        level_root,
        users,
        nat,
        volumes,
        notes: _,
    } = of;
    [
        ("pause and resume", *pause),
        (
            "paused it uses no memory, and outlives a restart of the machine",
            *pause_to_disk,
        ),
        ("forks with files", *file_fork),
        (
            "forks take as long however much was written",
            *constant_time_fork,
        ),
        ("snapshots of files", *file_snapshot),
        (
            "snapshots and forks with memory and processes",
            *memory_snapshot,
        ),
        (
            "connections to the outside outlive that; in copies they always end",
            *keeps_connections,
        ),
        ("limits of memory, processors and processes", *limits),
        (
            "who exceeds one fails alone; else its sandbox ends",
            *limits_spare_sandbox,
        ),
        ("limit of what is written", *disk_quota),
        (
            "system calls that programs do not need never reach the host's kernel",
            *call_filter,
        ),
        ("level `root`", *level_root),
        ("users besides uid 0", *users),
        ("network `nat`", *nat),
        ("volumes", *volumes),
    ]
}

const HEAD: &str = "# Drivers

Made by `cargo xtask gen` from what the drivers declare; the conformance suite holds each of them to it. `with …` names what the machine must have. `skerry doctor` says what yours has, and `facts` of a sandbox what it is.

`root`: the server runs as root, or for `docker` the engine does. `a range of ids`: root, or lines in `/etc/subuid` and `/etc/subgid`. `storage that shares`: btrfs; for `vm` anything with reflinks. `storage with quotas`: btrfs as root.

";
