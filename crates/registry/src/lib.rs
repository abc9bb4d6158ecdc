//! What servers offer, and what was decided about it (feature rows P43–P48, G2): pins, quarantine,
//! review, the chained history, and the life of servers.
//!
//! Responsible for: judging every list that arrives against what is approved, keeping what was
//! seen, and every decision with its line in the history. Must never: show what nobody approved
//! because something else failed, or let a decision happen without its record.

pub mod diff;
mod events;
mod feed;
mod judge;
mod known;
pub mod lock;
pub mod proof;
mod registry;
pub mod review;
pub mod similar;
pub mod sync;

pub use judge::{Verdict, Why, verdict};
pub use registry::{Judged, Registry, RegistryDeps, RegistryError, Whose};
