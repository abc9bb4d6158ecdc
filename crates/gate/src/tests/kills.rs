//! Kill switches (feature row G24): what they stop, at once and in flight, and how they end.

use std::sync::Arc;
use std::time::Duration;

use bartizan_model::Clock as _;
use bartizan_store::repo::kill_switch;
use serde_json::json;

use super::bench::{Bench, From, end, legacy, modern};
use super::mock::Speaks;
use crate::{CallReply, KillError, KillScope, Kills, Lifted, NewKill};

const BOTH: &[(&str, Speaks)] = &[("old", Speaks::Legacy), ("new", Speaks::Modern)];

fn kill(scope: KillScope, subject: &str) -> NewKill {
    NewKill { scope, subject: subject.into(), reason: "a token was stolen".into(), until_ms: None }
}

async fn set(bench: &Bench, scope: KillScope, subject: &str) -> String {
    bench.gate.kills().set(kill(scope, subject), "user:sec").await.unwrap().id
}

async fn lift(bench: &Bench, id: &str) {
    let lifted = bench.gate.kills().lift(id, "user:sec", "over").await.unwrap();
    if lifted == Lifted::AskedFirst {
        assert_eq!(bench.gate.kills().lift(id, "user:ops", "over").await.unwrap(), Lifted::Yes);
    }
}

fn killed(reply: &CallReply) -> bool {
    matches!(reply, CallReply::Refused(refusal) if refusal.code.as_str() == "killed")
}

fn member(name: &'static str, groups: &[&'static str]) -> From {
    From { groups: groups.to_vec(), ..modern(name) }
}

#[tokio::test]
async fn g24_each_scope_stops_what_it_names_and_nothing_else() {
    let bench = Bench::new(BOTH).await;
    let (alice, bob) = (member("alice", &["staff"]), modern("bob"));
    // scope, subject, who is stopped at `old_echo`, whether openly, and whether `new_echo` goes on for alice
    for (scope, subject, a, b, openly, other) in [
        (KillScope::Everything, "", true, true, true, false),
        (KillScope::Portal, "default", true, true, true, false),
        (KillScope::Portal, "another", false, false, true, true),
        (KillScope::Server, "old", true, true, false, true),
        (KillScope::Tool, "old/echo", true, true, false, true),
        (KillScope::Tool, "old/other", false, false, false, true),
        (KillScope::User, "alice", true, false, true, false),
        (KillScope::User, "Alice", false, false, true, true),
        (KillScope::Group, "staff", true, false, true, false),
        (KillScope::Group, "alice", false, false, true, true),
        (KillScope::Service, "alice", false, false, true, true),
        (KillScope::Agent, "alice", false, false, true, true),
    ] {
        let id = set(&bench, scope, subject).await;
        for (from, stopped) in [(&alice, a), (&bob, b)] {
            let reply = bench.tool(from, "old_echo", json!({})).await;
            let what = format!("{scope:?} {subject} {}", from.user);
            match (stopped, openly) {
                (true, true) => assert!(killed(&reply), "{what}: {reply:?}"),
                (true, false) => assert!(reply.is_not_found(), "{what}: {reply:?}"),
                (false, _) => assert!(matches!(reply, CallReply::Result(_)), "{what}: {reply:?}"),
            }
        }
        let reply = bench.tool(&alice, "new_echo", json!({})).await;
        assert_eq!(matches!(reply, CallReply::Result(_)), other, "{scope:?} {subject}: {reply:?}");
        lift(&bench, &id).await;
        assert!(matches!(bench.tool(&alice, "old_echo", json!({})).await, CallReply::Result(_)), "{scope:?}");
    }
    let events = bench.events_of("call").await;
    let codes: Vec<_> = events.iter().filter(|event| event["verdict"]["code"] == "killed").collect();
    assert!(codes.len() >= 13, "{}", codes.len());
    assert!(codes.iter().all(|event| event["verdict"]["rule"].as_str().unwrap().starts_with("kill switch")));
}

#[tokio::test]
async fn g24_clients_are_stopped_by_id_and_by_name() {
    let bench = Bench::new(BOTH).await;
    let ask = async |id: &str, name: &str| {
        let mut call = modern("alice").request("tools/call", json!({"name": "old_echo", "arguments": {}}));
        call.caller.circumstances.client_id = Some(id.into());
        call.caller.client = Some(name.into());
        killed(&end(bench.gate.call(call)).await)
    };
    for subject in ["https://client.example/doc", "cursor"] {
        let id = set(&bench, KillScope::Client, subject).await;
        assert_eq!(ask("https://client.example/doc", "other").await, subject != "cursor");
        assert_eq!(ask("another", "cursor").await, subject == "cursor");
        assert!(!ask("another", "other").await);
        lift(&bench, &id).await;
    }
}

#[tokio::test]
async fn g24_lists_and_beginnings_are_stopped_too() {
    let bench = Bench::new(BOTH).await;
    for from in [modern("alice"), legacy("alice")] {
        let whole = bench.tool_names(&from).await;
        let id = set(&bench, KillScope::Tool, "old/echo").await;
        let names = bench.tool_names(&from).await;
        assert!(whole.iter().all(|name| names.contains(name) != (name == "old_echo")), "{names:?}");
        lift(&bench, &id).await;
        let id = set(&bench, KillScope::Server, "old").await;
        let names = bench.tool_names(&from).await;
        assert!(!names.iter().any(|name| name.starts_with("old_")) && names.contains(&"new_echo".to_owned()));
        lift(&bench, &id).await;
        assert_eq!(bench.tool_names(&from).await, whole);
        let id = set(&bench, KillScope::User, "alice").await;
        assert!(killed(&bench.list(&from, "tools/list").await.unwrap_err()));
        let call = from.request("tools/list", json!({}));
        assert!(killed(&bench.gate.discover(&call.endpoint, &call.caller).await.unwrap_err()));
        lift(&bench, &id).await;
    }
    let refused = bench.events_of("list").await;
    let killed = refused.iter().filter(|event| event["verdict"]["code"] == "killed").count();
    assert_eq!(killed, 4, "{refused:?}");
}

#[tokio::test]
async fn g24_a_call_in_flight_gets_killed() {
    for (scope, subject) in [
        (KillScope::Everything, ""),
        (KillScope::Portal, "default"),
        (KillScope::Server, "old"),
        (KillScope::Tool, "old/hang"),
        (KillScope::User, "alice"),
    ] {
        let bench = Bench::new(BOTH).await;
        for from in [modern("alice"), legacy("alice")] {
            let handle = bench.start(&from, "tools/call", json!({"name": "old_hang", "arguments": {}}));
            bench.mock("old").state.hanging.notified().await;
            let id = set(&bench, scope, subject).await;
            let reply = tokio::time::timeout(Duration::from_secs(1), end(handle)).await.unwrap();
            assert!(killed(&reply), "{scope:?}: {reply:?}");
            let events = bench.events_of("call").await;
            let event = events.last().unwrap();
            assert_eq!((&event["outcome"], &event["verdict"]["code"]), (&json!("unknown"), &json!("killed")));
            assert_eq!(event["verdict"]["rule"], format!("kill switch {id}"));
            lift(&bench, &id).await;
        }
    }
    // What a switch does not name goes on.
    let bench = Bench::new(BOTH).await;
    let handle = bench.start(&modern("alice"), "tools/call", json!({"name": "old_hang", "arguments": {}}));
    bench.mock("old").state.hanging.notified().await;
    set(&bench, KillScope::User, "bob").await;
    set(&bench, KillScope::Tool, "old/echo").await;
    let still = tokio::time::timeout(Duration::from_millis(300), end(handle)).await;
    assert!(still.is_err(), "{still:?}");
}

#[tokio::test]
async fn g24_everything_goes_on_only_when_two_people_say_so() {
    let bench = Bench::new(BOTH).await;
    let kills = bench.gate.kills();
    let id = set(&bench, KillScope::Everything, "").await;
    assert_eq!(kills.lift(&id, "user:sec", "over").await.unwrap(), Lifted::AskedFirst);
    for _ in 0..2 {
        assert!(matches!(kills.lift(&id, "user:sec", "over").await, Err(KillError::SamePerson)));
        assert!(killed(&bench.tool(&modern("alice"), "old_echo", json!({})).await));
    }
    assert_eq!(kills.lift(&id, "user:ops", "over").await.unwrap(), Lifted::Yes);
    assert!(matches!(kills.lift(&id, "user:ops", "over").await, Err(KillError::Unknown)));
    assert!(matches!(bench.tool(&modern("alice"), "old_echo", json!({})).await, CallReply::Result(_)));
    let row = kill_switch::get(&bench.store, &id).await.unwrap().unwrap();
    assert_eq!((row.lift_asked_by.as_deref(), row.lifted_by.as_deref()), (Some("user:sec"), Some("user:ops")));
    // Ten who confirm at once: one of them lifts, and it is never the one who asked.
    let id = set(&bench, KillScope::Everything, "").await;
    kills.lift(&id, "user:sec", "over").await.unwrap();
    let tries = (0..10).map(|n| {
        let (kills, id) = (kills.clone(), id.clone());
        async move { kills.lift(&id, if n % 2 == 0 { "user:sec" } else { "user:ops" }, "over").await.is_ok() }
    });
    let won = futures_util::future::join_all(tries).await.into_iter().filter(|won| *won).count();
    assert_eq!(won, 1);
}

#[tokio::test]
async fn g24_an_end_in_time_and_what_cannot_be_set() {
    let bench = Bench::new(BOTH).await;
    let kills = bench.gate.kills();
    let now = bench.clock.now_ms();
    let until = NewKill { until_ms: Some(now + 60_000), ..kill(KillScope::User, "alice") };
    kills.set(until, "user:sec").await.unwrap();
    assert!(killed(&bench.tool(&modern("alice"), "old_echo", json!({})).await));
    bench.clock.advance_ms(61_000);
    assert!(matches!(bench.tool(&modern("alice"), "old_echo", json!({})).await, CallReply::Result(_)));
    let now = bench.clock.now_ms();
    let long = "x".repeat(513);
    for bad in [
        NewKill { until_ms: Some(now), ..kill(KillScope::User, "alice") },
        NewKill { until_ms: Some(i64::MAX), ..kill(KillScope::User, "alice") },
        NewKill { reason: " ".into(), ..kill(KillScope::User, "alice") },
        NewKill { reason: "a\u{1b}[2J".into(), ..kill(KillScope::User, "alice") },
        NewKill { reason: long.clone(), ..kill(KillScope::User, "alice") },
        kill(KillScope::Everything, "x"),
        kill(KillScope::User, ""),
        kill(KillScope::User, "a\nb"),
        kill(KillScope::Group, &long),
        kill(KillScope::Portal, "No Portal"),
        kill(KillScope::Server, "../x"),
        kill(KillScope::Tool, "old"),
        kill(KillScope::Tool, "old/"),
    ] {
        let refused = kills.set(bad.clone(), "user:sec").await;
        assert!(matches!(refused, Err(KillError::Invalid(_))), "{bad:?}");
    }
    assert!(matches!(kills.lift("nothing", "user:sec", "x").await, Err(KillError::Unknown)));
}

#[tokio::test]
async fn g24_another_process_hears_of_it_and_a_lost_store_stops_everything() {
    let bench = Bench::new(BOTH).await;
    let alice = modern("alice");
    assert!(matches!(bench.tool(&alice, "old_echo", json!({})).await, CallReply::Result(_)));
    // Another process over the same store, in flight here.
    let clock: Arc<dyn bartizan_model::Clock> = Arc::<bartizan_model::ManualClock>::clone(&bench.clock);
    let other = Kills::new(Some(bench.store.clone()), clock);
    let handle = bench.start(&alice, "tools/call", json!({"name": "old_hang", "arguments": {}}));
    bench.mock("old").state.hanging.notified().await;
    let id = other.set(kill(KillScope::User, "alice"), "user:sec").await.unwrap().id;
    let reply = tokio::time::timeout(Duration::from_secs(2), end(handle)).await.unwrap();
    assert!(killed(&reply), "{reply:?}");
    assert!(killed(&bench.tool(&alice, "old_echo", json!({})).await));
    other.lift(&id, "user:ops", "over").await.unwrap();
    for _ in 0..400 {
        if !killed(&bench.tool(&alice, "old_echo", json!({})).await) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(matches!(bench.tool(&alice, "old_echo", json!({})).await, CallReply::Result(_)));
    // Nobody knows any more what is stopped.
    bench.store.close().await;
    tokio::time::sleep(Duration::from_millis(2_800)).await;
    let reply = bench.tool(&alice, "old_echo", json!({})).await;
    assert!(killed(&reply), "{reply:?}");
    assert_eq!(reply.refusal().retry_after_s, Some(5));
}

#[tokio::test]
async fn g24_without_the_stage_a_stopped_caller_goes_on() {
    let bench = Bench::new(BOTH).await;
    set(&bench, KillScope::User, "alice").await;
    let call = modern("alice").request("tools/call", json!({"name": "old_echo", "arguments": {}}));
    assert!(killed(&end(bench.gate.call(call)).await));
    bench.gate.sabotage().skip(crate::Stage::State);
    assert!(matches!(bench.tool(&modern("alice"), "old_echo", json!({})).await, CallReply::Result(_)));
}

#[tokio::test]
async fn g24_a_stopped_server_is_not_asked_what_it_can_do() {
    let bench = Bench::new(BOTH).await;
    for from in [modern("alice"), legacy("alice")] {
        let discover = async |from: &From| {
            let call = from.request("tools/list", json!({}));
            bench.gate.discover(&call.endpoint, &call.caller).await
        };
        assert!(discover(&from).await.unwrap().result.as_str().contains("be kind"));
        let own = from.clone().at("old");
        assert!(discover(&own).await.is_ok());
        let ids = [set(&bench, KillScope::Server, "old").await, set(&bench, KillScope::Server, "new").await];
        assert!(!discover(&from).await.unwrap().result.as_str().contains("be kind"), "its words are not passed on");
        assert!(matches!(discover(&own).await, Err(CallReply::NotFound { .. })));
        let lines = bench.tool(&from, "portal_list_servers", json!({})).await.json();
        let server = &lines["structuredContent"]["servers"][0];
        assert_eq!((&server["status"], &server["on"]), (&json!("killed"), &json!(false)), "{lines}");
        for id in ids {
            lift(&bench, &id).await;
        }
    }
}

#[tokio::test]
async fn g24_who_answers_for_an_agent_takes_it_along() {
    let bench = Bench::new(BOTH).await;
    let ask = async |owner: &str| {
        let mut call = modern("alice").request("tools/call", json!({"name": "old_echo", "arguments": {}}));
        call.caller.circumstances.owner = Some(owner.into());
        killed(&end(bench.gate.call(call)).await)
    };
    set(&bench, KillScope::User, "Eve@corp.example").await;
    assert!(ask("eve@CORP.example").await && !ask("ann@corp.example").await);
}

#[tokio::test]
async fn g24_a_switch_for_somebody_holds_at_doors_beside_the_gate() {
    let bench = Bench::new(BOTH).await;
    let (eve, ann) = (member("eve", &["staff"]).caller().principal, member("ann", &[]).caller().principal);
    let stopped = async |who, client| bench.gate.kills().stops_somebody(who, client).await.unwrap();
    set(&bench, KillScope::Everything, "").await;
    set(&bench, KillScope::Portal, "default").await;
    assert!(!stopped(&eve, None).await, "or nobody could lift it");
    set(&bench, KillScope::User, "eve").await;
    assert!(stopped(&eve, None).await && !stopped(&ann, None).await);
    set(&bench, KillScope::Client, "cli-1").await;
    assert!(stopped(&ann, Some("cli-1")).await && !stopped(&ann, Some("cli-2")).await);
    bench.store.close().await;
    tokio::time::sleep(Duration::from_millis(2_800)).await;
    assert!(bench.gate.kills().stops_somebody(&ann, None).await.is_err());
}
