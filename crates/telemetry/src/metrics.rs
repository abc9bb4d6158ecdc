//! Prometheus metrics (feature row L7). Every label has a bounded set of values:
//! tools and people are never labels, servers only up to [`MAX_SERVERS`].

use std::collections::HashSet;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::sync::{Arc, PoisonError, RwLock};

use bartizan_model::ReasonCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::Tracer;

/// Servers with a label of their own; further ones are counted as `other`.
pub const MAX_SERVERS: usize = 1_000;

/// Seconds; from a warm local call to a long one.
const BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0, 120.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    era: &'static str,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    server: Arc<str>,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabels {
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServerLabels {
    server: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AuthLabels {
    result: &'static str,
}

/// All metrics of a process. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    calls: Family<CallLabels, Counter>,
    duration: Histogram,
    upstream_duration: Histogram,
    refusals: Family<CodeLabels, Counter>,
    auth: Family<AuthLabels, Counter>,
    upstream_up: Family<ServerLabels, Gauge>,
    sessions: Gauge<i64, AtomicI64>,
    streams: Gauge<i64, AtomicI64>,
    parked: Gauge<i64, AtomicI64>,
    audit_queue: Gauge<i64, AtomicI64>,
    audit_dropped: Counter<u64, AtomicU64>,
    panics: Counter<u64, AtomicU64>,
    export_failed: Counter<u64, AtomicU64>,
    servers: RwLock<HashSet<Arc<str>>>,
    tracer: Tracer,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// An empty registry with every metric of the reference registered; spans go nowhere.
    pub fn new() -> Self {
        Self::with_tracer(Tracer::off())
    }

    /// The same, with a tracer beside it: all that a process reports about itself.
    pub fn with_tracer(tracer: Tracer) -> Self {
        let mut registry = Registry::with_prefix("bartizan");
        let requests = Family::default();
        registry.register("mcp_request", "MCP requests by method, era and HTTP status", requests.clone());
        let calls = Family::default();
        registry.register("tool_call", "Governed calls by server and outcome", calls.clone());
        let histogram = || Histogram::new(BUCKETS);
        let (duration, upstream_duration) = (histogram(), histogram());
        let unit = || Unit::Seconds;
        registry.register_with_unit("call_duration", "Governed call, admission to answer", unit(), duration.clone());
        registry.register_with_unit("upstream_duration", "Waiting for upstream", unit(), upstream_duration.clone());
        let refusals = Family::default();
        registry.register("refusal", "Refused calls by reason code", refusals.clone());
        let auth = Family::default();
        registry.register("auth_user", "Authentications by result", auth.clone());
        let upstream_up = Family::default();
        registry.register("upstream_up", "1 when the last exchange with the server worked", upstream_up.clone());
        let (sessions, streams, parked, audit_queue) =
            (Gauge::default(), Gauge::default(), Gauge::default(), Gauge::default());
        registry.register("sessions", "Open legacy sessions", sessions.clone());
        registry.register("streams", "Open event streams to clients", streams.clone());
        registry.register("parked_calls", "Calls waiting for an answer of their client", parked.clone());
        registry.register("audit_queue", "Events not yet durable", audit_queue.clone());
        let (audit_dropped, panics, export_failed) = (Counter::default(), Counter::default(), Counter::default());
        registry.register("audit_dropped", "Events lost in fast mode", audit_dropped.clone());
        registry.register("panics", "Panics caught; always a defect", panics.clone());
        registry.register(
            "metrics_export_failed",
            "Exports of these figures that no collector took",
            export_failed.clone(),
        );
        Self(Arc::new(Inner {
            registry,
            requests,
            calls,
            duration,
            upstream_duration,
            refusals,
            auth,
            upstream_up,
            sessions,
            streams,
            parked,
            audit_queue,
            audit_dropped,
            panics,
            export_failed,
            servers: RwLock::default(),
            tracer,
        }))
    }

    /// One answered HTTP request. `method` must come from the method table, never from the wire.
    pub fn request(&self, method: &'static str, era: &'static str, status: u16) {
        self.0.requests.get_or_create(&RequestLabels { method, era, status }).inc();
    }

    /// One finished call; times in microseconds.
    pub fn call(&self, server: &Arc<str>, outcome: &'static str, total_us: u64, upstream_us: u64) {
        self.0.calls.get_or_create(&CallLabels { server: self.bounded(server), outcome }).inc();
        self.0.duration.observe(micros(total_us));
        self.0.upstream_duration.observe(micros(upstream_us));
    }

    /// One refusal.
    pub fn refusal(&self, code: ReasonCode) {
        self.0.refusals.get_or_create(&CodeLabels { code: code.as_str() }).inc();
    }

    /// One authentication; `result` is `ok`, `anonymous`, `none` or a failure kind.
    pub fn auth(&self, result: &'static str) {
        self.0.auth.get_or_create(&AuthLabels { result }).inc();
    }

    /// Health of a server after an exchange.
    pub fn upstream_up(&self, server: &Arc<str>, up: bool) {
        self.0.upstream_up.get_or_create(&ServerLabels { server: self.bounded(server) }).set(i64::from(up));
    }

    /// Legacy sessions opened (+1) or ended (−1).
    pub fn sessions(&self, change: i64) {
        self.0.sessions.inc_by(change);
    }

    /// Event streams opened (+1) or closed (−1).
    pub fn streams(&self, change: i64) {
        self.0.streams.inc_by(change);
    }

    /// Calls parked now.
    pub fn parked(&self, now: usize) {
        self.0.parked.set(i64::try_from(now).unwrap_or(i64::MAX));
    }

    /// Events waiting to become durable, and the total lost in fast mode.
    pub fn audit(&self, queued: u64, dropped: u64) {
        self.0.audit_queue.set(i64::try_from(queued).unwrap_or(i64::MAX));
        let seen = self.0.audit_dropped.get();
        self.0.audit_dropped.inc_by(dropped.saturating_sub(seen));
    }

    /// Where finished spans go.
    pub fn tracer(&self) -> &Tracer {
        &self.0.tracer
    }

    /// A panic was caught.
    pub fn panicked(&self) {
        self.0.panics.inc();
    }

    /// An export of metrics was dropped; the next one carries the same figures and more.
    pub fn export_failed(&self) {
        self.0.export_failed.inc();
    }

    /// Panics caught so far; tests hold it at zero.
    pub fn panic_count(&self) -> u64 {
        self.0.panics.get()
    }

    /// The exposition text (OpenMetrics 1.0).
    pub fn render(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut out, &self.0.registry);
        out
    }

    fn bounded(&self, server: &Arc<str>) -> Arc<str> {
        if self.0.servers.read().unwrap_or_else(PoisonError::into_inner).contains(server) {
            return Arc::clone(server);
        }
        let mut known = self.0.servers.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_SERVERS {
            return "other".into();
        }
        known.insert(Arc::clone(server));
        Arc::clone(server)
    }
}

fn micros(us: u64) -> f64 {
    std::time::Duration::from_micros(us).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l7_names_are_those_of_the_reference() {
        let metrics = Metrics::new();
        metrics.request("tools/call", "modern", 200);
        metrics.call(&"git".into(), "ok", 1_500, 900);
        metrics.refusal(ReasonCode::PolicyDenied);
        metrics.auth("ok");
        metrics.upstream_up(&"git".into(), true);
        metrics.sessions(1);
        metrics.audit(3, 2);
        metrics.audit(0, 2);
        let text = metrics.render();
        for line in [
            "bartizan_mcp_request_total{method=\"tools/call\",era=\"modern\",status=\"200\"} 1",
            "bartizan_tool_call_total{server=\"git\",outcome=\"ok\"} 1",
            "bartizan_call_duration_seconds_count 1",
            "bartizan_upstream_duration_seconds_count 1",
            "bartizan_refusal_total{code=\"policy_denied\"} 1",
            "bartizan_auth_user_total{result=\"ok\"} 1",
            "bartizan_upstream_up{server=\"git\"} 1",
            "bartizan_sessions 1",
            "bartizan_streams 0",
            "bartizan_parked_calls 0",
            "bartizan_audit_queue 0",
            "bartizan_audit_dropped_total 2",
            "bartizan_panics_total 0",
            "bartizan_metrics_export_failed_total 0",
        ] {
            assert!(text.contains(line), "missing: {line}\n{text}");
        }
    }

    #[test]
    fn l7_ten_thousand_servers_do_not_explode_series() {
        let metrics = Metrics::new();
        for n in 0..10_000 {
            metrics.call(&format!("s{n}").into(), "ok", 1, 1);
        }
        let series = metrics.render().lines().filter(|l| l.starts_with("bartizan_tool_call_total")).count();
        assert_eq!(series, MAX_SERVERS + 1);
    }
}
