//! OTLP/HTTP JSON encoding of spans (OpenTelemetry protocol 1.x, `/v1/traces`) and of
//! [`metrics`].
//!
//! The transport is the caller's (the egress crate owns sockets). JSON is used
//! because it needs no protobuf stack and every collector accepts it.

pub mod logs;
pub mod metrics;

use serde_json::{Value, json};

use crate::context::hex;
use crate::span::{Span, SpanKind};

/// One export request body for a batch.
pub fn encode(service_version: &str, spans: &[Span]) -> Vec<u8> {
    let body = json!({"resourceSpans": [{
        "resource": {"attributes": [
            attribute("service.name", "bartizan"),
            attribute("service.version", service_version),
        ]},
        "scopeSpans": [{
            "scope": {"name": "bartizan"},
            "spans": spans.iter().map(span).collect::<Vec<_>>(),
        }],
    }]});
    body.to_string().into_bytes()
}

fn span(span: &Span) -> Value {
    let start = u128::try_from(span.start_ms).unwrap_or(0) * 1_000_000 + u128::from(span.offset_us) * 1_000;
    let end = start + u128::from(span.duration_us) * 1_000;
    let mut out = json!({
        "traceId": hex(&span.context.trace_id),
        "spanId": hex(&span.context.span_id),
        "name": span.name,
        "kind": match span.kind { SpanKind::Internal => 1, SpanKind::Server => 2, SpanKind::Client => 3 },
        // 64-bit integers are strings in the JSON mapping.
        "startTimeUnixNano": start.to_string(),
        "endTimeUnixNano": end.to_string(),
        "attributes": span.attributes.iter().map(|(k, v)| attribute(k, v)).collect::<Vec<_>>(),
        "status": {"code": if span.error { 2 } else { 0 }},
    });
    if let (Some(parent), Some(members)) = (span.parent, out.as_object_mut()) {
        members.insert("parentSpanId".to_owned(), hex(&parent).into());
    }
    out
}

fn attribute(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TraceContext;

    #[test]
    fn l8_otlp_json_has_the_names_of_the_protocol() {
        let context = TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
        let body = encode(
            "1",
            &[Span {
                context,
                parent: Some([1; 8]),
                name: "tools/call".to_owned(),
                kind: SpanKind::Server,
                start_ms: 1_000,
                offset_us: 5,
                duration_us: 20,
                attributes: vec![("mcp.method.name", "tools/call".to_owned())],
                error: true,
            }],
        );
        let body: Value = serde_json::from_slice(&body).unwrap();
        let span = &body["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
        assert_eq!(span["traceId"], "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(span["parentSpanId"], "0101010101010101");
        assert_eq!(span["startTimeUnixNano"], "1000005000");
        assert_eq!(span["endTimeUnixNano"], "1000025000");
        assert_eq!(span["kind"], 2);
        assert_eq!(span["status"]["code"], 2);
        assert_eq!(span["attributes"][0]["key"], "mcp.method.name");
    }
}
