//! Waiting times that double (restarts of local servers, reconnects of streams).

use std::time::Duration;

use tokio::time::Instant;

/// Doubles from `first` to `most`.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    most: Duration,
    failures: u32,
    until: Option<Instant>,
}

impl Backoff {
    pub(crate) fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, failures: 0, until: None }
    }

    /// 1 s to 60 s.
    pub(crate) fn restarts() -> Self {
        Self::new(Duration::from_secs(1), Duration::from_secs(60))
    }

    /// Notes a failure and returns the pause that follows it.
    pub(crate) fn failed(&mut self) -> Duration {
        let factor = 1_u32.checked_shl(self.failures.min(16)).unwrap_or(u32::MAX);
        self.failures = self.failures.saturating_add(1);
        let pause = self.first.saturating_mul(factor).min(self.most);
        self.until = Some(Instant::now() + pause);
        pause
    }

    pub(crate) fn succeeded(&mut self) {
        self.failures = 0;
        self.until = None;
    }

    /// What is left of the pause.
    pub(crate) fn left(&self) -> Duration {
        self.until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()))
    }
}

/// Spreads reconnects of many streams: up to a quarter more, from the clock's low digits.
pub(crate) fn jittered(pause: Duration, seed: u64) -> Duration {
    // A small multiplicative hash is enough to spread; nobody must be unable to guess it.
    let part = u32::try_from((seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) % 256).unwrap_or(0);
    pause + pause.saturating_mul(part) / 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn restarts_wait_one_second_to_sixty() {
        let mut backoff = Backoff::restarts();
        assert_eq!(backoff.left(), Duration::ZERO);
        let waits: Vec<u64> = (0..9).map(|_| backoff.failed().as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        tokio::time::advance(Duration::from_secs(59)).await;
        assert_eq!(backoff.left(), Duration::from_secs(1));
        backoff.succeeded();
        assert_eq!(backoff.left(), Duration::ZERO);
        assert_eq!(backoff.failed().as_secs(), 1);
    }

    #[test]
    fn jitter_is_bounded() {
        for seed in 0..1000 {
            let pause = jittered(Duration::from_secs(4), seed);
            assert!(pause >= Duration::from_secs(4) && pause < Duration::from_secs(5), "{pause:?}");
        }
    }
}
