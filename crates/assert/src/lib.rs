//! Says to upstream servers who calls: signed assertions (feature row A13), their keys and
//! the key set that verifies them.
//!
//! An assertion names one server as its audience and lives for a minute. This crate must
//! never put a credential of anybody into one, nor sign anything else.

mod audience;
mod feed;
mod keys;
mod schedule;
mod signer;

pub use audience::{check_audience, derived_audience};
pub use schedule::{KEPT_MS, NOTICE_MS, PERIOD_MS};
pub use signer::{Assertion, Signer, SignerDeps, SignerError};

/// Header in which an assertion travels upstream.
pub const HEADER: &str = "cf-access-jwt-assertion";
/// Life of an assertion, seconds.
pub const LIFE_S: i64 = 60;
