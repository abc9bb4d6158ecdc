//! Traces, as a collector sees them (L8).

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result};
use bartizan_testkit::client::{Identity, ModernClient};
use bartizan_testkit::fixture::{Era, Fixture, Options};
use bartizan_testkit::product::{Config, Product, http_server};
use bartizan_testkit::tools::{self, Part};
use bartizan_testkit::wait;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

type Received = Arc<Mutex<Vec<Value>>>;

/// Keeps every span that is exported to it.
async fn collector() -> Result<(String, Received)> {
    let received = Received::default();
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    let url = format!("http://{}", listener.local_addr()?);
    let kept = Arc::clone(&received);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let kept = Arc::clone(&kept);
            let service = service_fn(move |request: Request<Incoming>| {
                let kept = Arc::clone(&kept);
                async move {
                    assert_eq!(request.uri().path(), "/v1/traces");
                    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
                    let spans = body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().cloned();
                    kept.lock().expect("no panic").extend(spans.unwrap_or_default());
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"{}"))))
                }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    Ok((url, received))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l8_a_collector_sees_names_and_parents() -> Result<()> {
    if !tools::ready("l8_a_collector_sees_names_and_parents", &[Part::Product]) {
        return Ok(());
    }
    let upstream = Fixture::start(Options::of(Era::Modern).recorded()).await?;
    let (url, received) = collector().await?;
    let config = Config::new()
        .server(http_server("fx", &upstream.url(), &["test_simple_text".to_owned()]))
        .set("telemetry", json!({"otlp_endpoint": url}));
    let product = Product::serve(config).await?;
    let client = ModernClient::new(&product.url(), Identity::bearer(product.token("agent")));
    let parent = ("traceparent".to_owned(), "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned());
    let params = json!({"name": "fx_test_simple_text", "arguments": {"secret": "s3cr3t-value"}});
    client.once_with("tools/call", params, std::slice::from_ref(&parent)).await?;
    let refused = json!({"name": "fx_test_image_content", "arguments": {}});
    let _ = client.once_with("tools/call", refused, &[parent]).await;
    let spans = || received.lock().expect("no panic").clone();
    wait::until("both calls are exported", Duration::from_secs(20), async || {
        spans().iter().filter(|span| span["kind"] == 2).count() == 2
    })
    .await?;
    let spans = spans();
    let find =
        |name: &str| spans.iter().find(|span| span["name"] == name).with_context(|| format!("{name} in {spans:#?}"));
    let call = find("tools/call fx_test_simple_text")?;
    assert_eq!(call["traceId"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(call["parentSpanId"], "00f067aa0ba902b7");
    let attribute = |span: &Value, key: &str| {
        let all = span["attributes"].as_array().cloned().unwrap_or_default();
        all.iter().find(|entry| entry["key"] == key).map(|entry| entry["value"]["stringValue"].clone())
    };
    assert_eq!(attribute(call, "mcp.method.name"), Some(json!("tools/call")));
    assert_eq!(attribute(call, "gen_ai.tool.name"), Some(json!("fx_test_simple_text")));
    assert_eq!(attribute(call, "gen_ai.operation.name"), Some(json!("execute_tool")));
    let children: Vec<&Value> = spans.iter().filter(|span| span["parentSpanId"] == call["spanId"]).collect();
    for stage in ["route", "state", "limit", "authorize", "credential", "intend", "forward"] {
        let name = format!("stage {stage}");
        assert!(children.iter().any(|span| span["name"] == *name), "{name} in {children:#?}");
    }
    let out = children.iter().find(|span| span["kind"] == 3).context("a span of the upstream exchange")?;
    let seen = upstream.stats().recorded();
    let seen = seen.iter().find(|request| request.json()["method"] == "tools/call").context("the call upstream")?;
    let expected = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{}-01", out["spanId"].as_str().unwrap_or_default());
    assert_eq!(seen.header("traceparent"), Some(expected.as_str()), "the upstream continues the exported span");
    let refused = find("tools/call fx_test_image_content")?;
    assert_eq!(refused["status"]["code"], 2);
    let text = serde_json::to_string(&spans)?;
    assert!(!text.contains("s3cr3t-value"), "no argument is in a span");
    assert!(!text.contains("service:"), "no person is in a span");
    Ok(())
}
