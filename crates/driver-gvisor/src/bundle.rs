//! What `runsc` is told of a sandbox: a description in the form of the Open Container Initiative.

use serde_json::{Value, json};
use skerry_driver::{Bind, Privilege, Spec};
use skerry_sys::idmap::RANGE;

use crate::etc::KEEP_TMP;
use crate::launch::stage;
use crate::link::SOCKET;

/// Where the sandbox sees the agent's program and its socket. Nobody but the agent may look into it.
const AGENT_FOLDER: &str = "/.skerry";
/// The agent's program in there.
pub(crate) const PROGRAM: &str = "agent";

/// Where memory is short the sandbox's kernel goes first, and all else with it: when a program of the sandbox is killed behind its back, threads of
/// it that sleep stay, and so does its memory.
const KERNEL_GOES_FIRST: i32 = 1000;

/// To become users, to signal them and to keep their files; to rename a copy; and to give up all else.
const RESTRICTED: [&str; 9] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_SYS_ADMIN",
];
/// What uid 0 inside can do at level root. The last one is the agent's alone.
const ROOT: [&str; 13] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_AUDIT_WRITE",
    "CAP_SETFCAP",
    "CAP_SYS_ADMIN",
];

/// The description of one sandbox.
pub(crate) fn describe(spec: &Spec, first_id: u32, has_netns: bool) -> Value {
    let map = json!([{ "containerID": 0, "hostID": first_id, "size": RANGE }]);
    let mut namespaces = ["pid", "ipc", "uts", "mount", "user"]
        .map(|kind| json!({ "type": kind }))
        .to_vec();
    namespaces.push(if has_netns {
        // The launcher has entered it.
        json!({ "type": "network", "path": "/proc/self/ns/net" })
    } else {
        json!({ "type": "network" })
    });
    json!({
        "ociVersion": "1.0.2",
        "hostname": spec.hostname,
        "root": { "path": stage::root() },
        "process": process(spec.privilege),
        "mounts": mounts(spec),
        "linux": { "namespaces": namespaces, "uidMappings": map, "gidMappings": map },
    })
}

fn process(privilege: Privilege) -> Value {
    let (level, capabilities) = match privilege {
        Privilege::Restricted => ("restricted", &RESTRICTED[..]),
        Privilege::Root => ("root", &ROOT[..]),
    };
    json!({
        "user": { "uid": 0, "gid": 0 },
        "cwd": "/",
        "args": [
            format!("{AGENT_FOLDER}/{PROGRAM}"),
            "--level", level,
            "--dial", format!("{AGENT_FOLDER}/{SOCKET}"),
            "--forget", format!("/tmp/{KEEP_TMP}"),
        ],
        "env": [],
        "capabilities": {
            "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
        },
        "noNewPrivileges": false,
        "oomScoreAdj": KERNEL_GOES_FIRST,
    })
}

fn mounts(spec: &Spec) -> Vec<Value> {
    let shm_kib = u64::from(spec.resources.memory_mb) * 1024 / 2;
    let mut mounts = vec![
        json!({ "destination": "/proc", "type": "proc", "source": "proc" }),
        json!({ "destination": "/dev", "type": "tmpfs", "source": "tmpfs" }),
        json!({
            "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
            "options": ["mode=1777", format!("size={shm_kib}k"), "nosuid", "nodev"],
        }),
        json!({ "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"] }),
    ];
    let shown = |number: usize, bind: &Bind| {
        json!({
            "destination": bind.target, "type": "bind", "source": stage::bind(number),
            "options": ["ro", "rbind", "nosuid", "nodev"],
        })
    };
    mounts.extend(
        spec.rootfs
            .binds
            .iter()
            .enumerate()
            .map(|(number, bind)| shown(number, bind)),
    );
    mounts.extend((0..).zip(&spec.volumes).map(|(number, volume)| {
        json!({
            "destination": volume.target, "type": "bind", "source": stage::volume(number),
            "options": ["rw", "rbind", "nosuid", "nodev"],
        })
    }));
    mounts.push(json!({
        "destination": AGENT_FOLDER, "type": "bind", "source": stage::inside(),
        "options": ["ro", "rbind", "nosuid", "nodev"],
    }));
    mounts
}
