//! Counters for rates, concurrency and bytes (feature row O11). All off unless a
//! [`RateLimit`] is written down; counters outlive a snapshot as long as their
//! limit is unchanged, and idle ones are dropped.
//!
//! Rates and bytes are counted once, on arrival. A call over a concurrency limit that
//! many principals share waits for its turn ([`fair`]); one over a limit of its own
//! principal is refused at once, unless the limit says otherwise.

mod fair;
mod gcra;

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bartizan_config::resources::{LimitKey, RateLimit};
use bartizan_model::{Clock, PortalId, ServerId};
use tokio::time::Instant;

use fair::{Entry, Places, Slot};
use gcra::{Gcra, Over};

/// Counters are swept when a limiter has grown by this many keys since the last sweep.
const SWEEP_EVERY: u32 = 1024;
const NANOS_PER_SECOND: i64 = 1_000_000_000;
/// Wait for a turn when the limit does not say, milliseconds.
const QUEUE_MS: u32 = 10_000;
/// Longest wait, whatever the limit says, milliseconds.
const QUEUE_MAX_MS: u32 = 60_000;

/// What a call is counted by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    /// Peer address.
    pub(crate) address: Option<std::net::IpAddr>,
    /// Principal key.
    pub(crate) user: &'a Arc<str>,
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

/// Holds the places of one call; dropping it gives them back.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    held: Vec<Slot>,
    /// The call had to wait: what was decided before is some time ago.
    pub(crate) waited: bool,
}

/// One configured limit with its counters.
struct Limit {
    id: Arc<str>,
    config: RateLimit,
    rate: Option<Gcra>,
    bytes: Option<Gcra>,
    /// Calls at once.
    places: Option<Arc<Places>>,
    /// How long a call waits for a place; zero: not at all.
    patience: Duration,
    clock: Arc<dyn Clock>,
    since_sweep: AtomicU32,
}

/// The limits of one snapshot.
pub(crate) struct LimitSet {
    /// As they are written down.
    all: Vec<Arc<Limit>>,
    /// Those with a queue, the narrower first: a call that waits holds only places
    /// narrower than the one it waits for, so it keeps nobody from anything wider. The
    /// order is the same for every call, so no two wait for each other.
    queues: Vec<Arc<Limit>>,
}

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
            Some((known, set)) if *known == version => return (!set.all.is_empty()).then(|| Arc::clone(set)),
            _ => {}
        }
        let old = current.take().map(|(_, set)| set);
        let set: Vec<Arc<Limit>> = limits
            .iter()
            .map(|config| {
                old.iter()
                    .flat_map(|set| set.all.iter())
                    .find(|limit| same(&limit.config, config))
                    .map_or_else(|| Arc::new(Limit::new(config, Arc::clone(&self.clock))), Arc::clone)
            })
            .collect();
        let set = Arc::new(LimitSet::new(set));
        *current = Some((version, Arc::clone(&set)));
        (!set.all.is_empty()).then_some(set)
    }
}

#[cfg(test)]
impl Limiter {
    /// Calls that wait for their turn.
    pub(crate) fn waiting(&self) -> usize {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let places = current.iter().flat_map(|(_, set)| &set.all).filter_map(|limit| limit.places.as_ref());
        places.map(|places| places.waiting()).sum()
    }
}

fn same(a: &RateLimit, b: &RateLimit) -> bool {
    a.id == b.id
        && a.per == b.per
        && a.server == b.server
        && a.tools == b.tools
        && a.agents == b.agents
        && a.per_minute == b.per_minute
        && a.burst == b.burst
        && a.concurrent == b.concurrent
        && a.queue_ms == b.queue_ms
        && a.bytes_per_minute == b.bytes_per_minute
}

impl Limit {
    fn new(config: &RateLimit, clock: Arc<dyn Clock>) -> Self {
        let rate = config.per_minute.and_then(NonZeroU32::new).map(|rate| {
            let burst = config.burst.and_then(NonZeroU32::new).unwrap_or(rate);
            Gcra::per_minute(rate, burst)
        });
        let bytes = config.bytes_per_minute.and_then(NonZeroU32::new).map(|rate| Gcra::per_minute(rate, rate));
        let places = config.concurrent.map(Places::new);
        // Whoever is over a limit of its own keeps nobody waiting but itself.
        let usual = if config.per.contains(&LimitKey::User) { 0 } else { QUEUE_MS };
        let patience = Duration::from_millis(config.queue_ms.unwrap_or(usual).min(QUEUE_MAX_MS).into());
        let (id, since_sweep) = (config.id.as_str().into(), AtomicU32::new(0));
        Self { id, config: config.clone(), rate, bytes, places, patience, clock, since_sweep }
    }

    /// True when a call waits here for its turn.
    fn queues(&self) -> bool {
        !self.patience.is_zero() && self.places.as_ref().is_some_and(|places| places.max() > 0)
    }

    /// 0 for limits of tools, 1 for those of servers, 2 for wider ones.
    fn width(&self) -> u8 {
        let RateLimit { per, server, tools, .. } = &self.config;
        if !tools.is_empty() || per.contains(&LimitKey::Tool) {
            0
        } else if server.is_some() || per.contains(&LimitKey::Server) {
            1
        } else {
            2
        }
    }

    fn applies(&self, subject: &Subject<'_>) -> bool {
        let server = match &self.config.server {
            Some(server) => subject.server == Some(server),
            None => true,
        };
        let tool = self.config.tools.is_empty()
            || subject.tool.is_some_and(|tool| self.config.tools.iter().any(|name| name == tool));
        let agents = &self.config.agents;
        let agent = agents.is_empty()
            || subject.user.strip_prefix("agent:").is_some_and(|id| agents.iter().any(|agent| agent == id));
        server && tool && agent
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

    /// Rates and bytes.
    fn spend(&self, subject: &Subject<'_>, count: bool) -> Result<(), Exceeded> {
        let now = i128::from(self.clock.now_ms()) * 1_000_000;
        self.sweep(now);
        // A zero limit is a limit of nothing, not the absence of a limit.
        if self.config.per_minute == Some(0) || self.config.bytes_per_minute == Some(0) {
            return Err(self.exceeded(60, true));
        }
        if self.rate.is_none() && self.bytes.is_none() {
            return Ok(());
        }
        let key = self.key(subject);
        if let Some(rate) = &self.rate {
            rate.take(&key, 1, now, count).map_err(|over| self.over(&over))?;
        }
        if let Some(bytes) = &self.bytes {
            bytes.take(&key, subject.bytes, now, count).map_err(|over| self.over(&over))?;
        }
        Ok(())
    }

    fn no_place(&self, places: &Places) -> Exceeded {
        self.exceeded(1, places.max() == 0)
    }

    /// A place now or never.
    fn hold(&self, subject: &Subject<'_>, slots: &mut Slots) -> Result<(), Exceeded> {
        let Some(places) = &self.places else { return Ok(()) };
        slots.held.push(places.hold(&self.key(subject)).ok_or_else(|| self.no_place(places))?);
        Ok(())
    }

    /// A place now or in turn.
    async fn wait(&self, subject: &Subject<'_>, slots: &mut Slots, since: Instant) -> Result<(), Exceeded> {
        let Some(places) = &self.places else { return Ok(()) };
        let slot = match places.enter(&self.key(subject), subject.user) {
            Entry::Held(slot) => Some(slot),
            Entry::Queued(waiting) => {
                slots.waited = true;
                tokio::time::timeout_at(since + self.patience, waiting.turn()).await.ok().flatten()
            }
            Entry::Full => None,
        };
        slots.held.push(slot.ok_or_else(|| self.no_place(places))?);
        Ok(())
    }
}

impl LimitSet {
    fn new(all: Vec<Arc<Limit>>) -> Self {
        let mut queues: Vec<_> = all.iter().filter(|limit| limit.queues()).map(Arc::clone).collect();
        queues.sort_by(|a, b| (a.width(), &a.id).cmp(&(b.width(), &b.id)));
        Self { all, queues }
    }

    fn of<'a>(&'a self, subject: &'a Subject<'_>) -> impl Iterator<Item = &'a Arc<Limit>> {
        self.all.iter().filter(|limit| limit.applies(subject))
    }

    /// Counts one call, waiting for its turn where there is a queue, or says which limit
    /// it is over. Places taken before the refusing limit are given back; so is
    /// everything when the returned future is dropped, except that the request was made.
    ///
    /// # Errors
    /// [`Exceeded`] for the first limit without room in time.
    pub(crate) async fn take_in_turn(&self, subject: &Subject<'_>) -> Result<Slots, Exceeded> {
        let mut slots = Slots::default();
        for limit in self.of(subject).filter(|limit| !limit.queues()) {
            limit.hold(subject, &mut slots)?;
        }
        for limit in self.of(subject) {
            limit.spend(subject, true)?;
        }
        let since = Instant::now();
        for limit in self.queues.iter().filter(|limit| limit.applies(subject)) {
            limit.wait(subject, &mut slots, since).await?;
        }
        Ok(slots)
    }

    /// Counts one request that waits for nothing, or says which limit it is over.
    ///
    /// # Errors
    /// [`Exceeded`] for the first limit without room.
    pub(crate) fn take(&self, subject: &Subject<'_>) -> Result<Slots, Exceeded> {
        let mut slots = Slots::default();
        for limit in self.of(subject) {
            limit.hold(subject, &mut slots)?;
        }
        for limit in self.of(subject) {
            limit.spend(subject, true)?;
        }
        Ok(slots)
    }

    /// What [`Self::take_in_turn`] would say at once, without counting.
    ///
    /// # Errors
    /// [`Exceeded`] for the first limit without room.
    pub(crate) fn probe(&self, subject: &Subject<'_>) -> Result<(), Exceeded> {
        for limit in self.of(subject) {
            if let Some(places) = &limit.places {
                let waits = limit.queues().then_some(&**subject.user);
                if !places.has_room(&limit.key(subject), waits) {
                    return Err(limit.no_place(places));
                }
            }
        }
        self.of(subject).try_for_each(|limit| limit.spend(subject, false))
    }

    /// Ids of the limits that would count the subject (for explanations).
    pub(crate) fn applicable(&self, subject: &Subject<'_>) -> Vec<Arc<str>> {
        self.of(subject).map(|limit| Arc::clone(&limit.id)).collect()
    }

    #[cfg(test)]
    fn keys(&self) -> usize {
        self.all
            .iter()
            .map(|l| l.rate.as_ref().map_or(0, Gcra::keys) + l.places.as_ref().map_or(0, |places| places.keys()))
            .sum()
    }
}

#[cfg(test)]
mod tests;
