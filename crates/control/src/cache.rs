//! Answers of the store that may be a little old: who a key belongs to, what an org may have.

use std::collections::HashMap;
use std::hash::Hash;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use skerry_types::Result;

/// How old an answer may get. What another process changes, such as a key taken back, has its effect here this much later at most; what this
/// process changes, at once.
pub(crate) const TRUSTED_FOR: SignedDuration = SignedDuration::from_secs(5);
/// Answers kept at once.
const MOST: usize = 4096;

/// See the module. Only what was found is kept: a refusal is looked up each time.
#[derive(Debug)]
pub(crate) struct Cache<K, V>(Mutex<Known<K, V>>);

#[derive(Debug)]
struct Known<K, V> {
    answers: HashMap<K, (Timestamp, V)>,
    /// Counts how often everything was forgotten.
    epoch: u64,
}

impl<K, V> Default for Cache<K, V> {
    fn default() -> Self {
        Self(Mutex::new(Known {
            answers: HashMap::new(),
            epoch: 0,
        }))
    }
}

impl<K: Eq + Hash, V: Clone> Cache<K, V> {
    /// The answer that is known, or else the one that `ask` gets.
    pub(crate) async fn get(
        &self,
        key: K,
        now: Timestamp,
        ask: impl Future<Output = Result<V>>,
    ) -> Result<V> {
        let epoch = {
            let known = self.0.lock();
            if let Some((asked_at, answer)) = known.answers.get(&key)
                && is_fresh(*asked_at, now)
            {
                return Ok(answer.clone());
            }
            known.epoch
        };
        let answer = ask.await?;
        let mut known = self.0.lock();
        // If all was forgotten meanwhile, this may be from before.
        if known.epoch == epoch {
            known.keep(key, now, answer.clone());
        }
        Ok(answer)
    }

    /// Forgets everything, and what is being asked for just now.
    pub(crate) fn forget(&self) {
        let mut known = self.0.lock();
        known.answers.clear();
        known.epoch += 1;
    }
}

impl<K: Eq + Hash, V> Known<K, V> {
    fn keep(&mut self, key: K, now: Timestamp, answer: V) {
        if self.answers.len() >= MOST {
            self.answers.retain(|_, (at, _)| is_fresh(*at, now));
        }
        if self.answers.len() >= MOST {
            self.answers.clear();
        }
        self.answers.insert(key, (now, answer));
    }
}

/// An answer from the future is one from before the clock was set back.
fn is_fresh(asked_at: Timestamp, now: Timestamp) -> bool {
    asked_at <= now && now.duration_since(asked_at) < TRUSTED_FOR
}

#[cfg(test)]
mod tests {
    use skerry_types::Error;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_000_000 + seconds)
    }

    async fn ask(
        cache: &Cache<u32, &'static str>,
        seconds: i64,
        new: &'static str,
    ) -> &'static str {
        cache.get(1, at(seconds), async { Ok(new) }).await.unwrap()
    }

    #[tokio::test]
    async fn an_answer_is_trusted_for_a_while_and_not_when_the_clock_goes_back() {
        let cache = Cache::default();
        assert_eq!(ask(&cache, 0, "a").await, "a");
        assert_eq!(ask(&cache, 4, "b").await, "a");
        assert_eq!(ask(&cache, 5, "c").await, "c");
        assert_eq!(ask(&cache, 4, "d").await, "d");
        cache.forget();
        assert_eq!(ask(&cache, 4, "e").await, "e");
        let refused = async { Err(Error::conflict("no")) };
        assert!(cache.get(2, at(4), refused).await.is_err());
        assert!(cache.get(2, at(4), async { Ok("f") }).await.is_ok());
    }

    #[tokio::test]
    async fn what_was_asked_before_all_was_forgotten_is_not_kept() {
        let cache = Cache::default();
        let revoked_meanwhile = async {
            cache.forget();
            Ok("old")
        };
        cache.get(1, at(0), revoked_meanwhile).await.unwrap();
        assert_eq!(ask(&cache, 0, "new").await, "new");
    }

    #[tokio::test]
    async fn it_does_not_grow_without_end() {
        let cache = Cache::default();
        for key in 0..3 * MOST {
            cache.get(key, at(0), async { Ok(()) }).await.unwrap();
        }
        assert!(cache.0.lock().answers.len() <= MOST);
    }
}
