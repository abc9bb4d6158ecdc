//! Upstream sessions, lists, cancellation, subscriptions: rows P10, P25, P31, P33, P35 and the soak figures.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use std::sync::Arc;
use std::time::Duration;

use bartizan_testkit::client::{Identity, LegacyClient, ModernClient, all_capabilities};
use bartizan_testkit::fixture::{self, Era, Fixture, Options};
use bartizan_testkit::http::Http;
use bartizan_testkit::product::{Config, Product, http_server, stdio_server};
use bartizan_testkit::tools::{self, Part};
use bartizan_testkit::wait::until;
use serde_json::json;
use tokio::task::JoinSet;

const SOON: Duration = Duration::from_secs(10);

fn ready(test: &str) -> bool {
    tools::ready(test, &[Part::Product])
}

async fn behind(options: Options) -> (Fixture, Product) {
    let fixture = Fixture::start(options).await.unwrap();
    let mut reads = fixture::tool_names();
    reads.extend(fixture.tool_names().into_iter().filter(|name| name.starts_with("extra_")));
    let mut server = http_server("fx", &fixture.url(), &reads);
    // Lists change in the middle; what becomes of changes is not the matter here.
    server["on_new"] = json!("allow");
    server["on_change"] = json!("alert");
    let product = Product::serve(Config::new().server(server)).await.unwrap();
    (fixture, product)
}

fn agent(product: &Product) -> Identity {
    Identity::bearer(product.token("agent"))
}

#[tokio::test(flavor = "multi_thread")]
async fn p35_thousand_calls_one_initialize() {
    if !ready("p35_thousand_calls_one_initialize") {
        return;
    }
    let (fixture, product) = behind(Options::of(Era::Legacy)).await;
    // Without capabilities nothing can be asked, and all calls may share one upstream session.
    let identity = agent(&product).declaring(json!({}));
    let modern = ModernClient::new(&product.url(), identity.clone());
    for _ in 0..500 {
        modern.call("fx_test_simple_text", json!({})).await.unwrap();
    }
    assert_eq!(fixture.stats().of("initialize"), 1, "{}", fixture.stats().to_json());
    let legacy = LegacyClient::connect(&product.url(), identity).await.unwrap();
    for _ in 0..500 {
        legacy.call("fx_test_simple_text", json!({})).await.unwrap();
    }
    assert_eq!(fixture.stats().of("tool:test_simple_text"), 1_000);
    let sessions = fixture.stats().of("initialize");
    // The two eras may differ in what they declare; calls never open sessions.
    assert!(sessions <= 2, "{}", fixture.stats().to_json());
}

#[tokio::test(flavor = "multi_thread")]
async fn p35_thousand_calls_to_a_modern_server_need_one_discover() {
    if !ready("p35_thousand_calls_to_a_modern_server_need_one_discover") {
        return;
    }
    let (fixture, product) = behind(Options::of(Era::Modern)).await;
    let modern = ModernClient::new(&product.url(), agent(&product));
    for _ in 0..1_000 {
        modern.call("fx_test_simple_text", json!({})).await.unwrap();
    }
    assert_eq!(fixture.stats().of("initialize"), 0);
    assert!(fixture.stats().of("server/discover") <= 2, "{}", fixture.stats().to_json());
    assert!(fixture.stats().of("tools/list") <= 2, "{}", fixture.stats().to_json());
}

/// 10,000 interleaved calls of 50 callers: every answer belongs to its question.
#[tokio::test(flavor = "multi_thread")]
async fn p35_ten_thousand_interleaved_calls_of_fifty_callers() {
    if !ready("p35_ten_thousand_interleaved_calls_of_fifty_callers") {
        return;
    }
    let fixture = Fixture::start(Options::of(Era::Legacy)).await.unwrap();
    let reads = ["test_echo".to_owned(), "test_elicitation".to_owned()];
    let mut config = Config::new().server(http_server("fx", &fixture.url(), &reads));
    config.tokens = (0..50).map(|number| format!("caller-{number}")).collect();
    let product = Arc::new(Product::serve(config).await.unwrap());
    let mut callers = JoinSet::new();
    for number in 0..50 {
        let product = Arc::clone(&product);
        callers.spawn(async move {
            let name = format!("caller-{number}");
            let own = name.clone();
            let identity = Identity::bearer(product.token(&name)).answering(Arc::new(move |_, _| {
                Some(json!({"action": "accept", "content": {"username": own, "email": "a@b.example"}}))
            }));
            let modern = ModernClient::new(&product.url(), identity.clone());
            let legacy = LegacyClient::connect(&product.url(), identity).await.unwrap();
            let mut mixed = 0;
            for turn in 0..200 {
                let value = json!({"value": format!("{name}/{turn}")});
                let done = match turn % 2 {
                    0 => modern.call("fx_test_echo", value.clone()).await.unwrap(),
                    _ => legacy.call("fx_test_echo", value.clone()).await.unwrap(),
                };
                mixed += usize::from(serde_json::from_str(&done.text()).ok() != Some(value.clone()));
                if turn % 50 == 7 {
                    let asked = json!({"message": "who?"});
                    let done = match turn % 100 {
                        7 => modern.call("fx_test_elicitation", asked).await.unwrap(),
                        _ => legacy.call("fx_test_elicitation", asked).await.unwrap(),
                    };
                    mixed += usize::from(!done.text().contains(&format!("\"{name}\"")));
                }
            }
            let _closed = legacy.close().await;
            mixed
        });
    }
    let mixed: usize = callers.join_all().await.into_iter().sum();
    assert_eq!(mixed, 0, "answers went to the wrong caller");
    assert_eq!(fixture.stats().of("tool:test_echo"), 10_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn p35_thousand_connects_and_disconnects_leave_nothing_behind() {
    if !ready("p35_thousand_connects_and_disconnects_leave_nothing_behind") {
        return;
    }
    let (fixture, product) = behind(Options::of(Era::Legacy)).await;
    let http = Http::new();
    let once = async || {
        let client =
            LegacyClient::connect_with(http.clone(), &product.url(), agent(&product), "2025-11-25").await.unwrap();
        client.call("fx_test_simple_text", json!({})).await.unwrap();
        assert!(matches!(client.close().await.unwrap(), 200..=204));
    };
    for _ in 0..50 {
        once().await;
    }
    let resident = |pid: u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let files = |pid: u32| std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let pid = product.pid().unwrap();
    let (memory, open) = (resident(pid), files(pid));
    for _ in 0..1_000 {
        once().await;
    }
    let (memory_after, open_after) = (resident(pid), files(pid));
    println!("resident {memory} → {memory_after} kB, files {open} → {open_after}");
    assert!(open_after <= open + 20, "open files grew from {open} to {open_after}");
    assert!(memory_after < memory + 40_000, "memory grew from {memory} to {memory_after} kB");
    assert!(fixture.open_sessions() <= 4, "{} upstream sessions are open", fixture.open_sessions());
}

#[tokio::test(flavor = "multi_thread")]
async fn p25_many_lists_cost_one_upstream_list() {
    if !ready("p25_many_lists_cost_one_upstream_list") {
        return;
    }
    let (fixture, product) = behind(Options::of(Era::Legacy)).await;
    let client = ModernClient::new(&product.url(), agent(&product));
    for _ in 0..1_000 {
        client.once("tools/list", json!({})).await.unwrap();
    }
    assert_eq!(fixture.stats().of("tools/list"), 1, "{}", fixture.stats().to_json());
}

#[tokio::test(flavor = "multi_thread")]
async fn p25_a_changed_list_is_seen_at_once() {
    if !ready("p25_a_changed_list_is_seen_at_once") {
        return;
    }
    for era in [Era::Legacy, Era::Modern] {
        let (fixture, product) = behind(Options::of(era)).await;
        let client = ModernClient::new(&product.url(), agent(&product));
        let legacy = LegacyClient::connect(&product.url(), agent(&product)).await.unwrap();
        let mut stream = legacy.stream(None).await.unwrap();
        let mut listening = client.listen(json!({"toolsListChanged": true})).await.unwrap();
        let dynamic = "fx_test_dynamic_tool".to_owned();
        assert!(!client.tools().await.unwrap().contains(&dynamic), "{era:?}");
        client.call("fx_test_trigger_tool_change", json!({})).await.unwrap();
        let changed = "notifications/tools/list_changed";
        let told = stream.message().await.unwrap().unwrap();
        assert_eq!(told["method"], changed, "{era:?}: {told}");
        let told = listening.events.message().await.unwrap().unwrap();
        assert_eq!(told["method"], changed, "{era:?}: {told}");
        assert_eq!(told["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], listening.id, "{era:?}");
        assert!(client.tools().await.unwrap().contains(&dynamic), "{era:?}: the new tool is not listed");
        assert!(legacy.tools().await.unwrap().contains(&dynamic), "{era:?}: the new tool is not listed");
        drop(fixture);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p31_every_page_of_every_server_is_listed_once() {
    if !ready("p31_every_page_of_every_server_is_listed_once") {
        return;
    }
    let pages = |era, extra| Options { page_size: 20, extra_tools: extra, ..Options::of(era) };
    let one = Fixture::start(pages(Era::Legacy, 60)).await.unwrap();
    let two = Fixture::start(pages(Era::Modern, 75)).await.unwrap();
    let config = Config::new().server(http_server("one", &one.url(), &one.tool_names())).server(http_server(
        "two",
        &two.url(),
        &two.tool_names(),
    ));
    let product = Product::serve(config).await.unwrap();
    let expected: Vec<String> = one
        .tool_names()
        .iter()
        .map(|name| format!("one_{name}"))
        .chain(two.tool_names().iter().map(|name| format!("two_{name}")))
        .collect();
    let modern = ModernClient::new(&product.url(), agent(&product)).tools().await.unwrap();
    let legacy = LegacyClient::connect(&product.url(), agent(&product)).await.unwrap().tools().await.unwrap();
    for listed in [modern, legacy] {
        let own: Vec<String> = listed.into_iter().filter(|name| !name.starts_with("portal_")).collect();
        assert_eq!(own, expected);
    }
    let single = ModernClient::new(&product.server_url("two"), agent(&product)).tools().await.unwrap();
    assert_eq!(single, two.tool_names());
}

#[tokio::test(flavor = "multi_thread")]
async fn p33_a_filtered_list_is_private_or_not_kept() {
    if !ready("p33_a_filtered_list_is_private_or_not_kept") {
        return;
    }
    let (_fixture, product) = behind(Options::of(Era::Modern)).await;
    let client = ModernClient::new(&product.url(), agent(&product));
    for method in ["tools/list", "prompts/list", "resources/list", "resources/templates/list", "server/discover"] {
        let result = client.once(method, json!({})).await.unwrap().result;
        let scope = result["cacheScope"].as_str().unwrap_or_default().to_owned();
        assert!(scope == "private" || result["ttlMs"] == 0, "{method}: {scope} {}", result["ttlMs"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p10_a_closed_stream_cancels_upstream_within_a_second() {
    if !ready("p10_a_closed_stream_cancels_upstream_within_a_second") {
        return;
    }
    for era in [Era::Legacy, Era::Modern] {
        let (fixture, product) = behind(Options::of(era)).await;
        let client = Arc::new(ModernClient::new(&product.url(), agent(&product)));
        let params = json!({"name": "fx_test_slow", "arguments": {"ms": 60_000}});
        let task = tokio::spawn({
            let client = Arc::clone(&client);
            async move { client.open("tools/call", params).await }
        });
        until("the call is running", SOON, async || fixture.stats().of("tool:test_slow") == 1).await.unwrap();
        task.abort();
        let began = tokio::time::Instant::now();
        until("the upstream sees a cancel", SOON, async || fixture.stats().of("cancelled") == 1).await.unwrap();
        println!("{era:?}: cancelled after {:?}", began.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p10_a_legacy_client_cancels_by_notification_not_by_disconnect() {
    if !ready("p10_a_legacy_client_cancels_by_notification_not_by_disconnect") {
        return;
    }
    for era in [Era::Legacy, Era::Modern] {
        let (fixture, product) = behind(Options::of(era)).await;
        let client = Arc::new(LegacyClient::connect(&product.url(), agent(&product)).await.unwrap());
        let call = |id: i64, ms: u64| {
            json!({"jsonrpc": "2.0", "id": id, "method": "tools/call",
                "params": {"name": "fx_test_slow", "arguments": {"ms": ms}}})
        };
        // A disconnect is no cancellation: the call goes on to its end.
        let task = tokio::spawn({
            let (client, message) = (Arc::clone(&client), call(100, 1_500));
            async move { client.post(&message).await.map(|reply| reply.status) }
        });
        until("the call is running", SOON, async || fixture.stats().of("tool:test_slow") == 1).await.unwrap();
        task.abort();
        until("the call ran to its end", SOON, async || fixture.stats().of("slow-finished") == 1).await.unwrap();
        assert_eq!(fixture.stats().of("cancelled"), 0, "{era:?}");
        // A notification is one.
        let task = tokio::spawn({
            let (client, message) = (Arc::clone(&client), call(101, 60_000));
            async move { client.post(&message).await.map(|reply| reply.status) }
        });
        until("the call is running", SOON, async || fixture.stats().of("tool:test_slow") == 2).await.unwrap();
        client.notify("notifications/cancelled", json!({"requestId": 101})).await.unwrap();
        until("the upstream sees a cancel", SOON, async || fixture.stats().of("cancelled") == 1).await.unwrap();
        task.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p10_hundred_subscribers_are_one_upstream_subscription() {
    if !ready("p10_hundred_subscribers_are_one_upstream_subscription") {
        return;
    }
    for era in [Era::Legacy, Era::Modern] {
        let (fixture, product) = behind(Options::of(era)).await;
        let url = product.server_url("fx");
        let mut open = Vec::new();
        for _ in 0..100 {
            let client = ModernClient::new(&url, agent(&product));
            open.push(client.listen(json!({"resourceSubscriptions": ["test://watched-resource"]})).await.unwrap());
        }
        let upstream = async || match era {
            // A listener that hears more replaces the former one; for a moment there are both.
            Era::Modern => fixture.open_listeners() == 1,
            _ => fixture.stats().of("resources/subscribe") == 1,
        };
        until("there is one upstream subscription", Duration::from_secs(10), upstream).await.unwrap();
        let client = ModernClient::new(&url, agent(&product));
        client.call("test_trigger_resource_update", json!({})).await.unwrap();
        for listening in &mut open {
            let told = listening.events.message().await.unwrap().unwrap();
            assert_eq!(told["method"], "notifications/resources/updated", "{era:?}");
            assert_eq!(told["params"]["uri"], "test://watched-resource", "{era:?}");
        }
        drop(open);
        let quiet = async || match era {
            Era::Modern => fixture.open_listeners() == 0,
            _ => fixture.stats().of("resources/unsubscribe") >= 1,
        };
        until("the upstream subscription ends with the last subscriber", Duration::from_secs(30), quiet).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p10_log_messages_come_only_when_asked_for() {
    if !ready("p10_log_messages_come_only_when_asked_for") {
        return;
    }
    for era in [Era::Legacy, Era::Modern] {
        let (_fixture, product) = behind(Options::of(era)).await;
        let logs = |notifications: &[serde_json::Value]| {
            notifications.iter().filter(|message| message["method"] == "notifications/message").count()
        };
        let quiet = ModernClient::new(&product.url(), agent(&product));
        let done = quiet.call("fx_test_tool_with_logging", json!({})).await.unwrap();
        assert_eq!(logs(&done.notifications), 0, "{era:?}");
        let asking = ModernClient::new(&product.url(), agent(&product)).logging("info");
        let done = asking.call("fx_test_tool_with_logging", json!({})).await.unwrap();
        assert_eq!(logs(&done.notifications), 3, "{era:?}: {:?}", done.notifications);
        let legacy = LegacyClient::connect(&product.url(), agent(&product)).await.unwrap();
        legacy.request("logging/setLevel", json!({"level": "error"})).await.unwrap();
        let done = legacy.call("fx_test_tool_with_logging", json!({})).await.unwrap();
        assert_eq!(logs(&done.notifications), 0, "{era:?}: {:?}", done.notifications);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p10_a_broken_legacy_stream_is_resumed_by_event_id() {
    if !ready("p10_a_broken_legacy_stream_is_resumed_by_event_id") {
        return;
    }
    for era in [Era::Legacy, Era::Modern] {
        let (_fixture, product) = behind(Options::of(era)).await;
        let client = LegacyClient::connect(&product.url(), agent(&product)).await.unwrap();
        let message = json!({"jsonrpc": "2.0", "id": 77, "method": "tools/call", "params": {
            "name": "fx_test_tool_with_progress", "arguments": {}, "_meta": {"progressToken": "p"}}});
        let mut events = client.post(&message).await.unwrap().events();
        let mut last = None;
        while last.is_none() {
            last = events.next().await.unwrap().unwrap().id;
        }
        drop(events);
        let mut resumed = client.stream(last.as_deref()).await.unwrap();
        let mut response = None;
        while let Some(message) = resumed.message().await.unwrap() {
            if message["id"] == 77 {
                response = Some(message);
                break;
            }
        }
        assert!(response.unwrap()["result"]["content"].is_array(), "{era:?}");
    }
}

/// Every report of progress arrives, in order, whatever speaks behind and in front.
#[tokio::test(flavor = "multi_thread")]
async fn p10_all_progress_arrives_in_order_over_every_transport() {
    if !ready("p10_all_progress_arrives_in_order_over_every_transport") {
        return;
    }
    let legacy = Fixture::start(Options::of(Era::Legacy)).await.unwrap();
    let modern = Fixture::start(Options::of(Era::Modern)).await.unwrap();
    let reads = fixture::tool_names();
    let names: Vec<&str> = reads.iter().map(String::as_str).collect();
    let stdio = |era: &str| json!([env!("CARGO_BIN_EXE_fixture"), "--stdio", "--era", era]);
    let config = Config::new()
        .server(http_server("legacy", &legacy.url(), &reads))
        .server(http_server("modern", &modern.url(), &reads))
        .server(http_server("sse", &legacy.sse_url(), &reads))
        .server(stdio_server("oldlocal", stdio("legacy"), &names))
        .server(stdio_server("newlocal", stdio("modern"), &names));
    let product = Product::serve(config).await.unwrap();
    let one = ModernClient::new(&product.url(), agent(&product));
    let two = LegacyClient::connect(&product.url(), agent(&product)).await.unwrap();
    for server in ["legacy", "modern", "sse", "oldlocal", "newlocal"] {
        for token in [json!("text"), json!(0), json!(7)] {
            let params = json!({
                "name": format!("{server}_test_tool_with_progress"), "arguments": {}, "_meta": {"progressToken": token},
            });
            for (era, done) in [
                ("modern", one.request("tools/call", params.clone()).await.unwrap()),
                ("legacy", two.request("tools/call", params.clone()).await.unwrap()),
            ] {
                let seen: Vec<_> = done
                    .notifications
                    .iter()
                    .filter(|message| message["method"] == "notifications/progress")
                    .map(|message| (message["params"]["progressToken"].clone(), message["params"]["progress"].clone()))
                    .collect();
                let all: Vec<_> = [0, 50, 100].iter().map(|value| (token.clone(), json!(value))).collect();
                assert_eq!(seen, all, "{era} client, {server}, token {token}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p7_every_legacy_revision_is_spoken_to_clients() {
    if !ready("p7_every_legacy_revision_is_spoken_to_clients") {
        return;
    }
    let (_fixture, product) = behind(Options::of(Era::Modern)).await;
    for version in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        let client = LegacyClient::connect_as(&product.url(), agent(&product), version).await.unwrap();
        assert_eq!(client.version(), version);
        let done = client.call("fx_test_simple_text", json!({})).await.unwrap();
        assert_eq!(done.text(), "This is a simple text response for testing.");
    }
    for unknown in ["2026-07-28", "1.0", "2099-01-01"] {
        let client = LegacyClient::connect_as(&product.url(), agent(&product), unknown).await.unwrap();
        assert_eq!(client.version(), "2025-11-25", "{unknown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p7_every_legacy_revision_is_spoken_to_servers() {
    if !ready("p7_every_legacy_revision_is_spoken_to_servers") {
        return;
    }
    for version in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        let options = Options { legacy_version: version.to_owned(), ..Options::of(Era::Legacy) };
        let (_fixture, product) = behind(options).await;
        let modern = ModernClient::new(&product.url(), agent(&product).declaring(all_capabilities()));
        let done = modern.call("fx_test_elicitation", json!({"message": "m"})).await.unwrap();
        assert!(done.text().contains("action=accept"), "{version}: {}", done.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p7_batches_only_in_2025_03_26() {
    if !ready("p7_batches_only_in_2025_03_26") {
        return;
    }
    let (_fixture, product) = behind(Options::of(Era::Legacy)).await;
    let batch = json!([
        {"jsonrpc": "2.0", "id": 1, "method": "ping"},
        {"jsonrpc": "2.0", "id": "two", "method": "tools/call", "params": {"name": "fx_test_simple_text"}},
        {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 99}},
    ]);
    let old = LegacyClient::connect_as(&product.url(), agent(&product), "2025-03-26").await.unwrap();
    let reply = old.post(&batch).await.unwrap();
    assert_eq!(reply.status, 200);
    let answers = if reply.is_events() {
        let mut events = reply.events();
        let mut answers = Vec::new();
        while let Some(message) = events.message().await.unwrap() {
            match message {
                serde_json::Value::Array(some) => answers.extend(some),
                one => answers.push(one),
            }
        }
        answers
    } else {
        reply.json().await.unwrap().as_array().unwrap().clone()
    };
    let ids: Vec<String> = answers.iter().map(|answer| answer["id"].to_string()).collect();
    assert!(ids.contains(&"1".to_owned()) && ids.contains(&"\"two\"".to_owned()), "{answers:?}");
    let new = LegacyClient::connect(&product.url(), agent(&product)).await.unwrap();
    assert_eq!(new.post(&batch).await.unwrap().status, 400);
}
