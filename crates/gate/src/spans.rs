//! The trace of a call (L8): which `traceparent` goes upstream, and, when spans are
//! exported, one span for the call, one per stage and one for the upstream exchange.
//! Names follow the OpenTelemetry conventions for MCP and GenAI.

use std::time::Duration;

use bartizan_model::event::{AuditEvent, Outcome};
use bartizan_telemetry::{Span, SpanKind, TraceContext, Tracer};
use tokio::time::Instant;

use crate::stages::Stage;

/// Nothing, for a call without a trace.
#[derive(Default)]
pub(crate) struct Spans(Option<Box<Trace>>);

struct Trace {
    /// Span of the call.
    own: TraceContext,
    /// Span of the client.
    parent: Option<[u8; 8]>,
    /// Span of the upstream exchange; absent when nothing is exported.
    client: Option<TraceContext>,
    stages: Vec<Step>,
}

struct Step {
    stage: Stage,
    offset: Duration,
    duration: Duration,
    error: bool,
}

impl Spans {
    /// The trace that the client named, or a new one when spans are exported.
    pub(crate) fn start(tracer: &Tracer, traceparent: Option<&str>) -> Self {
        let inbound = traceparent.and_then(TraceContext::parse);
        let own = match inbound {
            Some(inbound) => inbound.child(),
            None if tracer.enabled() => TraceContext::root(),
            None => return Self(None),
        };
        let client = (tracer.enabled() && own.sampled()).then(|| own.child());
        Self(Some(Box::new(Trace { own, parent: inbound.map(|inbound| inbound.span_id), client, stages: Vec::new() })))
    }

    /// `traceparent` for the upstream: its parent is a span of the gateway.
    pub(crate) fn upstream(&self) -> Option<String> {
        self.0.as_ref().map(|trace| trace.client.unwrap_or(trace.own).to_string())
    }

    /// Trace id for the record.
    pub(crate) fn trace_id(&self) -> Option<String> {
        self.0.as_ref().map(|trace| trace.own.trace_id_hex())
    }

    /// Notes a finished stage.
    pub(crate) fn stage(&mut self, stage: Stage, call: Instant, began: Instant, error: bool) {
        if let Some(trace) = &mut self.0
            && trace.client.is_some()
        {
            let (offset, duration) = (began.duration_since(call), began.elapsed());
            trace.stages.push(Step { stage, offset, duration, error });
        }
    }

    /// Hands the spans of a finished call to the exporter. No person and no argument is
    /// in them.
    pub(crate) fn finish(&mut self, tracer: &Tracer, event: &AuditEvent) {
        let Some(trace) = self.0.take() else { return };
        let Some(client) = trace.client else { return };
        let error = !matches!(event.outcome, Outcome::Ok | Outcome::Cancelled);
        let target = event.exposed.as_ref().or(event.target.as_ref());
        let mut attributes = vec![("mcp.method.name", event.method.clone())];
        if event.method == "tools/call" {
            attributes.push(("gen_ai.operation.name", "execute_tool".to_owned()));
            attributes.extend(target.map(|name| ("gen_ai.tool.name", name.clone())));
        }
        attributes.extend(event.server.as_ref().map(|server| ("bartizan.server", server.to_string())));
        attributes.extend(event.verdict.code.map(|code| ("error.type", code.as_str().to_owned())));
        attributes.push(("bartizan.event_id", event.id.to_string()));
        let span = |context, parent, name: String, kind, offset: Duration, duration_us, attributes, error| Span {
            context,
            parent,
            name,
            kind,
            start_ms: event.at_ms,
            offset_us: micros(offset),
            duration_us,
            attributes,
            error,
        };
        let own = Some(trace.own.span_id);
        for step in &trace.stages {
            let name = format!("stage {}", step.stage.as_str());
            let took = micros(step.duration);
            let kind = SpanKind::Internal;
            tracer.record(span(trace.own.child(), own, name, kind, step.offset, took, Vec::new(), step.error));
            if step.stage == Stage::Forward && event.upstream_us > 0 {
                let attributes = attributes.iter().filter(|(key, _)| *key != "gen_ai.tool.name").cloned().collect();
                let name = event.method.clone();
                let (kind, took) = (SpanKind::Client, event.upstream_us);
                tracer.record(span(client, own, name, kind, step.offset, took, attributes, error));
            }
        }
        let name = match target {
            Some(target) if event.method == "tools/call" => format!("{} {target}", event.method),
            _ => event.method.clone(),
        };
        let took = event.total_us;
        tracer.record(span(trace.own, trace.parent, name, SpanKind::Server, Duration::ZERO, took, attributes, error));
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
