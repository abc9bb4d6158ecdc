//! P35: sessions are shared by the right calls and by no others, and never opened twice.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bartizan_upstream::UpstreamError;
use common::*;
use serde_json::{Value, json};

fn owner(url: &str, principal: &str) -> bartizan_upstream::Target {
    target_of(json!({"server_id": "mock", "hostname": url}), principal)
}

/// A legacy server that notes by which session a call came.
fn session_of(seen: &Seen) -> Option<Replying> {
    (seen.method() == "tools/call").then(|| {
        let session = seen.header("mcp-session-id").unwrap_or_default().to_owned();
        ready(result(seen, json!({"content": [], "session": session, "args": seen.json["params"]["arguments"]})))
    })
}

#[tokio::test]
async fn p35_a_thousand_calls_one_initialize_one_connection() {
    let mock = Mock::legacy().await;
    let (upstreams, target) = (upstreams(), target(&mock.url("/mcp")));
    let profile = modern_client(json!({"elicitation": {}}));
    for n in 0..1000 {
        call(&upstreams, &target, echo(&profile, json!({"n": n}))).await;
    }
    assert_eq!((mock.count("initialize"), mock.count("server/discover"), mock.count("tools/call")), (1, 1, 1000));
    assert_eq!(mock.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn p35_a_modern_server_needs_no_handshake_per_call() {
    let mock = Mock::modern().await;
    let (upstreams, target) = (upstreams(), target(&mock.url("/mcp")));
    let profile = legacy_client(json!({}));
    for n in 0..100 {
        call(&upstreams, &target, echo(&profile, json!({"n": n}))).await;
    }
    assert_eq!(mock.log().len(), 101);
    assert_eq!(mock.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn p35_sessions_are_kept_apart_by_owner_and_capabilities() {
    let mock = Mock::with(legacy, session_of).await;
    let upstreams = upstreams();
    let mut sessions = std::collections::HashSet::new();
    for principal in ["user:alice", "user:bob", "shared"] {
        for capabilities in [json!({}), json!({"sampling": {}}), json!({"sampling": {"tools": {}}})] {
            let target = owner(&mock.url("/mcp"), principal);
            let got = call(&upstreams, &target, echo(&legacy_client(capabilities.clone()), json!({}))).await;
            // The same declaration in the other era and another spelling is the same session.
            let again = call(&upstreams, &target, echo(&modern_client(capabilities), json!({}))).await;
            assert_eq!(got["session"], again["session"]);
            assert!(sessions.insert(got["session"].as_str().unwrap().to_owned()), "shared by mistake");
        }
    }
    assert_eq!(mock.count("initialize"), 9);
    let declared: Vec<Value> =
        mock.seen("initialize").iter().map(|seen| seen.json["params"]["capabilities"].clone()).collect();
    assert_eq!(declared.iter().filter(|c| **c == json!({"sampling": {}})).count(), 3, "passed on as declared");
}

#[tokio::test]
async fn p35_interleaved_calls_of_many_owners_are_never_mixed() {
    let mock = Mock::with(legacy, session_of).await;
    let upstreams = upstreams();
    let tasks: Vec<_> = (0..20)
        .map(|user| {
            let (upstreams, target) = (upstreams.clone(), owner(&mock.url("/mcp"), &format!("user:{user}")));
            tokio::spawn(async move {
                let profile = legacy_client(json!({}));
                let mut mine = Value::Null;
                for n in 0..50 {
                    let got = call(&upstreams, &target, echo(&profile, json!({"user": user, "n": n}))).await;
                    assert_eq!(got["args"], json!({"user": user, "n": n}));
                    if n == 0 {
                        mine = got["session"].clone();
                    }
                    assert_eq!(got["session"], mine);
                }
                mine.as_str().unwrap().to_owned()
            })
        })
        .collect();
    let mut sessions = std::collections::HashSet::new();
    for task in tasks {
        assert!(sessions.insert(task.await.unwrap()));
    }
    assert_eq!(mock.count("initialize"), 20);
}

#[tokio::test]
async fn p35_a_hundred_first_calls_open_one_session() {
    let mock = Mock::with(legacy, |seen| {
        let seen = seen.clone();
        (seen.method() == "initialize").then(|| -> Replying {
            Box::pin(async move {
                tokio::time::sleep(Duration::from_millis(50)).await;
                legacy(&seen)
            })
        })
    })
    .await;
    let (upstreams, target) = (upstreams(), target(&mock.url("/mcp")));
    let profile = legacy_client(json!({}));
    futures_util::future::join_all((0..100).map(|n| call(&upstreams, &target, echo(&profile, json!({"n": n}))))).await;
    assert_eq!((mock.count("server/discover"), mock.count("initialize")), (1, 1));
}

#[tokio::test]
async fn p35_a_failed_opening_is_told_to_all_who_wait_and_counted_once() {
    let mock = Mock::new(|_| {
        Box::pin(async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            empty(503)
        })
    })
    .await;
    let (upstreams, target) = (upstreams(), target(&mock.url("/mcp")));
    let profile = legacy_client(json!({}));
    let calls = (0..50).map(|_| upstreams.call(&target, echo(&profile, json!({}))));
    let failed = futures_util::future::join_all(calls).await;
    assert!(failed.iter().all(|result| matches!(result, Err(UpstreamError::Unavailable { .. }))));
    assert_eq!(mock.log().len(), 1);
    assert_eq!(upstreams.status()[0].circuit, "closed", "one failure, whoever waited for it");
}

#[tokio::test]
async fn p35_who_gives_up_does_not_take_the_session_of_others_along() {
    let mock = Mock::with(legacy, |seen| {
        let seen = seen.clone();
        (seen.method() == "initialize").then(|| -> Replying {
            Box::pin(async move {
                tokio::time::sleep(Duration::from_millis(100)).await;
                legacy(&seen)
            })
        })
    })
    .await;
    let (upstreams, target) = (upstreams(), target(&mock.url("/mcp")));
    let profile = legacy_client(json!({}));
    let first = tokio::spawn({
        let (upstreams, target, profile) = (upstreams.clone(), target.clone(), Arc::clone(&profile));
        async move { call(&upstreams, &target, echo(&profile, json!({}))).await }
    });
    mock.until("initialize", 1).await;
    let second = call(&upstreams, &target, echo(&profile, json!({})));
    first.abort();
    second.await;
    assert_eq!(mock.count("initialize"), 1);
}

/// A legacy server whose sessions end after `calls` requests, by this answer.
async fn forgetful(calls: usize, gone: fn(&Seen) -> Reply) -> Mock {
    let count = AtomicUsize::new(0);
    Mock::with(legacy, move |seen| {
        let counted = !matches!(seen.method(), "initialize" | "server/discover") && !seen.id().is_null();
        (counted && count.fetch_add(1, Ordering::SeqCst) == calls).then(|| ready(gone(seen)))
    })
    .await
}

#[tokio::test]
async fn p35_a_lost_session_is_reopened_for_what_may_be_repeated() {
    for gone in [
        |_: &Seen| empty(404),
        |seen: &Seen| error(404, seen, -32001, None),
        |_: &Seen| {
            json_reply(400, &json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32000, "message": "no session"}}))
        },
    ] {
        let mock = forgetful(1, gone).await;
        let (upstreams, target) = (upstreams(), target(&mock.url("/mcp")));
        let profile = legacy_client(json!({}));
        for method in ["resources/read", "prompts/get", "completion/complete"] {
            let mut call =
                upstreams.call(&target, request(method, &profile, json!({"uri": "a:b", "name": "p"}))).await.unwrap();
            finish(&mut call).await;
        }
        assert_eq!(mock.count("initialize"), 2);
        let sessions: Vec<_> =
            mock.seen("prompts/get").iter().map(|seen| seen.header("mcp-session-id").unwrap().to_owned()).collect();
        assert_eq!(sessions.len(), 2, "repeated once");
        assert_ne!(sessions[0], sessions[1]);
    }
}

#[tokio::test]
async fn p35_a_tool_call_is_never_repeated_but_the_next_one_works() {
    for gone in [|_: &Seen| empty(404), |seen: &Seen| error(404, seen, -32001, None)] {
        let mock = forgetful(1, gone).await;
        let (upstreams, target) = (upstreams(), target(&mock.url("/mcp")));
        let profile = legacy_client(json!({}));
        call(&upstreams, &target, echo(&profile, json!({"n": 1}))).await;
        let lost = upstreams.call(&target, echo(&profile, json!({"n": 2}))).await.err().unwrap();
        assert!(matches!(lost, UpstreamError::SessionLost), "{lost}");
        assert!(lost.note().contains("not repeated"), "{lost}");
        call(&upstreams, &target, echo(&profile, json!({"n": 3}))).await;
        let arguments: Vec<Value> =
            mock.seen("tools/call").iter().map(|seen| seen.json["params"]["arguments"]["n"].clone()).collect();
        assert_eq!(arguments, [1, 2, 3].map(Value::from), "each once");
        assert_eq!(mock.count("initialize"), 2);
    }
}

#[tokio::test]
async fn p35_a_session_that_is_always_lost_ends_in_an_error() {
    let mock = Mock::with(legacy, |seen| (seen.method() == "resources/read").then(|| ready(empty(404)))).await;
    let (upstreams, target) = (upstreams(), target(&mock.url("/mcp")));
    let read = request("resources/read", &legacy_client(json!({})), json!({"uri": "a:b"}));
    assert!(matches!(upstreams.call(&target, read).await.err(), Some(UpstreamError::SessionLost)));
    assert!(mock.count("resources/read") <= 3);
}

#[tokio::test]
async fn p35_a_404_for_a_server_without_sessions_is_no_lost_session() {
    let mock = Mock::with(legacy, |seen| match seen.method() {
        "initialize" => Some(ready(result(seen, json!({"protocolVersion": "2025-11-25", "capabilities": {}})))),
        "notifications/initialized" => Some(ready(empty(202))),
        "tools/call" => Some(ready(empty(404))),
        _ => None,
    })
    .await;
    let failed = upstreams().call(&target(&mock.url("/mcp")), echo(&legacy_client(json!({})), json!({}))).await;
    assert!(matches!(failed.err(), Some(UpstreamError::Refused { .. })));
}

#[tokio::test]
async fn p35_malformed_session_ids_are_refused() {
    for id in ["a b", "", "\u{e9}", &"x".repeat(2000)] {
        let id = id.to_owned();
        let mock = Mock::with(legacy, move |seen| {
            (seen.method() == "initialize").then(|| {
                let mut reply = result(seen, json!({"protocolVersion": "2025-11-25", "capabilities": {}}));
                reply.headers_mut().insert("mcp-session-id", http::HeaderValue::from_bytes(id.as_bytes()).unwrap());
                ready(reply)
            })
        })
        .await;
        let failed = upstreams().call(&target(&mock.url("/mcp")), echo(&legacy_client(json!({})), json!({}))).await;
        assert!(matches!(failed.err(), Some(UpstreamError::Protocol { .. })));
    }
}

#[tokio::test]
async fn p35_a_changed_specification_opens_a_new_session_and_ends_the_old_one() {
    let mock = Mock::legacy().await;
    let upstreams = upstreams();
    let server = |token: &str| json!({"server_id": "mock", "hostname": mock.url("/mcp"), "auth_type": "bearer", "auth_credentials": token});
    let profile = legacy_client(json!({}));
    call(&upstreams, &target_of(server("one"), "user:alice"), echo(&profile, json!({}))).await;
    call(&upstreams, &target_of(server("two"), "user:alice"), echo(&profile, json!({}))).await;
    assert_eq!(mock.count("initialize"), 2);
    assert_eq!(mock.seen("tools/call")[1].header("authorization"), Some("Bearer two"));
    eventually(|| mock.http("DELETE") == 1).await;
    let ended = mock.log().into_iter().find(|seen| seen.http == "DELETE").unwrap();
    assert_eq!(ended.header("authorization"), Some("Bearer one"));
    assert_eq!(ended.header("mcp-session-id"), mock.seen("tools/call")[0].header("mcp-session-id"));
}

#[tokio::test]
async fn p35_forget_and_shutdown_end_sessions() {
    let mock = Mock::legacy().await;
    let (upstreams, target) = (upstreams(), target(&mock.url("/mcp")));
    let profile = legacy_client(json!({}));
    call(&upstreams, &target, echo(&profile, json!({}))).await;
    upstreams.forget(&target.spec.id);
    eventually(|| mock.http("DELETE") == 1).await;
    assert!(upstreams.status().is_empty());
    call(&upstreams, &target, echo(&profile, json!({}))).await;
    upstreams.shutdown().await;
    assert_eq!(mock.http("DELETE"), 2);
}

#[tokio::test]
async fn p35_event_streams_that_end_in_order_keep_their_connection() {
    for era in [legacy as fn(&Seen) -> Reply, modern] {
        // As most libraries answer: one event, then the end, a moment later.
        let mock = Mock::with(era, |seen| {
            (seen.method() == "tools/call").then(|| {
                let (sse, reply) = Sse::new();
                let seen = seen.clone();
                tokio::spawn(async move {
                    sse.result(&seen, json!({"content": []}));
                    tokio::time::sleep(Duration::from_millis(2)).await;
                });
                ready(reply)
            })
        })
        .await;
        let (upstreams, target) = (upstreams(), target(&mock.url("/mcp")));
        for _ in 0..20 {
            call(&upstreams, &target, echo(&legacy_client(json!({})), json!({}))).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(mock.connections.load(Ordering::SeqCst) <= 2, "{:?}", mock.connections);
    }
}

#[tokio::test]
async fn p35_unused_sessions_end_after_half_an_hour_and_watched_ones_stay() {
    let mock = Mock::legacy().await;
    let upstreams = upstreams();
    let (idle, watched) = (owner(&mock.url("/mcp"), "user:idle"), owner(&mock.url("/mcp"), "user:watches"));
    let profile = legacy_client(json!({}));
    call(&upstreams, &idle, echo(&profile, json!({}))).await;
    call(&upstreams, &watched, echo(&profile, json!({}))).await;
    let _notes = upstreams.watch(&watched);
    eventually(|| mock.http("GET") == 1).await;
    let pass = async |minutes: u64| {
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(minutes * 60)).await;
        tokio::time::resume();
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    pass(29).await;
    assert_eq!(mock.http("DELETE"), 0);
    pass(3).await;
    eventually(|| mock.http("DELETE") == 1).await;
    let ended = mock.log().into_iter().find(|seen| seen.http == "DELETE").unwrap();
    assert_eq!(ended.header("mcp-session-id"), mock.seen("tools/call")[0].header("mcp-session-id"));
    call(&upstreams, &watched, echo(&profile, json!({}))).await;
    assert_eq!(mock.count("initialize"), 2);
    call(&upstreams, &idle, echo(&profile, json!({}))).await;
    assert_eq!(mock.count("initialize"), 3);
}

#[tokio::test]
async fn p35_many_owners_probe_a_new_server_once() {
    let mock = Mock::with(legacy, |seen| {
        let seen = seen.clone();
        (seen.method() == "server/discover").then(|| -> Replying {
            Box::pin(async move {
                tokio::time::sleep(Duration::from_millis(50)).await;
                legacy(&seen)
            })
        })
    })
    .await;
    let upstreams = upstreams();
    let calls = (0..20).map(|user| {
        let (upstreams, target) = (upstreams.clone(), owner(&mock.url("/mcp"), &format!("user:{user}")));
        async move { call(&upstreams, &target, echo(&legacy_client(json!({})), json!({}))).await }
    });
    futures_util::future::join_all(calls).await;
    assert_eq!((mock.count("server/discover"), mock.count("initialize")), (1, 20));
}

#[tokio::test]
async fn p35_lists_and_calls_of_one_client_share_the_session() {
    let mock = Mock::legacy().await;
    let (upstreams, target) = (upstreams(), target(&mock.url("/mcp")));
    for profile in [legacy_client(json!({"sampling": {}, "tasks": {"list": {}}})), modern_client(json!({"roots": {}}))]
    {
        for kind in bartizan_upstream::ListKind::ALL {
            upstreams.list(&target, kind, &profile).await.unwrap();
        }
        upstreams.discover(&target, &profile).await.unwrap();
        call(&upstreams, &target, echo(&profile, json!({}))).await;
    }
    assert_eq!(mock.count("initialize"), 2);
}

#[tokio::test]
async fn p35_a_changed_specification_lets_calls_under_way_end() {
    let (release, gate) = tokio::sync::watch::channel(false);
    let mock = Mock::with(legacy, move |seen| {
        let (mut gate, seen) = (gate.clone(), seen.clone());
        (seen.method() == "tools/call" && seen.json["params"]["arguments"]["slow"] == true).then(|| -> Replying {
            Box::pin(async move {
                gate.wait_for(|open| *open).await.unwrap();
                result(&seen, json!({"content": [], "late": true}))
            })
        })
    })
    .await;
    let upstreams = upstreams();
    let server = |token: &str| json!({"server_id": "mock", "hostname": mock.url("/mcp"), "auth_type": "bearer", "auth_credentials": token});
    let profile = legacy_client(json!({}));
    let slow = tokio::spawn({
        let (upstreams, profile) = (upstreams.clone(), Arc::clone(&profile));
        let target = target_of(server("one"), "user:alice");
        async move { call(&upstreams, &target, echo(&profile, json!({"slow": true}))).await }
    });
    mock.until("tools/call", 1).await;
    call(&upstreams, &target_of(server("two"), "user:alice"), echo(&profile, json!({}))).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(mock.http("DELETE"), 0, "the old session is in use");
    release.send(true).unwrap();
    assert_eq!(slow.await.unwrap()["late"], true);
    eventually(|| mock.http("DELETE") == 1).await;
}

#[tokio::test]
async fn p32_a_server_that_is_down_is_not_told_of_cancellations() {
    let mock = Mock::legacy().await;
    let (upstreams, target) = (upstreams(), target(&mock.url("/mcp")));
    let profile = legacy_client(json!({}));
    call(&upstreams, &target, echo(&profile, json!({}))).await;
    let gone = Mock::with(legacy, |seen| (seen.method() == "tools/call").then(|| ready(empty(503)))).await;
    let gone_target = target_of(json!({"server_id": "gone", "hostname": gone.url("/mcp")}), "user:alice");
    assert!(upstreams.call(&gone_target, echo(&profile, json!({}))).await.is_err());
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(gone.count("notifications/cancelled"), 0);
}
