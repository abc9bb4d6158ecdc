//! A4, A16, A17: calls that wait until their person has added what is missing.

use std::sync::{Arc, Mutex};

use bartizan_model::{PrincipalKind, ReasonCode, SignInFacts};
use bartizan_policy::Need;
use bartizan_wire::{AskAnswer, RawJson};
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use super::bench::{Bench, From, NOW_MS, asked, end, legacy, modern};
use super::mock::Speaks;
use crate::{CallOutput, Stage, StepUp, StepUps};

const BOTH: &[(&str, Speaks)] = &[("old", Speaks::Legacy), ("new", Speaks::Modern)];
const URL: &str = "https://gate.example/step-up/1";

/// What one link asked: person, grant, need and what for.
type Asked = (String, String, Need, String);

/// The grant's facts, and the links that were made.
#[derive(Default)]
struct Grants {
    facts: Mutex<Option<Arc<SignInFacts>>>,
    links: Mutex<Vec<Asked>>,
}

impl StepUps for Grants {
    fn link(&self, ask: &StepUp<'_>) -> Option<String> {
        let asked = (ask.person.to_owned(), ask.grant.to_owned(), ask.need.clone(), ask.about.to_owned());
        self.links.lock().unwrap().push(asked);
        Some(URL.to_owned())
    }

    fn facts<'a>(&'a self, grant: &'a str) -> BoxFuture<'a, Option<Arc<SignInFacts>>> {
        let facts = (grant == "grant-1").then(|| self.facts.lock().unwrap().clone()).flatten();
        Box::pin(std::future::ready(facts))
    }
}

struct Office {
    bench: Bench,
    grants: Arc<Grants>,
}

impl Office {
    async fn open(edit: impl FnOnce(&mut Value)) -> Self {
        let bench = Bench::with(BOTH, edit).await;
        let grants = Arc::new(Grants::default());
        let _ = bench.gate.clone().with_step_ups(Arc::<Grants>::clone(&grants) as Arc<dyn StepUps>);
        Self { bench, grants }
    }

    /// What the person did on the page.
    fn add(&self, edit: impl FnOnce(&mut SignInFacts)) {
        let mut held = self.grants.facts.lock().unwrap();
        let mut facts = held.as_deref().cloned().unwrap_or_default();
        edit(&mut facts);
        *held = Some(Arc::new(facts));
    }

    fn executed(&self) -> usize {
        self.bench.mock("old").state.executed("echo") + self.bench.mock("old").state.executed("write")
    }
}

fn signed_in(from: From) -> From {
    from.facts(|_| ())
}

/// The rule, and what it is about, in each way it can be written.
type Change = Box<dyn Fn(&mut Value)>;

fn ways() -> Vec<(&'static str, &'static str, Change)> {
    let rule = json!([{"action": "allow", "include": [{"everyone": true}], "require_mfa": {"max_age": "15m"}}]);
    let (portal, server) = (rule.clone(), rule);
    let cedar = |text: &'static str| move |r: &mut Value| r["policies"] = json!([{"id": "p", "cedar": text}]);
    let grant = |extra: Value| {
        move |r: &mut Value| {
            let mut grant = json!({"id": "g", "principals": ["everyone"], "server": "old"});
            grant.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            r["grants"] = json!([grant]);
        }
    };
    vec![
        ("per portal", "old_echo", Box::new(move |r| r["portals"][0]["policies"] = portal.clone())),
        ("per server", "old_echo", Box::new(move |r| r["servers"][0]["policies"] = server.clone())),
        ("per class", "old_write", Box::new(grant(json!({"classes": ["write"], "require_mfa": {"max_age": "15m"}})))),
        ("per tool", "old_write", Box::new(grant(json!({"tools": ["write"], "require_mfa": {"max_age": "15m"}})))),
        (
            "on arguments",
            "old_write",
            Box::new(grant(
                json!({"tools": ["write"], "when": "context.args.v == \"2\"", "require_mfa": {"max_age": "15m"}}),
            )),
        ),
        (
            "by a permit",
            "old_write",
            Box::new(cedar(
                "permit(principal, action == Action::\"call_tool\", resource in Server::\"old\")
                 when { context has mfa_age && context.mfa_age <= 900 };",
            )),
        ),
        (
            "by a forbid on arguments",
            "old_echo",
            Box::new(cedar(
                "forbid(principal, action == Action::\"call_tool\", resource == Tool::\"old/echo\")
                 when { context.args.v == \"2\" } unless { context has mfa_age && context.mfa_age <= 900 };",
            )),
        ),
    ]
}

#[tokio::test]
async fn a17_a_modern_client_is_asked_and_the_call_goes_on() {
    for (name, tool, edit) in ways() {
        // Too old, or none at all.
        for mfa in [None, Some(NOW_MS - 901_000)] {
            let office = Office::open(|r| edit(r)).await;
            let alice = modern("alice").mfa(mfa);
            office.add(|facts| facts.mfa_at_ms = mfa);
            assert!(office.bench.tool_names(&alice).await.contains(&tool.to_owned()), "{name}: listed");
            let params = json!({"name": tool, "arguments": {"v": "2"}});
            let first = office.bench.call(&alice, "tools/call", params.clone()).await.json();
            assert_eq!(first["resultType"], "input_required", "{name}");
            let ask = &first["inputRequests"]["step_up"];
            assert_eq!((&ask["method"], &ask["params"]["mode"]), (&json!("elicitation/create"), &json!("url")));
            assert_eq!(ask["params"]["url"], URL);
            let links = office.grants.links.lock().unwrap().clone();
            let need = Need::Mfa { max_age_s: Some(900), acr: None };
            assert_eq!(links, [("alice".into(), "grant-1".into(), need, tool.into())], "{name}");
            // Not yet: asked again. Nobody else can use her state.
            let mut retry = params.clone();
            retry["requestState"] = first["requestState"].clone();
            retry["inputResponses"] = json!({"step_up": {"action": "accept"}});
            let again = office.bench.call(&alice, "tools/call", retry.clone()).await.json();
            assert_eq!(again["resultType"], "input_required", "{name}");
            let mallory = modern("mallory").mfa(Some(NOW_MS));
            let stolen = office.bench.call(&mallory, "tools/call", retry.clone()).await;
            assert!(!matches!(stolen, crate::CallReply::Result(_)), "{name}: {stolen:?}");
            assert_eq!(office.executed(), 0, "{name}");
            // The token still tells the old facts; the grant does not.
            office.add(|facts| facts.mfa_at_ms = Some(NOW_MS));
            retry["requestState"] = again["requestState"].clone();
            assert_eq!(office.bench.call(&alice, "tools/call", retry.clone()).await.text(), "{\"v\":\"2\"}", "{name}");
            assert_eq!(office.executed(), 1, "{name}");
            // The state was used.
            assert_eq!(office.bench.call(&alice, "tools/call", retry).await.error_code(), -32602, "{name}");
            let events = office.bench.events_of("call").await;
            assert_eq!(events[0]["verdict"]["code"], "step_up_required", "{name}");
            assert_eq!(events[0]["verdict"]["stage"], "authorize");
        }
    }
}

#[tokio::test]
async fn a17_a_legacy_client_opens_the_page_while_the_call_waits() {
    for (name, tool, edit) in ways() {
        let office = Office::open(|r| edit(r)).await;
        let alice = signed_in(legacy("alice"));
        let mut handle = office.bench.start(&alice, "tools/call", json!({"name": tool, "arguments": {"v": "2"}}));
        let (asks, answers) = asked(&mut handle).await;
        assert_eq!((asks[0].method.as_str(), asks[0].text("url").as_deref()), ("elicitation/create", Some(URL)));
        let id = asks[0].text("elicitationId").unwrap();
        // It takes minutes; the clock of the decision goes along.
        office.bench.clock.advance_ms(300_000);
        office.add(|facts| facts.mfa_at_ms = Some(NOW_MS + 299_000));
        answers
            .send(vec![(asks[0].key.clone(), AskAnswer::Result(RawJson::from(&json!({"action": "accept"}))))])
            .unwrap();
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
        assert!(completed, "{name}");
        assert_eq!(reply.text(), "{\"v\":\"2\"}", "{name}");
        assert_eq!(office.executed(), 1, "{name}");
    }
}

#[tokio::test]
async fn a17_other_clients_get_the_address_and_a_repeat_goes_on() {
    for (name, tool, edit) in ways() {
        for from in [modern("alice").able(json!({})), legacy("alice").able(json!({"elicitation": {}}))] {
            let office = Office::open(|r| edit(r)).await;
            let from = signed_in(from);
            for _ in 0..2 {
                let reply = office.bench.tool(&from, tool, json!({"v": "2"})).await;
                let refusal = reply.refusal();
                assert_eq!((refusal.code, refusal.url.as_deref()), (ReasonCode::StepUpRequired, Some(URL)), "{name}");
                assert!(refusal.visible && refusal.message.as_ref().unwrap().contains(URL));
            }
            assert_eq!(office.executed(), 0);
            office.add(|facts| facts.mfa_at_ms = Some(NOW_MS));
            assert_eq!(office.bench.tool(&from, tool, json!({"v": "2"})).await.text(), "{\"v\":\"2\"}", "{name}");
        }
    }
}

#[tokio::test]
async fn a17_who_does_not_open_the_page_is_refused() {
    for action in ["decline", "cancel"] {
        let (_, tool, edit) = ways().remove(0);
        let office = Office::open(|r| edit(r)).await;
        let alice = signed_in(legacy("alice"));
        let mut handle = office.bench.start(&alice, "tools/call", json!({"name": tool, "arguments": {}}));
        let (asks, answers) = asked(&mut handle).await;
        let answer = AskAnswer::Result(RawJson::from(&json!({"action": action})));
        answers.send(vec![(asks[0].key.clone(), answer)]).unwrap();
        assert_eq!(end(handle).await.refusal().code, ReasonCode::StepUpRequired);
        assert_eq!(office.executed(), 0);

        let alice = signed_in(modern("alice"));
        let params = json!({"name": tool, "arguments": {}});
        let asked = office.bench.call(&alice, "tools/call", params.clone()).await.json();
        for answer in [json!({"action": action}), json!({"action": "ACCEPT"}), json!("accept"), json!(null)] {
            let retry = answered(&params, &asked, answer);
            let reply = office.bench.call(&alice, "tools/call", retry).await;
            let refusal = reply.refusal();
            assert_eq!((refusal.code, refusal.url.as_deref()), (ReasonCode::StepUpRequired, Some(URL)));
        }
        assert_eq!(office.executed(), 0);
    }
}

/// The next round with this answer to the only question.
fn answered(params: &Value, asked: &Value, answer: Value) -> Value {
    let mut retry = params.clone();
    retry["requestState"] = asked["requestState"].clone();
    let (key, _) = asked["inputRequests"].as_object().unwrap().iter().next().unwrap();
    retry["inputResponses"] = json!({key.as_str(): answer});
    retry
}

#[tokio::test]
async fn a17_a_modern_client_that_comes_back_at_once_waits_for_its_person() {
    let (_, tool, edit) = ways().remove(0);
    let office = Office::open(|r| edit(r)).await;
    let alice = signed_in(modern("alice"));
    let params = json!({"name": tool, "arguments": {"v": "2"}});
    let asked = office.bench.call(&alice, "tools/call", params.clone()).await.json();
    let retry = answered(&params, &asked, json!({"action": "accept"}));
    let running = office.bench.start(&alice, "tools/call", retry);
    let (reply, ()) = tokio::join!(end(running), async {
        tokio::task::yield_now().await;
        office.add(|facts| facts.mfa_at_ms = Some(NOW_MS));
    });
    assert_eq!(reply.text(), "{\"v\":\"2\"}");
    assert_eq!(office.executed(), 1);
}

#[tokio::test]
async fn a16_a_second_factor_is_no_answer_to_the_question_for_a_purpose() {
    let rule =
        json!([{"action": "allow", "include": [{"everyone": true}], "require_purpose": true, "require_mfa": {}}]);
    let office = Office::open(|r| r["portals"][0]["policies"] = rule).await;
    let alice = signed_in(modern("alice"));
    let params = json!({"name": "old_echo", "arguments": {}});
    let first = office.bench.call(&alice, "tools/call", params.clone()).await.json();
    assert!(first["inputRequests"]["step_up"].is_object(), "{first}");
    office.add(|facts| facts.mfa_at_ms = Some(NOW_MS));
    let retry = answered(&params, &first, json!({"action": "accept"}));
    let second = office.bench.call(&alice, "tools/call", retry).await.json();
    assert!(second["inputRequests"]["purpose"].is_object(), "asked at once: {second}");
    office.add(|facts| facts.purpose = Some("incident 7".into()));
    let retry = answered(&params, &second, json!({"action": "accept"}));
    office.bench.call(&alice, "tools/call", retry).await.text();
    assert_eq!(office.executed(), 1);
}

/// Without the stage the call goes through: the second factor is what holds it.
#[tokio::test]
async fn a17_without_the_stage_nobody_is_asked() {
    let (_, tool, edit) = ways().remove(0);
    let office = Office::open(|r| edit(r)).await;
    let alice = signed_in(modern("alice"));
    office.bench.gate.sabotage().skip(Stage::Authorize);
    office.bench.tool(&alice, tool, json!({})).await.text();
    assert_eq!(office.executed(), 1);
}

#[tokio::test]
async fn a4_a_session_that_ages_is_asked_in_the_middle() {
    let (_, tool, edit) = ways().remove(1);
    let office = Office::open(|r| edit(r)).await;
    let alice = modern("alice").mfa(Some(NOW_MS)).able(json!({}));
    office.add(|facts| facts.mfa_at_ms = Some(NOW_MS));
    for _ in 0..3 {
        office.bench.tool(&alice, tool, json!({})).await.text();
        assert!(office.bench.tool_names(&alice).await.contains(&tool.to_owned()));
    }
    office.bench.clock.advance_ms(900_000);
    office.bench.tool(&alice, tool, json!({})).await.text();
    office.bench.clock.advance_ms(1);
    assert_eq!(office.bench.tool(&alice, tool, json!({})).await.refusal().code, ReasonCode::StepUpRequired);
    assert_eq!(office.executed(), 4);
    assert!(office.bench.tool_names(&alice).await.contains(&tool.to_owned()), "stays listed");
}

#[tokio::test]
async fn a17_resources_prompts_and_the_direct_endpoint_are_held_too() {
    let (_, _, edit) = ways().remove(1);
    let office = Office::open(|r| edit(r)).await;
    let at = signed_in(modern("alice").able(json!({}))).at("old");
    assert_eq!(office.bench.tool(&at, "echo", json!({})).await.refusal().code, ReasonCode::StepUpRequired);
    let resources = office.bench.list(&at, "resources/list").await.unwrap();
    let uri = resources["resources"][0]["uri"].as_str().unwrap().to_owned();
    let read = office.bench.call(&at, "resources/read", json!({"uri": uri})).await;
    assert_eq!(read.refusal().code, ReasonCode::StepUpRequired);
    let prompts = office.bench.list(&at, "prompts/list").await.unwrap();
    let name = prompts["prompts"][0]["name"].as_str().unwrap().to_owned();
    let got = office.bench.call(&at, "prompts/get", json!({"name": name})).await;
    assert_eq!(got.refusal().code, ReasonCode::StepUpRequired);
}

#[tokio::test]
async fn a17_who_cannot_step_up_is_refused_plainly() {
    for (name, tool, edit) in ways() {
        let office = Office::open(|r| {
            edit(r);
            for owner in ["portals", "servers"] {
                for entry in r[owner].as_array_mut().unwrap() {
                    let rules = entry["policies"].as_array_mut().unwrap();
                    // Cedar and grants hold machines too.
                    rules.push(json!({"action": "service_auth", "include": [{"groups": ["bots"]}]}));
                }
            }
        })
        .await;
        let mut bot = modern("ci").able(json!({}));
        (bot.kind, bot.groups) = (PrincipalKind::Service, vec!["bots"]);
        // A person's token of the developer's kind has no grant.
        for from in [bot, modern("alice").able(json!({}))] {
            if from.kind == PrincipalKind::Service && name.starts_with("per portal") | name.starts_with("per server") {
                continue;
            }
            let reply = office.bench.tool(&from, tool, json!({"v": "2"})).await;
            let refused =
                reply.is_not_found() || matches!(&reply, crate::CallReply::Refused(refusal) if refusal.url.is_none());
            assert!(refused, "{name}: {reply:?}");
            assert_eq!(office.executed(), 0, "{name}");
        }
        assert!(office.grants.links.lock().unwrap().is_empty(), "{name}");
    }
}

#[tokio::test]
async fn a17_nothing_else_is_asked_for_or_revealed() {
    // What is forbidden anyway stays unknown, and nobody is sent to a page for it.
    let (_, tool, edit) = ways().remove(0);
    let office = Office::open(|r| {
        edit(r);
        r["servers"][0]["policies"] = json!([{"action": "allow", "include": [{"groups": ["eng"]}]}]);
    })
    .await;
    let alice = signed_in(modern("alice"));
    assert!(office.bench.tool(&alice, tool, json!({})).await.is_not_found());
    assert!(!office.bench.tool_names(&alice).await.contains(&tool.to_owned()));
    assert!(office.grants.links.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a16_a_purpose_is_asked_for_and_kept_on_record() {
    let rule =
        json!([{"action": "allow", "include": [{"everyone": true}], "require_purpose": true, "require_mfa": {}}]);
    let office = Office::open(|r| r["portals"][0]["policies"] = rule).await;
    let alice = signed_in(modern("alice").able(json!({})));
    let code = |reply: crate::CallReply| reply.refusal().code;
    assert_eq!(code(office.bench.tool(&alice, "old_echo", json!({})).await), ReasonCode::StepUpRequired);
    office.add(|facts| facts.mfa_at_ms = Some(NOW_MS));
    assert_eq!(code(office.bench.tool(&alice, "old_echo", json!({})).await), ReasonCode::PurposeRequired);
    assert_eq!(office.grants.links.lock().unwrap().last().unwrap().2, Need::Purpose);
    office.add(|facts| facts.purpose = Some("incident 7".into()));
    office.bench.tool(&alice, "old_echo", json!({})).await.text();
    let events = office.bench.events_of("call").await;
    assert_eq!(events[1]["verdict"]["code"], "purpose_required");
    assert!(office.bench.whole_record().await.contains("incident 7"), "{events:?}");
}
