//! A3: the decision table of short-form rules. Each line is one caller at one door.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use bartizan_model::{Principal, PrincipalKind, ReasonCode, ToolClass};
use bartizan_policy::{Need, SessionFacts};
use common::{Ask, compile, findings, service, user};
use serde_json::{Value, json};

/// Monday 2026-11-23, 10:00 UTC.
const NOW: i64 = 1_795_428_000_000;

/// Who comes, as members of an object: kind, id, groups, ip, country, device, mfa (age in
/// seconds), client, claims, `signed_in`.
fn ask(who: &Value) -> Ask {
    let text = |key: &str| who[key].as_str().map(|text| &*Box::leak(text.to_owned().into_boxed_str()));
    let id = text("id").unwrap_or("ana@corp.example");
    let groups: Vec<&str> = who["groups"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let principal = match text("kind") {
        None | Some("user") => user(id, &groups),
        Some("service") => service(id),
        _ => Principal::anonymous(),
    };
    let person = principal.kind == PrincipalKind::User && who["signed_in"] != false;
    let claims: BTreeMap<Arc<str>, Vec<Arc<str>>> = who["claims"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, values)| {
            let values = values.as_array().unwrap().iter().map(|value| value.as_str().unwrap().into()).collect();
            (name.as_str().into(), values)
        })
        .collect();
    let mut ask = Ask::tool(principal, "pay", "get", ToolClass::Read).at(NOW);
    ask.ip = match who.get("ip") {
        Some(Value::Null) => None,
        Some(ip) => Some(ip.as_str().unwrap().parse().unwrap()),
        None => Some("192.0.2.1".parse().unwrap()),
    };
    ask.now_ms = who["now"].as_str().map_or(NOW, |text| bartizan_policy::parse_rfc3339(text).unwrap());
    ask.session = Some(SessionFacts {
        signed_in: person,
        mfa_at_ms: who["mfa"].as_i64().map(|age| ask.now_ms - age * 1_000),
        acr: text("acr"),
        device: text("device"),
        country: text("country"),
        purpose: text("purpose"),
        client_id: text("client"),
        claims: person.then(|| &*Box::leak(Box::new(claims))),
    });
    ask
}

fn world(portal: &Value, server: &Value) -> Value {
    json!({
        "portals": [{"id": "default", "policies": portal}],
        "servers": [{
            "server_id": "pay", "hostname": "https://pay.example/mcp", "policies": server,
            "classes": {"read": ["get"], "write": ["set"]}
        }]
    })
}

fn open() -> Value {
    json!([
        {"action": "allow", "include": [{"everyone": true}]},
        {"action": "service_auth", "include": [{"everyone": true}]},
        {"action": "bypass", "include": [{"everyone": true}]}
    ])
}

enum Is {
    In,
    /// Refused, not listed.
    Out,
    /// Listed, and asked for a second factor when called.
    StepUp,
    /// Listed, and asked for a purpose when called.
    Purpose,
}
use Is::{In, Out, Purpose, StepUp};

fn check(line: usize, rules: &Value, who: &Value, expected: &Is, direct: bool) {
    // The rule stands at either door, the other one being open: both must let in.
    for (door, portal, server) in [("portal", rules, &open()), ("server", &open(), rules)] {
        let policies = compile(world(portal, server));
        let mut ask = ask(who);
        if direct && door == "server" {
            ask = ask.direct();
        }
        let what = format!("line {line} at the {door}: {rules} for {who}");
        let (decision, listed) = (ask.decide(&policies), ask.list(&policies));
        let (allow, shown, need) = match expected {
            In => (true, true, None),
            Out => (false, false, None),
            StepUp => (false, true, Some(ReasonCode::StepUpRequired)),
            Purpose => (false, true, Some(ReasonCode::PurposeRequired)),
        };
        assert_eq!(decision.allow, allow, "{what}: {decision:?}");
        assert_eq!(listed.allow, shown, "{what}: {listed:?}");
        assert_eq!(decision.need.as_ref().map(Need::code), need, "{what}");
        assert_eq!(decision.need.is_some(), listed.allow && !decision.allow, "{what}");
        if need.is_some() {
            assert_eq!(decision.code, need);
            assert!(listed.uses_args, "{what}: nobody keeps this for calls");
        }
        // The explanation says the same.
        assert_eq!(ask.with(|query| policies.explain(query)).decision, decision, "{what}");
    }
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn table() -> Vec<(Value, Value, Is)> {
    let allow = |include: Value| json!([{"action": "allow", "include": [include]}]);
    let require = |require: Value| json!([{"action": "allow", "include": [{"everyone": true}], "require": [require]}]);
    let exclude = |exclude: Value| json!([{"action": "allow", "include": [{"everyone": true}], "exclude": [exclude]}]);
    let block = |include: Value| json!([{"action": "allow", "include": [{"everyone": true}]}, {"action": "block", "include": [include]}]);
    let but = |require: Value| {
        json!([
            {"action": "allow", "include": [{"everyone": true}]},
            {"action": "block", "include": [{"everyone": true}], "exclude": [require]}
        ])
    };
    let machine = |include: Value| json!([{"action": "service_auth", "include": [include]}]);
    let bypass = |include: Value| json!([{"action": "bypass", "include": [include]}]);
    let office = json!({"time": {"days": ["mon"], "from": "08:00", "to": "17:00", "zone": "+01:00"}});
    let asked = |extra: Value| {
        let mut rule = json!({"action": "allow", "include": [{"everyone": true}]});
        rule.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!([rule])
    };
    let ana = || json!({});
    vec![
        // No rule, no access.
        (json!([]), ana(), Out),
        (json!([]), json!({"kind": "service", "id": "ci"}), Out),
        (json!([]), json!({"kind": "anonymous"}), Out),
        // Emails, in any case.
        (allow(json!({"emails": ["Ana@Corp.example"]})), ana(), In),
        (allow(json!({"emails": ["bob@corp.example"]})), ana(), Out),
        (exclude(json!({"emails": ["ANA@corp.example"]})), ana(), Out),
        (allow(json!({"emails": ["ci"]})), json!({"kind": "service", "id": "ci"}), Out),
        // Domains: whole, never a suffix.
        (allow(json!({"email_domain": ["CORP.example"]})), ana(), In),
        (allow(json!({"email_domain": ["example"]})), ana(), Out),
        (allow(json!({"email_domain": ["corp.example"]})), json!({"id": "ana@evil-corp.example"}), Out),
        (allow(json!({"email_domain": ["corp.example"]})), json!({"id": "corp.example"}), Out),
        // Groups.
        (allow(json!({"groups": ["eng", "ops"]})), json!({"groups": ["ops"]}), In),
        (allow(json!({"groups": ["eng"]})), json!({"groups": ["Eng"]}), Out),
        (block(json!({"groups": ["left"]})), json!({"groups": ["eng", "left"]}), Out),
        (block(json!({"groups": ["left"]})), json!({"groups": ["eng"]}), In),
        // Addresses, both families; unknown fails closed.
        (require(json!({"ip": ["192.0.2.0/24"]})), ana(), In),
        (require(json!({"ip": ["192.0.2.0/24"]})), json!({"ip": "::ffff:192.0.2.7"}), In),
        (require(json!({"ip": ["2001:db8::/32"]})), json!({"ip": "2001:db8::7"}), In),
        (require(json!({"ip": ["2001:db8::/32"]})), json!({"ip": "2001:db9::7"}), Out),
        (require(json!({"ip": ["192.0.2.0/24"]})), json!({"ip": null}), Out),
        (block(json!({"ip": ["198.51.100.0/24"]})), json!({"ip": null}), Out),
        (block(json!({"ip": ["198.51.100.0/24"]})), ana(), In),
        (exclude(json!({"ip": ["198.51.100.0/24"]})), json!({"ip": null}), Out),
        // Countries.
        (require(json!({"country": ["at", "DE"]})), json!({"country": "AT"}), In),
        (require(json!({"country": ["AT"]})), json!({"country": "at"}), In),
        (require(json!({"country": ["AT"]})), json!({"country": "XX"}), Out),
        (require(json!({"country": ["AT"]})), ana(), Out),
        (exclude(json!({"country": ["KP"]})), ana(), Out),
        (block(json!({"country": ["KP"]})), ana(), Out),
        (block(json!({"country": ["KP"]})), json!({"country": "AT"}), In),
        // Devices.
        (require(json!({"device": ["managed"]})), json!({"device": "managed"}), In),
        (require(json!({"device": ["managed"]})), json!({"device": "Managed"}), Out),
        (require(json!({"device": ["managed"]})), ana(), Out),
        (but(json!({"device": ["managed"]})), ana(), Out),
        (but(json!({"device": ["managed"]})), json!({"device": "managed"}), In),
        // A second factor: people who signed in can add one.
        (require(json!({"mfa": true})), json!({"mfa": 60}), In),
        (require(json!({"mfa": true})), ana(), StepUp),
        (require(json!({"mfa": true})), json!({"signed_in": false}), Out),
        (require(json!({"mfa": true})), json!({"mfa": -120}), StepUp),
        (block(json!({"mfa": false})), ana(), StepUp),
        (block(json!({"mfa": false})), json!({"mfa": 60}), In),
        (block(json!({"mfa": false})), json!({"signed_in": false}), Out),
        (require(json!({"mfa": false})), json!({"mfa": 60}), Out),
        (json!([{"action": "allow", "include": [{"groups": ["eng"]}], "require": [{"mfa": true}]}]), ana(), Out),
        // The client that the token was issued to.
        (require(json!({"client_id": ["editor"]})), json!({"client": "editor"}), In),
        (require(json!({"client_id": ["editor"]})), json!({"client": "other"}), Out),
        (require(json!({"client_id": ["editor"]})), json!({"signed_in": false}), Out),
        (block(json!({"client_id": ["evil"]})), json!({"signed_in": false}), Out),
        // Claims: names and values in their letters; kept and absent is not unknown.
        (
            require(json!({"idp_claim": {"name": "dept", "value": "fin"}})),
            json!({"claims": {"dept": ["x", "fin"]}}),
            In,
        ),
        (require(json!({"idp_claim": {"name": "dept", "value": "fin"}})), json!({"claims": {"Dept": ["fin"]}}), Out),
        (require(json!({"idp_claim": {"name": "dept", "value": "fin"}})), json!({"claims": {"dept": ["Fin"]}}), Out),
        (require(json!({"idp_claim": {"name": "dept", "value": "fin"}})), json!({"claims": {"dept": ["fin,x"]}}), Out),
        (require(json!({"idp_claim": {"name": "dept", "value": "fin"}})), ana(), Out),
        (block(json!({"idp_claim": {"name": "left", "value": "yes"}})), json!({"claims": {"left": []}}), In),
        (block(json!({"idp_claim": {"name": "left", "value": "yes"}})), ana(), Out),
        (block(json!({"idp_claim": {"name": "left", "value": "yes"}})), json!({"claims": {"left": ["yes"]}}), Out),
        // Times.
        (require(office.clone()), ana(), In),
        (require(office.clone()), json!({"now": "2026-11-23T15:59:59Z"}), In),
        (require(office.clone()), json!({"now": "2026-11-23T16:00:00Z"}), Out),
        (require(office.clone()), json!({"now": "2026-11-24T10:00:00Z"}), Out),
        (exclude(office), ana(), Out),
        // Service tokens come in by `service_auth` only.
        (allow(json!({"everyone": true})), json!({"kind": "service", "id": "ci"}), Out),
        (machine(json!({"service_token": ["ci"]})), json!({"kind": "service", "id": "ci"}), In),
        (machine(json!({"service_token": ["ci"]})), json!({"kind": "service", "id": "cd"}), Out),
        (machine(json!({"everyone": true})), ana(), Out),
        (machine(json!({"service_token": ["ana@corp.example"]})), ana(), Out),
        // Bypass: whoever comes, and only where it says so.
        (bypass(json!({"everyone": true})), json!({"kind": "anonymous"}), In),
        (bypass(json!({"everyone": true})), ana(), In),
        (bypass(json!({"ip": ["192.0.2.0/24"]})), json!({"kind": "anonymous"}), In),
        (bypass(json!({"ip": ["198.51.100.0/24"]})), json!({"kind": "anonymous"}), Out),
        (bypass(json!({"ip": ["192.0.2.0/24"]})), json!({"kind": "anonymous", "ip": null}), Out),
        (bypass(json!({"country": ["AT"]})), json!({"kind": "anonymous"}), Out),
        (allow(json!({"everyone": true})), json!({"kind": "anonymous"}), Out),
        (
            json!([{"action": "bypass", "include": [{"everyone": true}]}, {"action": "block", "include": [{"ip": ["192.0.2.0/24"]}]}]),
            json!({"kind": "anonymous"}),
            Out,
        ),
        // What a rule asks for.
        (asked(json!({"require_mfa": {"max_age": "15m"}})), json!({"mfa": 900}), In),
        (asked(json!({"require_mfa": {"max_age": "15m"}})), json!({"mfa": 901}), StepUp),
        (asked(json!({"require_mfa": {}})), json!({"mfa": 90_000}), In),
        (asked(json!({"require_mfa": {"acr": "gold"}})), json!({"mfa": 1, "acr": "silver"}), StepUp),
        (asked(json!({"require_mfa": {"acr": "gold"}})), json!({"mfa": 1, "acr": "gold"}), In),
        (asked(json!({"require_mfa": {"max_age": "15m"}})), json!({"signed_in": false}), Out),
        (asked(json!({"require_purpose": true})), ana(), Purpose),
        (asked(json!({"require_purpose": true})), json!({"purpose": "  "}), Purpose),
        (asked(json!({"require_purpose": true})), json!({"purpose": "ticket 1"}), In),
        (asked(json!({"require_purpose": true, "require_mfa": {}})), ana(), StepUp),
        (asked(json!({"require_purpose": true, "require_mfa": {}})), json!({"mfa": 1}), Purpose),
        (asked(json!({"require_mfa": {}, "exclude": [{"groups": ["left"]}]})), json!({"groups": ["left"]}), Out),
    ]
}

#[test]
fn a3_decision_table() {
    let table = table();
    assert!(table.len() >= 60, "{}", table.len());
    for (line, (rules, who, expected)) in table.iter().enumerate() {
        check(line, rules, who, expected, line % 2 == 0);
    }
}

#[test]
fn a3_portal_and_server_must_both_allow() {
    let (yes, no) = (open(), json!([]));
    for who in [json!({}), json!({"kind": "service", "id": "ci"}), json!({"kind": "anonymous"})] {
        for (portal, server, expected) in
            [(&yes, &yes, true), (&yes, &no, false), (&no, &yes, false), (&no, &no, false)]
        {
            let policies = compile(world(portal, server));
            assert_eq!(ask(&who).decide(&policies).allow, expected, "{who} {portal} {server}");
        }
    }
    // What is missing at one door is only asked for when the other one lets in.
    let mfa = json!([{"action": "allow", "include": [{"everyone": true}], "require_mfa": {"max_age": "15m"}}]);
    let decision = ask(&json!({})).decide(&compile(world(&mfa, &no)));
    assert_eq!((decision.code, decision.need), (Some(ReasonCode::PolicyDenied), None));
    // Both ages count: the shorter one is asked for.
    let hour =
        json!([{"action": "allow", "include": [{"everyone": true}], "require_mfa": {"max_age": "1h", "acr": "gold"}}]);
    let decision = ask(&json!({})).decide(&compile(world(&hour, &mfa)));
    assert_eq!(decision.need, Some(Need::Mfa { max_age_s: Some(900), acr: Some("gold".into()) }));
}

#[test]
fn a3_bypass_lets_nobody_write() {
    let mut all = world(&open(), &open());
    all["grants"] = json!([{"id": "g", "principals": ["everyone"], "server": "pay", "classes": ["write"]}]);
    let policies = compile(all);
    let mut nobody = ask(&json!({"kind": "anonymous"}));
    assert!(nobody.decide(&policies).allow);
    (nobody.name, nobody.class) = ("set".to_owned(), ToolClass::Write);
    assert_eq!(nobody.decide(&policies).code, Some(ReasonCode::WriteNotGranted));
}

#[test]
fn a3_wrong_rules_are_reported_where_they_are() {
    let everyone = json!([{"everyone": true}]);
    let time = |time: Value| json!([{"time": time}]);
    for (rule, path, code) in [
        (json!({"action": "allow", "include": [{"country": ["AUT"]}]}), "include[0]", "invalid_selector"),
        (json!({"action": "allow", "include": [{"country": []}]}), "include[0]", "empty_selector"),
        (json!({"action": "allow", "include": [{"device": [" x"]}]}), "include[0]", "invalid_selector"),
        (json!({"action": "allow", "include": time(json!({"from": "9"}))}), "include[0].time.from", "invalid_window"),
        (json!({"action": "allow", "include": time(json!({"zone": "CET"}))}), "include[0].time.zone", "invalid_window"),
        (
            json!({"action": "allow", "include": [{"idp_claim": {"name": "", "value": "x"}}]}),
            "include[0].idp_claim.name",
            "invalid_selector",
        ),
        (
            json!({"action": "bypass", "include": [{"emails": ["ana@corp.example"]}]}),
            "include[0]",
            "selector_never_matches",
        ),
        (json!({"action": "service_auth", "include": [{"mfa": true}]}), "include[0]", "selector_never_matches"),
        (
            json!({"action": "allow", "include": everyone, "require_mfa": {"max_age": "15"}}),
            "require_mfa.max_age",
            "invalid_age",
        ),
        (
            json!({"action": "allow", "include": everyone, "require_mfa": {"acr": ""}}),
            "require_mfa.acr",
            "invalid_selector",
        ),
        (json!({"action": "bypass", "include": everyone, "require_mfa": {}}), "", "invalid_requirement"),
        (json!({"action": "block", "include": everyone, "require_purpose": true}), "", "invalid_requirement"),
        (json!({"action": "service_auth", "include": everyone, "require_purpose": true}), "", "invalid_requirement"),
    ] {
        let found = findings(world(&json!([rule]), &open()));
        let at = format!("portals[0].policies[0]{}{path}", if path.is_empty() { "" } else { "." });
        assert!(found.iter().any(|found| found.path == at && found.code == code), "{rule}: {found:?}");
    }
}

#[test]
fn a3_what_is_kept_ends_with_the_window() {
    let office = json!([{"action": "allow", "include": [{"time": {"from": "08:00", "to": "17:00"}}]}]);
    let policies = compile(world(&open(), &office));
    let ask = ask(&json!({}));
    let until = ask.with(|query| policies.holds_until_ms(query.context)).unwrap();
    assert_eq!(until, bartizan_policy::parse_rfc3339("2026-11-23T17:00:00Z").unwrap());
    assert!(ask.clone().at(until - 1).decide(&policies).allow && !ask.at(until).decide(&policies).allow);
}
