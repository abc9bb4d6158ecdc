//! P16, P37: calls with people's own accounts.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bartizan_accounts::{Accounts, AccountsDeps};
use bartizan_config::settings::Egress as EgressSettings;
use bartizan_egress::Egress;
use bartizan_model::{Clock, ReasonCode, ServerId};
use bartizan_store::repo::sealed::Key;
use bartizan_store::repo::upstream_account;
use bartizan_vault::{KeyRing, Records, Vault};
use bartizan_wire::{AskAnswer, RawJson};
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::bench::{Bench, NOW_MS, asked, end, legacy, modern};
use super::mock::Speaks;
use crate::{CallOutput, Stage};

const BOTH: &[(&str, Speaks)] = &[("old", Speaks::Legacy), ("new", Speaks::Modern)];
const URL: &str = "https://gate.example/connect/old";

/// A gate over servers that want personal tokens.
struct Office {
    bench: Bench,
    records: Records,
}

impl Office {
    async fn open(servers: &[(&'static str, Speaks)]) -> Self {
        let bench = Bench::with(servers, |resources| {
            for server in resources["servers"].as_array_mut().unwrap() {
                server["auth_type"] = "oauth".into();
            }
        })
        .await;
        for (_, mock) in &bench.mocks {
            *mock.state.tokens.lock().unwrap() = Some(HashSet::new());
        }
        let vault = Vault::new(KeyRing::ephemeral().unwrap()).unwrap();
        let egress = EgressSettings { private_allow: vec!["127.0.0.1".into()], ..EgressSettings::default() };
        let snapshot = Arc::clone(&bench.snapshot);
        let accounts = Accounts::new(AccountsDeps {
            store: bench.store.clone(),
            vault: vault.clone(),
            egress: Egress::new(&egress, Duration::from_secs(5)).unwrap(),
            clock: Arc::clone(&bench.clock) as Arc<dyn Clock>,
            public_url: "https://gate.example".to_owned(),
            servers: Arc::new(move |id: &ServerId| snapshot.load().servers.get(id).cloned()),
            record: Arc::new(|_| {}),
        });
        let _ = bench.gate.clone().with_accounts(accounts);
        let records = Records::new(vault, bench.store.clone());
        Self { bench, records }
    }

    /// What is stored of an account; `None` for one that must be connected again.
    async fn set(&self, server: &str, who: &str, token: Option<&str>) {
        let mock = self.bench.mock(server);
        let stored = json!({
            "access": token, "refresh": null, "issued_ms": NOW_MS - 3_600_000, "expires_ms": null,
            "issuer": "https://as.example", "server_url": mock.url, "resource": mock.url,
            "client_kind": "registered", "client_id": "c", "scopes": "", "connected_ms": NOW_MS,
        });
        let id = upstream_account::name(&format!("user:{who}"), server);
        let key = Key { tenant: String::new(), kind: "upstream_token".to_owned(), id };
        let old = self.records.get(&key).await.unwrap().map_or(0, |(version, _)| version);
        self.records.put(&key, old, stored.to_string().as_bytes()).await.unwrap();
    }

    /// The person connects the account.
    async fn connect(&self, server: &str, who: &str, token: &str) {
        self.good(server, token);
        self.set(server, who, Some(token)).await;
    }

    fn good(&self, server: &str, token: &str) {
        self.bench.mock(server).state.tokens.lock().unwrap().as_mut().unwrap().insert(token.to_owned());
    }

    /// The server takes all tokens back.
    fn revoke(&self, server: &str) {
        self.bench.mock(server).state.tokens.lock().unwrap().as_mut().unwrap().clear();
    }

    /// Tokens with which a tool was called.
    fn called_as(&self, server: &str) -> Vec<String> {
        let asked = self.bench.mock(server).state.asked_as.lock().unwrap();
        let calls = asked.iter().filter(|(_, message)| message["method"] == "tools/call");
        calls.map(|(token, _)| token.clone()).collect()
    }
}

#[tokio::test]
async fn p16_calls_go_with_the_callers_own_account() {
    let office = Office::open(BOTH).await;
    for who in ["alice", "bob"] {
        office.connect("old", who, &format!("old-{who}")).await;
        office.connect("new", who, &format!("new-{who}")).await;
    }
    let calls = (0..400).map(|n| {
        let (who, server) = (["alice", "bob"][n % 2], ["old", "new"][(n / 2) % 2]);
        let from = if n % 3 == 0 { legacy(who) } else { modern(who) };
        let bench = &office.bench;
        async move {
            let arguments = json!({"v": format!("{server}-{who}")});
            bench.tool(&from, &format!("{server}_echo"), arguments).await.json()
        }
    });
    join_all(calls).await;
    for server in ["old", "new"] {
        let asked = office.bench.mock(server).state.asked_as.lock().unwrap();
        let mut calls = 0;
        for (token, message) in asked.iter() {
            assert!(token.starts_with(server), "{message}");
            if message["method"] == "tools/call" {
                calls += 1;
                assert_eq!(message["params"]["arguments"]["v"], token.as_str());
            }
        }
        assert_eq!(calls, 200);
    }
    let events = office.bench.events_of("call").await;
    assert!(events.iter().any(|event| event["upstream_identity"] == "oauth_user:alice"), "{}", events[0]);
    let all = format!("{events:?}");
    assert!(!all.contains("Bearer"), "no token on record");
}

#[tokio::test]
async fn p16_nobody_calls_with_anothers_account() {
    let office = Office::open(BOTH).await;
    office.connect("old", "alice", "old-alice").await;
    let alice = modern("alice").able(json!({}));
    office.bench.tool(&alice, "old_echo", json!({"v": "x"})).await.json();
    // Bob has none: he sees no tool of the server and reaches nothing.
    let bob = modern("bob").able(json!({}));
    assert!(!office.bench.tool_names(&bob).await.iter().any(|name| name.starts_with("old_")));
    assert!(office.bench.tool(&bob, "old_echo", json!({"v": "x"})).await.is_not_found());
    assert_eq!(office.called_as("old"), ["old-alice"]);
    // Without the stage the request goes out without any token, not with hers.
    office.set("old", "bob", None).await;
    office.bench.gate.sabotage().skip(Stage::Credential);
    let _ = office.bench.tool(&alice, "old_echo", json!({"v": "x"})).await;
    assert_eq!(office.called_as("old"), ["old-alice"]);
}

#[tokio::test]
async fn p37_a_token_that_was_replaced_elsewhere_costs_one_more_request() {
    let office = Office::open(BOTH).await;
    for server in ["old", "new"] {
        for from in [modern("alice"), legacy("alice")] {
            let name = format!("{server}_echo");
            office.connect(server, "alice", "first").await;
            office.bench.tool(&from, &name, json!({"v": "1"})).await.json();
            let before = office.bench.mock(server).state.executed("echo");
            // Another process refreshed it; this one finds out by being refused.
            office.revoke(server);
            let second = format!("second-{before}");
            office.connect(server, "alice", &second).await;
            assert_eq!(office.bench.tool(&from, &name, json!({"v": "2"})).await.text(), "{\"v\":\"2\"}");
            assert_eq!(office.bench.mock(server).state.executed("echo"), before + 1, "executed once");
            assert_eq!(office.called_as(server).last(), Some(&second));
            office.revoke(server);
        }
    }
}

/// Connected, listed and then taken back.
async fn lost(servers: &[(&'static str, Speaks)], from: &super::bench::From) -> Office {
    let office = Office::open(servers).await;
    office.connect("old", from.user, "first").await;
    assert!(office.bench.tool_names(from).await.contains(&"old_echo".to_owned()));
    office.bench.tool(from, "old_echo", json!({"v": "1"})).await.json();
    office.revoke("old");
    office
}

fn request_state(reply: &Value) -> String {
    reply["requestState"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn p37_a_modern_client_is_asked_to_open_the_page_and_goes_on() {
    for speaks in [Speaks::Legacy, Speaks::Modern] {
        let alice = modern("alice");
        let office = lost(&[("old", speaks)], &alice).await;
        let params = json!({"name": "old_echo", "arguments": {"v": "2"}});
        let asked = office.bench.call(&alice, "tools/call", params.clone()).await.json();
        assert_eq!(asked["resultType"], "input_required");
        let ask = &asked["inputRequests"]["login"];
        assert_eq!((&ask["method"], &ask["params"]["mode"]), (&json!("elicitation/create"), &json!("url")));
        assert_eq!(ask["params"]["url"], URL);
        // Not yet: asked again.
        let mut retry = params.clone();
        retry["requestState"] = request_state(&asked).into();
        retry["inputResponses"] = json!({"login": {"action": "accept"}});
        let again = office.bench.call(&alice, "tools/call", retry.clone()).await.json();
        assert_eq!(again["resultType"], "input_required");
        // Nobody else can use her state.
        let mallory = office.bench.call(&modern("mallory"), "tools/call", retry.clone()).await;
        assert!(!matches!(mallory, crate::CallReply::Result(_)), "{mallory:?}");

        office.connect("old", "alice", "second").await;
        retry["requestState"] = request_state(&again).into();
        assert_eq!(office.bench.call(&alice, "tools/call", retry).await.text(), "{\"v\":\"2\"}");
        assert_eq!(office.called_as("old"), ["first", "second"]);
        assert_eq!(office.bench.mock("old").state.executed("echo"), 2);
    }
}

#[tokio::test]
async fn p37_a_legacy_client_opens_the_page_while_the_call_waits() {
    let alice = legacy("alice");
    let office = lost(BOTH, &alice).await;
    let mut handle = office.bench.start(&alice, "tools/call", json!({"name": "old_echo", "arguments": {"v": "2"}}));
    let (asks, answers) = asked(&mut handle).await;
    assert_eq!((asks.len(), asks[0].method.as_str()), (1, "elicitation/create"));
    assert_eq!((asks[0].text("mode").as_deref(), asks[0].text("url").as_deref()), (Some("url"), Some(URL)));
    let id = asks[0].text("elicitationId").unwrap();
    office.connect("old", "alice", "second").await;
    answers.send(vec![(asks[0].key.clone(), AskAnswer::Result(RawJson::from(&json!({"action": "accept"}))))]).unwrap();
    let mut completed = false;
    let reply = loop {
        match handle.next().await.unwrap() {
            CallOutput::Notify { method, params } if &*method == "notifications/elicitation/complete" => {
                completed |= params.unwrap().get("elicitationId").unwrap().as_string().unwrap() == id;
            }
            CallOutput::Done(reply) => break reply,
            _ => {}
        }
    };
    assert!(completed);
    assert_eq!(reply.text(), "{\"v\":\"2\"}");
    assert_eq!(office.called_as("old"), ["first", "second"]);
}

#[tokio::test]
async fn p37_who_does_not_open_the_page_is_refused() {
    for action in ["decline", "cancel"] {
        let alice = legacy("alice");
        let office = lost(BOTH, &alice).await;
        let mut handle = office.bench.start(&alice, "tools/call", json!({"name": "old_echo", "arguments": {"v": "2"}}));
        let (asks, answers) = asked(&mut handle).await;
        let answer = AskAnswer::Result(RawJson::from(&json!({"action": action})));
        answers.send(vec![(asks[0].key.clone(), answer)]).unwrap();
        let reply = end(handle).await;
        assert_eq!(reply.refusal().code, ReasonCode::LoginRequired);
        assert_eq!(office.called_as("old"), ["first"]);
    }
}

#[tokio::test]
async fn p37_other_clients_get_the_address_and_a_repeat_goes_on() {
    for from in [modern("alice").able(json!({})), legacy("alice").able(json!({"elicitation": {}}))] {
        let office = lost(BOTH, &from).await;
        for _ in 0..2 {
            let reply = office.bench.tool(&from, "old_echo", json!({"v": "2"})).await;
            let refusal = reply.refusal();
            assert_eq!((refusal.code, refusal.url.as_deref()), (ReasonCode::LoginRequired, Some(URL)));
            assert!(refusal.visible && refusal.message.as_ref().unwrap().contains(URL));
        }
        let events = office.bench.events_of("call").await;
        let last = events.last().unwrap();
        assert!(last.to_string().contains("login_required"), "{last}");
        assert!(!last.to_string().contains("first"), "{last}");
        office.connect("old", "alice", "second").await;
        assert_eq!(office.bench.tool(&from, "old_echo", json!({"v": "2"})).await.text(), "{\"v\":\"2\"}");
    }
}

#[tokio::test]
async fn p20_tools_stay_listed_while_the_account_is_gone() {
    let alice = modern("alice").able(json!({}));
    let office = lost(BOTH, &alice).await;
    office.set("old", "alice", None).await;
    for _ in 0..3 {
        office.bench.clock.advance_ms(120_000);
        let names = office.bench.tool_names(&alice).await;
        assert!(names.contains(&"old_echo".to_owned()), "{names:?}");
        assert_eq!(office.bench.tool(&alice, "old_echo", json!({})).await.refusal().code, ReasonCode::LoginRequired);
    }
}

#[tokio::test]
async fn p14_servers_that_need_a_login_are_listed_with_the_address() {
    let office = Office::open(BOTH).await;
    office.connect("new", "alice", "new-alice").await;
    let alice = modern("alice").able(json!({}));
    let listed = office.bench.tool(&alice, "portal_list_servers", json!({})).await.json();
    let servers = listed["structuredContent"]["servers"].as_array().unwrap().clone();
    assert_eq!(
        (&servers[0]["id"], &servers[0]["status"], &servers[0]["url"]),
        (&json!("old"), &json!("login_needed"), &json!(URL))
    );
    assert_eq!(servers[1]["id"], "new");
    assert!(servers[1]["url"].is_null());
}

#[tokio::test]
async fn p14_the_toggle_tool_gives_the_url_of_a_missing_login() {
    for from in [legacy("alice"), modern("alice").able(json!({}))] {
        let office = Office::open(BOTH).await;
        office.connect("new", "alice", "new-alice").await;
        let alice = from.kept(&office.bench.gate, "c:alice@portals/default").await;
        let toggle = async |server: &str, action: &str| {
            let arguments = json!({"server_id": server, "action": action});
            office.bench.tool(&alice, "portal_toggle_single_server", arguments).await.json()
        };
        let done = toggle("old", "toggle").await;
        let wanted = json!({"server_id": "old", "on": true, "status": "login_needed", "url": URL});
        assert_eq!((&done["isError"], &done["structuredContent"]), (&json!(false), &wanted));
        assert!(done["content"][0]["text"].as_str().unwrap().contains(URL), "{done}");
        // What is off asks for no account, and an account that is there is not asked for.
        let done = toggle("old", "untoggle").await;
        assert_eq!(done["structuredContent"], json!({"server_id": "old", "on": false, "status": "off"}));
        let done = toggle("new", "toggle").await;
        assert_eq!(done["structuredContent"], json!({"server_id": "new", "on": true, "status": "on"}));
        office.connect("old", "alice", "old-alice").await;
        let done = toggle("old", "toggle").await;
        assert_eq!(done["structuredContent"], json!({"server_id": "old", "on": true, "status": "on"}));
    }
}

#[tokio::test]
async fn p16_a_gate_without_accounts_sends_nothing() {
    let office = Office::open(BOTH).await;
    office.connect("old", "alice", "first").await;
    let other = office.bench.another("node-2", None);
    let call = modern("alice").request("tools/call", json!({"name": "old_echo", "arguments": {}}));
    assert!(end(other.call(call)).await.is_not_found());
    assert!(office.called_as("old").is_empty());
}
