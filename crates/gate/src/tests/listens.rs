//! Subscriptions: changed lists, updated resources, new snapshots (feature row P10).

use std::time::Duration;

use bartizan_wire::listen::Filter;
use serde_json::json;

use super::bench::{Bench, From, legacy, modern, value};
use super::mock::Speaks;
use crate::{Note, Subscription};

const BOTH: &[(&str, Speaks)] = &[("old", Speaks::Legacy), ("new", Speaks::Modern)];

fn everything() -> Filter {
    Filter { tools: true, prompts: true, resources: true, ..Filter::default() }
}

async fn listen(bench: &Bench, from: &From, filter: Filter) -> Subscription {
    bench.gate.subscribe(&from.endpoint, &from.caller(), filter).await.unwrap()
}

async fn next(subscription: &mut Subscription) -> Note {
    tokio::time::timeout(Duration::from_secs(10), subscription.next()).await.expect("a note").expect("open")
}

async fn opened(bench: &Bench, server: &str) {
    tokio::time::timeout(Duration::from_secs(10), bench.mock(server).state.stream_opened.notified()).await.unwrap();
}

#[tokio::test]
async fn p10_a_changed_list_is_dropped_before_anybody_hears_of_it() {
    for (server, speaks) in [("old", Speaks::Legacy), ("new", Speaks::Modern)] {
        let bench =
            Bench::with(&[(server, speaks)], |r| r["servers"][0]["classes"]["read"] = json!(["echo", "late"])).await;
        let alice = modern("alice");
        assert!(!bench.tool_names(&alice).await.contains(&format!("{server}_late")));
        let mut subscription = listen(&bench, &alice, everything()).await;
        assert!(subscription.accepted().tools);
        opened(&bench, server).await;
        bench.mock(server).state.tools.lock().unwrap().push(json!({"name": "late", "inputSchema": {"type": "object"}}));
        bench.mock(server).state.announce("notifications/tools/list_changed", json!({}));
        assert_eq!(&*next(&mut subscription).await.method, "notifications/tools/list_changed");
        assert!(bench.tool_names(&alice).await.contains(&format!("{server}_late")), "{server}");
        bench.tool(&alice, &format!("{server}_late"), json!({})).await.json();
    }
}

#[tokio::test]
async fn p10_nothing_that_was_not_asked_for() {
    let bench = Bench::new(&[("old", Speaks::Legacy)]).await;
    let mut subscription = listen(&bench, &modern("alice"), Filter { prompts: true, ..Filter::default() }).await;
    opened(&bench, "old").await;
    bench.mock("old").state.announce("notifications/tools/list_changed", json!({}));
    bench.mock("old").state.announce("notifications/message", json!({"level": "info", "data": "x"}));
    bench.mock("old").state.announce("notifications/prompts/list_changed", json!({}));
    assert_eq!(&*next(&mut subscription).await.method, "notifications/prompts/list_changed");
}

#[tokio::test]
async fn p10_updated_resources_come_under_the_clients_uri() {
    let bench = Bench::new(BOTH).await;
    let uri = "bartizan+uri://old/note://1".to_owned();
    let filter =
        Filter { uris: vec![uri.clone(), "bartizan+uri://none/x:y".into(), "x:y".into()], ..Filter::default() };
    let mut subscription = listen(&bench, &modern("alice"), filter).await;
    assert_eq!(subscription.accepted().uris, std::slice::from_ref(&uri), "only what exists is accepted");
    opened(&bench, "old").await;
    bench.mock("old").state.announce("notifications/resources/updated", json!({"uri": "note://2"}));
    bench.mock("old").state.announce("notifications/resources/updated", json!({"uri": "note://1", "x": 1.0}));
    let note = next(&mut subscription).await;
    assert_eq!(&*note.method, "notifications/resources/updated");
    assert_eq!(value(&note.params.unwrap()), json!({"uri": uri, "x": 1.0}));
    let control = subscription.control();
    assert!(control.add("bartizan+uri://old/note://2").await);
    assert!(!control.add("bartizan+uri://none/note://2").await);
    bench.mock("old").state.announce("notifications/resources/updated", json!({"uri": "note://2"}));
    let note = next(&mut subscription).await;
    assert_eq!(value(&note.params.unwrap())["uri"], "bartizan+uri://old/note://2");
    control.remove("bartizan+uri://old/note://2").await;
    bench.mock("old").state.announce("notifications/resources/updated", json!({"uri": "note://2"}));
    bench.mock("old").state.announce("notifications/resources/updated", json!({"uri": "note://1"}));
    let note = next(&mut subscription).await;
    assert_eq!(value(&note.params.unwrap())["uri"], uri.as_str());
}

#[tokio::test]
async fn p10_a_hundred_listeners_are_one_upstream_subscription() {
    let bench = Bench::new(&[("old", Speaks::Legacy)]).await;
    let users = ["alice", "bob", "carol"];
    let mut all = Vec::new();
    for n in 0..100 {
        let filter = Filter { tools: true, uris: vec!["bartizan+uri://old/note://1".into()], ..Filter::default() };
        all.push(listen(&bench, &legacy(users[n % 3]), filter).await);
    }
    opened(&bench, "old").await;
    assert_eq!(*bench.mock("old").state.subscribed.lock().unwrap(), ["note://1"]);
    bench.mock("old").state.announce("notifications/resources/updated", json!({"uri": "note://1"}));
    for subscription in &mut all {
        assert_eq!(&*next(subscription).await.method, "notifications/resources/updated");
    }
    drop(all);
    bench.idle().await;
}

#[tokio::test]
async fn p10_a_new_snapshot_is_told_and_followed() {
    let mut bench = Bench::with(BOTH, |r| r["servers"][1]["status"] = "disabled".into()).await;
    let mut subscription = listen(&bench, &modern("alice"), everything()).await;
    bench.reload(|r| r["servers"][1]["status"] = "enabled".into());
    let mut methods = Vec::new();
    for _ in 0..3 {
        methods.push(next(&mut subscription).await.method.to_string());
    }
    methods.sort();
    assert_eq!(
        methods,
        [
            "notifications/prompts/list_changed",
            "notifications/resources/list_changed",
            "notifications/tools/list_changed"
        ]
    );
    opened(&bench, "new").await;
    bench.mock("new").state.announce("notifications/tools/list_changed", json!({}));
    assert_eq!(&*next(&mut subscription).await.method, "notifications/tools/list_changed");
}

#[tokio::test]
async fn p10_what_a_new_rule_forbids_is_not_heard_any_longer() {
    for rule in [
        r#"forbid(principal == User::"alice", action == Action::"read_resource", resource);"#,
        r#"forbid(principal == User::"alice", action, resource in Server::"old");"#,
    ] {
        let mut bench = Bench::new(&[("old", Speaks::Legacy)]).await;
        let uri = "bartizan+uri://old/note://1".to_owned();
        let filter = Filter { tools: true, uris: vec![uri.clone()], ..Filter::default() };
        let mut alice = listen(&bench, &modern("alice"), filter.clone()).await;
        let mut bob = listen(&bench, &modern("bob"), filter).await;
        assert_eq!(alice.accepted().uris, std::slice::from_ref(&uri));
        opened(&bench, "old").await;
        let update = |bench: &Bench| {
            bench.mock("old").state.announce("notifications/resources/updated", json!({"uri": "note://1"}));
        };
        update(&bench);
        for subscription in [&mut alice, &mut bob] {
            assert_eq!(&*next(subscription).await.method, "notifications/resources/updated", "{rule}");
        }
        bench.reload(|r| r["policies"] = json!([{"id": "no", "cedar": rule}]));
        for subscription in [&mut alice, &mut bob] {
            assert_eq!(&*next(subscription).await.method, "notifications/tools/list_changed", "{rule}");
        }
        update(&bench);
        assert_eq!(&*next(&mut bob).await.method, "notifications/resources/updated", "others go on: {rule}");
        assert!(!alice.control().add(&uri).await, "nor is it taken again: {rule}");
        // Whatever is said from now on comes after what alice must not have heard.
        bench.reload(|r| r["grants"] = json!([]));
        assert_eq!(&*next(&mut alice).await.method, "notifications/tools/list_changed", "{rule}");
    }
}

#[tokio::test]
async fn p10_endpoints_one_may_not_use_are_not_found() {
    let bench = Bench::with(BOTH, |r| r["servers"][0]["policies"] = json!([])).await;
    for from in [modern("alice").at("old"), modern("alice").at("none")] {
        let reply = bench.gate.subscribe(&from.endpoint, &from.caller(), everything()).await;
        assert!(reply.is_err_and(|reply| reply.is_not_found()));
    }
    let filter = Filter { uris: vec!["bartizan+uri://old/note://1".into()], ..Filter::default() };
    assert!(listen(&bench, &modern("alice"), filter).await.accepted().uris.is_empty());
}

#[tokio::test]
async fn o7_draining_ends_subscriptions() {
    let bench = Bench::new(BOTH).await;
    let mut subscription = listen(&bench, &modern("alice"), everything()).await;
    assert!(bench.gate.drain(Duration::from_secs(5)).await);
    assert!(subscription.next().await.is_none());
}
