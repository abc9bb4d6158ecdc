//! Default-deny writes (row G3): classes, grants, expiry.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use bartizan_model::{ReasonCode, ServerId, ToolClass};
use common::{Ask, cedar, compile, findings, open_with, service, user};
use serde_json::{Value, json};

fn grant(value: Value) -> Value {
    open_with(json!([]), json!([value]))
}

fn call(who: &str, groups: &[&str], name: &str, class: ToolClass) -> Ask {
    Ask::tool(user(who, groups), "pay", name, class)
}

#[test]
fn g3_without_a_grant_only_read_is_allowed() {
    let policies = compile(open_with(json!([]), json!([])));
    assert!(call("ann", &[], "get", ToolClass::Read).decide(&policies).allow);
    for class in [ToolClass::Write, ToolClass::Destructive, ToolClass::Unknown] {
        let ask = call("ann", &[], "transfer", class);
        for decision in [ask.decide(&policies), ask.list(&policies)] {
            assert_eq!((decision.allow, decision.code), (false, Some(ReasonCode::WriteNotGranted)), "{class:?}");
        }
    }
}

#[test]
fn g3_grants_name_principals_tools_and_classes() {
    let table = [
        (json!({"id": "g", "principals": ["user:ann"], "server": "pay", "tools": ["transfer"]}), true),
        (json!({"id": "g", "principals": ["user:ann"], "server": "pay", "classes": ["write"]}), true),
        (json!({"id": "g", "principals": ["group:fin"], "server": "pay", "tools": ["transfer"]}), true),
        (json!({"id": "g", "principals": ["everyone"], "server": "pay", "tools": ["transfer"]}), true),
        (json!({"id": "g", "principals": ["user:ben", "user:ann"], "server": "pay", "tools": ["x", "transfer"]}), true),
        (json!({"id": "g", "principals": ["user:ben"], "server": "pay", "tools": ["transfer"]}), false),
        (json!({"id": "g", "principals": ["service:ann"], "server": "pay", "tools": ["transfer"]}), false),
        (json!({"id": "g", "principals": ["group:eng"], "server": "pay", "tools": ["transfer"]}), false),
        (json!({"id": "g", "principals": ["group:ann"], "server": "pay", "tools": ["transfer"]}), false),
        (json!({"id": "g", "principals": ["user:ann"], "server": "wiki", "tools": ["transfer"]}), false),
        (json!({"id": "g", "principals": ["user:ann"], "server": "pay", "tools": ["Transfer"]}), false),
        (json!({"id": "g", "principals": ["user:ann"], "server": "pay", "tools": ["pay_transfer"]}), false),
        (json!({"id": "g", "principals": ["user:ann"], "server": "pay", "classes": ["destructive", "unknown"]}), false),
        (json!({"id": "g", "principals": ["user:ann"], "server": "pay", "classes": ["read"]}), false),
    ];
    for (value, expected) in table {
        let policies = compile(grant(value.clone()));
        let ask = call("ann", &["fin"], "transfer", ToolClass::Write);
        let decision = ask.decide(&policies);
        assert_eq!(decision.allow, expected, "{value}");
        assert_eq!(ask.list(&policies).allow, expected, "{value}");
        if expected {
            assert_eq!(decision.rule.as_deref(), Some("grant \"g\""));
        }
    }
    let services =
        compile(grant(json!({"id": "g", "principals": ["service:ci"], "server": "pay", "classes": ["write"]})));
    assert!(Ask::tool(service("ci"), "pay", "transfer", ToolClass::Write).decide(&services).allow);
    assert!(!Ask::tool(service("cd"), "pay", "transfer", ToolClass::Write).decide(&services).allow);
}

#[test]
fn g3_after_expiry_denied_again() {
    let policies = compile(grant(json!({"id": "g", "principals": ["everyone"], "server": "pay",
        "classes": ["write"], "expires": "1970-01-01T00:00:10Z"})));
    let ask = call("ann", &[], "transfer", ToolClass::Write);
    assert_eq!(policies.next_change_ms(0), Some(10_000));
    for (now, expected) in [(0, true), (9_999, true), (10_000, false), (10_001, false), (i64::MAX, false)] {
        assert_eq!(ask.clone().at(now).decide(&policies).allow, expected, "{now}");
        assert_eq!(ask.clone().at(now).list(&policies).allow, expected, "{now}");
    }
    let explained = ask.at(10_000).with(|query| policies.explain(query));
    let verdict = explained.rules.iter().find(|rule| &*rule.rule == "grant \"g\"").unwrap();
    assert_eq!(verdict.verdict, bartizan_policy::Verdict::Expired);
}

#[test]
fn g3_the_next_change_is_the_earliest_expiry_to_come() {
    let value = open_with(
        json!([]),
        json!([
            {"id": "a", "principals": ["everyone"], "server": "pay", "classes": ["write"], "expires": "1970-01-01T00:00:30Z"},
            {"id": "b", "principals": ["everyone"], "server": "pay", "classes": ["write"], "expires": "1970-01-01T00:00:20Z"},
            {"id": "c", "principals": ["everyone"], "server": "pay", "classes": ["write"], "expires": "1970-01-01T00:00:05Z"},
            {"id": "d", "principals": ["everyone"], "server": "pay", "classes": ["write"]},
        ]),
    );
    // Compiled once: the second expiry must still be known when the first has passed.
    let policies = bartizan_policy::Policies::compile(&common::resources(value), 0).unwrap();
    let at = |now| policies.next_change_ms(now);
    assert_eq!((at(0), at(5_000), at(25_000), at(30_000)), (Some(5_000), Some(20_000), Some(30_000), None));
}

#[test]
fn g3_a_condition_on_arguments_refuses_only_those_calls() {
    let policies = compile(grant(json!({"id": "small", "principals": ["everyone"], "server": "pay",
        "tools": ["transfer"], "when": "context.args.amount <= 1000"})));
    let ask = call("ann", &[], "transfer", ToolClass::Write);
    let listed = ask.list(&policies);
    assert!(listed.allow && listed.uses_args, "satisfiable, so listed");
    let outcome = |args: &str| {
        let decision = ask.clone().args(args).decide(&policies);
        assert!(decision.uses_args);
        (decision.allow, decision.code)
    };
    for allowed in [r#"{"amount":1000}"#, r#"{"amount":1e3}"#, r#"{"amount":1000.0,"to":"x"}"#, r#"{"amount":-5}"#] {
        assert_eq!(outcome(allowed), (true, None), "{allowed}");
    }
    assert_eq!(outcome(r#"{"amount":1001}"#), (false, Some(ReasonCode::WriteNotGranted)));
    for unclear in [
        "{}",
        r#"{"amount":"5"}"#,
        r#"{"amount":null}"#,
        r#"{"amount":0.5}"#,
        r#"{"amount":1e30}"#,
        r#"{"amount":[5]}"#,
        r#"{"Amount":5}"#,
        r#"{"amount":5,"amount":5000}"#,
        r#"{"amount":true}"#,
        "[]",
        "null",
        "",
        "{",
    ] {
        assert_eq!(outcome(unclear), (false, Some(ReasonCode::ArgumentRefused)), "{unclear}");
    }
    let none = ask.decide(&policies);
    assert_eq!(none.code, Some(ReasonCode::ArgumentRefused), "no arguments are an empty object");
    let server = ServerId::parse("pay").unwrap();
    assert!(policies.args_matter(&server, "transfer") && !policies.args_matter(&server, "other"));
}

#[test]
fn g3_an_unconditional_grant_does_not_depend_on_another_ones_arguments() {
    let policies = compile(open_with(
        json!([]),
        json!([
            {"id": "small", "principals": ["everyone"], "server": "pay", "classes": ["write"], "when": "context.args.amount <= 10"},
            {"id": "boss", "principals": ["user:ann"], "server": "pay", "classes": ["write"]},
        ]),
    ));
    let boss = call("ann", &[], "note", ToolClass::Write).decide(&policies);
    assert_eq!((boss.allow, boss.rule.as_deref(), boss.uses_args), (true, Some("grant \"boss\""), false));
    assert_eq!(call("ben", &[], "note", ToolClass::Write).decide(&policies).code, Some(ReasonCode::ArgumentRefused));
    // A read tool needs no grant, so a grant's condition cannot refuse it.
    let read = call("ben", &[], "get", ToolClass::Read).decide(&policies);
    assert!(read.allow && !read.uses_args);
}

#[test]
fn g3_a_cedar_permit_counts_as_a_grant() {
    let policies = compile(open_with(
        cedar(
            "permit(principal in Group::\"eng\", action == Action::\"call_tool\", resource in Server::\"pay\")\n\
             when { resource.class == \"write\" };",
        ),
        json!([]),
    ));
    assert!(call("ann", &["eng"], "transfer", ToolClass::Write).decide(&policies).allow);
    assert!(!call("ann", &["eng"], "transfer", ToolClass::Destructive).decide(&policies).allow);
    assert!(!call("ann", &["fin"], "transfer", ToolClass::Write).decide(&policies).allow);
    let mut elsewhere = call("ann", &["eng"], "transfer", ToolClass::Write);
    elsewhere.server = Some(ServerId::parse("wiki").unwrap());
    assert!(!elsewhere.decide(&policies).allow);
}

#[test]
fn g3_a_condition_is_one_condition() {
    for when in [
        "",
        "true } ; permit(principal, action, resource) when { true",
        "true) && (false",
        "context.args.amount <=",
        "context.arg.amount <= 1",
        "context.args.amount <= 1 // comment\n };",
        "unless { true }",
        "principal.nam == \"x\"",
        "context.args.a == context.args.b",
    ] {
        let found = findings(grant(json!({"id": "g", "principals": ["everyone"], "server": "pay",
            "classes": ["write"], "when": when})));
        assert!(found.iter().all(|one| one.path == "grants[0].when"), "{when}: {found:?}");
    }
}
