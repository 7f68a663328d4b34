//! A sandbox's agent among the processes of the host: finding it when nothing else remembers it, and what waits for it.

use std::{fs, io};

/// What the agent of a sandbox is called on the host.
pub(crate) fn agent_name(label: &str) -> String {
    format!("skerry-agent:{label}")
}

/// The agents of this sandbox. A process inside can take the name, and would then die with its sandbox, as it should.
pub(crate) fn agents_of(label: &str) -> io::Result<Vec<u32>> {
    let name = agent_name(label);
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else {
            continue;
        };
        // Gone already: not ours to find.
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if command.split(|&byte| byte == 0).next() == Some(name.as_bytes()) {
            found.push(pid);
        }
    }
    Ok(found)
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
