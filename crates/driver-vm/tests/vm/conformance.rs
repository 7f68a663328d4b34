//! The suite that every driver passes.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::{env, fs};

use async_trait::async_trait;
use skerry_driver::conformance::{self, run};
use skerry_driver::{Driver, Rootfs};
use skerry_net::Network;
use skerry_sys::cgroup::Cgroups;
use skerry_types::SandboxId;

use crate::bed::{Bed, root, test};

/// Checks that run by default: from each area what only this driver could get wrong.
const QUICK: [&str; 13] = [
    "life: a sandbox is made, listed, killed and destroyed",
    "life: an agent told to shut down takes the sandbox with it",
    "life: files outlive a kill",
    "attach: a link cut again and again",
    "limits: a memory hog",
    "isolation: there are no devices",
    "network: nat reaches neither host",
    "pause: a counter stops",
    "fork: has the files of one instant",
    "copies: many at once count on",
    "copies: connections",
    "memory: a copy of a copy",
    "adopt: a later daemon finds",
];

struct Host {
    bed: Bed,
    network: Network,
}

#[async_trait]
impl conformance::Bed for Host {
    async fn driver(&self) -> Arc<dyn Driver> {
        Arc::new(self.bed.driver(Some(self.network.clone())).await)
    }

    fn rootfs(&self) -> Rootfs {
        Bed::rootfs()
    }

    async fn snapshot(&self, made: &[SandboxId]) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        all.extend(mounts.lines().map(|line| format!("mount {line}")));
        all.extend(names("record", self.bed.data().join("vm/run")));
        let own = self.bed.storage.own_folder("vm").unwrap();
        all.extend(names("files", own.join("sandbox")));
        all.extend(names("snapshot", own.join("snapshot")));
        let groups = Cgroups::open(&self.bed.cgroup_parent).and_then(|groups| groups.names());
        let groups = groups.unwrap_or_default().into_iter();
        all.extend(groups.map(|name| format!("group {name}")));
        let networks = self.network.list().await.unwrap();
        let networks = networks.iter();
        all.extend(networks.map(|held| format!("network {}", held.sandbox)));
        all.extend(machines(made));
        all
    }

    fn secrets(&self) -> Vec<PathBuf> {
        vec![self.bed.data(), root()]
    }
}

fn names(what: &str, folder: PathBuf) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| format!("{what} {}", entry.unwrap().file_name().display()));
    names.collect()
}

/// Machines of these sandboxes, by the name they go by.
fn machines(made: &[SandboxId]) -> Vec<String> {
    let names: Vec<String> = made
        .iter()
        .map(|id| format!("skerry-vm:{}", id.label()))
        .collect();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).into_owned());
    lines
        .filter(|line| names.iter().any(|name| line.starts_with(name)))
        .map(|line| format!("process {line}"))
        .collect()
}

/// `SKERRY_CONFORMANCE` names the checks to run; all with `SKERRY_TEST_ALL=1`.
#[test]
fn conforms_to_what_it_declares() {
    test(async |bed| {
        let network = bed.network().await;
        let host = Host { bed, network };
        let named = env::var("SKERRY_CONFORMANCE").ok();
        let all = env::var_os("SKERRY_TEST_ALL").is_some();
        let filters: Vec<String> = match (named, all) {
            (Some(named), _) => vec![named],
            (None, true) => vec![String::new()],
            (None, false) => QUICK.map(str::to_owned).into(),
        };
        let mut failed = 0;
        for filter in filters {
            let report = run(&host, &filter).await;
            println!("{report}");
            assert!(!report.checked.is_empty(), "no check is called {filter:?}");
            failed += report.failed().count();
        }
        host.network.stop().await.unwrap();
        assert_eq!(failed, 0);
    });
}
