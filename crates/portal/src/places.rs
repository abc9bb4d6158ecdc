//! How much one caller may have open. A bound per owner, so that nobody can use up what
//! belongs to all, and nobody loses anything because of somebody else.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use bartizan_model::{Principal, PrincipalKind};

const SHARDS: usize = 16;

/// Counts what is open per owner.
pub(crate) struct Places<K> {
    max: usize,
    hasher: RandomState,
    shards: [Mutex<HashMap<K, usize>>; SHARDS],
}

/// One of an owner's places; given back when dropped.
pub(crate) struct Ticket<K: std::hash::Hash + Eq> {
    places: Arc<Places<K>>,
    owner: K,
}

/// A caller's, shared by a call and the stream of its answer.
pub(crate) type CallerTicket = Arc<Ticket<Arc<str>>>;

impl<K: std::hash::Hash + Eq + Clone> Places<K> {
    /// At most `max` places for each owner.
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, hasher: RandomState::new(), shards: std::array::from_fn(|_| Mutex::default()) })
    }

    /// Takes a place. None when the owner has all of theirs.
    pub(crate) fn take(self: &Arc<Self>, owner: &K) -> Option<Ticket<K>> {
        let mut shard = self.shard(owner).lock().unwrap_or_else(PoisonError::into_inner);
        match shard.get_mut(owner) {
            Some(taken) if *taken >= self.max => return None,
            Some(taken) => *taken += 1,
            None if self.max == 0 => return None,
            None => {
                shard.insert(owner.clone(), 1);
            }
        }
        Some(Ticket { places: Arc::clone(self), owner: owner.clone() })
    }
}

impl<K: std::hash::Hash + Eq> Places<K> {
    fn shard(&self, owner: &K) -> &Mutex<HashMap<K, usize>> {
        let at = usize::try_from(self.hasher.hash_one(owner) % SHARDS as u64).unwrap_or(0);
        let [first, ..] = &self.shards;
        self.shards.get(at).unwrap_or(first)
    }
}

impl<K: std::hash::Hash + Eq> Drop for Ticket<K> {
    fn drop(&mut self) {
        let mut shard = self.places.shard(&self.owner).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = shard.get_mut(&self.owner) {
            *taken -= 1;
            if *taken == 0 {
                shard.remove(&self.owner);
            }
        }
    }
}

/// Whose places a caller uses. All anonymous callers are one principal; they are told
/// apart by their network.
pub(crate) fn owner(principal: &Principal, ip: IpAddr) -> Arc<str> {
    match principal.kind {
        PrincipalKind::Anonymous => format!("{}@{}", principal.key(), network(ip)).into(),
        _ => Arc::clone(principal.key()),
    }
}

/// What one subscriber of a network has: an IPv4 address, or an IPv6 /64.
pub(crate) fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o11_one_owners_places_are_no_other_owners() {
        let places = Places::new(2);
        let taken: Vec<_> = (0..2).map(|_| places.take(&"alice").unwrap()).collect();
        assert!(places.take(&"alice").is_none());
        assert!(places.take(&"bob").is_some());
        drop(taken);
        assert!(places.take(&"alice").is_some());
        assert!(places.shards.iter().all(|shard| shard.lock().unwrap().is_empty()), "nothing is kept of the gone");
        assert!(Places::new(0).take(&"alice").is_none());
    }

    #[test]
    fn o11_anonymous_callers_are_told_apart_by_network() {
        let nobody = Principal::anonymous();
        let of = |ip: &str| owner(&nobody, ip.parse().unwrap());
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
        assert_eq!(of("2001:db8:0:1::1"), of("2001:db8:0:1:ffff::2"));
        assert_ne!(of("2001:db8:0:1::1"), of("2001:db8:0:2::1"));
        let alice = Principal::new(PrincipalKind::User, "alice", []);
        assert_eq!(&*owner(&alice, "192.0.2.1".parse().unwrap()), "user:alice");
    }
}
