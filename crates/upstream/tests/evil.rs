//! P31, P32: whole lists, and servers that stall, drip, lie or never end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bartizan_config::settings::WireLimits;
use bartizan_model::SystemClock;
use bartizan_upstream::{ListKind, UpstreamError, UpstreamReply, Upstreams};
use bytes::Bytes;
use common::*;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

#[tokio::test]
async fn p31_every_page_is_followed_in_order() {
    for (era, is_legacy) in [(legacy as fn(&Seen) -> Reply, true), (modern, false)] {
        let mock = Mock::with(era, |seen| {
            (seen.method() == "tools/list").then(|| {
                let page: usize =
                    seen.json["params"]["cursor"].as_str().map_or(0, |cursor| cursor[1..].parse().unwrap());
                let tools: Vec<Value> =
                    (0..50).map(|n| json!({"name": format!("t{}", page * 50 + n), "x": 1.0})).collect();
                let mut list =
                    json!({"tools": tools, "_meta": {"page": page}, "ttlMs": 100 * (page + 1), "cacheScope": "public"});
                if page < 2 {
                    list["nextCursor"] = json!(format!("c{}", page + 1));
                }
                ready(result(seen, list))
            })
        })
        .await;
        let (upstreams, target) = (upstreams(), target(&mock.url("/mcp")));
        for profile in [legacy_client(json!({})), modern_client(json!({}))] {
            let list = upstreams.list(&target, ListKind::Tools, &profile).await.unwrap();
            let names: Vec<String> =
                list.items.iter().map(|item| item.get("name").unwrap().as_string().unwrap().into_owned()).collect();
            assert_eq!(names, (0..150).map(|n| format!("t{n}")).collect::<Vec<_>>());
            assert_eq!(list.meta.unwrap().as_str(), "{\"page\":0}");
            assert!(list.items[0].as_str().contains("1.0"), "as received");
            assert_eq!((list.ttl_ms, list.private), if is_legacy { (None, true) } else { (Some(100), false) });
        }
    }
}

#[tokio::test]
async fn p31_all_kinds_and_undeclared_ones() {
    let mock = Mock::legacy().await;
    let (upstreams, target) = (upstreams(), target(&mock.url("/mcp")));
    let profile = legacy_client(json!({}));
    for kind in ListKind::ALL {
        let list = upstreams.list(&target, kind, &profile).await.unwrap();
        assert_eq!(list.items.len(), usize::from(kind == ListKind::Tools));
    }
    let mock = Mock::with(legacy, |seen| match seen.method() {
        "initialize" => {
            let mut reply = result(seen, json!({"protocolVersion": "2025-06-18", "capabilities": {"prompts": {}}}));
            reply.headers_mut().insert("mcp-session-id", "s".parse().unwrap());
            Some(ready(reply))
        }
        "prompts/list" => Some(ready(error(200, seen, -32601, None))),
        "tools/list" => Some(ready(result(seen, json!({"tools": [{"name": "undeclared"}]})))),
        _ => None,
    })
    .await;
    let target = common::target(&mock.url("/mcp"));
    assert_eq!(upstreams.list(&target, ListKind::Resources, &profile).await.unwrap().items.len(), 0);
    assert_eq!(mock.count("resources/list"), 0, "not declared, not asked");
    assert_eq!(upstreams.list(&target, ListKind::Prompts, &profile).await.unwrap().items.len(), 0);
    assert_eq!(upstreams.list(&target, ListKind::Tools, &profile).await.unwrap().items.len(), 1);
}

#[tokio::test]
async fn p31_circles_endless_lists_and_malformed_pages_end() {
    let circle: fn(&Seen) -> Value = |_| json!({"tools": [{"name": "t"}], "nextCursor": "again"});
    let endless: fn(&Seen) -> Value = |seen| json!({"tools": [], "nextCursor": seen.number.to_string()});
    let none: fn(&Seen) -> Value = |_| json!({"prompts": []});
    for (answer, protocol) in [(circle, true), (endless, false), (none, true)] {
        let mock =
            Mock::with(modern, move |seen| (seen.method() == "tools/list").then(|| ready(result(seen, answer(seen)))))
                .await;
        let limits = WireLimits { list_ms: 10_000, ..limits() };
        let upstreams = upstreams_with(limits, Arc::new(SystemClock));
        let failed =
            upstreams.list(&target(&mock.url("/mcp")), ListKind::Tools, &legacy_client(json!({}))).await.unwrap_err();
        assert_eq!(matches!(failed, UpstreamError::Protocol { .. }), protocol, "{failed}");
        assert!(mock.count("tools/list") <= 1000);
    }
}

#[tokio::test]
async fn p33_tools_with_unusable_annotations_are_dropped_from_modern_lists() {
    let tools = json!({"tools": [
        {"name": "good", "inputSchema": {"type": "object", "properties": {"a": {"type": "string", "x-mcp-header": "A"}}}},
        {"name": "bad", "inputSchema": {"type": "object", "properties": {"a": {"type": "number", "x-mcp-header": "A"}}}},
        {"name": "plain"},
    ]});
    for (era, want) in [(modern as fn(&Seen) -> Reply, 2), (legacy, 3)] {
        let tools = tools.clone();
        let mock =
            Mock::with(era, move |seen| (seen.method() == "tools/list").then(|| ready(result(seen, tools.clone()))))
                .await;
        let list =
            upstreams().list(&target(&mock.url("/mcp")), ListKind::Tools, &legacy_client(json!({}))).await.unwrap();
        assert_eq!(list.items.len(), want);
    }
}

/// A raw server: reads a request, then does as `act` says.
async fn raw_server<F, Fut>(act: F) -> String
where
    F: Fn(tokio::net::TcpStream, usize) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut number = 0;
        while let Ok((mut tcp, _)) = listener.accept().await {
            number += 1;
            let mut buffer = [0; 8192];
            let _ = tcp.read(&mut buffer).await;
            tokio::spawn(act(tcp, number));
        }
    });
    format!("http://{addr}/mcp")
}

fn quick() -> Upstreams {
    upstreams_with(WireLimits { list_ms: 500, call_ms: 500, ..limits() }, Arc::new(SystemClock))
}

async fn list_fails(upstreams: &Upstreams, url: &str) -> UpstreamError {
    let started = Instant::now();
    let failed = upstreams.list(&target(url), ListKind::Tools, &legacy_client(json!({}))).await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(5), "not bounded: {failed}");
    failed
}

#[tokio::test]
async fn p32_stalled_dripping_resetting_and_endless_servers_end_in_time() {
    let stall = raw_server(|tcp, _| async move {
        std::future::pending::<()>().await;
        drop(tcp);
    })
    .await;
    let stalled_body = raw_server(|mut tcp, _| async move {
        let _ =
            tcp.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{").await;
        std::future::pending::<()>().await;
    })
    .await;
    let drip = raw_server(|mut tcp, _| async move {
        let _ =
            tcp.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n").await;
        while tcp.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let drip_sse = raw_server(|mut tcp, _| async move {
        let _ = tcp.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n").await;
        while tcp.write_all(b": keep-alive\n\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    for url in [&stall, &stalled_body, &drip, &drip_sse] {
        assert!(matches!(list_fails(&quick(), url).await, UpstreamError::Timeout));
    }
    let reset = raw_server(|tcp, _| async move { drop(tcp) }).await;
    let nonsense = raw_server(|mut tcp, _| async move { drop(tcp.write_all(b"SSH-2.0-x\r\n\r\n").await) }).await;
    for url in [&reset, &nonsense] {
        assert!(matches!(list_fails(&quick(), url).await, UpstreamError::Unavailable { .. }));
    }
}

#[tokio::test]
async fn p32_oversize_bodies_events_and_drips_of_data_are_cut() {
    let endless_json = |seen: &Seen| {
        (seen.method() == "tools/call").then(|| {
            let (sender, reply) = piecewise("application/json");
            tokio::spawn(async move {
                while sender.send(Bytes::from(vec![b' '; 65536])).is_ok() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            });
            ready(reply)
        })
    };
    let endless_event = |seen: &Seen| {
        (seen.method() == "tools/call").then(|| {
            let (sse, reply) = Sse::new();
            tokio::spawn(async move {
                while sse.raw(&format!("data: {}\n", "x".repeat(65536))) {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            });
            ready(reply)
        })
    };
    for era in [legacy as fn(&Seen) -> Reply, modern] {
        for mock in [Mock::with(era, endless_json).await, Mock::with(era, endless_event).await] {
            let upstreams = upstreams();
            let mut call =
                upstreams.call(&target(&mock.url("/mcp")), echo(&legacy_client(json!({})), json!({}))).await.unwrap();
            assert!(matches!(finish(&mut call).await.1, UpstreamReply::Failed(UpstreamError::TooLarge)));
        }
    }
}

#[tokio::test]
async fn p32_lies_about_ids_and_shapes_are_protocol_errors() {
    let lies: [fn(&Seen) -> Reply; 8] = [
        |_| json_reply(200, &json!({"jsonrpc": "2.0", "id": 999_999, "result": {}})),
        |seen| json_reply(200, &json!({"jsonrpc": "2.0", "id": seen.id().to_string(), "result": {}})),
        |_| json_reply(200, &json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {}})),
        |seen| json_reply(200, &json!({"jsonrpc": "1.0", "id": seen.id(), "result": {}})),
        |seen| json_reply(200, &json!({"jsonrpc": "2.0", "id": seen.id()})),
        |_| reply(200, "application/json", "{\"jsonrpc\":\"2.0\",\"id\":1,\"id\":2,\"result\":{}}"),
        |_| reply(200, "application/json", format!("{}1{}", "[".repeat(200), "]".repeat(200))),
        |_| reply(200, "text/html", "<html>"),
    ];
    for (at, lie) in lies.into_iter().enumerate() {
        for era in [legacy as fn(&Seen) -> Reply, modern] {
            let mock = Mock::with(era, move |seen| (seen.method() == "tools/call").then(|| ready(lie(seen)))).await;
            let upstreams = upstreams();
            let failed =
                match upstreams.call(&target(&mock.url("/mcp")), echo(&legacy_client(json!({})), json!({}))).await {
                    Err(failed) => failed,
                    Ok(mut call) => match finish(&mut call).await.1 {
                        UpstreamReply::Failed(failed) => failed,
                        other => panic!("{at}: {other:?}"),
                    },
                };
            assert!(matches!(failed, UpstreamError::Protocol { .. }), "{at}: {failed}");
        }
    }
}

#[tokio::test]
async fn p32_the_circuit_opens_after_five_failures_and_spares_the_server() {
    let mock = Mock::with(modern, |seen| (seen.method() != "server/discover").then(|| ready(empty(500)))).await;
    let healthy = Mock::modern().await;
    let upstreams = upstreams();
    let (bad, profile) = (target(&mock.url("/mcp")), legacy_client(json!({})));
    let good = target_of(json!({"server_id": "good", "hostname": healthy.url("/mcp")}), "user:alice");
    for _ in 0..5 {
        let failed = upstreams.call(&bad, echo(&profile, json!({}))).await.err().unwrap();
        assert!(matches!(failed, UpstreamError::Unavailable { .. }), "{failed}");
    }
    let before = mock.log().len();
    for _ in 0..10 {
        let failed = upstreams.call(&bad, echo(&profile, json!({}))).await.err().unwrap();
        assert!(matches!(failed, UpstreamError::CircuitOpen { retry_after_s: 1..=31 }), "{failed}");
        assert!(matches!(
            upstreams.list(&bad, ListKind::Tools, &profile).await,
            Err(UpstreamError::CircuitOpen { .. })
        ));
    }
    assert_eq!(mock.log().len(), before, "nothing is sent while it is open");
    call(&upstreams, &good, echo(&profile, json!({}))).await;
    assert_eq!(upstreams.status().iter().map(|s| s.circuit).collect::<Vec<_>>(), ["closed", "open"]);
}

#[tokio::test]
async fn p32_one_slow_tool_does_not_open_the_circuit() {
    let mock = Mock::with(modern, |seen| {
        (seen.method() == "tools/call").then(|| -> Replying { Box::pin(std::future::pending()) })
    })
    .await;
    let upstreams = upstreams_with(WireLimits { call_ms: 50, ..limits() }, Arc::new(SystemClock));
    let (target, profile) = (target(&mock.url("/mcp")), legacy_client(json!({})));
    for _ in 0..8 {
        assert!(matches!(upstreams.call(&target, echo(&profile, json!({}))).await.err(), Some(UpstreamError::Timeout)));
    }
    assert_eq!(upstreams.status()[0].circuit, "closed");
    upstreams.list(&target, ListKind::Tools, &profile).await.unwrap();
}

#[tokio::test]
async fn p32_a_flood_of_pings_and_questions_is_bounded() {
    let concurrent = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let (now, peak) = (Arc::clone(&concurrent), Arc::clone(&most));
    let mock = Mock::with(legacy, move |seen| {
        if seen.method() == "tools/call" {
            let (sse, reply) = Sse::new();
            for n in 0..2000 {
                sse.message(&json!({"jsonrpc": "2.0", "id": n, "method": if n % 2 == 0 { "ping" } else { "sampling/createMessage" }, "params": {}}));
            }
            sse.result(seen, json!({"content": []}));
            return Some(ready(reply));
        }
        if seen.json.get("result").is_some() || seen.json.get("error").is_some() {
            let (now, peak) = (Arc::clone(&now), Arc::clone(&peak));
            return Some(Box::pin(async move {
                peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(20)).await;
                now.fetch_sub(1, Ordering::SeqCst);
                empty(202)
            }));
        }
        None
    })
    .await;
    let upstreams = upstreams();
    let mut call =
        upstreams.call(&target(&mock.url("/mcp")), echo(&legacy_client(json!({})), json!({}))).await.unwrap();
    assert!(matches!(finish(&mut call).await.1, UpstreamReply::Result(_)));
    eventually(|| concurrent.load(Ordering::SeqCst) == 0).await;
    assert!(most.load(Ordering::SeqCst) <= 16, "{most:?}");
}

#[tokio::test]
async fn p32_unexpected_compression_is_refused() {
    let mock = Mock::with(modern, |seen| {
        (seen.method() == "tools/call").then(|| {
            let mut reply = result(seen, json!({}));
            reply.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
            ready(reply)
        })
    })
    .await;
    let failed = upstreams().call(&target(&mock.url("/mcp")), echo(&legacy_client(json!({})), json!({}))).await;
    assert!(matches!(failed.err(), Some(UpstreamError::Protocol { .. })));
}

#[tokio::test]
async fn p32_after_thirty_seconds_one_attempt_decides() {
    let sick = Arc::new(AtomicUsize::new(1));
    let switch = Arc::clone(&sick);
    let mock = Mock::with(modern, move |seen| {
        (seen.method() == "tools/call" && switch.load(Ordering::SeqCst) == 1).then(|| ready(empty(503)))
    })
    .await;
    let upstreams = upstreams();
    let (target, profile) = (target(&mock.url("/mcp")), legacy_client(json!({})));
    for _ in 0..5 {
        assert!(upstreams.call(&target, echo(&profile, json!({}))).await.is_err());
    }
    let pass = async || {
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(31)).await;
        tokio::time::resume();
    };
    pass().await;
    assert_eq!(upstreams.status()[0].circuit, "half_open");
    assert!(upstreams.call(&target, echo(&profile, json!({}))).await.is_err());
    assert!(matches!(
        upstreams.call(&target, echo(&profile, json!({}))).await.err(),
        Some(UpstreamError::CircuitOpen { .. })
    ));
    assert_eq!(mock.count("tools/call"), 6);
    sick.store(0, Ordering::SeqCst);
    pass().await;
    for _ in 0..3 {
        call(&upstreams, &target, echo(&profile, json!({}))).await;
    }
    assert_eq!(upstreams.status()[0].circuit, "closed");
}

#[tokio::test]
async fn p32_an_oversize_introduction_is_not_kept() {
    let mock = Mock::with(legacy, |seen| {
        let said = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "x": "y".repeat(2 << 20)});
        (seen.method() == "initialize").then(|| ready(result(seen, said)))
    })
    .await;
    let big = WireLimits { upstream_body: 16 << 20, ..limits() };
    let upstreams = upstreams_with(big, Arc::new(SystemClock));
    let failed = upstreams.call(&target(&mock.url("/mcp")), echo(&legacy_client(json!({})), json!({}))).await;
    assert!(matches!(failed.err(), Some(UpstreamError::TooLarge)));
}

#[tokio::test]
async fn p4_a_call_cannot_set_other_headers() {
    let mock = Mock::modern().await;
    let upstreams = upstreams();
    let mut request = echo(&modern_client(json!({})), json!({}));
    request.param_headers = ["authorization", "mcp-method", "mcp-param-ok"]
        .map(|name| (http::HeaderName::from_static(name), http::HeaderValue::from_static("x")))
        .into();
    call(&upstreams, &target(&mock.url("/mcp")), request).await;
    let seen = &mock.seen("tools/call")[0];
    assert_eq!(seen.header("authorization"), None);
    assert_eq!((seen.header("mcp-method"), seen.header("mcp-param-ok")), (Some("tools/call"), None));
}
