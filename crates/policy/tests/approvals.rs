//! Who must say yes before a call goes on (W12), and who lets in for a while (A16).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use bartizan_model::{PrincipalKind, Role, RoleSet, ToolClass};
use bartizan_policy::{Action, Approver, Asks, Decision};
use common::{Ask, cedar, compile, findings, open_with, user};
use serde_json::{Value, json};

fn write(who: &str) -> Ask {
    Ask::tool(user(who, &["eng"]), "pay", "transfer", ToolClass::Write)
}

fn granted(extra: Value) -> Value {
    let mut grant = json!({"id": "g", "principals": ["everyone"], "server": "pay", "classes": ["write"]});
    grant.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    open_with(json!([]), json!([grant]))
}

fn who(decision: &Decision) -> Vec<Vec<String>> {
    decision.approvals.iter().map(|approval| approval.who()).collect()
}

#[test]
fn w12_each_way_to_write_it_asks_the_named_group() {
    let asked = json!({"approvers": "group:leads"});
    let rule = json!([{"action": "allow", "include": [{"everyone": true}], "require_approval": asked}]);
    let plain = json!({"id": "g", "principals": ["everyone"], "server": "pay", "classes": ["write"]});
    let mut by_portal = open_with(json!([]), json!([plain]));
    by_portal["portals"][0]["policies"] = rule.clone();
    let mut by_server = open_with(json!([]), json!([plain]));
    by_server["servers"][0]["policies"] = rule;
    let by_permit = open_with(
        cedar(
            "@approval(\"group:leads\") permit(principal, action == Action::\"call_tool\", resource in Server::\"pay\");",
        ),
        json!([]),
    );
    for (name, value) in [
        ("grant", granted(json!({"require_approval": asked}))),
        ("portal", by_portal),
        ("server", by_server),
        ("permit", by_permit),
    ] {
        let policies = compile(value);
        let decision = write("ann").decide(&policies);
        assert!(decision.allow && decision.uses_args, "{name}");
        assert_eq!(who(&decision), [["group:leads"]], "{name}");
        assert_eq!(decision.approvals[0].asks, Asks::Call { longest_s: 3_600 }, "{name}");
        // Listed, since it can be called.
        let listed = write("ann").list(&policies);
        assert!(listed.allow && listed.uses_args, "{name}");
    }
}

#[test]
fn w12_who_is_let_in_without_asking_is_not_asked() {
    // Small sums are free, all others are asked about, whatever the order they are written in.
    let free = json!({"id": "small", "principals": ["everyone"], "server": "pay", "classes": ["write"],
        "when": "context.args.amount <= 100"});
    let asks = json!({"id": "any", "principals": ["everyone"], "server": "pay", "classes": ["write"],
        "require_approval": {"approvers": "role:security", "for": "call"}});
    for grants in [json!([free, asks]), json!([asks, free])] {
        let policies = compile(open_with(json!([]), grants));
        let small = write("ann").args("{\"amount\":100}").decide(&policies);
        assert_eq!((small.allow, small.rule.as_deref(), who(&small).len()), (true, Some("grant \"small\""), 0));
        for args in ["{\"amount\":101}", "{}", "{\"amount\":\"1\"}", "{\"amount\":[]}"] {
            let large = write("ann").args(args).decide(&policies);
            assert_eq!((large.allow, large.rule.as_deref()), (true, Some("grant \"any\"")), "{args}");
            assert_eq!(who(&large), [["role:security"]], "{args}");
            assert_eq!(large.approvals[0].asks, Asks::Call { longest_s: 0 });
        }
    }
}

#[test]
fn w12_every_rule_on_the_way_is_asked() {
    let mut value = granted(json!({"require_approval": {"approvers": "self"}}));
    value["portals"][0]["policies"] = json!([{"action": "allow", "include": [{"everyone": true}],
        "require_approval": {"approvers": ["group:b", "group:a"], "classes": ["write"]}}]);
    let policies = compile(value);
    assert_eq!(who(&write("ann").decide(&policies)), [vec!["group:a", "group:b"], vec!["self"]]);
    let read = Ask::tool(user("ann", &[]), "pay", "get", ToolClass::Read);
    assert!(who(&read.decide(&policies)).is_empty(), "only the classes that are named");
    let mut seen = read;
    seen.action = Action::UsePortal;
    assert!(seen.decide(&policies).approvals.is_empty());
}

#[test]
fn w12_a_forbid_and_a_missing_grant_still_refuse() {
    let asked = json!({"approvers": "group:leads"});
    let mut value = granted(json!({"require_approval": asked}));
    value["policies"] =
        cedar("forbid(principal, action == Action::\"call_tool\", resource == Tool::\"pay/transfer\");");
    let refused = write("ann").decide(&compile(value));
    assert!(!refused.allow && refused.approvals.is_empty());
}

#[test]
fn a16_temporary_access_names_its_place_and_length() {
    for (written, range) in [
        (None, (900, 28_800)),
        (Some("2h"), (900, 7_200)),
        (Some("30m-1h"), (1_800, 3_600)),
        (Some("15m–8h"), (900, 28_800)),
    ] {
        let mut value = open_with(json!([]), json!([]));
        let mut rule = json!({"action": "allow", "include": [{"everyone": true}],
            "temporary": {"approvers": "group:leads"}});
        if let Some(text) = written {
            rule["temporary"]["for"] = text.into();
        }
        value["servers"][0]["policies"] = json!([rule]);
        let decision = Ask::tool(user("ann", &[]), "pay", "get", ToolClass::Read).decide(&compile(value));
        let entry = Asks::Entry { subject: "server:pay".into(), least_s: range.0, longest_s: range.1 };
        assert_eq!(decision.approvals.iter().map(|a| a.asks.clone()).collect::<Vec<_>>(), [entry]);
    }
}

#[test]
fn w12_approvers_are_people_with_the_right() {
    let none = RoleSet::NONE;
    let ann = user("ann@corp.example", &["leads"]);
    let is = |text: &str, roles| Approver::parse(text).unwrap().is(&ann, roles);
    assert!(is("group:leads", none) && !is("group:lead", none));
    assert!(is("user:Ann@Corp.example", none) && !is("user:bob@corp.example", none));
    assert!(is("role:security", none.with(Role::Security)) && !is("role:security", none.with(Role::Governance)));
    assert!(!is("self", none.with(Role::Owner)));
    let machine = bartizan_model::Principal::new(PrincipalKind::Service, "ann@corp.example", ["leads".into()]);
    assert!(!Approver::parse("group:leads").unwrap().is(&machine, none), "no program approves");
    for bad in ["", "leads", "group:", "group: leads", "role:king", "role:employee", "user:", "everyone"] {
        assert_eq!(Approver::parse(bad), None, "{bad:?}");
    }
}

#[test]
fn w12_what_cannot_be_meant_is_told() {
    let rule = |extra: Value| {
        let mut value = open_with(json!([]), json!([]));
        let mut rule = json!({"action": "allow", "include": [{"everyone": true}]});
        rule.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        value["servers"][0]["policies"] = json!([rule]);
        value
    };
    for (value, path, code) in [
        (rule(json!({"require_approval": {"approvers": []}})), "require_approval.approvers", "invalid_approver"),
        (rule(json!({"require_approval": {"approvers": "x"}})), "require_approval.approvers", "invalid_approver"),
        (rule(json!({"require_approval": {"approvers": "self", "for": "9h"}})), "require_approval.for", "invalid_age"),
        (rule(json!({"temporary": {"approvers": "self"}})), "temporary.approvers", "invalid_approver"),
        (rule(json!({"temporary": {"approvers": "group:a", "for": "10m"}})), "temporary.for", "invalid_age"),
        (rule(json!({"temporary": {"approvers": "group:a", "for": "1h-30m"}})), "temporary.for", "invalid_age"),
        (rule(json!({"temporary": {"approvers": "group:a", "for": "9h"}})), "temporary.for", "invalid_age"),
        (
            rule(json!({"action": "service_auth", "temporary": {"approvers": "group:a"}})),
            "policies[0]",
            "invalid_requirement",
        ),
        (
            rule(json!({"action": "block", "require_approval": {"approvers": "self"}})),
            "policies[0]",
            "invalid_requirement",
        ),
        (
            open_with(cedar("@approval(\"leads\") permit(principal, action, resource);"), json!([])),
            "cedar",
            "invalid_approver",
        ),
        (
            open_with(cedar("@approval(\"self\") forbid(principal, action, resource);"), json!([])),
            "cedar",
            "invalid_approver",
        ),
    ] {
        let found = findings(value);
        assert!(found.iter().any(|f| f.code == code && f.path.ends_with(path)), "{path} {code}: {found:#?}");
    }
}

#[test]
fn w12_who_is_let_in_without_asking_cannot_be_asked() {
    for asks in [json!({"require_approval": {"approvers": "group:a"}}), json!({"temporary": {"approvers": "group:a"}})]
    {
        let mut value = open_with(json!([]), json!([]));
        let mut rule = json!({"action": "allow", "include": [{"everyone": true}]});
        rule.as_object_mut().unwrap().extend(asks.as_object().unwrap().clone());
        value["servers"][0]["policies"] = json!([rule]);
        compile(value.clone());
        value["servers"][0]["visibility"] = "public".into();
        let found = findings(value);
        assert!(found.iter().any(|f| f.code == "invalid_requirement" && f.path.ends_with("policies[0]")), "{found:?}");
    }
}

#[test]
fn w12_methods_nobody_knows_and_completions_are_asked_about_too() {
    let mut value =
        open_with(cedar("permit(principal, action == Action::\"other\", resource == Server::\"pay\");"), json!([]));
    value["servers"][0]["policies"] = json!([{"action": "allow", "include": [{"everyone": true}],
        "require_approval": {"approvers": "group:leads"}}]);
    let policies = compile(value);
    for action in [Action::Other, Action::Complete] {
        let mut ask = Ask::tool(user("ann", &[]), "pay", "pay/vendor", ToolClass::Read);
        ask.action = action;
        let decision = ask.decide(&policies);
        assert_eq!(who(&decision), [["group:leads"]], "{action:?}");
        assert!(decision.allow, "{action:?}");
    }
}
