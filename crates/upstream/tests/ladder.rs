//! P8: which transport is tried at which URL, and what lets the next one be tried.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::sync::{Arc, Mutex};

use bartizan_upstream::UpstreamError;
use common::*;
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// A legacy HTTP+SSE server at `path`; everything else answers `other`.
async fn sse_server(path: &'static str, endpoint: &'static str, other: u16) -> Mock {
    let stream: Arc<Mutex<Option<Sse>>> = Arc::default();
    Mock::new(move |seen| {
        if seen.http == "GET" && seen.path == path {
            let (sse, reply) = Sse::new();
            sse.raw(&format!("event: endpoint\ndata: {endpoint}\n\n"));
            *stream.lock().unwrap() = Some(sse);
            return ready(reply);
        }
        if seen.http == "POST" && seen.path.starts_with("/messages") {
            if !seen.id().is_null() {
                let answer = answer(&seen);
                stream.lock().unwrap().as_ref().unwrap().message(&answer);
            }
            return ready(empty(202));
        }
        ready(empty(other))
    })
    .await
}

/// What the legacy mock would have answered.
fn answer(seen: &Seen) -> Value {
    let result = match seen.method() {
        "initialize" => {
            json!({"protocolVersion": "2024-11-05", "capabilities": {"tools": {}, "resources": {"subscribe": true}}})
        }
        "tools/call" => json!({"content": [], "echo": seen.json["params"]["arguments"]}),
        "tools/list" => json!({"tools": []}),
        _ => json!({}),
    };
    json!({"jsonrpc": "2.0", "id": seen.id(), "result": result})
}

async fn try_call(url: &str) -> Result<Value, UpstreamError> {
    let upstreams = upstreams();
    let mut call = upstreams.call(&target(url), echo(&legacy_client(json!({})), json!({"n": 1}))).await?;
    Ok(value(finish(&mut call).await.1))
}

#[tokio::test]
async fn p8_each_place_of_the_ladder_is_found() {
    // (configured path, where the server is, transport)
    for (configured, at, sse) in [
        ("/mcp", "/mcp", false),
        ("/a/mcp", "/a/mcp", false),
        ("/sse", "/sse", true),
        ("/a/sse", "/a/sse", true),
        ("/", "/", false),
        ("/base", "/base", false),
        ("/base", "/base", true),
        ("/base", "/base/mcp", false),
        ("/base/", "/base/mcp", false),
        ("/base", "/base/sse", true),
        ("", "/mcp", false),
        ("", "/sse", true),
    ] {
        let mock = if sse {
            sse_server(at, "/messages?session=1", 404).await
        } else {
            Mock::with(legacy, move |seen| (seen.path != at).then(|| ready(empty(404)))).await
        };
        let got = try_call(&mock.url(configured)).await;
        assert!(got.is_ok(), "{configured} -> {at}: {got:?}");
    }
}

#[tokio::test]
async fn p8_fixed_endings_try_nothing_else() {
    let mock = sse_server("/sse", "/messages", 404).await;
    assert!(matches!(try_call(&mock.url("/x/mcp")).await, Err(UpstreamError::Refused { .. })));
    assert_eq!(mock.http("GET"), 0);
    let mock = Mock::with(legacy, |seen| (seen.path != "/mcp").then(|| ready(empty(404)))).await;
    assert!(matches!(try_call(&mock.url("/sse")).await, Err(UpstreamError::Refused { .. })));
    assert_eq!(mock.http("POST"), 0);
}

#[tokio::test]
async fn p8_only_these_statuses_advance() {
    for (status, advances) in [
        (400, true),
        (404, true),
        (405, true),
        (406, true),
        (401, false),
        (403, false),
        (410, false),
        (422, false),
        (429, false),
        (500, false),
        (502, false),
    ] {
        let mock = sse_server("/base", "/messages", status).await;
        let got = try_call(&mock.url("/base")).await;
        assert_eq!(got.is_ok(), advances, "HTTP {status}: {got:?}");
        assert_eq!(mock.http("GET") > 0, advances, "HTTP {status}");
    }
}

#[tokio::test]
async fn p8_a_modern_error_in_the_body_does_not_advance() {
    for code in [-32020, -32021, -32022] {
        let mock = Mock::new(move |seen| match seen.method() {
            "server/discover" => ready(error(404, &seen, -32601, None)),
            "initialize" => ready(error(400, &seen, code, None)),
            _ => ready(empty(404)),
        })
        .await;
        assert!(try_call(&mock.url("/base")).await.is_err());
        assert_eq!(mock.http("GET"), 0, "{code}");
    }
}

#[tokio::test]
async fn p8_the_endpoint_must_be_on_the_same_origin() {
    let other = Mock::legacy().await;
    let foreign: &'static str = other.url("/messages").leak();
    for endpoint in [foreign, "http://127.0.0.2/messages", "//evil.example/messages", "https://evil.example/"] {
        let mock = sse_server("/sse", endpoint, 404).await;
        let failed = try_call(&mock.url("/sse")).await.unwrap_err();
        assert!(matches!(failed, UpstreamError::Blocked { .. }), "{endpoint}: {failed}");
    }
    for endpoint in ["javascript:alert(1)", "file:///etc/passwd", ""] {
        let mock = sse_server("/sse", endpoint, 404).await;
        assert!(try_call(&mock.url("/sse")).await.is_err(), "{endpoint}");
    }
    assert!(other.log().is_empty(), "nothing may be sent to another origin");
}

#[tokio::test]
async fn p8_relative_and_absolute_endpoints_of_the_same_origin_work() {
    for endpoint in ["/messages", "messages?x=1"] {
        let mock = sse_server("/sse", endpoint, 404).await;
        assert_eq!(try_call(&mock.url("/sse")).await.unwrap()["echo"]["n"], 1, "{endpoint}");
    }
}

#[tokio::test]
async fn p8_a_stream_without_endpoint_fails_in_time() {
    let keep = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&keep);
    let mock = Mock::new(move |_| {
        let (sse, reply) = Sse::new();
        sse.raw(": nothing yet\n\n");
        kept.lock().unwrap().push(sse);
        ready(reply)
    })
    .await;
    assert!(matches!(try_call(&mock.url("/sse")).await, Err(UpstreamError::Timeout)));
}

#[tokio::test]
async fn p8_one_stream_serves_many_calls_and_a_broken_one_is_replaced() {
    let streams: Arc<Mutex<Vec<Sse>>> = Arc::default();
    let all = Arc::clone(&streams);
    let mock = Mock::new(move |seen| {
        if seen.http == "GET" {
            let (sse, reply) = Sse::new();
            sse.raw("event: endpoint\ndata: /messages\n\n");
            all.lock().unwrap().push(sse);
            return ready(reply);
        }
        if !seen.id().is_null() {
            all.lock().unwrap().last().unwrap().message(&answer(&seen));
        }
        ready(empty(202))
    })
    .await;
    let (upstreams, target) = (upstreams(), target(&mock.url("/sse")));
    let profile = legacy_client(json!({}));
    let calls = (0..20).map(|n| {
        let (upstreams, target, profile) = (upstreams.clone(), target.clone(), Arc::clone(&profile));
        async move {
            assert_eq!(call(&upstreams, &target, echo(&profile, json!({"n": n}))).await["echo"]["n"], n);
        }
    });
    futures_util::future::join_all(calls).await;
    assert_eq!((mock.http("GET"), mock.count("initialize")), (1, 1));
    assert_eq!(upstreams.status()[0].transport, "http_sse");
    // The stream breaks: the next call opens another one.
    streams.lock().unwrap().clear();
    eventually(|| upstreams.status()[0].sessions == 0 || mock.http("GET") > 1).await;
    call(&upstreams, &target, echo(&profile, json!({}))).await;
    assert_eq!((mock.http("GET"), mock.count("initialize")), (2, 2));
}

#[tokio::test]
async fn p7_redirects_within_the_origin_are_followed_while_probing_and_no_others() {
    let mock = Mock::with(legacy, |seen| {
        (seen.path == "/mcp").then(|| {
            let mut reply = empty(307);
            reply.headers_mut().insert("location", "/real/".parse().unwrap());
            ready(reply)
        })
    })
    .await;
    assert!(try_call(&mock.url("/mcp")).await.is_ok());
    let inside = Mock::legacy().await;
    let to = inside.url("/mcp");
    let mock = Mock::new(move |_| {
        let mut reply = empty(308);
        reply.headers_mut().insert("location", to.parse().unwrap());
        ready(reply)
    })
    .await;
    assert!(matches!(try_call(&mock.url("/mcp")).await, Err(UpstreamError::Blocked { .. })));
    assert!(inside.log().is_empty());
}

#[tokio::test]
async fn p35_single_channel_carries_one_call_at_a_time_when_the_server_may_ask() {
    // Each stream has its own endpoint, so that answers find their way.
    let streams: Arc<Mutex<Vec<Sse>>> = Arc::default();
    let (started, mut starts) = mpsc::unbounded_channel::<(usize, Value)>();
    let all = Arc::clone(&streams);
    let mock = Mock::new(move |seen| {
        if seen.http == "GET" {
            let (sse, reply) = Sse::new();
            let mut all = all.lock().unwrap();
            sse.raw(&format!("event: endpoint\ndata: /messages/{}\n\n", all.len()));
            all.push(sse);
            return ready(reply);
        }
        let at: usize = seen.path.trim_start_matches("/messages/").parse().unwrap();
        match seen.method() {
            "tools/call" => started.send((at, seen.id())).unwrap(),
            _ if seen.id().is_null() => {}
            _ => drop(all.lock().unwrap()[at].message(&answer(&seen))),
        }
        ready(empty(202))
    })
    .await;
    let (upstreams, target) = (upstreams(), target(&mock.url("/sse")));
    let profile = legacy_client(json!({"sampling": {}}));
    let running: Vec<_> = (0..6)
        .map(|n| {
            let (upstreams, target, profile) = (upstreams.clone(), target.clone(), Arc::clone(&profile));
            tokio::spawn(async move { call(&upstreams, &target, echo(&profile, json!({"n": n}))).await })
        })
        .collect();
    // Four connections, the cap, are filled with one call each; two calls wait.
    let mut busy = Vec::new();
    for _ in 0..4 {
        busy.push(starts.recv().await.unwrap());
    }
    let mut places: Vec<_> = busy.iter().map(|(at, _)| *at).collect();
    places.sort_unstable();
    assert_eq!(places, [0, 1, 2, 3]);
    assert!(starts.try_recv().is_err(), "a fifth call must wait");
    let finish = |(at, id): (usize, Value)| {
        streams.lock().unwrap()[at].message(&json!({"jsonrpc": "2.0", "id": id, "result": {"content": []}}));
    };
    let first = busy.remove(0);
    let freed = first.0;
    finish(first);
    let next = starts.recv().await.unwrap();
    assert_eq!(next.0, freed, "the freed connection is used");
    busy.push(next);
    busy.drain(..).for_each(&finish);
    finish(starts.recv().await.unwrap());
    for task in running {
        task.await.unwrap();
    }
    assert_eq!(mock.count("initialize"), 4);
}
