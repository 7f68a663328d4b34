//! How much an org may ask for in a minute: windows of a minute, one for each kind of request.
//!
//! Each control process counts for itself, so of several an org gets as many times its limit.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use skerry_types::{Error, ErrorCode, OrgId, Result};

use crate::{Caller, Control};

const WINDOW: SignedDuration = SignedDuration::from_mins(1);
/// A page in a sandbox is made of many requests, and no visitor of it may use up what the org asks for itself.
const PORTS_PER_READ: u32 = 10;
/// Windows kept at once; above that the ended ones go.
const MANY: usize = 4096;

/// What a request counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// It makes a sandbox.
    Create,
    /// It starts a program.
    Exec,
    /// It goes to a port of a sandbox.
    Port,
    /// Anything else.
    Other,
}

/// Where an org stands after a request was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Requests in a minute.
    pub limit: u32,
    /// How many of them are left.
    pub remaining: u32,
    /// When there will be `limit` of them again.
    pub reset: Timestamp,
    /// This one was one too many; the next is welcome after so many seconds.
    pub refused_for: Option<u64>,
}

impl Standing {
    /// Refuses with 429 what is too much.
    pub fn admit(&self) -> Result<()> {
        let Some(seconds) = self.refused_for else {
            return Ok(());
        };
        let message = format!(
            "the organisation may ask for this {} times a minute",
            self.limit
        );
        Err(Error::new(ErrorCode::RateLimited, message)
            .with_hint("ask less often, or have the organisation's quota raised")
            .retry_after(seconds))
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Rates(Mutex<HashMap<(OrgId, Kind), Window>>);

#[derive(Debug, Clone, Copy)]
struct Window {
    began: Timestamp,
    used: u32,
}

impl Window {
    fn is_over(&self, now: Timestamp) -> bool {
        // One from the future is from before the clock was set back.
        now < self.began || now.duration_since(self.began) >= WINDOW
    }
}

impl Rates {
    fn count(&self, who: (OrgId, Kind), limit: u32, now: Timestamp) -> Standing {
        let mut windows = self.0.lock();
        if windows.len() >= MANY {
            windows.retain(|_, window| !window.is_over(now));
        }
        let fresh = Window {
            began: now,
            used: 0,
        };
        let window = windows.entry(who).or_insert(fresh);
        if window.is_over(now) {
            *window = fresh;
        }
        let reset = window.began + WINDOW;
        let refused = window.used >= limit;
        window.used += u32::from(!refused);
        // Rounded up, or the next would come too early.
        let left = reset.duration_since(now).as_secs().unsigned_abs() + 1;
        Standing {
            limit,
            remaining: limit.saturating_sub(window.used),
            reset,
            refused_for: refused.then_some(left),
        }
    }
}

impl Control {
    /// Counts a request; `None` where the org has no limit.
    pub async fn count(&self, caller: &Caller, kind: Kind) -> Result<Option<Standing>> {
        let quotas = self.quotas(caller).await?;
        let limit = match kind {
            Kind::Create => quotas.creates_per_minute,
            Kind::Exec => quotas.execs_per_minute,
            Kind::Port => quotas.reads_per_minute.saturating_mul(PORTS_PER_READ),
            Kind::Other => quotas.reads_per_minute,
        };
        let who = (caller.tenant.org(), kind);
        Ok((limit > 0).then(|| self.0.rates.count(who, limit, self.now())))
    }
}
