//! Streams of both eras: progress, logs, questions, resume, cancel, subscriptions
//! (rows P9, P10).
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails")]

mod support;

use bartizan_testkit::fixture::Era;
use bartizan_testkit::http::Events;
use serde_json::{Value, json};
use support::stack::{ALICE, BOB, Setup};
use support::{Client, LEGACY, MODERN, World, eventually, until};

const FIX: &str = "servers/fix/mcp";

/// The same data plane before a server of each era.
async fn worlds() -> [World; 2] {
    [World::start().await, World::with(Setup { era: Era::Modern, ..Setup::default() }).await]
}

fn progress(token: &Value) -> Value {
    json!({"name": "test_tool_with_progress", "arguments": {}, "_meta": {"progressToken": token}})
}

async fn drain(mut events: Events) -> Vec<Value> {
    let mut all = Vec::new();
    while let Some(message) = events.message().await.unwrap() {
        all.push(message);
    }
    all
}

#[tokio::test]
async fn p10_progress_carries_the_clients_token_in_both_eras() {
    for world in worlds().await {
        let legacy = Client::opened(world.url(FIX), Some(ALICE)).await;
        for token in [json!("tok"), json!(7)] {
            let reply = legacy.legacy(&json!("q"), "tools/call", &progress(&token)).await;
            assert!(reply.is_events());
            assert_eq!(reply.header("x-accel-buffering"), Some("no"));
            assert!(reply.header("x-request-id").is_some());
            let all = drain(reply.events()).await;
            let notes: Vec<_> = all.iter().filter(|m| m["method"] == "notifications/progress").collect();
            assert_eq!(notes.len(), 3, "{all:?}");
            assert!(notes.iter().all(|note| note["params"]["progressToken"] == token));
            assert_eq!(all.last().unwrap()["id"], "q");
            let params = json!({"name": "test_tool_with_progress", "arguments": {}});
            let reply =
                world.client(FIX).modern_meta(&json!(3), "tools/call", &params, json!({"progressToken": token})).await;
            let all = drain(reply.events()).await;
            assert_eq!(all.iter().filter(|m| m["params"]["progressToken"] == token).count(), 3, "{all:?}");
            assert_eq!(all.last().unwrap()["id"], 3);
            assert_eq!(all.last().unwrap()["result"]["resultType"], "complete");
        }
    }
}

#[tokio::test]
async fn p10_a_call_that_says_nothing_else_is_answered_as_json() {
    let world = World::start().await;
    let legacy = Client::opened(world.url(FIX), Some(ALICE)).await;
    let params = json!({"name": "test_simple_text", "arguments": {}});
    let reply = legacy.legacy(&json!(1), "tools/call", &params).await;
    assert!(!reply.is_events());
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert!(!world.client(FIX).modern(&json!(1), "tools/call", &params).await.is_events());
}

#[tokio::test]
async fn p10_logs_only_as_asked() {
    for world in worlds().await {
        let params = json!({"name": "test_tool_with_logging", "arguments": {}});
        let modern = world.client(FIX);
        assert!(!modern.modern(&json!(1), "tools/call", &params).await.is_events());
        let level = |level: &str| json!({"io.modelcontextprotocol/logLevel": level});
        let logs = |all: Vec<Value>| all.iter().filter(|m| m["method"] == "notifications/message").count();
        let reply = modern.modern_meta(&json!(1), "tools/call", &params, level("debug")).await;
        assert_eq!(logs(drain(reply.events()).await), 3);
        assert!(!modern.modern_meta(&json!(1), "tools/call", &params, level("error")).await.is_events());
        let legacy = Client::opened(world.url(FIX), Some(ALICE)).await;
        assert_eq!(logs(drain(legacy.legacy(&json!(1), "tools/call", &params).await.events()).await), 3);
        assert_eq!(legacy.ask("logging/setLevel", json!({"level": "error"})).await.1["result"], json!({}));
        assert!(!legacy.legacy(&json!(1), "tools/call", &params).await.is_events());
        assert_eq!(legacy.ask("logging/setLevel", json!({"level": "debug"})).await.0, 200);
        assert_eq!(logs(drain(legacy.legacy(&json!(1), "tools/call", &params).await.events()).await), 3);
    }
}

#[tokio::test]
async fn p9_questions_are_real_requests_and_their_answers_come_by_post() {
    for world in worlds().await {
        let client = Client::opened(world.url(FIX), Some(ALICE)).await;
        let params = json!({"name": "test_elicitation", "arguments": {"message": "who?"}});
        let reply = client.legacy(&json!(1), "tools/call", &params).await;
        assert!(reply.is_events());
        let mut events = reply.events();
        let question = until(&mut events, |m| m["method"] == "elicitation/create").await;
        assert_eq!(question["params"]["message"], "who?");
        // Nobody else can answer it.
        let other = Client::opened(world.url(FIX), Some(BOB)).await;
        let yes = json!({"action": "accept", "content": {"username": "u", "email": "e@example.com"}});
        let no = json!({"action": "decline"});
        assert_eq!(other.answer(&question["id"], &no).await, 202);
        let sibling = Client::opened(world.url(FIX), Some(ALICE)).await;
        assert_eq!(sibling.answer(&question["id"], &no).await, 202);
        assert_eq!(client.answer(&question["id"], &yes).await, 202);
        let answer = until(&mut events, |m| m["id"] == 1 && m.get("method").is_none()).await;
        let text = answer["result"]["content"][0]["text"].as_str().unwrap();
        assert!(text.contains("accept"), "{text}");
        assert!(events.next().await.unwrap().is_none());
        // A second answer is late.
        assert_eq!(client.answer(&question["id"], &no).await, 202);
    }
}

#[tokio::test]
async fn p9_the_questions_of_a_cancelled_call_are_withdrawn() {
    for world in worlds().await {
        let client = Client::opened(world.url(FIX), Some(ALICE)).await;
        let params = json!({"name": "test_elicitation", "arguments": {"message": "who?"}});
        let mut events = client.legacy(&json!("c"), "tools/call", &params).await.events();
        let question = until(&mut events, |m| m["method"] == "elicitation/create").await;
        assert_eq!(client.notify("notifications/cancelled", &json!({"requestId": "c"})).await, 202);
        let rest = drain(events).await;
        assert_eq!(rest.len(), 1, "{rest:?}");
        assert_eq!(rest[0]["method"], "notifications/cancelled");
        assert_eq!(rest[0]["params"]["requestId"], question["id"]);
        // Too late.
        assert_eq!(client.answer(&question["id"], &json!({"action": "decline"})).await, 202);
    }
}

#[tokio::test]
async fn p9_an_error_is_an_answer_too() {
    let world = World::start().await;
    let client = Client::opened(world.url(FIX), Some(ALICE)).await;
    let params = json!({"name": "test_sampling", "arguments": {"prompt": "hi"}});
    let mut events = client.legacy(&json!(1), "tools/call", &params).await.events();
    let question = until(&mut events, |m| m["method"] == "sampling/createMessage").await;
    let refusal = json!({"jsonrpc": "2.0", "id": question["id"], "error": {"code": -1, "message": "not now"}});
    assert_eq!(client.post(&[], refusal.to_string()).await.status, 202);
    let answer = until(&mut events, |m| m["id"] == 1 && m.get("method").is_none()).await;
    assert!(answer.to_string().contains("not now"), "{answer}");
}

#[tokio::test]
async fn p9_what_the_client_did_not_declare_is_not_asked() {
    for world in worlds().await {
        let mut client = world.client(FIX);
        client.initialize(LEGACY, &json!({})).await;
        let params = json!({"name": "test_missing_capability", "arguments": {}});
        let reply = client.legacy(&json!(1), "tools/call", &params).await;
        if reply.is_events() {
            let all = drain(reply.events()).await;
            assert!(all.iter().all(|message| message["method"] != "sampling/createMessage"), "{all:?}");
            assert_eq!(all.last().unwrap()["id"], 1);
        } else {
            assert_eq!(reply.json().await.unwrap()["id"], 1);
        }
        let (status, answer) = world.client(FIX).ask_modern("tools/call", params).await;
        assert_eq!((status, &answer["error"]["code"]), (400, &json!(-32021)), "{answer}");
        assert_eq!(answer["error"]["data"]["requiredCapabilities"], json!({"sampling": {}}));
    }
}

#[tokio::test]
async fn p10_a_legacy_stream_starts_with_an_event_to_resume_from() {
    let world = World::start().await;
    for (version, primed) in [(LEGACY, true), ("2025-06-18", false)] {
        let mut client = world.client(FIX);
        client.initialize(version, &json!({})).await;
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": progress(&json!(1))});
        let mut events = client.post(&[], body.to_string()).await.events();
        let first = events.next().await.unwrap().unwrap();
        assert!(first.id.is_some());
        assert_eq!(first.data.as_deref() == Some(""), primed, "{first:?}");
    }
}

#[tokio::test]
async fn p10_a_broken_stream_is_resumed_where_it_broke() {
    for world in worlds().await {
        let client = Client::opened(world.url(FIX), Some(ALICE)).await;
        let params = progress(&json!("p"));
        let mut events = client.legacy(&json!(9), "tools/call", &params).await.events();
        let primed = events.next().await.unwrap().unwrap();
        drop(events);
        // A mere disconnect does not cancel: the whole rest is there later.
        let last = primed.id.unwrap();
        let all = drain(client.stream(&[("last-event-id", &last)]).await.events()).await;
        assert_eq!(all.iter().filter(|m| m["method"] == "notifications/progress").count(), 3, "{all:?}");
        assert_eq!(all.last().unwrap()["id"], 9);
        // Again, from the middle; what came before is not repeated.
        let mut again = client.stream(&[("last-event-id", &last)]).await.events();
        let first = again.next().await.unwrap().unwrap();
        drop(again);
        let rest = drain(client.stream(&[("last-event-id", first.id.as_deref().unwrap())]).await.events()).await;
        assert_eq!(rest.len(), all.len() - 1);
        // Another session has nothing to resume.
        let other = Client::opened(world.url(FIX), Some(ALICE)).await;
        let mut stranger = other.stream(&[("last-event-id", &last)]).await.events();
        assert_ne!(stranger.next().await.unwrap().unwrap().data.as_deref(), first.data.as_deref());
        assert_eq!(world.fixture.stats().of("cancelled"), 0);
        assert_eq!(world.fixture.stats().of("tool:test_tool_with_progress"), 1);
    }
}

#[tokio::test]
async fn p10_an_answer_reaches_a_client_that_came_back() {
    for world in worlds().await {
        let client = Client::opened(world.url(FIX), Some(ALICE)).await;
        let params = json!({"name": "test_elicitation", "arguments": {"message": "who?"}});
        let mut events = client.legacy(&json!(1), "tools/call", &params).await.events();
        let primed = events.next().await.unwrap().unwrap().id.unwrap();
        drop(events);
        let mut events = client.stream(&[("last-event-id", &primed)]).await.events();
        let question = until(&mut events, |m| m["method"] == "elicitation/create").await;
        assert_eq!(client.answer(&question["id"], &json!({"action": "cancel"})).await, 202);
        assert_eq!(until(&mut events, |m| m.get("result").is_some()).await["id"], 1);
    }
}

#[tokio::test]
async fn p10_cancelled_legacy_calls_are_cancelled_upstream() {
    for world in worlds().await {
        let client = Client::opened(world.url(FIX), Some(ALICE)).await;
        let other = Client::opened(world.url(FIX), Some(BOB)).await;
        let params = json!({"name": "test_slow", "arguments": {"ms": 60_000}});
        let task = tokio::spawn({
            let client = client.clone();
            async move { client.legacy(&json!("slow"), "tools/call", &params).await }
        });
        eventually("the call arrived", || world.fixture.stats().of("tool:test_slow") == 1).await;
        // Not with the id of somebody else's request, nor another id.
        assert_eq!(other.notify("notifications/cancelled", &json!({"requestId": "slow"})).await, 202);
        assert_eq!(client.notify("notifications/cancelled", &json!({"requestId": "slo"})).await, 202);
        assert!(!task.is_finished());
        assert_eq!(client.notify("notifications/cancelled", &json!({"requestId": "slow"})).await, 202);
        let reply = task.await.unwrap();
        if reply.is_events() {
            assert!(drain(reply.events()).await.is_empty());
        } else {
            assert_eq!(reply.status, 202);
        }
        eventually("the fixture saw it", || world.fixture.stats().of("cancelled") == 1).await;
        assert_eq!(world.fixture.stats().of("slow-finished"), 0);
    }
}

#[tokio::test]
async fn p10_a_modern_client_cancels_by_closing_its_stream() {
    for world in worlds().await {
        for hold in [false, true] {
            world.fixture.stats().reset();
            let client = world.client(FIX);
            let params = json!({"name": "test_slow", "arguments": {"ms": 60_000}});
            let task =
                tokio::spawn(
                    async move { client.modern(&json!(1), "tools/call", &params).await.events().next().await },
                );
            eventually("the call arrived", || world.fixture.stats().of("tool:test_slow") == 1).await;
            if hold {
                // The head went out after two seconds; now the body is what is dropped.
                tokio::time::sleep(std::time::Duration::from_millis(2_300)).await;
            }
            task.abort();
            eventually("the fixture saw it", || world.fixture.stats().of("cancelled") >= 1).await;
            assert_eq!(world.fixture.stats().of("slow-finished"), 0);
        }
    }
}

#[tokio::test]
async fn p10_a_legacy_disconnect_does_not_cancel() {
    for world in worlds().await {
        let client = Client::opened(world.url(FIX), Some(ALICE)).await;
        let params = json!({"name": "test_slow", "arguments": {"ms": 400}});
        let task = tokio::spawn(async move { client.legacy(&json!(1), "tools/call", &params).await.status });
        eventually("the call arrived", || world.fixture.stats().of("tool:test_slow") == 1).await;
        task.abort();
        eventually("it went on", || world.fixture.stats().of("slow-finished") == 1).await;
        assert_eq!(world.fixture.stats().of("cancelled"), 0);
    }
}

#[tokio::test]
async fn p10_list_changes_and_updates_reach_the_get_stream() {
    for world in worlds().await {
        let client = Client::opened(world.url(FIX), Some(ALICE)).await;
        let mut events = client.stream(&[]).await.events();
        let uri = json!({"uri": "test://watched-resource"});
        assert_eq!(client.ask("resources/subscribe", uri.clone()).await.1["result"], json!({}));
        let call = |name: &str| json!({"name": name, "arguments": {}});
        client.ask("tools/call", call("test_trigger_resource_update")).await;
        let note = until(&mut events, |m| m["method"] == "notifications/resources/updated").await;
        assert_eq!(note["params"]["uri"], "test://watched-resource");
        client.ask("tools/call", call("test_trigger_tool_change")).await;
        until(&mut events, |m| m["method"] == "notifications/tools/list_changed").await;
        assert_eq!(client.ask("resources/unsubscribe", uri).await.1["result"], json!({}));
        client.ask("tools/call", call("test_trigger_resource_update")).await;
        client.ask("tools/call", call("test_trigger_prompt_change")).await;
        let note = until(&mut events, |m| m["method"].is_string()).await;
        assert_eq!(note["method"], "notifications/prompts/list_changed");
        let (_, answer) = client.ask("resources/subscribe", json!({"uri": "nonsense:\u{1}"})).await;
        assert!(answer.get("result").is_some() || answer["error"]["code"] == -32002, "{answer}");
    }
}

#[tokio::test]
async fn p10_notes_of_a_short_absence_are_not_lost() {
    let world = World::start().await;
    let client = Client::opened(world.url(FIX), Some(ALICE)).await;
    let mut events = client.stream(&[]).await.events();
    let primed = events.next().await.unwrap().unwrap().id.unwrap();
    drop(events);
    world.wait_for_listeners(1).await;
    client.ask("tools/call", json!({"name": "test_trigger_tool_change", "arguments": {}})).await;
    let mut events = client.stream(&[("last-event-id", &primed)]).await.events();
    until(&mut events, |m| m["method"] == "notifications/tools/list_changed").await;
}

#[tokio::test]
async fn p10_listening_begins_with_the_acknowledgement_and_names_the_request() {
    for world in worlds().await {
        for id in [json!(41), json!("41")] {
            let filter = json!({"notifications": {"toolsListChanged": true, "resourceSubscriptions": ["test://watched-resource"]}});
            let reply = world.client(FIX).modern(&id, "subscriptions/listen", &filter).await;
            assert_eq!((reply.status, reply.is_events()), (200, true));
            let mut events = reply.events();
            let ack = events.message().await.unwrap().unwrap();
            assert_eq!(ack["method"], "notifications/subscriptions/acknowledged");
            assert_eq!(ack["params"]["notifications"], filter["notifications"]);
            let key = "io.modelcontextprotocol/subscriptionId";
            assert_eq!(ack["params"]["_meta"][key], id);
            let call = |name: &str| json!({"name": name, "arguments": {}});
            world.wait_for_listeners(1).await;
            // Not asked for, so not sent.
            world.client(FIX).ask_modern("tools/call", call("test_trigger_prompt_change")).await;
            world.client(FIX).ask_modern("tools/call", call("test_trigger_resource_update")).await;
            let note = events.message().await.unwrap().unwrap();
            assert_eq!(note["method"], "notifications/resources/updated");
            assert_eq!(note["params"]["_meta"][key], id);
            world.client(FIX).ask_modern("tools/call", call("test_trigger_tool_change")).await;
            let note = events.message().await.unwrap().unwrap();
            assert_eq!(
                (&note["method"], &note["params"]["_meta"][key]),
                (&json!("notifications/tools/list_changed"), &id)
            );
        }
        for bad in [json!({}), json!({"notifications": 7}), json!({"notifications": {"toolsListChanged": "yes"}})] {
            let (status, answer) = world.client(FIX).ask_modern("subscriptions/listen", bad.clone()).await;
            assert_eq!((status, &answer["error"]["code"]), (400, &json!(-32602)), "{bad}");
        }
        let _ = MODERN;
    }
}

#[tokio::test]
async fn p10_a_hundred_subscribers_are_one_upstream_subscription() {
    for world in worlds().await {
        let filter = json!({"notifications": {"resourceSubscriptions": ["test://watched-resource"]}});
        let mut streams = Vec::new();
        for n in 0..50 {
            let mut events = world.client(FIX).modern(&json!(n), "subscriptions/listen", &filter).await.events();
            assert!(events.message().await.unwrap().unwrap()["method"].as_str().unwrap().ends_with("acknowledged"));
            streams.push(events);
            let client = Client::opened(world.url(FIX), Some(ALICE)).await;
            let events = client.stream(&[]).await.events();
            client.ask("resources/subscribe", json!({"uri": "test://watched-resource"})).await;
            streams.push(events);
        }
        world.wait_for_listeners(1).await;
        let upstream = world.fixture.stats().of("resources/subscribe").max(world.fixture.open_listeners() as u64);
        assert_eq!(upstream, 1, "{}", world.fixture.stats().to_json());
        let call = json!({"name": "test_trigger_resource_update", "arguments": {}});
        world.client(FIX).ask_modern("tools/call", call).await;
        for events in &mut streams {
            until(events, |m| m["method"] == "notifications/resources/updated").await;
        }
    }
}
