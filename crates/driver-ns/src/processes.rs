//! A sandbox's agent among the processes of the host: finding it when nothing else remembers it, and what waits for it.

use std::{fs, io};

use skerry_sys::processes;

/// What the agent of a sandbox is called on the host.
pub(crate) fn agent_name(label: &str) -> String {
    format!("skerry-agent:{label}")
}

/// The agents of this sandbox. A process inside can take the name, and would then die with its sandbox, as it should.
pub(crate) fn agents_of(label: &str) -> io::Result<Vec<u32>> {
    let name = agent_name(label);
    processes::with_arguments(|arguments| arguments.first() == Some(&name.as_bytes()))
}

/// Was it killed, and dies as soon as it is thawed? One that is gone has.
pub(crate) fn is_killed(pid: u32) -> io::Result<bool> {
    const KILL: u64 = 1 << (9 - 1);
    let status = match fs::read_to_string(format!("/proc/{pid}/status")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        status => status?,
    };
    let pending = status.lines().filter_map(|line| {
        let (name, set) = line.split_once(":\t")?;
        let is_pending = matches!(name, "SigPnd" | "ShdPnd");
        is_pending.then(|| u64::from_str_radix(set, 16).ok())?
    });
    Ok(pending.fold(0, |all, set| all | set) & KILL != 0)
}
