//! How often strangers may do what costs something: a fixed window of a minute, per
//! address and together. Memory only: each process counts for itself.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

/// Registrations of one address in a minute; a whole office may share one.
pub(super) const REGISTRATIONS_EACH: u32 = 60;
/// Registrations in a minute.
pub(super) const REGISTRATIONS_ALL: u32 = 600;
/// Failed client authentications of one address in a minute.
pub(super) const FAILURES_EACH: u32 = 60;
/// Failed client authentications in a minute; many, because the count must not lock out others.
pub(super) const FAILURES_ALL: u32 = 60_000;
/// Addresses remembered; more of them share one count.
const ADDRESSES: usize = 10_000;
const MINUTE_MS: i64 = 60_000;

/// Counts per minute.
pub(super) struct Limiter {
    each: u32,
    all: u32,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    minute: i64,
    all: u32,
    each: HashMap<IpAddr, u32>,
}

impl Limiter {
    pub(super) fn new(each: u32, all: u32) -> Self {
        Self { each, all, state: Mutex::default() }
    }

    /// Counts one more; false when that is too many.
    pub(super) fn take(&self, peer: IpAddr, now_ms: i64) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.turn(now_ms);
        let known = state.each.contains_key(&key(peer)) || state.each.len() < ADDRESSES;
        let slot = if known { key(peer) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
        let each = state.each.get(&slot).copied().unwrap_or(0);
        if each >= self.each || state.all >= self.all {
            return false;
        }
        state.each.insert(slot, each + 1);
        state.all += 1;
        true
    }

    /// Whether one more would be too many, without counting it.
    pub(super) fn is_full(&self, peer: IpAddr, now_ms: i64) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.turn(now_ms);
        state.all >= self.all || state.each.get(&key(peer)).is_some_and(|count| *count >= self.each)
    }
}

impl State {
    fn turn(&mut self, now_ms: i64) {
        let minute = now_ms.div_euclid(MINUTE_MS);
        if minute != self.minute {
            *self = Self { minute, ..Self::default() };
        }
    }
}

/// One household of IPv6 addresses counts as one.
fn key(peer: IpAddr) -> IpAddr {
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
        assert!(limiter.take(ip("192.0.2.1"), 0) && limiter.take(ip("::ffff:192.0.2.1"), 1));
        assert!(!limiter.take(ip("192.0.2.1"), 2) && limiter.is_full(ip("192.0.2.1"), 2));
        assert!(limiter.take(ip("2001:db8::1"), 3) && limiter.take(ip("2001:db8::2"), 3));
        assert!(!limiter.take(ip("2001:db8::3"), 3), "one network");
        assert!(limiter.take(ip("192.0.2.2"), 4) && !limiter.take(ip("192.0.2.3"), 4), "together");
        assert!(limiter.take(ip("192.0.2.1"), MINUTE_MS), "the next minute");
    }

    #[test]
    fn a7_the_memory_of_addresses_is_bounded() {
        let limiter = Limiter::new(1, u32::MAX);
        for n in 0..20_000_u32 {
            limiter.take(IpAddr::V4(n.into()), 0);
        }
        assert!(limiter.state.lock().unwrap().each.len() <= ADDRESSES + 1);
    }
}
