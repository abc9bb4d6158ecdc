//! A2: signing in with a provider that serves good and bad.
#![allow(unreachable_pub, reason = "tests")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod again;
mod gateway;
mod limits;
mod people;
mod provider;
mod providers;
mod sessions;
mod state;
mod step_up;
mod tokens;

/// Seconds since the epoch.
pub const NOW_S: i64 = 1_800_000_000;
