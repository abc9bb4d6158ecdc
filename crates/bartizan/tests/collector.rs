//! Metrics as a collector receives them (L7).
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bartizan_testkit::client::{Identity, ModernClient};
use bartizan_testkit::fixture::{self, Era, Fixture, Options};
use bartizan_testkit::http::Http;
use bartizan_testkit::product::{Config, Product, http_server};
use bartizan_testkit::wait::until;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const SOON: Duration = Duration::from_secs(20);

type Received = Arc<Mutex<Vec<(String, Value)>>>;

/// Keeps path and body of every export; answers `status`.
async fn collector(status: &'static str) -> (String, Received) {
    let received = Received::default();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let kept = Arc::clone(&received);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(exchange(stream, Arc::clone(&kept), status));
        }
    });
    (url, received)
}

/// One connection, one request after the other.
async fn exchange(mut stream: TcpStream, kept: Received, status: &str) -> Option<()> {
    let mut bytes = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
        };
        let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
        let length: usize =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")).and_then(|n| n.parse().ok())?;
        while bytes.len() < end + length {
            if stream.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
        }
        let path = head.split(' ').nth(1)?.to_owned();
        let body = serde_json::from_slice(&bytes[end..end + length]).ok()?;
        kept.lock().ok()?.push((path, body));
        bytes.drain(..end + length);
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\n{{}}");
        stream.write_all(answer.as_bytes()).await.ok()?;
    }
}

async fn scrape_text(product: &Product) -> String {
    let (status, text) = Http::new().get(&product.operations_url("/metrics")).await.unwrap();
    assert_eq!(status, 200, "{text}");
    text
}

/// The samples of a scrape: series with its value and type.
fn scraped(text: &str) -> BTreeMap<String, (f64, String)> {
    let mut types: BTreeMap<&str, &str> = BTreeMap::new();
    let mut found = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|line| line.split_once(' ')) {
            types.insert(name, kind);
        } else if !line.starts_with('#') {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            let family = ["", "_total", "_bucket", "_count", "_sum"]
                .into_iter()
                .find_map(|suffix| types.get(name.strip_suffix(suffix)?))
                .unwrap();
            found.insert(series.to_owned(), (value.parse().unwrap(), (*family).to_owned()));
        }
    }
    found
}

/// The same, from an export.
fn collected(body: &Value) -> BTreeMap<String, (f64, String)> {
    let number = |value: &Value| value.as_f64().or_else(|| value.as_str()?.parse().ok()).unwrap();
    let mut found = BTreeMap::new();
    for metric in body["resourceMetrics"][0]["scopeMetrics"][0]["metrics"].as_array().unwrap() {
        let name = metric["name"].as_str().unwrap();
        let (kind, data) = [("counter", "sum"), ("gauge", "gauge"), ("histogram", "histogram")]
            .into_iter()
            .find_map(|(kind, member)| Some((kind, metric.get(member)?)))
            .unwrap();
        if kind != "gauge" {
            assert_eq!(data["aggregationTemporality"], 2, "cumulative: {metric}");
        }
        for point in data["dataPoints"].as_array().unwrap() {
            let mut labels = String::new();
            for label in point["attributes"].as_array().unwrap() {
                let comma = if labels.is_empty() { "" } else { "," };
                write!(labels, "{comma}{}={}", label["key"].as_str().unwrap(), label["value"]["stringValue"]).unwrap();
            }
            let series = |suffix: &str, labels: &str| match labels {
                "" => format!("{name}{suffix}"),
                labels => format!("{name}{suffix}{{{labels}}}"),
            };
            let mut add = |series: String, value| found.insert(series, (value, kind.to_owned()));
            match kind {
                "counter" => drop(add(series("_total", &labels), number(&point["asInt"]))),
                "gauge" => drop(add(series("", &labels), number(&point["asInt"]))),
                _ => {
                    assert!(labels.is_empty(), "histograms have no labels yet");
                    add(series("_count", ""), number(&point["count"]));
                    add(series("_sum", ""), number(&point["sum"]));
                    let mut below = 0.0;
                    let bounds =
                        point["explicitBounds"].as_array().unwrap().iter().map(|bound| format!("{:?}", number(bound)));
                    for (count, bound) in
                        point["bucketCounts"].as_array().unwrap().iter().zip(bounds.chain(["+Inf".to_owned()]))
                    {
                        below += number(count);
                        add(series("_bucket", &format!("le=\"{bound}\"")), below);
                    }
                }
            }
        }
    }
    found
}

#[tokio::test]
async fn l7_a_collector_sees_what_a_scrape_sees() {
    let fixture = Fixture::start(Options::of(Era::Modern)).await.unwrap();
    let (url, received) = collector("200 OK").await;
    let config = Config::new()
        .server(http_server("fx", &fixture.url(), &fixture::tool_names()))
        .set("telemetry", json!({"otlp_endpoint": url, "metrics_interval_ms": 100}));
    let product = Product::serve(config).await.unwrap();
    let client = ModernClient::new(&product.url(), Identity::bearer(product.token("agent")));
    client.once("tools/call", json!({"name": "fx_test_simple_text", "arguments": {}})).await.unwrap();
    let _ = client.once("tools/call", json!({"name": "fx_nowhere", "arguments": {}})).await;
    let mut scrape = BTreeMap::new();
    // Figures settle after a call, so the two are compared until they meet.
    let equal = async || {
        scrape = scraped(&scrape_text(&product).await);
        let last = received.lock().unwrap().iter().rev().find(|(path, _)| path == "/v1/metrics").cloned();
        last.is_some_and(|(_, body)| collected(&body) == scrape)
    };
    until("a scrape and an export are equal", SOON, equal).await.unwrap();
    assert!(scrape.iter().any(|(name, (value, _))| name.starts_with("bartizan_tool_call_total{") && *value > 0.0));
    assert_eq!(scrape["bartizan_call_duration_seconds_count"].1, "histogram");
    // Objects of the store may have come in since the files were read.
    assert!(scrape["bartizan_config_generation"].0 >= 1.0 && scrape["bartizan_config_generation"].1 == "gauge");
    assert_eq!(scrape["bartizan_metrics_export_failed_total"], (0.0, "counter".to_owned()));
    let (_, body) = received.lock().unwrap().iter().rfind(|(path, _)| path == "/v1/metrics").cloned().unwrap();
    let resource = body["resourceMetrics"][0]["resource"]["attributes"].as_array().unwrap();
    assert_eq!(resource[0], json!({"key": "service.name", "value": {"stringValue": "bartizan"}}));
    let text = body.to_string();
    assert!(!text.contains("service:") && !text.contains("test_simple_text"), "no person and no tool is a label");
}

#[tokio::test]
async fn l7_a_collector_that_refuses_costs_a_counter() {
    let fixture = Fixture::start(Options::of(Era::Modern)).await.unwrap();
    let (url, received) = collector("503 Service Unavailable").await;
    let config = Config::new()
        .server(http_server("fx", &fixture.url(), &fixture::tool_names()))
        .set("telemetry", json!({"otlp_endpoint": url, "metrics_interval_ms": 100}));
    let product = Product::serve(config).await.unwrap();
    let client = ModernClient::new(&product.url(), Identity::bearer(product.token("agent")));
    let counted = async || product.metric("bartizan_metrics_export_failed_total").await.unwrap() >= Some(2.0);
    until("refused exports are counted", SOON, counted).await.unwrap();
    client.once("tools/call", json!({"name": "fx_test_simple_text", "arguments": {}})).await.unwrap();
    assert!(received.lock().unwrap().len() >= 2, "every export is a try of its own");
}
