//! When a key is made, used and forgotten.
//!
//! ```text
//! made ──NOTICE──▶ in use ──PERIOD──▶ the next is in use ──KEPT──▶ forgotten
//! └──────────────── in the key set ───────────────────────────────┘
//! ```

const HOUR_MS: i64 = 3_600_000;

/// How long a key signs, milliseconds: six weeks.
pub const PERIOD_MS: i64 = 42 * 24 * HOUR_MS;
/// How long a key is in the key set before it signs, milliseconds: longer than verifiers
/// keep a key set.
pub const NOTICE_MS: i64 = 7 * 24 * HOUR_MS;
/// How long a key stays in the key set after it signed for the last time, milliseconds. An
/// assertion lives for a minute; the rest is for clocks that differ.
pub const KEPT_MS: i64 = HOUR_MS;

/// When a key begins to sign. Plain numbers, so that the rules can be tested alone.
pub(crate) trait Dated {
    /// Milliseconds since the epoch.
    fn begin_ms(&self) -> i64;
}

/// What has to be done about the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Nothing,
    /// A new key that signs from this time, milliseconds since the epoch.
    Make {
        from_ms: i64,
    },
    /// Keys whose time is over can be forgotten.
    Forget,
}

/// The key that signs now: the newest whose time has come. All replicas choose the same
/// one, whoever made it. The very first key was made by a clock that may be ahead of ours.
pub(crate) fn current<K: Dated>(keys: &[K], now_ms: i64) -> Option<&K> {
    let begun = keys.iter().filter(|key| key.begin_ms() <= now_ms).max_by_key(|key| key.begin_ms());
    begun.or_else(|| keys.iter().min_by_key(|key| key.begin_ms()))
}

/// Whether a key is in the key set: it signs, will sign, or signed a moment ago.
pub(crate) fn is_published<K: Dated>(keys: &[K], key: &K, now_ms: i64) -> bool {
    // It signed until the next one began.
    let next = keys.iter().map(Dated::begin_ms).filter(|from| *from > key.begin_ms()).min();
    next.is_none_or(|next| now_ms < next.saturating_add(KEPT_MS))
}

/// What is due at this time.
pub(crate) fn due<K: Dated>(keys: &[K], now_ms: i64) -> Due {
    let Some(newest) = keys.iter().map(Dated::begin_ms).max() else {
        return Due::Make { from_ms: now_ms };
    };
    if newest <= now_ms {
        let next = newest.saturating_add(PERIOD_MS);
        if now_ms >= next.saturating_sub(NOTICE_MS) {
            // Nobody was there in time: the old one signs on until the new one is known.
            return Due::Make { from_ms: next.max(now_ms.saturating_add(NOTICE_MS)) };
        }
    }
    if keys.iter().all(|key| is_published(keys, key, now_ms)) { Due::Nothing } else { Due::Forget }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct At(i64);

    impl Dated for At {
        fn begin_ms(&self) -> i64 {
            self.0
        }
    }

    #[test]
    fn a13_a_key_is_known_before_it_signs_and_after() {
        const WEEK: i64 = 7 * 24 * HOUR_MS;
        assert_eq!(due::<At>(&[], 5), Due::Make { from_ms: 5 });
        let first = [At(0)];
        assert_eq!(due(&first, 0), Due::Nothing);
        assert_eq!(due(&first, 5 * WEEK - 1), Due::Nothing);
        assert_eq!(due(&first, 5 * WEEK), Due::Make { from_ms: 6 * WEEK });
        let both = [At(0), At(6 * WEEK)];
        for (now, signs) in [(5 * WEEK, 0), (6 * WEEK - 1, 0), (6 * WEEK, 6 * WEEK), (9 * WEEK, 6 * WEEK)] {
            assert_eq!(current(&both, now).map(|key| key.0), Some(signs), "{now}");
        }
        assert_eq!(current(&both, -1).map(|key| key.0), Some(0), "a clock that is behind");
        let published = |now| both.iter().map(|key| is_published(&both, key, now)).collect::<Vec<_>>();
        assert_eq!(published(5 * WEEK), [true, true]);
        assert_eq!(published(6 * WEEK + KEPT_MS - 1), [true, true]);
        assert_eq!(published(6 * WEEK + KEPT_MS), [false, true]);
        assert_eq!(due(&both, 6 * WEEK + KEPT_MS - 1), Due::Nothing);
        assert_eq!(due(&both, 6 * WEEK + KEPT_MS), Due::Forget);
    }

    #[test]
    fn a13_after_a_long_stop_the_new_key_is_still_announced() {
        let now = 10 * PERIOD_MS;
        assert_eq!(due(&[At(0)], now), Due::Make { from_ms: now + NOTICE_MS });
        let keys = [At(0), At(now + NOTICE_MS)];
        assert_eq!(current(&keys, now).map(|key| key.0), Some(0));
        assert_eq!(due(&keys, now), Due::Nothing);
    }

    #[test]
    fn a13_assertions_are_over_before_their_key_is_forgotten() {
        const { assert!(KEPT_MS > 2 * crate::LIFE_S * 1000) };
    }
}
