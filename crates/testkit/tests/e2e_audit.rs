//! The record through the whole product: what it holds, what proves it, where it goes.

#![allow(clippy::indexing_slicing, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bartizan_testkit::client::{Identity, ModernClient};
use bartizan_testkit::fixture::{Era, Fixture, Options};
use bartizan_testkit::product::{Config, Product, http_server};
use bartizan_testkit::tools::{self, Part};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

/// Made up.
const SECRET: &str = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

fn config(upstream: &Fixture) -> Config {
    Config::new().server(http_server("fx", &upstream.url(), &["test_simple_text".to_owned()]))
}

/// Runs a command of the product and reads its JSON.
async fn said(product: &Product, args: &[&str]) -> Result<(Option<i32>, Value)> {
    let all = [&["--json"][..], args].concat();
    let output = product.command(&all).await?;
    let value = serde_json::from_str(&output.stdout).with_context(|| format!("{}{}", output.stdout, output.stderr))?;
    Ok((output.code, value))
}

/// An endpoint that keeps the ids of events that arrive.
async fn endpoint() -> Result<(String, Arc<Mutex<Vec<String>>>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/in", listener.local_addr()?);
    let ids = Arc::<Mutex<Vec<String>>>::default();
    let kept = Arc::clone(&ids);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let kept = Arc::clone(&kept);
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                loop {
                    let mut length = 0;
                    loop {
                        let mut line = String::new();
                        if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                            return;
                        }
                        if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                            length = text.trim().parse().unwrap_or(0);
                        }
                        if line == "\r\n" {
                            break;
                        }
                    }
                    let mut body = vec![0; length];
                    if stream.read_exact(&mut body).await.is_err() {
                        return;
                    }
                    let events = String::from_utf8_lossy(&body).into_owned();
                    let found = events.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
                    kept.lock()
                        .expect("no panic")
                        .extend(found.filter_map(|event| Some(event["id"].as_str()?.to_owned())));
                    if stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    Ok((url, ids))
}

async fn until(what: &str, mut so: impl FnMut() -> bool) -> Result<()> {
    for _ in 0..1_500 {
        if so() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    anyhow::bail!("never: {what}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l4_every_column_of_the_portal_log_is_there_and_true() -> Result<()> {
    if !tools::ready("l4_every_column_of_the_portal_log_is_there_and_true", &[Part::Product]) {
        return Ok(());
    }
    let upstream = Fixture::start(Options::of(Era::Modern)).await?;
    let config =
        config(&upstream).set("trusted_proxies", json!(["127.0.0.1/32"])).set("country_header", json!("x-country"));
    let product = Product::serve(config).await?;
    let client = ModernClient::new(&product.url(), Identity::bearer(product.token("agent")));
    let from = [("x-country", "DE"), ("x-forwarded-for", "203.0.113.9")].map(|(n, v)| (n.to_owned(), v.to_owned()));
    client
        .once_with("tools/call", json!({"name": "fx_test_simple_text", "arguments": {}}), &from)
        .await
        .map_err(|e| anyhow::anyhow!("{e:?}"))?;
    let refused = client.once_with("tools/call", json!({"name": "fx_nothing", "arguments": {}}), &from).await;
    ensure!(refused.is_err());
    let (code, found) = said(&product, &["audit", "search", "--kind", "call", "--dataset", "mcp_portal_logs"]).await?;
    ensure!(code == Some(0), "{found}");
    let lines = found["mcp_portal_logs"].as_array().context("lines")?;
    ensure!(lines.len() == 2, "{found}");
    let names = [
        "ClientCountry",
        "ClientIP",
        "ColoCode",
        "Datetime",
        "Error",
        "Method",
        "PortalAUD",
        "PortalID",
        "PromptGetName",
        "ResourceReadURI",
        "ServerAUD",
        "ServerID",
        "ServerResponseDurationMs",
        "ServerURL",
        "SessionID",
        "Success",
        "ToolCallName",
        "UserEmail",
        "UserID",
    ];
    for line in lines {
        for name in names {
            ensure!(!line[name].is_null(), "{name} is missing: {line}");
        }
    }
    let (good, bad) = (&lines[0], &lines[1]);
    ensure!(good["ClientCountry"] == "DE" && good["ClientIP"] == "203.0.113.9", "{good}");
    ensure!(good["Method"] == "tools/call" && good["ToolCallName"] == "test_simple_text", "{good}");
    ensure!(good["PortalID"] == "default" && good["PortalAUD"] == product.url().as_str(), "{good}");
    ensure!(good["ServerID"] == "fx" && good["ServerAUD"] == product.server_url("fx").as_str(), "{good}");
    ensure!(good["ServerURL"] == upstream.url().as_str(), "{good}");
    ensure!(good["Success"] == true && good["Error"] == "" && good["UserID"] == "agent", "{good}");
    ensure!(good["PromptGetName"] == "" && good["ResourceReadURI"] == "", "{good}");
    ensure!(
        good["Status"] == "success" && good["Capability"] == "test_simple_text" && good["Server"] == "fx",
        "{good}"
    );
    let writer = product.data().join("audit").join(good["ColoCode"].as_str().unwrap_or_default());
    ensure!(writer.is_dir(), "the process that answered: {good}");
    ensure!(
        good["ServerResponseDurationMs"].as_i64().unwrap_or(-1) <= good["Duration"].as_i64().unwrap_or(-2),
        "{good}"
    );
    ensure!(bad["Success"] == false && bad["Status"] == "error" && bad["Error"] != "", "{bad}");
    ensure!(bad["Capability"] == "fx_nothing" && bad["ServerURL"] == "", "{bad}");
    // The members of L1 beside them.
    for name in
        ["id", "kind", "principal_kind", "verdict", "policy_version", "request_bytes", "total_us", "era", "outcome"]
    {
        ensure!(!good[name].is_null(), "{name}: {good}");
    }
    ensure!(good["who"]["country"] == "DE" && good["class"] == "read", "{good}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l2_a_tail_cut_off_after_the_fact_is_found_with_the_checkpoints_kept_elsewhere() -> Result<()> {
    let test = "l2_a_tail_cut_off_after_the_fact_is_found_with_the_checkpoints_kept_elsewhere";
    if !tools::ready(test, &[Part::Product]) {
        return Ok(());
    }
    let outside = tempfile::tempdir()?;
    let (kept, key) = (outside.path().join("kept.jsonl"), outside.path().join("key.pem"));
    let upstream = Fixture::start(Options::of(Era::Modern)).await?;
    let audit = json!({"checkpoints": {"every_s": 1, "file": kept}});
    let mut product = Product::serve(config(&upstream).set("audit", audit)).await?;
    let client = ModernClient::new(&product.url(), Identity::bearer(product.token("agent")));
    for _ in 0..20 {
        client.call("fx_test_simple_text", json!({})).await.map_err(|e| anyhow::anyhow!("{e:?}"))?;
    }
    let heads = || -> u64 {
        let text = std::fs::read_to_string(&kept).unwrap_or_default();
        let last = text.lines().last().and_then(|line| serde_json::from_str::<Value>(line).ok()).unwrap_or_default();
        last["heads"].as_array().into_iter().flatten().filter_map(|head| head["seq"].as_u64()).sum()
    };
    until("the calls are under a checkpoint outside", || heads() >= 20).await?;
    let printed = product.command(&["audit", "key"]).await?;
    std::fs::write(&key, printed.stdout)?;
    product.stop().await?;
    let (kept, key) = (kept.display().to_string(), key.display().to_string());
    let with = ["audit", "verify", "--checkpoint", &kept, "--key", &key];
    let (code, report) = said(&product, &with).await?;
    ensure!(code == Some(0) && report["whole"] == true && report["signed"].as_u64() >= Some(2), "{report}");
    // A part of it proves itself, with the key alone.
    let part = outside.path().join("part.jsonl").display().to_string();
    let (_, newest) = said(&product, &["audit", "search", "--kind", "call", "--limit", "1"]).await?;
    let until = newest["events"][0]["at"].as_str().context("a call")?;
    let (code, made) = said(&product, &["audit", "export", "--since", "1h", "--until", until, "--out", &part]).await?;
    ensure!(code == Some(0) && made["records"].as_u64() >= Some(19), "{made}");
    let (_, checked) = said(&product, &["audit", "verify", "--bundle", &part, "--key", &key]).await?;
    ensure!(checked["whole"] == true && checked["signed"].as_u64() == Some(1), "{checked}");
    ensure!(checked["records"] == made["records"], "{checked}");
    // Whoever has the machine removes the end of the record, the checkpoints and the database.
    for entry in std::fs::read_dir(product.data().join("audit"))? {
        let log = entry?.path().join("00000001.log");
        let Ok(text) = std::fs::read_to_string(&log) else { continue };
        let lines: Vec<&str> = text.lines().collect();
        if lines.len() > 10 {
            let before = lines.iter().position(|line| line.contains("audit/checkpoint")).unwrap_or(10).min(10);
            std::fs::write(&log, lines[..before].iter().map(|line| format!("{line}\n")).collect::<String>())?;
        }
    }
    for name in ["bartizan.sqlite", "bartizan.sqlite-wal", "bartizan.sqlite-shm"] {
        let _ = std::fs::remove_file(product.data().join(name));
    }
    let (code, report) = said(&product, &["audit", "verify"]).await?;
    ensure!(code == Some(0) && report["whole"] == true, "without the outside nothing is missed: {report}");
    let (code, report) = said(&product, &with).await?;
    ensure!(code == Some(1), "{report}");
    let findings = report["findings"].as_array().context("findings")?;
    let cut = findings.iter().find(|one| one["kind"] == "truncated").with_context(|| report.to_string())?;
    ensure!(cut["checkpoint"].as_u64() >= Some(20) && cut["last"].as_u64() <= Some(10), "{cut}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l5_kill_nine_in_the_middle_loses_no_event_on_its_way_out() -> Result<()> {
    if !tools::ready("l5_kill_nine_in_the_middle_loses_no_event_on_its_way_out", &[Part::Product]) {
        return Ok(());
    }
    let upstream = Fixture::start(Options::of(Era::Modern)).await?;
    let (url, arrived) = endpoint().await?;
    let sink = json!({"id": "siem", "batch": 20, "collect_ms": 30, "http": {"url": url, "secret": SECRET}});
    let mut product = Product::serve(config(&upstream).set("audit", json!({"sinks": [sink]}))).await?;
    let mut answered = BTreeSet::new();
    for _ in 0..3 {
        let (url, token) = (product.url(), product.token("agent").to_owned());
        let worker = tokio::spawn(async move {
            let client = ModernClient::new(&url, Identity::bearer(&token));
            let mut ids = Vec::new();
            let params = json!({"name": "fx_test_simple_text", "arguments": {}, "_meta": client.meta()});
            let headers = client.headers("tools/call", &params);
            let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).to_string();
            while let Ok(reply) = client.send(&headers, body.clone()).await {
                let id = reply.header("x-request-id").map(str::to_owned);
                match (reply.status, id, reply.bytes().await) {
                    (200, Some(id), Ok(_)) => ids.push(id),
                    _ => break,
                }
            }
            ids
        });
        let before = arrived.lock().expect("no panic").len();
        until("events are on their way", || arrived.lock().expect("no panic").len() > before + 40).await?;
        product.kill().await?;
        answered.extend(worker.await?);
        product.start_again().await?;
    }
    ensure!(answered.len() > 50, "{}", answered.len());
    let missing = || {
        let here: BTreeSet<String> = arrived.lock().expect("no panic").iter().cloned().collect();
        answered.difference(&here).count()
    };
    until("every answered call arrived", || missing() == 0).await?;
    Ok(())
}

/// A sample of each kind of event, made by the product: which members each has, and that they are true.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l1_every_field_of_a_sample_of_each_kind_is_there_and_true() -> Result<()> {
    if !tools::ready("l1_every_field_of_a_sample_of_each_kind_is_there_and_true", &[Part::Product]) {
        return Ok(());
    }
    let upstream = Fixture::start(Options::of(Era::Modern)).await?;
    let write = json!({"id": "w", "principals": ["everyone"], "server": "fx", "tools": ["test_error_handling"]});
    let mut server = http_server("fx", &upstream.url(), &["test_simple_text".to_owned()]);
    server["classes"]["write"] = json!(["test_error_handling"]);
    let config = Config::new()
        .server(server)
        .with("grants", write)
        .set("trusted_proxies", json!(["127.0.0.1/32"]))
        .set("country_header", json!("x-country"))
        .set("device_header", json!("x-device"));
    let product = Product::serve(config).await?;
    let from = [
        ("x-country", "DE"),
        ("x-device", "managed"),
        ("x-forwarded-for", "203.0.113.9"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let client = ModernClient::new(&product.url(), Identity::bearer(product.token("agent")));
    let broken = |problem| anyhow::anyhow!("{problem:?}");
    client.once_with("tools/list", json!({}), &from).await.map_err(broken)?;
    let call = |name: &str| json!({"name": name, "arguments": {}});
    client.once_with("tools/call", call("fx_test_simple_text"), &from).await.map_err(broken)?;
    client.once_with("tools/call", call("fx_test_error_handling"), &from).await.map_err(broken)?;
    ensure!(client.once_with("tools/call", call("fx_nothing"), &from).await.is_err());
    let stranger = ModernClient::new(&product.url(), Identity::bearer("bzt_nobody"));
    ensure!(stranger.once_with("tools/list", json!({}), &from).await.is_err());
    product.command(&["token", "create", "another"]).await?;
    product.command(&["reload"]).await?;

    // The index is behind the record.
    let mut found = Value::Null;
    bartizan_testkit::wait::until("everything is in the index", Duration::from_secs(20), async || {
        found = said(&product, &["audit", "list", "--limit", "100"]).await.map(|(_, found)| found).unwrap_or_default();
        let events = found["events"].as_array().cloned().unwrap_or_default();
        let has = |kind: &str| events.iter().filter(|event| event["kind"] == kind).count();
        ["list", "intent", "auth", "token", "system", "admin"].iter().all(|kind| has(kind) > 0) && has("call") >= 3
    })
    .await?;
    let events = found["events"].as_array().context("events")?;
    let of = |kind: &str, method: &str| -> Result<&Value> {
        let so = |event: &&Value| event["kind"] == kind && (method.is_empty() || event["method"] == method);
        events.iter().find(so).with_context(|| format!("no {kind} {method}: {found}"))
    };
    // What every event has.
    for event in events {
        for name in [
            "id",
            "at_ms",
            "at",
            "kind",
            "principal_kind",
            "method",
            "verdict",
            "policy_version",
            "outcome",
            "writer",
            "seq",
        ] {
            ensure!(!event[name].is_null(), "{name}: {event}");
        }
        ensure!(event["who"]["principal"].is_string() && event["verdict"]["allow"].is_boolean(), "{event}");
    }
    let asked = |event: &Value| -> Result<()> {
        ensure!(event["who"]["principal"] == "service:agent" && event["principal_kind"] == "service", "{event}");
        ensure!(event["who"]["ip"] == "203.0.113.9" && event["who"]["country"] == "DE", "{event}");
        ensure!(event["who"]["device"] == "managed" && event["who"]["client"].is_string(), "{event}");
        ensure!(event["who"]["client_version"].is_string() && event["portal"] == "default", "{event}");
        ensure!(event["era"] == "modern" && event["total_us"].as_u64() > Some(0), "{event}");
        ensure!(event["trace_id"] == "0af7651916cd43dd8448eb211c80319c", "{event}");
        Ok(())
    };
    asked(of("list", "tools/list")?)?;
    let calls: Vec<&Value> = events.iter().filter(|event| event["kind"] == "call").collect();
    ensure!(calls.len() == 3, "{found}");
    let intent = of("intent", "tools/call")?;
    for event in [calls[0], calls[1], intent] {
        asked(event).or_else(|error| if event == intent { Ok(()) } else { Err(error) })?;
        ensure!(event["server"] == "fx" && event["server_version"].is_string(), "{event}");
        ensure!(event["server_url"] == upstream.url().as_str(), "{event}");
        ensure!(event["pin"].as_str().map(str::len) == Some(64), "{event}");
        ensure!(event["arguments_digest"].as_str().map(str::len) == Some(64), "{event}");
        ensure!(event["upstream_identity"] == "none" && event["request_bytes"].as_u64() > Some(0), "{event}");
    }
    ensure!(calls[0]["target"] == "test_simple_text" && calls[0]["exposed"] == "fx_test_simple_text", "{}", calls[0]);
    ensure!(calls[0]["class"] == "read" && calls[0]["outcome"] == "ok", "{}", calls[0]);
    ensure!(
        calls[0]["response_bytes"].as_u64() > Some(0) && calls[0]["upstream_us"].as_u64() > Some(0),
        "{}",
        calls[0]
    );
    ensure!(calls[1]["class"] == "write" && calls[1]["outcome"] == "tool_error", "{}", calls[1]);
    ensure!(calls[1]["related"] == intent["id"] && intent["related"] == calls[1]["id"], "{intent}");
    ensure!(calls[1]["verdict"]["rule"] == "grant \"w\"" && intent["outcome"] == "pending", "{}", calls[1]);
    ensure!(calls[2]["verdict"]["allow"] == false && calls[2]["verdict"]["stage"] == "route", "{}", calls[2]);
    ensure!(calls[2]["exposed"] == "fx_nothing" && calls[2]["outcome"] == "refused", "{}", calls[2]);
    let login = of("auth", "authenticate")?;
    ensure!(login["verdict"]["code"] == "unauthenticated" && login["who"]["ip"] == "203.0.113.9", "{login}");
    let token = of("token", "token/create")?;
    ensure!(token["target"].is_string() || token["note"].is_string(), "{token}");
    of("system", "system/start")?;
    of("admin", "")?;
    Ok(())
}
