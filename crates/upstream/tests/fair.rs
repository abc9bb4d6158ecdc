//! P32, P35: what one principal does to a server, and what the others notice of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bartizan_config::settings::WireLimits;
use bartizan_model::SystemClock;
use bartizan_upstream::{ListKind, Target, UpstreamError, UpstreamEvent, UpstreamReply, Upstreams};
use common::*;
use serde_json::{Value, json};

fn owner(mock: &Mock, path: &str, principal: &str) -> Target {
    target_of(json!({"server_id": "mock", "hostname": mock.url(path)}), principal)
}

/// A legacy server that says by which session a call came, and hangs when it is told to.
async fn telling() -> Mock {
    Mock::with(legacy, |seen| {
        if seen.json["params"]["arguments"]["hang"] == true {
            return Some(Box::pin(std::future::pending()));
        }
        (seen.method() == "tools/call").then(|| {
            let session = seen.header("mcp-session-id").unwrap_or_default().to_owned();
            ready(result(seen, json!({"content": [], "session": session})))
        })
    })
    .await
}

fn declares(n: usize) -> Value {
    json!({"experimental": {"n": {"n": n}}})
}

async fn session(upstreams: &Upstreams, target: &Target) -> String {
    call(upstreams, target, echo(&legacy_client(json!({})), json!({}))).await["session"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn p35_a_thousand_declarations_of_one_leave_the_others_their_session() {
    let mock = telling().await;
    let upstreams = upstreams();
    let (hostile, bob) = (owner(&mock, "/mcp", "user:hostile"), owner(&mock, "/mcp", "user:bob"));
    let mine = session(&upstreams, &bob).await;
    for n in 0..1000 {
        call(&upstreams, &hostile, echo(&legacy_client(declares(n)), json!({}))).await;
        if n % 50 == 0 {
            assert_eq!(session(&upstreams, &bob).await, mine);
        }
        assert!(upstreams.status()[0].sessions <= 9, "eight of one, one of the other");
    }
    assert_eq!(session(&upstreams, &bob).await, mine);
    assert_eq!(mock.count("initialize"), 1001);
    eventually(|| mock.http("DELETE") == 992).await;
    let ended: Vec<_> = mock.log().into_iter().filter(|seen| seen.http == "DELETE").collect();
    assert!(ended.iter().all(|seen| seen.header("mcp-session-id") != Some(mine.as_str())));
    // The oldest went first: the last eight are still there.
    for n in 992..1000 {
        call(&upstreams, &hostile, echo(&legacy_client(declares(n)), json!({}))).await;
    }
    assert_eq!(mock.count("initialize"), 1001);
}

#[tokio::test]
async fn p35_sessions_in_use_are_not_replaced_and_hold_only_their_owner_back() {
    let mock = telling().await;
    let upstreams = upstreams_with(WireLimits { call_ms: 20_000, ..limits() }, Arc::new(SystemClock));
    let (hostile, bob) = (owner(&mock, "/mcp", "user:hostile"), owner(&mock, "/mcp", "user:bob"));
    let mine = session(&upstreams, &bob).await;
    let hanging: Vec<_> = (0..100)
        .map(|n| {
            let (upstreams, hostile) = (upstreams.clone(), hostile.clone());
            tokio::spawn(async move {
                let request = echo(&legacy_client(declares(n)), json!({"hang": true}));
                upstreams.call(&hostile, request).await.map(drop)
            })
        })
        .collect();
    eventually(|| hanging.iter().filter(|task| task.is_finished()).count() == 92).await;
    eventually(|| mock.count("tools/call") == 1 + 8).await;
    assert_eq!(session(&upstreams, &bob).await, mine);
    assert_eq!((mock.count("initialize"), mock.http("DELETE")), (1 + 8, 0));
    for task in hanging {
        if task.is_finished() {
            let refused = task.await.unwrap().unwrap_err();
            assert!(matches!(refused, UpstreamError::Crowded { .. }), "{refused}");
        } else {
            task.abort();
        }
    }
    assert_eq!(upstreams.status()[0].circuit, "closed");
    // What is over makes room.
    eventually(|| mock.count("notifications/cancelled") == 8).await;
    call(&upstreams, &hostile, echo(&legacy_client(declares(200)), json!({}))).await;
}

#[tokio::test]
async fn p35_the_session_that_is_listened_to_is_not_replaced() {
    let mock = Mock::with(legacy, |seen| {
        (seen.http == "GET").then(|| {
            let (sse, reply) = Sse::new();
            sse.raw(": hello\n\n");
            tokio::spawn(async move { sse.closed().await });
            ready(reply)
        })
    })
    .await;
    let upstreams = upstreams();
    let alice = owner(&mock, "/mcp", "user:alice");
    upstreams.subscribe(&alice, "x://a").await.unwrap();
    let _notes = upstreams.watch(&alice);
    eventually(|| mock.http("GET") == 1).await;
    for n in 0..30 {
        call(&upstreams, &alice, echo(&legacy_client(declares(n)), json!({}))).await;
    }
    eventually(|| mock.http("DELETE") == 31 - 8).await;
    let watched = mock.seen("resources/subscribe")[0].header("mcp-session-id").map(str::to_owned);
    let ended: Vec<_> = mock.log().into_iter().filter(|seen| seen.http == "DELETE").collect();
    assert!(ended.iter().all(|seen| seen.header("mcp-session-id") != watched.as_deref()));
    assert_eq!((mock.count("resources/subscribe"), mock.http("GET")), (1, 1));
}

#[tokio::test]
async fn p32_refused_introductions_of_one_client_close_the_server_to_nobody() {
    for status in [200, 400, 401, 403, 404, 405, 406, 409, 422, 429] {
        let mock = Mock::with(legacy, move |seen| {
            (seen.method() == "initialize" && seen.json["params"]["capabilities"].get("experimental").is_some())
                .then(|| ready(error(status, seen, -32602, None)))
        })
        .await;
        let upstreams = upstreams();
        let (hostile, bob) = (owner(&mock, "/", "user:hostile"), owner(&mock, "/", "user:bob"));
        for n in 0..20 {
            let profile = legacy_client(declares(n));
            let refused = upstreams.call(&hostile, echo(&profile, json!({}))).await.err().unwrap();
            match status {
                401 | 403 => assert!(matches!(refused, UpstreamError::Auth { .. }), "{status}: {refused}"),
                _ => assert!(matches!(refused, UpstreamError::Refused { .. }), "{status}: {refused}"),
            }
            assert!(upstreams.list(&hostile, ListKind::Tools, &profile).await.is_err());
        }
        assert_eq!(upstreams.status()[0].circuit, "closed", "{status}");
        call(&upstreams, &bob, echo(&legacy_client(json!({})), json!({}))).await;
        assert_eq!(upstreams.status()[0].transport, "streamable_http", "nobody was led elsewhere");
    }
}

#[tokio::test]
async fn p32_refused_calls_and_odd_answers_close_the_server_to_nobody() {
    for era in [legacy as fn(&Seen) -> Reply, modern] {
        let mock = Mock::with(era, |seen| {
            let way = seen.json["params"]["arguments"]["way"].as_u64()?;
            Some(ready(match way {
                0 => empty(401),
                1 => empty(403),
                2 => empty(429),
                3 => empty(422),
                4 => reply(200, "text/html", "<html>"),
                5 => reply(200, "application/json", "{"),
                6 => empty(302),
                _ => error(200, seen, -32603, None),
            }))
        })
        .await;
        let upstreams = upstreams();
        let (hostile, bob) = (owner(&mock, "/mcp", "user:hostile"), owner(&mock, "/mcp", "user:bob"));
        let profile = legacy_client(json!({}));
        for n in 0..40 {
            if let Ok(mut call) = upstreams.call(&hostile, echo(&profile, json!({"way": n / 5}))).await {
                finish(&mut call).await;
            }
            assert_eq!(upstreams.status()[0].circuit, "closed", "{n}");
        }
        call(&upstreams, &bob, echo(&profile, json!({}))).await;
    }
}

#[tokio::test]
async fn p32_a_refused_or_abandoned_trial_keeps_the_circuit_open_for_nobody() {
    let sick = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let switch = Arc::clone(&sick);
    let mock = Mock::with(modern, move |seen| {
        if seen.json["params"]["arguments"]["hang"] == true {
            return Some(Box::pin(std::future::pending()));
        }
        if seen.json["params"]["arguments"]["hostile"] == true {
            return Some(ready(empty(403)));
        }
        let sick = switch.load(std::sync::atomic::Ordering::SeqCst);
        (seen.method() == "tools/call" && sick).then(|| ready(empty(503)))
    })
    .await;
    let upstreams = upstreams();
    let (hostile, bob) = (owner(&mock, "/mcp", "user:hostile"), owner(&mock, "/mcp", "user:bob"));
    let profile = legacy_client(json!({}));
    for _ in 0..5 {
        assert!(upstreams.call(&bob, echo(&profile, json!({}))).await.is_err());
    }
    sick.store(false, std::sync::atomic::Ordering::SeqCst);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(31)).await;
    tokio::time::resume();
    for _ in 0..10 {
        let refused = upstreams.call(&hostile, echo(&profile, json!({"hostile": true}))).await.err().unwrap();
        assert!(matches!(refused, UpstreamError::Auth { status: 403, .. }), "{refused}");
        let (upstreams, hostile, profile) = (upstreams.clone(), hostile.clone(), Arc::clone(&profile));
        let before = mock.count("tools/call");
        let gone =
            tokio::spawn(
                async move { upstreams.call(&hostile, echo(&profile, json!({"hang": true}))).await.map(drop) },
            );
        eventually(|| mock.count("tools/call") > before).await;
        gone.abort();
        assert!(gone.await.unwrap_err().is_cancelled());
    }
    call(&upstreams, &bob, echo(&profile, json!({}))).await;
    assert_eq!(upstreams.status()[0].circuit, "closed");
}

#[tokio::test]
async fn p32_one_broken_stream_is_one_failure_however_many_calls_it_carried() {
    let streams: Arc<Mutex<Vec<Sse>>> = Arc::default();
    let kept = Arc::clone(&streams);
    let mock = Mock::new(move |seen| {
        if seen.http == "GET" {
            let (sse, reply) = Sse::new();
            sse.raw("event: endpoint\ndata: /messages\n\n");
            kept.lock().unwrap().push(sse);
            return ready(reply);
        }
        if seen.method() == "initialize" {
            let said = json!({"protocolVersion": "2024-11-05", "capabilities": {"tools": {}}});
            kept.lock().unwrap().last().unwrap().result(&seen, said);
        }
        ready(empty(202))
    })
    .await;
    let upstreams = upstreams();
    let (target, profile) = (owner(&mock, "/sse", "user:alice"), legacy_client(json!({})));
    for round in 1..=5 {
        let mut calls = Vec::new();
        for _ in 0..10 {
            calls.push(upstreams.call(&target, echo(&profile, json!({}))).await.unwrap());
        }
        streams.lock().unwrap().clear();
        for call in &mut calls {
            assert!(matches!(finish(call).await.1, UpstreamReply::Failed(UpstreamError::Unavailable { .. })));
        }
        // A new handshake is a success: these failures are not in a row.
        assert_eq!(upstreams.status()[0].circuit, "closed", "round {round}");
    }
}

/// A legacy local server with further cases.
fn script(cases: &str) -> String {
    format!(
        r#"
say() {{ printf '%s\n' "$1"; }}
while IFS= read -r line; do
  id=$(printf '%s' "$line" | sed -n 's/.*"id":\([0-9]*\).*/\1/p')
  case "$line" in
    {cases}
    *'"initialize"'*) say '{{"jsonrpc":"2.0","id":'"$id"',"result":{{"protocolVersion":"2025-06-18","capabilities":{{"tools":{{}}}}}}}}' ;;
    *'"server/discover"'*) say '{{"jsonrpc":"2.0","id":'"$id"',"error":{{"code":-32601,"message":"?"}}}}' ;;
    *'"id":'*) say '{{"jsonrpc":"2.0","id":'"$id"',"result":{{"content":[],"tools":[],"pid":'"$$"'}}}}' ;;
  esac
done
"#
    )
}

fn local(dir: &Path, cases: &str, principal: &str) -> Target {
    let file = dir.join("server.sh");
    std::fs::write(&file, script(cases)).unwrap();
    let command = json!({"argv": ["/bin/sh", file.to_str().unwrap()], "sandbox": "none", "allow_unpinned": true});
    target_of(json!({"server_id": "local", "command": command}), principal)
}

#[tokio::test]
async fn g17_who_crashes_their_own_process_keeps_nobody_else_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let cases = r#"*'"crash"'*) read -r more; exit 7 ;; *'"hang"'*) ;;"#;
    let upstreams = upstreams_with(WireLimits { call_ms: 10_000, ..limits() }, Arc::new(SystemClock));
    let hostile = local(dir.path(), cases, "user:hostile");
    let bob = Target { principal: "user:bob".into(), caller: "user:bob".into(), ..hostile.clone() };
    let profile = legacy_client(json!({}));
    for _ in 0..3 {
        // Many calls in flight, one crash.
        let mut calls = Vec::new();
        for n in 0..12 {
            let arguments = if n == 10 { json!({"crash": 1}) } else { json!({"hang": 1}) };
            calls.extend(upstreams.call(&hostile, echo(&profile, arguments)).await.ok());
        }
        for call in &mut calls {
            assert!(matches!(finish(call).await.1, UpstreamReply::Failed(UpstreamError::Unavailable { .. })));
        }
    }
    let failed = upstreams.call(&hostile, echo(&profile, json!({}))).await.err().unwrap();
    assert!(failed.retry_after_s().is_some_and(|s| (2..=5).contains(&s)), "{failed}");
    let started = std::time::Instant::now();
    call(&upstreams, &bob, echo(&profile, json!({}))).await;
    assert!(started.elapsed() < Duration::from_millis(900), "the back-off is the other's");
    assert_eq!(upstreams.status()[0].circuit, "closed");
}

#[tokio::test]
async fn p32_parked_calls_of_one_leave_a_shared_server_to_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let cases = r#"*'"tools/call"'*) say '{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{"message":"?"}}' ;;"#;
    let upstreams = upstreams_with(WireLimits { call_ms: 5_000, ..limits() }, Arc::new(SystemClock));
    let server = local(dir.path(), cases, "shared");
    let profile = legacy_client(json!({"elicitation": {}}));
    let park = async |caller: &str| {
        let mut call = upstreams.call(&shared_by(&server, caller), echo(&profile, json!({}))).await?;
        assert!(matches!(call.next().await, UpstreamEvent::Ask(_)));
        Ok::<_, UpstreamError>(call)
    };
    let mut parked = vec![park("user:hostile").await.unwrap(), park("user:hostile").await.unwrap()];
    // Twenty more of the same wait, and take nothing from anybody.
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let (upstreams, target) = (upstreams.clone(), shared_by(&server, "user:hostile"));
            let profile = Arc::clone(&profile);
            tokio::spawn(async move { upstreams.call(&target, echo(&profile, json!({}))).await })
        })
        .collect();
    for n in 0..6 {
        for _ in 0..if n == 0 { 2 } else { 1 } {
            parked.push(park(&format!("user:{n}")).await.unwrap());
        }
    }
    assert_eq!(upstreams.status()[0].processes, 9);
    let list = upstreams.list(&shared_by(&server, "user:bob"), ListKind::Tools, &profile).await;
    assert!(list.is_ok());
    assert!(waiting.iter().all(|task| !task.is_finished()));
    // One of the hostile's own ends: one of its own goes on.
    drop(parked.remove(0));
    eventually(|| waiting.iter().filter(|task| task.is_finished()).count() == 1).await;
    assert_eq!(upstreams.status()[0].processes, 9);
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn p32_calls_of_one_leave_room_on_a_shared_connection() {
    let dir = tempfile::tempdir().unwrap();
    let upstreams = upstreams_with(WireLimits { call_ms: 20_000, ..limits() }, Arc::new(SystemClock));
    let server = local(dir.path(), r#"*'"hang"'*) ;;"#, "shared");
    let profile = legacy_client(json!({}));
    let mut hanging = Vec::new();
    let refused = loop {
        match upstreams.call(&shared_by(&server, "user:hostile"), echo(&profile, json!({"hang": 1}))).await {
            Ok(call) => hanging.push(call),
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused, UpstreamError::Crowded { .. }), "{refused}");
    assert!((32..=128).contains(&hanging.len()), "{}", hanging.len());
    call(&upstreams, &shared_by(&server, "user:bob"), echo(&profile, json!({}))).await;
    assert_eq!((upstreams.status()[0].processes, upstreams.status()[0].circuit), (1, "closed"));
}
