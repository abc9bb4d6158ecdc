//! How far memory of what the store holds can be believed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// After this long without a look at the feed the store is asked instead.
const STALE: Duration = Duration::from_secs(2);

/// How far memory can be believed.
pub(crate) struct Freshness {
    start: Instant,
    /// Milliseconds after `start` of the beginning of the last good look, plus one; 0 for never.
    seen_ms: AtomicU64,
}

impl Default for Freshness {
    fn default() -> Self {
        Self { start: Instant::now(), seen_ms: 0.into() }
    }
}

impl Freshness {
    pub(crate) fn is_fresh(&self) -> bool {
        match self.seen_ms.load(Ordering::Acquire) {
            0 => false,
            seen => self.start.elapsed() < Duration::from_millis(seen - 1) + STALE,
        }
    }

    /// Notes a look that began at `began`.
    pub(crate) fn seen(&self, began: Instant) {
        let ms = u64::try_from(began.duration_since(self.start).as_millis()).unwrap_or(u64::MAX - 1);
        self.seen_ms.fetch_max(ms + 1, Ordering::AcqRel);
    }
}
