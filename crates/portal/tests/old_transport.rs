//! Row P8, downstream: HTTP+SSE of 2024-11-05, and the metadata of endpoints.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails")]

mod support;

use bartizan_testkit::http::Events;
use http::Method;
use serde_json::{Value, json};
use support::stack::{ALICE, BOB, Setup};
use support::{Client, World, eventually, until};

/// A client of the old transport.
struct Old {
    stream: Events,
    post: Client,
}

impl Old {
    async fn connect(world: &World, path: &str, token: &'static str) -> Self {
        let client = Client::new(world.url(path), Some(token));
        let reply = client.stream(&[]).await;
        assert_eq!((reply.status, reply.is_events()), (200, true));
        let mut stream = reply.events();
        let first = stream.next().await.unwrap().unwrap();
        assert_eq!(first.name.as_deref(), Some("endpoint"));
        let target = first.data.unwrap();
        assert!(target.starts_with(&format!("/{path}?sessionId=")), "{target}");
        Self { stream, post: Client::new(format!("{}{target}", world.base), Some(token)) }
    }

    async fn send(&self, message: &Value) -> u16 {
        self.post.post(&[], message.to_string()).await.status
    }

    async fn ask(&mut self, method: &str, params: Value) -> Value {
        let message = json!({"jsonrpc": "2.0", "id": method, "method": method, "params": params});
        assert_eq!(self.send(&message).await, 202);
        until(&mut self.stream, |message| message["id"] == method).await
    }

    async fn initialize(&mut self, version: &str) -> Value {
        let params = json!({"protocolVersion": version, "capabilities": {"elicitation": {}},
            "clientInfo": {"name": "old", "version": "0"}});
        let answer = self.ask("initialize", params).await;
        assert_eq!(self.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await, 202);
        answer
    }
}

#[tokio::test]
async fn p8_old_clients_are_served_on_one_stream() {
    let world = World::start().await;
    for (path, prefix) in [("sse", "fix_"), ("servers/fix/sse", "")] {
        let mut old = Old::connect(&world, path, ALICE).await;
        let answer = old.initialize("2024-11-05").await;
        assert_eq!(answer["result"]["protocolVersion"], "2024-11-05");
        assert!(old.ask("tools/list", json!({})).await["result"]["tools"].as_array().unwrap().len() > 5);
        let params = json!({"name": format!("{prefix}test_tool_with_progress"), "arguments": {}, "_meta": {"progressToken": "t"}});
        let call = json!({"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": params});
        assert_eq!(old.send(&call).await, 202);
        let note = until(&mut old.stream, |message| message["params"]["progressToken"] == "t").await;
        assert_eq!(note["method"], "notifications/progress");
        let answer = until(&mut old.stream, |message| message["id"] == 5).await;
        assert!(answer["result"]["content"].is_array());
    }
}

#[tokio::test]
async fn p8_questions_and_notes_come_on_the_stream() {
    let world = World::start().await;
    let mut old = Old::connect(&world, "servers/fix/sse", ALICE).await;
    old.initialize("2025-03-26").await;
    let params = json!({"name": "test_elicitation", "arguments": {"message": "who?"}});
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
    assert_eq!(old.send(&call).await, 202);
    let question = until(&mut old.stream, |message| message["method"] == "elicitation/create").await;
    let answer = json!({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "decline"}});
    assert_eq!(old.send(&answer).await, 202);
    until(&mut old.stream, |message| message["id"] == 1 && message.get("result").is_some()).await;
    world.wait_for_listeners(1).await;
    let change = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call",
        "params": {"name": "test_trigger_tool_change", "arguments": {}}});
    assert_eq!(old.send(&change).await, 202);
    until(&mut old.stream, |message| message["method"] == "notifications/tools/list_changed").await;
    let batch = json!([{"jsonrpc": "2.0", "id": 8, "method": "ping"}, {"jsonrpc": "2.0", "id": 9, "method": "ping"}]);
    assert_eq!(old.send(&batch).await, 202);
    until(&mut old.stream, |message| message["id"] == 9).await;
}

#[tokio::test]
async fn p8_the_session_is_its_owners_and_ends_with_its_stream() {
    let world = World::start().await;
    let mut old = Old::connect(&world, "servers/fix/sse", ALICE).await;
    old.initialize("2024-11-05").await;
    let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"});
    let thief = Client { token: Some(BOB), ..old.post.clone() };
    assert_eq!(thief.post(&[], ping.to_string()).await.status, 404);
    let nobody = Client { token: None, ..old.post.clone() };
    assert_eq!(nobody.post(&[], ping.to_string()).await.status, 401);
    // The id is not one of the other transport.
    let id = old.post.url.split("sessionId=").nth(1).unwrap().to_owned();
    let other = Client { session: Some(id.clone()), ..world.client("servers/fix/mcp") };
    assert_eq!(other.post(&[], ping.to_string()).await.status, 404);
    let elsewhere = Client { url: old.post.url.replace("servers/fix/sse", "sse"), ..old.post.clone() };
    assert_eq!(elsewhere.post(&[], ping.to_string()).await.status, 404);
    for (query, expected) in [("", 400), ("?sessionId=", 404), ("?sessionId=x", 404), ("?other=1", 400)] {
        let client = world.client(&format!("servers/fix/sse{query}"));
        assert_eq!(client.post(&[], ping.to_string()).await.status, expected, "{query}");
    }
    for bad in ["", "{", "[]", "7"] {
        assert_eq!(old.post.post(&[], bad).await.status, 400, "{bad}");
    }
    assert_eq!(old.send(&ping).await, 202);
    assert_eq!(world.portal.session_count(), 1);
    let post = old.post.clone();
    drop(old);
    eventually("the session ended", || world.portal.session_count() == 0).await;
    assert_eq!(post.post(&[], ping.to_string()).await.status, 404);
}

#[tokio::test]
async fn p8_unauthenticated_and_forbidden() {
    let world = World::start().await;
    let nobody = Client::new(world.url("servers/fix/sse"), None);
    let reply = nobody.stream(&[]).await;
    assert_eq!(reply.status, 401);
    assert!(reply.header("www-authenticate").unwrap().contains("/servers/fix/mcp"));
    assert_eq!(world.client("servers/hidden/sse").stream(&[]).await.status, 404);
    assert_eq!(world.client("servers/fix/sse").send(Method::DELETE, &[], "").await.status, 405);
    assert_eq!(
        world.client("servers/fix/sse").send(Method::GET, &[("accept", "application/json")], "").await.status,
        406
    );
}

#[tokio::test]
async fn o3_an_old_stream_stays_until_its_calls_have_ended() {
    let world = World::with(Setup { drain_wait_ms: 10, drain_deadline_ms: 5_000, ..Setup::default() }).await;
    let mut old = Old::connect(&world, "servers/fix/sse", ALICE).await;
    old.initialize("2024-11-05").await;
    let slow = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {"name": "test_slow", "arguments": {"ms": 700}}});
    assert_eq!(old.send(&slow).await, 202);
    eventually("the call arrived", || world.fixture.stats().of("tool:test_slow") == 1).await;
    let portal = world.portal.clone();
    let draining = tokio::spawn(async move { portal.drain().await });
    let answer = until(&mut old.stream, |message| message["id"] == 1).await;
    assert!(answer["result"]["content"].is_array(), "{answer}");
    while old.stream.next().await.unwrap().is_some() {}
    assert!(draining.await.unwrap());
}

#[tokio::test]
async fn a18_metadata_says_the_same_for_every_name() {
    let world = World::start().await;
    for (path, resource) in
        [("", "mcp"), ("/mcp", "mcp"), ("/servers/fix/mcp", "servers/fix/mcp"), ("/servers/no/mcp", "servers/no/mcp")]
    {
        let client = Client::new(world.url(&format!(".well-known/oauth-protected-resource{path}")), None);
        let reply = client.send(Method::GET, &[], "").await;
        assert_eq!(reply.status, 200, "{path}");
        assert_eq!(reply.json().await.unwrap()["resource"], world.url(resource));
    }
    let client = Client::new(world.url(".well-known/oauth-protected-resource/nonsense"), None);
    assert_eq!(client.send(Method::GET, &[], "").await.status, 404);
}
