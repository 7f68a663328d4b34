//! The thread that looks after the pool: its size, and its way back after the kernel closed it for writing.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::ladder;
use crate::{StorageError, Store};

/// Nothing tells that a file system fills up, so it is asked. Two system calls; the headroom lasts longer than this at the speed of any disk.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// While it fills up.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// After a step that failed.
const PAUSE: Duration = Duration::from_secs(5);

/// See the module. Dropping it ends the thread after the step it is at.
#[derive(Debug)]
pub(crate) struct Keeper {
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// In the mount namespace of the calling thread.
    pub(crate) fn start(store: Arc<Store>) -> io::Result<Self> {
        let (stop, stopped) = sync_channel(0);
        let keep = move || {
            let mut wait = LOOK_EVERY;
            while stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                wait = match store.look_after_pool() {
                    Ok(true) => LOOK_AGAIN,
                    Ok(false) => LOOK_EVERY,
                    Err(error) => {
                        tracing::error!(error = &error as &dyn std::error::Error, "the pool");
                        PAUSE
                    }
                };
            }
        };
        let thread = std::thread::Builder::new()
            .name("storage-keeper".into())
            .spawn(keep)?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Store {
    /// True if there was something to do.
    fn look_after_pool(&self) -> Result<bool, StorageError> {
        {
            let chosen = self.chosen.read();
            let pool = chosen.as_ref().and_then(|chosen| chosen.backend.pool());
            if let Some(pool) = pool
                && pool.must_be_open().is_ok()
            {
                return pool.fit(self.promised());
            }
        }
        self.reopen().map(|()| true)
    }

    /// Lets go of a closed pool and opens it again: as it was at its last commit if nothing else holds it, else still closed.
    fn reopen(&self) -> Result<(), StorageError> {
        let mut chosen = self.chosen.write();
        drop(chosen.take());
        let opened = ladder::choose(&self.data_dir, &self.options)?;
        if let Some(pool) = opened.backend.pool() {
            let checked = pool.check();
            if checked.is_ok() {
                opened.clear_staging();
                tracing::warn!("the pool takes writes again");
            }
            *chosen = Some(opened);
            return checked;
        }
        // Another rung would not have the sandboxes that are in the pool.
        Err(StorageError::Usage(io::ErrorKind::NotFound.into()))
    }
}
