//! Spans of a governed call, queued for export (feature row L8).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;

use crate::TraceContext;

/// Where a span stands in the trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// Work inside the gateway.
    Internal,
    /// The answer to a client.
    Server,
    /// The request to an upstream.
    Client,
}

/// A finished span. Attribute names follow the OpenTelemetry GenAI and MCP conventions.
#[derive(Clone, Debug)]
pub struct Span {
    /// Own trace and span id.
    pub context: TraceContext,
    /// Span id of the parent, if any.
    pub parent: Option<[u8; 8]>,
    /// Name, e.g. `tools/call git_status`.
    pub name: String,
    /// Kind.
    pub kind: SpanKind,
    /// Milliseconds since the epoch.
    pub start_ms: i64,
    /// Microseconds after `start_ms` at which the span began.
    pub offset_us: u64,
    /// Microseconds.
    pub duration_us: u64,
    /// Attributes.
    pub attributes: Vec<(&'static str, String)>,
    /// True when it ended in an error or refusal.
    pub error: bool,
}

/// Hands spans to the exporter, never waits: a full queue drops and counts.
#[derive(Clone, Debug, Default)]
pub struct Tracer {
    queue: Option<mpsc::Sender<Span>>,
    dropped: Arc<AtomicU64>,
}

impl Tracer {
    /// A tracer that exports nothing.
    pub fn off() -> Self {
        Self::default()
    }

    /// A tracer with a bounded queue and the receiving end for the exporter.
    pub fn queue(bound: usize) -> (Self, mpsc::Receiver<Span>) {
        let (queue, spans) = mpsc::channel(bound);
        (Self { queue: Some(queue), dropped: Arc::default() }, spans)
    }

    /// True when spans are exported; callers skip building them otherwise.
    pub fn enabled(&self) -> bool {
        self.queue.is_some()
    }

    /// Queues a span.
    pub fn record(&self, span: Span) {
        if let Some(queue) = &self.queue
            && queue.try_send(span).is_err()
        {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Spans lost to a full queue.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}
