//! What the facts mean for sandboxes. A pure function, so that every machine can be tested on any.

use serde::Serialize;

use super::probe::{Machine, Server};
use crate::cli::output::size;

/// How good it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Level {
    /// All there.
    Good,
    /// Works, with less.
    Less,
    /// Sandboxes cannot run.
    Bad,
}

/// One row of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) what: &'static str,
    pub(crate) level: Level,
    pub(crate) state: String,
    /// What would help.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) help: Option<String>,
}

impl Finding {
    fn good(what: &'static str, state: impl Into<String>) -> Self {
        Self {
            what,
            level: Level::Good,
            state: state.into(),
            help: None,
        }
    }

    fn less(what: &'static str, state: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            what,
            level: Level::Less,
            state: state.into(),
            help: Some(help.into()),
        }
    }

    fn bad(what: &'static str, state: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            level: Level::Bad,
            ..Self::less(what, state, help)
        }
    }
}

pub(crate) fn of(machine: &Machine) -> Vec<Finding> {
    let mut all = vec![
        user(machine),
        namespaces(machine),
        limits(machine),
        storage(machine),
        disk(machine),
        records(machine),
        network(machine),
        ids(machine),
        base_image(machine),
    ];
    all.push(gvisor(machine));
    all.push(vm(machine));
    all.push(docker(machine));
    all.push(memory(machine));
    all.push(server(machine));
    all
}

fn has(machine: &Machine, program: &str) -> bool {
    machine.programs.contains(&program)
}

fn user(machine: &Machine) -> Finding {
    if machine.is_root {
        Finding::good("user", format!("root, Linux {}", machine.kernel))
    } else {
        Finding::less(
            "user",
            format!("an ordinary user, Linux {}", machine.kernel),
            "as root sandboxes also get disk quotas, and forks in constant time",
        )
    }
}

fn namespaces(machine: &Machine) -> Finding {
    let overlay = machine.file_systems.iter().any(|f| f == "overlay");
    match (machine.user_namespaces, overlay) {
        (true, true) => Finding::good("driver ns", "user namespaces and overlayfs work"),
        (false, _) => Finding::bad(
            "driver ns",
            "this user may not make user namespaces",
            "set kernel.unprivileged_userns_clone=1 or user.max_user_namespaces above 0, and allow it in AppArmor",
        ),
        (true, false) => Finding::bad(
            "driver ns",
            "the kernel has no overlayfs",
            "load it: modprobe overlay",
        ),
    }
}

fn limits(machine: &Machine) -> Finding {
    let complete = |c: &[String]| {
        ["memory", "cpu", "pids"]
            .iter()
            .all(|w| c.iter().any(|x| x == w))
    };
    let version = match (complete(&machine.cgroup_v2), complete(&machine.cgroup_v1)) {
        (true, _) => "cgroup v2",
        (false, true) => "cgroup v1",
        (false, false) => {
            return Finding::less(
                "limits",
                "no memory, CPU and process limits: the controllers are missing",
                "boot with cgroup v2 and the controllers memory, cpu and pids",
            );
        }
    };
    match &machine.no_cgroups {
        None => Finding::good("limits", format!("memory, CPU and processes, by {version}")),
        Some(why) => Finding::less(
            "limits",
            format!("none: {version} is there, but {why}"),
            if version == "cgroup v2" {
                "start it by `systemd-run --user --scope -p Delegate=yes skerry up`, or as root"
            } else {
                "run as root"
            },
        ),
    }
}

fn storage(machine: &Machine) -> Finding {
    let btrfs = machine.file_systems.iter().any(|f| f == "btrfs");
    match (machine.data_fs.as_str(), machine.is_root) {
        ("btrfs", _) => Finding::good("storage", "btrfs: forks in constant time"),
        (_, true) if btrfs && machine.loop_devices && has(machine, "mkfs.btrfs") => Finding::good(
            "storage",
            "btrfs in a pool file: forks in constant time, disk quotas",
        ),
        (_, true) => Finding::less(
            "storage",
            format!(
                "copies on {}: a fork takes as long as copying what was written",
                machine.data_fs
            ),
            if btrfs {
                "install btrfs-progs"
            } else {
                "use a kernel with btrfs, or put the data folder on btrfs or xfs"
            },
        ),
        ("xfs", false) => Finding::less(
            "storage",
            "reflinks on xfs: a fork shares data, and takes longer with more files; no disk quotas",
            "put the data folder on btrfs, or run as root",
        ),
        (fs, false) => Finding::less(
            "storage",
            format!(
                "copies on {fs}: a fork takes as long as copying what was written; no disk quotas"
            ),
            "put the data folder on btrfs, or run as root",
        ),
    }
}

fn disk(machine: &Machine) -> Finding {
    const GIB: u64 = 1 << 30;
    let path = machine.data_dir.display();
    let state = format!("{} GiB free in {path}", machine.free_bytes / GIB);
    if machine.free_bytes < 2 * GIB {
        return Finding::less(
            "disk",
            state,
            "free some, or choose another folder with --data-dir",
        );
    }
    Finding::good("disk", state)
}

fn network(machine: &Machine) -> Finding {
    if has(machine, "nft") {
        Finding::good("network", "none and nat")
    } else {
        Finding::less(
            "network",
            "none only: the program nft is missing",
            "install nftables",
        )
    }
}

fn ids(machine: &Machine) -> Finding {
    match (machine.is_root, &machine.one_id) {
        (true, _) => Finding::good(
            "users inside",
            "65536 for each sandbox; levels restricted and root",
        ),
        (false, None) => Finding::good(
            "users inside",
            "65536 that all sandboxes share; levels restricted and root",
        ),
        (false, Some(why)) => Finding::less(
            "users inside",
            format!("one, which is root inside without capabilities: {why}"),
            "install uidmap, and give this user a line in /etc/subuid and /etc/subgid: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER",
        ),
    }
}

fn base_image(machine: &Machine) -> Finding {
    let fakes = has(machine, "fakechroot") && has(machine, "fakeroot");
    let ids = machine.is_root || machine.one_id.is_none();
    let missing = match (has(machine, "mmdebstrap"), ids || fakes) {
        (true, true) => {
            return Finding::good("image base", "can be built here: skerry image build base");
        }
        (true, false) => "install fakechroot and fakeroot",
        (false, true) => "install mmdebstrap",
        (false, false) => "install mmdebstrap, fakechroot and fakeroot",
    };
    let state = "cannot be built here; host and OCI images work";
    Finding::less("image base", state, missing)
}

/// Whether there is a kernel of its own for what is less trusted.
fn gvisor(machine: &Machine) -> Finding {
    match (machine.is_root, &machine.gvisor) {
        (true, Some(version)) => {
            let state = format!("driver gvisor: runsc {version}; `--driver gvisor` takes it");
            Finding::good("gvisor", state)
        }
        (false, _) => Finding::less(
            "gvisor",
            "no driver gvisor: it maps users and enters networks as root",
            "run the server as root",
        ),
        (true, None) => Finding::less(
            "gvisor",
            format!("no driver gvisor: {}", machine.no_gvisor),
            "install runsc, from gVisor's releases or Debian's backports",
        ),
    }
}

/// Whether there is somebody else's containers to use.
fn docker(machine: &Machine) -> Finding {
    const WHAT: &str = "docker";
    match &machine.engine {
        Some(name) => Finding::good(
            WHAT,
            format!("driver docker: {name}; `--driver docker` takes it"),
        ),
        None => Finding::less(
            WHAT,
            format!("no driver docker: {}", machine.no_engine),
            "only for those who want their own engine: start Docker, or Podman's service",
        ),
    }
}

/// Whether there are whole machines for what is not trusted at all.
fn vm(machine: &Machine) -> Finding {
    const WHAT: &str = "vm";
    let found = match (machine.is_root, &machine.vm) {
        (true, Some(found)) if has(machine, "mke2fs") => found,
        (false, _) => {
            return Finding::less(
                WHAT,
                "no driver vm: it locks QEMU in with rights that only root has",
                "run the server as root",
            );
        }
        (true, Some(_)) => {
            let state = "no driver vm: the program mke2fs is missing";
            return Finding::less(WHAT, state, "install e2fsprogs");
        }
        (true, None) => {
            return Finding::less(
                WHAT,
                format!("no driver vm: {}", machine.no_vm),
                "install QEMU 8.2 or newer and linux-image-cloud-amd64, or put both into the cache folder: scripts/tools.sh qemu kernel",
            );
        }
    };
    let state = format!(
        "driver vm: QEMU {}, guests with Linux {}",
        found.qemu, found.kernel
    );
    match &found.no_kvm {
        None => Finding::good(WHAT, format!("{state}, on KVM; `--driver vm` takes it")),
        Some(why) => Finding::less(
            WHAT,
            format!("{state}, translated, which is several times slower; `--driver vm` takes it"),
            format!("KVM would make it fast: {why}"),
        ),
    }
}

/// Whether forks and snapshots of driver ns can have memory.
fn memory(machine: &Machine) -> Finding {
    const WHAT: &str = "memory forks";
    let without = |why: &str, help: &str| {
        let state = format!("driver ns forks and keeps files only: {why}");
        Finding::less(WHAT, state, help)
    };
    match (machine.is_root, &machine.no_cgroups, &machine.criu) {
        (false, _, _) => without("CRIU needs root", "run the server as root"),
        (_, Some(_), _) => without("there are no control groups", "see the row `limits`"),
        (_, _, None) => without(
            &machine.no_criu,
            "install a newer CRIU, 4.1 at least, or put one into the cache folder: scripts/tools.sh criu",
        ),
        (true, None, Some(version)) => {
            let state =
                format!("of ns sandboxes: CRIU {version} works; `--memory required` takes it");
            Finding::good(WHAT, state)
        }
    }
}

/// What is kept of sandboxes beside their files.
fn records(machine: &Machine) -> Finding {
    let (used, limit) = machine.records;
    let state = format!("{} of at most {}", size(used), size(limit));
    if used < limit / 10 * 9 {
        return Finding::good("records", state);
    }
    Finding::less(
        "records",
        format!(
            "{state}; those of deleted sandboxes go first, and without room nothing new begins"
        ),
        "delete sandboxes, or give records more with --journals-mb",
    )
}

fn server(machine: &Machine) -> Finding {
    match &machine.server {
        Some(server) if server.troubles.is_empty() => Finding::good(
            "server",
            format!("listens on {}, and takes work", server.url),
        ),
        Some(Server { url, troubles }) => Finding::less(
            "server",
            format!("takes no work on {url}: {}", troubles.join("; ")),
            "its log says more; without one that answers: skerry up",
        ),
        None => Finding::less(
            "server",
            "does not run for this data folder",
            "start it: skerry up",
        ),
    }
}

#[cfg(test)]
mod tests {
    use skerry_driver_vm::Survey;

    use super::*;

    fn level(machine: &Machine, what: &str) -> Level {
        let all = of(machine);
        all.iter().find(|f| f.what == what).unwrap().level
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&n| n.to_owned()).collect()
    }

    fn full() -> Machine {
        Machine {
            is_root: true,
            user_namespaces: true,
            cgroup_v2: names(&["cpu", "memory", "pids"]),
            file_systems: names(&["overlay", "btrfs"]),
            data_fs: "ext4".to_owned(),
            free_bytes: 50 << 30,
            loop_devices: true,
            programs: vec!["mkfs.btrfs", "nft", "mmdebstrap", "mke2fs"],
            gvisor: Some("1 on systrap".to_owned()),
            criu: Some("4.1.1".to_owned()),
            engine: Some("Podman Engine 1".to_owned()),
            vm: Some(Survey {
                qemu: "10.0.2".to_owned(),
                kernel: "6.1.0".to_owned(),
                no_kvm: None,
            }),
            records: (1 << 20, 1 << 30),
            server: Some(Server {
                url: "http://127.0.0.1:7300".to_owned(),
                troubles: Vec::new(),
            }),
            ..Machine::default()
        }
    }

    #[test]
    fn a_full_machine_lacks_nothing() {
        for finding in of(&full()) {
            assert_eq!(finding.level, Level::Good, "{finding:?}");
            assert_eq!(finding.help, None);
        }
    }

    #[test]
    fn each_lack_is_said_with_what_helps() {
        type Break = fn(&mut Machine);
        let cases: [(&str, Level, Break); 17] = [
            ("memory forks", Level::Less, |m| m.criu = None),
            ("memory forks", Level::Less, |m| m.is_root = false),
            ("memory forks", Level::Less, |m| {
                m.no_cgroups = Some("none is delegated".to_owned());
            }),
            ("vm", Level::Less, |m| m.vm = None),
            ("vm", Level::Less, |m| {
                let vm = m.vm.as_mut().unwrap();
                vm.no_kvm = Some("a guest hangs on it".to_owned());
            }),
            ("user", Level::Less, |m| m.is_root = false),
            ("driver ns", Level::Bad, |m| m.user_namespaces = false),
            ("driver ns", Level::Bad, |m| m.file_systems.clear()),
            ("limits", Level::Less, |m| m.cgroup_v2.clear()),
            ("limits", Level::Less, |m| {
                m.no_cgroups = Some("none is delegated".to_owned());
            }),
            ("users inside", Level::Less, |m| {
                m.is_root = false;
                m.one_id = Some("no range".to_owned());
            }),
            ("storage", Level::Less, |m| m.programs.clear()),
            ("disk", Level::Less, |m| m.free_bytes = 1 << 30),
            ("network", Level::Less, |m| m.programs.clear()),
            ("records", Level::Less, |m| m.records = (1 << 30, 1 << 30)),
            ("server", Level::Less, |m| m.server = None),
            ("server", Level::Less, |m| {
                let server = m.server.as_mut().unwrap();
                server.troubles.push("the pool takes no writes".to_owned());
            }),
        ];
        for (what, want, change) in cases {
            let mut machine = full();
            change(&mut machine);
            assert_eq!(level(&machine, what), want, "{what}");
            let findings = of(&machine);
            let finding = findings.iter().find(|f| f.what == what).unwrap();
            assert!(finding.help.is_some(), "{finding:?}");
        }
    }
}
