//! What stands ready, and what should: pure, so that it can be tried without a clock or a driver.

use std::collections::VecDeque;
use std::time::Duration;

use skerry_types::SandboxId;
use tokio::time::Instant;

use super::ReadyLimits;

/// Kinds that anything is remembered of.
const KINDS: usize = 16;
/// What was asked for within this time is expected again.
const LOOK_BACK: Duration = Duration::from_mins(1);
/// Nobody asked for this long: nothing stands ready.
const FORGET_AFTER: Duration = Duration::from_mins(5);

/// What the shelves need to know of a kind.
pub(super) trait Kind: PartialEq + Clone {
    /// Memory that one of it takes while nobody uses it, in MiB.
    fn memory_mb(&self) -> u64;
}

/// One thing to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step<K, R> {
    Make(K),
    Remove(R),
    Nothing,
}

#[derive(Debug)]
struct Shelf<K, R> {
    kind: K,
    /// When it was asked for last, oldest first; as many as may stand ready.
    asked: VecDeque<Instant>,
    ready: VecDeque<(SandboxId, R)>,
    /// One is being made.
    is_making: bool,
    /// The last could not be made; no other is before this.
    put_off: Option<Instant>,
}

/// All kinds with what stands ready of each.
#[derive(Debug)]
pub(super) struct Shelves<K, R> {
    limits: ReadyLimits,
    kinds: Vec<Shelf<K, R>>,
    /// Not wanted any more.
    surplus: Vec<R>,
}

impl<K: Kind, R> Shelves<K, R> {
    pub(super) fn new(limits: ReadyLimits) -> Self {
        Self {
            limits,
            kinds: Vec::new(),
            surplus: Vec::new(),
        }
    }

    /// Somebody wants one of this kind.
    pub(super) fn ask(&mut self, kind: &K, now: Instant) -> Option<R> {
        if self.limits.each == 0 {
            return None;
        }
        let shelf = self.shelf(kind);
        let ready = shelf.ready.pop_front();
        shelf.asked.push_back(now);
        if shelf.asked.len() > self.limits.each {
            self.shelf(kind).asked.pop_front();
        }
        ready.map(|(_, ready)| ready)
    }

    fn shelf(&mut self, kind: &K) -> &mut Shelf<K, R> {
        let at = self.kinds.iter().position(|shelf| shelf.kind == *kind);
        let at = at.unwrap_or_else(|| {
            if self.kinds.len() == KINDS {
                self.clear_stalest();
            }
            self.kinds.push(Shelf {
                kind: kind.clone(),
                asked: VecDeque::new(),
                ready: VecDeque::new(),
                is_making: false,
                put_off: None,
            });
            self.kinds.len() - 1
        });
        &mut self.kinds[at]
    }

    fn clear_stalest(&mut self) {
        let stalest = (0..self.kinds.len()).min_by_key(|at| self.kinds[*at].asked.back());
        if let Some(at) = stalest {
            let shelf = self.kinds.swap_remove(at);
            let ready = shelf.ready.into_iter().map(|(_, ready)| ready);
            self.surplus.extend(ready);
        }
    }

    /// One is being made, and of its kind no other until it was [`put`](Self::put) here or [`put_off`](Self::put_off).
    pub(super) fn begin(&mut self, kind: &K) {
        self.shelf(kind).is_making = true;
    }

    /// One more stands ready.
    pub(super) fn put(&mut self, kind: &K, id: SandboxId, ready: R) {
        let shelf = self.shelf(kind);
        shelf.is_making = false;
        shelf.ready.push_back((id, ready));
    }

    /// One could not be made.
    pub(super) fn put_off(&mut self, kind: &K, until: Instant) {
        let shelf = self.shelf(kind);
        shelf.is_making = false;
        shelf.put_off = Some(until);
    }

    /// One that stood ready is dead. `None`: it was handed out.
    pub(super) fn take_out(&mut self, id: SandboxId) -> Option<R> {
        for shelf in &mut self.kinds {
            if let Some(at) = shelf.ready.iter().position(|(own, _)| *own == id) {
                return shelf.ready.remove(at).map(|(_, ready)| ready);
            }
        }
        None
    }

    /// Everything of these kinds, and that they were ever asked for.
    pub(super) fn forget(&mut self, is_meant: impl Fn(&K) -> bool) -> Vec<R> {
        let (meant, others) = std::mem::take(&mut self.kinds)
            .into_iter()
            .partition(|shelf| is_meant(&shelf.kind));
        self.kinds = others;
        let meant: Vec<Shelf<K, R>> = meant;
        let ready = meant.into_iter().flat_map(|shelf| shelf.ready);
        ready.map(|(_, ready)| ready).collect()
    }

    /// How many stand ready, of all kinds.
    pub(super) fn count(&self) -> usize {
        self.kinds.iter().map(|shelf| shelf.ready.len()).sum()
    }

    /// Everything, because the node ends.
    pub(super) fn clear(&mut self) -> Vec<R> {
        let shelves = std::mem::take(&mut self.kinds);
        let ready = shelves.into_iter().flat_map(|shelf| shelf.ready);
        let mut all: Vec<R> = ready.map(|(_, ready)| ready).collect();
        all.append(&mut self.surplus);
        all
    }

    /// Compares what should stand ready with what does.
    pub(super) fn step(&mut self, now: Instant) -> Step<K, R> {
        if let Some(surplus) = self.surplus.pop() {
            return Step::Remove(surplus);
        }
        let room = self.limits.memory_mb.saturating_sub(self.memory_mb());
        for shelf in &mut self.kinds {
            let wanted = wanted(&shelf.asked, self.limits.each, now);
            if shelf.ready.len() > wanted
                && let Some((_, ready)) = shelf.ready.pop_front()
            {
                return Step::Remove(ready);
            }
            let may_begin = !shelf.is_making && shelf.put_off.is_none_or(|until| until <= now);
            if may_begin && shelf.ready.len() < wanted && shelf.kind.memory_mb() <= room {
                return Step::Make(shelf.kind.clone());
            }
        }
        Step::Nothing
    }

    fn memory_mb(&self) -> u64 {
        let of = |shelf: &Shelf<K, R>| {
            let count = shelf.ready.len() + usize::from(shelf.is_making);
            shelf.kind.memory_mb() * count as u64
        };
        self.kinds.iter().map(of).sum()
    }
}

fn wanted(asked: &VecDeque<Instant>, each: usize, now: Instant) -> usize {
    let since = |at: &Instant| now.saturating_duration_since(*at);
    let is_fresh = asked.back().is_some_and(|last| since(last) < FORGET_AFTER);
    if !is_fresh {
        return 0;
    }
    let lately = asked.iter().filter(|at| since(at) < LOOK_BACK).count();
    lately.clamp(1, each)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    struct Sized(u64);

    impl Kind for Sized {
        fn memory_mb(&self) -> u64 {
            self.0
        }
    }

    const LIMITS: ReadyLimits = ReadyLimits {
        each: 4,
        memory_mb: 100,
        prepared: 0,
    };

    /// Does what is to be done until nothing is, numbering what it makes; gives what it removed.
    fn settle(shelves: &mut Shelves<Sized, u32>, next: &mut u32, now: Instant) -> Vec<u32> {
        let mut removed = Vec::new();
        for _ in 0..1000 {
            match shelves.step(now) {
                Step::Make(kind) => {
                    *next += 1;
                    shelves.put(&kind, SandboxId::new(), *next);
                }
                Step::Remove(ready) => removed.push(ready),
                Step::Nothing => return removed,
            }
        }
        unreachable!("it never settles");
    }

    #[test]
    fn as_many_stand_ready_as_were_asked_for_lately_and_each_is_handed_out_once() {
        let (mut shelves, mut next, now) = (Shelves::new(LIMITS), 0, Instant::now());
        let kind = Sized(0);
        assert_eq!(shelves.ask(&kind, now), None, "the first is made cold");
        settle(&mut shelves, &mut next, now);
        assert_eq!(next, 1);
        assert_eq!(shelves.ask(&kind, now), Some(1));
        settle(&mut shelves, &mut next, now);
        assert_eq!(next, 3, "two were asked for");
        let handed: Vec<_> = (0..3).map(|_| shelves.ask(&kind, now)).collect();
        assert_eq!(handed, [Some(2), Some(3), None]);
        for _ in 0..100 {
            shelves.ask(&kind, now);
        }
        settle(&mut shelves, &mut next, now);
        assert_eq!(next, 7, "no more than four");
    }

    #[test]
    fn what_nobody_asks_for_goes_away() {
        let (mut shelves, mut next, start) = (Shelves::new(LIMITS), 0, Instant::now());
        for _ in 0..3 {
            shelves.ask(&Sized(0), start);
        }
        settle(&mut shelves, &mut next, start);
        let later = start + LOOK_BACK;
        assert_eq!(settle(&mut shelves, &mut next, later).len(), 2);
        let much_later = start + FORGET_AFTER;
        assert_eq!(settle(&mut shelves, &mut next, much_later).len(), 1);
        assert_eq!(next, 3);
    }

    #[test]
    fn memory_and_kinds_are_bounded() {
        let (mut shelves, mut next, now) = (Shelves::new(LIMITS), 0, Instant::now());
        for _ in 0..4 {
            shelves.ask(&Sized(40), now);
        }
        settle(&mut shelves, &mut next, now);
        assert_eq!(next, 2, "a third would take more than 100");
        for size in 0..KINDS as u64 {
            shelves.ask(&Sized(200 + size), now + LOOK_BACK / 2);
        }
        assert_eq!(
            settle(&mut shelves, &mut next, now).len(),
            2,
            "the stalest kind went"
        );
    }

    #[test]
    fn a_kind_that_fails_or_hangs_leaves_the_others_alone() {
        let (mut shelves, now) = (Shelves::<_, u32>::new(LIMITS), Instant::now());
        let (bad, good) = (Sized(30), Sized(40));
        for _ in 0..2 {
            shelves.ask(&bad, now);
            shelves.ask(&good, now);
        }
        assert_eq!(shelves.step(now), Step::Make(bad));
        shelves.begin(&bad);
        assert_eq!(shelves.step(now), Step::Make(good));
        shelves.put(&good, SandboxId::new(), 1);
        assert_eq!(shelves.step(now), Step::Nothing, "it takes memory already");
        let later = now + Duration::from_secs(1);
        shelves.put_off(&bad, later);
        assert_eq!(shelves.step(now), Step::Make(good));
        assert_eq!(shelves.step(later), Step::Make(bad));
    }

    #[test]
    fn a_dead_one_is_not_handed_out() {
        let (mut shelves, now) = (Shelves::new(LIMITS), Instant::now());
        let id = SandboxId::new();
        shelves.ask(&Sized(0), now);
        shelves.put(&Sized(0), id, 7);
        assert_eq!(shelves.take_out(id), Some(7));
        assert_eq!(shelves.ask(&Sized(0), now), None);
        assert_eq!(shelves.take_out(id), None);
    }
}
