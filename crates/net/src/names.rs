//! Which addresses a sandbox was given for which names: only by these an address can stand for a name.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

/// Addresses of names that are remembered for one sandbox.
const KEPT: usize = 512;
/// A program may use an address for a while after it has asked for it …
const SHORTEST: Duration = Duration::from_mins(1);
/// … but none for ever.
const LONGEST: Duration = Duration::from_hours(1);

/// What the resolver has told one sandbox.
#[derive(Debug, Default)]
pub(crate) struct Names(Vec<Told>);

#[derive(Debug)]
struct Told {
    address: Ipv4Addr,
    name: Arc<str>,
    until: Instant,
}

impl Names {
    /// The sandbox was told that a name has these addresses, each for so many seconds.
    pub(crate) fn tell(&mut self, name: &str, addresses: &[(Ipv4Addr, u32)], now: Instant) {
        let name: Arc<str> = name.into();
        for &(address, seconds) in addresses {
            let time = Duration::from_secs(seconds.into()).clamp(SHORTEST, LONGEST);
            self.0
                .retain(|told| told.until > now && (told.address, &told.name) != (address, &name));
            if self.0.len() >= KEPT {
                self.forget_one();
            }
            self.0.push(Told {
                address,
                name: Arc::clone(&name),
                until: now + time,
            });
        }
    }

    /// The names that the sandbox has this address for.
    pub(crate) fn of(&self, address: Ipv4Addr, now: Instant) -> Vec<Arc<str>> {
        let told = self.0.iter();
        told.filter(|told| told.address == address && told.until > now)
            .map(|told| Arc::clone(&told.name))
            .collect()
    }

    /// The one that would end first.
    fn forget_one(&mut self) {
        if let Some(at) = (0..self.0.len()).min_by_key(|&at| self.0[at].until) {
            self.0.swap_remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);

    #[test]
    fn an_address_has_its_names_for_a_time() {
        let (mut names, now) = (Names::default(), Instant::now());
        names.tell("a.example", &[(ADDRESS, 0)], now);
        names.tell("b.example", &[(ADDRESS, u32::MAX)], now);
        let at = |after| names.of(ADDRESS, now + after);
        assert_eq!(at(SHORTEST / 2).len(), 2);
        assert_eq!(at(SHORTEST), [Arc::from("b.example")]);
        assert!(at(LONGEST).is_empty());
        assert!(names.of(Ipv4Addr::LOCALHOST, now).is_empty());
    }

    #[test]
    fn however_much_is_asked_for_there_is_an_end_to_it() {
        let (mut names, now) = (Names::default(), Instant::now());
        names.tell("kept.example", &[(ADDRESS, 600)], now);
        for last in 0..2000_u32 {
            let address = Ipv4Addr::from(last);
            names.tell("many.example", &[(address, 60), (address, 60)], now);
        }
        assert_eq!(names.0.len(), KEPT);
        assert_eq!(names.of(ADDRESS, now).len(), 1, "the shortest go first");
    }
}
