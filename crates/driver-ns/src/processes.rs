//! Finding a sandbox's agent among the processes of the host, for when nothing else remembers it.

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
