//! Row O3: going down in order, as clients see it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails")]

mod support;

use std::time::Duration;

use bartizan_portal::Phase;
use serde_json::json;
use support::stack::{ALICE, Setup};
use support::{Client, World, eventually, until};

fn setup() -> Setup {
    Setup { drain_wait_ms: 300, drain_deadline_ms: 3_000, ..Setup::default() }
}

#[tokio::test]
async fn o3_requests_end_streams_say_retry_and_nothing_new_is_accepted() {
    let world = World::with(setup()).await;
    let client = Client::opened(world.url("servers/fix/mcp"), Some(ALICE)).await;
    let mut get = client.stream(&[]).await.events();
    let filter = json!({"notifications": {"toolsListChanged": true}});
    let mut listen =
        world.client("servers/fix/mcp").modern(&json!("l"), "subscriptions/listen", &filter).await.events();
    let slow = tokio::spawn({
        let client = client.clone();
        let params = json!({"name": "test_slow", "arguments": {"ms": 1_000}});
        async move { client.ask("tools/call", params).await }
    });
    eventually("the call arrived", || world.fixture.stats().of("tool:test_slow") == 1).await;
    let portal = world.portal.clone();
    let draining = tokio::spawn(async move { portal.drain().await });
    eventually("leaving", || world.drain.phase() == Phase::Leaving).await;
    // Still served, but asked to go elsewhere.
    let reply = client.legacy(&json!(1), "ping", &json!({})).await;
    assert_eq!((reply.status, reply.header("connection")), (200, Some("close")));
    assert_eq!(slow.await.unwrap().1["result"]["content"][0]["text"], "waited 1000 ms");
    let mut retry = None;
    while let Some(event) = get.next().await.unwrap() {
        retry = retry.or(event.retry);
    }
    assert!(retry.is_some(), "the GET stream ended without retry");
    let done = until(&mut listen, |m| m["id"] == "l").await;
    assert_eq!(done["result"]["resultType"], "complete");
    assert_eq!(done["result"]["_meta"]["io.modelcontextprotocol/subscriptionId"], "l");
    assert!(listen.next().await.unwrap().is_none());
    assert!(draining.await.unwrap());
    assert_eq!(world.drain.connections(), 0);
    assert!(tokio::net::TcpStream::connect(&world.address).await.is_err());
}

#[tokio::test]
async fn o3_calls_that_do_not_end_are_told_at_the_deadline() {
    let world =
        World::with(Setup { drain_deadline_ms: 500, drain_wait_ms: 10, head_hold_ms: Some(50), ..setup() }).await;
    let params = json!({"name": "test_slow", "arguments": {"ms": 60_000}});
    let legacy = Client::opened(world.url("servers/fix/mcp"), Some(ALICE)).await;
    let mut one = legacy.legacy(&json!(1), "tools/call", &params).await.events();
    let mut two = world.client("servers/fix/mcp").modern(&json!(2), "tools/call", &params).await.events();
    eventually("both arrived", || world.fixture.stats().of("tool:test_slow") == 2).await;
    let portal = world.portal.clone();
    let draining = tokio::spawn(async move { portal.drain().await });
    for (events, id) in [(&mut one, 1), (&mut two, 2)] {
        let answer = until(events, |m| m["id"] == id).await;
        assert_eq!(answer["error"]["code"], -32603, "{answer}");
    }
    assert!(!draining.await.unwrap());
}

#[tokio::test]
async fn o3_an_idle_keep_alive_connection_does_not_hold_it_up() {
    let world = World::with(Setup { drain_wait_ms: 10, ..setup() }).await;
    let client = world.client("servers/fix/mcp");
    assert_eq!(client.ask_modern("tools/list", json!({})).await.0, 200);
    eventually("an open connection", || world.drain.connections() > 0).await;
    let started = std::time::Instant::now();
    assert!(world.portal.drain().await);
    assert!(started.elapsed() < Duration::from_secs(3), "it waited for the deadline");
}
