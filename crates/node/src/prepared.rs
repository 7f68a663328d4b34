//! Places made ahead, for whichever sandbox comes next.
//!
//! What a driver prepares depends on the network alone, so a place that nobody has yet becomes a sandbox of any kind, sooner than one that is
//! made from nothing. Each is taken once, and nothing of any sandbox was ever in it. A daemon that starts sweeps away what an earlier one had.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use skerry_driver::{Driver, DriverError, NetworkMode};
use skerry_types::SandboxId;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// How often it looks whether the node is still there.
const LOOK_AGAIN: Duration = Duration::from_secs(20);
/// Whoever just took one needs the processor first.
const AFTER_TAKING: Duration = Duration::from_millis(10);
/// After one could not be made.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug)]
pub(crate) struct Prepared {
    each: usize,
    shelves: Mutex<Vec<Shelf>>,
    changed: Notify,
    keeper: Mutex<Option<JoinHandle<()>>>,
    closed: AtomicBool,
}

/// Places of one driver and network, of which somebody has asked for one.
#[derive(Debug)]
struct Shelf {
    driver: Arc<dyn Driver>,
    network: NetworkMode,
    places: VecDeque<SandboxId>,
    /// The driver has nothing to make ahead.
    is_idle: bool,
}

/// A place that is whoever's has this. It is taken away with it, unless a sandbox was begun there.
#[derive(Debug)]
pub(crate) struct Place {
    id: SandboxId,
    driver: Option<Arc<dyn Driver>>,
}

impl Place {
    pub(crate) fn id(&self) -> SandboxId {
        self.id
    }

    /// A sandbox was begun there: from here on whoever sees to that sees to it.
    pub(crate) fn used(mut self) {
        self.driver = None;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Without a runtime the server has ended, and the next start sweeps it away.
        if let (Some(driver), Ok(runtime)) = (self.driver.take(), Handle::try_current()) {
            runtime.spawn(destroy(driver, self.id));
        }
    }
}

impl Prepared {
    /// Keeps up to `each` of every driver and network that is asked for; 0: none.
    pub(crate) fn start(each: usize) -> Arc<Self> {
        let prepared = Arc::new(Self {
            each,
            shelves: Mutex::default(),
            changed: Notify::new(),
            keeper: Mutex::default(),
            closed: AtomicBool::new(false),
        });
        if each > 0 {
            *prepared.keeper.lock() = Some(tokio::spawn(keep(Arc::downgrade(&prepared))));
        }
        prepared
    }

    /// One of these, if there is one. That it was asked for counts either way.
    pub(crate) fn take(&self, driver: &Arc<dyn Driver>, network: NetworkMode) -> Option<Place> {
        if self.each == 0 {
            return None;
        }
        let id = {
            let mut shelves = self.shelves.lock();
            let same = |shelf: &&mut Shelf| shelf.is_of(driver, network);
            if let Some(shelf) = shelves.iter_mut().find(same) {
                shelf.places.pop_front()
            } else {
                shelves.push(Shelf {
                    driver: Arc::clone(driver),
                    network,
                    places: VecDeque::new(),
                    is_idle: false,
                });
                None
            }
        };
        self.changed.notify_one();
        id.map(|id| Place {
            id,
            driver: Some(Arc::clone(driver)),
        })
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        let shelves = self.shelves.lock();
        shelves.iter().map(|shelf| shelf.places.len()).sum()
    }

    /// Takes all of them away, for good.
    pub(crate) async fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.changed.notify_one();
        let keeper = self.keeper.lock().take();
        if let Some(keeper) = keeper
            && let Err(error) = keeper.await
        {
            tracing::error!(%error, "what prepares places broke off");
        }
        let shelves = std::mem::take(&mut *self.shelves.lock());
        for shelf in shelves {
            for place in shelf.places {
                destroy(Arc::clone(&shelf.driver), place).await;
            }
        }
    }

    /// What there are too few of.
    fn missing(&self) -> Option<(Arc<dyn Driver>, NetworkMode)> {
        let shelves = self.shelves.lock();
        let wanted = |shelf: &&Shelf| !shelf.is_idle && shelf.places.len() < self.each;
        let shelf = shelves.iter().find(wanted)?;
        Some((Arc::clone(&shelf.driver), shelf.network))
    }

    async fn make(
        &self,
        driver: &Arc<dyn Driver>,
        network: NetworkMode,
    ) -> Result<(), DriverError> {
        let id = SandboxId::new();
        let made = driver.prepare(id, network).await;
        if made.is_err() {
            // Given up, it may have left something.
            driver.destroy(id).await?;
        }
        let is_there = made?;
        let mut shelves = self.shelves.lock();
        let same = |shelf: &&mut Shelf| shelf.is_of(driver, network);
        if let Some(shelf) = shelves.iter_mut().find(same) {
            shelf.is_idle = !is_there;
            shelf.places.extend(is_there.then_some(id));
        }
        Ok(())
    }
}

impl Shelf {
    fn is_of(&self, driver: &Arc<dyn Driver>, network: NetworkMode) -> bool {
        self.network == network && self.driver.capabilities().driver == driver.capabilities().driver
    }
}

async fn keep(prepared: Weak<Prepared>) {
    while let Some(prepared) = prepared.upgrade() {
        if prepared.closed.load(Ordering::Relaxed) {
            return;
        }
        let Some((driver, network)) = prepared.missing() else {
            let taken = timeout(LOOK_AGAIN, prepared.changed.notified()).await;
            if taken.is_ok() {
                sleep(AFTER_TAKING).await;
            }
            continue;
        };
        if let Err(error) = prepared.make(&driver, network).await {
            tracing::warn!(%error, "a place could not be prepared");
            sleep(AFTER_FAILURE).await;
        }
    }
}

async fn destroy(driver: Arc<dyn Driver>, place: SandboxId) {
    if let Err(error) = driver.destroy(place).await {
        // The next start sweeps it away.
        tracing::error!(%place, %error, "a place that was prepared could not be removed");
    }
}
