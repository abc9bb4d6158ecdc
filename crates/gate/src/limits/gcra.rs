//! Rates by key: one number each.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};

use super::NANOS_PER_SECOND;

/// A generic cell rate algorithm over many keys: per key one number, the time at
/// which its bucket is empty again. Exact, and able to answer without counting.
pub(super) struct Gcra {
    /// Nanoseconds that one unit costs.
    unit: i128,
    /// Nanoseconds that may be owed at once.
    burst: i128,
    owed_until: Mutex<HashMap<Box<str>, i128>>,
}

/// Why a [`Gcra`] refuses.
pub(super) enum Over {
    /// Nanoseconds after which there is room.
    Wait(i128),
    /// More units than the bucket ever holds.
    Never,
}

impl Gcra {
    pub(super) fn per_minute(rate: NonZeroU32, burst: NonZeroU32) -> Self {
        let unit = i128::from(60 * NANOS_PER_SECOND) / i128::from(rate.get());
        Self { unit, burst: unit * i128::from(burst.get()), owed_until: Mutex::default() }
    }

    pub(super) fn take(&self, key: &str, units: u64, now: i128, count: bool) -> Result<(), Over> {
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
    pub(super) fn sweep(&self, now: i128) {
        let mut owed = self.owed_until.lock().unwrap_or_else(PoisonError::into_inner);
        owed.retain(|_, until| *until > now);
        owed.shrink_to_fit();
    }

    /// Keys whose buckets are not known to be empty.
    #[cfg(test)]
    pub(super) fn keys(&self) -> usize {
        self.owed_until.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}
