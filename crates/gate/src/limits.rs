//! Counters for rates, concurrency and bytes (feature row O11). All off unless a
//! [`RateLimit`] is written down; counters outlive a snapshot as long as their
//! limit is unchanged, and idle ones are dropped.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bartizan_config::resources::{LimitKey, RateLimit};
use bartizan_model::{Clock, PortalId, ServerId};

/// Counters are swept when a limiter has grown by this many keys since the last sweep.
const SWEEP_EVERY: u32 = 1024;
const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// What a call is counted by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    /// Peer address.
    pub(crate) address: Option<std::net::IpAddr>,
    /// Principal key.
    pub(crate) user: &'a str,
    /// Client name.
    pub(crate) client: Option<&'a str>,
    /// Portal, when the call came through one.
    pub(crate) portal: Option<&'a PortalId>,
    /// Server; none for lists of a whole portal.
    pub(crate) server: Option<&'a ServerId>,
    /// Original tool name; none for lists.
    pub(crate) tool: Option<&'a str>,
    /// Request bytes.
    pub(crate) bytes: u64,
}

/// Why a call is over a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exceeded {
    /// Id of the limit.
    pub(crate) limit: Arc<str>,
    /// Whole seconds after which a repeat may succeed; at least 1.
    pub(crate) retry_after_s: u64,
    /// True when a repeat can never succeed (the request alone is over the byte burst).
    pub(crate) never: bool,
}

/// Calls in flight by key.
type Counts = Mutex<HashMap<Box<str>, u32>>;

/// Holds the concurrency slots of one call; dropping it gives them back.
#[derive(Debug, Default)]
pub(crate) struct Slots(Vec<Slot>);

#[derive(Debug)]
struct Slot {
    counts: Arc<Counts>,
    key: Box<str>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
    }
}

/// A generic cell rate algorithm over many keys: per key one number, the time at
/// which its bucket is empty again. Exact, and able to answer without counting.
struct Gcra {
    /// Nanoseconds that one unit costs.
    unit: i128,
    /// Nanoseconds that may be owed at once.
    burst: i128,
    owed_until: Mutex<HashMap<Box<str>, i128>>,
}

/// Why a [`Gcra`] refuses.
enum Over {
    /// Nanoseconds after which there is room.
    Wait(i128),
    /// More units than the bucket ever holds.
    Never,
}

impl Gcra {
    fn per_minute(rate: NonZeroU32, burst: NonZeroU32) -> Self {
        let unit = i128::from(60 * NANOS_PER_SECOND) / i128::from(rate.get());
        Self { unit, burst: unit * i128::from(burst.get()), owed_until: Mutex::default() }
    }

    fn take(&self, key: &str, units: u64, now: i128, count: bool) -> Result<(), Over> {
        let cost = self.unit * i128::from(units);
        if cost > self.burst {
            return Err(Over::Never);
        }
        let mut owed = self.owed_until.lock().unwrap_or_else(PoisonError::into_inner);
        let until = owed.get(key).copied().unwrap_or(now).max(now) + cost;
        let over = until - now - self.burst;
        if over > 0 {
            return Err(Over::Wait(over));
        }
        if count {
            owed.insert(key.into(), until);
        }
        Ok(())
    }

    /// Drops the keys whose buckets are empty.
    fn sweep(&self, now: i128) {
        let mut owed = self.owed_until.lock().unwrap_or_else(PoisonError::into_inner);
        owed.retain(|_, until| *until > now);
        owed.shrink_to_fit();
    }
}

/// One configured limit with its counters.
struct Limit {
    id: Arc<str>,
    config: RateLimit,
    rate: Option<Gcra>,
    bytes: Option<Gcra>,
    /// The most at once, and how many there are by key.
    concurrent: Option<(u32, Arc<Counts>)>,
    clock: Arc<dyn Clock>,
    since_sweep: AtomicU32,
}

/// The limits of one snapshot.
pub(crate) struct LimitSet(Vec<Arc<Limit>>);

/// Builds [`LimitSet`]s, keeping the counters of limits that did not change.
pub(crate) struct Limiter {
    clock: Arc<dyn Clock>,
    current: Mutex<Option<(u64, Arc<LimitSet>)>>,
}

impl Limiter {
    /// A limiter without any counters yet.
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, current: Mutex::new(None) }
    }

    /// The counters for the limits of a snapshot. A call that still runs under an
    /// older snapshot gets the newest counters: limits are about now.
    pub(crate) fn set(&self, version: u64, limits: &[RateLimit]) -> Option<Arc<LimitSet>> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        match &*current {
            Some((known, set)) if *known == version => return (!set.0.is_empty()).then(|| Arc::clone(set)),
            _ => {}
        }
        let old = current.take().map(|(_, set)| set);
        let set: Vec<Arc<Limit>> = limits
            .iter()
            .map(|config| {
                old.iter()
                    .flat_map(|set| set.0.iter())
                    .find(|limit| same(&limit.config, config))
                    .map_or_else(|| Arc::new(Limit::new(config, Arc::clone(&self.clock))), Arc::clone)
            })
            .collect();
        let set = Arc::new(LimitSet(set));
        *current = Some((version, Arc::clone(&set)));
        (!set.0.is_empty()).then_some(set)
    }
}

fn same(a: &RateLimit, b: &RateLimit) -> bool {
    a.id == b.id
        && a.per == b.per
        && a.server == b.server
        && a.tools == b.tools
        && a.per_minute == b.per_minute
        && a.burst == b.burst
        && a.concurrent == b.concurrent
        && a.bytes_per_minute == b.bytes_per_minute
}

impl Limit {
    fn new(config: &RateLimit, clock: Arc<dyn Clock>) -> Self {
        let rate = config.per_minute.and_then(NonZeroU32::new).map(|rate| {
            let burst = config.burst.and_then(NonZeroU32::new).unwrap_or(rate);
            Gcra::per_minute(rate, burst)
        });
        let bytes = config.bytes_per_minute.and_then(NonZeroU32::new).map(|rate| Gcra::per_minute(rate, rate));
        let concurrent = config.concurrent.map(|max| (max, Arc::default()));
        let id = config.id.as_str().into();
        Self { id, config: config.clone(), rate, bytes, concurrent, clock, since_sweep: AtomicU32::new(0) }
    }

    fn applies(&self, subject: &Subject<'_>) -> bool {
        let server = match &self.config.server {
            Some(server) => subject.server == Some(server),
            None => true,
        };
        let tool = self.config.tools.is_empty()
            || subject.tool.is_some_and(|tool| self.config.tools.iter().any(|name| name == tool));
        server && tool
    }

    /// One text per combination of values; the separator cannot occur in ids, and
    /// lengths keep free texts apart.
    fn key(&self, subject: &Subject<'_>) -> Box<str> {
        use std::fmt::Write as _;
        let mut key = String::new();
        for part in &self.config.per {
            let written = match part {
                LimitKey::Address => match subject.address {
                    Some(address) => writeln!(key, "a{address}"),
                    None => writeln!(key, "a"),
                },
                LimitKey::User => writeln!(key, "u{}:{}", subject.user.len(), subject.user),
                LimitKey::Client => {
                    let client = subject.client.unwrap_or_default();
                    writeln!(key, "c{}:{client}", client.len())
                }
                LimitKey::Portal => writeln!(key, "p{}", subject.portal.map_or("", PortalId::as_str)),
                LimitKey::Server => writeln!(key, "s{}", subject.server.map_or("", ServerId::as_str)),
                LimitKey::Tool => {
                    let tool = subject.tool.unwrap_or_default();
                    writeln!(key, "s{}t{}:{tool}", subject.server.map_or("", ServerId::as_str), tool.len())
                }
            };
            debug_assert!(written.is_ok(), "writing to a string cannot fail");
        }
        key.into()
    }

    fn exceeded(&self, seconds: u64, never: bool) -> Exceeded {
        Exceeded { limit: Arc::clone(&self.id), retry_after_s: seconds.max(1), never }
    }

    fn over(&self, over: &Over) -> Exceeded {
        match over {
            Over::Never => self.exceeded(60, true),
            Over::Wait(nanos) => {
                let second = i128::from(NANOS_PER_SECOND);
                self.exceeded(u64::try_from((nanos + second - 1) / second).unwrap_or(u64::MAX), false)
            }
        }
    }

    fn sweep(&self, now: i128) {
        if self.since_sweep.fetch_add(1, Ordering::Relaxed) + 1 >= SWEEP_EVERY {
            self.since_sweep.store(0, Ordering::Relaxed);
            self.rate.iter().chain(self.bytes.iter()).for_each(|limiter| limiter.sweep(now));
        }
    }

    fn take(&self, subject: &Subject<'_>, slots: &mut Slots, count: bool) -> Result<(), Exceeded> {
        let key = self.key(subject);
        let now = i128::from(self.clock.now_ms()) * 1_000_000;
        self.sweep(now);
        // A zero limit is a limit of nothing, not the absence of a limit.
        if self.config.per_minute == Some(0) || self.config.bytes_per_minute == Some(0) {
            return Err(self.exceeded(60, true));
        }
        if let Some((max, counts)) = &self.concurrent {
            let mut held = counts.lock().unwrap_or_else(PoisonError::into_inner);
            let running = held.get(&key).copied().unwrap_or(0);
            if running >= *max {
                return Err(self.exceeded(1, *max == 0));
            }
            if count {
                held.insert(key.clone(), running + 1);
                drop(held);
                slots.0.push(Slot { counts: Arc::clone(counts), key: key.clone() });
            }
        }
        if let Some(rate) = &self.rate {
            rate.take(&key, 1, now, count).map_err(|over| self.over(&over))?;
        }
        if let Some(bytes) = &self.bytes {
            bytes.take(&key, subject.bytes, now, count).map_err(|over| self.over(&over))?;
        }
        Ok(())
    }
}

impl LimitSet {
    /// Counts one call, or says which limit it is over. Slots taken before the
    /// refusing limit are given back.
    ///
    /// # Errors
    /// [`Exceeded`] for the first limit without room.
    pub(crate) fn take(&self, subject: &Subject<'_>) -> Result<Slots, Exceeded> {
        let mut slots = Slots::default();
        for limit in self.0.iter().filter(|limit| limit.applies(subject)) {
            limit.take(subject, &mut slots, true)?;
        }
        Ok(slots)
    }

    /// What [`Self::take`] would say, without counting.
    ///
    /// # Errors
    /// [`Exceeded`] for the first limit without room.
    pub(crate) fn probe(&self, subject: &Subject<'_>) -> Result<Slots, Exceeded> {
        let mut slots = Slots::default();
        for limit in self.0.iter().filter(|limit| limit.applies(subject)) {
            limit.take(subject, &mut slots, false)?;
        }
        Ok(slots)
    }

    /// Ids of the limits that would count the subject (for explanations).
    pub(crate) fn applicable(&self, subject: &Subject<'_>) -> Vec<Arc<str>> {
        self.0.iter().filter(|limit| limit.applies(subject)).map(|limit| Arc::clone(&limit.id)).collect()
    }

    #[cfg(test)]
    fn keys(&self) -> usize {
        self.0
            .iter()
            .map(|l| {
                l.rate.as_ref().map_or(0, |r| r.owed_until.lock().unwrap().len())
                    + l.concurrent
                        .as_ref()
                        .map_or(0, |(_, counts)| counts.lock().unwrap_or_else(PoisonError::into_inner).len())
            })
            .sum()
    }
}

#[cfg(test)]
mod tests;
