//! What `context` holds beside arguments: present, absent, unknown (row A20).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use bartizan_model::{Era, Principal, ReasonCode, ToolClass};
use bartizan_policy::{ContextUse, SessionFacts};
use common::{Ask, cedar, compile, findings, open_with, user};
use serde_json::json;

const NOW: i64 = 1_800_000_000_000;

/// Name, a condition that holds for [`full`], one that does not.
const CIRCUMSTANCES: [(&str, &str, &str); 12] = [
    ("era", r#"context.era == "legacy""#, r#"context.era == "modern""#),
    ("ip", r#"context.ip.isInRange(ip("192.0.2.0/24"))"#, r#"context.ip.isLoopback()"#),
    ("client", r#"context.client == "editor""#, r#"context.client like "x*""#),
    ("client_version", r#"context.client_version like "1.*""#, r#"context.client_version == "2""#),
    ("portal", r#"context.portal == "default""#, r#"context.portal == "other""#),
    ("groups", r#"context.groups.containsAny(["fin", "x"])"#, r#"context.groups.contains("ops")"#),
    ("mfa_age", "context.mfa_age <= 900", "context.mfa_age > 900"),
    ("acr", r#"context.acr == "phr""#, r#"context.acr == "pwd""#),
    ("device", r#"context.device like "managed-*""#, r#"context.device == "unknown""#),
    ("country", r#"["AT", "DE"].contains(context.country)"#, r#"context.country == "XX""#),
    ("client_id", r#"context.client_id like "*editor.example*""#, r#"context.client_id == "editor""#),
    ("purpose", r#"context.purpose like "*T-1*""#, r#"context.purpose == """#),
];

fn full() -> Ask {
    let mut ask = Ask::tool(user("ana@corp.example", &["eng", "fin"]), "pay", "set", ToolClass::Write).at(NOW);
    ask.era = Era::Legacy;
    ask.client = Some("editor".to_owned());
    ask.client_version = Some("1.2.3".to_owned());
    ask.session = Some(SessionFacts {
        mfa_at_ms: Some(NOW - 900_999),
        acr: Some("phr"),
        device: Some("managed-17"),
        country: Some("AT"),
        purpose: Some("ticket T-1"),
        client_id: Some("https://editor.example/client.json"),
        ..SessionFacts::default()
    });
    ask
}

fn bare() -> Ask {
    let mut ask = full().ip(None).direct();
    (ask.client, ask.client_version, ask.session) = (None, None, None);
    ask
}

fn permit(condition: &str) -> bartizan_policy::Policies {
    let text = format!("permit(principal, action == Action::\"call_tool\", resource) when {{ {condition} }};");
    compile(open_with(cedar(&text), json!([])))
}

fn forbid(condition: &str) -> bartizan_policy::Policies {
    let grant = json!([{"id": "g", "principals": ["everyone"], "server": "pay", "classes": ["write"]}]);
    let text = format!("forbid(principal, action == Action::\"call_tool\", resource) when {{ {condition} }};");
    compile(open_with(cedar(&text), grant))
}

#[test]
fn a20_every_circumstance_is_usable_when_present() {
    for (name, holds, fails) in CIRCUMSTANCES {
        for guard in [String::new(), format!("context has {name} && ")] {
            assert!(full().decide(&permit(&format!("{guard}{holds}"))).allow, "{name}");
            assert!(!full().decide(&permit(&format!("{guard}{fails}"))).allow, "{name}");
            assert!(!full().decide(&forbid(&format!("{guard}{holds}"))).allow, "{name}");
            assert!(full().decide(&forbid(&format!("{guard}{fails}"))).allow, "{name}");
        }
    }
}

#[test]
fn a20_an_absent_circumstance_denies_unless_asked_for() {
    for (name, holds, _) in CIRCUMSTANCES.into_iter().filter(|(name, ..)| !["era", "groups"].contains(name)) {
        // Not asked for: the condition fails, and with it the call, for permits and forbids.
        for policies in [permit(holds), forbid(holds)] {
            assert_eq!(bare().decide(&policies).code, Some(ReasonCode::PolicyDenied), "{name}");
            assert!(!bare().list(&policies).allow, "{name}");
        }
        let asked = format!("context has {name} && {holds}");
        assert_eq!(bare().decide(&permit(&asked)).code, Some(ReasonCode::WriteNotGranted), "{name}");
        assert!(bare().decide(&forbid(&asked)).allow, "{name}");
        assert!(!bare().decide(&forbid(&format!("!(context has {name})"))).allow, "{name}");
    }
}

#[test]
fn a20_anonymous_callers_have_no_groups() {
    let mut all = open_with(
        cedar("forbid(principal, action == Action::\"call_tool\", resource) when { context has groups };"),
        json!([]),
    );
    all["servers"][0]["visibility"] = json!("public");
    let policies = compile(all);
    let ask = |principal| Ask::tool(principal, "pay", "get", ToolClass::Read).direct();
    assert!(ask(Principal::anonymous()).decide(&policies).allow);
    assert!(!ask(user("ana", &[])).decide(&policies).allow);
}

#[test]
fn a4_a_second_factor_of_the_future_proves_nothing() {
    let policies = permit("context has mfa_age && context.mfa_age <= 60");
    let at = |mfa_at_ms| {
        let mut ask = full();
        ask.session = Some(SessionFacts { mfa_at_ms, ..SessionFacts::default() });
        ask.decide(&policies).allow
    };
    assert!(at(Some(NOW)) && at(Some(NOW - 60_999)) && at(Some(NOW + 60_000)));
    for wrong in [None, Some(NOW - 61_000), Some(NOW + 60_001), Some(i64::MAX), Some(i64::MIN)] {
        assert!(!at(wrong), "{wrong:?}");
    }
}

#[test]
fn a20_unknown_circumstances_do_not_compile() {
    for name in ["mfa", "contry", "IP", "group", "user", "client_versio"] {
        let text =
            format!("permit(principal, action, resource) when {{ context has {name} && context.{name} == \"x\" }};");
        let found = findings(open_with(cedar(&text), json!([])));
        assert_eq!((found[0].code, found[0].position.is_some()), ("unknown_attribute", true), "{name}");
    }
    for wrong in ["context.mfa_age == \"x\"", "context.country > 3", "context.groups == \"fin\"", "context.acr"] {
        let text = format!("permit(principal, action, resource) when {{ {wrong} }};");
        assert_eq!(findings(open_with(cedar(&text), json!([])))[0].code, "policy_type", "{wrong}");
    }
}

#[test]
fn a20_nothing_is_part_of_a_cache_key_unless_a_rule_looks_at_it() {
    assert_eq!(permit("resource.class == \"write\"").context_use(), ContextUse::default());
    let used = |condition: &str| permit(condition).context_use();
    assert_eq!(used("context has client_version"), ContextUse { client_version: true, ..ContextUse::default() });
    assert_eq!(used("context has acr"), ContextUse { session: true, ..ContextUse::default() });
    assert_eq!(used("context has mfa_age"), ContextUse { session: true, mfa_age: true, ..ContextUse::default() });
    // Groups are the principal's, which is part of every key.
    assert_eq!(used("context has groups"), ContextUse::default());
}

#[test]
fn a5_place_matters_only_where_a_rule_looks_at_it() {
    let matters = |value: serde_json::Value| {
        let policies = compile(value);
        let server = |id: &str| policies.place_matters(None, Some(&bartizan_model::ServerId::parse(id).unwrap()));
        (policies.place_matters(Some("default"), None), server("pay"), server("wiki"))
    };
    let open = |text: &str| open_with(cedar(text), json!([]));
    assert_eq!(matters(open_with(json!([]), json!([]))), (false, false, false));
    let mut one = open_with(json!([]), json!([]));
    one["servers"][0]["policies"] = json!([{"action": "allow", "include": [{"country": ["AT"]}]}]);
    assert_eq!(matters(one), (false, true, false));
    let mut portal = open_with(json!([]), json!([]));
    portal["portals"][0]["policies"] = json!([{"action": "allow", "include": [{"country": ["AT"]}]}]);
    assert_eq!(matters(portal), (true, false, false));
    let abroad = r#"when { context.country != "AT" };"#;
    for (scope, expected) in [
        ("forbid(principal, action, resource)", (true, true, true)),
        (r#"forbid(principal, action == Action::"use_portal", resource)"#, (true, false, false)),
        (r#"forbid(principal, action == Action::"use_server", resource == Server::"pay")"#, (false, true, false)),
        (r#"forbid(principal, action == Action::"call_tool", resource)"#, (false, false, false)),
    ] {
        assert_eq!(matters(open(&format!("{scope} {abroad}"))), expected, "{scope}");
    }
    // Other circumstances are known at a refresh.
    let named = r#"forbid(principal, action, resource) when { context.client_id == "x" };"#;
    assert_eq!(matters(open(named)), (false, false, false));
}
