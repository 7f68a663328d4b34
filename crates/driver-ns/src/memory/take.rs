//! The driver's half: what is kept where, who is told to stand back meanwhile, and what is left if it fails.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use skerry_driver::{DriverError, NetworkMode, Snapshot, Spec, Step};
use skerry_sys::pidfd;
use skerry_types::{SandboxId, SnapshotId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout};

use super::kernel::Place;
use super::store::Origin;
use super::{HELPER_PATIENCE, Keep, MARGIN_BYTES, Memory, Wake};
use crate::driver::{NsDriver, blocking};
use crate::snapshots::{NO_LIMIT, volume_of};
use crate::spawner::{Bounds, Fds, Lap, Order, Reply, Request, Running, Started};
use crate::start::{Source, storage_error};

/// For the agent to listen, or to hang up.
const AGENT_PATIENCE: Duration = Duration::from_secs(5);
/// Nothing tells when it does.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

impl NsDriver {
    /// Keeps memory and files of a sandbox whose processes are held. Nothing of that is left if it fails, and the sandbox goes on either way.
    pub(crate) async fn keep_memory(
        &self,
        id: SandboxId,
        snapshot: SnapshotId,
    ) -> Result<Snapshot, DriverError> {
        let memory = self.can_keep(id)?;
        let began = Instant::now();
        let (marks, memories) = (self.marks.clone(), self.memories.clone());
        let begun = blocking("begin the snapshot", move || {
            marks.add(snapshot)?;
            memories.begin(snapshot)
        });
        begun.await?;
        let kept = self.keep_standing(memory, id, snapshot).await;
        let held = began.elapsed();
        let kept = match kept {
            Ok(steps) => self.measure(snapshot, held, steps).await,
            Err(error) => Err(error),
        };
        if kept.is_err() {
            self.remove_kept(snapshot).await?;
        }
        kept
    }

    fn can_keep(&self, id: SandboxId) -> Result<&Memory, DriverError> {
        let unsupported = |text: &str| Err(DriverError::Unsupported(text.to_owned()));
        let Some(memory) = &self.memory else {
            return Err(self.capabilities.unsupported("keep memory"));
        };
        let state = self.state(id)?;
        if state.paused {
            return unsupported("a paused sandbox has to be resumed before its memory can be kept");
        }
        if state.program.is_none() {
            return unsupported("it was started where no memory could be kept");
        }
        Ok(memory)
    }

    async fn keep_standing(
        &self,
        memory: &Memory,
        id: SandboxId,
        snapshot: SnapshotId,
    ) -> Result<Vec<Step>, DriverError> {
        let mut steps = Vec::new();
        let hung_up = self.hang_up(id).await;
        let kept = match hung_up {
            Ok(()) => self.keep_both(memory, id, snapshot, &mut steps).await,
            Err(error) => Err(error),
        };
        let freed = self.records.free_home(id);
        kept.and(freed.map_err(DriverError::step("let the agent listen")))?;
        Ok(steps)
    }

    /// Between memory and files nothing runs but the agent, which holds the others and hears nobody: so both are of one instant.
    async fn keep_both(
        &self,
        memory: &Memory,
        id: SandboxId,
        snapshot: SnapshotId,
        steps: &mut Vec<Step>,
    ) -> Result<(), DriverError> {
        let live = self.live(id).ok_or(DriverError::NotRunning(id))?;
        let state = self.state(id)?;
        let agent = state.agent.ok_or(DriverError::NotRunning(id))?;
        let program = state.program.ok_or(DriverError::NotRunning(id))?;
        let facts = state.facts.ok_or(DriverError::NotRunning(id))?;
        let used = self.group(id).map(|group| group.usage()).transpose();
        let used = used.map_err(DriverError::step("look at what it uses"))?;
        let used = used.unwrap_or_default();
        let room = self.storage.room(used.memory_bytes + MARGIN_BYTES);
        let _room = room.map_err(storage_error("keep room for its memory"))?;
        let has_address = facts.address.is_some();
        let place = Place::Beside { has_address };
        let order = Keep {
            tool: memory.tool.root.clone(),
            folder: self.memories.of(snapshot),
            agent: agent.pid,
            home: self.records.home(id),
            address: facts.address,
            max_bytes: used.memory_peak_bytes + MARGIN_BYTES,
            kernel: memory.kernel.at(place),
        };
        let handle = live.pidfd.get_ref().as_fd();
        let (kept, found, laps) = match self.order(&Order::Keep(order), &[handle]).await? {
            (Reply::Kept { kept, found, steps }, _) => (kept, found, steps),
            (Reply::Refused(why), _) => return Err(refused("keep", &why)),
            (reply, _) => return Err(failed(reply)),
        };
        memory.kernel.add(place, found);
        steps.extend(laps.into_iter().map(step));
        let origin = Origin {
            kept,
            agent: program,
            privilege: facts.privilege,
            has_address,
        };
        let before = Instant::now();
        self.copy_volume(id, false, volume_of(snapshot), NO_LIMIT)
            .await?;
        steps.push(Step {
            name: "files".to_owned(),
            took: before.elapsed(),
        });
        let memories = self.memories.clone();
        blocking("finish the snapshot", move || {
            memories.finish(snapshot, &origin)
        })
        .await
    }

    async fn measure(
        &self,
        snapshot: SnapshotId,
        held: Duration,
        steps: Vec<Step>,
    ) -> Result<Snapshot, DriverError> {
        let (storage, memories) = (Arc::clone(&self.storage), self.memories.clone());
        let bytes = blocking("measure the snapshot", move || {
            let files = storage
                .usage(volume_of(snapshot))
                .map_err(io::Error::other)?;
            Ok(files + memories.bytes(snapshot)?)
        });
        Ok(Snapshot {
            held,
            bytes: bytes.await?,
            steps,
        })
    }

    /// Is there memory to wake up, and can it be here?
    pub(crate) fn has_memory(&self, from: SnapshotId, spec: &Spec) -> Result<bool, DriverError> {
        let origin = self.memories.read(from);
        let Some(origin) = origin.map_err(DriverError::step("read the snapshot"))? else {
            return Ok(false);
        };
        if self.memory.is_none() {
            return Err(self.capabilities.unsupported("wake up memory"));
        }
        let has_address = spec.network == NetworkMode::Nat;
        if (origin.privilege, origin.has_address) != (spec.privilege, has_address) {
            let text = "a snapshot with memory is restored with the level and the network that it was made with";
            return Err(DriverError::Unsupported(text.to_owned()));
        }
        Ok(true)
    }

    /// The file of the agent that a sandbox made from this has, if its memory can be kept.
    pub(crate) fn program_of(&self, source: Source) -> Result<Option<String>, DriverError> {
        if let Source::Memory(from) = source {
            let origin = self.memories.read(from);
            let origin = origin.map_err(DriverError::step("read the snapshot"))?;
            return Ok(origin.map(|origin| origin.agent));
        }
        Ok(self.memory.as_ref().map(|memory| memory.agent.clone()))
    }

    /// Has the processes of a snapshot wake up in a sandbox that is made for them.
    pub(crate) async fn wake(
        &self,
        from: SnapshotId,
        bounds: Bounds,
        request: Request,
        fds: &Fds,
    ) -> Result<Started, DriverError> {
        let Some(memory) = &self.memory else {
            return Err(self.capabilities.unsupported("wake up memory"));
        };
        let origin = self.memories.read(from);
        let origin = origin.map_err(DriverError::step("read the snapshot"))?;
        let origin = origin.ok_or(DriverError::NoSnapshot(from))?;
        let agent = self.memories.agent(&origin.agent);
        let agent = agent.map_err(DriverError::step("open the agent that it had"))?;
        let fds: Vec<_> = [agent.as_fd()].into_iter().chain(fds.all()).collect();
        let has_address = origin.has_address;
        let place = Place::Inside { has_address };
        let order = Order::Wake(Box::new(Wake {
            tool: memory.tool.root.clone(),
            folder: self.memories.of(from),
            kept: origin.kept,
            kernel: memory.kernel.at(place),
            bounds,
            request,
        }));
        match self.order(&order, &fds).await? {
            (Reply::Awake { pid, found, steps }, Some(pidfd)) => {
                memory.kernel.add(place, found);
                Ok(Started { pid, pidfd, steps })
            }
            (Reply::Refused(why), _) => Err(refused("wake up", &why)),
            (reply, _) => Err(failed(reply)),
        }
    }

    /// Has a helper serve one order. Whoever stops waiting for it leaves it to end by itself.
    async fn order(
        &self,
        order: &Order,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(Reply, Option<OwnedFd>), DriverError> {
        let helper = Running::start(&self.helper).map_err(DriverError::step("start a helper"))?;
        let message = serde_json::to_vec(order).map_err(DriverError::step("write an order"))?;
        let sent = helper.send(&message, fds);
        sent.map_err(DriverError::step("put the order to its helper"))?;
        let heard = helper.hear(HELPER_PATIENCE).await;
        let (reply, fds) = heard.map_err(DriverError::step("hear from its helper"))?;
        Ok((reply, fds.into_iter().next()))
    }

    /// A new stream to the agent, as soon as it listens.
    pub(crate) async fn dial(&self, id: SandboxId) -> Result<UnixStream, DriverError> {
        let live = self.live(id).ok_or(DriverError::NotRunning(id))?;
        let until = Instant::now() + AGENT_PATIENCE;
        loop {
            let error = match self.try_to_dial(id).await {
                Ok(stream) => return Ok(stream),
                Err(error) => error,
            };
            let may_listen_soon = error.kind() == io::ErrorKind::ConnectionRefused
                && self.memory.is_some()
                && Instant::now() < until
                && !pidfd::has_exited(live.pidfd.get_ref()).unwrap_or(true);
            if !may_listen_soon {
                return Err(DriverError::step("connect to the agent")(error));
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    async fn try_to_dial(&self, id: SandboxId) -> io::Result<UnixStream> {
        let place = self.records.socket(id)?;
        UnixStream::connect(place.socket()).await
    }

    /// Has the agent end its link and listen nowhere, until its home is free. It does so only while it holds the others.
    async fn hang_up(&self, id: SandboxId) -> Result<(), DriverError> {
        let step = || DriverError::step("have the agent hang up");
        let place = self.records.socket(id).map_err(step())?;
        let hang_up = async {
            let last = reached(UnixStream::connect(place.socket()).await)?;
            self.records.occupy_home(id)?;
            if let Some(mut last) = last {
                let _reset_already = last.shutdown().await;
                let mut unheard = [0; 4096];
                while let Ok(1..) = last.read(&mut unheard).await {}
            }
            loop {
                match reached(UnixStream::connect(place.socket()).await) {
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => break Ok(()),
                    Err(error) => break Err(error),
                    Ok(_) => sleep(LOOK_AGAIN).await,
                }
            }
        };
        let done = timeout(AGENT_PATIENCE, hang_up).await;
        done.map_err(io::Error::from).flatten().map_err(step())
    }

    /// A daemon that died while it kept memory left the agent without a place to listen at.
    pub(crate) async fn free_if_dead(&self, id: SandboxId) -> Result<(), DriverError> {
        match self.try_to_dial(id).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                let freed = self.records.free_home(id);
                freed.map_err(DriverError::step("let the agent listen"))
            }
            _ => Ok(()),
        }
    }
}

/// `None`: the agent hung up before it took this link, and has reset it.
fn reached(link: io::Result<UnixStream>) -> io::Result<Option<UnixStream>> {
    match link {
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(None),
        link => link.map(Some),
    }
}

fn step(Lap { name, took }: Lap) -> Step {
    let name = ["· ", &name].concat();
    Step { name, took }
}

const DELETED: &str = "a program has a file open that was deleted, as POSIX semaphores are";

/// What CRIU says, and what that is about.
const KNOWN: [(&str, &str); 5] = [
    (
        "sockets: Can't get 1:16 opt",
        "a program has a TCP or UDP socket, which takes CRIU 4.2.1 on Linux 6.16 and newer",
    ),
    ("Can't dump ghost file ", DELETED),
    ("Can't link ", DELETED),
    ("SysVIPC", "a program has System V shared memory"),
    (
        "fsnotify: ",
        "a program watches files where they were not looked for",
    ),
];

/// The same for a host's disk, or a limit on it, that is full.
const FULL: [&str; 2] = ["No space left on device", "Disk quota exceeded"];

fn refused(what: &str, why: &str) -> DriverError {
    if FULL.iter().any(|said| why.contains(said)) {
        return DriverError::DiskFull(format!("{what} its memory"));
    }
    let known = KNOWN.iter().find(|(said, _)| why.contains(said));
    let meant = known
        .map(|(_, meant)| format!("{meant}: "))
        .unwrap_or_default();
    DriverError::Unsupported(format!("CRIU cannot {what} its memory: {meant}{why}"))
}

fn failed(reply: Reply) -> DriverError {
    match reply {
        Reply::Failed(failure) if failure.is_disk_full() => {
            DriverError::DiskFull(failure.to_string())
        }
        Reply::Failed(failure) => DriverError::step("keep or wake up memory")(failure),
        _ => DriverError::step("understand its helper")("it answered something else"),
    }
}
