//! Logs for an OpenTelemetry collector, OTLP/HTTP as JSON.

use ::http::header::CONTENT_TYPE;
use ::http::{HeaderMap, HeaderValue, Method};
use bartizan_config::export::Otlp as Config;
use bartizan_egress::{Egress, Url};
use bartizan_telemetry::otlp::logs::{LogRecord, encode};
use serde_json::Value;

use super::{Batch, SinkError, headers, request};
use crate::event::Event;
use crate::format;

pub(crate) struct Otlp {
    url: Url,
    headers: HeaderMap,
}

impl Otlp {
    pub(super) fn new(config: &Config) -> Result<Self, String> {
        let url = format!("{}/v1/logs", config.endpoint.trim_end_matches('/'));
        let url = Url::parse(&url).map_err(|error| error.to_string())?;
        Ok(Self { url, headers: headers(&config.headers)? })
    }

    pub(super) async fn send(&self, egress: &Egress, batch: &Batch<'_>) -> Result<(), SinkError> {
        let records: Vec<LogRecord> = batch.events.iter().map(|event| record(batch, event)).collect();
        let mut all = self.headers.clone();
        all.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let body = encode(env!("CARGO_PKG_VERSION"), &records);
        let answer = request(egress, &self.url, Method::POST, all, body.into()).await?;
        // What the collector rejected it would reject again; the protocol forbids another attempt.
        let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
        if let Some(partial) =
            answer.get("partialSuccess").filter(|partial| partial.get("rejectedLogRecords").is_some())
        {
            tracing::warn!(%partial, batch = batch.id(), "the collector rejected events");
        }
        Ok(())
    }
}

fn record(batch: &Batch<'_>, event: &Event) -> LogRecord {
    let mut attributes: Vec<(&'static str, Value)> = vec![
        ("log.record.uid", event.id().into()),
        ("bartizan.writer", event.writer.as_str().into()),
        ("bartizan.seq", event.seq.into()),
        ("bartizan.kind", event.kind().into()),
        ("bartizan.allowed", event.allowed().into()),
        ("bartizan.outcome", event.outcome().into()),
        ("bartizan.total_us", event.number("total_us").into()),
    ];
    let texts = [
        ("mcp.method.name", event.text("method")),
        ("bartizan.portal", event.text("portal")),
        ("bartizan.server", event.text("server")),
        ("bartizan.target", event.text("target")),
        ("bartizan.class", event.text("class")),
        ("bartizan.code", event.code()),
        ("user.name", event.who("principal")),
        ("client.address", event.who("ip")),
        ("user_agent.name", event.who("client")),
    ];
    attributes.extend(texts.into_iter().filter_map(|(name, value)| Some((name, value?.into()))));
    LogRecord {
        at_ms: event.at_ms,
        observed_ms: batch.now_ms,
        severity: if event.failed() { 13 } else { 9 },
        event_name: format!("bartizan.audit.{}", event.kind()),
        body: format::write(batch.format, event),
        attributes,
        trace_id: event.text("trace_id").filter(|id| id.len() == 32).map(str::to_owned),
    }
}
