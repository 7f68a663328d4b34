//! Sandboxes made ahead of their use: creating one like them is handing one out.
//!
//! As many of a kind stand ready as were created within the last minute, up to a limit, and none once nobody asked for five minutes. One is handed
//! out once, while its processes live. Nothing but its agent has ever run in one that was made from an image or from files. One that has the memory
//! of a snapshot is held until it is handed out: what it must not share is made new then, and if that fails it is nobody's.
//! With a snapshot goes what stands ready of it. A daemon that starts sweeps away what an earlier one had ready.

mod shelf;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use skerry_driver::{Driver, DriverError, Instance, Isolation, Spec, Step as BootStep};
use skerry_image::{Image, Images, Pin};
use skerry_types::{SandboxId, SnapshotId};
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use shelf::{Shelves, Step};

use crate::snapshots::Archive;
use crate::wake::{wake, warm_up};

/// How often it looks when nothing happens.
const LOOK_AGAIN: Duration = Duration::from_secs(20);
/// Whoever was just given one needs the processor first.
const AFTER_ASKING: Duration = Duration::from_millis(20);
/// Who asks more often than that has what should stand ready made beside it, once it was put off so often.
const MOST_PUT_OFF: u32 = 2;
/// One that takes longer is made beside others.
const SLOW: Duration = Duration::from_secs(3);
/// For one with the memory of a snapshot to be made new: whoever asked for a sandbox has time left for another way to one.
const HAND_OUT: Duration = Duration::from_secs(10);
/// Until another of a kind is made of which one could not be.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// What a kernel in user space takes while nothing runs on it, in MiB.
const KERNEL_MB: u64 = 32;

/// How much may stand ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadyLimits {
    /// Sandboxes of one kind; 0: none is made ahead.
    pub each: usize,
    /// Memory of those that take theirs before anybody uses them (virtual machines, and what has the memory of a snapshot), in MiB.
    pub memory_mb: u64,
    /// Places of one driver and network that are prepared for sandboxes of any kind; 0: none is.
    pub prepared: usize,
}

/// What is asked for. Two sandboxes of one kind differ in nothing that is done before somebody uses them.
#[derive(Debug, Clone)]
pub(crate) struct Kind {
    /// With the id and host name of whichever.
    pub(crate) spec: Spec,
    pub(crate) driver: Arc<dyn Driver>,
    pub(crate) image: Image,
    /// What it starts from instead of the image alone.
    pub(crate) from: Option<Frozen>,
}

/// A snapshot that sandboxes are made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frozen {
    pub(crate) id: SnapshotId,
    /// It has memory and processes.
    pub(crate) memory: bool,
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        let other_spec = Spec {
            id: self.spec.id,
            hostname: self.spec.hostname.clone(),
            ..other.spec.clone()
        };
        self.spec == other_spec
            && self.driver.capabilities().driver == other.driver.capabilities().driver
            && self.image.digest == other.image.digest
            && self.from == other.from
    }
}

impl shelf::Kind for Kind {
    fn memory_mb(&self) -> u64 {
        let has_memory = self.from.is_some_and(|from| from.memory);
        match self.driver.capabilities().isolation {
            Isolation::Vm => self.spec.resources.memory_mb.into(),
            _ if has_memory => self.spec.resources.memory_mb.into(),
            Isolation::ApplicationKernel => KERNEL_MB,
            _ => 0,
        }
    }
}

/// One that stands ready.
#[derive(Debug)]
pub(crate) struct Ready {
    spec: Spec,
    instance: Instance,
    driver: Arc<dyn Driver>,
    /// Its processes are copies, and held.
    is_held: bool,
    /// Its image may be removed; what it stands on may not.
    _layers: Pin,
    watch: AbortHandle,
    /// It is a sandbox, or was removed: not to be taken away with this.
    settled: bool,
}

impl Ready {
    pub(crate) fn spec(&self) -> &Spec {
        &self.spec
    }

    /// It is a sandbox now. `None`: it could not become one, and nothing of it is left.
    pub(crate) async fn hand_out(mut self) -> Result<Option<Instance>, DriverError> {
        let began = Instant::now();
        if self.is_held
            && let Err(error) = self.wake().await
        {
            tracing::warn!(place = %self.spec.id, %error, "one that stood ready could not be handed out");
            self.driver.destroy(self.spec.id).await?;
            self.settled = true;
            return Ok(None);
        }
        self.settled = true;
        Ok(Some(Instance {
            facts: self.instance.facts.clone(),
            steps: vec![BootStep {
                name: "stood ready".to_owned(),
                took: began.elapsed(),
            }],
        }))
    }

    async fn wake(&self) -> Result<(), DriverError> {
        let woken = timeout(HAND_OUT, wake(self.driver.as_ref(), &self.spec)).await;
        woken.unwrap_or(Err(DriverError::TooSlow(HAND_OUT.as_secs())))
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        self.watch.abort();
        // Who took it gave up. Without a runtime the server has ended, and the next start sweeps it away.
        if !self.settled
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(destroy(Arc::clone(&self.driver), self.spec.id));
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Pool {
    shelves: Mutex<Shelves<Kind, Ready>>,
    images: Arc<Images>,
    archive: Arc<Archive>,
    changed: Notify,
    keeper: Mutex<Option<JoinHandle<()>>>,
    closed: AtomicBool,
    myself: Weak<Self>,
}

impl Pool {
    pub(crate) fn start(
        limits: ReadyLimits,
        images: Arc<Images>,
        archive: Arc<Archive>,
    ) -> Arc<Self> {
        let pool = Arc::new_cyclic(|myself| Self {
            shelves: Mutex::new(Shelves::new(limits)),
            images,
            archive,
            changed: Notify::new(),
            keeper: Mutex::default(),
            closed: AtomicBool::new(false),
            myself: Weak::clone(myself),
        });
        if limits.each > 0 {
            *pool.keeper.lock() = Some(tokio::spawn(keep(Arc::downgrade(&pool))));
        }
        pool
    }

    /// One of this kind, if one stands ready. That it was asked for counts either way.
    pub(crate) fn take(&self, kind: &Kind) -> Option<Ready> {
        let ready = self.shelves.lock().ask(kind, Instant::now());
        self.changed.notify_one();
        ready.filter(|ready| !ready.watch.is_finished())
    }

    /// Removes all that stands ready of a snapshot of which nothing more is made.
    pub(crate) async fn forget(&self, snapshot: SnapshotId) {
        let is_of_it = |kind: &Kind| kind.from.is_some_and(|from| from.id == snapshot);
        let all = self.shelves.lock().forget(is_of_it);
        for ready in all {
            remove(ready).await;
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.shelves.lock().count()
    }

    /// Removes all that stands ready, for good.
    pub(crate) async fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.changed.notify_one();
        let keeper = self.keeper.lock().take();
        if let Some(keeper) = keeper
            && let Err(error) = keeper.await
        {
            tracing::error!(%error, "what keeps sandboxes ready broke off");
        }
        let all = self.shelves.lock().clear();
        for ready in all {
            remove(ready).await;
        }
    }

    async fn make(&self, kind: Kind) {
        if let Err(error) = self.try_make(&kind).await {
            tracing::warn!(%error, "a sandbox could not be made ahead");
            let again = Instant::now() + AFTER_FAILURE;
            self.shelves.lock().put_off(&kind, again);
        }
    }

    async fn try_make(&self, kind: &Kind) -> Result<(), skerry_types::Error> {
        let id = SandboxId::new();
        let spec = Spec {
            id,
            hostname: id.label(),
            ..kind.spec.clone()
        };
        let layers = self.images.pin(&kind.image)?;
        // Whoever removes the snapshot waits until this one is on its shelf, and then takes it from there.
        let _in_use = kind
            .from
            .map(|from| self.archive.take(from.id))
            .transpose()?;
        let driver = Arc::clone(&kind.driver);
        let instance = match stand(driver.as_ref(), &spec, kind.from).await {
            Ok(instance) => instance,
            Err(error) => {
                driver.destroy(id).await?;
                return Err(error.into());
            }
        };
        let ready = Ready {
            watch: self.watch(id, Arc::clone(&driver)),
            spec,
            instance,
            driver,
            is_held: kind.from.is_some_and(|from| from.memory),
            _layers: layers,
            settled: false,
        };
        self.shelves.lock().put(kind, id, ready);
        Ok(())
    }

    /// Takes it out when it dies.
    fn watch(&self, id: SandboxId, driver: Arc<dyn Driver>) -> AbortHandle {
        let pool = Weak::clone(&self.myself);
        let watch = tokio::spawn(async move {
            let ended = driver.wait(id).await;
            tracing::warn!(place = %id, ?ended, "a sandbox that stood ready has ended");
            let taken = pool.upgrade().and_then(|p| p.shelves.lock().take_out(id));
            if let Some(dead) = taken {
                // In a task of its own: dropping the dead one ends this one.
                tokio::spawn(remove(dead));
            }
        });
        watch.abort_handle()
    }
}

/// Makes one, as far as nobody needs to ask for it.
async fn stand(
    driver: &dyn Driver,
    spec: &Spec,
    from: Option<Frozen>,
) -> Result<Instance, DriverError> {
    let instance = match from {
        None => driver.create(spec).await?,
        Some(from) => driver.restore(from.id, spec).await?,
    };
    // Who is held is left alone until he wakes up.
    if from.is_none_or(|from| !from.memory) {
        warm_up(driver, spec.id).await?;
    }
    Ok(instance)
}

/// Does one thing after another until what stands ready is what should.
async fn keep(pool: Weak<Pool>) {
    let (mut put_off, mut making) = (0, JoinSet::new());
    while let Some(pool) = pool.upgrade() {
        if pool.closed.load(Ordering::Relaxed) {
            break;
        }
        let step = pool.shelves.lock().step(Instant::now());
        match step {
            Step::Make(kind) => {
                if put_off < MOST_PUT_OFF
                    && timeout(AFTER_ASKING, pool.changed.notified()).await.is_ok()
                {
                    put_off += 1;
                    continue;
                }
                pool.shelves.lock().begin(&kind);
                making.spawn(async move { pool.make(kind).await });
                drop(timeout(SLOW, making.join_next()).await);
            }
            Step::Remove(ready) => remove(ready).await,
            Step::Nothing => {
                put_off = 0;
                tokio::select! {
                    () = pool.changed.notified() => {}
                    Some(_) = making.join_next() => {}
                    () = sleep(LOOK_AGAIN) => {}
                }
            }
        }
    }
    // The next start sweeps away what hangs.
    drop(timeout(SLOW, making.join_all()).await);
}

async fn remove(mut ready: Ready) {
    ready.settled = true;
    destroy(Arc::clone(&ready.driver), ready.spec.id).await;
}

async fn destroy(driver: Arc<dyn Driver>, place: SandboxId) {
    if let Err(error) = driver.destroy(place).await {
        // The next start sweeps it away.
        tracing::error!(%place, %error, "a sandbox that stood ready could not be removed");
    }
}
