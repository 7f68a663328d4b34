//! The suite that every driver passes.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::{env, fs};

use async_trait::async_trait;
use rustix::process::{getegid, geteuid};
use skerry_driver::conformance::{self, VOLUME_BYTES, run};
use skerry_driver::{Driver, Rootfs};
use skerry_net::Network;
use skerry_sys::cgroup::Cgroups;
use skerry_sys::idmap::Ids;
use skerry_types::{SandboxId, VolumeId};

use crate::bed::{Bed, HELPER, test};

struct Host {
    bed: Bed,
    rootfs: Rootfs,
    network: Network,
}

#[async_trait]
impl conformance::Bed for Host {
    async fn driver(&self) -> Arc<dyn Driver> {
        let network = Some(self.network.clone());
        Arc::new(self.bed.driver_with(HELPER.as_ref(), network).await)
    }

    fn rootfs(&self) -> Rootfs {
        self.rootfs.clone()
    }

    async fn snapshot(&self, made: &[SandboxId]) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        all.extend(mounts.lines().map(|line| format!("mount {line}")));
        let records = fs::read_dir(self.bed.records()).unwrap();
        all.extend(records.map(|entry| format!("record {}", entry.unwrap().file_name().display())));
        let volumes = self.bed.storage.list().unwrap();
        all.extend(volumes.iter().map(|id| format!("volume {id}")));
        let groups = Cgroups::open(&self.bed.cgroup_parent).and_then(|groups| groups.names());
        all.extend(
            groups
                .unwrap_or_default()
                .into_iter()
                .map(|name| format!("group {name}")),
        );
        let networks = self.network.list().await.unwrap();
        all.extend(
            networks
                .iter()
                .map(|held| format!("network {}", held.sandbox)),
        );
        all.extend(agents(made));
        all
    }

    fn volume(&self) -> Option<PathBuf> {
        let (id, storage) = (VolumeId::new(), &self.bed.storage);
        let own = (geteuid().as_raw(), getegid().as_raw());
        let owner = Ids::own().unwrap().on_disk(0).map_or(own, |id| (id, id));
        storage.create_shared(id, VOLUME_BYTES, owner).unwrap();
        Some(storage.shared(id).unwrap())
    }

    fn secrets(&self) -> Vec<PathBuf> {
        vec![self.bed.data(), self.bed.path("image")]
    }
}

/// Agents of these sandboxes, by the name they go by; whatever a sandbox runs is gone with its agent.
fn agents(made: &[SandboxId]) -> Vec<String> {
    let names: Vec<String> = made
        .iter()
        .map(|id| format!("skerry-agent:{}", id.label()))
        .collect();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).into_owned());
    lines
        .filter(|line| names.iter().any(|name| line.starts_with(name)))
        .map(|line| format!("process {line}"))
        .collect()
}

/// `SKERRY_CONFORMANCE` names the checks to run; all without it.
#[test]
fn conforms_to_what_it_declares() {
    test(async |bed| {
        let rootfs = bed.spec().rootfs;
        let network = bed.network().await;
        let host = Host {
            bed,
            rootfs,
            network,
        };
        let filter = env::var("SKERRY_CONFORMANCE").unwrap_or_default();
        let report = run(&host, &filter).await;
        println!("{report}");
        host.network.stop().await.unwrap();
        assert_eq!(report.failed().count(), 0, "{report}");
    });
}
