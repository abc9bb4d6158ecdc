//! A call ends with what it depends on, in whatever state it is (feature rows A14, A25, G24).

use std::sync::Arc;
use std::time::Duration;

use bartizan_config::settings::{AuditMode, WireLimits};
use bartizan_model::ReasonCode;

use futures_util::FutureExt as _;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::bench::{Bench, From, accept, asked, end, legacy, modern};
use super::mock::Speaks;
use crate::{CallOutput, Ended, Revocation};

const BOTH: &[(&str, Speaks)] = &[("old", Speaks::Legacy), ("new", Speaks::Modern)];

fn kill() -> Ended {
    let message = Some(Arc::from("Stopped by the security team."));
    Ended { code: ReasonCode::Killed, rule: Some("kill-7".into()), note: "killed".into(), message }
}

/// A caller whose calls end with the token.
fn until(token: &CancellationToken, ended: Ended, from: From) -> From {
    let token = token.clone();
    let revocation = Revocation::new(move || {
        let (over, ended) = (token.clone().cancelled_owned(), ended.clone());
        over.map(move |()| ended).boxed()
    });
    From { revocation, ..from }
}

async fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    for _ in 0..1_000 {
        if check() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never: {what}");
}

/// The call's event: forwarded, ended with this code.
fn is_ended(event: &Value, code: &str) {
    assert_eq!((&event["outcome"], &event["verdict"]["code"]), (&json!("unknown"), &json!(code)), "{event}");
    assert_eq!(event["verdict"]["stage"], "forward");
}

#[tokio::test]
async fn a25_a_call_in_flight_ends_with_what_it_depends_on() {
    for (ended, code) in [(Ended::credential(), "unauthenticated"), (kill(), "killed")] {
        let bench = Bench::new(BOTH).await;
        let token = CancellationToken::new();
        for (n, from) in [modern("alice"), legacy("alice")].into_iter().enumerate() {
            let token = if n == 0 { token.clone() } else { CancellationToken::new() };
            let from = until(&token, ended.clone(), from);
            let handle = bench.start(&from, "tools/call", json!({"name": "old_hang", "arguments": {}}));
            bench.mock("old").state.hanging.notified().await;
            token.cancel();
            let reply = end(handle).await;
            let refusal = reply.refusal();
            assert_eq!((refusal.code.as_str(), refusal.rule.clone()), (code, ended.rule.clone()));
            assert_eq!(refusal.message.as_deref(), ended.message.as_deref());
            eventually("the server is told", || bench.mock("old").state.cancelled() == n + 1).await;
        }
        let events = bench.events_of("call").await;
        assert_eq!(events.len(), 2);
        events.iter().for_each(|event| is_ended(event, code));
    }
}

/// For a legacy client a disconnect is not a cancellation; the end of its credential is.
#[tokio::test]
async fn a25_a_call_whose_client_left_ends_too() {
    let bench = Bench::new(BOTH).await;
    let token = CancellationToken::new();
    let from = until(&token, Ended::credential(), legacy("alice"));
    let handle = bench.start(&from, "tools/call", json!({"name": "old_hang", "arguments": {}}));
    bench.mock("old").state.hanging.notified().await;
    drop(handle);
    assert_eq!(bench.gate.running(), 1);
    token.cancel();
    bench.idle().await;
    is_ended(&bench.events_of("call").await[0], "unauthenticated");
    assert_eq!(bench.mock("old").state.cancelled(), 1);
}

#[tokio::test]
async fn a25_a_call_that_waits_for_its_person_ends_too() {
    let bench = Bench::new(BOTH).await;
    for (n, server) in ["old", "new"].into_iter().enumerate() {
        let token = CancellationToken::new();
        let from = until(&token, Ended::credential(), legacy("alice"));
        let mut handle = bench.start(&from, "tools/call", json!({"name": format!("{server}_ask"), "arguments": {}}));
        let (_, answers) = asked(&mut handle).await;
        token.cancel();
        assert_eq!(end(handle).await.refusal().code, ReasonCode::Unauthenticated, "{server}");
        // An answer that comes now is nobody's.
        let _ = answers.send(Vec::new());
        is_ended(&bench.events_of("call").await[n], "unauthenticated");
    }
    assert_eq!(bench.mock("old").state.executed("ask"), 1);
}

#[tokio::test]
async fn a14_parked_calls_of_a_deactivated_person_end() {
    let bench = Bench::new(BOTH).await;
    let token = CancellationToken::new();
    let from = until(&token, Ended::credential(), modern("alice"));
    let bob = modern("bob");
    let mut states = Vec::new();
    for (from, tool) in [(&from, "old_ask"), (&bob, "old_ask_two")] {
        let reply = bench.tool(from, tool, json!({"a": 1})).await.json();
        states.push(reply["requestState"].as_str().unwrap().to_owned());
    }
    assert_eq!(bench.gate.running(), 2);
    token.cancel();
    eventually("it is not parked any more", || bench.gate.running() == 1).await;
    eventually("the server is told", || bench.mock("old").state.cancelled() == 1).await;
    let events = bench.events_of("call").await;
    assert_eq!(events.len(), 3, "two rounds, one end");
    is_ended(&events[2], "unauthenticated");
    assert_eq!(events[2]["related"], events[0]["id"]);
    assert!(events[2]["note"].as_str().unwrap().contains("revoked"), "{}", events[2]);
    // Whoever comes back is told, and nothing runs again; others go on.
    let round = |tool: &str, state: &str, answers: Value| json!({"name": tool, "arguments": {"a": 1}, "requestState": state, "inputResponses": answers});
    let late = round("old_ask", &states[0], json!({"user_name": accept("Bob")}));
    assert_eq!(bench.call(&modern("alice"), "tools/call", late).await.error_code(), -32603);
    let answers = json!({"one": accept("a"), "two": accept("b")});
    assert_eq!(bench.call(&bob, "tools/call", round("old_ask_two", &states[1], answers)).await.text(), "a b");
    assert_eq!(bench.mock("old").state.executed("ask"), 1);
}

/// The attack: without something to end it, a parked call of somebody who has left is there
/// for as long as anybody may take it up.
#[tokio::test]
async fn a14_without_the_signal_a_parked_call_stays() {
    let bench = Bench::new(BOTH).await;
    let token = CancellationToken::new();
    let from = From { revocation: Revocation::NEVER, ..until(&token, Ended::credential(), modern("alice")) };
    let reply = bench.tool(&from, "old_ask", json!({"a": 1})).await.json();
    token.cancel();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(bench.gate.running(), 1);
    let params = json!({"name": "old_ask", "arguments": {"a": 1}, "requestState": reply["requestState"],
        "inputResponses": {"user_name": accept("Bob")}});
    assert_eq!(bench.call(&modern("alice"), "tools/call", params).await.text(), "Hello Bob");
}

/// A client that does not read holds up neither the end of its call nor the record.
#[tokio::test]
async fn a25_who_does_not_read_keeps_no_call_alive() {
    let bench = Bench::new(BOTH).await;
    let token = CancellationToken::new();
    let from = until(&token, kill(), legacy("alice"));
    let params = json!({"name": "old_progress", "arguments": {}, "_meta": {"progressToken": "p"}});
    let mut handle = bench.start(&from, "tools/call", params);
    token.cancel();
    let mut last = None;
    while let Some(said) = handle.next().await {
        last = Some(said);
    }
    // It may have been through before; otherwise it was killed. Never is there no end.
    assert!(matches!(last, Some(CallOutput::Done(_))), "{last:?}");
    assert_eq!(bench.events_of("call").await.len(), 1);
}

#[tokio::test]
async fn a25_a_call_that_waits_for_its_turn_leaves_the_queue() {
    let limits = WireLimits::default();
    let bench = Bench::built(BOTH, AuditMode::Strict, limits, |r| {
        r["rate_limits"] =
            json!([{"id": "one", "per": ["server"], "server": "old", "concurrent": 1, "queue_ms": 60_000}]);
    })
    .await;
    let first = bench.start(&modern("bob"), "tools/call", json!({"name": "old_hang", "arguments": {}}));
    bench.mock("old").state.hanging.notified().await;
    let token = CancellationToken::new();
    let from = until(&token, kill(), modern("alice"));
    let waiting = bench.start(&from, "tools/call", json!({"name": "old_echo", "arguments": {}}));
    token.cancel();
    let reply = end(waiting).await;
    assert_eq!(reply.refusal().code, ReasonCode::Killed);
    let event = bench.events_of("call").await.remove(0);
    assert_eq!((&event["outcome"], &event["verdict"]["allow"]), (&json!("refused"), &json!(false)), "{event}");
    assert_eq!(bench.mock("old").state.executed("echo"), 0);
    bench.mock("old").state.unhang.notify_one();
    end(first).await.json();
}

#[tokio::test]
async fn a25_listening_ends_with_the_credential() {
    let bench = Bench::new(BOTH).await;
    let token = CancellationToken::new();
    let from = until(&token, Ended::credential(), modern("alice"));
    let caller = from.caller();
    let filter = bartizan_wire::listen::Filter { tools: true, ..bartizan_wire::listen::Filter::default() };
    let mut notes = bench.gate.subscribe(&from.endpoint, &caller, filter).await.unwrap();
    token.cancel();
    assert_eq!(notes.next().await, None);
    bench.idle().await;
}
