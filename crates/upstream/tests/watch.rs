//! P10: streams outside of calls, and counted resource subscriptions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bartizan_upstream::{ListKind, ServerNote, UpstreamError};
use common::*;
use serde_json::{Value, json};

type Streams = Arc<Mutex<Vec<Sse>>>;

/// A legacy server with a GET stream.
async fn with_stream(first_status: u16) -> (Mock, Streams) {
    let streams: Streams = Arc::default();
    let kept = Arc::clone(&streams);
    let mock = Mock::with(legacy, move |seen| {
        (seen.http == "GET").then(|| {
            if first_status != 200 {
                return ready(empty(first_status));
            }
            let (sse, reply) = Sse::new();
            sse.raw(": hello\n\n");
            kept.lock().unwrap().push(sse);
            ready(reply)
        })
    })
    .await;
    (mock, streams)
}

/// A modern server with listen streams that acknowledge.
async fn with_listen() -> (Mock, Streams) {
    let streams: Streams = Arc::default();
    let kept = Arc::clone(&streams);
    let mock = Mock::with(modern, move |seen| {
        (seen.method() == "subscriptions/listen").then(|| {
            let (sse, reply) = Sse::new();
            let meta = json!({"io.modelcontextprotocol/subscriptionId": seen.id()});
            sse.notify(
                "notifications/subscriptions/acknowledged",
                json!({"_meta": meta, "notifications": seen.json["params"]["notifications"]}),
            );
            kept.lock().unwrap().push(sse);
            ready(reply)
        })
    })
    .await;
    (mock, streams)
}

/// The next note, within ten seconds.
async fn heard(notes: &mut tokio::sync::broadcast::Receiver<ServerNote>) -> ServerNote {
    tokio::time::timeout(Duration::from_secs(10), notes.recv()).await.expect("a note").unwrap()
}

fn count(streams: &Streams) -> usize {
    streams.lock().unwrap().len()
}

#[tokio::test]
async fn p10_the_get_stream_is_opened_lazily_and_shared() {
    let (mock, streams) = with_stream(200).await;
    let (upstreams, target) = (upstreams(), target(&mock.url("/mcp")));
    call(&upstreams, &target, echo(&legacy_client(json!({})), json!({}))).await;
    assert_eq!(mock.http("GET"), 0, "nobody watches");
    let mut watchers: Vec<_> = (0..100).map(|_| upstreams.watch(&target)).collect();
    eventually(|| count(&streams) == 1).await;
    let get = mock.log().into_iter().find(|seen| seen.http == "GET").unwrap();
    assert_eq!(
        get.header("mcp-session-id"),
        mock.seen("tools/call")[0].header("mcp-session-id"),
        "the session there is"
    );
    assert_eq!(get.header("accept"), Some("text/event-stream"));
    for (method, kind) in [
        ("notifications/tools/list_changed", ListKind::Tools),
        ("notifications/prompts/list_changed", ListKind::Prompts),
        ("notifications/resources/list_changed", ListKind::Resources),
    ] {
        streams.lock().unwrap()[0].message(&json!({"jsonrpc": "2.0", "method": method}));
        for watcher in &mut watchers {
            assert_eq!(heard(watcher).await, ServerNote::ListChanged(kind));
        }
    }
    assert_eq!((mock.http("GET"), mock.count("initialize")), (1, 1));
    drop(watchers);
    let stream = streams.lock().unwrap().remove(0);
    tokio::time::timeout(Duration::from_secs(5), stream.closed())
        .await
        .expect("the stream is closed when nobody watches");
}

#[tokio::test]
async fn p10_a_hundred_subscribers_are_one_subscription() {
    for modern_server in [false, true] {
        let (mock, streams) = if modern_server { with_listen().await } else { with_stream(200).await };
        let (upstreams, target) = (upstreams(), target(&mock.url("/mcp")));
        let mut notes = upstreams.watch(&target);
        for _ in 0..100 {
            upstreams.subscribe(&target, "x://a").await.unwrap();
        }
        if modern_server {
            let asked = |seen: &Seen| seen.json["params"]["notifications"]["resourceSubscriptions"] == json!(["x://a"]);
            eventually(|| mock.seen("subscriptions/listen").iter().any(asked)).await;
            assert!(mock.count("subscriptions/listen") <= 2, "one before, one with the subscription");
            eventually(|| count(&streams) == mock.count("subscriptions/listen")).await;
        } else {
            assert_eq!(mock.count("resources/subscribe"), 1);
            eventually(|| count(&streams) == 1).await;
        }
        let params = json!({"uri": "x://a", "extra": 1});
        streams.lock().unwrap().last().unwrap().notify("notifications/resources/updated", params.clone());
        loop {
            match heard(&mut notes).await {
                ServerNote::ResourceUpdated { uri, params: got } => {
                    assert_eq!((uri.as_str(), serde_json::from_str::<Value>(got.as_str()).unwrap()), ("x://a", params));
                    break;
                }
                ServerNote::ListChanged(_) => {}
                other => panic!("{other:?}"),
            }
        }
        for _ in 0..99 {
            upstreams.unsubscribe(&target, "x://a").await.unwrap();
        }
        assert_eq!(mock.count("resources/unsubscribe"), 0, "one is left");
        upstreams.unsubscribe(&target, "x://a").await.unwrap();
        upstreams.unsubscribe(&target, "x://a").await.unwrap();
        if modern_server {
            let last =
                |mock: &Mock| mock.seen("subscriptions/listen").last().unwrap().json["params"]["notifications"].clone();
            eventually(|| last(&mock).get("resourceSubscriptions").is_none()).await;
        } else {
            assert_eq!(mock.count("resources/unsubscribe"), 1);
        }
    }
}

#[tokio::test]
async fn p10_subscriptions_that_are_refused_or_not_offered_are_errors() {
    let mock = Mock::with(legacy, |seen| {
        (seen.method() == "resources/subscribe").then(|| ready(error(200, seen, -32602, None)))
    })
    .await;
    let upstreams = upstreams();
    let refusing = target(&mock.url("/mcp"));
    assert!(matches!(upstreams.subscribe(&refusing, "x://a").await, Err(UpstreamError::Protocol { .. })));
    assert!(upstreams.subscribe(&refusing, "x://a").await.is_err(), "a refused one is not counted");
    assert_eq!(mock.count("resources/subscribe"), 2);
    let mock = Mock::with(modern, |seen| {
        (seen.method() == "server/discover").then(|| {
            ready(result(seen, json!({"supportedVersions": ["2026-07-28"], "capabilities": {"resources": {}}})))
        })
    })
    .await;
    let without = target_of(json!({"server_id": "two", "hostname": mock.url("/mcp")}), "user:alice");
    assert!(upstreams.subscribe(&without, "x://a").await.is_err());
}

#[tokio::test]
async fn p10_a_broken_stream_is_reopened_and_missed_changes_are_said() {
    for modern_server in [false, true] {
        let (mock, streams) = if modern_server { with_listen().await } else { with_stream(200).await };
        let (upstreams, target) = (upstreams(), target(&mock.url("/mcp")));
        let mut notes = upstreams.watch(&target);
        eventually(|| count(&streams) == 1).await;
        streams.lock().unwrap()[0].raw("retry: 10\ndata:\n\n");
        tokio::time::sleep(Duration::from_millis(50)).await;
        streams.lock().unwrap().clear();
        assert_eq!(heard(&mut notes).await, ServerNote::ListChanged(ListKind::Tools));
        eventually(|| count(&streams) == 1).await;
        drop(mock);
    }
}

#[tokio::test]
async fn p10_a_new_session_gets_the_subscriptions_again() {
    let (mock, streams) = {
        let streams: Streams = Arc::default();
        let (kept, gone) = (Arc::clone(&streams), Arc::new(AtomicUsize::new(0)));
        let mock = Mock::with(legacy, move |seen| {
            if seen.http == "GET" {
                // The second GET finds the session ended.
                if gone.fetch_add(1, Ordering::SeqCst) == 1 {
                    return Some(ready(empty(404)));
                }
                let (sse, reply) = Sse::new();
                sse.raw("retry: 1\ndata:\n\n");
                kept.lock().unwrap().push(sse);
                return Some(ready(reply));
            }
            None
        })
        .await;
        (mock, streams)
    };
    let (upstreams, target) = (upstreams(), target(&mock.url("/mcp")));
    upstreams.subscribe(&target, "x://a").await.unwrap();
    eventually(|| count(&streams) == 1).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    streams.lock().unwrap().clear();
    eventually(|| mock.count("resources/subscribe") == 2 && count(&streams) == 1).await;
    let sessions: Vec<_> =
        mock.seen("resources/subscribe").iter().map(|seen| seen.header("mcp-session-id").unwrap().to_owned()).collect();
    assert_ne!(sessions[0], sessions[1]);
    assert_eq!(mock.count("initialize"), 2);
}

#[tokio::test]
async fn p10_requests_outside_of_calls_are_refused_and_pings_answered() {
    let (mock, streams) = with_stream(200).await;
    let (upstreams, target) = (upstreams(), target(&mock.url("/mcp")));
    let mut notes = upstreams.watch(&target);
    eventually(|| count(&streams) == 1).await;
    for (id, method) in [(1, "ping"), (2, "sampling/createMessage"), (3, "roots/list")] {
        streams.lock().unwrap()[0].message(&json!({"jsonrpc": "2.0", "id": id, "method": method}));
    }
    let answered =
        |id: i64| mock.log().into_iter().find(|seen| seen.json["id"] == id && seen.json.get("method").is_none());
    eventually(|| (1..=3).all(|id| answered(id).is_some())).await;
    assert_eq!(answered(1).unwrap().json["result"], json!({}));
    assert_eq!(answered(2).unwrap().json["error"]["code"], -32601);
    assert_eq!(answered(3).unwrap().json["error"]["code"], -32601);
    streams.lock().unwrap()[0].notify("notifications/message", json!({"level": "info", "data": 1}));
    assert!(matches!(heard(&mut notes).await, ServerNote::Message { method, .. } if method == "notifications/message"));
}

#[tokio::test]
async fn p10_a_server_without_a_stream_is_left_alone() {
    let (mock, _) = with_stream(405).await;
    let (upstreams, target) = (upstreams(), target(&mock.url("/mcp")));
    let _notes = upstreams.watch(&target);
    eventually(|| mock.http("GET") == 1).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(mock.http("GET"), 1);
    call(&upstreams, &target, echo(&legacy_client(json!({})), json!({}))).await;
}

#[tokio::test]
async fn p10_owners_hear_only_their_own_session() {
    let (mock, streams) = with_stream(200).await;
    let upstreams = upstreams();
    let owner = |name: &str| target_of(json!({"server_id": "mock", "hostname": mock.url("/mcp")}), name);
    let (alice, bob) = (owner("user:alice"), owner("user:bob"));
    let mut first = upstreams.watch(&alice);
    eventually(|| count(&streams) == 1).await;
    let mut second = upstreams.watch(&bob);
    eventually(|| count(&streams) == 2).await;
    streams.lock().unwrap()[0].notify("notifications/resources/updated", json!({"uri": "x://alice"}));
    assert!(matches!(heard(&mut first).await, ServerNote::ResourceUpdated { uri, .. } if uri == "x://alice"));
    assert!(second.try_recv().is_err());
    assert_eq!(mock.count("initialize"), 2);
}

#[tokio::test]
async fn p10_the_get_stream_is_resumed_by_last_event_id() {
    let (mock, streams) = with_stream(200).await;
    let (upstreams, target) = (upstreams(), target(&mock.url("/mcp")));
    let mut notes = upstreams.watch(&target);
    eventually(|| count(&streams) == 1).await;
    streams.lock().unwrap()[0].raw("id: g7\nretry: 10\ndata:\n\n");
    tokio::time::sleep(Duration::from_millis(50)).await;
    streams.lock().unwrap().clear();
    eventually(|| mock.http("GET") == 2 && count(&streams) == 1).await;
    let gets: Vec<_> = mock.log().into_iter().filter(|seen| seen.http == "GET").collect();
    assert_eq!((gets[0].header("last-event-id"), gets[1].header("last-event-id")), (None, Some("g7")));
    streams.lock().unwrap()[0].notify("notifications/prompts/list_changed", json!({}));
    assert_eq!(heard(&mut notes).await, ServerNote::ListChanged(ListKind::Prompts), "nothing is said twice");
}
