//! P32: remote servers that try to exhaust, to mislead, or to keep busy.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use bartizan_config::settings::WireLimits;
use bartizan_model::SystemClock;
use bartizan_upstream::{ListKind, UpstreamError, UpstreamReply, Upstreams};
use common::*;
use serde_json::json;

fn quick() -> Upstreams {
    upstreams_with(WireLimits { call_ms: 1_000, ..limits() }, Arc::new(SystemClock))
}

/// How one call ends, when it fails.
async fn failure(upstreams: &Upstreams, mock: &Mock) -> UpstreamError {
    match upstreams.call(&target(&mock.url("/mcp")), echo(&legacy_client(json!({})), json!({}))).await {
        Err(error) => error,
        Ok(mut call) => match finish(&mut call).await.1 {
            UpstreamReply::Failed(error) => error,
            other => panic!("{other:?}"),
        },
    }
}

#[tokio::test]
async fn p32_huge_and_many_headers_are_cut() {
    for (count, length) in [(1, 1 << 20), (2_000, 10), (100, 4_096)] {
        let mock = Mock::with(legacy, move |seen| {
            (seen.method() == "initialize").then(|| {
                let mut reply = result(seen, json!({"protocolVersion": "2025-11-25", "capabilities": {}}));
                for n in 0..count {
                    let name = if count == 1 { "mcp-session-id".to_owned() } else { format!("x-{n}") };
                    let name = http::HeaderName::try_from(name).unwrap();
                    reply.headers_mut().insert(name, "x".repeat(length).parse().unwrap());
                }
                ready(reply)
            })
        })
        .await;
        let error = failure(&quick(), &mock).await;
        assert!(matches!(error, UpstreamError::Unavailable { .. }), "{count} of {length}: {error}");
    }
}

#[tokio::test]
async fn p32_endless_comments_and_messages_for_nobody_end_in_time() {
    let floods = [
        ": x\n\n".to_owned(),
        "event: other\ndata: x\n\n".to_owned(),
        format!(
            "data: {}\n\n",
            json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 77_777, "progress": 1}})
        ),
        format!(
            "data: {}\n\n",
            json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "nobody's"}})
        ),
    ];
    for flood in floods {
        let mock = Mock::with(legacy, move |seen| {
            (seen.method() == "tools/call").then(|| {
                let (sse, reply) = Sse::new();
                let many = flood.repeat(100);
                tokio::spawn(async move {
                    while sse.raw(&many) {
                        tokio::time::sleep(Duration::from_micros(100)).await;
                    }
                });
                ready(reply)
            })
        })
        .await;
        let error = failure(&quick(), &mock).await;
        assert!(matches!(error, UpstreamError::Timeout), "{error}");
    }
}

#[tokio::test]
async fn p32_retry_at_once_and_never_are_bounded() {
    for (retry, least, most) in [("0", 2, 12), ("1000000000000000000", 0, 0), ("99999999999999999999999", 0, 2)] {
        let mock = Mock::with(legacy, move |seen| {
            (seen.http == "GET" || seen.method() == "tools/call").then(|| {
                let (sse, reply) = Sse::new();
                sse.raw(&format!("id: {}\nretry: {retry}\ndata:\n\n", seen.number));
                ready(reply)
            })
        })
        .await;
        let error = failure(&quick(), &mock).await;
        assert!(matches!(error, UpstreamError::Timeout), "{retry}: {error}");
        assert!((least..=most).contains(&mock.http("GET")), "{retry}: {}", mock.http("GET"));
    }
}

#[tokio::test]
async fn p32_streams_that_end_at_once_are_not_reopened_at_once() {
    for status in [200, 404] {
        let mock = Mock::with(legacy, move |seen| {
            (seen.http == "GET").then(|| {
                if status == 404 {
                    return ready(empty(404));
                }
                let (sse, reply) = Sse::new();
                sse.raw("retry: 0\ndata:\n\n");
                ready(reply)
            })
        })
        .await;
        let upstreams = upstreams();
        let _notes = upstreams.watch(&target(&mock.url("/mcp")));
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        // 0, 0.1, 0.3, 0.7, 1.5 s
        assert!((2..=8).contains(&mock.http("GET")), "{}", mock.http("GET"));
        assert!(mock.count("initialize") <= 8, "{}", mock.count("initialize"));
    }
}

#[tokio::test]
async fn p32_an_event_id_that_is_too_long_is_not_carried_around() {
    let mock = Mock::with(legacy, |seen| {
        (seen.method() == "tools/call").then(|| {
            let (sse, reply) = Sse::new();
            sse.raw(&format!("id: {}\nretry: 1\ndata:\n\n", "x".repeat(100_000)));
            ready(reply)
        })
    })
    .await;
    let error = failure(&quick(), &mock).await;
    assert!(matches!(error, UpstreamError::Unavailable { .. }), "{error}");
    assert_eq!(mock.http("GET"), 0);
}

#[tokio::test]
async fn p32_redirects_in_a_circle_end() {
    let mock = Mock::new(|_| {
        let mut reply = empty(307);
        reply.headers_mut().insert("location", "/mcp".parse().unwrap());
        ready(reply)
    })
    .await;
    let error = failure(&quick(), &mock).await;
    assert!(matches!(error, UpstreamError::Protocol { .. }), "{error}");
    assert!(mock.log().len() <= 10, "{}", mock.log().len());
}

#[tokio::test]
async fn p32_bodies_of_another_type_than_they_say_are_errors() {
    let message = json!({"jsonrpc": "2.0", "id": 1, "result": {}});
    for (kind, body) in [
        ("application/json", format!("data: {message}\n\n")),
        ("text/event-stream", message.to_string()),
        ("application/json", "\u{1f}\u{8b}\u{8}\u{0}".to_owned()),
        ("text/event-stream", "data: [[[[\n\n".to_owned()),
        ("application/json; charset=utf-16", "{\u{0}}\u{0}".to_owned()),
        ("application/jsonx", message.to_string()),
        ("", message.to_string()),
    ] {
        let sent = body.clone();
        let mock = Mock::with(modern, move |seen| {
            (seen.method() == "tools/call").then(|| ready(reply(200, kind, sent.clone())))
        })
        .await;
        let error = failure(&quick(), &mock).await;
        assert!(
            matches!(error, UpstreamError::Protocol { .. } | UpstreamError::Unavailable { .. }),
            "{kind} {body}: {error}"
        );
    }
}

#[tokio::test]
async fn p33_odd_times_to_live_are_taken_for_none_or_as_they_are() {
    for (ttl, want) in [
        (json!(-5), 0),
        (json!(1e300), 0),
        (json!("60000"), 0),
        (json!(null), 0),
        (json!(1_000_000_000_000_000_000_i64), 1_000_000_000_000_000_000),
        (json!(u64::MAX), 0),
    ] {
        let said = ttl.clone();
        let mock = Mock::with(modern, move |seen| match seen.method() {
            "tools/list" => Some(ready(result(seen, json!({"tools": [], "ttlMs": said})))),
            "server/discover" => {
                let discover =
                    json!({"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, "ttlMs": said});
                Some(ready(result(seen, discover)))
            }
            _ => None,
        })
        .await;
        let (upstreams, target, profile) = (quick(), target(&mock.url("/mcp")), legacy_client(json!({})));
        let list = upstreams.list(&target, ListKind::Tools, &profile).await.unwrap();
        assert_eq!(list.ttl_ms, Some(want), "{ttl}");
        upstreams.discover(&target, &profile).await.unwrap();
    }
}

#[tokio::test]
async fn p26_the_wait_a_server_asks_for_is_bounded() {
    for (after, want) in [("7", Some(7)), ("99999999999", Some(86_400)), ("-1", None), ("x", None)] {
        for status in [429, 503] {
            let mock = Mock::with(modern, move |seen| {
                (seen.method() == "tools/call").then(|| {
                    let mut reply = empty(status);
                    reply.headers_mut().insert("retry-after", after.parse().unwrap());
                    ready(reply)
                })
            })
            .await;
            assert_eq!(failure(&quick(), &mock).await.retry_after_s(), want, "{after}");
        }
    }
}
