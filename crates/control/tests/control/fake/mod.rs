//! A node in memory: keeps state, tells changes, and breaks on command.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use jiff::Timestamp;
use parking_lot::Mutex;
use skerry_control::{Clock, ManualClock};
use skerry_proto::node::{
    CreateSandbox, Defaults, Events, ExecRecord, ForkSandbox, Health, JournalEvent, Map,
    NodeHealth, SandboxFacts, SandboxReport, SandboxStats, Sandboxes, SnapshotReport,
};
use skerry_types::{
    Egress, Error, ErrorCode, ExecId, FailureReason, PublishedPort, Result, SandboxId,
    SandboxState, SnapshotId, VolumeId,
};
use tokio::sync::{broadcast, watch};

mod data;
mod programs;
mod snapshots;
mod volumes;

/// What breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Fault {
    /// Nothing answers.
    Unreachable,
    /// Making one fails.
    CreateFails,
    /// Making one takes until this fault is gone.
    CreateHangs,
    /// A delete does not keep a create in progress from finishing.
    CreateOutlivesDelete,
    /// A fork fails.
    ForkFails,
    /// Nothing stops before it is asked again.
    StopHangs,
    /// Nothing can be removed.
    DeleteFails,
    /// Removing one takes until this fault is gone.
    DeleteHangs,
    /// It cannot pause.
    NoPause,
    /// Its disk has no room for what is paused.
    PauseFails,
    /// It is used right before it is paused.
    UsedBeforePause,
    /// What it says of its snapshots arrives once this fault is gone.
    SnapshotListIsLate,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct FakeNode {
    clock: Arc<ManualClock>,
    faults: watch::Sender<HashSet<Fault>>,
    told: broadcast::Sender<SandboxReport>,
    world: Mutex<World>,
}

#[derive(Debug, Default)]
struct World {
    boxes: BTreeMap<SandboxId, SandboxReport>,
    envs: BTreeMap<SandboxId, Map>,
    orders: BTreeMap<SandboxId, CreateSandbox>,
    snapshots: BTreeMap<SnapshotId, SnapshotReport>,
    /// What each snapshot gives to what is made from it.
    given: BTreeMap<SnapshotId, Defaults>,
    volumes: BTreeSet<VolumeId>,
    programs: BTreeMap<ExecId, ExecRecord>,
    /// What builds had it do.
    done: Vec<String>,
    snapshot_lists: usize,
    started: Vec<SandboxId>,
    warnings: Vec<(SandboxId, u64)>,
    deletes: Vec<SandboxId>,
    lists: usize,
    stops: Vec<(SandboxId, Option<FailureReason>)>,
    told_to_wake: Vec<(SandboxId, bool)>,
    told_egress: Vec<(SandboxId, Egress)>,
    pauses_refused: usize,
    bases: Vec<Option<SnapshotId>>,
    purged_before: Option<Timestamp>,
    most_at_once: usize,
}

impl FakeNode {
    pub(crate) fn new(clock: Arc<ManualClock>) -> Arc<Self> {
        Arc::new(Self {
            clock,
            faults: watch::Sender::default(),
            told: broadcast::Sender::new(4096),
            world: Mutex::default(),
        })
    }

    pub(crate) fn breaks(&self, fault: Fault) {
        self.faults.send_modify(|faults| {
            faults.insert(fault);
        });
    }

    pub(crate) fn heals(&self, fault: Fault) {
        self.faults.send_modify(|faults| {
            faults.remove(&fault);
        });
    }

    /// Puts one there that nobody asked for, or forgot.
    pub(crate) fn plant(&self, id: SandboxId, state: SandboxState) {
        let report = self.report(id, state);
        self.world.lock().boxes.insert(id, report);
    }

    /// Takes one away without telling anyone.
    pub(crate) fn lose(&self, id: SandboxId) {
        self.world.lock().boxes.remove(&id);
    }

    /// Its PID 1 dies.
    pub(crate) fn crash(&self, id: SandboxId) {
        let _gone_already = self.change(id, |report| {
            if report.state.is_ended() || report.state == SandboxState::Provisioning {
                return;
            }
            report.state = SandboxState::Failed;
            report.reason = Some(FailureReason::AgentLost);
            report.message = Some("its agent died".into());
        });
    }

    /// Something inside uses it.
    pub(crate) fn use_now(&self, id: SandboxId) {
        let now = self.clock.now();
        if let Some(report) = self.world.lock().boxes.get_mut(&id) {
            report.last_active_at = now;
        }
    }

    pub(crate) fn ids(&self) -> Vec<SandboxId> {
        self.world.lock().boxes.keys().copied().collect()
    }

    pub(crate) fn state(&self, id: SandboxId) -> Option<SandboxState> {
        self.world.lock().boxes.get(&id).map(|r| r.state)
    }

    pub(crate) fn env(&self, id: SandboxId) -> Option<Map> {
        self.world.lock().envs.get(&id).cloned()
    }

    /// Every snapshot that it has.
    pub(crate) fn snapshot_ids(&self) -> Vec<SnapshotId> {
        self.world.lock().snapshots.keys().copied().collect()
    }

    /// How often it was asked for its snapshots.
    pub(crate) fn snapshot_lists(&self) -> usize {
        self.world.lock().snapshot_lists
    }

    /// Takes one away without telling anyone.
    pub(crate) fn lose_snapshot(&self, id: SnapshotId) {
        self.world.lock().snapshots.remove(&id);
    }

    /// What it was told to make.
    pub(crate) fn order(&self, id: SandboxId) -> Option<CreateSandbox> {
        self.world.lock().orders.get(&id).cloned()
    }

    /// What builds had it do, from the last time on that this was asked.
    pub(crate) fn done(&self) -> Vec<String> {
        std::mem::take(&mut self.world.lock().done)
    }

    /// What a snapshot gives to what is made from it.
    pub(crate) fn given(&self, id: SnapshotId) -> Option<Defaults> {
        self.world.lock().given.get(&id).cloned()
    }

    pub(crate) fn started(&self) -> Vec<SandboxId> {
        self.world.lock().started.clone()
    }

    /// How often it was asked what there is.
    pub(crate) fn lists(&self) -> usize {
        self.world.lock().lists
    }

    /// How often it was told to remove this one.
    pub(crate) fn deletes_of(&self, id: SandboxId) -> usize {
        let world = self.world.lock();
        world.deletes.iter().filter(|of| **of == id).count()
    }

    pub(crate) fn warnings(&self) -> Vec<(SandboxId, u64)> {
        self.world.lock().warnings.clone()
    }

    pub(crate) fn stops(&self) -> Vec<(SandboxId, Option<FailureReason>)> {
        self.world.lock().stops.clone()
    }

    /// Where it was told that they may connect.
    pub(crate) fn told_egress(&self) -> Vec<(SandboxId, Egress)> {
        self.world.lock().told_egress.clone()
    }

    /// Which ones it was told to wake up by themselves, or not to.
    pub(crate) fn told_to_wake(&self) -> Vec<(SandboxId, bool)> {
        self.world.lock().told_to_wake.clone()
    }

    /// What each fork was made from, where that was a snapshot.
    pub(crate) fn bases(&self) -> Vec<Option<SnapshotId>> {
        self.world.lock().bases.clone()
    }

    /// How often it left one running that was used.
    pub(crate) fn pauses_refused(&self) -> usize {
        self.world.lock().pauses_refused
    }

    /// Wakes one that was used.
    pub(crate) fn wake(&self, id: SandboxId) {
        self.swap(id, SandboxState::Paused, SandboxState::Running)
            .unwrap();
    }

    pub(crate) fn purged_before(&self) -> Option<Timestamp> {
        self.world.lock().purged_before
    }

    /// The most sandboxes that ever held a place at once.
    pub(crate) fn most_at_once(&self) -> usize {
        self.world.lock().most_at_once
    }

    fn has(&self, fault: Fault) -> bool {
        self.faults.borrow().contains(&fault)
    }

    fn reach(&self) -> Result<()> {
        if self.has(Fault::Unreachable) {
            return Err(Error::new(ErrorCode::NodeUnreachable, "the node is silent"));
        }
        Ok(())
    }

    fn report(&self, id: SandboxId, state: SandboxState) -> SandboxReport {
        let now = self.clock.now();
        SandboxReport {
            id,
            state,
            reason: None,
            message: None,
            facts: None,
            started_at: None,
            ended_at: None,
            last_active_at: now,
            boot_us: None,
        }
    }

    fn change(
        &self,
        id: SandboxId,
        change: impl FnOnce(&mut SandboxReport),
    ) -> Result<SandboxReport> {
        let now = self.clock.now();
        let mut world = self.world.lock();
        let report = world
            .boxes
            .get_mut(&id)
            .ok_or_else(|| Error::not_found(id))?;
        change(report);
        report.last_active_at = now;
        if report.state.is_ended() {
            report.ended_at = Some(now);
        }
        let report = report.clone();
        let _nobody_listens = self.told.send(report.clone());
        Ok(report)
    }

    fn swap(&self, id: SandboxId, from: SandboxState, to: SandboxState) -> Result<SandboxReport> {
        let now = self.change(id, |r| {
            if r.state == from {
                r.state = to;
            }
        })?;
        if now.state != to {
            return Err(Error::conflict(format!("it is {}", now.state)));
        }
        Ok(now)
    }

    fn admit(&self, id: SandboxId, env: Map) -> Result<()> {
        let report = self.report(id, SandboxState::Provisioning);
        let mut world = self.world.lock();
        if world.boxes.contains_key(&id) {
            return Err(Error::conflict("it is here already"));
        }
        world.boxes.insert(id, report);
        world.envs.insert(id, env);
        world.started.push(id);
        let now = world
            .boxes
            .values()
            .filter(|r| r.state.holds_slot())
            .count();
        world.most_at_once = world.most_at_once.max(now);
        Ok(())
    }

    async fn passes(&self, fault: Fault) {
        let mut faults = self.faults.subscribe();
        let _healed = faults.wait_for(|f| !f.contains(&fault)).await.unwrap();
    }

    /// A port of the node for each that was asked for.
    fn published(&self, id: SandboxId) -> Vec<PublishedPort> {
        let world = self.world.lock();
        let ports = world.orders.get(&id).map(|order| order.ports.clone());
        let at = |port: u16| PublishedPort {
            port,
            address: ([127, 0, 0, 1], port + 1).into(),
        };
        ports.unwrap_or_default().into_iter().map(at).collect()
    }

    fn ready(&self, id: SandboxId, fork: Option<&str>) -> Result<SandboxReport> {
        let now = self.clock.now();
        if self.has(Fault::CreateOutlivesDelete) && self.state(id).is_none() {
            self.plant(id, SandboxState::Provisioning);
        }
        let published = self.published(id);
        self.change(id, |report| {
            report.state = SandboxState::Running;
            (report.reason, report.message, report.ended_at) = (None, None, None);
            report.started_at = Some(now);
            report.boot_us = Some(1234);
            report.facts = Some(SandboxFacts {
                driver: "sim".into(),
                isolation: "none".into(),
                accelerator: Some("tcg".into()),
                privilege: "restricted".into(),
                storage: "copy".into(),
                disk_quota: false,
                limits: true,
                image_digest: "sha256:0".into(),
                fork: fork.map(Into::into),
                published,
            });
        })
    }
}

#[async_trait]
impl Sandboxes for FakeNode {
    async fn create(&self, request: CreateSandbox) -> Result<SandboxReport> {
        self.reach()?;
        let order = request.clone();
        self.world.lock().orders.insert(request.id, order);
        self.admit(request.id, request.env)?;
        self.passes(Fault::CreateHangs).await;
        if self.has(Fault::CreateFails) {
            self.lose(request.id);
            return Err(Error::internal("the root file system could not be mounted"));
        }
        self.ready(request.id, None)
    }

    async fn fork(&self, request: ForkSandbox) -> Result<SandboxReport> {
        self.reach()?;
        if self.state(request.parent) != Some(SandboxState::Running) {
            return Err(Error::new(ErrorCode::SandboxNotRunning, "it does not run"));
        }
        if self.has(Fault::ForkFails) {
            return Err(Error::internal("the snapshot failed"));
        }
        let mut env = self.env(request.parent).unwrap_or_default();
        env.extend(request.env);
        self.admit(request.id, env)?;
        self.world.lock().bases.push(request.base);
        self.passes(Fault::CreateHangs).await;
        self.ready(request.id, Some("files"))
    }

    async fn stop(&self, id: SandboxId, reason: Option<FailureReason>) -> Result<SandboxReport> {
        self.reach()?;
        self.world.lock().stops.push((id, reason));
        let mut is_asked_again = false;
        let stopping = self.change(id, |r| {
            is_asked_again = r.state == SandboxState::Stopping;
            if !r.state.is_ended() {
                r.state = SandboxState::Stopping;
                r.reason = reason.or(Some(FailureReason::SandboxStopped));
            }
        })?;
        let stays = self.has(Fault::StopHangs) && !is_asked_again;
        if !stays && stopping.state == SandboxState::Stopping {
            self.change(id, |r| r.state = SandboxState::Stopped)?;
        }
        Ok(stopping)
    }

    async fn start(&self, id: SandboxId) -> Result<SandboxReport> {
        self.reach()?;
        if !self
            .state(id)
            .ok_or_else(|| Error::not_found(id))?
            .is_ended()
        {
            return Err(Error::conflict("it has not ended"));
        }
        self.world.lock().started.push(id);
        self.passes(Fault::CreateHangs).await;
        if self.has(Fault::CreateFails) {
            return Err(Error::internal("its files could not be copied"));
        }
        self.ready(id, None)
    }

    async fn delete(&self, id: SandboxId) -> Result<()> {
        self.reach()?;
        if self.has(Fault::DeleteFails) {
            return Err(Error::internal("a mount is busy"));
        }
        self.world.lock().deletes.push(id);
        self.passes(Fault::DeleteHangs).await;
        let _report = self.change(id, |r| r.state = SandboxState::Deleted);
        self.lose(id);
        Ok(())
    }

    async fn pause(
        &self,
        id: SandboxId,
        unless_used_since: Option<Timestamp>,
    ) -> Result<SandboxReport> {
        self.reach()?;
        if self.has(Fault::NoPause) {
            return Err(Error::unsupported("this driver cannot pause"));
        }
        if self.has(Fault::PauseFails) {
            return Err(Error::new(ErrorCode::DiskFull, "no room for its memory"));
        }
        if self.has(Fault::UsedBeforePause) {
            self.use_now(id);
        }
        let now = self.get(id).await?;
        if unless_used_since.is_some_and(|at| now.last_active_at > at) {
            self.world.lock().pauses_refused += 1;
            return Ok(now);
        }
        self.swap(id, SandboxState::Running, SandboxState::Paused)
    }

    async fn resume(&self, id: SandboxId) -> Result<SandboxReport> {
        self.reach()?;
        self.swap(id, SandboxState::Paused, SandboxState::Running)
    }

    async fn set_auto_resume(&self, id: SandboxId, auto_resume: bool) -> Result<()> {
        self.reach()?;
        self.world.lock().told_to_wake.push((id, auto_resume));
        Ok(())
    }

    async fn set_egress(&self, id: SandboxId, egress: Egress) -> Result<()> {
        self.reach()?;
        self.world.lock().told_egress.push((id, egress));
        Ok(())
    }

    async fn list(&self) -> Result<Vec<SandboxReport>> {
        self.reach()?;
        let mut world = self.world.lock();
        world.lists += 1;
        Ok(world.boxes.values().cloned().collect())
    }

    async fn get(&self, id: SandboxId) -> Result<SandboxReport> {
        self.reach()?;
        let world = self.world.lock();
        world
            .boxes
            .get(&id)
            .cloned()
            .ok_or_else(|| Error::not_found(id))
    }

    async fn defaults(&self, id: SandboxId) -> Result<Defaults> {
        self.reach()?;
        let from = self.order(id).and_then(|order| order.snapshot);
        let base = Defaults {
            env: [("PATH".to_owned(), "/bin".to_owned())].into(),
            workdir: "/home".into(),
            user: "user".into(),
            start: None,
        };
        Ok(from.and_then(|from| self.given(from)).unwrap_or(base))
    }

    fn watch(&self) -> BoxStream<'static, Result<SandboxReport>> {
        futures::stream::unfold(self.told.subscribe(), |mut told| async {
            match told.recv().await {
                Ok(report) => Some((Ok(report), told)),
                Err(broadcast::error::RecvError::Lagged(_)) => {
                    Some((Err(Error::internal("missed some")), told))
                }
                Err(broadcast::error::RecvError::Closed) => None,
            }
        })
        .boxed()
    }

    async fn stats(&self, _id: SandboxId) -> Result<SandboxStats> {
        Ok(SandboxStats::default())
    }

    async fn touch(&self, id: SandboxId) -> Result<()> {
        self.reach()?;
        self.use_now(id);
        Ok(())
    }

    async fn warn_ttl(&self, id: SandboxId, seconds_remaining: u64) -> Result<()> {
        self.world.lock().warnings.push((id, seconds_remaining));
        Ok(())
    }
}

#[async_trait]
impl Events for FakeNode {
    async fn events(
        &self,
        _sandbox: SandboxId,
        _after_seq: u64,
        _follow: bool,
    ) -> Result<BoxStream<'static, Result<JournalEvent>>> {
        Ok(futures::stream::empty().boxed())
    }

    async fn purge_journals(&self, deleted_before: Timestamp) -> Result<u64> {
        self.world.lock().purged_before = Some(deleted_before);
        Ok(0)
    }
}

#[async_trait]
impl Health for FakeNode {
    /// Whether it can be reached is for control to find out when it compares.
    async fn health(&self) -> Result<NodeHealth> {
        Ok(NodeHealth::default())
    }
}
