//! OTLP/HTTP JSON encoding of log records (OpenTelemetry protocol 1.x, `/v1/logs`).

use serde_json::{Value, json};

/// One log record.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogRecord {
    /// When it happened, milliseconds since the epoch.
    pub at_ms: i64,
    /// When it was seen, milliseconds since the epoch.
    pub observed_ms: i64,
    /// 9 for information, 13 for a warning, 17 for an error.
    pub severity: u8,
    /// Name of the kind of event.
    pub event_name: String,
    /// The text.
    pub body: String,
    /// Facts by name.
    pub attributes: Vec<(&'static str, Value)>,
    /// W3C trace id, 32 hex digits.
    pub trace_id: Option<String>,
}

/// One export request body for a batch.
pub fn encode(version: &str, records: &[LogRecord]) -> Vec<u8> {
    let body = json!({"resourceLogs": [{
        "resource": {"attributes": [
            super::attribute("service.name", "bartizan"),
            super::attribute("service.version", version),
        ]},
        "scopeLogs": [{
            "scope": {"name": "bartizan.audit"},
            "logRecords": records.iter().map(record).collect::<Vec<_>>(),
        }],
    }]});
    body.to_string().into_bytes()
}

fn record(record: &LogRecord) -> Value {
    // 64-bit integers are strings in the JSON mapping.
    let nanos = |ms: i64| (i128::from(ms) * 1_000_000).max(0).to_string();
    let text = match record.severity {
        17.. => "ERROR",
        13.. => "WARN",
        _ => "INFO",
    };
    let attributes: Vec<Value> =
        record.attributes.iter().map(|(key, value)| json!({"key": key, "value": any(value)})).collect();
    let mut out = json!({
        "timeUnixNano": nanos(record.at_ms),
        "observedTimeUnixNano": nanos(record.observed_ms),
        "severityNumber": record.severity,
        "severityText": text,
        "eventName": record.event_name,
        "body": {"stringValue": record.body},
        "attributes": attributes,
    });
    if let (Some(trace_id), Some(members)) = (&record.trace_id, out.as_object_mut()) {
        members.insert("traceId".to_owned(), trace_id.as_str().into());
    }
    out
}

fn any(value: &Value) -> Value {
    match value {
        Value::Bool(value) => json!({"boolValue": value}),
        Value::Number(value) if value.is_i64() || value.is_u64() => json!({"intValue": value.to_string()}),
        Value::Array(values) => json!({"arrayValue": {"values": values.iter().map(any).collect::<Vec<_>>()}}),
        Value::String(value) => json!({"stringValue": value}),
        other => json!({"stringValue": other.to_string()}),
    }
}
