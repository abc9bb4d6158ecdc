//! Explanations are what happens (feature row U6).

use bartizan_model::PrincipalKind;
use serde_json::{Value, json};

use super::bench::{Bench, From, legacy, modern};
use super::mock::Speaks;
use crate::CallReply;

const SERVERS: &[(&str, Speaks)] = &[("old", Speaks::Legacy), ("new", Speaks::Modern), ("dead", Speaks::Legacy)];

fn rules(resources: &mut Value) {
    resources["portals"][0]["show_ungranted"] = true.into();
    resources["servers"][2]["status"] = "killed".into();
    resources["servers"][0]["updated_tools"] = json!([{"name": "resource", "enabled": false}]);
    resources["servers"][1]["policies"] =
        json!([{"action": "allow", "include": [{"groups": ["dev"]}, {"emails": ["carol"]}]}]);
    resources["grants"] = json!([
        {"id": "some", "principals": ["group:dev"], "server": "old", "tools": ["write"], "when": "context.args.n <= 5"},
        {"id": "all", "principals": ["user:carol"], "server": "new", "classes": ["write", "destructive"]}
    ]);
    resources["policies"] = json!([
        {"id": "big", "cedar": "forbid(principal, action == Action::\"call_tool\", resource) when { context.args has n && context.args.n > 7 };"},
        {"id": "bob", "cedar": "forbid(principal == User::\"bob\", action, resource == Tool::\"old/fail\");"}
    ]);
    resources["rate_limits"] =
        json!([{"id": "never", "per": ["user"], "server": "new", "tools": ["fail"], "bytes_per_minute": 10}]);
}

/// Rules that look at everything a request comes with.
fn circumstances(resources: &mut Value) {
    rules(resources);
    let everyone = json!([{"everyone": true}]);
    resources["servers"][0]["policies"] = json!([{
        "action": "allow", "include": everyone, "require_mfa": {"max_age": "15m"}, "exclude": [{"country": ["RU"]}]
    }]);
    resources["servers"][1]["policies"] = json!([
        {"action": "allow", "include": [{"device": ["laptop-7"]}, {"idp_claim": {"name": "division", "value": "R1"}}],
            "require_purpose": true},
        {"action": "allow", "include": [{"client_id": ["desk"]}], "require_mfa": {"acr": "strong"}},
        {"action": "block", "include": [{"ip": ["203.0.113.0/24"]}]}
    ]);
    resources["policies"].as_array_mut().unwrap().push(json!({
        "id": "more",
        "cedar": "forbid(principal, action == Action::\"call_tool\", resource) when { context.args has n && context.args.n > 5 } unless { context has mfa_age && context.mfa_age <= 60 };"
    }));
}

/// Somebody with any facts.
fn anybody(dice: &mut Dice, base: From) -> From {
    let mfa = dice.pick(&[None, Some(0), Some(0), Some(0), Some(59_999), Some(61_000), Some(900_001)]);
    let purpose = dice.pick(&[None, Some("incident")]);
    let acr = dice.pick(&[None, Some("strong"), Some("weak")]);
    let division = dice.pick(&[None, Some("R1"), Some("R2")]);
    let mut from = match dice.pick(&[0, 1, 1, 1, 1, 1]) {
        0 => base,
        _ => base.facts(|facts| {
            facts.mfa_at_ms = mfa.map(|age| super::bench::NOW_MS - age);
            facts.purpose = purpose.map(Into::into);
            facts.acr = acr.map(Into::into);
            facts.claims = division.map(|value| ("division".into(), vec![value.into()])).into_iter().collect();
        }),
    };
    from.circumstances.country = dice.pick(&[Some("AT"), Some("AT"), Some("AT"), None, Some("RU")]).map(Into::into);
    from.circumstances.device = dice.pick(&[None, Some("laptop-7"), Some("other")]).map(Into::into);
    from.circumstances.client_id = dice.pick(&[None, Some("desk")]).map(Into::into);
    from.ip = dice.pick(&["192.0.2.1", "192.0.2.1", "192.0.2.1", "203.0.113.9"]);
    from
}

/// A small generator, so that every run asks the same 100 questions.
struct Dice(u64);

impl Dice {
    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        from[usize::try_from(self.0 >> 33).unwrap() % from.len()].clone()
    }
}

/// What a client can tell about how a call ended before it was forwarded.
fn told(reply: &CallReply) -> (bool, bool, Option<String>, Option<String>) {
    match reply {
        CallReply::NotFound { .. } => (false, false, None, None),
        CallReply::Refused(r) => (false, true, Some(r.code.as_str().to_owned()), r.rule.as_deref().map(str::to_owned)),
        _ => (true, true, None, None),
    }
}

#[tokio::test]
async fn u6_explanation_equals_the_live_decision_in_100_random_cases() {
    equal(100, rules, |_, from| from).await;
}

#[tokio::test]
async fn u6_explanation_equals_the_live_decision_under_random_circumstances() {
    let codes = equal(400, circumstances, anybody).await;
    for code in ["step_up_required", "purpose_required", "policy_denied"] {
        assert!(codes.contains(code), "{codes:?}");
    }
}

/// Compares; the codes that were seen.
async fn equal(
    cases: usize,
    edit: impl FnOnce(&mut Value),
    more: impl Fn(&mut Dice, From) -> From,
) -> std::collections::BTreeSet<String> {
    let bench = Bench::with(SERVERS, edit).await;
    let mut dice = Dice(42);
    let mut codes = std::collections::BTreeSet::new();
    let (mut passed, mut refused, mut unknown) = (0, 0, 0);
    for case in 0..cases {
        let user = dice.pick(&["alice", "bob", "carol"]);
        let groups = dice.pick(&[vec![], vec!["dev"]]);
        let base = dice.pick(&[legacy(user), modern(user)]);
        let from = more(&mut dice, From { groups, ..base });
        let server = dice.pick(&["old", "old", "old", "new", "new", "dead", "none"]);
        let tool = dice.pick(&["echo", "echo", "write", "write", "remove", "odd", "fail", "resource"]);
        let (from, name) = match dice.pick(&[0, 1, 2]) {
            0 if server != "none" => (from.at(server), tool.to_owned()),
            _ => (from, format!("{server}_{tool}")),
        };
        let arguments = json!({"n": dice.pick(&[1, 1, 6, 8])});
        let request = || from.request("tools/call", json!({"name": name, "arguments": arguments}));
        let before = bench.events().await.len();
        let verdicts = bench.gate.explain(request()).await;
        assert_eq!(bench.events().await.len(), before, "an explanation is no call");
        let reply = super::bench::end(bench.gate.call(request())).await;
        let event = bench.events_of("call").await.pop().unwrap();
        let last = verdicts.last().unwrap();
        let explained = (last.pass, last.pass || last.visible, last.code, last.rule.as_deref());
        let (live_pass, live_visible, live_code, live_rule) = told(&reply);
        assert_eq!(
            (explained.0, explained.1),
            (live_pass, live_visible),
            "case {case}: {user} {name} {verdicts:?} {reply:?}"
        );
        if !live_pass {
            assert_eq!(event["verdict"]["stage"], last.stage, "case {case}");
            assert_eq!(event["verdict"]["code"].as_str(), explained.2.map(|code| code.as_str()), "case {case}");
            assert_eq!(event["verdict"]["rule"].as_str(), explained.3, "case {case}");
        }
        codes.extend(live_code.clone());
        if live_visible && !live_pass {
            assert_eq!(live_code.as_deref(), explained.2.map(|code| code.as_str()), "case {case}");
            assert_eq!(live_rule.as_deref(), explained.3, "case {case}");
        }
        match (live_pass, live_visible) {
            (true, _) => passed += 1,
            (false, true) => refused += 1,
            (false, false) => unknown += 1,
        }
    }
    assert!(passed > 10 && refused > 10 && unknown > 10, "{passed} {refused} {unknown}");
    codes
}

#[tokio::test]
async fn u6_every_stage_says_something() {
    let bench = Bench::with(SERVERS, rules).await;
    let from = From { groups: vec!["dev"], ..modern("alice") };
    let verdicts =
        bench.gate.explain(from.request("tools/call", json!({"name": "old_write", "arguments": {"n": 1}}))).await;
    let stages: Vec<_> = verdicts.iter().map(|verdict| (verdict.stage, verdict.pass)).collect();
    assert_eq!(
        stages,
        [
            ("route", true),
            ("state", true),
            ("limit", true),
            ("authorize", true),
            ("approve", true),
            ("credential", true),
            ("intend", true),
            ("forward", true)
        ]
    );
    assert_eq!(verdicts[0].detail.as_deref(), Some("write on server old (class write)"));
    assert!(verdicts[3].rule.as_deref().unwrap().contains("some"));
    assert_eq!(bench.mock("old").state.executed("write"), 0, "nothing is forwarded");
    let anonymous = From { kind: PrincipalKind::Anonymous, ..modern("anonymous") };
    let verdicts = bench.gate.explain(anonymous.request("tools/call", json!({"name": "old_write"}))).await;
    assert_eq!((verdicts.len(), verdicts[0].pass, verdicts[0].visible), (1, false, false));
}

#[tokio::test]
async fn u6_explaining_a_next_round_does_not_use_it_up() {
    let bench = Bench::new(SERVERS).await;
    let first = bench.tool(&modern("alice"), "old_ask", json!({})).await.json();
    let params = json!({
        "name": "old_ask", "arguments": {}, "requestState": first["requestState"],
        "inputResponses": {"user_name": super::bench::accept("Bob")}
    });
    for _ in 0..3 {
        let verdicts = bench.gate.explain(modern("alice").request("tools/call", params.clone())).await;
        assert!(verdicts.iter().all(|verdict| verdict.pass));
    }
    assert_eq!(bench.call(&modern("alice"), "tools/call", params).await.text(), "Hello Bob");
}
