//! Making a sandbox: its files, network and machine, then one word to the guest.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use skerry_driver::{DriverError, Extent, Instance, NetworkMode, Privilege, Spec, Step};
use skerry_net::{Netns, NetworkKind};
use skerry_proto::guest::{Call, File as GuestFile, Identity, Network, Start, Thaw};
use skerry_sys::{pidfd, watch};
use skerry_types::{Resources, SandboxId, SnapshotId};

use crate::base::Base;
use crate::clock;
use crate::disk;
use crate::driver::VmDriver;
use crate::error::{at, blocking};
use crate::keep::Kept;
use crate::layout::{self, DEVICES, DEVICES_OUT, DISK, MEMORY};
use crate::live::{Live, Now};
use crate::machine::{Begin, Shape};
use crate::process::{self, Started};
use crate::record::{Place, State};

const MIB: u64 = 1 << 20;
/// A guest mounts, configures and starts its agent within this time even where its instructions are translated on a loaded machine.
const START_PATIENCE: Duration = Duration::from_mins(1);
const ENTROPY_BYTES: usize = 64;
const NO_BINDS: &str = "a virtual machine cannot show folders of this machine, which image `host` is made of; take an image that has all of its \
    files: `base` (skerry image build base), or one of a registry";

/// What a new sandbox begins with.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source {
    /// Nothing of its own: it is a copy of one that nobody has used.
    New,
    /// Nothing of its own, and no such copy: a bare machine that is told what to be.
    Bare,
    /// The files of another.
    Parent(SandboxId),
    /// What was kept.
    Snapshot(SnapshotId),
}

/// What a machine is begun from.
#[derive(Debug)]
struct Origin {
    shape: Shape,
    /// Has memory and devices.
    machine: PathBuf,
    disk: PathBuf,
    /// How the base disk is to be shown; nothing where the guest has done that already.
    base: Option<Base>,
}

impl VmDriver {
    /// Makes a sandbox with its agent started; takes everything away again if that fails.
    pub(crate) async fn begin(&self, spec: &Spec, source: Source) -> Result<Instance, DriverError> {
        if spec.network == NetworkMode::Nat && !self.capabilities.nat {
            return Err(self.capabilities.unsupported("give network nat"));
        }
        self.capabilities.check_volumes(spec)?;
        if !spec.rootfs.binds.is_empty() {
            return Err(DriverError::Unsupported(NO_BINDS.to_owned()));
        }
        self.begin_record(spec.id)?;
        let made = self.make(spec, source).await;
        if made.is_err()
            && let Err(error) = self.remove(spec.id).await
        {
            tracing::warn!(id = %spec.id, %error, "a sandbox that could not be made left something; it is listed");
        }
        made
    }

    pub(crate) fn begin_record(&self, id: SandboxId) -> Result<(), DriverError> {
        self.records.begin(id).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => DriverError::Exists(id),
            _ => at("begin the record")(error),
        })
    }

    async fn make(&self, spec: &Spec, source: Source) -> Result<Instance, DriverError> {
        let mut laps = Laps::start();
        let origin = self.origin(spec, source).await?;
        laps.lap("image, template");
        let mut state = self.new_state(spec, origin.shape.clone())?;
        self.records
            .write(spec.id, &state)
            .map_err(at("write the record"))?;
        let folder = self.layout.sandbox(spec.id);
        layout::make_new(&folder).map_err(at("make the sandbox's folder"))?;
        self.place_disk(source, &origin.disk, spec.id, state.uid)
            .await?;
        laps.lap("disk");
        self.place_machine(&origin.machine, &folder, state.uid)
            .await?;
        let netns = self.netns(spec).await?;
        laps.lap("memory, network");
        state.facts.accelerator = Some(self.accelerator().await);
        state.facts.address = netns.as_ref().and_then(|netns| netns.address);
        let who = identity(spec, netns.as_ref());
        let started = self.launch(&state, Begin::Restore, netns).await?;
        laps.lap("start QEMU");
        let call = match origin.base {
            Some(base) => Call::Start(start(spec, &base, who)),
            None => Call::Renew(who),
        };
        self.first_words(spec.id, call, &started).await?;
        laps.lap("guest");
        self.remember(&mut state, started.process, started.pidfd)?;
        laps.lap("record");
        Ok(Instance {
            facts: state.facts,
            steps: laps.steps(),
        })
    }

    /// What it is begun from, made if it is missing.
    async fn origin(&self, spec: &Spec, source: Source) -> Result<Origin, DriverError> {
        if let Source::Snapshot(id) = source {
            let folder = self.layout.snapshot(id);
            let kept = kept(&folder)?;
            if kept.extent == Extent::Memory {
                self.check_engine(&kept.shape).await?;
                return restored(spec, folder, kept);
            }
        }
        // Neither needs the other.
        let (base, _) = tokio::join!(self.base(&spec.rootfs), self.accelerator());
        let base = base?;
        let shape = Shape {
            engine: self.engine_key().await,
            base: base.key.clone(),
            vcpus: spec.resources.vcpus,
            memory_mb: spec.resources.memory_mb,
            network: spec.network == NetworkMode::Nat,
        };
        let bare = self.template(&shape).await?;
        let disk = match source {
            Source::New => {
                let machine = self.model(spec, &shape).await?;
                return Ok(Origin {
                    shape,
                    disk: machine.join(DISK),
                    machine,
                    base: None,
                });
            }
            Source::Bare => self.blank(spec.resources.disk_mb).await?,
            Source::Parent(parent) => self.layout.sandbox(parent).join(DISK),
            Source::Snapshot(id) => self.layout.snapshot(id).join(DISK),
        };
        Ok(Origin {
            machine: bare,
            shape,
            disk,
            base: Some(base),
        })
    }

    /// Only what kept a machine can restore it.
    pub(crate) async fn check_engine(&self, shape: &Shape) -> Result<(), DriverError> {
        if shape.engine == self.engine_key().await {
            return Ok(());
        }
        let text = "its memory was kept with another QEMU, accelerator, guest kernel or version of this server; its files can still be forked";
        Err(DriverError::Unsupported(text.to_owned()))
    }

    pub(crate) fn new_state(&self, spec: &Spec, shape: Shape) -> Result<State, DriverError> {
        Ok(State {
            process: None,
            on_disk: false,
            uid: self.ranges.take().map_err(at("take a user"))?,
            shape,
            spec: spec.clone(),
            facts: self.capabilities.facts(spec, self.storage.tier().as_str()),
        })
    }

    /// The sandbox's own disk: of a parent that runs, as it is at one instant.
    async fn place_disk(
        &self,
        source: Source,
        from: &Path,
        id: SandboxId,
        uid: u32,
    ) -> Result<(), DriverError> {
        let (from, to) = (from.to_owned(), self.layout.sandbox(id).join(DISK));
        let copy = || blocking("copy the disk", move || owned_copy(&from, &to, uid));
        match source {
            Source::Parent(parent) => self.held_still(parent, copy()).await,
            _ => copy().await,
        }
    }

    /// Memory and devices to begin with, and room for the devices when it is kept.
    pub(crate) async fn place_machine(
        &self,
        from: &Path,
        folder: &Path,
        uid: u32,
    ) -> Result<(), DriverError> {
        let (from, folder) = (from.to_owned(), folder.to_owned());
        blocking("place the machine", move || {
            for name in [MEMORY, DEVICES] {
                fs::hard_link(from.join(name), folder.join(name))?;
            }
            make_output(&folder, uid)
        })
        .await
    }

    pub(crate) async fn netns(&self, spec: &Spec) -> Result<Option<Netns>, DriverError> {
        let (NetworkMode::Nat, Some(network)) = (spec.network, &self.network) else {
            return Ok(None);
        };
        let netns = network.acquire(NetworkKind::Nat, spec.id).await;
        netns.map(Some).map_err(DriverError::step("get a network"))
    }

    /// Starts the machine in its cage.
    pub(crate) async fn launch(
        &self,
        state: &State,
        begin: Begin,
        netns: Option<Netns>,
    ) -> Result<Started, DriverError> {
        let id = state.spec.id;
        let (place, group) = (Place::of(&self.records, id)?, self.group(id));
        let (label, uid, shape) = (id.label(), state.uid, state.shape.clone());
        let (folder, base) = (self.layout.sandbox(id), self.layout.base(&state.shape.base));
        let (launcher, engine) = (self.launcher.clone(), self.engine.clone());
        let accelerator = self.accelerator().await;
        let under_way = self.starting.begin(id);
        blocking("start QEMU", move || {
            let _under_way = under_way;
            let disk_bytes = fs::metadata(folder.join(DISK))?.len();
            process::start(process::Start {
                label,
                uid,
                shape,
                begin,
                folder,
                base,
                sockets: place.listen()?,
                group,
                netns,
                launcher,
                engine,
                accelerator,
                disk_bytes,
            })
        })
        .await
    }

    /// The first thing that a new machine is asked. Whatever goes wrong, what QEMU said tells why.
    pub(crate) async fn first_words(
        &self,
        id: SandboxId,
        call: Call,
        started: &Started,
    ) -> Result<(), DriverError> {
        let talk = async {
            if matches!(call, Call::Renew(_)) {
                self.ask(id, Call::Thaw(Thaw {}), START_PATIENCE).await?;
            }
            self.ask(id, call, START_PATIENCE).await?;
            clock::set_right(&Place::of(&self.records, id)?).await
        };
        match talk.await {
            Ok(()) => Ok(()),
            Err(error) => {
                let said = started.log.text();
                if said.is_empty() {
                    return Err(error);
                }
                let both = io::Error::other(format!("{error}; QEMU says: {said}"));
                Err(DriverError::step("bring the machine up")(both))
            }
        }
    }

    /// Writes down that it runs.
    pub(crate) fn remember(
        &self,
        state: &mut State,
        process: pidfd::Identity,
        pidfd: OwnedFd,
    ) -> Result<(), DriverError> {
        let id = state.spec.id;
        state.process = Some(process);
        state.on_disk = false;
        self.records
            .write(id, state)
            .map_err(at("write the record"))?;
        let pidfd = watch::readable(pidfd).map_err(at("watch the machine"))?;
        let now = Now::Runs(Arc::new(pidfd));
        let known = self.live(id);
        match known {
            Some(live) => live.becomes(now),
            None => drop(self.live.lock().insert(id, Arc::new(Live::new(now)))),
        }
        Ok(())
    }
}

/// A snapshot that is there and whole.
fn kept(folder: &Path) -> Result<Kept, DriverError> {
    Kept::read(folder).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            let text =
                "this node has no such snapshot, or it lost its power before that was on its disk";
            DriverError::Unsupported(text.to_owned())
        }
        _ => at("read the snapshot")(error),
    })
}

/// A machine goes on as what it was: its size is no choice any more.
fn restored(spec: &Spec, folder: PathBuf, kept: Kept) -> Result<Origin, DriverError> {
    let size = |resources: Resources| (resources.vcpus, resources.memory_mb);
    let same = size(spec.resources) == size(kept.spec.resources)
        && spec.network == kept.spec.network
        && spec.privilege == kept.spec.privilege;
    if !same {
        let text = "a snapshot with memory is restored with the processors, memory, network and level that it was made with";
        return Err(DriverError::Unsupported(text.to_owned()));
    }
    Ok(Origin {
        shape: kept.shape,
        disk: folder.join(DISK),
        machine: folder,
        base: None,
    })
}

pub(crate) fn owned_copy(from: &Path, to: &Path, uid: u32) -> io::Result<()> {
    let copy = disk::copy(from, to, 0o600)?;
    fchown(copy, Some(uid), Some(uid))
}

/// An empty file that the machine's devices can be written to.
pub(crate) fn make_output(folder: &Path, uid: u32) -> io::Result<()> {
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(0o600);
    let output = options.open(folder.join(DEVICES_OUT))?;
    fchown(output, Some(uid), Some(uid))
}

/// What the guest must know of a sandbox that begins.
fn start(spec: &Spec, base: &Base, who: Identity) -> Start {
    Start {
        identity: Some(who),
        layers: base.layers(),
        level_root: spec.privilege == Privilege::Root,
        memory_bytes: u64::from(spec.resources.memory_mb) * MIB,
        cpu_milli: u64::from(spec.resources.vcpus) * 1000,
        pids: u64::from(spec.resources.pids),
    }
}

/// What no two machines share.
pub(crate) fn identity(spec: &Spec, netns: Option<&Netns>) -> Identity {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let entropy: [u8; ENTROPY_BYTES] = std::array::from_fn(|_| rand::random());
    let network = netns.and_then(|netns| {
        Some(Network {
            address: netns.address?.to_bits(),
            gateway: netns.gateway.to_bits(),
        })
    });
    Identity {
        wall_clock_ns: now.map_or(0, |now| now.as_nanos() as i64),
        entropy: entropy.to_vec().into(),
        hostname: spec.hostname.clone(),
        network,
        files: files(spec, netns),
    }
}

/// The files that differ from sandbox to sandbox.
fn files(spec: &Spec, netns: Option<&Netns>) -> Vec<GuestFile> {
    let files = skerry_net::etc(spec.id, &spec.hostname, netns).into_iter();
    let files = files.map(|(name, content)| GuestFile {
        path: format!("/etc/{name}"),
        content,
    });
    files.collect()
}

/// Where the time of a start goes.
pub(crate) struct Laps {
    began: Instant,
    last: Instant,
    steps: Vec<Step>,
}

impl Laps {
    pub(crate) fn start() -> Self {
        let now = Instant::now();
        Self {
            began: now,
            last: now,
            steps: Vec::new(),
        }
    }

    /// The step with this name ends now.
    pub(crate) fn lap(&mut self, name: &str) {
        let now = Instant::now();
        self.steps.push(Step {
            name: name.to_owned(),
            took: now - self.last,
        });
        self.last = now;
    }

    /// All of them, and their sum.
    pub(crate) fn steps(mut self) -> Vec<Step> {
        self.steps.push(Step {
            name: "total".to_owned(),
            took: self.began.elapsed(),
        });
        self.steps
    }
}
