//! Which namespaces are ready and which sandbox has which: the gateway's only memory.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use ipnet::Ipv4Net;
use parking_lot::Mutex;
use skerry_types::{Egress, SandboxId};
use tokio::sync::{Notify, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::factory::{Factory, MakeError};
use crate::names::Names;
use crate::share::Own;
use crate::wire::{Failure, Held, NetworkKind};

/// Addresses tried in a row while the kernel still takes earlier owners down.
const TRIES: usize = 64;
/// Lookups of one sandbox that are answered at once.
const LOOKUPS: usize = 64;
/// Whoever was just given one needs the processor first, as long as there are some left.
const AFTER_TAKING: Duration = Duration::from_millis(10);

/// A sandbox's place in the network; closed when nobody refers to it.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) held: Held,
    pub(crate) netns: OwnedFd,
    /// Its share of connections.
    pub(crate) slots: Own,
    /// Its share of lookups.
    pub(crate) lookups: Own,
    /// Where its owner lets it connect. Whoever relays for it watches for others.
    pub(crate) egress: watch::Sender<Arc<Egress>>,
    /// What the resolver told it.
    pub(crate) names: Mutex<Names>,
    /// Cancelled when the sandbox is released.
    pub(crate) gone: CancellationToken,
}

/// A namespace that no sandbox has yet.
struct Made {
    netns: OwnedFd,
    address: Option<Ipv4Addr>,
}

/// Hands out namespaces, from the pool if it can.
pub(crate) struct Registry {
    factory: Factory,
    nat_unavailable: Option<String>,
    pool: usize,
    slots: usize,
    state: Mutex<State>,
    /// Something was taken from the pool.
    taken: Notify,
}

struct State {
    none: Vec<Made>,
    nat: Vec<Made>,
    members: HashMap<SandboxId, Arc<Member>>,
    by_address: HashMap<Ipv4Addr, Arc<Member>>,
    addresses: Addresses,
}

impl Registry {
    pub(crate) fn new(
        factory: Factory,
        nat_unavailable: Option<String>,
        config: &crate::Config,
    ) -> Self {
        Self {
            factory,
            nat_unavailable,
            pool: config.pool,
            slots: config.connections_per_sandbox,
            state: Mutex::new(State {
                none: Vec::new(),
                nat: Vec::new(),
                members: HashMap::new(),
                by_address: HashMap::new(),
                addresses: Addresses::new(config.subnet),
            }),
            taken: Notify::new(),
        }
    }

    /// How many sandboxes have a way out.
    pub(crate) fn count(&self) -> usize {
        self.state.lock().by_address.len()
    }

    /// Why there is no way out, if there is none.
    pub(crate) fn nat_unavailable(&self) -> Option<&str> {
        self.nat_unavailable.as_deref()
    }

    /// The place of a sandbox: the one it has, or one of the wanted kind.
    pub(crate) async fn acquire(
        &self,
        sandbox: SandboxId,
        kind: NetworkKind,
    ) -> Result<Arc<Member>, Failure> {
        let existing = self.state.lock().members.get(&sandbox).cloned();
        let member = if let Some(member) = existing {
            member
        } else {
            let made = self.take(kind).await?;
            self.admit(sandbox, kind, made)
        };
        if member.held.kind == kind {
            Ok(member)
        } else {
            Err(Failure::OtherKind)
        }
    }

    async fn take(&self, kind: NetworkKind) -> Result<Made, Failure> {
        self.check(kind)?;
        let ready = self.state.lock().ready(kind).pop();
        self.taken.notify_one();
        match ready {
            Some(made) => Ok(made),
            None => self.make(kind).await,
        }
    }

    fn check(&self, kind: NetworkKind) -> Result<(), Failure> {
        match (&self.nat_unavailable, kind) {
            (Some(reason), NetworkKind::Nat) => Err(Failure::NatUnavailable {
                reason: reason.clone(),
            }),
            _ => Ok(()),
        }
    }

    fn admit(&self, sandbox: SandboxId, kind: NetworkKind, made: Made) -> Arc<Member> {
        let mut state = self.state.lock();
        if let Some(first) = state.members.get(&sandbox).cloned() {
            // Asked for twice at once: the second namespace is not needed.
            state.addresses.give_back(made.address);
            return first;
        }
        let member = Arc::new(Member {
            held: Held {
                sandbox,
                kind,
                address: made.address,
            },
            netns: made.netns,
            slots: Own::new(self.slots),
            lookups: Own::new(LOOKUPS),
            egress: watch::Sender::default(),
            names: Mutex::default(),
            gone: CancellationToken::new(),
        });
        state.members.insert(sandbox, Arc::clone(&member));
        if let Some(address) = made.address {
            state.by_address.insert(address, Arc::clone(&member));
        }
        member
    }

    async fn make(&self, kind: NetworkKind) -> Result<Made, Failure> {
        for _ in 0..TRIES {
            let address = match kind {
                NetworkKind::None => None,
                NetworkKind::Nat => Some(
                    self.state
                        .lock()
                        .addresses
                        .pick()
                        .ok_or(Failure::NoAddress)?,
                ),
            };
            match self.factory.make(address).await {
                Ok(netns) => return Ok(Made { netns, address }),
                Err(error) => {
                    self.state.lock().addresses.give_back(address);
                    if !matches!(error, MakeError::Taken(_)) {
                        return Err(Failure::Make {
                            message: error.to_string(),
                        });
                    }
                }
            }
        }
        Err(Failure::NoAddress)
    }

    /// From now on a sandbox connects only where these rules let it; what they forbid of its open connections ends.
    pub(crate) fn rule(&self, sandbox: SandboxId, egress: Egress) -> Result<(), Failure> {
        let member = self.state.lock().members.get(&sandbox).cloned();
        let member = member.ok_or(Failure::NoSandbox)?;
        member.egress.send_replace(Arc::new(egress));
        Ok(())
    }

    /// Forgets a sandbox and ends its connections; the kernel takes the namespace down when the
    /// sandbox's last process is gone too.
    pub(crate) fn release(&self, sandbox: SandboxId) {
        let mut state = self.state.lock();
        if let Some(member) = state.members.remove(&sandbox) {
            if let Some(address) = member.held.address {
                state.by_address.remove(&address);
                state.addresses.give_back(Some(address));
            }
            member.gone.cancel();
        }
    }

    /// The sandbox with this address.
    pub(crate) fn by_address(&self, address: Ipv4Addr) -> Option<Arc<Member>> {
        self.state.lock().by_address.get(&address).cloned()
    }

    /// What every sandbox has.
    pub(crate) fn list(&self) -> Vec<Held> {
        let state = self.state.lock();
        state.members.values().map(|m| m.held.clone()).collect()
    }

    /// Whether no sandbox has anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.state.lock().members.is_empty()
    }

    /// Keeps the pool full for ever.
    pub(crate) async fn keep_ready(&self) {
        loop {
            for kind in [NetworkKind::None, NetworkKind::Nat] {
                if let Err(failure) = self.fill(kind).await {
                    tracing::warn!(?kind, ?failure, "cannot fill the pool of networks");
                }
            }
            self.taken.notified().await;
            if self.state.lock().least() > self.pool / 2 {
                sleep(AFTER_TAKING).await;
            }
        }
    }

    async fn fill(&self, kind: NetworkKind) -> Result<(), Failure> {
        if self.check(kind).is_err() {
            return Ok(());
        }
        while self.state.lock().ready(kind).len() < self.pool {
            let made = self.make(kind).await?;
            self.state.lock().ready(kind).push(made);
        }
        Ok(())
    }
}

impl State {
    /// Of the kind that fewest are ready of, as many.
    fn least(&self) -> usize {
        self.none.len().min(self.nat.len())
    }

    fn ready(&mut self, kind: NetworkKind) -> &mut Vec<Made> {
        match kind {
            NetworkKind::None => &mut self.none,
            NetworkKind::Nat => &mut self.nat,
        }
    }
}

/// Gives out the addresses of a subnet in a circle, so that one rests long after its use.
struct Addresses {
    network: u32,
    /// The first offset for sandboxes and the one after the last.
    range: std::ops::Range<u32>,
    next: u32,
    used: HashSet<Ipv4Addr>,
}

impl Addresses {
    /// Offset 0 is the network's, 1 the gateway's, the last one the broadcast.
    const FIRST: u32 = 2;

    fn new(subnet: Ipv4Net) -> Self {
        let network = u32::from(subnet.network());
        let end = u32::from(subnet.broadcast()).saturating_sub(network);
        Self {
            network,
            range: Self::FIRST..end,
            next: Self::FIRST,
            used: HashSet::new(),
        }
    }

    fn pick(&mut self) -> Option<Ipv4Addr> {
        for _ in self.range.clone() {
            let address = Ipv4Addr::from(self.network + self.next);
            self.next += 1;
            if self.next >= self.range.end {
                self.next = self.range.start;
            }
            if self.used.insert(address) {
                return Some(address);
            }
        }
        None
    }

    fn give_back(&mut self, address: Option<Ipv4Addr>) {
        if let Some(address) = address {
            self.used.remove(&address);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// `steps` take an address (`None`) or give back one of those taken.
        #[test]
        fn no_address_has_two_owners(
            prefix in 24_u8..=32,
            steps: Vec<Option<proptest::sample::Index>>,
        ) {
            let subnet = Ipv4Net::new(Ipv4Addr::new(10, 1, 2, 0), prefix).unwrap();
            let capacity = (1_usize << (32 - prefix)).saturating_sub(3);
            let mut addresses = Addresses::new(subnet);
            let mut taken: Vec<Ipv4Addr> = Vec::new();
            for step in steps {
                match step {
                    Some(index) if !taken.is_empty() => {
                        let given = taken.swap_remove(index.index(taken.len()));
                        addresses.give_back(Some(given));
                    }
                    Some(_) => {}
                    None => {
                        let Some(address) = addresses.pick() else {
                            prop_assert_eq!(taken.len(), capacity);
                            continue;
                        };
                        prop_assert!(subnet.contains(&address));
                        prop_assert_ne!(address, subnet.network());
                        prop_assert_ne!(address, subnet.broadcast());
                        prop_assert_ne!(Some(address), subnet.hosts().next(), "the gateway's");
                        prop_assert!(!taken.contains(&address));
                        taken.push(address);
                    }
                }
            }
        }
    }
}
