//! Servers that callers switch off for themselves, and the page for it (feature rows P14,
//! P36, P38).

use std::sync::Arc;
use std::time::Duration;

use bartizan_model::{Principal, PrincipalKind, ServerId};
use bartizan_wire::listen::Filter;
use serde_json::{Value, json};

use super::bench::{Bench, From, legacy, modern};
use super::mock::Speaks;
use crate::{Circumstances, LinkError, NewSession, PortalStates, Subscription, session_holder};

const BOTH: &[(&str, Speaks)] = &[("old", Speaks::Legacy), ("new", Speaks::Modern)];
const HOUR: i64 = 3_600_000;

/// Services may come in too.
fn services(r: &mut Value) {
    let count = r["servers"].as_array().map_or(0, Vec::len);
    let places = (0..count).map(|at| format!("/servers/{at}/policies")).chain(["/portals/0/policies".to_owned()]);
    for place in places {
        if let Some(policies) = r.pointer_mut(&place).and_then(Value::as_array_mut) {
            policies.push(json!({"name": "services", "action": "service_auth", "include": [{"everyone": true}]}));
        }
    }
}

async fn bench() -> Bench {
    let mut bench = Bench::with(BOTH, services).await;
    bench.gate = bench.gate.clone().with_selection_page("https://mcp.example.com/");
    bench
}

async fn session(bench: &Bench, id: &str) -> Arc<str> {
    let holder = session_holder(id);
    let new = NewSession { id: &holder, counted: "user:alice", digest: "d", profile: "{}", most: 10 };
    bench.gate.states().open(new).await.unwrap();
    holder
}

async fn toggle(bench: &Bench, from: &From, server: &str, action: &str) -> Value {
    let arguments = json!({"server_id": server, "action": action});
    bench.tool(from, "portal_toggle_single_server", arguments).await.json()
}

async fn offers(bench: &Bench, from: &From, server: &str) -> bool {
    bench.tool_names(from).await.iter().any(|name| name.starts_with(&format!("{server}_")))
}

/// The callers that keep switches: a legacy session, and a grant of a modern client.
async fn keepers(bench: &Bench) -> [(From, Arc<str>); 2] {
    [(legacy("alice"), session(bench, "one").await), (modern("alice"), "c:grant:1@portals/all".into())]
}

#[tokio::test]
async fn p36_what_is_switched_off_is_unknown_until_it_is_switched_on() {
    let bench = bench().await;
    for (from, holder) in keepers(&bench).await {
        let on = from.clone().kept(&bench.gate, &holder).await;
        let done = toggle(&bench, &on, "old", "untoggle").await;
        assert_eq!(done["structuredContent"], json!({"server_id": "old", "on": false, "status": "off"}));
        assert_eq!(done["isError"], false);
        let off = from.clone().kept(&bench.gate, &holder).await;
        assert!(!offers(&bench, &off, "old").await && offers(&bench, &off, "new").await);
        let (hidden, unknown) =
            (bench.tool(&off, "old_echo", json!({})).await, bench.tool(&off, "old_nothing", json!({})).await);
        assert!(hidden.is_not_found() && unknown.is_not_found());
        assert!(bench.call(&off, "prompts/get", json!({"name": "old_greet"})).await.is_not_found());
        let read = json!({"uri": "bartizan+uri://old/note://1"});
        assert!(bench.call(&off, "resources/read", read.clone()).await.is_not_found());
        let lines = bench.tool(&off, "portal_list_servers", json!({})).await.json();
        assert_eq!(
            lines["structuredContent"]["servers"][0],
            json!({"id": "old", "name": "old", "on": false, "status": "off"})
        );
        // What keeps them away is the selection alone: without it the same calls go through.
        bench.tool(&on, "old_echo", json!({})).await.json();
        bench.call(&on, "resources/read", read).await.json();
        // At its own endpoint a server has no switch.
        bench.tool(&off.clone().at("old"), "echo", json!({})).await.json();
        let done = toggle(&bench, &off, "old", "toggle").await;
        assert_eq!(done["structuredContent"], json!({"server_id": "old", "on": true, "status": "on"}));
        assert!(offers(&bench, &from.kept(&bench.gate, &holder).await, "old").await);
    }
}

#[tokio::test]
async fn p36_switches_of_one_are_nobody_elses() {
    let bench = bench().await;
    let (one, two) = (session(&bench, "one").await, session(&bench, "two").await);
    let grant: Arc<str> = "c:grant:1@portals/all".into();
    toggle(&bench, &legacy("alice").kept(&bench.gate, &one).await, "old", "untoggle").await;
    for other in [
        legacy("alice").kept(&bench.gate, &two).await,
        legacy("bob").kept(&bench.gate, &session(&bench, "bobs").await).await,
        modern("alice").kept(&bench.gate, &grant).await,
        modern("bob").kept(&bench.gate, "c:grant:2@portals/all").await,
    ] {
        assert!(offers(&bench, &other, "old").await);
        bench.tool(&other, "old_echo", json!({})).await.json();
    }
    assert!(!offers(&bench, &legacy("alice").kept(&bench.gate, &one).await, "old").await);
}

#[tokio::test]
async fn p36_switches_of_a_session_go_with_it_and_those_of_a_grant_stay() {
    let bench = bench().await;
    for (from, holder) in keepers(&bench).await {
        toggle(&bench, &from.kept(&bench.gate, &holder).await, "old", "untoggle").await;
    }
    bench.clock.advance_ms(24 * HOUR);
    bench.gate.states().prune(24 * HOUR).await;
    let gone = PortalStates::new(Some(bench.store.clone()), bench.clock.clone());
    assert_eq!(gone.get(&session_holder("one")).await.unwrap().map(|_| ()), None);
    let kept = gone.get(&"c:grant:1@portals/all".into()).await.unwrap().unwrap();
    assert_eq!(*kept.off, [ServerId::parse("old").unwrap()]);
    assert!(!offers(&bench, &modern("alice").kept(&bench.gate, "c:grant:1@portals/all").await, "old").await);
}

async fn listen(bench: &Bench, from: &From) -> Subscription {
    let filter = Filter { tools: true, ..Filter::default() };
    bench.gate.subscribe(&from.endpoint, &from.caller(), filter).await.unwrap()
}

async fn heard(listener: &mut Subscription, within: Duration) -> Option<String> {
    let note = tokio::time::timeout(within, listener.next()).await.ok()?;
    note.map(|note| note.method.to_string())
}

#[tokio::test]
async fn p36_a_switch_is_told_at_once_and_only_where_it_was_made() {
    let bench = bench().await;
    let other = legacy("alice").kept(&bench.gate, &session(&bench, "two").await).await;
    for (from, holder) in keepers(&bench).await {
        let from = from.kept(&bench.gate, &holder).await;
        let (mut mine, mut others) = (listen(&bench, &from).await, listen(&bench, &other).await);
        toggle(&bench, &from, "old", "untoggle").await;
        let note = heard(&mut mine, Duration::from_secs(5)).await;
        assert_eq!(note.as_deref(), Some("notifications/tools/list_changed"));
        assert_eq!(heard(&mut others, Duration::from_millis(100)).await, None);
        // The same once more is no change.
        toggle(&bench, &from, "old", "untoggle").await;
        assert_eq!(heard(&mut mine, Duration::from_millis(100)).await, None);
    }
}

#[tokio::test]
async fn p36_the_subscription_of_a_session_ends_with_it() {
    let bench = bench().await;
    let holder = session(&bench, "one").await;
    let mut listener = listen(&bench, &legacy("alice").kept(&bench.gate, &holder).await).await;
    bench.gate.states().end(&holder).await.unwrap();
    assert_eq!(tokio::time::timeout(Duration::from_secs(5), listener.next()).await.unwrap(), None);
}

#[tokio::test]
async fn p14_switching_one_server_refuses_what_it_does_not_know() {
    let bench = Bench::with(BOTH, |r| {
        r["servers"][0]["policies"] = json!([]);
        r["servers"][1]["status"] = "killed".into();
    })
    .await;
    for (from, holder) in keepers(&bench).await {
        let from = from.kept(&bench.gate, &holder).await;
        let (hidden, absent) =
            (toggle(&bench, &from, "old", "toggle").await, toggle(&bench, &from, "nil", "toggle").await);
        let text = |reply: &Value| reply["content"][0]["text"].as_str().unwrap().to_owned();
        assert_eq!(text(&hidden).replace("old", "nil"), text(&absent), "one that is not for the caller is unknown");
        assert_eq!((&hidden["isError"], &absent["isError"]), (&json!(true), &json!(true)));
        for arguments in [
            json!({}),
            json!({"server_id": "old"}),
            json!({"server_id": 1, "action": "toggle"}),
            json!({"server_id": "new", "action": "TOGGLE"}),
            json!({"server_id": ["new"], "action": {"a": 1}}),
        ] {
            let reply = bench.tool(&from, "portal_toggle_single_server", arguments).await.json();
            assert_eq!(reply["isError"], true);
        }
        let killed = toggle(&bench, &from, "new", "toggle").await;
        assert_eq!(killed["structuredContent"], json!({"server_id": "new", "on": false, "status": "killed"}));
    }
    // Nothing can be kept for who did not sign in.
    let reply = toggle(&bench, &modern("alice"), "new", "untoggle").await;
    assert_eq!(reply["isError"], true);
    let text = bench.whole_record().await;
    assert!(text.contains("new switched on"), "it is on record");
}

fn alice() -> Arc<Principal> {
    Arc::new(Principal::new(PrincipalKind::User, "alice", [Arc::from("engineering")]))
}

async fn link(bench: &Bench, from: &From) -> String {
    let reply = bench.tool(from, "portal_toggle_servers", json!({})).await.json();
    let url = reply["structuredContent"]["url"].as_str().unwrap().to_owned();
    assert!(reply["content"][0]["text"].as_str().unwrap().contains(&url));
    let (page, handle) = url.split_once("?elicitationId=").unwrap();
    assert!(page.starts_with("https://mcp.example.com/") && page.ends_with("/authorize"), "{page}");
    handle.to_owned()
}

#[tokio::test]
async fn p14_the_selection_page_is_for_one_person_one_use_and_ten_minutes() {
    let bench = bench().await;
    let facts = Circumstances::default();
    for (from, holder) in keepers(&bench).await {
        let from = from.kept(&bench.gate, &holder).await;
        let handle = link(&bench, &from).await;
        let view = bench.gate.selection(&alice(), &facts, None, &handle).await.unwrap();
        let lines = |view: &crate::SelectionView| {
            view.servers.iter().map(|line| (line.id.to_string(), line.on)).collect::<Vec<_>>()
        };
        assert_eq!(lines(&view), [("old".to_owned(), true), ("new".to_owned(), true)]);
        // Of somebody else it is not even used up.
        let bob = Arc::new(Principal::new(PrincipalKind::User, "bob", []));
        let service = Arc::new(Principal::new(PrincipalKind::Service, "alice", []));
        for other in [bob, service] {
            let seen = bench.gate.selection(&other, &facts, None, &handle).await;
            assert_eq!(seen.err(), Some(LinkError::OtherPerson));
            let chosen = bench.gate.select(&other, &facts, None, &handle, &[]).await;
            assert_eq!(chosen.err(), Some(LinkError::OtherPerson));
        }
        for bad in ["", "x", &handle[1..], &handle[..handle.len() - 2], &"A".repeat(100_000)] {
            assert_eq!(bench.gate.selection(&alice(), &facts, None, bad).await.err(), Some(LinkError::Gone));
        }
        let chosen = bench.gate.select(&alice(), &facts, None, &handle, &["new".to_owned(), "nil".to_owned()]).await;
        assert_eq!(lines(&chosen.unwrap()), [("old".to_owned(), false), ("new".to_owned(), true)]);
        let off = from.clone().kept(&bench.gate, &holder).await;
        assert!(!offers(&bench, &off, "old").await);
        let again = bench.gate.select(&alice(), &facts, None, &handle, &[]).await;
        assert_eq!(again.err(), Some(LinkError::Gone), "one use");
        assert!(offers(&bench, &off, "new").await);
        let handle = link(&bench, &from).await;
        bench.clock.advance_ms(10 * 60 * 1000);
        assert_eq!(bench.gate.selection(&alice(), &facts, None, &handle).await.err(), Some(LinkError::Gone));
        assert_eq!(bench.gate.select(&alice(), &facts, None, &handle, &[]).await.err(), Some(LinkError::Gone));
    }
    // The page of a session that ended.
    let holder = session(&bench, "short").await;
    let handle = link(&bench, &legacy("alice").kept(&bench.gate, &holder).await).await;
    bench.gate.states().end(&holder).await.unwrap();
    assert_eq!(bench.gate.selection(&alice(), &facts, None, &handle).await.err(), Some(LinkError::Gone));
    assert_eq!(bench.gate.select(&alice(), &facts, None, &handle, &[]).await.err(), Some(LinkError::Gone));
    // Whoever is no person has no page.
    let robot = From { kind: PrincipalKind::Service, ..modern("ci") }.kept(&bench.gate, "c:bzs_1@portals/all").await;
    let reply = bench.tool(&robot, "portal_toggle_servers", json!({})).await;
    assert!(!reply.text().contains("https://"), "{}", reply.text());
}

#[tokio::test]
async fn p36_what_the_page_does_not_let_choose_stays_as_it_is() {
    let mut bench = bench().await;
    let facts = Circumstances::default();
    let servers = bench.resources["servers"].clone();
    let hidden = |r: &mut Value| r["servers"][0]["policies"] = json!([]);
    let disabled = |r: &mut Value| r["servers"][0]["status"] = "disabled".into();
    let hide: [&dyn Fn(&mut Value); 2] = [&hidden, &disabled];
    for (from, holder) in keepers(&bench).await {
        for hide in hide {
            for on in [false, true] {
                let from = from.clone().kept(&bench.gate, &holder).await;
                toggle(&bench, &from, "old", if on { "toggle" } else { "untoggle" }).await;
                bench.reload(hide);
                let handle = link(&bench, &from).await;
                // A server without a switch is not named by the form.
                bench.gate.select(&alice(), &facts, None, &handle, &["new".to_owned()]).await.unwrap();
                bench.reload(|r| r["servers"] = servers.clone());
                let from = from.clone().kept(&bench.gate, &holder).await;
                assert_eq!(offers(&bench, &from, "old").await, on);
                assert!(offers(&bench, &from, "new").await);
            }
        }
    }
}

#[tokio::test]
async fn p38_servers_that_were_added_are_marked_on_the_page() {
    let mut bench = bench().await;
    let facts = Circumstances::default();
    let holder = session(&bench, "one").await;
    let all = bench.resources["portals"][0].clone();
    bench.reload(|r| r["portals"][0]["servers"] = json!(["old"]));
    let from = legacy("alice").kept(&bench.gate, &holder).await;
    let added = |view: crate::SelectionView| view.added.iter().map(ToString::to_string).collect::<Vec<_>>();
    let handle = link(&bench, &from).await;
    assert!(added(bench.gate.selection(&alice(), &facts, None, &handle).await.unwrap()).is_empty(), "the first time");
    bench.gate.select(&alice(), &facts, None, &handle, &["old".to_owned()]).await.unwrap();
    bench.reload(|r| r["portals"][0] = all);
    let handle = link(&bench, &from).await;
    assert_eq!(added(bench.gate.selection(&alice(), &facts, None, &handle).await.unwrap()), ["new"]);
    bench.gate.select(&alice(), &facts, None, &handle, &["old".to_owned(), "new".to_owned()]).await.unwrap();
    let handle = link(&bench, &from).await;
    assert!(added(bench.gate.selection(&alice(), &facts, None, &handle).await.unwrap()).is_empty());
}

/// A bench with one server at its portal, to which two are added later.
async fn growing() -> Bench {
    let servers = [("old", Speaks::Legacy), ("one", Speaks::Legacy), ("two", Speaks::Modern)];
    let mut bench = Bench::with(&servers, services).await;
    bench.gate = bench.gate.clone().with_selection_page("https://mcp.example.com/");
    bench.reload(|r| r["portals"][0]["servers"] = json!(["old"]));
    bench
}

fn grow(bench: &mut Bench) {
    bench.reload(|r| r["portals"][0]["servers"] = json!(["old", "one", "two"]));
}

#[tokio::test]
async fn p38_servers_that_were_added_are_one_prompt() {
    let mut bench = growing().await;
    let modern = modern("alice").kept(&bench.gate, "c:grant:1@portals/all").await;
    let legacy = legacy("alice").kept(&bench.gate, &session(&bench, "one").await).await;
    // Before anything is added nobody is bothered.
    assert!(bench.tool(&modern, "old_echo", json!({})).await.json()["content"].is_array());
    assert!(bench.tool(&legacy, "old_echo", json!({})).await.json()["content"].is_array());
    grow(&mut bench);
    let asked = bench.tool(&modern, "old_echo", json!({})).await.json();
    assert_eq!(asked["resultType"], "input_required", "{asked}");
    let requests = asked["inputRequests"].as_object().unwrap();
    assert_eq!(requests.len(), 1, "one prompt for both");
    let params = &requests.values().next().unwrap()["params"];
    assert_eq!(params["mode"], "url");
    assert!(params["message"].as_str().unwrap().contains("one, two"), "{params}");
    let handle = params["url"].as_str().unwrap().split_once("elicitationId=").unwrap().1;
    let view = bench.gate.selection(&alice(), &Circumstances::default(), None, handle).await.unwrap();
    assert_eq!(view.added.len(), 2, "one page for both");
    // Once, also for a client that just calls again.
    for _ in 0..3 {
        assert!(bench.tool(&modern, "old_echo", json!({})).await.json()["content"].is_array());
    }
    // Legacy: a question on the stream of the call, which goes on with the answer.
    let mut handle = bench.start(&legacy, "tools/call", json!({"name": "old_echo", "arguments": {}}));
    let Some(crate::CallOutput::Ask { asks, answers }) = handle.next().await else { panic!("nothing asked") };
    assert_eq!((asks.len(), asks[0].method.as_str()), (1, "elicitation/create"));
    let decline =
        bartizan_wire::AskAnswer::Result(bartizan_wire::RawJson::try_from(r#"{"action":"decline"}"#).unwrap());
    answers.send(vec![(asks[0].key.clone(), decline)]).unwrap();
    assert!(super::bench::end(handle).await.json()["content"].is_array());
    assert!(bench.tool(&legacy, "old_echo", json!({})).await.json()["content"].is_array());
}

#[tokio::test]
async fn p38_who_cannot_be_prompted_is_not_held_up() {
    let mut bench = growing().await;
    let callers = [
        modern("alice").able(json!({"elicitation": {"form": {}}})).kept(&bench.gate, "c:grant:1@portals/all").await,
        From { kind: PrincipalKind::Service, ..modern("ci") }.kept(&bench.gate, "c:bzs_1@portals/all").await,
        modern("alice"),
    ];
    for caller in &callers {
        bench.tool(caller, "old_echo", json!({})).await;
    }
    grow(&mut bench);
    for caller in &callers {
        assert_ne!(bench.tool(caller, "old_echo", json!({})).await.json()["resultType"], "input_required");
    }
    // Who chose on the page is not prompted either.
    let chooser = modern("bob").kept(&bench.gate, "c:grant:2@portals/all").await;
    bench.reload(|r| r["portals"][0]["servers"] = json!(["old"]));
    bench.tool(&chooser, "old_echo", json!({})).await.json();
    grow(&mut bench);
    let bob = Arc::new(Principal::new(PrincipalKind::User, "bob", []));
    let url = bench.tool(&chooser, "portal_toggle_servers", json!({})).await.json();
    let handle = url["structuredContent"]["url"].as_str().unwrap().split_once('=').unwrap().1.to_owned();
    let on = ["old", "one", "two"].map(str::to_owned);
    bench.gate.select(&bob, &Circumstances::default(), None, &handle, &on).await.unwrap();
    assert!(bench.tool(&chooser, "old_echo", json!({})).await.json()["content"].is_array());
}
