//! The record on its way out (feature rows L2 and L5): sinks get every event at least once,
//! checkpoints go where this machine cannot change them.
//!
//! ```text
//! segments ─▶ feed ─▶ format ─▶ sink ─▶ cursor in the store
//! ```
//!
//! A cursor moves only after the sink has taken what is before it; what is sent again after a
//! crash has the same event ids. One process at a time serves a sink with a writer's chain.
//! This crate must never hold up a call: it reads what is durable already.

mod checkpoints;
mod event;
mod exporter;
mod format;
mod sink;
mod stats;

pub use event::Event;
pub use exporter::{Exports, ExportsDeps};
pub use format::write;
pub use sink::SinkError;
pub use stats::{SinkStats, Stats};

#[cfg(test)]
mod tests;
