//! Who may use what: short forms, visibility, service tokens (rows A3, A11, A21, G7, P40).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use bartizan_model::{Principal, PrincipalKind, ReasonCode, ToolClass};
use bartizan_policy::Action;
use common::{Ask, compile, findings, service, user};
use serde_json::{Value, json};

fn one(rules: Value) -> Value {
    json!({
        "servers": [{"server_id": "s", "hostname": "http://localhost/mcp", "policies": rules}],
        "portals": [{"id": "default", "policies": [
            {"action": "allow", "include": [{"everyone": true}]},
            {"action": "service_auth", "include": [{"everyone": true}]},
        ]}],
    })
}

fn read(principal: Principal) -> Ask {
    Ask::tool(principal, "s", "get", ToolClass::Read)
}

#[test]
fn a3_decision_table() {
    let alice = || user("alice@example.com", &["eng", "ops"]);
    let bob = || user("Bob@Example.org", &["fin"]);
    let eve = || user("eve", &[]);
    let ci = || service("ci");
    let allow = |include: Value| json!([{"action": "allow", "include": include}]);
    let rows: Vec<(Value, Principal, Option<&str>, bool)> = vec![
        // everyone
        (allow(json!([{"everyone": true}])), alice(), None, true),
        (allow(json!([{"everyone": false}])), alice(), None, false),
        (allow(json!([{"everyone": true}])), ci(), None, false),
        (allow(json!([{"everyone": true}])), Principal::anonymous(), None, false),
        (json!([]), alice(), None, false),
        // emails and ids
        (allow(json!([{"emails": ["alice@example.com"]}])), alice(), None, true),
        (allow(json!([{"emails": ["ALICE@example.COM"]}])), alice(), None, true),
        (allow(json!([{"emails": ["bob@example.org"]}])), bob(), None, true),
        (allow(json!([{"emails": ["alice@example.com"]}])), bob(), None, false),
        (allow(json!([{"emails": ["eve"]}])), eve(), None, true),
        (allow(json!([{"emails": ["Eve"]}])), eve(), None, false),
        (allow(json!([{"emails": ["x", "eve"]}])), eve(), None, true),
        (
            json!([{"action": "service_auth", "include": [{"everyone": true}], "exclude": [{"emails": ["ci"]}]}]),
            ci(),
            None,
            true,
        ),
        // domain
        (allow(json!([{"email_domain": ["example.com"]}])), alice(), None, true),
        (allow(json!([{"email_domain": ["EXAMPLE.com"]}])), alice(), None, true),
        (allow(json!([{"email_domain": ["example.org"]}])), bob(), None, true),
        (allow(json!([{"email_domain": ["example.com"]}])), bob(), None, false),
        (allow(json!([{"email_domain": ["com"]}])), alice(), None, false),
        (allow(json!([{"email_domain": ["example.com"]}])), user("x@example.com@evil.test", &[]), None, false),
        (allow(json!([{"email_domain": ["example.com"]}])), user("example.com", &[]), None, false),
        (allow(json!([{"email_domain": ["eve"]}])), eve(), None, false),
        // groups
        (allow(json!([{"groups": ["eng"]}])), alice(), None, true),
        (allow(json!([{"groups": ["Eng"]}])), alice(), None, false),
        (allow(json!([{"groups": ["fin", "ops"]}])), alice(), None, true),
        (allow(json!([{"groups": ["fin"]}])), alice(), None, false),
        (allow(json!([{"groups": ["en"]}])), alice(), None, false),
        // several selectors are an or
        (allow(json!([{"groups": ["fin"]}, {"emails": ["alice@example.com"]}])), alice(), None, true),
        (allow(json!([{"groups": ["fin"]}, {"emails": ["eve"]}])), alice(), None, false),
        // addresses
        (allow(json!([{"ip": ["192.0.2.0/24"]}])), eve(), Some("192.0.2.9"), true),
        (allow(json!([{"ip": ["192.0.2.0/24"]}])), eve(), Some("192.0.3.9"), false),
        (allow(json!([{"ip": ["192.0.2.9"]}])), eve(), Some("192.0.2.9"), true),
        (allow(json!([{"ip": ["192.0.2.9"]}])), eve(), Some("192.0.2.8"), false),
        (allow(json!([{"ip": ["2001:db8::/32"]}])), eve(), Some("2001:db8::1"), true),
        (allow(json!([{"ip": ["2001:db8::/32"]}])), eve(), Some("2001:db9::1"), false),
        (allow(json!([{"ip": ["192.0.2.0/24"]}])), eve(), Some("::ffff:192.0.2.9"), true),
        (allow(json!([{"ip": ["::ffff:192.0.2.0/120"]}])), eve(), Some("192.0.2.9"), true),
        (allow(json!([{"ip": ["::ffff:192.0.2.0/120"]}])), eve(), Some("192.0.3.9"), false),
        (allow(json!([{"ip": ["0.0.0.0/0"]}])), eve(), None, false),
        (allow(json!([{"ip": ["0.0.0.0/0"]}])), eve(), Some("2001:db8::1"), false),
        // require
        (
            json!([{"action": "allow", "include": [{"everyone": true}], "require": [{"groups": ["eng"]}]}]),
            alice(),
            None,
            true,
        ),
        (
            json!([{"action": "allow", "include": [{"everyone": true}], "require": [{"groups": ["eng"]}, {"groups": ["ops"]}]}]),
            alice(),
            None,
            true,
        ),
        (
            json!([{"action": "allow", "include": [{"everyone": true}], "require": [{"groups": ["eng"]}, {"groups": ["fin"]}]}]),
            alice(),
            None,
            false,
        ),
        (
            json!([{"action": "allow", "include": [{"everyone": true}], "require": [{"ip": ["10.0.0.0/8"]}]}]),
            alice(),
            None,
            false,
        ),
        (
            json!([{"action": "allow", "include": [{"everyone": true}], "require": [{"ip": ["10.0.0.0/8"]}]}]),
            alice(),
            Some("10.1.2.3"),
            true,
        ),
        // exclude
        (
            json!([{"action": "allow", "include": [{"everyone": true}], "exclude": [{"emails": ["eve"]}]}]),
            eve(),
            None,
            false,
        ),
        (
            json!([{"action": "allow", "include": [{"everyone": true}], "exclude": [{"emails": ["eve"]}]}]),
            alice(),
            None,
            true,
        ),
        (
            json!([{"action": "allow", "include": [{"everyone": true}], "exclude": [{"ip": ["10.0.0.0/8"]}]}]),
            alice(),
            Some("10.0.0.1"),
            false,
        ),
        (
            json!([{"action": "allow", "include": [{"everyone": true}], "exclude": [{"ip": ["10.0.0.0/8"]}]}]),
            alice(),
            Some("11.0.0.1"),
            true,
        ),
        (
            json!([{"action": "allow", "include": [{"everyone": true}], "exclude": [{"ip": ["10.0.0.0/8"]}]}]),
            alice(),
            None,
            false,
        ),
        (
            json!([{"action": "allow", "include": [{"everyone": true}], "exclude": [{"service_token": ["alice@example.com"]}]}]),
            alice(),
            None,
            true,
        ),
        // block wins, wherever it stands
        (
            json!([{"action": "allow", "include": [{"everyone": true}]}, {"action": "block", "include": [{"emails": ["eve"]}]}]),
            eve(),
            None,
            false,
        ),
        (
            json!([{"action": "block", "include": [{"emails": ["eve"]}]}, {"action": "allow", "include": [{"everyone": true}]}]),
            eve(),
            None,
            false,
        ),
        (
            json!([{"action": "block", "include": [{"emails": ["eve"]}]}, {"action": "allow", "include": [{"everyone": true}]}]),
            alice(),
            None,
            true,
        ),
        (
            json!([{"action": "block", "include": [{"everyone": true}], "exclude": [{"groups": ["eng"]}]}, {"action": "allow", "include": [{"everyone": true}]}]),
            alice(),
            None,
            true,
        ),
        (
            json!([{"action": "block", "include": [{"everyone": true}], "exclude": [{"groups": ["eng"]}]}, {"action": "allow", "include": [{"everyone": true}]}]),
            bob(),
            None,
            false,
        ),
        (
            json!([{"action": "block", "include": [{"ip": ["10.0.0.0/8"]}]}, {"action": "allow", "include": [{"everyone": true}]}]),
            alice(),
            Some("10.0.0.1"),
            false,
        ),
        (
            json!([{"action": "block", "include": [{"ip": ["10.0.0.0/8"]}]}, {"action": "allow", "include": [{"everyone": true}]}]),
            alice(),
            Some("11.0.0.1"),
            true,
        ),
        // an undecidable block blocks
        (
            json!([{"action": "block", "include": [{"ip": ["10.0.0.0/8"]}]}, {"action": "allow", "include": [{"everyone": true}]}]),
            alice(),
            None,
            false,
        ),
        (
            json!([{"action": "block", "include": [{"everyone": true}], "exclude": [{"ip": ["10.0.0.0/8"]}]}, {"action": "allow", "include": [{"everyone": true}]}]),
            alice(),
            None,
            false,
        ),
        (
            json!([{"action": "block", "include": [{"emails": ["eve"]}], "require": [{"ip": ["10.0.0.0/8"]}]}, {"action": "allow", "include": [{"everyone": true}]}]),
            alice(),
            None,
            true,
        ),
        // services
        (json!([{"action": "service_auth", "include": [{"service_token": ["ci"]}]}]), ci(), None, true),
        (json!([{"action": "service_auth", "include": [{"service_token": ["CI"]}]}]), ci(), None, false),
        (json!([{"action": "service_auth", "include": [{"service_token": ["cd"]}]}]), ci(), None, false),
        (json!([{"action": "service_auth", "include": [{"everyone": true}]}]), ci(), None, true),
        (json!([{"action": "service_auth", "include": [{"everyone": true}]}]), alice(), None, false),
        (
            json!([{"action": "service_auth", "include": [{"everyone": true}]}, {"action": "block", "include": [{"service_token": ["ci"]}]}]),
            ci(),
            None,
            false,
        ),
        (json!([{"action": "service_auth", "include": [{"ip": ["10.0.0.0/8"]}]}]), ci(), Some("10.0.0.1"), true),
        (json!([{"action": "service_auth", "include": [{"service_token": ["ci"]}]}]), user("ci", &[]), None, false),
    ];
    assert!(rows.len() >= 60, "{}", rows.len());
    for (at, (rules, principal, ip, expected)) in rows.into_iter().enumerate() {
        let policies = compile(one(rules.clone()));
        let ask = read(principal).ip(ip);
        assert_eq!(ask.decide(&policies).allow, expected, "row {at}: {rules} {:?} {ip:?}", ask.principal);
        // The same rules on the portal, with an open server.
        let mut on_portal = one(json!([
            {"action": "allow", "include": [{"everyone": true}]},
            {"action": "service_auth", "include": [{"everyone": true}]},
        ]));
        on_portal["portals"][0]["policies"] = rules.clone();
        assert_eq!(ask.decide(&compile(on_portal)).allow, expected, "portal, row {at}: {rules}");
    }
}

#[test]
fn p40_portal_and_server_must_both_allow() {
    let allow = |who: &str| json!([{"name": "r", "action": "allow", "include": [{"emails": [who]}]}]);
    let policies = compile(json!({
        "servers": [
            {"server_id": "a", "hostname": "http://localhost/mcp", "policies": allow("ann")},
            {"server_id": "b", "hostname": "http://localhost/mcp", "policies": allow("ben")},
            {"server_id": "c", "hostname": "http://localhost/mcp", "policies": allow("ann")},
        ],
        "portals": [
            {"id": "default", "servers": ["a", "b"], "policies": allow("ann")},
            {"id": "closed", "policies": []},
        ],
    }));
    let portal = |id: &str| Some(bartizan_model::PortalId::parse(id).unwrap());
    for (who, server, on, expected) in [
        ("ann", "a", "default", true),
        ("ann", "b", "default", false),
        ("ben", "b", "default", false),
        ("ben", "a", "default", false),
        // Not a server of this portal.
        ("ann", "c", "default", false),
        ("ann", "a", "closed", false),
        ("ann", "a", "missing", false),
    ] {
        let mut ask = Ask::tool(user(who, &[]), server, "get", ToolClass::Read);
        ask.portal = portal(on);
        assert_eq!(ask.decide(&policies).allow, expected, "{who} {server} {on}");
    }
    // On a server's own endpoint only the server is asked.
    assert!(Ask::tool(user("ben", &[]), "b", "get", ToolClass::Read).direct().decide(&policies).allow);
    assert!(Ask::tool(user("ann", &[]), "c", "get", ToolClass::Read).direct().decide(&policies).allow);
    assert!(!Ask::tool(user("ann", &[]), "b", "get", ToolClass::Read).direct().decide(&policies).allow);
    let unknown = Ask::tool(user("ann", &[]), "zzz", "get", ToolClass::Read).direct().decide(&policies);
    assert_eq!((unknown.allow, unknown.code), (false, Some(ReasonCode::PolicyDenied)));
}

#[test]
fn p1_without_portals_a_default_one_is_open_to_signed_in_users() {
    let policies = compile(json!({
        "servers": [{"server_id": "s", "hostname": "http://localhost/mcp",
            "policies": [{"action": "allow", "include": [{"groups": ["eng"]}]},
                         {"action": "service_auth", "include": [{"everyone": true}]}]}],
    }));
    assert!(read(user("ann", &["eng"])).decide(&policies).allow);
    assert!(!read(user("ben", &[])).decide(&policies).allow, "the server's rules still hold");
    assert!(!read(service("ci")).decide(&policies).allow, "the built-in rule is about users");
    assert!(!read(Principal::anonymous()).decide(&policies).allow);
}

#[test]
fn g7_public_servers_are_for_anonymous_readers() {
    let policies = compile(json!({
        "servers": [
            {"server_id": "docs", "hostname": "http://localhost/mcp", "visibility": "public"},
            {"server_id": "s", "hostname": "http://localhost/mcp",
             "policies": [{"action": "allow", "include": [{"everyone": true}]}]},
            {"server_id": "shy", "hostname": "http://localhost/mcp", "visibility": "public",
             "policies": [{"name": "lan", "action": "block", "include": [{"ip": ["10.0.0.0/8"]}]}]},
        ],
        "grants": [{"id": "g", "principals": ["everyone"], "server": "docs", "classes": ["write", "unknown"]}],
        "policies": [{"id": "p", "cedar": "permit(principal, action, resource);"}],
    }));
    let anonymous = |server: &str, class| Ask::tool(Principal::anonymous(), server, "get", class).direct();
    assert!(anonymous("docs", ToolClass::Read).decide(&policies).allow);
    for class in [ToolClass::Write, ToolClass::Destructive, ToolClass::Unknown] {
        let decision = anonymous("docs", class).decide(&policies);
        assert_eq!((decision.allow, decision.code), (false, Some(ReasonCode::WriteNotGranted)), "{class:?}");
    }
    let private = anonymous("s", ToolClass::Read).decide(&policies);
    assert_eq!((private.allow, private.code), (false, Some(ReasonCode::Unauthenticated)));
    let mut portal = anonymous("docs", ToolClass::Read);
    portal.portal = Some(bartizan_model::PortalId::parse("default").unwrap());
    assert_eq!(portal.decide(&policies).code, Some(ReasonCode::Unauthenticated));
    // A block holds for public servers too.
    let blocked = anonymous("shy", ToolClass::Read).ip(Some("10.0.0.1")).decide(&policies);
    assert_eq!(blocked.rule.as_deref(), Some("server shy policies[0] \"lan\""));
    assert!(anonymous("shy", ToolClass::Read).ip(Some("192.0.2.1")).decide(&policies).allow);
    // Signed-in users read public servers as well, service tokens need their own rule.
    assert!(Ask::tool(user("ann", &[]), "docs", "get", ToolClass::Read).direct().decide(&policies).allow);
    assert!(!Ask::tool(service("ci"), "docs", "get", ToolClass::Read).direct().decide(&policies).allow);
}

#[test]
fn g7_an_anonymous_principal_with_a_crafted_id_or_group_is_still_anonymous() {
    let policies = compile(json!({
        "servers": [{"server_id": "s", "hostname": "http://localhost/mcp", "visibility": "public",
            "classes": {"write": ["w"]}, "policies": [{"action": "allow", "include": [{"groups": ["eng"]}, {"emails": ["ann"]}]}]}],
        "grants": [{"id": "g", "principals": ["user:ann", "group:eng", "service:ann"], "server": "s", "classes": ["write"]}],
    }));
    let odd = Principal::new(PrincipalKind::Anonymous, "ann", ["eng".into()]);
    assert!(!Ask::tool(odd, "s", "w", ToolClass::Write).direct().decide(&policies).allow);
}

#[test]
fn a11_a_bot_sees_only_servers_with_a_matching_policy() {
    let rule = |ids: Value| json!([{"action": "service_auth", "include": [{"service_token": ids}]}]);
    let user_rule = json!([{"action": "allow", "include": [{"everyone": true}]}]);
    let policies = compile(json!({
        "servers": [
            {"server_id": "one", "hostname": "http://localhost/mcp", "policies": rule(json!(["ci"]))},
            {"server_id": "two", "hostname": "http://localhost/mcp", "policies": rule(json!(["other"]))},
            {"server_id": "three", "hostname": "http://localhost/mcp", "policies": user_rule},
        ],
        "portals": [{"id": "default", "policies": rule(json!(["ci"]))}, {"id": "people", "policies": user_rule}],
    }));
    let use_server = |server: &str| {
        let mut ask = Ask::tool(service("ci"), server, "", ToolClass::Read);
        ask.action = Action::UseServer;
        ask
    };
    assert!(use_server("one").decide(&policies).allow);
    assert!(!use_server("two").decide(&policies).allow);
    assert!(!use_server("three").decide(&policies).allow);
    let mut people = use_server("one");
    people.portal = Some(bartizan_model::PortalId::parse("people").unwrap());
    assert!(!people.decide(&policies).allow, "the portal needs a rule too");
    assert!(!Ask::tool(service("other"), "two", "get", ToolClass::Read).decide(&policies).allow);
}

#[test]
fn a3_rules_that_cannot_mean_anything_are_refused_all_at_once() {
    let found = findings(json!({
        "servers": [{"server_id": "s", "hostname": "http://localhost/mcp", "policies": [
            {"action": "allow"},
            {"action": "allow", "include": [{"service_token": ["ci"]}]},
            {"action": "service_auth", "include": [{"emails": ["a"]}], "require": [{"email_domain": ["x.test"]}]},
            {"action": "allow", "include": [{"ip": ["10.0.0.0/33", "nonsense", "10.0.0.1"]}]},
            {"action": "allow", "include": [{"email_domain": ["@x.test"]}]},
            {"action": "allow", "include": [{"groups": []}]},
            {"action": "allow", "include": [{"groups": [" eng"]}, {"emails": [""]}]},
        ]}],
        "grants": [{"id": "g", "principals": ["bob", "user:", "team:x", "user: bob"], "server": "s"},
                   {"id": "h", "principals": [], "server": "s", "classes": ["write"], "expires": "tomorrow"}],
    }));
    let has = |path: &str, code: &str| {
        assert!(found.iter().any(|one| one.path == path && one.code == code), "{path} {code}: {found:#?}");
    };
    has("servers[0].policies[0]", "empty_include");
    has("servers[0].policies[1].include[0]", "selector_never_matches");
    has("servers[0].policies[2].include[0]", "selector_never_matches");
    has("servers[0].policies[2].require[0]", "selector_never_matches");
    assert_eq!(found.iter().filter(|one| one.code == "invalid_network").count(), 2);
    has("servers[0].policies[4].include[0]", "invalid_selector");
    has("servers[0].policies[5].include[0]", "empty_selector");
    has("servers[0].policies[6].include[0]", "invalid_selector");
    has("servers[0].policies[6].include[1]", "invalid_selector");
    for at in 0..4 {
        has(&format!("grants[0].principals[{at}]"), "invalid_principal");
    }
    has("grants[0]", "empty_grant");
    has("grants[1].principals", "empty_grant");
    has("grants[1].expires", "invalid_time");
}
