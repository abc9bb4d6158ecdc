//! Every call ends in exactly one event, whatever happens (feature rows L1, L9).

use std::time::Duration;

use bartizan_audit::{Audit, Options};
use bartizan_config::settings::{AuditMode, WireLimits};
use bartizan_model::ReasonCode;
use serde_json::json;

use super::bench::{Bench, asked, end, legacy, modern};
use super::mock::Speaks;
use crate::{CallReply, Stage};

const BOTH: &[(&str, Speaks)] = &[("old", Speaks::Legacy), ("new", Speaks::Modern)];

fn granted(resources: &mut serde_json::Value) {
    resources["grants"] = json!([{"id": "g", "principals": ["user:alice"], "server": "old", "tools": ["write"]}]);
}

#[tokio::test]
async fn l1_fields_of_a_call() {
    let bench = Bench::with(BOTH, granted).await;
    let reply = bench.tool(&modern("alice"), "old_write", json!({"a": 1})).await;
    let events = bench.events().await;
    assert_eq!(events.len(), 2);
    let (intent, call) = (&events[0], &events[1]);
    for event in [intent, call] {
        assert_eq!(event["method"], "tools/call");
        assert_eq!((&event["portal"], &event["server"]), (&json!("default"), &json!("old")));
        assert_eq!((&event["target"], &event["exposed"]), (&json!("write"), &json!("old_write")));
        assert_eq!((&event["class"], &event["era"]), (&json!("write"), &json!("modern")));
        assert_eq!(event["pin"].as_str().unwrap().len(), 64);
        assert_eq!(event["arguments_digest"].as_str().unwrap().len(), 64);
        assert!(event["request_bytes"].as_u64().unwrap() > 100);
        assert_eq!(event["trace_id"], "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(event["verdict"]["allow"], true);
        assert_eq!(event["verdict"]["rule"], "grant \"g\"");
        assert_eq!(event["principal_kind"], "user");
        assert_eq!(event["upstream_identity"], "none");
        assert!(event["server_version"].as_str().is_some() && event["policy_version"].as_str().is_some());
    }
    assert_eq!(
        (&intent["kind"], &intent["outcome"], &intent["related"]),
        (&json!("intent"), &json!("pending"), &call["id"])
    );
    assert_eq!((&call["kind"], &call["outcome"], &call["related"]), (&json!("call"), &json!("ok"), &intent["id"]));
    let size = reply.json().to_string().len() as u64;
    assert!(call["response_bytes"].as_u64().unwrap() >= size - 20);
    assert!(call["total_us"].as_u64().unwrap() >= call["upstream_us"].as_u64().unwrap());
    assert!(call["upstream_us"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn l1_a_read_has_no_intent_and_a_refusal_has_its_cause() {
    let bench = Bench::with(BOTH, |r| r["portals"][0]["show_ungranted"] = true.into()).await;
    bench.tool(&legacy("alice"), "old_echo", json!({})).await.json();
    let reply = bench.tool(&legacy("alice"), "old_write", json!({})).await;
    let events = bench.events().await;
    assert_eq!(events.len(), 2);
    let refused = &events[1];
    assert_eq!((&refused["outcome"], &refused["verdict"]["allow"]), (&json!("refused"), &json!(false)));
    assert_eq!(
        (&refused["verdict"]["code"], &refused["verdict"]["stage"]),
        (&json!("write_not_granted"), &json!("authorize"))
    );
    assert_eq!(refused["id"], reply.refusal().event_id.to_string(), "the refusal names its event");
}

#[tokio::test]
async fn l9_the_client_leaves_at_every_stage() {
    let stages = [
        Stage::Route,
        Stage::State,
        Stage::Limit,
        Stage::Authorize,
        Stage::Credential,
        Stage::Intend,
        Stage::Forward,
        Stage::Record,
    ];
    let bench = Bench::with(BOTH, granted).await;
    let mut expected = 0;
    for stage in stages {
        for (from, forwarded) in [(modern("alice"), false), (legacy("alice"), true)] {
            let before = bench.mock("old").state.executed("write");
            let stop = bench.gate.sabotage().stop_at(stage);
            let handle = bench.start(&from, "tools/call", json!({"name": "old_write", "arguments": {}}));
            stop.reached.notified().await;
            drop(handle);
            stop.go.notify_one();
            bench.idle().await;
            bench.gate.sabotage().clear();
            expected += 1;
            let calls = bench.events_of("call").await;
            assert_eq!(calls.len(), expected, "{stage:?}");
            // A legacy client's disconnect is not a cancellation.
            let ran = forwarded || stage == Stage::Record;
            assert_eq!(bench.mock("old").state.executed("write") - before, usize::from(ran), "{stage:?}");
            let outcome = if ran { "ok" } else { "cancelled" };
            assert_eq!(calls.last().unwrap()["outcome"], outcome, "{stage:?}");
        }
    }
    let events = bench.events().await;
    let forwarded = bench.mock("old").state.executed("write");
    let intents = events.iter().filter(|event| event["kind"] == "intent").count();
    assert!(intents >= forwarded, "every forwarded write has an intent");
}

#[tokio::test]
async fn l9_leaving_a_modern_call_cancels_it_upstream() {
    let bench = Bench::new(BOTH).await;
    for (round, server) in ["old", "new"].into_iter().enumerate() {
        let handle =
            bench.start(&modern("alice"), "tools/call", json!({"name": format!("{server}_hang"), "arguments": {}}));
        bench.mock(server).state.hanging.notified().await;
        drop(handle);
        bench.idle().await;
        let calls = bench.events_of("call").await;
        assert_eq!((calls.len(), &calls[round]["outcome"]), (round + 1, &json!("cancelled")));
    }
    assert_eq!(bench.mock("old").state.cancelled(), 1);
}

#[tokio::test]
async fn l9_a_legacy_call_survives_its_client_unless_cancelled() {
    let bench = Bench::new(BOTH).await;
    let params = json!({"name": "old_hang", "arguments": {}});
    let handle = bench.start(&legacy("alice"), "tools/call", params.clone());
    bench.mock("old").state.hanging.notified().await;
    drop(handle);
    bench.mock("old").state.unhang.notify_one();
    bench.idle().await;
    assert_eq!(bench.events_of("call").await[0]["outcome"], "ok");
    let mut handle = bench.start(&legacy("alice"), "tools/call", params);
    bench.mock("old").state.hanging.notified().await;
    handle.cancel();
    assert!(handle.next().await.is_none(), "nothing more is said");
    bench.idle().await;
    assert_eq!(bench.events_of("call").await[1]["outcome"], "cancelled");
    assert_eq!(bench.mock("old").state.cancelled(), 1);
}

#[tokio::test]
async fn l9_leaving_during_a_question_ends_it() {
    let bench = Bench::new(BOTH).await;
    for server in ["old", "new"] {
        let params = json!({"name": format!("{server}_ask"), "arguments": {}});
        let mut handle = bench.start(&legacy("alice"), "tools/call", params);
        let (_, answers) = asked(&mut handle).await;
        handle.cancel();
        drop(answers);
        bench.idle().await;
    }
    let outcomes: Vec<_> = bench.events_of("call").await.iter().map(|e| e["outcome"].clone()).collect();
    assert_eq!(outcomes, [json!("cancelled"), json!("cancelled")]);
}

#[tokio::test]
async fn l9_a_panic_in_any_stage_is_one_event_and_one_error() {
    let bench = Bench::with(BOTH, granted).await;
    let mut expected = 0;
    for stage in Stage::ALL {
        bench.gate.sabotage().panic_at(stage);
        let reply = bench.tool(&modern("alice"), "old_write", json!({})).await;
        bench.gate.sabotage().clear();
        expected += 1;
        if stage == Stage::Record {
            assert_eq!(reply.refusal().code, ReasonCode::AuditUnavailable, "an answer that broke on record stays here");
        } else {
            assert_eq!(reply.error_code(), -32603, "{stage:?}");
        }
        let calls = bench.events_of("call").await;
        assert_eq!((calls.len(), &calls[expected - 1]["outcome"]), (expected, &json!("unknown")), "{stage:?}");
        assert_eq!(calls[expected - 1]["verdict"]["stage"], stage.as_str());
    }
    bench.tool(&modern("alice"), "old_write", json!({})).await.json();
    assert_eq!(bench.gate.0.metrics.panic_count(), Stage::ALL.len() as u64);
}

#[tokio::test]
async fn l9_without_a_record_nothing_is_forwarded() {
    let mut bench = Bench::with(BOTH, granted).await;
    bench.tool(&modern("alice"), "old_echo", json!({})).await.json();
    let dir = tempfile::tempdir().unwrap();
    let options = Options { queue: 0, ..Options::default() };
    let clock = std::sync::Arc::clone(&bench.gate.0.clock);
    let full = Audit::open_with(dir.path(), AuditMode::Strict, None, clock, &options).unwrap();
    bench.replace_audit(full);
    for name in ["old_echo", "old_write", "portal_list_servers"] {
        let reply = bench.tool(&modern("alice"), name, json!({})).await;
        assert_eq!((reply.refusal().code, reply.refusal().visible), (ReasonCode::AuditUnavailable, true), "{name}");
    }
    match bench.list(&modern("alice"), "tools/list").await {
        Err(CallReply::Refused(refusal)) => assert_eq!(refusal.code, ReasonCode::AuditUnavailable),
        other => panic!("{other:?}"),
    }
    assert_eq!(bench.mock("old").state.executed("echo"), 1);
    assert_eq!(bench.mock("old").state.executed("write"), 0);
    let again = tempfile::tempdir().unwrap();
    let clock = std::sync::Arc::clone(&bench.gate.0.clock);
    bench.replace_audit(Audit::open(again.path(), AuditMode::Strict, None, clock).unwrap());
    bench.tool(&modern("alice"), "old_echo", json!({})).await.json();
}

#[tokio::test]
async fn l9_an_answer_that_cannot_be_recorded_is_withheld() {
    let bench = Bench::with(BOTH, granted).await;
    let stop = bench.gate.sabotage().stop_at(Stage::Record);
    let handle = bench.start(&modern("alice"), "tools/call", json!({"name": "old_echo", "arguments": {}}));
    stop.reached.notified().await;
    bench.audit.close().await;
    stop.go.notify_one();
    assert_eq!(end(handle).await.refusal().code, ReasonCode::AuditUnavailable);
    bench.gate.sabotage().clear();
    let reply = bench.tool(&modern("alice"), "old_write", json!({})).await;
    assert_eq!(reply.refusal().code, ReasonCode::AuditUnavailable);
    assert_eq!(bench.mock("old").state.executed("write"), 0, "no intent, no forward");
}

#[tokio::test]
async fn l9_fast_mode_answers_and_records() {
    let bench = Bench::built(BOTH, AuditMode::Fast, WireLimits::default(), granted).await;
    for _ in 0..20 {
        bench.tool(&modern("alice"), "old_write", json!({})).await.json();
    }
    let events = bench.events().await;
    assert_eq!(events.len(), 40, "intents are durable in fast mode too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p35_many_users_at_once_are_not_mixed() {
    let bench = Bench::with(BOTH, |r| {
        r["grants"] = json!([{"id": "g", "principals": ["everyone"], "server": "old", "tools": ["write"]}]);
    })
    .await;
    const USERS: [&str; 8] = ["u0", "u1", "u2", "u3", "u4", "u5", "u6", "u7"];
    let calls = (0..400).map(|n| {
        let (bench, user) = (&bench, USERS[n % USERS.len()]);
        async move {
            let from = if n % 2 == 0 { legacy(user) } else { modern(user) };
            let name = ["old_echo", "new_echo", "old_write"][n % 3];
            let text = bench.tool(&from, name, json!({"user": user, "n": n})).await.text();
            assert_eq!(text, json!({"user": user, "n": n}).to_string());
        }
    });
    futures_util::future::join_all(calls).await;
    bench.idle().await;
    let calls = bench.events_of("call").await;
    assert_eq!(calls.len(), 400);
    let ids: std::collections::HashSet<_> = calls.iter().map(|e| e["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 400);
    // A session per user and capability digest: both eras of a user declare the same here.
    assert_eq!(bench.mock("old").state.count("initialize"), USERS.len());
    let seen = bench.mock("old").state.seen.lock().unwrap();
    let mut owners = std::collections::HashMap::new();
    for (method, session, body) in seen.iter() {
        if method == "tools/call" {
            let user = body["params"]["arguments"]["user"].as_str().unwrap().to_owned();
            assert_eq!(*owners.entry(session.clone()).or_insert_with(|| user.clone()), user, "a session is one user's");
        }
    }
}

#[tokio::test]
async fn o7_draining_waits_for_running_calls() {
    let bench = Bench::new(BOTH).await;
    let handle = bench.start(&legacy("alice"), "tools/call", json!({"name": "old_hang", "arguments": {}}));
    bench.mock("old").state.hanging.notified().await;
    assert!(!bench.gate.drain(Duration::from_millis(20)).await);
    bench.mock("old").state.unhang.notify_one();
    assert!(bench.gate.drain(Duration::from_secs(5)).await);
    assert_eq!(end(handle).await.text(), "at last");
    assert_eq!(bench.events_of("call").await.len(), 1);
}

#[tokio::test]
async fn l3_arguments_and_results_are_kept_of_the_named_server_only() {
    use bartizan_audit::{Bodies, BodyReader};
    use bartizan_model::role::{Role, RoleSet};
    let bench = Bench::with(BOTH, |_| {}).await;
    let vault = bartizan_vault::Vault::new(bartizan_vault::KeyRing::ephemeral().unwrap()).unwrap();
    let clock: std::sync::Arc<dyn bartizan_model::Clock> = bench.clock.clone();
    let bodies = Bodies::new(["old".to_owned()], [], bench.store.clone(), vault, clock);
    bench.tool(&modern("alice"), "old_echo", json!({"text": "before"})).await.json();
    drop(bench.gate.clone().with_bodies(bodies.clone()));
    let reply = bench.tool(&modern("alice"), "old_echo", json!({"text": "kept"})).await;
    bench.tool(&modern("alice"), "new_echo", json!({"text": "not kept"})).await.json();
    let events = bench.events().await;
    assert_eq!(events.len(), 3);
    let read = |at: usize| {
        let reader = BodyReader {
            kind: bartizan_model::PrincipalKind::User,
            who: bartizan_model::event::Who::default(),
            roles: RoleSet::NONE.with(Role::Auditor),
        };
        let id = events[at]["id"].as_str().unwrap().to_owned();
        let (bodies, audit) = (bodies.clone(), bench.audit.clone());
        async move { bodies.read(&audit, &id, reader).await.unwrap() }
    };
    let mut body = None;
    for _ in 0..500 {
        body = read(1).await;
        if body.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let body = body.expect("sealed behind the call");
    assert_eq!(body.arguments, Some(json!({"text": "kept"})));
    assert_eq!(body.result, Some(reply.json().clone()));
    assert_eq!((read(0).await, read(2).await), (None, None), "off is off");
}
