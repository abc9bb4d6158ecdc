//! How often strangers may do what costs something: a fixed window of a minute, per
//! address (and client) and together. Memory only: each process counts for itself.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

use crate::secret;

/// Registrations of one address in a minute; a whole office may share one.
pub(super) const REGISTRATIONS_EACH: u32 = 60;
/// Registrations in a minute.
pub(super) const REGISTRATIONS_ALL: u32 = 600;
/// Failed authentications of one client from one address in a minute. There is no bound for
/// all of them together: it would lock out who does nothing wrong.
pub(super) const FAILURES_EACH: u32 = 60;
/// Keys remembered; more of them share [`SHARED`] counts.
const KEYS: usize = 10_000;
const SHARED: u64 = 1_024;
const MINUTE_MS: i64 = 60_000;

/// Counts per minute.
pub(crate) struct Limiter {
    each: u32,
    all: u32,
    shares: RandomState,
    state: Mutex<State>,
}

/// What is counted together.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Slot {
    /// A network, and a name as a hash: names are as long as somebody likes.
    Own(IpAddr, [u8; 32]),
    Shared(u64),
}

#[derive(Default)]
struct State {
    minute: i64,
    all: u32,
    each: HashMap<Slot, u32>,
}

impl Limiter {
    pub(crate) fn new(each: u32, all: u32) -> Self {
        Self { each, all, shares: RandomState::new(), state: Mutex::default() }
    }

    /// Counts one more of a name (may be empty); false when that is too many.
    pub(crate) fn take(&self, peer: IpAddr, name: &str, now_ms: i64) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.turn(now_ms);
        let slot = self.slot(&state, peer, name);
        let each = state.each.get(&slot).copied().unwrap_or(0);
        if each >= self.each || state.all >= self.all {
            return false;
        }
        state.each.insert(slot, each + 1);
        state.all = state.all.saturating_add(1);
        true
    }

    /// Whether one more would be too many, without counting it.
    pub(crate) fn is_full(&self, peer: IpAddr, name: &str, now_ms: i64) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.turn(now_ms);
        let slot = self.slot(&state, peer, name);
        state.all >= self.all || state.each.get(&slot).is_some_and(|count| *count >= self.each)
    }

    fn slot(&self, state: &State, peer: IpAddr, name: &str) -> Slot {
        let own = Slot::Own(network(peer), secret::hash(name));
        if state.each.contains_key(&own) || state.each.len() < KEYS {
            return own;
        }
        Slot::Shared(self.shares.hash_one(&own) % SHARED)
    }
}

impl State {
    fn turn(&mut self, now_ms: i64) {
        let minute = now_ms.div_euclid(MINUTE_MS);
        // Never back: somebody who was counted late must not wipe the counts of others.
        if minute > self.minute {
            *self = Self { minute, ..Self::default() };
        }
    }
}

/// One household of IPv6 addresses counts as one.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a7_a_flood_is_counted_per_address_and_together() {
        let limiter = Limiter::new(2, 5);
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(limiter.take(ip("192.0.2.1"), "", 0) && limiter.take(ip("::ffff:192.0.2.1"), "", 1));
        assert!(!limiter.take(ip("192.0.2.1"), "", 2) && limiter.is_full(ip("192.0.2.1"), "", 2));
        assert!(limiter.take(ip("2001:db8::1"), "", 3) && limiter.take(ip("2001:db8::2"), "", 3));
        assert!(!limiter.take(ip("2001:db8::3"), "", 3), "one network");
        assert!(limiter.take(ip("192.0.2.2"), "", 4) && !limiter.take(ip("192.0.2.3"), "", 4), "together");
        assert!(limiter.take(ip("192.0.2.1"), "", MINUTE_MS), "the next minute");
    }

    #[test]
    fn a7_the_memory_of_addresses_is_bounded() {
        let limiter = Limiter::new(1, u32::MAX);
        for n in 0..20_000_u32 {
            limiter.take(IpAddr::V4(n.into()), "", 0);
        }
        assert!(limiter.state.lock().unwrap().each.len() <= KEYS + SHARED as usize);
    }

    #[test]
    fn a9_one_slot_for_asking_and_counting_also_when_memory_is_full() {
        let limiter = Limiter::new(1, u32::MAX);
        for n in 0..20_000_u32 {
            limiter.take(IpAddr::V4(n.into()), "", 0);
        }
        let late = IpAddr::V4(0xc000_0201.into());
        limiter.take(late, "a", 0);
        assert!(limiter.is_full(late, "a", 0));
    }

    #[test]
    fn a9_names_are_counted_apart() {
        let limiter = Limiter::new(1, u32::MAX);
        let peer = IpAddr::V4(0xc000_0201.into());
        assert!(limiter.take(peer, "a", 0) && limiter.is_full(peer, "a", 0) && !limiter.is_full(peer, "b", 0));
    }
}
