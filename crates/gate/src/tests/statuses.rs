//! P23: a server that fails in every way, and what is said about it.

use std::sync::atomic::Ordering;

use bartizan_model::ServerId;
use serde_json::{Value, json};

use super::bench::{Bench, modern};
use super::mock::Speaks;
use crate::ServerState;

const ONE: &[(&str, Speaks)] = &[("old", Speaks::Legacy)];

fn state(bench: &Bench) -> ServerState {
    let spec = bench.snapshot.load().servers[&ServerId::parse("old").unwrap()].clone();
    bench.gate.server_state(&spec).0
}

/// What a client is told.
async fn line(bench: &Bench) -> Value {
    let reply = bench.tool(&modern("alice"), "portal_list_servers", json!({})).await.json();
    reply["structuredContent"]["servers"][0].clone()
}

/// Lists, an hour later, so that nothing is fresh.
async fn again(bench: &Bench) {
    bench.clock.advance_ms(3_700_000);
    let _ = bench.list(&modern("alice"), "tools/list").await;
}

/// Long enough that what is now is announced.
async fn announce(bench: &Bench) -> usize {
    let first = bench.gate.announce_states().await.len();
    bench.clock.advance_ms(10_000);
    first + bench.gate.announce_states().await.len()
}

async fn notices(bench: &Bench) -> Vec<String> {
    let events = bench.events_of("system").await;
    let ours = events.iter().filter(|event| event["method"] == "server/status");
    ours.map(|event| format!("{} {}", event["server"].as_str().unwrap(), event["note"].as_str().unwrap())).collect()
}

#[tokio::test]
async fn p23_each_state_and_one_notice_per_change() {
    let bench = Bench::new(ONE).await;
    assert_eq!(state(&bench), ServerState::Waiting);
    assert_eq!(announce(&bench).await, 0);

    // It fails before anything is known of it.
    let mock = bench.mock("old");
    mock.state.broken.store(true, Ordering::Release);
    again(&bench).await;
    assert_eq!(state(&bench), ServerState::Error);
    let told = line(&bench).await;
    assert_eq!((&told["status"], &told["error_details"]["retryable"]), (&json!("error"), &json!(true)));
    assert_eq!(told["error_details"]["status_code"], 500);
    assert_eq!(told["error_details"]["is_upstream"], true);
    assert_eq!((announce(&bench).await, announce(&bench).await), (1, 0), "once");

    mock.state.broken.store(false, Ordering::Release);
    again(&bench).await;
    assert_eq!(state(&bench), ServerState::Ready);
    let told = line(&bench).await;
    assert_eq!((&told["status"], &told["error_details"]), (&json!("ready"), &Value::Null));
    assert_eq!((announce(&bench).await, announce(&bench).await), (1, 0));

    // It fails, and what it offered is shown.
    mock.state.broken.store(true, Ordering::Release);
    again(&bench).await;
    assert_eq!(state(&bench), ServerState::Stale);
    assert_eq!(line(&bench).await["status"], "stale");
    assert_eq!((announce(&bench).await, announce(&bench).await), (1, 0));

    // It comes and goes quicker than anybody could care: no notice.
    for _ in 0..5 {
        mock.state.broken.store(false, Ordering::Release);
        again(&bench).await;
        assert!(bench.gate.announce_states().await.is_empty());
        mock.state.broken.store(true, Ordering::Release);
        again(&bench).await;
        assert!(bench.gate.announce_states().await.is_empty());
    }

    mock.state.broken.store(false, Ordering::Release);
    again(&bench).await;
    assert_eq!(announce(&bench).await, 1);
    // It says that its tools changed.
    bench.gate.0.lists.changed(&ServerId::parse("old").unwrap(), bartizan_upstream::ListKind::Tools);
    assert_eq!(state(&bench), ServerState::SyncRequired);
    assert_eq!(line(&bench).await["status"], "sync_required");
    assert_eq!(announce(&bench).await, 1);
    again(&bench).await;
    assert_eq!(state(&bench), ServerState::Ready);
    assert_eq!(announce(&bench).await, 1);

    let notices = notices(&bench).await;
    let starts = [
        "old Waiting -> Error: {\"status_code\":500,",
        "old Error -> Ready",
        "old Ready -> Stale: {\"status_code\":500,",
        "old Stale -> Ready",
        "old Ready -> Sync Required",
        "old Sync Required -> Ready",
    ];
    assert_eq!(notices.len(), starts.len(), "{notices:?}");
    for (notice, start) in notices.iter().zip(starts) {
        assert!(notice.starts_with(start), "{notice}");
    }
}
