//! Bounds on what callers may cost.

use std::net::IpAddr;
use std::time::Duration;

use moka::sync::Cache;

/// Failures of one address within a minute before it is not listened to any more.
const FAILURES: u32 = 20;

/// Counts failures by address.
pub(crate) struct Failures(Cache<IpAddr, u32>);

impl Default for Failures {
    fn default() -> Self {
        Self(Cache::builder().max_capacity(10_000).time_to_live(Duration::from_secs(60)).build())
    }
}

impl Failures {
    /// Whether an address failed too often.
    pub(crate) fn too_many(&self, from: IpAddr) -> bool {
        self.0.get(&from).is_some_and(|count| count >= FAILURES)
    }

    /// Notes a failure. True for the first of a minute, which is worth a line in the log.
    pub(crate) fn note(&self, from: IpAddr) -> bool {
        let entry = self.0.entry(from).and_upsert_with(|old| old.map_or(1, |old| old.into_value().saturating_add(1)));
        entry.into_value() == 1
    }
}
