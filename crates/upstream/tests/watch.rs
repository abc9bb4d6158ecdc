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

/// Numbers that differ from run to run of the loop, the same in every run of the test.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

async fn some_yields(count: u64) {
    for _ in 0..count {
        tokio::task::yield_now().await;
    }
}

/// A hundred subscribers come and go at once, while the stream is opened, sessions of other
/// declarations are made, and the session is lost.
async fn rush(round: u64) {
    let mut dice = Dice(round);
    let streams: Streams = Arc::default();
    let (kept, slow) = (Arc::clone(&streams), dice.throw(3));
    let mock = Mock::with(legacy, move |seen| {
        if seen.http == "GET" {
            let (sse, reply) = Sse::new();
            sse.raw("retry: 1\ndata:\n\n");
            kept.lock().unwrap().push(sse);
            return Some(ready(reply));
        }
        let seen = seen.clone();
        (seen.method() == "initialize" || seen.method() == "resources/subscribe").then(|| -> Replying {
            Box::pin(async move {
                some_yields(slow * 20).await;
                legacy(&seen)
            })
        })
    })
    .await;
    let (upstreams, target) = (upstreams(), target(&mock.url("/mcp")));
    // Several sessions, so that there is a choice.
    let sessions = dice.throw(4);
    for n in 0..sessions {
        call(&upstreams, &target, echo(&legacy_client(json!({"experimental": {"n": {"n": n}}})), json!({}))).await;
    }
    let mut tasks = Vec::new();
    for n in 0..100 {
        let (upstreams, target, wait) = (upstreams.clone(), target.clone(), dice.throw(60));
        let stays = n % 2 == 0;
        tasks.push(tokio::spawn(async move {
            some_yields(wait).await;
            let subscribing = upstreams.subscribe(&target, "x://a");
            if stays {
                return subscribing.await.is_ok();
            }
            // Leaves in the middle, or at the end.
            let _ = tokio::time::timeout(Duration::from_micros(wait * 40), subscribing).await.map(|done| {
                let (upstreams, target) = (upstreams.clone(), target.clone());
                done.map(|()| tokio::spawn(async move { upstreams.unsubscribe(&target, "x://a").await }))
            });
            true
        }));
    }
    let watching = (upstreams.clone(), target.clone(), dice.throw(60));
    let notes = tokio::spawn(async move {
        some_yields(watching.2).await;
        watching.0.watch(&watching.1)
    });
    for task in tasks {
        assert!(task.await.unwrap());
    }
    let _notes = notes.await.unwrap();
    eventually(|| count(&streams) == 1).await;
    let told = mock.seen("resources/subscribe");
    // On a busy machine somebody may come and leave before the first that stays: then it was taken back in between.
    assert_eq!(told.len(), mock.count("resources/unsubscribe") + 1, "round {round}: {sessions} sessions before");
    let first = told[told.len() - 1].header("mcp-session-id").unwrap().to_owned();
    let gets: Vec<_> = mock.log().into_iter().filter(|seen| seen.http == "GET").collect();
    assert!(gets.iter().all(|get| get.header("mcp-session-id") == Some(first.as_str())), "one session for both");
    // The fifty that stayed go, at once, twice over in part.
    let going: Vec<_> = (0..50)
        .map(|_| {
            let (upstreams, target, wait) = (upstreams.clone(), target.clone(), dice.throw(60));
            tokio::spawn(async move {
                some_yields(wait).await;
                upstreams.unsubscribe(&target, "x://a").await
            })
        })
        .collect();
    for task in going {
        task.await.unwrap().unwrap();
    }
    let times = told.len();
    eventually(|| mock.count("resources/unsubscribe") == times).await;
    assert_eq!(mock.count("resources/subscribe"), times, "round {round}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p10_a_hundred_at_once_are_one_subscription_two_hundred_times() {
    for round in 0..200 {
        rush(round).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p10_each_new_session_is_told_once_thirty_times() {
    // The session is ended by the server whenever the test says so.
    let (streams, ended): (Streams, Arc<Mutex<std::collections::HashSet<String>>>) = <_>::default();
    let (kept, gone) = (Arc::clone(&streams), Arc::clone(&ended));
    let mock = Mock::with(legacy, move |seen| {
        if seen.header("mcp-session-id").is_some_and(|id| gone.lock().unwrap().contains(id)) {
            return Some(ready(empty(404)));
        }
        (seen.http == "GET").then(|| {
            let (sse, reply) = Sse::new();
            sse.raw("retry: 1\ndata:\n\n");
            kept.lock().unwrap().push(sse);
            ready(reply)
        })
    })
    .await;
    let target = target(&mock.url("/mcp"));
    for round in 0..30_u64 {
        let mut dice = Dice(round);
        let upstreams = upstreams();
        let before = mock.log().len();
        let _notes = upstreams.watch(&target);
        let uris = ["x://a", "x://b", "x://c"];
        futures_util::future::join_all(uris.map(|uri| upstreams.subscribe(&target, uri))).await;
        eventually(|| count(&streams) == 1).await;
        let session =
            mock.log()[before..].iter().find(|seen| seen.http == "GET").unwrap().headers["mcp-session-id"].clone();
        ended.lock().unwrap().insert(session.to_str().unwrap().to_owned());
        streams.lock().unwrap().clear();
        // Others subscribe while the stream is built up again, on whichever session there is.
        let late = (0..5).map(|n| {
            let (upstreams, target, wait) = (upstreams.clone(), target.clone(), dice.throw(40));
            async move {
                some_yields(wait).await;
                upstreams.subscribe(&target, if n % 2 == 0 { "x://a" } else { "x://d" }).await.unwrap();
            }
        });
        futures_util::future::join_all(late).await;
        let told = |uri: &str| -> Vec<String> {
            let all = mock.log();
            let told = all[before..].iter().filter(|seen| {
                seen.method() == "resources/subscribe"
                    && seen.json["params"]["uri"] == uri
                    && !ended.lock().unwrap().contains(seen.header("mcp-session-id").unwrap())
            });
            told.map(|seen| seen.header("mcp-session-id").unwrap().to_owned()).collect()
        };
        eventually(|| {
            count(&streams) == 1 && ["x://a", "x://b", "x://c", "x://d"].iter().all(|uri| !told(uri).is_empty())
        })
        .await;
        let now = told("x://a");
        for uri in ["x://a", "x://b", "x://c", "x://d"] {
            assert_eq!(told(uri), now, "round {round}: {uri}");
            assert_eq!(told(uri).len(), 1, "round {round}: {uri}");
        }
        upstreams.shutdown().await;
        eventually(|| streams.lock().unwrap().iter().all(|sse| !sse.raw(": \n\n")) || mock.http("DELETE") > 0).await;
        streams.lock().unwrap().clear();
    }
}
