//! Metrics, trace context and span export.
//!
//! Responsible for figures with bounded label sets and for W3C trace context.
//! Must never hold a payload, a token or a person's name.

pub mod context;
pub mod metrics;
pub mod otlp;
pub mod span;

pub use context::TraceContext;
pub use metrics::Metrics;
pub use span::{Span, SpanKind, Tracer};
