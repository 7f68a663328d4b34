//! Whose turn it is when many wait: of the orgs that wait, the one that has the fewest turns.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use skerry_types::{Error, OrgId, Result};
use tokio::sync::oneshot;

/// So many at once.
#[derive(Debug)]
pub(super) struct Turns(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    free: usize,
    /// Of each org that has some.
    taken: HashMap<OrgId, usize>,
    waiting: VecDeque<(OrgId, oneshot::Sender<Turn>)>,
}

/// Given back when it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    state: Arc<Mutex<State>>,
    org: OrgId,
}

impl Turns {
    pub(super) fn new(at_once: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            free: at_once,
            taken: HashMap::new(),
            waiting: VecDeque::new(),
        })))
    }

    pub(super) async fn take(&self, org: OrgId) -> Result<Turn> {
        let (sender, turn) = oneshot::channel();
        self.0.lock().waiting.push_back((org, sender));
        hand_out(&self.0);
        turn.await
            .map_err(|_| Error::internal("nothing is built any more"))
    }
}

/// A turn for whoever is next, if there is one. A turn whose org waits no more comes back by being dropped.
fn hand_out(state: &Arc<Mutex<State>>) {
    let next = state.lock().next();
    if let Some((org, waits)) = next {
        let state = Arc::clone(state);
        let _gone = waits.send(Turn { state, org });
    }
}

impl State {
    fn next(&mut self) -> Option<(OrgId, oneshot::Sender<Turn>)> {
        self.free = self.free.checked_sub(1)?;
        let has = |(_, (org, _)): &(usize, &(OrgId, _))| self.taken.get(org).copied();
        let at = self.waiting.iter().enumerate().min_by_key(has);
        let at = at.map(|(at, _)| at);
        let next = at.and_then(|at| self.waiting.remove(at));
        match &next {
            Some((org, _)) => *self.taken.entry(*org).or_default() += 1,
            None => self.free += 1,
        }
        next
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        state.free += 1;
        if let Some(taken) = state.taken.get_mut(&self.org) {
            *taken -= 1;
            if *taken == 0 {
                state.taken.remove(&self.org);
            }
        }
        drop(state);
        hand_out(&self.state);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn an_org_with_few_goes_before_one_with_many() {
        let (greedy, other) = (OrgId::new(), OrgId::new());
        let turns = Turns::new(2);
        let take = |org| Box::pin(turns.take(org));
        let mut taken: Vec<_> = (0..2)
            .map(|_| take(greedy).now_or_never().unwrap().unwrap())
            .collect();
        let (mut third, mut gone, mut first) = (take(greedy), take(other), take(other));
        for waits in [&mut third, &mut gone, &mut first] {
            assert!(waits.now_or_never().is_none());
        }
        drop(gone);
        taken.pop();
        assert!((&mut third).now_or_never().is_none());
        let turn = (&mut first).now_or_never().unwrap().unwrap();
        drop(turn);
        assert!(third.now_or_never().is_some());
    }
}
