//! Cedar policies: scopes, circumstances, compile errors with their places (row A20).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use bartizan_model::{Era, Principal, ReasonCode, ServerId, ToolClass};
use bartizan_policy::{Action, Policies};
use common::{Ask, cedar, compile, findings, open_with, service, user};
use serde_json::json;

#[test]
fn a20_finance_reads_and_engineers_write_on_one_portal() {
    let policies = compile(open_with(
        cedar(
            "permit(principal in Group::\"engineers\", action == Action::\"call_tool\", resource in Server::\"pay\")\n\
               when { resource.class == \"write\" };\n\
             forbid(principal in Group::\"finance\", action == Action::\"call_tool\", resource)\n\
               unless { resource.class == \"read\" };",
        ),
        json!([{"id": "g", "principals": ["everyone"], "server": "wiki", "classes": ["write"]}]),
    ));
    let decide =
        |groups: &[&str], server: &str, class| Ask::tool(user("ann", groups), server, "tool", class).decide(&policies);
    let (fin, eng): (&[&str], &[&str]) = (&["finance"], &["engineers"]);
    for server in ["pay", "wiki"] {
        assert!(decide(fin, server, ToolClass::Read).allow);
        assert!(decide(eng, server, ToolClass::Read).allow);
        assert_eq!(decide(fin, server, ToolClass::Write).code, Some(ReasonCode::PolicyDenied));
        assert!(decide(eng, server, ToolClass::Write).allow);
        assert_eq!(decide(eng, server, ToolClass::Destructive).code, Some(ReasonCode::WriteNotGranted));
    }
    assert!(!decide(&["engineers", "finance"], "pay", ToolClass::Write).allow, "forbid overrides");
    assert_eq!(decide(fin, "pay", ToolClass::Write).rule.as_deref(), Some("policy \"p\" statement 2"));
}

#[test]
fn a20_scopes_select_who_and_what() {
    let asks = [
        Ask::tool(user("ann", &["eng"]), "pay", "a", ToolClass::Read),
        Ask::tool(user("ben", &[]), "pay", "b", ToolClass::Read),
        Ask::tool(service("ci"), "wiki", "a", ToolClass::Read),
        Ask { action: Action::GetPrompt, ..Ask::tool(user("ann", &["eng"]), "wiki", "a", ToolClass::Read) },
        Ask { action: Action::ReadResource, ..Ask::tool(user("ben", &[]), "pay", "x://a", ToolClass::Read) },
        Ask { action: Action::UseServer, ..Ask::tool(user("ann", &["eng"]), "pay", "", ToolClass::Read) },
        Ask { action: Action::UsePortal, server: None, ..Ask::tool(user("ben", &[]), "pay", "", ToolClass::Read) },
        Ask { action: Action::Complete, ..Ask::tool(user("ben", &[]), "wiki", "", ToolClass::Read) },
        Ask { action: Action::Other, ..Ask::tool(user("ann", &["eng"]), "pay", "", ToolClass::Read) },
    ];
    // One letter per question: F forbidden, - not.
    for (scope, expected) in [
        ("principal, action, resource", "FFFFFFFFF"),
        ("principal == User::\"ann\", action, resource", "F--F-F--F"),
        ("principal == User::\"Ann\", action, resource", "---------"),
        ("principal == Service::\"ci\", action, resource", "--F------"),
        ("principal == User::\"ci\", action, resource", "---------"),
        ("principal in Group::\"eng\", action, resource", "F--F-F--F"),
        ("principal is User, action, resource", "FF-FFFFFF"),
        ("principal is Service, action, resource", "--F------"),
        ("principal is User in Group::\"eng\", action, resource", "F--F-F--F"),
        ("principal is Service in Group::\"eng\", action, resource", "---------"),
        ("principal, action == Action::\"call_tool\", resource", "FFF------"),
        ("principal, action in [Action::\"get_prompt\", Action::\"read_resource\"], resource", "---FF----"),
        ("principal, action == Action::\"use_server\", resource", "FFFFFF-FF"),
        ("principal, action == Action::\"use_portal\", resource", "FFFFFFFFF"),
        ("principal, action == Action::\"complete\", resource", "-------F-"),
        ("principal, action == Action::\"other\", resource", "--------F"),
        // A server and everything it offers.
        ("principal, action, resource in Server::\"pay\"", "FF--FF--F"),
        ("principal, action, resource == Server::\"pay\"", "FF--FF--F"),
        ("principal, action == Action::\"call_tool\", resource in Server::\"pay\"", "FF-------"),
        ("principal, action, resource is Tool in Server::\"pay\"", "FF-------"),
        ("principal, action, resource is Tool", "FFF------"),
        ("principal, action, resource == Tool::\"pay/a\"", "F--------"),
        ("principal, action, resource in Tool::\"pay/a\"", "F--------"),
        ("principal, action, resource == Prompt::\"wiki/a\"", "---F-----"),
        ("principal, action, resource == Resource::\"pay/x://a\"", "----F----"),
        ("principal, action, resource == Portal::\"default\"", "FFFFFFFFF"),
        ("principal, action, resource is Portal", "FFFFFFFFF"),
    ] {
        let policies = compile(open_with(cedar(&format!("forbid({scope});")), json!([])));
        let found: String = asks
            .iter()
            .map(|ask| {
                let decision = ask.decide(&policies);
                assert_eq!(decision, ask.list(&policies), "{scope}");
                if decision.allow { '-' } else { 'F' }
            })
            .collect();
        assert_eq!(found, expected, "{scope}");
    }
}

#[test]
fn a20_circumstances() {
    let forbid = |condition: &str| {
        compile(open_with(cedar(&format!("forbid(principal, action, resource) when {{ {condition} }};")), json!([])))
    };
    let ask = Ask::tool(user("ann", &[]), "pay", "a", ToolClass::Read);
    let lan = forbid("context has ip && !context.ip.isInRange(ip(\"10.0.0.0/8\"))");
    assert!(ask.clone().ip(Some("10.1.1.1")).decide(&lan).allow);
    assert!(!ask.clone().ip(Some("192.0.2.1")).decide(&lan).allow);
    assert!(ask.clone().ip(None).decide(&lan).allow, "the rule says so itself");
    assert!(ask.clone().ip(Some("::ffff:10.1.1.1")).decide(&lan).allow);
    let strict = forbid("!context.ip.isInRange(ip(\"10.0.0.0/8\"))");
    let unknown = ask.clone().ip(None).decide(&strict);
    assert_eq!((unknown.allow, unknown.code), (false, Some(ReasonCode::PolicyDenied)), "fails closed");
    assert!(!ask.clone().ip(None).list(&strict).allow);
    let era = forbid("context.era == \"legacy\"");
    assert!(ask.decide(&era).allow);
    assert!(!Ask { era: Era::Legacy, ..ask.clone() }.decide(&era).allow);
    let client = forbid("context.client like \"evil*\"");
    assert!(ask.decide(&client).allow);
    assert!(!Ask { client: Some("evil 1".to_owned()), ..ask.clone() }.decide(&client).allow);
    assert!(!Ask { client: None, ..ask.clone() }.decide(&client).allow);
    let portal = forbid("context has portal && context.portal == \"default\"");
    assert!(!ask.decide(&portal).allow);
    assert!(ask.clone().direct().decide(&portal).allow);
    let uses = |policies: &bartizan_policy::Policies| {
        let used = policies.context_use();
        (used.ip, used.client, used.era)
    };
    assert_eq!(uses(&lan), (true, false, false));
    assert_eq!(uses(&era), (false, false, true));
    assert_eq!(uses(&client), (false, true, false));
    assert_eq!(uses(&compile(open_with(json!([]), json!([])))), (false, false, false));
}

#[test]
fn a20_permits_open_doors_only_when_they_say_so() {
    let closed = |text: &str| {
        let mut value = open_with(cedar(text), json!([]));
        value["servers"][0]["policies"] = json!([]);
        value["portals"][0]["policies"] = json!([]);
        compile(value)
    };
    let ann = || Ask::tool(user("ann", &["eng"]), "pay", "a", ToolClass::Read);
    let ci = || Ask::tool(service("ci"), "pay", "a", ToolClass::Read);
    let nobody = || Ask::tool(Principal::anonymous(), "pay", "a", ToolClass::Read);
    let broad = closed("permit(principal, action, resource);");
    assert!(!ann().decide(&broad).allow && !ci().decide(&broad).allow && !nobody().decide(&broad).allow);
    let doors = "action in [Action::\"use_portal\", Action::\"use_server\"], resource";
    let users = closed(&format!("permit(principal in Group::\"eng\", {doors});"));
    assert!(ann().decide(&users).allow && !ci().decide(&users).allow);
    assert_eq!(ann().decide(&users).rule.as_deref(), Some("policy \"p\""));
    let everybody = closed(&format!("permit(principal, {doors});"));
    assert!(ann().decide(&everybody).allow);
    assert!(!ci().decide(&everybody).allow, "services are named, or not meant");
    assert!(!nobody().decide(&everybody).allow && !nobody().direct().decide(&everybody).allow);
    let services = closed(&format!("permit(principal == Service::\"ci\", {doors});"));
    assert!(ci().decide(&services).allow && !ann().decide(&services).allow);
    let one = closed("permit(principal, action == Action::\"use_server\", resource == Server::\"pay\");");
    assert!(!ann().decide(&one).allow, "the portal is still closed");
    assert!(ann().direct().decide(&one).allow);
}

#[test]
fn a20_mistakes_are_compile_errors_with_line_and_column() {
    for (text, code, line, column, suggestion) in [
        (
            "forbid(principal, action, resource)\nwhen { context.er == \"legacy\" };",
            "unknown_attribute",
            2,
            16,
            Some("context.era"),
        ),
        (
            "forbid(principal, action == Action::\"call_tool\", resource)\n  when { resource.nmae == \"x\" };",
            "unknown_attribute",
            2,
            19,
            Some("resource.name"),
        ),
        ("forbid(principal, action, resource)\nwhen { principal has role };", "unknown_attribute", 2, 22, None),
        (
            "forbid(principal, action == Action::\"call_tool\", resource) when {\n  false || resource has bogus && resource.bogus == 1 };",
            "unknown_attribute",
            2,
            25,
            None,
        ),
        (
            "forbid(principal, action, resource) when { context.amount > 5 };",
            "unknown_attribute",
            1,
            52,
            Some("context.args.amount"),
        ),
        ("permit(principal, action == Action::\"call_tol\", resource);", "unknown_action", 1, 29, None),
        ("permit(principal == Usr::\"ann\", action, resource);", "unknown_entity_type", 1, 21, None),
        ("permit(principal, action, resource in Server::\"pya\");", "unknown_server", 1, 48, Some("`pay`")),
        ("permit(principal, action, resource) when { resource in Server::\"gone\" };", "unknown_server", 1, 65, None),
        (
            "permit(principal, action, resource == Tool::\"transfer\");",
            "unknown_server",
            1,
            46,
            Some("SERVER_ID/transfer"),
        ),
        ("permit(principal, action, resource == Tool::\"gone/transfer\");", "unknown_server", 1, 46, None),
        ("forbid(principal, action, resource == Portal::\"main\");", "unknown_portal", 1, 48, None),
        (
            "forbid(principal, action == Action::\"call_tool\", resource == Server::\"pay\");",
            "policy_never_applies",
            1,
            1,
            Some("resource in Server"),
        ),
        ("\n\n  forbid(principal == Group::\"eng\", action, resource);", "policy_never_applies", 3, 3, None),
        ("forbid(principal, action, resource) when { 1 == \"a\" };", "policy_type", 1, 1, None),
        ("forbid(principal, action, resource) when { principal.id < 5 };", "policy_type", 1, 1, None),
        (
            "forbid(principal, action, resource) when { context.args.x > 5 };",
            "args_without_call",
            1,
            52,
            Some("call_tool"),
        ),
        ("forbid(principal, action, resource) when { context.era };", "policy_type", 1, 1, None),
        ("permit(principal, action, resource", "policy_syntax", 1, 35, None),
        ("permit(principal, action, resource);\npermit(principal action, resource);", "policy_syntax", 2, 18, None),
        ("permit(principal == ?principal, action, resource);", "policy_unsupported", 0, 0, None),
    ] {
        let found = findings(open_with(cedar(text), json!([])));
        let hit = found.iter().find(|one| one.code == code).unwrap_or_else(|| panic!("{text}\n{found:#?}"));
        assert_eq!(hit.path, "policies[0].cedar");
        let place = hit.position.map_or((0, 0), |place| (place.line, place.column));
        assert_eq!(place, (line, column), "{text}\n{hit:?}");
        if let Some(suggestion) = suggestion {
            assert!(hit.suggestion.as_ref().is_some_and(|given| given.contains(suggestion)), "{text}\n{hit:?}");
        }
    }
}

#[test]
fn a20_all_mistakes_are_reported_at_once() {
    let found = findings(open_with(
        json!([
            {"id": "a", "cedar": "permit(principal, action, resource) when { context.nope };\nforbid(principal, action, resource in Server::\"x\");"},
            {"id": "b", "cedar": "permit("},
            {"id": "c", "cedar": "// nothing"},
        ]),
        json!([{"id": "g", "principals": ["everyone"], "server": "pay", "classes": ["write"], "when": "context.args.a <"}]),
    ));
    for (path, code) in [
        ("policies[0].cedar", "unknown_attribute"),
        ("policies[0].cedar", "unknown_server"),
        ("policies[1].cedar", "policy_syntax"),
        ("policies[2].cedar", "empty_policy"),
        ("grants[0].when", "policy_syntax"),
    ] {
        assert!(found.iter().any(|one| one.path == path && one.code == code), "{path} {code}\n{found:#?}");
    }
}

#[test]
fn a20_positions_in_a_grant_are_those_of_its_condition() {
    let found = findings(open_with(
        json!([]),
        json!([{"id": "g", "principals": ["everyone"], "server": "pay", "classes": ["write"],
                "when": "context.args.a < 5 &&\n  resource.nme == \"x\""}]),
    ));
    let hit = found.iter().find(|one| one.code == "unknown_attribute").unwrap();
    assert_eq!(hit.position.map(|place| (place.line, place.column)), Some((2, 12)), "{hit:?}");
}

#[test]
fn a20_long_and_deep_policies_are_refused_or_compiled_but_never_crash() {
    let text = |condition: String| {
        open_with(
            cedar(&format!("forbid(principal, action == Action::\"call_tool\", resource) when {{ {condition} }};")),
            json!([]),
        )
    };
    let chain = |n: usize, or: &str| vec!["context.args.a == 1"; n].join(or);
    let policies = compile(text(chain(300, " || ")));
    let ask = Ask::tool(user("ann", &[]), "pay", "a", ToolClass::Read);
    assert!(ask.clone().args(r#"{"a":2}"#).decide(&policies).allow);
    assert_eq!(ask.args(r#"{"a":1}"#).decide(&policies).code, Some(ReasonCode::PolicyDenied));
    compile(text(chain(300, " && ")));
    let names: Vec<_> = (0..2_000).map(|n| format!("\"user{n}@example.com\"")).collect();
    compile(text(format!("[{}].contains(context.args.a)", names.join(", "))));
    for deep in [
        chain(1_000, " || "),
        vec!["true"; 8_000].join("||"),
        vec!["1"; 8_000].join("+") + " > 0",
        format!("{}1{} == 1", "(".repeat(20_000), ")".repeat(20_000)),
        format!("{}1{} == 1", "[".repeat(20_000), "]".repeat(20_000)),
        format!("{}(context.args.a == 1){}", "!(".repeat(150), ")".repeat(150)),
        format!("context.args{}", ".a".repeat(20_000)),
        format!("{}true{}", "if true then ".repeat(200), " else true".repeat(200)),
    ] {
        let found = findings(text(deep));
        assert!(!found.is_empty());
    }
    assert!(findings(text(chain(10_000, " || "))).iter().any(|one| one.code == "policy_too_long"));
    let path = format!("context.args has {}", vec!["a"; 300].join("."));
    assert!(findings(text(path)).iter().any(|one| one.code == "policy_too_deep"));
}

#[test]
fn policy_versions_follow_content() {
    let version = |policies, grants| compile(open_with(policies, grants)).version();
    let one = version(cedar("permit(principal, action, resource);"), json!([]));
    assert_eq!(one, version(cedar("permit(principal, action, resource);"), json!([])));
    assert_ne!(one, version(cedar("permit(principal, action, resource) ;"), json!([])));
    assert_ne!(one, version(json!([]), json!([])));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    /// Any text is a policy or a finding, never a crash.
    #[test]
    fn a20_any_text_is_a_policy_or_a_finding(
        text in "(permit|forbid|when|unless|\\(|\\)|\\{|\\}|;|,|principal|action|resource|context|\\.args|\\.a|==|in|is|has|\\|\\||&&|!|\"x\"|Group::\"x\"|[0-9]| |\n|.){0,40}",
    ) {
        for value in [
            open_with(cedar(&text), json!([])),
            open_with(json!([]), json!([{"id": "g", "principals": ["everyone"], "server": "pay", "classes": ["write"], "when": text}])),
        ] {
            if let Err(findings) = bartizan_policy::Policies::compile(&common::resources(value), 0) {
                proptest::prop_assert!(!findings.is_empty());
            }
        }
    }
}

#[test]
fn a20_names_that_a_condition_begins_with_narrow_it_and_hide_no_failure() {
    let rule = |when: &str| {
        let text = format!("forbid(principal, action == Action::\"call_tool\", resource) when {{ {when} }};");
        compile(open_with(cedar(&text), json!([])))
    };
    let pay = ServerId::parse("pay").unwrap();
    let call = |policies: &Policies, name: &str| {
        let mut ask = Ask::tool(user("ann", &[]), "pay", name, ToolClass::Read);
        ask.client = None;
        (ask.decide(policies).allow, ask.list(policies).allow)
    };
    for when in [
        "resource has name && resource.name == \"secret\"",
        "\"secret\" == resource.name",
        "[\"secret\", \"other\"].contains(resource.name)",
        "resource.name == \"secret\" && context.client == \"x\"",
    ] {
        let policies = rule(when);
        assert_eq!((call(&policies, "secret"), call(&policies, "open")), ((false, false), (true, true)), "{when}");
        assert!(
            policies.is_named(Action::CallTool, &pay, "secret") && !policies.is_named(Action::CallTool, &pay, "open")
        );
        assert!(!policies.conditions_use_name(Action::CallTool, &pay), "{when}");
    }
    // A failure before the name is a failure for every name.
    let policies = rule("context.client == \"x\" && resource.name == \"secret\"");
    assert_eq!((call(&policies, "secret"), call(&policies, "open")), ((false, false), (false, false)));
    assert!(policies.conditions_use_name(Action::CallTool, &pay));
    // Nothing is narrowed by what may be otherwise.
    for when in ["resource.name != \"secret\"", "resource.name == \"secret\" || true", "!(resource.name == \"secret\")"]
    {
        assert!(!call(&rule(when), "open").0, "{when}");
    }
}
