//! Pulls under way, counted by org: who waits for slow registries keeps nobody else waiting.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use skerry_types::{Error, ErrorCode, OrgId, Result};

/// Of one org, at once.
const MAX_PULLS: usize = 8;
const RETRY_SECONDS: u64 = 5;

/// How many each org has.
#[derive(Debug, Default, Clone)]
pub(super) struct Pulls(Arc<Mutex<HashMap<OrgId, usize>>>);

/// One of them, until it is dropped.
#[derive(Debug)]
#[must_use = "the place is given back when this is dropped"]
pub(super) struct Place {
    pulls: Pulls,
    org: OrgId,
}

impl Pulls {
    pub(super) fn take(&self, org: OrgId) -> Result<Place> {
        let mut pulls = self.0.lock();
        let count = pulls.entry(org).or_default();
        if *count == MAX_PULLS {
            let text = format!("{MAX_PULLS} images are being pulled already");
            return Err(Error {
                retry_after: Some(RETRY_SECONDS),
                ..Error::new(ErrorCode::QuotaExceeded, text).with_hint("wait for one of them")
            });
        }
        *count += 1;
        Ok(Place {
            pulls: self.clone(),
            org,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut pulls = self.pulls.0.lock();
        if let Some(count) = pulls.get_mut(&self.org) {
            *count -= 1;
            if *count == 0 {
                pulls.remove(&self.org);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_org_waits_for_itself_only() {
        let (pulls, busy, other) = (Pulls::default(), OrgId::new(), OrgId::new());
        let mut places: Vec<_> = (0..MAX_PULLS).map(|_| pulls.take(busy).unwrap()).collect();
        let refused = pulls.take(busy).unwrap_err();
        assert_eq!(refused.code, ErrorCode::QuotaExceeded);
        assert!(pulls.take(other).is_ok());
        places.pop();
        assert!(pulls.take(busy).is_ok());
        places.clear();
        assert!(pulls.0.lock().is_empty());
    }
}
