//! Starting, stopping, dying and reloading: rows L9, O3, O4, O5, U1, U2, U3.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bartizan_testkit::client::{Identity, LegacyClient, ModernClient};
use bartizan_testkit::fixture::{self, Era, Fixture, Options};
use bartizan_testkit::process::{self, Process};
use bartizan_testkit::product::{Config, Product, http_server};
use bartizan_testkit::tools::{self, Part};
use bartizan_testkit::wait::until;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::task::JoinSet;

fn ready(test: &str) -> bool {
    tools::ready(test, &[Part::Product])
}

fn config(fixture: &Fixture) -> Config {
    let mut reads = fixture::tool_names();
    reads.retain(|name| name != "test_write_note");
    let mut server = http_server("fx", &fixture.url(), &reads);
    server["classes"]["write"] = json!(["test_write_note"]);
    let grant = json!({"id": "w", "principals": ["everyone"], "server": "fx", "classes": ["write"]});
    Config::new().server(server).with("grants", grant)
}

/// Calls a write tool from eight tasks until told to stop; the texts that were answered.
async fn load(product: &Product, stop: Arc<AtomicBool>) -> JoinSet<Vec<String>> {
    let mut tasks = JoinSet::new();
    for worker in 0..8 {
        let (url, token, stop) = (product.url(), product.token("agent").to_owned(), Arc::clone(&stop));
        tasks.spawn(async move {
            let client = ModernClient::new(&url, Identity::bearer(&token));
            let mut answered = Vec::new();
            let mut turn = 0;
            while !stop.load(Ordering::SeqCst) {
                turn += 1;
                let text = format!("note-{worker}-{turn}");
                match client.call("fx_test_write_note", json!({"text": text})).await {
                    Ok(done) if !done.is_error() => answered.push(text),
                    _ => break,
                }
            }
            answered
        });
    }
    tasks
}

#[tokio::test(flavor = "multi_thread")]
async fn l9_every_answered_write_is_recorded_and_every_forwarded_one_has_an_intent_after_kill_9() {
    if !ready("l9_every_answered_write_is_recorded_and_every_forwarded_one_has_an_intent_after_kill_9") {
        return;
    }
    let fixture = Fixture::start(Options::of(Era::Legacy).recorded()).await.unwrap();
    let mut product = Product::serve(config(&fixture)).await.unwrap();
    let mut answered = 0;
    for round in 0..3 {
        let stop = Arc::new(AtomicBool::new(false));
        let tasks = load(&product, Arc::clone(&stop)).await;
        tokio::time::sleep(Duration::from_millis(700 + 300 * round)).await;
        product.kill().await.unwrap();
        stop.store(true, Ordering::SeqCst);
        answered += tasks.join_all().await.iter().map(Vec::len).sum::<usize>();
        product.start_again().await.unwrap();
    }
    let forwarded = fixture.stats().of("tool:test_write_note") as usize;
    let of = |records: &[Value], kind: &str| {
        let mine = |record: &&Value| {
            let text = record.to_string();
            text.contains(&format!("\"kind\":\"{kind}\"")) && text.contains("test_write_note")
        };
        records.iter().filter(mine).count()
    };
    let records = product.audit().unwrap();
    let (calls, intents) = (of(&records, "call"), of(&records, "intent"));
    println!("answered {answered}, forwarded {forwarded}, recorded calls {calls}, intents {intents}");
    assert!(answered > 0, "the load did nothing");
    assert!(calls >= answered, "{answered} were answered, {calls} are recorded");
    assert!(intents >= forwarded, "{forwarded} were forwarded, {intents} have an intent");
    let verified = product.command(&["audit", "verify"]).await.unwrap();
    assert_eq!(verified.code, Some(0), "{}{}", verified.stdout, verified.stderr);
    // It goes on.
    let client = ModernClient::new(&product.url(), Identity::bearer(product.token("agent")));
    assert!(client.call("fx_test_write_note", json!({"text": "after"})).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn l1_calls_lists_and_refusals_are_recorded_without_names_in_the_chain() {
    if !ready("l1_calls_lists_and_refusals_are_recorded_without_names_in_the_chain") {
        return;
    }
    let fixture = Fixture::start(Options::of(Era::Legacy)).await.unwrap();
    let product = Product::serve(config(&fixture)).await.unwrap();
    let client = ModernClient::new(&product.url(), Identity::bearer(product.token("agent")));
    client.tools().await.unwrap();
    client.call("fx_test_simple_text", json!({})).await.unwrap();
    assert!(client.call("fx_nothing", json!({})).await.is_err());
    let records = product.audit().unwrap();
    let find =
        |words: &[&str]| records.iter().map(Value::to_string).any(|text| words.iter().all(|word| text.contains(word)));
    assert!(find(&["\"kind\":\"list\"", "tools/list"]), "no list in {records:#?}");
    assert!(find(&["\"kind\":\"call\"", "test_simple_text", "\"class\":\"read\"", "\"outcome\":\"ok\""]));
    assert!(find(&["\"kind\":\"call\"", "fx_nothing", "\"allow\":false"]));
    // The sequence has no gap and no one is named in the chained bytes.
    let mut sequences: Vec<u64> = records.iter().filter_map(|record| record["_seq"].as_u64()).collect();
    sequences.sort_unstable();
    let distinct: BTreeSet<u64> = sequences.iter().copied().collect();
    assert_eq!(distinct.len(), sequences.len());
    assert!(records.iter().all(|record| !record.to_string().contains("service:")), "a principal is in the chain");
}

#[tokio::test(flavor = "multi_thread")]
async fn o3_a_stopping_product_finishes_what_it_began() {
    if !ready("o3_a_stopping_product_finishes_what_it_began") {
        return;
    }
    let fixture = Fixture::start(Options::of(Era::Legacy)).await.unwrap();
    let mut product = Product::serve(config(&fixture)).await.unwrap();
    let client = ModernClient::new(&product.url(), Identity::bearer(product.token("agent")));
    let running = tokio::spawn(async move { client.call("fx_test_slow", json!({"ms": 1_500})).await });
    let begun = async || fixture.stats().of("tool:test_slow") == 1;
    until("the call is running", Duration::from_secs(10), begun).await.unwrap();
    let status = product.stop().await.unwrap();
    let done = running.await.unwrap().unwrap();
    assert_eq!(done.text(), "waited 1500 ms");
    assert!(status.success(), "{status}: {}", product.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn o3_an_open_stream_does_not_hold_the_end_up() {
    if !ready("o3_an_open_stream_does_not_hold_the_end_up") {
        return;
    }
    let fixture = Fixture::start(Options::of(Era::Legacy)).await.unwrap();
    let limits = json!({"drain_wait_ms": 100, "drain_deadline_ms": 5_000});
    let mut product = Product::serve(config(&fixture).set("limits", limits)).await.unwrap();
    let identity = Identity::bearer(product.token("agent"));
    let legacy = LegacyClient::connect(&product.url(), identity.clone()).await.unwrap();
    let mut stream = legacy.stream(None).await.unwrap();
    let modern = ModernClient::new(&product.url(), identity);
    let mut listening = modern.listen(json!({"toolsListChanged": true})).await.unwrap();
    assert!(product.stop().await.unwrap().success());
    while stream.next().await.unwrap_or(None).is_some() {}
    let mut last = Value::Null;
    while let Ok(Some(message)) = listening.events.message().await {
        last = message;
    }
    assert_eq!(last["result"]["resultType"], "complete", "a listen ends with its result: {last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn o4_reloads_under_load_lose_nothing_and_a_bad_file_changes_nothing() {
    if !ready("o4_reloads_under_load_lose_nothing_and_a_bad_file_changes_nothing") {
        return;
    }
    let fixture = Fixture::start(Options::of(Era::Legacy)).await.unwrap();
    let mut product = Product::serve(config(&fixture)).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let failures = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..4 {
        let (url, token) = (product.url(), product.token("agent").to_owned());
        let (stop, failures) = (Arc::clone(&stop), Arc::clone(&failures));
        tasks.spawn(async move {
            let client = ModernClient::new(&url, Identity::bearer(&token));
            let mut calls = 0_usize;
            while !stop.load(Ordering::SeqCst) {
                match client.call("fx_test_simple_text", json!({})).await {
                    Ok(done) if !done.is_error() => calls += 1,
                    other => {
                        println!("{other:?}");
                        failures.fetch_add(1, Ordering::SeqCst);
                    }
                }
            }
            calls
        });
    }
    for number in 0..100 {
        // Something unrelated changes each time.
        let other = http_server(&format!("other{number}"), "https://other.example/mcp", &[]);
        product.rewrite(config(&fixture).server(other)).unwrap();
        product.process().signal(Signal::HUP).unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let good = config(&fixture);
    product.rewrite(good.set("servers", json!("not a list"))).unwrap();
    product.process().signal(Signal::HUP).unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.store(true, Ordering::SeqCst);
    let calls: usize = tasks.join_all().await.into_iter().sum();
    println!("{calls} calls during 101 reloads");
    assert!(calls > 0);
    assert_eq!(failures.load(Ordering::SeqCst), 0);
    assert!(product.process().running(), "{}", product.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn o4_a_policy_change_is_visible_at_once() {
    if !ready("o4_a_policy_change_is_visible_at_once") {
        return;
    }
    let fixture = Fixture::start(Options::of(Era::Legacy)).await.unwrap();
    let mut product = Product::serve(config(&fixture)).await.unwrap();
    let client = ModernClient::new(&product.url(), Identity::bearer(product.token("agent")));
    let name = "fx_test_write_note".to_owned();
    assert!(client.tools().await.unwrap().contains(&name));
    product.rewrite(config(&fixture).set("grants", json!([]))).unwrap();
    product.process().signal(Signal::HUP).unwrap();
    let gone = async || !client.tools().await.unwrap().contains(&name);
    until("the write is hidden", Duration::from_secs(5), gone).await.unwrap();
    assert_eq!(client.call(&name, json!({"text": "x"})).await.unwrap_err().code, -32602);
    assert_eq!(fixture.stats().of("tool:test_write_note"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn o5_health_is_on_the_operations_listener() {
    if !ready("o5_health_is_on_the_operations_listener") {
        return;
    }
    let fixture = Fixture::start(Options::of(Era::Legacy)).await.unwrap();
    let product = Product::serve(config(&fixture)).await.unwrap();
    for path in ["/livez", "/readyz", "/startupz"] {
        assert_eq!(product.http.get(&product.operations_url(path)).await.unwrap().0, 200, "{path}");
    }
    let (status, metrics) = product.http.get(&product.operations_url("/metrics")).await.unwrap();
    assert_eq!(status, 200);
    assert!(metrics.contains("# TYPE"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn u3_serve_needs_an_url_a_listener_and_a_key() {
    if !ready("u3_serve_needs_an_url_a_listener_and_a_key") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, b"0123456789abcdefFEDCBA9876543210").unwrap();
    let whole = json!({
        "public_url": "http://127.0.0.1:1", "listen": "127.0.0.1:0", "operations": {"listen": "127.0.0.1:0"},
        "key": {"file": key}, "store": {"data_dir": folder.path().join("data")},
    });
    for missing in ["public_url", "listen", "key"] {
        let mut file = whole.clone();
        file.as_object_mut().unwrap().remove(missing);
        let path = folder.path().join(format!("without-{missing}.yaml"));
        std::fs::write(&path, file.to_string()).unwrap();
        let args = ["serve".to_owned(), "-c".to_owned(), path.display().to_string()];
        let output = process::run(tools::product(), &args, Duration::from_secs(20)).await.unwrap();
        assert!(output.code.is_some_and(|code| code != 0), "{missing}: {output:?}");
        assert!(output.stderr.contains(missing), "{missing}: {}", output.stderr);
    }
    let mut file = whole;
    file["no_such_setting"] = json!(1);
    let path = folder.path().join("unknown.yaml");
    std::fs::write(&path, file.to_string()).unwrap();
    let args = ["serve".to_owned(), "-c".to_owned(), path.display().to_string()];
    let output = process::run(tools::product(), &args, Duration::from_secs(20)).await.unwrap();
    assert!(output.code.is_some_and(|code| code != 0), "{output:?}");
    assert!(output.stderr.contains("no_such_setting"), "{}", output.stderr);
}

/// `bartizan dev` on free ports; the one line it prints.
async fn dev(more: &[&str]) -> anyhow::Result<(Process, Value)> {
    let mut command = Command::new(tools::product());
    command.args(["dev", "--json"]).args(more);
    let mut process = Process::start(&mut command)?;
    let line = |line: &str| serde_json::from_str::<Value>(line).ok().filter(|line| line["mcp_url"].is_string());
    let line = process.line(Duration::from_secs(60), line).await?;
    Ok((process, line))
}

#[tokio::test(flavor = "multi_thread")]
async fn u1_dev_prints_what_a_client_needs_and_the_first_call_is_governed() {
    if !ready("u1_dev_prints_what_a_client_needs_and_the_first_call_is_governed") {
        return;
    }
    let (mut process, line) = dev(&["--listen", "127.0.0.1:0"]).await.unwrap();
    let url = line["mcp_url"].as_str().unwrap();
    assert!(url.starts_with("http://127.0.0.1:") || url.starts_with("http://localhost:"), "{url}");
    assert!(
        line["audit_command"].is_string() && line["servers"].as_array().is_some_and(|list| list.len() == 3),
        "{line}"
    );
    let users = line["users"].as_array().unwrap();
    assert!(users.len() >= 2, "{line}");
    let mut reads = 0;
    for user in users {
        let identity = Identity::bearer(user["token"].as_str().unwrap());
        let modern = ModernClient::new(url, identity.clone());
        let legacy = LegacyClient::connect(url, identity).await.unwrap();
        let names = modern.tools().await.unwrap();
        assert_eq!(names, legacy.tools().await.unwrap(), "{}", user["name"]);
        reads = reads.max(names.len());
        assert!(!modern.call("portal_list_servers", json!({})).await.unwrap().is_error());
    }
    assert!(reads >= 10, "only {reads} tools");
    let refused = ModernClient::new(url, Identity::default()).tools().await.unwrap_err();
    assert_eq!(refused.status, 401);
    process.terminate(Duration::from_secs(40)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn u1_dev_works_with_a_real_client() {
    let test = "u1_dev_works_with_a_real_client";
    if !tools::ready(test, &[Part::Product, Part::Npm]) {
        return;
    }
    use bartizan_testkit::scripts::{RealClient, drive};
    let (mut process, line) = dev(&["--listen", "127.0.0.1:0"]).await.unwrap();
    let url = line["mcp_url"].as_str().unwrap();
    let token = line["users"][0]["token"].as_str();
    let steps = json!([{"list": "tools"}, {"call": "portal_list_servers"}]);
    let report = drive(RealClient::TsV2, url, token, "modern", steps).await.unwrap();
    assert!(report.names("tools").len() >= 10, "{:#}", report.0);
    assert_eq!(report.step("call", "portal_list_servers")["isError"], false, "{:#}", report.0);
    process.terminate(Duration::from_secs(40)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn u2_dev_refuses_to_become_production() {
    if !ready("u2_dev_refuses_to_become_production") {
        return;
    }
    for more in [&["--listen", "0.0.0.0:0"][..], &["--data-dir", "/tmp/bartizan-never"][..]] {
        let mut command = Command::new(tools::product());
        command.args(["dev", "--json"]).args(more);
        let output = process::run_command(&mut command, Duration::from_secs(20)).await.unwrap();
        assert!(output.code.is_some_and(|code| code != 0), "{more:?}: {output:?}");
        assert!(!output.stderr.is_empty(), "{more:?} was refused without a word");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn u13_results_go_to_stdout_and_the_rest_to_stderr() {
    if !ready("u13_results_go_to_stdout_and_the_rest_to_stderr") {
        return;
    }
    let fixture = Fixture::start(Options::of(Era::Legacy)).await.unwrap();
    let product = Product::serve(config(&fixture)).await.unwrap();
    let checked = product.command(&["check", "--format", "json"]).await.unwrap();
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(serde_json::from_str::<Value>(checked.stdout.trim()).is_ok(), "{checked:?}");
    let schema = process::run(tools::product(), ["schema"], Duration::from_secs(20)).await.unwrap();
    assert!(serde_json::from_str::<Value>(&schema.stdout).is_ok(), "{schema:?}");
    let wrong = process::run(tools::product(), ["no-such-command"], Duration::from_secs(20)).await.unwrap();
    assert!(wrong.stdout.is_empty() && wrong.code == Some(2), "{wrong:?}");
}
