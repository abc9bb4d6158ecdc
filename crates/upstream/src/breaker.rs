//! Circuit breaker (P32): five failures in a row open it, after 30 s one attempt may try.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::error::UpstreamError;

/// Failures in a row that open the circuit.
const FAILURES: u32 = 5;
/// How long it stays open before one attempt is let through.
const OPEN: Duration = Duration::from_secs(30);

/// Guards one server.
#[derive(Default)]
pub(crate) struct Breaker {
    /// Read without the lock on every call.
    failures: AtomicU32,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    /// End of the open phase.
    until: Option<Instant>,
    /// The attempt that may decide now.
    trial: u64,
    last_error: Option<String>,
}

/// Leave to try. In the half-open phase only one is given out; when it ends without having
/// learned anything about the server, the next may try at once: otherwise one client whose
/// requests are refused, or who leaves, could keep the circuit open for all.
pub(crate) struct Pass(Option<(Arc<Breaker>, u64)>);

impl Drop for Pass {
    fn drop(&mut self) {
        let Some((breaker, trial)) = self.0.take() else { return };
        let mut open = breaker.lock();
        if open.trial == trial && open.until.is_some() {
            open.until = None;
        }
    }
}

impl Breaker {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets an attempt pass, or says how long to wait. In the half-open phase one attempt
    /// passes at a time, and one more per 30 s.
    pub(crate) fn admit(self: &Arc<Self>) -> Result<Pass, UpstreamError> {
        if self.failures.load(Ordering::Acquire) < FAILURES {
            return Ok(Pass(None));
        }
        let now = Instant::now();
        let mut open = self.lock();
        match open.until {
            Some(until) if until > now => {
                let left = until.duration_since(now).as_secs() + 1;
                Err(UpstreamError::CircuitOpen { retry_after_s: left })
            }
            _ => {
                // This attempt decides; the others wait for it at most one more phase.
                open.until = Some(now + OPEN);
                open.trial = open.trial.wrapping_add(1);
                Ok(Pass(Some((Arc::clone(self), open.trial))))
            }
        }
    }

    /// The server answered.
    pub(crate) fn succeeded(&self) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            let mut open = self.lock();
            self.failures.store(0, Ordering::Release);
            *open = Open { trial: open.trial.wrapping_add(1), ..Open::default() };
        }
    }

    /// An attempt ended with `error`; errors that are not the server's fault do not count.
    pub(crate) fn failed(&self, error: &UpstreamError) {
        if !error.counts_as_failure() {
            return;
        }
        let mut open = self.lock();
        open.last_error = Some(error.note());
        let failures = self.failures.load(Ordering::Relaxed).saturating_add(1);
        if failures >= FAILURES {
            open.until = Some(Instant::now() + OPEN);
            // The end of a trial must not shorten the phase that begins here.
            open.trial = open.trial.wrapping_add(1);
        }
        self.failures.store(failures, Ordering::Release);
    }

    /// `closed`, `open` or `half_open`.
    pub(crate) fn state(&self) -> &'static str {
        if self.failures.load(Ordering::Acquire) < FAILURES {
            return "closed";
        }
        match self.lock().until {
            Some(until) if until > Instant::now() => "open",
            _ => "half_open",
        }
    }

    /// Words of the last failure since the last success.
    pub(crate) fn last_error(&self) -> Option<String> {
        self.lock().last_error.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(breaker: &Breaker, times: u32) {
        for _ in 0..times {
            breaker.failed(&UpstreamError::unavailable("down"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn p32_opens_after_five_failures_in_a_row() {
        let breaker = Arc::new(Breaker::default());
        fail(&breaker, 4);
        assert!(breaker.admit().is_ok());
        breaker.succeeded();
        fail(&breaker, 4);
        assert!(breaker.admit().is_ok(), "a success between resets the count");
        fail(&breaker, 1);
        assert!(matches!(breaker.admit(), Err(UpstreamError::CircuitOpen { retry_after_s: 1..=31 })));
        assert_eq!(breaker.state(), "open");
        assert_eq!(breaker.last_error().as_deref(), Some("unavailable: down"));
    }

    #[tokio::test(start_paused = true)]
    async fn p32_half_open_after_thirty_seconds_lets_one_through() {
        let breaker = Arc::new(Breaker::default());
        fail(&breaker, 5);
        tokio::time::advance(Duration::from_secs(29)).await;
        assert!(breaker.admit().is_err());
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(breaker.state(), "half_open");
        let trial = breaker.admit().unwrap();
        assert!(breaker.admit().is_err(), "only one");
        fail(&breaker, 1);
        drop(trial);
        tokio::time::advance(Duration::from_secs(29)).await;
        assert!(breaker.admit().is_err());
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(breaker.admit().is_ok());
        breaker.succeeded();
        assert_eq!(breaker.state(), "closed");
        assert!(breaker.admit().is_ok() && breaker.admit().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn p32_refusals_and_sizes_do_not_open_it() {
        let breaker = Arc::new(Breaker::default());
        for _ in 0..20 {
            breaker.failed(&UpstreamError::Auth { status: 401, challenge: None });
            breaker.failed(&UpstreamError::TooLarge);
            breaker.failed(&UpstreamError::SessionLost);
            breaker.failed(&UpstreamError::refused("HTTP 429"));
            breaker.failed(&UpstreamError::protocol("initialize"));
            breaker.failed(&UpstreamError::Crowded { why: "full" });
        }
        assert!(breaker.admit().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn p32_a_trial_that_shows_nothing_makes_room_for_the_next() {
        let breaker = Arc::new(Breaker::default());
        fail(&breaker, 5);
        tokio::time::advance(Duration::from_secs(31)).await;
        for _ in 0..10 {
            let trial = breaker.admit().unwrap();
            assert!(breaker.admit().is_err());
            breaker.failed(&UpstreamError::refused("HTTP 400"));
            drop(trial);
        }
        let old = breaker.admit().unwrap();
        fail(&breaker, 1);
        drop(old);
        assert!(breaker.admit().is_err(), "a trial that failed opens the circuit, whoever leaves later");
        tokio::time::advance(Duration::from_secs(31)).await;
        let trial = breaker.admit().unwrap();
        breaker.succeeded();
        drop(trial);
        assert_eq!(breaker.state(), "closed");
    }
}
