//! The HTTP data plane and the operations listener. Everything here speaks HTTP and
//! MCP to clients; what a caller may do is asked of `gate`, and this crate must never
//! decide it.

mod admit;
mod body;
mod drain;
mod listener;
mod ops;
mod settings;
mod streams;

pub use body::Body;
pub use drain::{Drain, Phase};
pub use ops::{Check, MetricsText, Ops, OpsDeps, Readiness};
pub use settings::{Settings, SettingsError};
