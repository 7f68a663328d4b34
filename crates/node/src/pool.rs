//! Sandboxes made ahead of their use: creating one like them is handing one out.
//!
//! As many of a kind stand ready as were created within the last minute, up to a limit, and none once nobody asked for five minutes. One is handed
//! out once, while its processes live; nothing but its agent has ever run in it. A daemon that starts sweeps away what an earlier one had ready.

mod shelf;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use skerry_driver::{Driver, Instance, Isolation, Spec, Step as BootStep};
use skerry_image::{Image, Images, Pin};
use skerry_types::SandboxId;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{Instant, sleep, timeout};

use shelf::{Shelves, Step};

use crate::wake::warm_up;

/// How often it looks when nothing happens.
const LOOK_AGAIN: Duration = Duration::from_secs(20);
/// Whoever was just given one needs the processor first.
const AFTER_ASKING: Duration = Duration::from_millis(20);
/// Who asks more often than that has what should stand ready made beside it, once it was put off so often.
const MOST_PUT_OFF: u32 = 2;
/// After one could not be made.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// How much may stand ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadyLimits {
    /// Sandboxes of one kind; 0: none is made ahead.
    pub each: usize,
    /// Memory of those that take theirs from the start (virtual machines), in MiB.
    pub memory_mb: u64,
}

/// What is asked for. Two sandboxes of one kind differ in nothing that is done before somebody uses them.
#[derive(Debug, Clone)]
pub(crate) struct Kind {
    /// With the id and host name of whichever.
    pub(crate) spec: Spec,
    pub(crate) driver: Arc<dyn Driver>,
    pub(crate) image: Image,
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
    }
}

impl shelf::Kind for Kind {
    fn memory_mb(&self) -> u64 {
        match self.driver.capabilities().isolation {
            Isolation::Vm => self.spec.resources.memory_mb.into(),
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

    /// It is a sandbox now.
    pub(crate) fn used(mut self) -> Instance {
        self.settled = true;
        Instance {
            facts: self.instance.facts.clone(),
            steps: vec![BootStep {
                name: "stood ready".to_owned(),
                took: Duration::ZERO,
            }],
        }
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
    changed: Notify,
    keeper: Mutex<Option<JoinHandle<()>>>,
    closed: AtomicBool,
    myself: Weak<Self>,
}

impl Pool {
    pub(crate) fn start(limits: ReadyLimits, images: Arc<Images>) -> Arc<Self> {
        let pool = Arc::new_cyclic(|myself| Self {
            shelves: Mutex::new(Shelves::new(limits)),
            images,
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

    async fn make(&self, kind: Kind) -> Result<(), skerry_types::Error> {
        let id = SandboxId::new();
        let spec = Spec {
            id,
            hostname: id.label(),
            ..kind.spec.clone()
        };
        let layers = self.images.pin(&kind.image)?;
        let driver = Arc::clone(&kind.driver);
        let made = async {
            let instance = driver.create(&spec).await?;
            warm_up(driver.as_ref(), id).await.map(|()| instance)
        };
        let instance = match made.await {
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
            _layers: layers,
            settled: false,
        };
        self.shelves.lock().put(&kind, id, ready);
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

/// Does one thing after another until what stands ready is what should.
async fn keep(pool: Weak<Pool>) {
    let mut put_off = 0;
    while let Some(pool) = pool.upgrade() {
        if pool.closed.load(Ordering::Relaxed) {
            return;
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
                if let Err(error) = pool.make(kind).await {
                    tracing::warn!(%error, "a sandbox could not be made ahead");
                    sleep(AFTER_FAILURE).await;
                }
            }
            Step::Remove(ready) => remove(ready).await,
            Step::Nothing => {
                put_off = 0;
                tokio::select! {
                    () = pool.changed.notified() => {}
                    () = sleep(LOOK_AGAIN) => {}
                }
            }
        }
    }
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
