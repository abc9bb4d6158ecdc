//! An e-mail address is one principal in every spelling of its case, wherever a rule names
//! it (rows A3, A20, G3).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use bartizan_model::{Principal, PrincipalKind, ReasonCode, ToolClass};
use common::{Ask, cedar, compile, findings, open_with, service, user};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

const ANA: &str = "ana@corp.example";

/// Every place in which a rule can name a user; `@` stands for the address.
const FORBIDS: [&str; 13] = [
    r#"forbid(principal == User::"@", action, resource);"#,
    r#"forbid(principal in User::"@", action, resource);"#,
    r#"forbid(principal is User in User::"@", action, resource);"#,
    r#"forbid(principal, action, resource) when { principal == User::"@" };"#,
    r#"forbid(principal, action, resource) when { User::"@" == principal };"#,
    r#"forbid(principal, action, resource) unless { principal != User::"@" };"#,
    r#"forbid(principal, action, resource) when { principal in [User::"x", User::"@"] };"#,
    r#"forbid(principal is User, action, resource) when { [User::"x", User::"@"].contains(principal) };"#,
    r#"forbid(principal, action, resource) when { principal.id == "@" };"#,
    r#"forbid(principal, action, resource) unless { principal.id != "@" };"#,
    r#"forbid(principal, action, resource) when { ["x", "@"].contains(principal.id) };"#,
    r#"forbid(principal, action, resource) when { principal.id like "@*" };"#,
    r#"forbid(principal, action, resource) when { (if context.era == "x" then "y" else "@") == principal.id };"#,
];

fn read(principal: Principal) -> Ask {
    Ask::tool(principal, "pay", "get", ToolClass::Read)
}

fn write(principal: Principal) -> Ask {
    Ask::tool(principal, "pay", "set", ToolClass::Write)
}

fn respelled(bits: u32) -> String {
    let up = |(at, c): (usize, char)| if bits >> (at % 32) & 1 == 1 { c.to_ascii_uppercase() } else { c };
    ANA.chars().enumerate().map(up).collect()
}

/// Resources in which the rule names `id`, by the number of the place.
fn ruled(place: usize, id: &str) -> Value {
    if let Some(text) = FORBIDS.get(place) {
        return open_with(cedar(&text.replace('@', id)), json!([]));
    }
    let mut all = open_with(json!([]), json!([]));
    let block = |include: Value| json!({"action": "block", "include": include});
    let domain = id.split_once('@').unwrap().1;
    let rule = match place - FORBIDS.len() {
        0 => block(json!([{"emails": [id]}])),
        1 => block(json!([{"email_domain": [domain]}])),
        _ => {
            json!({"action": "block", "include": [{"everyone": true}], "exclude": [{"emails": ["other@corp.example"]}]})
        }
    };
    all["servers"][0]["policies"].as_array_mut().unwrap().push(rule);
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a20_no_rule_is_dodged_by_case(place in 0..FORBIDS.len() + 3, rule in any::<u32>(), caller in any::<u32>()) {
        let policies = compile(ruled(place, &respelled(rule)));
        let decision = read(user(&respelled(caller), &[])).decide(&policies);
        prop_assert_eq!(decision.code, Some(ReasonCode::PolicyDenied), "place {}", place);
        // And the rule is about her alone.
        if place != FORBIDS.len() + 1 {
            prop_assert!(read(user("other@corp.example", &[])).decide(&policies).allow);
        }
        prop_assert!(read(user("bea@elsewhere.example", &[])).decide(&policies).allow || place == FORBIDS.len() + 2);
    }

    #[test]
    fn a20_a_permit_in_any_case_is_the_same_permit(text in select(vec![
        r#"permit(principal == User::"@", action == Action::"call_tool", resource);"#,
        r#"permit(principal, action == Action::"call_tool", resource) when { principal.id == "@" };"#,
        r#"permit(principal, action == Action::"call_tool", resource) when { principal in [User::"@"] };"#,
    ]), rule in any::<u32>(), caller in any::<u32>()) {
        let policies = compile(open_with(cedar(&text.replace('@', &respelled(rule))), json!([])));
        prop_assert!(write(user(&respelled(caller), &[])).decide(&policies).allow);
        prop_assert!(!write(user("anna@corp.example", &[])).decide(&policies).allow);
    }

    #[test]
    fn g3_a_grant_in_any_case_is_the_same_grant(rule in any::<u32>(), caller in any::<u32>()) {
        let grant = json!([{"id": "g", "principals": [format!("user:{}", respelled(rule))], "server": "pay", "classes": ["write"]}]);
        let policies = compile(open_with(json!([]), grant));
        prop_assert!(write(user(&respelled(caller), &[])).decide(&policies).allow);
    }
}

#[test]
fn a20_only_addresses_of_users_are_folded() {
    let rule = |text: &str| compile(open_with(cedar(text), json!([])));
    let policies = rule(r#"forbid(principal, action, resource) when { principal.id == "Deploy" };"#);
    assert!(!read(user("Deploy", &[])).decide(&policies).allow);
    assert!(read(user("deploy", &[])).decide(&policies).allow);
    assert!(!read(service("Deploy")).decide(&policies).allow);
    assert!(read(service("deploy")).decide(&policies).allow);
    let policies = rule(r#"forbid(principal, action, resource) when { principal.id like "*@Corp.example" };"#);
    assert!(!read(user(ANA, &[])).decide(&policies).allow);
    assert!(!read(service("a@Corp.example")).decide(&policies).allow);
    assert!(read(service("a@corp.example")).decide(&policies).allow);
    // Arguments keep their case.
    let policies = rule(
        r#"forbid(principal, action == Action::"call_tool", resource) when { context.args has to && context.args.to == "Ana" && principal.id == "Ana@Corp.example" };"#,
    );
    assert!(!read(user(ANA, &[])).args(r#"{"to":"Ana"}"#).decide(&policies).allow);
    assert!(read(user(ANA, &[])).args(r#"{"to":"ana"}"#).decide(&policies).allow);
}

/// What would happen to an address that nobody folded: the other spelling walks past.
#[test]
fn a20_without_folding_the_other_spelling_would_pass() {
    let policies =
        compile(open_with(cedar(r#"forbid(principal == Service::"Ana@Corp.example", action, resource);"#), json!([])));
    assert!(read(service("ana@corp.example")).decide(&policies).allow);
    assert!(!read(service("Ana@Corp.example")).decide(&policies).allow);
}

#[test]
fn a20_users_that_cannot_exist_are_errors_in_rules() {
    for id in
        ["\u{430}na@corp.example", "ana\u{200b}@corp.example", "a@b@c", "ana@corp.example.", "ana\u{ff20}corp.example"]
    {
        for text in [&FORBIDS[0], &FORBIDS[3], &FORBIDS[6]] {
            let found = findings(open_with(cedar(&text.replace('@', id)), json!([])));
            assert_eq!((found[0].code, found[0].position.is_some()), ("invalid_principal", true), "{id:?} {text}");
        }
        let grant = json!([{"id": "g", "principals": [format!("user:{id}")], "server": "pay", "classes": ["write"]}]);
        assert_eq!(findings(open_with(json!([]), grant))[0].code, "invalid_principal", "{id:?}");
        let mut all = open_with(json!([]), json!([]));
        all["servers"][0]["policies"] = json!([{"action": "block", "include": [{"emails": [id]}]}]);
        assert_eq!(findings(all)[0].code, "invalid_selector", "{id:?}");
    }
    for domain in ["münchen.example", "corp.example.", "corp..example", "corp example"] {
        let mut all = open_with(json!([]), json!([]));
        all["servers"][0]["policies"] = json!([{"action": "block", "include": [{"email_domain": [domain]}]}]);
        assert_eq!(findings(all)[0].code, "invalid_selector", "{domain:?}");
    }
}

#[test]
fn a20_a_user_whom_no_rule_can_name_may_do_nothing() {
    let mut all = open_with(cedar("permit(principal, action, resource);"), json!([]));
    all["servers"][0]["visibility"] = json!("public");
    let policies = compile(all);
    assert!(read(user(ANA, &[])).decide(&policies).allow);
    for id in ["\u{430}na@corp.example", "ana@corp.example\u{0}", "ana@corp.example.", "", "ana\u{200d}"] {
        let decision = read(Principal::new(PrincipalKind::User, id, [])).decide(&policies);
        assert_eq!(decision.code, Some(ReasonCode::PolicyDenied), "{id:?}");
        assert!(!write(user(id, &[])).direct().list(&policies).allow, "{id:?}");
    }
}
