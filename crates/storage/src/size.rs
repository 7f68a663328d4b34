//! How large the pool should be. Pure: the pool measures, asks here, and does it.
//!
//! Every block of the pool is taken from the disk before the file system may use it, so a full disk never meets a write that was promised a place.
//! That is why the pool is only as large as what is in it, plus a headroom that is filled up again as it is used.

/// Kept free on the disk below for the server's own records; the pool never takes it, and no new volume is made without it.
pub(crate) const RESERVE_BYTES: u64 = 256 << 20;
/// The smallest file system that can be resized.
const MIN_BYTES: u64 = 256 << 20;
const STEP_BYTES: u64 = 64 << 20;
/// Room for what is written until the pool is looked at again; no more than a sixteenth of what the disk could give.
const MAX_HEADROOM_BYTES: u64 = 2 << 30;
const MIN_HEADROOM_BYTES: u64 = 128 << 20;

/// What a decision is made from, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    /// The pool's size.
    pub(crate) total: u64,
    /// What of it is in use, in whole chunks of the file system.
    pub(crate) in_chunks: u64,
    /// Free on the disk below.
    pub(crate) disk_free: u64,
    /// The pool may not get larger than this.
    pub(crate) max: u64,
}

impl Seen {
    /// The size that the pool should have: the same unless there is a reason.
    pub(crate) fn wanted(self) -> u64 {
        let headroom = self.headroom();
        let wanted = (self.in_chunks + headroom).next_multiple_of(STEP_BYTES);
        let wanted = wanted
            .min(self.max / STEP_BYTES * STEP_BYTES)
            .max(MIN_BYTES);
        if wanted > self.total {
            return wanted.min(self.total + self.growable());
        }
        // Not for every chunk that comes and goes.
        let is_much = self.total - wanted > headroom / 2;
        if is_much { wanted } else { self.total }
    }

    /// The bytes that the disk can still give to the pool.
    pub(crate) fn growable(self) -> u64 {
        let spare = self.disk_free.saturating_sub(RESERVE_BYTES);
        let allowed = self.max.saturating_sub(self.total);
        spare.min(allowed) / STEP_BYTES * STEP_BYTES
    }

    fn headroom(self) -> u64 {
        let room = self.disk_free + self.total;
        (room / 16).clamp(MIN_HEADROOM_BYTES, MAX_HEADROOM_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;

    fn seen(total: u64, in_chunks: u64, disk_free: u64) -> Seen {
        Seen {
            total,
            in_chunks,
            disk_free,
            max: u64::MAX,
        }
    }

    #[test]
    fn it_grows_ahead_of_what_is_written_and_shrinks_after_it() {
        assert_eq!(seen(0, 0, 100 * GIB).wanted(), 2 * GIB);
        assert_eq!(seen(2 * GIB, GIB, 100 * GIB).wanted(), 3 * GIB);
        assert_eq!(seen(3 * GIB, GIB - 64 * MIB, 100 * GIB).wanted(), 3 * GIB);
        assert_eq!(seen(9 * GIB, GIB, 100 * GIB).wanted(), 3 * GIB);
    }

    #[test]
    fn it_never_takes_the_disk_s_reserve() {
        for free in (0..3000).step_by(7).map(|n| n * MIB) {
            let seen = seen(4 * GIB, 4 * GIB, free);
            let grown = seen.wanted() - seen.total;
            assert!(grown == 0 || free - grown >= RESERVE_BYTES, "{free}");
        }
        assert_eq!(seen(GIB, GIB, GIB).wanted(), GIB + 128 * MIB);
    }

    #[test]
    fn it_keeps_to_its_bounds() {
        let bounded = |max| Seen {
            max,
            ..seen(256 * MIB, 200 * MIB, 100 * GIB)
        };
        assert_eq!(bounded(GIB).wanted(), GIB);
        assert_eq!(bounded(1).wanted(), MIN_BYTES);
        assert_eq!(seen(256 * MIB, 0, 0).wanted(), MIN_BYTES);
    }
}
