//! O11: what one caller may have open; L7: and that it is counted.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails")]

mod support;

use bartizan_testkit::http::{Events, Reply};
use serde_json::json;
use support::stack::{BOB, Setup};
use support::{Client, LEGACY, World, eventually};

const FIX: &str = "servers/fix/mcp";

async fn listen(client: &Client) -> Reply {
    let filter = json!({"notifications": {"toolsListChanged": true}});
    client.modern(&json!(1), "subscriptions/listen", &filter).await
}

async fn opened(client: &Client) -> Events {
    let reply = listen(client).await;
    assert_eq!((reply.status, reply.is_events()), (200, true));
    reply.events()
}

async fn crowded(reply: Reply) {
    assert_eq!(reply.status, 429);
    assert_eq!(reply.header("retry-after"), Some("1"));
    assert_eq!(reply.json().await.unwrap()["error"]["data"]["code"], "rate_limited");
}

async fn opens_again(client: &Client) {
    for _ in 0..1_000 {
        if listen(client).await.status == 200 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("a place never came back");
}

#[tokio::test]
async fn o11_streams_of_one_caller_are_bounded_and_nobody_elses() {
    let world = World::with(Setup { streams_per_principal: 3, ..Setup::default() }).await;
    let alice = world.client(FIX);
    let session = Client::opened(world.url(FIX), alice.token).await;
    let mut streams = vec![opened(&alice).await, opened(&alice).await, session.stream(&[]).await.events()];
    crowded(listen(&alice).await).await;
    crowded(session.stream(&[]).await).await;
    let old = Client { url: world.url("servers/fix/sse"), session: None, ..alice.clone() };
    crowded(old.stream(&[]).await).await;
    // A second place to listen does not help, and others are not concerned.
    crowded(listen(&world.client("mcp")).await).await;
    let bob = Client { token: Some(BOB), ..alice.clone() };
    let _bobs = opened(&bob).await;
    // Whoever only listens can still call.
    let call = json!({"name": "test_simple_text", "arguments": {}});
    assert_eq!(alice.ask_modern("tools/call", call).await.0, 200);
    streams.pop();
    opens_again(&alice).await;
}

#[tokio::test]
async fn o11_calls_of_one_caller_are_bounded_before_they_are_forwarded() {
    let world = World::with(Setup { streams_per_principal: 1, ..Setup::default() }).await;
    let alice = world.client(FIX);
    let slow = json!({"name": "test_slow", "arguments": {"ms": 60_000}});
    let running = tokio::spawn({
        let (alice, slow) = (alice.clone(), slow.clone());
        async move { alice.modern(&json!(1), "tools/call", &slow).await.status }
    });
    eventually("the call arrived", || world.fixture.stats().of("tool:test_slow") == 1).await;
    crowded(alice.modern(&json!(2), "tools/call", &slow).await).await;
    let legacy = Client::opened(world.url(FIX), alice.token).await;
    crowded(legacy.legacy(&json!(3), "tools/call", &slow).await).await;
    assert_eq!(world.fixture.stats().of("tool:test_slow"), 1);
    assert_eq!(alice.ask_modern("tools/list", json!({})).await.0, 200);
    running.abort();
    eventually("it was cancelled", || world.fixture.stats().of("cancelled") == 1).await;
    let fast = json!({"name": "test_simple_text", "arguments": {}});
    for _ in 0..1_000 {
        if alice.modern(&json!(4), "tools/call", &fast).await.status == 200 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("a place never came back");
}

#[tokio::test]
async fn o11_anonymous_callers_are_bounded_by_address() {
    let trusted = vec!["127.0.0.0/8"];
    let world = World::with(Setup { streams_per_principal: 1, trusted, ..Setup::default() }).await;
    let open = Client::new(world.url("servers/open/mcp"), None);
    let from = async |address: &str| {
        let filter = json!({"notifications": {"toolsListChanged": true}});
        let body = support::modern_body(&json!(1), "subscriptions/listen", &filter, json!({}));
        let headers = support::modern_headers("subscriptions/listen", &filter);
        let mut all: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        all.push(("x-forwarded-for", address));
        open.post(&all, body.to_string()).await
    };
    let first = from("192.0.2.1").await;
    assert_eq!(first.status, 200);
    let _first = first.events();
    crowded(from("192.0.2.1").await).await;
    assert_eq!(from("192.0.2.2").await.status, 200);
}

#[tokio::test]
async fn o11_sessions_of_one_caller_push_out_only_its_own() {
    let world = World::with(Setup { sessions_per_principal: 3, ..Setup::default() }).await;
    let bob = Client::opened(world.url(FIX), Some(BOB)).await;
    let mut sessions = Vec::new();
    for _ in 0..8 {
        world.clock.advance_ms(1);
        sessions.push(Client::opened(world.url(FIX), world.client(FIX).token).await);
    }
    assert_eq!(world.portal.session_count(), 4);
    assert_eq!(bob.ask("ping", json!({})).await.0, 200);
    for (n, session) in sessions.iter().enumerate() {
        let status = session.legacy(&json!(1), "ping", &json!({})).await.status;
        assert_eq!(status, if n < 5 { 404 } else { 200 }, "{n}");
    }
    // All in use: then nobody is thrown out.
    let mut streams = Vec::new();
    for session in &sessions[5..] {
        streams.push(session.stream(&[]).await.events());
    }
    let mut late = world.client(FIX);
    let params = json!({"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "p", "version": "1"}});
    let body = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params});
    crowded(late.post(&[], body.to_string()).await).await;
    streams.pop();
    eventually("a session is idle again", || true).await;
    for _ in 0..1_000 {
        if late.post(&[], body.to_string()).await.status == 200 {
            late.initialize(LEGACY, &json!({})).await;
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("no session became idle");
}

#[tokio::test]
async fn l7_open_streams_and_authentications_are_counted() {
    let world = World::start().await;
    let alice = world.client(FIX);
    let session = Client::opened(world.url(FIX), alice.token).await;
    let old = Client { url: world.url("servers/fix/sse"), session: None, ..alice.clone() };
    let streams = (opened(&alice).await, session.stream(&[]).await.events(), old.stream(&[]).await.events());
    let line = |text: &str, line: &str| text.lines().any(|found| found == line);
    let text = world.metrics().await;
    assert!(line(&text, "bartizan_streams 3"), "{text}");
    assert!(line(&text, "bartizan_auth_user_total{result=\"ok\"} 5"), "{text}");
    drop(streams);
    for _ in 0..1_000 {
        if line(&world.metrics().await, "bartizan_streams 0") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let open = Client::new(world.url("servers/open/mcp"), None);
    assert_eq!(open.ask_modern("tools/list", json!({})).await.0, 200);
    assert_eq!(Client { token: None, ..alice.clone() }.ask_modern("tools/list", json!({})).await.0, 401);
    let wrong = Client { token: Some("wrong"), ..alice };
    assert_eq!(wrong.ask_modern("tools/list", json!({})).await.0, 401);
    let text = world.metrics().await;
    for expected in [
        "bartizan_streams 0",
        "bartizan_auth_user_total{result=\"anonymous\"} 1",
        "bartizan_auth_user_total{result=\"none\"} 1",
        "bartizan_auth_user_total{result=\"unknown\"} 1",
    ] {
        assert!(line(&text, expected), "{expected}: {text}");
    }
}
