//! An append-only list that any number of readers follow.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;
use parking_lot::Mutex;
use skerry_types::Result;
use tokio::sync::watch;

#[derive(Debug, Clone)]
pub struct Log<T>(Arc<Inner<T>>);

#[derive(Debug)]
struct Inner<T> {
    items: Mutex<Vec<T>>,
    /// How many there are, and that no more will come.
    state: watch::Sender<(usize, bool)>,
}

impl<T> Default for Log<T> {
    fn default() -> Self {
        Self(Arc::new(Inner {
            items: Mutex::new(Vec::new()),
            state: watch::Sender::new((0, false)),
        }))
    }
}

impl<T: Clone + Send + 'static> Log<T> {
    /// Appends what `make` makes of its number, from 1.
    pub fn push(&self, make: impl FnOnce(u64) -> T) {
        let mut items = self.0.items.lock();
        let seq = items.len() as u64 + 1;
        items.push(make(seq));
        self.0.state.send_modify(|(count, _)| *count += 1);
    }

    pub fn close(&self) {
        self.0.state.send_modify(|(_, over)| *over = true);
    }

    pub fn read(&self, after: u64, follow: bool) -> BoxStream<'static, Result<T>> {
        let log = self.clone();
        let seen = self.0.state.subscribe();
        futures::stream::unfold(
            (log, seen, after as usize),
            move |(log, mut seen, at)| async move {
                loop {
                    let (_, over) = *seen.borrow_and_update();
                    let item = log.0.items.lock().get(at).cloned();
                    if let Some(item) = item {
                        return Some((Ok(item), (log, seen, at + 1)));
                    }
                    if over || !follow {
                        return None;
                    }
                    seen.changed().await.ok()?;
                }
            },
        )
        .boxed()
    }
}
