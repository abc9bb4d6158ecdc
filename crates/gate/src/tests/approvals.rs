//! W12, A16: calls that wait until somebody else said yes.

use std::sync::Arc;
use std::time::Duration;

use bartizan_approvals::{Answer, Approvals, ApprovalsDeps, Decider, EntryQuestion};
use bartizan_model::{Clock, ManualClock, Principal, PrincipalKind, ReasonCode, Role, RoleSet};
use bartizan_vault::{KeyRing, Vault};
use bartizan_wire::{AskAnswer, RawJson};
use serde_json::{Value, json};

use super::bench::{Bench, From, asked, end, legacy, modern};
use super::mock::Speaks;
use crate::Stage;

const BOTH: &[(&str, Speaks)] = &[("old", Speaks::Legacy), ("new", Speaks::Modern)];

struct Office {
    bench: Bench,
    approvals: Approvals,
}

fn granted(approvers: &str) -> impl FnOnce(&mut Value) {
    let asked = json!({"approvers": approvers});
    move |r| {
        r["grants"] = json!([{"id": "g", "principals": ["everyone"], "server": "old", "classes": ["write"],
            "require_approval": asked}]);
    }
}

impl Office {
    async fn open(edit: impl FnOnce(&mut Value)) -> Self {
        let bench = Bench::with(BOTH, edit).await;
        let approvals = Approvals::new(ApprovalsDeps {
            store: bench.store.clone(),
            vault: Vault::new(KeyRing::from_keys([3; 32], []).unwrap()).unwrap(),
            audit: bench.audit.clone(),
            clock: Arc::<ManualClock>::clone(&bench.clock) as Arc<dyn Clock>,
            public_url: Some("https://gate.example".to_owned()),
        });
        let _ = bench.gate.clone().with_approvals(approvals.clone());
        Self { bench, approvals }
    }

    fn executed(&self) -> usize {
        self.bench.mock("old").state.executed("write") + self.bench.mock("old").state.executed("echo")
    }

    async fn only_open(&self) -> String {
        let open = self.approvals.to_decide(&leader(), 10).await.unwrap();
        assert_eq!(open.len(), 1);
        open[0].row.id.clone()
    }

    async fn answer(&self, answer: Answer) {
        let id = self.only_open().await;
        self.approvals.decide(&leader(), &id, &answer, Some("because"), None).await.unwrap();
    }
}

fn leader() -> Decider {
    let principal = Arc::new(Principal::new(PrincipalKind::User, "lea", ["leads".into()]));
    Decider::Person { principal, roles: RoleSet::NONE.with(Role::Employee) }
}

fn plain(from: From) -> From {
    from.able(json!({}))
}

#[tokio::test]
async fn w12_without_elicitation_the_repeat_of_the_same_call_goes_on_once() {
    for alice in [plain(legacy("alice")), plain(modern("alice"))] {
        let office = Office::open(granted("group:leads")).await;
        let call = async |v: &str| office.bench.tool(&alice, "old_write", json!({"v": v, "n": 1})).await;
        let refusal = call("1").await.refusal().clone();
        let id = office.only_open().await;
        assert_eq!(refusal.code, ReasonCode::ApprovalRequired);
        assert_eq!(refusal.url.as_deref(), Some(&*format!("https://gate.example/approvals/{id}")));
        assert!(refusal.message.unwrap().contains(&id));
        assert_eq!(call("1").await.refusal().code, ReasonCode::ApprovalRequired);
        office.answer(Answer::Call).await;
        // Another argument is another call.
        assert_eq!(call("2").await.refusal().code, ReasonCode::ApprovalRequired);
        assert_eq!(office.executed(), 0);
        // The order of members does not make one.
        office.bench.tool(&alice, "old_write", json!({"n": 1, "v": "1"})).await.json();
        assert_eq!(office.executed(), 1);
        assert_eq!(call("1").await.refusal().code, ReasonCode::ApprovalRequired, "once");
        assert_eq!(office.executed(), 1);
        let text = office.bench.whole_record().await;
        for method in ["approval/asked", "approval/approved", "approval/used"] {
            assert!(text.contains(method), "{method}");
        }
    }
}

#[tokio::test]
async fn w12_a_modern_client_is_sent_to_the_page_and_goes_on() {
    let office = Office::open(granted("group:leads")).await;
    let alice = modern("alice");
    let params = json!({"name": "old_write", "arguments": {"v": "1"}});
    let first = office.bench.call(&alice, "tools/call", params.clone()).await.json();
    assert_eq!(first["resultType"], "input_required");
    let ask = &first["inputRequests"]["approval"];
    let id = office.only_open().await;
    assert_eq!(
        (&ask["params"]["mode"], &ask["params"]["url"]),
        (&json!("url"), &json!(format!("https://gate.example/approvals/{id}")))
    );
    assert!(ask["params"]["message"].as_str().unwrap().contains("group:leads"));
    let retry = |state: &Value| {
        let mut retry = params.clone();
        retry["requestState"] = state["requestState"].clone();
        retry["inputResponses"] = json!({"approval": {"action": "accept"}});
        retry
    };
    // Not yet: asked again, about the same question.
    let again = office.bench.call(&alice, "tools/call", retry(&first)).await.json();
    assert_eq!(again["resultType"], "input_required");
    office.only_open().await;
    assert_eq!(office.executed(), 0);
    office.answer(Answer::Call).await;
    let done = office.bench.call(&alice, "tools/call", retry(&again)).await.json();
    assert_ne!(done["resultType"], "input_required");
    assert_eq!(office.executed(), 1);
}

#[tokio::test]
async fn w12_a_legacy_client_waits_on_its_stream() {
    for (answer, executed) in [(Answer::Call, 1), (Answer::Reject, 0)] {
        let office = Office::open(granted("group:leads")).await;
        let params = json!({"name": "old_write", "arguments": {"v": "1"}});
        let mut call = office.bench.start(&legacy("alice"), "tools/call", params);
        let (asks, answers) = asked(&mut call).await;
        let url = asks[0].params.as_ref().unwrap().get("url").unwrap();
        assert!(url.as_string().unwrap().starts_with("https://gate.example/approvals/"));
        let accept = AskAnswer::Result(RawJson::from(&json!({"action": "accept"})));
        answers.send(vec![(asks[0].key.clone(), accept)]).unwrap();
        office.answer(answer).await;
        let reply = tokio::time::timeout(Duration::from_secs(20), end(call)).await.unwrap();
        match executed {
            1 => drop(reply.json()),
            _ => assert_eq!(reply.refusal().code, ReasonCode::ApprovalRejected),
        }
        assert_eq!(office.executed(), executed);
    }
}

#[tokio::test]
async fn w12_the_person_confirms_in_the_client_with_our_text() {
    // Modern: in the answer and the next round. The text is ours, with all arguments.
    for (action, executed) in [("accept", 1), ("decline", 0)] {
        let office = Office::open(granted("self")).await;
        let params = json!({"name": "old_write", "arguments": {"v": "all\u{202e} of it"}});
        let first = office.bench.call(&modern("alice"), "tools/call", params.clone()).await.json();
        let (key, ask) = first["inputRequests"].as_object().unwrap().iter().next().unwrap();
        assert_eq!(ask["params"]["mode"], "form");
        let text = ask["params"]["message"].as_str().unwrap();
        for part in ["user:alice wants to call write of old", "all\\u{202e} of it", "Class: write"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let mut retry = params;
        retry["requestState"] = first["requestState"].clone();
        retry["inputResponses"] = json!({key: {"action": action, "content": {}}});
        let reply = office.bench.call(&modern("alice"), "tools/call", retry).await;
        match executed {
            1 => drop(reply.json()),
            _ => assert_eq!(reply.refusal().code, ReasonCode::ApprovalRejected),
        }
        assert_eq!(office.executed(), executed);
    }
    // Legacy: on the stream.
    let office = Office::open(granted("self")).await;
    let params = json!({"name": "old_write", "arguments": {"v": "1"}});
    let mut call = office.bench.start(&legacy("alice"), "tools/call", params.clone());
    let (asks, answers) = asked(&mut call).await;
    let accept = AskAnswer::Result(RawJson::from(&json!({"action": "accept", "content": {}})));
    answers.send(vec![(asks[0].key.clone(), accept)]).unwrap();
    end(call).await.json();
    assert_eq!(office.executed(), 1);
    // Too long for a question in the client: the page has it whole.
    let long = json!({"name": "old_write", "arguments": {"v": "x".repeat(5_000)}});
    let first = office.bench.call(&modern("alice"), "tools/call", long).await.json();
    assert_eq!(first["inputRequests"]["approval"]["params"]["mode"], "url");
}

#[tokio::test]
async fn w12_the_twenty_first_question_of_an_hour_is_refused() {
    let office = Office::open(granted("group:leads")).await;
    let alice = plain(modern("alice"));
    for n in 0..20 {
        let refusal = office.bench.tool(&alice, "old_write", json!({"n": n})).await.refusal().clone();
        assert_eq!(refusal.code, ReasonCode::ApprovalRequired);
    }
    let refusal = office.bench.tool(&alice, "old_write", json!({"n": 20})).await.refusal().clone();
    assert_eq!((refusal.code, refusal.retry_after_s), (ReasonCode::RateLimited, Some(3_600)));
}

#[tokio::test]
async fn w12_without_approvals_nothing_that_needs_one_goes_on() {
    let bench = Bench::with(BOTH, granted("group:leads")).await;
    let refusal = bench.tool(&modern("alice"), "old_write", json!({})).await.refusal().clone();
    assert_eq!(refusal.code, ReasonCode::ApprovalRequired);
    bench.tool(&modern("alice"), "old_echo", json!({})).await.json();
}

#[tokio::test]
async fn sabotage_approve_lets_a_call_through_that_nobody_approved() {
    let office = Office::open(granted("group:leads")).await;
    let attack = || async { office.bench.tool(&plain(modern("alice")), "old_write", json!({})).await };
    assert_eq!(attack().await.refusal().code, ReasonCode::ApprovalRequired);
    assert_eq!(office.executed(), 0);
    office.bench.gate.sabotage().skip(Stage::Approve);
    attack().await.json();
    assert_eq!(office.executed(), 1);
}

#[tokio::test]
async fn a16_access_for_a_while_ends_in_the_middle_of_a_session() {
    let temporary = |r: &mut Value, at: &str| {
        r[at][0]["policies"] = json!([{"action": "allow", "include": [{"everyone": true}],
            "temporary": {"approvers": "group:leads", "for": "15m-2h"}}]);
    };
    for (place, subject) in [("servers", "server:old"), ("portals", "portal:default")] {
        let office = Office::open(|r| temporary(r, place)).await;
        let ways = match place {
            "servers" => vec![(plain(modern("alice")), "old_echo"), (plain(legacy("alice")).at("old"), "echo")],
            _ => vec![(plain(modern("alice")), "old_echo"), (plain(legacy("alice")), "new_echo")],
        };
        let kind = subject.split(':').next().unwrap();
        for (alice, tool) in &ways {
            let refusal = office.bench.tool(alice, tool, json!({})).await.refusal().clone();
            assert_eq!(refusal.code, ReasonCode::ApprovalRequired, "{subject} {tool}");
            assert!(refusal.url.unwrap().starts_with(&format!("https://gate.example/request-access?{kind}=")));
        }
        let person = modern("alice").facts(|_| ());
        let wanted = office.bench.gate.entry_for(&person.caller().principal, &person.circumstances, None, subject);
        let (approval, name) = wanted.expect("the page may ask");
        assert!(
            office
                .bench
                .gate
                .entry_for(&person.caller().principal, &person.circumstances, None, "server:none")
                .is_none()
        );
        let alice = person.caller().principal;
        let question =
            EntryQuestion { requester: &alice, approval: &approval, reason: "the quarter ends", name: &name };
        office.approvals.ask_entry(question).await.unwrap();
        for (alice, tool) in &ways {
            assert_eq!(office.bench.tool(alice, tool, json!({})).await.refusal().code, ReasonCode::ApprovalRequired);
        }
        assert_eq!(office.executed(), 0);
        office.answer(Answer::Entry(1_800)).await;
        for (alice, tool) in &ways {
            // As soon as the process has heard of it.
            for _ in 0..50 {
                if !matches!(office.bench.tool(alice, tool, json!({})).await, crate::CallReply::Refused(_)) {
                    break;
                }
                office.approvals.changed().await;
            }
            office.bench.tool(alice, tool, json!({})).await.json();
            // Nobody else came in.
            let bob = From { user: "bob", ..alice.clone() };
            assert_eq!(office.bench.tool(&bob, tool, json!({})).await.refusal().code, ReasonCode::ApprovalRequired);
        }
        office.bench.clock.advance_ms(1_800_000);
        for (alice, tool) in &ways {
            let refusal = office.bench.tool(alice, tool, json!({})).await.refusal().clone();
            assert_eq!(refusal.code, ReasonCode::ApprovalRequired, "the next call after the end");
        }
    }
}

fn server_asks(r: &mut Value) {
    r["servers"][0]["policies"] = json!([{"action": "allow", "include": [{"everyone": true}],
        "require_approval": {"approvers": "group:leads"}}]);
}

#[tokio::test]
async fn w12_a_yes_to_one_number_is_none_to_its_neighbour() {
    let office = Office::open(granted("group:leads")).await;
    let alice = plain(modern("alice"));
    let call = async |n: u64| office.bench.tool(&alice, "old_write", json!({"account": n})).await;
    call(9_007_199_254_740_992).await.refusal();
    office.answer(Answer::Call).await;
    assert_eq!(call(9_007_199_254_740_993).await.refusal().code, ReasonCode::ApprovalRequired);
    assert_eq!(office.executed(), 0);
}

#[tokio::test]
async fn w12_a_resource_in_another_spelling_is_asked_about_once() {
    let office = Office::open(server_asks).await;
    let alice = plain(modern("alice")).at("old");
    let read = async || office.bench.call(&alice, "resources/read", json!({"uri": "NOTE://1"})).await;
    assert_eq!(read().await.refusal().code, ReasonCode::ApprovalRequired);
    office.answer(Answer::Call).await;
    assert!(!matches!(read().await, crate::CallReply::Refused(_)));
}

#[tokio::test]
async fn w12_what_must_be_approved_is_not_subscribed_to() {
    let office = Office::open(server_asks).await;
    let filter =
        bartizan_wire::listen::Filter { uris: vec!["bartizan+uri://old/note://1".into()], ..Default::default() };
    let alice = modern("alice");
    let listening = office.bench.gate.subscribe(&alice.endpoint, &alice.caller(), filter).await.unwrap();
    assert!(listening.accepted().uris.is_empty());
}

#[tokio::test]
async fn w12_a_method_nobody_knows_does_not_pass_by_the_approval() {
    let office = Office::open(|r| {
        server_asks(r);
        r["policies"] = json!([{"id": "custom",
            "cedar": "permit(principal, action == Action::\"other\", resource == Server::\"old\");"}]);
    })
    .await;
    let reply = office.bench.call(&plain(modern("alice")).at("old"), "acme/do", json!({"x": 1})).await;
    assert_eq!(reply.refusal().code, ReasonCode::ApprovalRequired);
}
