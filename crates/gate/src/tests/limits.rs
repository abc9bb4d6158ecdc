//! Turns in front of shared limits, and limits for what is no call (feature row O11).

use std::time::Duration;

use bartizan_config::settings::{AuditMode, WireLimits};
use bartizan_model::ReasonCode;
use bartizan_wire::listen::Filter;
use serde_json::{Value, json};

use super::bench::{Bench, From, end, legacy, modern};
use super::mock::Speaks;
use crate::{CallHandle, CallReply, Refusal, Stage};

const OLD: &[(&str, Speaks)] = &[("old", Speaks::Legacy)];
const OTHERS: [&str; 9] = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];

/// One call at a time on server `old`, whoever calls.
fn one_at_a_time(resources: &mut Value, queue_ms: u32) {
    resources["rate_limits"] =
        json!([{"id": "shared", "per": ["server"], "server": "old", "concurrent": 1, "queue_ms": queue_ms}]);
}

async fn bench() -> Bench {
    Bench::built(OLD, AuditMode::Fast, WireLimits::default(), |r| one_at_a_time(r, 60_000)).await
}

fn echo(bench: &Bench, user: &'static str) -> CallHandle {
    bench.start(&modern(user), "tools/call", json!({"name": "old_echo", "arguments": {"who": user}}))
}

/// A call that holds the only place.
async fn hang(bench: &Bench, user: &'static str) -> CallHandle {
    let handle = bench.start(&modern(user), "tools/call", json!({"name": "old_hang", "arguments": {}}));
    bench.mock("old").state.hanging.notified().await;
    handle
}

/// Waits until as many calls are in the queue.
async fn queued(bench: &Bench, count: usize) {
    for _ in 0..4_000 {
        if bench.gate.0.limiter.waiting() == count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{} calls wait, not {count}", bench.gate.0.limiter.waiting());
}

#[tokio::test]
async fn o11_a_flood_of_one_user_does_not_hold_up_nine_others() {
    let bench = bench().await;
    let first = hang(&bench, "mallory").await;
    let mut calls: Vec<CallHandle> = (0..200).map(|_| echo(&bench, "mallory")).collect();
    queued(&bench, 200).await;
    for _ in 0..3 {
        calls.extend(OTHERS.map(|user| echo(&bench, user)));
    }
    queued(&bench, 227).await;
    bench.mock("old").state.unhang.notify_one();
    assert_eq!(end(first).await.text(), "at last");
    for call in calls {
        end(call).await.json();
    }
    let seen = bench.mock("old").state.seen.lock().unwrap().clone();
    let order: Vec<&str> = seen
        .iter()
        .filter(|(method, _, body)| method == "tools/call" && body["params"]["name"] == "echo")
        .map(|(_, _, body)| body["params"]["arguments"]["who"].as_str().unwrap())
        .collect();
    assert_eq!(order.len(), 227, "nobody is refused and nothing runs twice");
    for round in order.chunks(10).take(3) {
        let mut once = round.to_vec();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), 10, "each is served once a round: {round:?}");
    }
    assert_eq!(bench.events_of("call").await.len(), 228);
}

#[tokio::test]
async fn o11_a_wait_ends_with_the_code_of_the_limit() {
    let bench = Bench::with(OLD, |r| one_at_a_time(r, 50)).await;
    let first = hang(&bench, "alice").await;
    let reply = end(echo(&bench, "bob")).await;
    let refusal = reply.refusal();
    assert_eq!(
        (refusal.code, refusal.rule.as_deref(), refusal.retry_after_s),
        (ReasonCode::RateLimited, Some("shared"), Some(1))
    );
    assert_eq!((bench.gate.0.limiter.waiting(), bench.mock("old").state.executed("echo")), (0, 0));
    bench.mock("old").state.unhang.notify_one();
    end(first).await.json();
    end(echo(&bench, "bob")).await.json();
}

#[tokio::test]
async fn o11_who_leaves_while_waiting_leaves_the_queue() {
    let bench = bench().await;
    let first = hang(&bench, "alice").await;
    let gone = echo(&bench, "bob");
    let mut cancelled = bench.start(&legacy("carol"), "tools/call", json!({"name": "old_echo", "arguments": {}}));
    queued(&bench, 2).await;
    let ids = [gone.event_id().to_string(), cancelled.event_id().to_string()];
    drop(gone);
    cancelled.cancel();
    queued(&bench, 0).await;
    bench.mock("old").state.unhang.notify_one();
    end(first).await.json();
    end(echo(&bench, "dave")).await.json();
    assert_eq!(bench.mock("old").state.executed("echo"), 1, "nothing of those who left was forwarded");
    let events = bench.events_of("call").await;
    for id in ids {
        let event = events.iter().find(|event| event["id"] == id.as_str()).expect("it is on record");
        assert_eq!((&event["outcome"], &event["verdict"]["stage"]), (&json!("cancelled"), &json!("limit")), "{event}");
    }
}

#[tokio::test]
async fn o11_a_broken_stage_gives_its_place_to_the_next() {
    let bench = bench().await;
    let first = hang(&bench, "alice").await;
    let broken = echo(&bench, "bob");
    queued(&bench, 1).await;
    bench.gate.sabotage().panic_at(Stage::Forward);
    bench.mock("old").state.unhang.notify_one();
    assert_eq!(end(first).await.text(), "at last");
    assert_eq!(end(broken).await.error_code(), -32603);
    bench.gate.sabotage().clear();
    end(echo(&bench, "carol")).await.json();
    assert_eq!(bench.gate.0.limiter.waiting(), 0);
}

#[tokio::test]
async fn o11_a_server_killed_during_the_wait_is_not_called() {
    let mut bench = bench().await;
    let first = hang(&bench, "alice").await;
    let waiting = echo(&bench, "bob");
    queued(&bench, 1).await;
    bench.reload(|r| r["servers"][0]["status"] = "killed".into());
    bench.mock("old").state.unhang.notify_one();
    end(first).await.json();
    assert!(end(waiting).await.is_not_found());
    assert_eq!(bench.mock("old").state.executed("echo"), 0);
}

fn two_a_minute(resources: &mut Value) {
    resources["rate_limits"] = json!([{"id": "few", "per": ["user"], "per_minute": 2}]);
}

fn refused<T>(reply: Result<T, CallReply>) -> Refusal {
    match reply {
        Err(CallReply::Refused(refusal)) => refusal,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("answered"),
    }
}

async fn is_on_record(bench: &Bench, refusal: &Refusal, method: &str) {
    assert_eq!(
        (refusal.code, refusal.rule.as_deref(), refusal.retry_after_s),
        (ReasonCode::RateLimited, Some("few"), Some(30))
    );
    let events = bench.events_of("list").await;
    let event = events.iter().find(|event| event["id"] == refusal.event_id.to_string().as_str());
    let event = event.expect("the refusal is on record");
    assert_eq!((&event["method"], &event["verdict"]["code"]), (&json!(method), &json!("rate_limited")), "{event}");
}

#[tokio::test]
async fn o11_discovery_is_counted() {
    let bench = Bench::with(OLD, two_a_minute).await;
    for (from, method) in [
        (modern("alice"), "server/discover"),
        (legacy("bob"), "initialize"),
        (modern("carol").at("old"), "server/discover"),
    ] {
        let discover = async |from: &From| bench.gate.discover(&from.endpoint, &from.caller()).await;
        discover(&from).await.unwrap();
        discover(&from).await.unwrap();
        is_on_record(&bench, &refused(discover(&from).await), method).await;
        // One counter for everything: a list would be the third request.
        assert_eq!(refused(bench.list(&from, "tools/list").await).code, ReasonCode::RateLimited);
    }
    bench.clock.advance_ms(30_000);
    bench.gate.discover(&modern("alice").endpoint, &modern("alice").caller()).await.unwrap();
}

#[tokio::test]
async fn o11_subscriptions_are_counted() {
    let bench = Bench::with(OLD, two_a_minute).await;
    let listen = async |from: &From| bench.gate.subscribe(&from.endpoint, &from.caller(), Filter::default()).await;
    let alice = modern("alice");
    let kept = (listen(&alice).await.unwrap(), listen(&alice).await.unwrap());
    is_on_record(&bench, &refused(listen(&alice).await), "subscriptions/listen").await;
    drop(kept);
    // A legacy session's own stream is no request; what it subscribes to is.
    let session = listen(&legacy("bob")).await.unwrap();
    let control = session.control();
    let uri = |n: usize| format!("bartizan+uri://old/note://{n}");
    assert!(control.subscribe(&uri(1)).await.unwrap());
    assert!(!control.subscribe("bartizan+uri://none/x:y").await.unwrap(), "unknown ones count too");
    is_on_record(&bench, &refused(control.subscribe(&uri(2)).await), "resources/subscribe").await;
    assert_eq!(*bench.mock("old").state.subscribed.lock().unwrap(), ["note://1"], "nothing was forwarded");
    bench.clock.advance_ms(30_000);
    assert!(control.subscribe(&uri(2)).await.unwrap());
}
