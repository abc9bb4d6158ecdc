//! Alerts (feature row L14): rules on audit events, and messages to webhooks, people and log
//! collectors.
//!
//! ```text
//! audit record ─▶ index row + hits (one transaction) ─▶ the process with the lease ─▶ alert + messages ─▶ destinations
//! ```
//!
//! A hit is stored together with the index row of its event, so each event counts once, also
//! after a crash. One process at a time takes hits in; what it tells destinations is written in
//! the same transaction, and sent until it arrives. This crate must never decide anything about
//! a call.

mod alerts;
mod deliver;
mod evaluate;
mod message;
mod rule;

pub use alerts::{Alerts, AlertsDeps, OwnerNotice};
pub use deliver::DeliverError;
pub use rule::{BUILT_IN, Problem, Rules};
