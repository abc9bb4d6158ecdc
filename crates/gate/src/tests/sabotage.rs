//! What each stage is for: with it the attack fails, without it the attack succeeds.

use bartizan_model::ReasonCode;
use serde_json::{Value, json};

use super::bench::{Bench, end, legacy, modern};
use super::mock::Speaks;
use crate::Stage;

const ONE: &[(&str, Speaks)] = &[("old", Speaks::Legacy)];

fn granted(resources: &mut Value) {
    resources["grants"] = json!([{"id": "g", "principals": ["everyone"], "server": "old", "tools": ["write"]}]);
}

#[tokio::test]
async fn sabotage_route_reaches_a_tool_switched_off() {
    let bench =
        Bench::with(ONE, |r| r["servers"][0]["updated_tools"] = json!([{"name": "echo", "enabled": false}])).await;
    let attack = || async { bench.tool(&modern("alice"), "old_echo", json!({})).await };
    assert!(attack().await.is_not_found());
    assert_eq!(bench.mock("old").state.executed("echo"), 0);
    bench.gate.sabotage().skip(Stage::Route);
    attack().await.json();
    assert_eq!(bench.mock("old").state.executed("echo"), 1, "without the stage the attack succeeds");
}

#[tokio::test]
async fn sabotage_state_lets_a_call_past_the_kill_switch() {
    for skipped in [false, true] {
        let mut bench = Bench::new(ONE).await;
        bench.mock("old").state.hold_lists.store(true, std::sync::atomic::Ordering::SeqCst);
        if skipped {
            bench.gate.sabotage().skip(Stage::State);
        }
        // The call began before the switch was pulled and waits for the server's list.
        let handle = bench.start(&modern("alice"), "tools/call", json!({"name": "old_echo", "arguments": {}}));
        bench.mock("old").state.list_reached.notified().await;
        bench.reload(|r| r["servers"][0]["status"] = "killed".into());
        bench.mock("old").state.release.notify_one();
        let reply = end(handle).await;
        assert_eq!(reply.is_not_found(), !skipped);
        assert_eq!(bench.mock("old").state.executed("echo"), usize::from(skipped));
    }
}

#[tokio::test]
async fn sabotage_limit_lets_a_flood_through() {
    let bench = Bench::with(ONE, |r| r["rate_limits"] = json!([{"id": "l", "per": ["user"], "per_minute": 3}])).await;
    let flood = || async {
        for _ in 0..10 {
            bench.tool(&modern("alice"), "old_echo", json!({})).await;
        }
        bench.mock("old").state.executed("echo")
    };
    assert_eq!(flood().await, 3);
    bench.gate.sabotage().skip(Stage::Limit);
    assert_eq!(flood().await, 13);
}

#[tokio::test]
async fn sabotage_authorize_lets_a_write_through() {
    let bench = Bench::with(ONE, |r| r["portals"][0]["show_ungranted"] = true.into()).await;
    let attack = || async { bench.tool(&modern("alice"), "old_remove", json!({})).await };
    assert_eq!(attack().await.refusal().code, ReasonCode::WriteNotGranted);
    assert_eq!(bench.mock("old").state.executed("remove"), 0);
    bench.gate.sabotage().skip(Stage::Authorize);
    attack().await.json();
    assert_eq!(bench.mock("old").state.executed("remove"), 1);
}

#[tokio::test]
async fn sabotage_authorize_ignores_argument_rules() {
    let bench = Bench::with(ONE, |r| {
        r["policies"] = json!([{"id": "p", "cedar":
            "forbid(principal, action == Action::\"call_tool\", resource) when { context.args has n && context.args.n > 1 };"}]);
    })
    .await;
    let attack = || async { bench.tool(&modern("alice"), "old_echo", json!({"n": 2})).await };
    assert_eq!(attack().await.refusal().code, ReasonCode::PolicyDenied);
    bench.gate.sabotage().skip(Stage::Authorize);
    attack().await.json();
}

#[tokio::test]
async fn sabotage_credential_shares_one_session_between_people() {
    let sessions = |bench: &Bench| {
        let seen = bench.mock("old").state.seen.lock().unwrap();
        let calls = seen.iter().filter(|(method, _, _)| method == "tools/call");
        calls.map(|(_, session, _)| session.clone()).collect::<std::collections::HashSet<_>>().len()
    };
    for skipped in [false, true] {
        let bench = Bench::new(ONE).await;
        if skipped {
            bench.gate.sabotage().skip(Stage::Credential);
        }
        for user in ["alice", "bob"] {
            bench.tool(&legacy(user), "old_echo", json!({})).await.json();
        }
        assert_eq!(sessions(&bench), if skipped { 1 } else { 2 });
    }
}

#[tokio::test]
async fn sabotage_intend_forwards_a_write_without_a_trace() {
    for skipped in [false, true] {
        let bench = Bench::with(ONE, granted).await;
        bench.tool(&modern("alice"), "old_echo", json!({})).await.json();
        if skipped {
            bench.gate.sabotage().skip(Stage::Intend);
        }
        // The record breaks; a write must not happen unseen.
        bench.audit.close().await;
        bench.tool(&modern("alice"), "old_write", json!({})).await.refusal();
        assert_eq!(bench.mock("old").state.executed("write"), usize::from(skipped));
    }
}

#[tokio::test]
async fn sabotage_forward_answers_nothing() {
    let bench = Bench::new(ONE).await;
    bench.tool(&modern("alice"), "old_echo", json!({})).await.json();
    bench.gate.sabotage().skip(Stage::Forward);
    assert_eq!(bench.tool(&modern("alice"), "old_echo", json!({})).await.error_code(), -32603);
    assert_eq!(bench.mock("old").state.executed("echo"), 1);
}

#[tokio::test]
async fn sabotage_record_leaves_no_event() {
    let bench = Bench::new(ONE).await;
    bench.tool(&modern("alice"), "old_echo", json!({})).await.json();
    assert_eq!(bench.events_of("call").await.len(), 1);
    bench.gate.sabotage().skip(Stage::Record);
    bench.tool(&modern("alice"), "old_echo", json!({})).await.json();
    assert_eq!(bench.events_of("call").await.len(), 1, "without the stage a call leaves no trace");
}
