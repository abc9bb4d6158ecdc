//! A11: nothing that is open outlives the credential it was opened with.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails")]

mod support;

use std::time::Duration;

use bartizan_testkit::fixture::Era;
use bartizan_testkit::http::Events;
use serde_json::{Value, json};
use support::stack::{ALICE, Setup};
use support::{Client, LEGACY, World, eventually, until};

const FIX: &str = "servers/fix/mcp";
/// The bound is two seconds; the wait is longer only for a machine that stands still.
const SOON: Duration = Duration::from_secs(8);

fn slow() -> Value {
    json!({"name": "test_slow", "arguments": {"ms": 60_000}})
}

async fn listen(client: &Client) -> Events {
    let filter = json!({"notifications": {"toolsListChanged": true}});
    let mut events = client.modern(&json!(1), "subscriptions/listen", &filter).await.events();
    let ack = events.message().await.unwrap().unwrap();
    assert_eq!(ack["method"], "notifications/subscriptions/acknowledged");
    events
}

async fn feed(client: &Client) -> Events {
    let mut client = client.clone();
    client.initialize(LEGACY, &json!({})).await;
    let reply = client.stream(&[]).await;
    assert_eq!(reply.status, 200);
    reply.events()
}

async fn sse(client: &Client) -> Events {
    let old = Client { url: client.url.replace("/mcp", "/sse"), ..client.clone() };
    let mut events = old.stream(&[]).await.events();
    assert_eq!(events.next().await.unwrap().unwrap().name.as_deref(), Some("endpoint"));
    events
}

/// The stream of a call that is answered as one.
async fn call(client: &Client, legacy: bool) -> Events {
    if !legacy {
        return client.modern(&json!(1), "tools/call", &slow()).await.events();
    }
    let mut client = client.clone();
    client.initialize(LEGACY, &json!({})).await;
    client.legacy(&json!(1), "tools/call", &slow()).await.events()
}

/// Reads to the end, which must be a clean one: neither an error nor a cut.
async fn ends(what: &str, mut events: Events) {
    let end = async { while events.next().await.unwrap().is_some() {} };
    assert!(tokio::time::timeout(SOON, end).await.is_ok(), "{what} went on");
}

async fn open_all(client: &Client) -> Vec<(&'static str, Events)> {
    let (modern, legacy) = tokio::join!(call(client, false), call(client, true));
    vec![
        ("listen", listen(client).await),
        ("the GET stream", feed(client).await),
        ("the old stream", sse(client).await),
        ("a modern call", modern),
        ("a legacy call", legacy),
    ]
}

#[tokio::test]
async fn a11_every_open_stream_ends_with_its_credential() {
    for era in [Era::Legacy, Era::Modern] {
        let world = World::with(Setup { era, head_hold_ms: Some(50), ..Setup::default() }).await;
        for how in ["delete", "suspend", "rotate"] {
            world.fixture.stats().reset();
            let client = world.service(&format!("ci-{how}"), FIX).await;
            let other = world.service(&format!("other-{how}"), FIX).await;
            let (streams, mut kept, mut alices) =
                (open_all(&client).await, listen(&other).await, listen(&world.client(FIX)).await);
            let (tokens, name) = (world.identity.tokens(), format!("ci-{how}"));
            match how {
                "delete" => tokens.delete(&name).await.unwrap(),
                "suspend" => assert!(tokens.suspend(&name).await.unwrap()),
                _ => drop(tokens.rotate(&name, Duration::ZERO).await.unwrap()),
            }
            for (what, events) in streams {
                ends(&format!("{how}: {what}"), events).await;
            }
            // The calls end with their streams: their authority is gone.
            eventually("both calls are cancelled upstream", || world.fixture.stats().of("cancelled") >= 2).await;
            assert_eq!(client.modern(&json!(1), "tools/list", &json!({})).await.status, 401);
            // Nobody else's.
            for events in [&mut kept, &mut alices] {
                let next = tokio::time::timeout(Duration::from_millis(50), events.next()).await;
                assert!(next.is_err(), "still open, and silent");
            }
        }
    }
}

#[tokio::test]
async fn a11_expiry_and_the_end_of_a_grace_time_end_streams_too() {
    let world = World::start().await;
    let tokens = world.identity.tokens();
    let (_, short) = tokens.create("short", Some(Duration::from_secs(60))).await.unwrap();
    let short = listen(&Client::new(world.url(FIX), Some(short.expose().clone().leak()))).await;
    let client = world.service("ci", FIX).await;
    let before = listen(&client).await;
    let second = tokens.rotate("ci", Duration::from_secs(60)).await.unwrap();
    world.identity.refresh().await.unwrap();
    let mut after = listen(&Client { token: Some(second.expose().clone().leak()), ..client }).await;
    world.clock.advance_ms(60_000);
    ends("an expired one", short).await;
    ends("the secret before the rotation", before).await;
    assert!(tokio::time::timeout(Duration::from_millis(50), after.next()).await.is_err(), "the new secret stays");
}

#[tokio::test]
async fn a11_a_call_without_a_stream_ends_with_its_credential() {
    let world = World::start().await;
    let client = world.service("ci", FIX).await;
    let task = tokio::spawn({
        let headers = support::modern_headers("tools/call", &slow());
        let body = support::modern_body(&json!(7), "tools/call", &slow(), json!({}));
        async move {
            let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let only_json = [&[support::JSON, ("accept", "application/json")], headers.as_slice()].concat();
            client.send(http::Method::POST, &only_json, body.to_string()).await
        }
    });
    eventually("the call arrived", || world.fixture.stats().of("tool:test_slow") == 1).await;
    world.identity.tokens().delete("ci").await.unwrap();
    let reply = tokio::time::timeout(SOON, task).await.unwrap().unwrap();
    assert_eq!(reply.status, 401);
    assert!(reply.header("www-authenticate").unwrap().contains("invalid_token"));
    assert_eq!(reply.json().await.unwrap()["id"], 7);
    eventually("it is cancelled upstream", || world.fixture.stats().of("cancelled") == 1).await;
}

/// The message that ends a call on its stream.
async fn last_word(events: &mut Events, what: &str) -> Value {
    let end = async {
        let mut last = None;
        while let Some(message) = events.message().await.unwrap() {
            last = message.get("result").is_some().then_some(message).or(last);
        }
        last
    };
    let last = tokio::time::timeout(SOON, end).await;
    last.unwrap_or_else(|_| panic!("{what} went on")).unwrap_or_else(|| panic!("{what} ended without a word"))
}

#[tokio::test]
async fn a25_a_running_call_is_told_why_it_ends() {
    let world = World::with(Setup { head_hold_ms: Some(50), ..Setup::default() }).await;
    let client = world.service("ci", FIX).await;
    let (mut modern, mut legacy) = tokio::join!(call(&client, false), call(&client, true));
    world.identity.tokens().delete("ci").await.unwrap();
    for (what, events) in [("a modern call", &mut modern), ("a legacy call", &mut legacy)] {
        let result = last_word(events, what).await["result"].clone();
        assert_eq!(result["isError"], true, "{what}: {result}");
        assert_eq!(result["_meta"]["bartizan/decision"]["code"], "unauthenticated", "{what}: {result}");
    }
    eventually("both are cancelled upstream", || world.fixture.stats().of("cancelled") >= 2).await;
    let calls = world.events_of("call").await;
    let ended = calls.iter().filter(|event| event["verdict"]["code"] == "unauthenticated");
    assert_eq!(ended.filter(|event| event["outcome"] == "unknown").count(), 2, "{calls:?}");
}

/// A parked call has no connection that could end: the process that holds it ends it.
#[tokio::test]
async fn a14_a_parked_call_ends_with_its_credential() {
    let world = World::with(Setup { era: Era::Legacy, ..Setup::default() }).await;
    let client = world.service("ci", FIX).await;
    let params = json!({"name": "test_elicitation", "arguments": {"message": "who?"}});
    let able = json!({"io.modelcontextprotocol/clientCapabilities": {"elicitation": {}}});
    let (status, asked) =
        support::response(client.modern_meta(&json!(1), "tools/call", &params, able).await, &json!(1)).await;
    assert_eq!((status, &asked["result"]["resultType"]), (200, &json!("input_required")), "{asked}");
    world.identity.tokens().delete("ci").await.unwrap();
    eventually("it is cancelled upstream", || world.fixture.stats().of("cancelled") == 1).await;
    let mut tries = 0;
    let ended = loop {
        let calls = world.events_of("call").await;
        if let Some(ended) = calls.into_iter().find(|event| event["verdict"]["code"] == "unauthenticated") {
            break ended;
        }
        tries += 1;
        assert!(tries < 100, "its end is not on record");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!((&ended["principal_kind"], &ended["outcome"]), (&json!("service"), &json!("unknown")), "{ended}");
}

/// The attack: what a leaked token opened goes on after the token was taken away, when
/// nobody asks.
#[tokio::test]
async fn a11_without_the_question_a_revoked_credential_reads_on() {
    let world = World::with(Setup { credential_check_ms: Some(3_600_000), ..Setup::default() }).await;
    let thief = world.service("ci", FIX).await;
    let mut events = listen(&thief).await;
    world.wait_for_listeners(1).await;
    world.identity.tokens().delete("ci").await.unwrap();
    world.identity.refresh().await.unwrap();
    assert_eq!(thief.modern(&json!(1), "tools/list", &json!({})).await.status, 401);
    let alice = Client::new(world.url(FIX), Some(ALICE));
    alice.ask_modern("tools/call", json!({"name": "test_trigger_tool_change", "arguments": {}})).await;
    until(&mut events, |message| message["method"] == "notifications/tools/list_changed").await;
}
