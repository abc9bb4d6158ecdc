//! The record through the whole product: nothing answered is missing, no write
//! without an intent, whatever happens to the process or the disk.

#![allow(clippy::indexing_slicing, reason = "helpers of tests")]

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use bartizan_testkit::client::{Identity, ModernClient};
use bartizan_testkit::fixture::{Era, Fixture, Options};
use bartizan_testkit::product::{Config, Product, http_server};
use bartizan_testkit::tools::{self, Part};
use serde_json::{Value, json};

fn ready(test: &str) -> bool {
    tools::ready(test, &[Part::Product])
}

fn config(upstream: &Fixture) -> Config {
    let write = json!({"id": "w", "principals": ["everyone"], "server": "fx", "tools": ["test_error_handling"]});
    let mut server = http_server("fx", &upstream.url(), &["test_simple_text".to_owned()]);
    server["classes"]["write"] = json!(["test_error_handling"]);
    Config::new().server(server).with("grants", write)
}

/// Members of the record of a finished call or intent, wherever the segment keeps them.
fn text<'a>(record: &'a Value, member: &str) -> &'a str {
    let inside = &record["event"][member];
    inside.as_str().or_else(|| record[member].as_str()).unwrap_or_default()
}

/// Kill −9 during load in strict mode, several times over the same data.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l9_kill_nine_under_load_loses_no_answered_call() -> Result<()> {
    if !ready("l9_kill_nine_under_load_loses_no_answered_call") {
        return Ok(());
    }
    let upstream = Fixture::start(Options::of(Era::Modern)).await?;
    let mut product = Product::serve(config(&upstream)).await?;
    let mut answered = HashSet::new();
    let mut writes = 0_u64;
    for round in 0..3 {
        let stop = Arc::new(AtomicBool::new(false));
        let mut workers = Vec::new();
        for worker in 0..6 {
            let (stop, url) = (Arc::clone(&stop), product.url());
            let identity = Identity::bearer(product.token("agent"));
            workers.push(tokio::spawn(async move {
                let client = ModernClient::new(&url, identity);
                let mut ids = Vec::new();
                let tool = if worker % 2 == 0 { "fx_test_simple_text" } else { "fx_test_error_handling" };
                while !stop.load(Ordering::SeqCst) {
                    let params = json!({"name": tool, "arguments": {}, "_meta": client.meta()});
                    let headers = client.headers("tools/call", &params);
                    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
                    let Ok(reply) = client.send(&headers, body.to_string()).await else { break };
                    let id = reply.header("x-request-id").map(str::to_owned);
                    // Only a whole answer was acknowledged.
                    if reply.status == 200 && reply.bytes().await.is_ok() {
                        ids.push((tool, id.expect("every answer names its event")));
                    } else {
                        break;
                    }
                }
                ids
            }));
        }
        tokio::time::sleep(Duration::from_millis(700)).await;
        product.kill().await?;
        stop.store(true, Ordering::SeqCst);
        for worker in workers {
            for (tool, id) in worker.await? {
                writes += u64::from(tool == "fx_test_error_handling");
                answered.insert(id);
            }
        }
        product.start_again().await.with_context(|| format!("after kill {round}"))?;
    }
    let records = product.audit()?;
    let calls: HashSet<&str> =
        records.iter().filter(|record| text(record, "kind") == "call").map(|record| text(record, "id")).collect();
    let intents = records.iter().filter(|record| text(record, "kind") == "intent").count() as u64;
    println!(
        "{} answered calls, {writes} of them writes; {} records, {intents} intents",
        answered.len(),
        records.len()
    );
    assert!(answered.len() > 50, "too little load: {}", answered.len());
    let missing: Vec<_> = answered.iter().filter(|id| !calls.contains(id.as_str())).collect();
    assert!(missing.is_empty(), "{} answered calls are not in the record: {missing:?}", missing.len());
    let forwarded = upstream.stats().of("tools/call") - calls_of_reads(&records);
    assert!(intents >= writes, "{intents} intents, {writes} answered writes");
    assert!(forwarded <= intents + 3 * 3, "{forwarded} writes or unanswered reads upstream, {intents} intents");
    let verified = product.command(&["audit", "verify"]).await?;
    assert_eq!(verified.code, Some(0), "{}{}", verified.stdout, verified.stderr);
    Ok(())
}

fn calls_of_reads(records: &[Value]) -> u64 {
    let read = |record: &&Value| text(record, "kind") == "call" && text(record, "class") == "read";
    records.iter().filter(read).count() as u64
}

/// Every member of the record of an allowed call, a refused call and a list.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l1_field_by_field() -> Result<()> {
    if !ready("l1_field_by_field") {
        return Ok(());
    }
    let upstream = Fixture::start(Options::of(Era::Modern)).await?;
    let mut product = Product::serve(config(&upstream)).await?;
    let client = ModernClient::new(&product.url(), Identity::bearer(product.token("agent")));
    client.tools().await?;
    client.call("fx_test_simple_text", json!({"a": 1})).await?;
    client.call("fx_test_error_handling", json!({})).await?;
    assert_eq!(
        client.once("tools/call", json!({"name": "fx_test_image_content", "arguments": {}})).await.unwrap_err().code,
        -32602
    );
    product.stop().await?;
    let records = product.audit()?;
    let find = |kind: &str, target: &str| {
        let found =
            |r: &&Value| text(r, "kind") == kind && (text(r, "target") == target || text(r, "exposed") == target);
        records.iter().find(found).with_context(|| format!("{kind} of {target} in {records:#?}"))
    };
    let call = find("call", "test_simple_text")?;
    for (member, value) in [
        ("method", "tools/call"),
        ("portal", "default"),
        ("server", "fx"),
        ("exposed", "fx_test_simple_text"),
        ("class", "read"),
        ("era", "modern"),
        ("outcome", "ok"),
        ("principal_kind", "service"),
    ] {
        assert_eq!(text(call, member), value, "{member} in {call}");
    }
    assert_eq!(text(call, "pin").len(), 64, "{call}");
    assert_eq!(text(call, "arguments_digest").len(), 64, "{call}");
    let event = if call["event"].is_object() { &call["event"] } else { call };
    assert_eq!(event["verdict"]["allow"], true);
    for number in ["at_ms", "request_bytes", "response_bytes", "total_us", "upstream_us"] {
        assert!(event[number].as_u64().is_some_and(|n| n > 0), "{number} in {call}");
    }
    // 64 bits are more than a JSON number holds: written in hexadecimal.
    assert_eq!(text(event, "policy_version").len(), 16, "{call}");
    let write = find("call", "test_error_handling")?;
    assert_eq!(text(write, "outcome"), "tool_error");
    assert_eq!(text(find("intent", "test_error_handling")?, "outcome"), "pending");
    let refused = find("call", "fx_test_image_content")?;
    let refused = if refused["event"].is_object() { &refused["event"] } else { refused };
    assert_eq!(refused["verdict"]["allow"], false);
    assert_eq!(refused["verdict"]["code"], "write_not_granted", "the record knows what the wire does not say");
    assert!(records.iter().any(|record| text(record, "kind") == "list"), "lists are recorded");
    // Who it was is not in the chain itself, only a commitment to it.
    assert!(!serde_json::to_string(&records)?.contains("service:"), "identities are kept apart");
    Ok(())
}

/// The upstream sees the trace of the client.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l8_the_upstream_sees_the_trace() -> Result<()> {
    if !ready("l8_the_upstream_sees_the_trace") {
        return Ok(());
    }
    for era in [Era::Modern, Era::Legacy] {
        let upstream = Fixture::start(Options::of(era).recorded()).await?;
        let product = Product::serve(config(&upstream)).await?;
        let client = ModernClient::new(&product.url(), Identity::bearer(product.token("agent")));
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let extra = [("traceparent".to_owned(), parent.to_owned())];
        let params = json!({"name": "fx_test_simple_text", "arguments": {}});
        client.once_with("tools/call", params, &extra).await?;
        let seen = upstream.stats().recorded();
        let call = seen.iter().find(|request| request.json()["method"] == "tools/call").context("a call")?;
        let header = call.header("traceparent").unwrap_or_default();
        let meta = call.json()["params"]["_meta"]["traceparent"].as_str().unwrap_or_default().to_owned();
        for seen in [header, &meta] {
            assert!(seen.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"), "{seen}");
            assert!(!seen.contains("00f067aa0ba902b7"), "the parent of the upstream span is a span of the gateway");
        }
    }
    Ok(())
}
