//! One cached answer of one upstream: fresh for a time, fetched once however many
//! wait for it, dropped at once when the upstream says it changed, kept as "last
//! good" when the upstream fails (feature rows P25, P32).

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bartizan_model::{Clock, ReasonCode};
use futures_util::FutureExt as _;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

/// Life of an answer whose upstream gives none, and the shortest life of what a
/// call needs for its routing, milliseconds.
pub(crate) const DEFAULT_TTL_MS: i64 = 60_000;
/// Longest life, whatever an upstream says, milliseconds.
const MAX_TTL_MS: i64 = 3_600_000;
/// Life of a failure, milliseconds.
const NEGATIVE_MS: i64 = 5_000;

/// How a server did, as shown in `_meta["bartizan/server_outcomes"]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Answered.
    Ok,
    /// Did not answer; the last good answer is used.
    Stale(ReasonCode),
    /// Did not answer, and never did before.
    Error(ReasonCode),
}

/// An answer, or what is known instead of one.
#[derive(Debug)]
pub(crate) struct Fetched<T> {
    /// The answer; for a failure without a last good answer the default.
    pub(crate) value: Arc<T>,
    /// How the latest attempt went.
    pub(crate) outcome: Outcome,
    /// A number for the content: equal content, equal number.
    pub(crate) generation: u64,
    /// Fresh for lists until then, milliseconds since the epoch.
    pub(crate) fresh_until_ms: i64,
    /// Good enough to route calls until then.
    pub(crate) routes_until_ms: i64,
}

/// What a successful fetch brings.
pub(crate) struct Good<T> {
    /// The answer.
    pub(crate) value: Arc<T>,
    /// A number for the content.
    pub(crate) generation: u64,
    /// Life that the upstream gave, milliseconds.
    pub(crate) ttl_ms: Option<u64>,
}

/// What the answer is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// To be shown to a client.
    List,
    /// To route a call: a `ttlMs` of 0 must not cost a list request per call.
    Route,
}

struct State<T> {
    current: Option<Arc<Fetched<T>>>,
    flight: Option<watch::Receiver<Option<Arc<Fetched<T>>>>>,
}

/// The cache of one answer.
pub(crate) struct Slot<T> {
    state: Mutex<State<T>>,
    /// Counts invalidations, so that a fetch begun before one is not kept.
    epoch: AtomicU64,
    /// Copies of the current answer's members, readable without the lock.
    generation: AtomicU64,
    fresh_until_ms: AtomicI64,
    routes_until_ms: AtomicI64,
    used_ms: AtomicI64,
}

impl<T: Default + Send + Sync + 'static> Slot<T> {
    /// An empty slot.
    pub(crate) fn new(now_ms: i64) -> Self {
        Self {
            state: Mutex::new(State { current: None, flight: None }),
            epoch: AtomicU64::new(0),
            generation: AtomicU64::new(0),
            fresh_until_ms: AtomicI64::new(i64::MIN),
            routes_until_ms: AtomicI64::new(i64::MIN),
            used_ms: AtomicI64::new(now_ms),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True when the current answer is the one with this number and still good for
    /// the need. Takes no lock.
    pub(crate) fn holds(&self, generation: u64, need: Need, now_ms: i64) -> bool {
        let until = match need {
            Need::List => &self.fresh_until_ms,
            Need::Route => &self.routes_until_ms,
        };
        let holds = until.load(Ordering::Acquire) > now_ms && self.generation.load(Ordering::Acquire) == generation;
        if holds {
            self.used_ms.store(now_ms, Ordering::Relaxed);
        }
        holds
    }

    /// True when the current answer is the one with this number, fresh or not.
    pub(crate) fn is_at(&self, generation: u64) -> bool {
        self.generation.load(Ordering::Acquire) == generation
    }

    /// True while an answer is being fetched.
    pub(crate) fn is_fetching(&self) -> bool {
        self.lock().flight.is_some()
    }

    /// When somebody last asked, milliseconds since the epoch.
    pub(crate) fn used_ms(&self) -> i64 {
        self.used_ms.load(Ordering::Relaxed)
    }

    /// What is known now, fresh or not.
    pub(crate) fn peek(&self) -> Option<Arc<Fetched<T>>> {
        self.lock().current.clone()
    }

    /// Puts another value in the place of the current one, as old as that one. True when its
    /// number is another.
    pub(crate) fn amend(&self, change: impl FnOnce(&T) -> Option<(Arc<T>, u64)>) -> bool {
        let mut state = self.lock();
        let Some(current) = &state.current else { return false };
        if matches!(current.outcome, Outcome::Error(_)) {
            return false;
        }
        let Some((value, generation)) = change(&current.value) else { return false };
        let differs = current.generation != generation;
        let fetched = Fetched {
            value,
            generation,
            outcome: current.outcome.clone(),
            fresh_until_ms: current.fresh_until_ms,
            routes_until_ms: current.routes_until_ms,
        };
        self.generation.store(generation, Ordering::Release);
        state.current = Some(Arc::new(fetched));
        differs
    }

    /// Forgets freshness at once; the content stays as "last good". A fetch under
    /// way is not used by those who ask from now on.
    pub(crate) fn invalidate(&self) {
        let mut state = self.lock();
        self.epoch.fetch_add(1, Ordering::AcqRel);
        self.fresh_until_ms.store(i64::MIN, Ordering::Release);
        self.routes_until_ms.store(i64::MIN, Ordering::Release);
        state.flight = None;
    }

    /// The answer: the current one if good for the need, else one fetch for all who
    /// wait. The fetch goes on when a waiter leaves.
    pub(crate) async fn get<F, Fut>(
        self: &Arc<Self>,
        need: Need,
        clock: &Arc<dyn Clock>,
        tasks: &TaskTracker,
        fetch: F,
    ) -> Arc<Fetched<T>>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Good<T>, ReasonCode>> + Send + 'static,
    {
        let now_ms = clock.now_ms();
        self.used_ms.store(now_ms, Ordering::Relaxed);
        let mut flight = {
            let mut state = self.lock();
            if let Some(current) = &state.current
                && self.holds(current.generation, need, now_ms)
            {
                return Arc::clone(current);
            }
            match &state.flight {
                Some(flight) => flight.clone(),
                None => {
                    let (sender, receiver) = watch::channel(None);
                    state.flight = Some(receiver.clone());
                    let slot = Arc::clone(self);
                    let clock = Arc::clone(clock);
                    let epoch = self.epoch.load(Ordering::Acquire);
                    tasks.spawn(async move {
                        let answer = AssertUnwindSafe(async { fetch().await }).catch_unwind().await;
                        let answer = answer.unwrap_or(Err(ReasonCode::UpstreamUnavailable));
                        let fetched = slot.finish(epoch, answer, clock.now_ms());
                        sender.send_replace(Some(fetched));
                    });
                    receiver
                }
            }
        };
        match flight.wait_for(Option::is_some).await {
            Ok(fetched) => fetched.clone().unwrap_or_else(|| Arc::new(Fetched::nothing(now_ms))),
            // The fetching task is gone without an answer: only at shutdown.
            Err(_) => Arc::new(Fetched::nothing(now_ms)),
        }
    }

    fn finish(&self, epoch: u64, answer: Result<Good<T>, ReasonCode>, now_ms: i64) -> Arc<Fetched<T>> {
        let mut state = self.lock();
        let fetched = Arc::new(match answer {
            Ok(good) => {
                let ttl =
                    good.ttl_ms.map_or(DEFAULT_TTL_MS, |ttl| i64::try_from(ttl).unwrap_or(MAX_TTL_MS).min(MAX_TTL_MS));
                Fetched {
                    value: good.value,
                    outcome: Outcome::Ok,
                    generation: good.generation,
                    fresh_until_ms: now_ms.saturating_add(ttl),
                    routes_until_ms: now_ms.saturating_add(ttl.max(DEFAULT_TTL_MS)),
                }
            }
            Err(code) => {
                let until = now_ms.saturating_add(NEGATIVE_MS);
                let last = state.current.as_ref().filter(|last| !matches!(last.outcome, Outcome::Error(_)));
                match last {
                    Some(last) => Fetched {
                        value: Arc::clone(&last.value),
                        outcome: Outcome::Stale(code),
                        generation: last.generation,
                        fresh_until_ms: until,
                        routes_until_ms: until,
                    },
                    None => Fetched {
                        outcome: Outcome::Error(code),
                        fresh_until_ms: until,
                        routes_until_ms: until,
                        ..Fetched::nothing(now_ms)
                    },
                }
            }
        });
        let current = self.epoch.load(Ordering::Acquire) == epoch;
        if current {
            self.generation.store(fetched.generation, Ordering::Release);
            self.fresh_until_ms.store(fetched.fresh_until_ms, Ordering::Release);
            self.routes_until_ms.store(fetched.routes_until_ms, Ordering::Release);
            state.flight = None;
        }
        // An answer from before an invalidation is still a better "last good" than none.
        if current || state.current.is_none() {
            state.current = Some(Arc::clone(&fetched));
        }
        fetched
    }
}

impl<T: Default> Fetched<T> {
    fn nothing(now_ms: i64) -> Self {
        Self {
            value: Arc::default(),
            outcome: Outcome::Error(ReasonCode::UpstreamUnavailable),
            generation: 0,
            fresh_until_ms: now_ms,
            routes_until_ms: now_ms,
        }
    }
}

#[cfg(test)]
mod tests;
