//! Exports spans to an OpenTelemetry collector (OTLP over HTTP, JSON; L8).

use std::time::Duration;

use bartizan_egress::{Client, Egress};
use bartizan_telemetry::{Span, Tracer, otlp};
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::Full;
use tokio::sync::mpsc;

/// Spans that may wait; more are dropped and counted.
const QUEUE: usize = 4_096;
/// Spans in one request.
const BATCH: usize = 512;
/// Longest wait of a span for others to go with.
const EVERY: Duration = Duration::from_secs(1);
/// Time for the collector to take a batch.
const TIME: Duration = Duration::from_secs(10);

/// A tracer that exports to `endpoint`, or one that is off.
pub(crate) fn tracer(endpoint: Option<&str>, egress: &Egress) -> Tracer {
    let Some(endpoint) = endpoint else { return Tracer::off() };
    let (tracer, spans) = Tracer::queue(QUEUE);
    let url = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
    tokio::spawn(export(spans, url, egress.client()));
    tracer
}

async fn export(mut spans: mpsc::Receiver<Span>, url: String, client: Client) {
    let mut batch = Vec::with_capacity(BATCH);
    while spans.recv_many(&mut batch, BATCH).await > 0 {
        // A little patience makes one request of many calls.
        let end = tokio::time::Instant::now() + EVERY;
        while batch.len() < BATCH {
            let room = BATCH - batch.len();
            match tokio::time::timeout_at(end, spans.recv_many(&mut batch, room)).await {
                Ok(more) if more > 0 => {}
                _ => break,
            }
        }
        if let Err(error) = send(&client, &url, otlp::encode(env!("CARGO_PKG_VERSION"), &batch)).await {
            // Traces are a convenience: lost spans never hold up a call.
            tracing::warn!(%error, spans = batch.len(), "spans could not be exported");
        }
        batch.clear();
    }
}

/// Sends one export request; nobody waits for it but its own task.
pub(crate) async fn send(client: &Client, url: &str, body: Vec<u8>) -> Result<(), String> {
    let request = Request::builder()
        .method(Method::POST)
        .uri(url)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| error.to_string())?;
    let answer = tokio::time::timeout(TIME, client.request(request)).await.map_err(|_| "timed out".to_owned())?;
    let status = answer.map_err(|error| error.to_string())?.status();
    if status.is_success() { Ok(()) } else { Err(format!("the collector answered {status}")) }
}
