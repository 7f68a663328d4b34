//! What this machine gives to a node: storage, network, images and drivers over them.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use ipnet::IpNet;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use skerry_control::{Member, NodeFacts, Offer};
use skerry_driver::Driver;
use skerry_image::{Images, Options as ImageOptions, PrivateRegistry, Reach, Room};
use skerry_net::policy::{HostAddresses, Policy, Verdict};
use skerry_net::{Config, Network, Options as NetOptions};
use skerry_node::{Gate, Node, ReadyLimits};
use skerry_storage::{Options as StorageOptions, Storage};
use skerry_store::LOCAL_NODE;

use super::drivers::{self, Ground};
use crate::data_dir::DataDir;
use crate::{env, internal};

/// What the operator opens that is closed by default.
#[derive(Debug, Args)]
pub(crate) struct Borders {
    /// Networks that sandboxes may reach although they are private
    #[arg(long, env = env::EGRESS_ALLOW, hide_env_values = true, value_name = "CIDR", value_delimiter = ',')]
    egress_allow: Vec<IpNet>,
    /// Registries that images may come from although they are private: `HOST[:PORT]`, `http://…` if without TLS
    #[arg(long, env = env::PRIVATE_REGISTRIES, hide_env_values = true, value_name = "HOST", value_delimiter = ',')]
    private_registry: Vec<PrivateRegistry>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) network: Option<Network>,
    pub(crate) images: Arc<Images>,
    pub(crate) storage: Arc<Storage>,
    /// The default first.
    pub(crate) drivers: Vec<Arc<dyn Driver>>,
}

/// Moves this process, which has one thread yet, into a mount namespace of its own that still sees what the host mounts later.
pub(crate) fn enter_private_mounts() -> anyhow::Result<()> {
    // Also as root of a user namespace.
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    unshare(CloneFlags::CLONE_NEWNS).context("cannot make a mount namespace")?;
    let slave = MsFlags::MS_REC | MsFlags::MS_SLAVE;
    mount(None::<&str>, "/", None::<&str>, slave, None::<&str>)
        .context("cannot keep mounts private")
}

impl Machine {
    pub(crate) async fn open(
        data_dir: &DataDir,
        borders: &Borders,
        why_one_id: Option<String>,
    ) -> anyhow::Result<Self> {
        // Meanwhile the rest is made ready.
        let criu = tokio::spawn(drivers::criu(data_dir.criu()));
        let path = data_dir.path().to_owned();
        let storage =
            tokio::task::spawn_blocking(move || Storage::open(&path, &StorageOptions::default()))
                .await?
                .context("cannot open the storage")?;
        let storage = Arc::new(storage);
        let network = start_network(data_dir, &borders.egress_allow).await;
        let images = Arc::new(open_images(data_dir, borders, &storage)?);
        let ground = Ground {
            data_dir,
            storage: Arc::clone(&storage),
            network: network.clone(),
            why_one_id,
            criu: criu.await?,
        };
        let drivers = ground.drivers().await?;
        Ok(Self {
            network,
            images,
            storage,
            drivers,
        })
    }

    pub(crate) fn has_nat(&self) -> bool {
        let default = self.drivers.first();
        default.is_some_and(|driver| driver.capabilities().nat)
    }

    /// Who keeps the rules of where sandboxes may connect.
    pub(crate) fn gate(&self) -> Option<Arc<dyn Gate>> {
        let network = self.network.clone()?;
        Some(Arc::new(network))
    }

    /// The node of this machine, as control knows it.
    pub(crate) fn member(&self, node: Arc<Node>, slots: u32) -> Member {
        let capabilities = self.drivers.iter().map(|driver| driver.capabilities());
        let offers = capabilities.map(|can| Offer {
            driver: can.driver.clone(),
            isolation: can.isolation.as_str().to_owned(),
            volumes: can.volumes,
        });
        Member {
            facts: NodeFacts {
                id: LOCAL_NODE,
                name: "local".to_owned(),
                region: "local".to_owned(),
                slots,
                offers: offers.collect(),
            },
            handle: node,
        }
    }

    /// Each connection that the network's policy refuses goes into its sandbox's journal.
    pub(crate) fn note_refusals(&self, node: Arc<Node>) {
        let Some(network) = &self.network else { return };
        let mut refusals = network.refusals();
        tokio::spawn(async move {
            while let Some(refusal) = refusals.recv().await {
                node.note_egress_refused(refusal.sandbox, refusal.to(), refusal.reason);
            }
        });
    }

    /// With no sandbox left, nothing stays on the host: the node's control group and the gateway go too.
    pub(crate) async fn close(&self) {
        for driver in &self.drivers {
            match driver.release().await {
                Ok(true) => {}
                Ok(false) => return tracing::info!("sandboxes run on"),
                Err(error) => return tracing::warn!(%error, "something is left on the host"),
            }
        }
        if let Some(network) = &self.network
            && let Err(error) = network.stop().await
        {
            tracing::debug!(%error, "the gateway ends later by itself");
        }
    }
}

/// Virtual machines that nobody uses yet get at most a quarter of the memory.
pub(crate) fn ready_limits(each: u32, prepared: u32) -> ReadyLimits {
    let total_kb = rustix::system::sysinfo().totalram as u64 / 1024;
    ReadyLimits {
        each: each as usize,
        memory_mb: total_kb / 1024 / 4,
        prepared: prepared as usize,
    }
}

/// Images come from where sandboxes may connect, and from registries that the operator names; the disk's last bytes are not theirs.
fn open_images(
    data_dir: &DataDir,
    borders: &Borders,
    storage: &Arc<Storage>,
) -> anyhow::Result<Images> {
    let policy = Policy::new(borders.egress_allow.clone(), Config::default().subnet);
    let judge = move |address: IpAddr| match HostAddresses::read() {
        Err(error) => Some(format!("this machine's addresses are not known: {error}")),
        Ok(own) => match policy.verdict(address, &own) {
            Verdict::Allow => None,
            Verdict::Deny(reason) => Some(format!("it is {}", reason.what())),
        },
    };
    let storage = Arc::clone(storage);
    let room = move |bytes| {
        let room = storage.room(bytes);
        room.map(drop)
            .map_err(|error| io::Error::new(io::ErrorKind::StorageFull, error))
    };
    let options = ImageOptions {
        reach: Reach::new(judge, borders.private_registry.clone()),
        room: Room::new(room),
        ..ImageOptions::default()
    };
    Ok(Images::open_with(data_dir.path(), options)?)
}

/// Without a network sandboxes still work; the driver says what they miss.
async fn start_network(data_dir: &DataDir, egress_allow: &[IpNet]) -> Option<Network> {
    let options = NetOptions {
        command: internal::command("gateway").ok()?,
        dir: data_dir.network(),
        config: Config {
            egress_allow: egress_allow.to_vec(),
            ..Config::default()
        },
    };
    match Network::start(options).await {
        Ok(network) => Some(network),
        Err(error) => {
            tracing::warn!(%error, "sandboxes have no network");
            None
        }
    }
}
