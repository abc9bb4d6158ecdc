//! RFC 3339 timestamps.

pub use bartizan_config::time::parse_rfc3339;
