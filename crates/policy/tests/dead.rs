//! Rules that can never decide anything are found, and no others (row U4).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use bartizan_config::Diagnostic;
use bartizan_model::{Principal, ToolClass};
use bartizan_policy::Policies;
use common::{Ask, cedar, compile, open_with, resources, service, user};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};

fn warnings(value: Value) -> Vec<Diagnostic> {
    Policies::compile(&resources(value), 1_000).unwrap().warnings().to_vec()
}

fn found(value: Value) -> Vec<(String, &'static str)> {
    warnings(value).into_iter().map(|finding| (finding.path, finding.code)).collect()
}

fn server(rules: Value) -> Value {
    let mut all = open_with(json!([]), json!([]));
    all["servers"][0]["policies"] = rules;
    all
}

fn allow(include: Value) -> Value {
    json!({"action": "allow", "include": include})
}

fn block(include: Value) -> Value {
    json!({"action": "block", "include": include})
}

#[test]
fn u4_short_forms_inside_of_a_block_are_reported() {
    let everyone = || json!([{"everyone": true}]);
    for (rules, dead) in [
        (json!([allow(json!([{"groups": ["a"]}])), block(everyone())]), vec![0]),
        (json!([block(everyone()), allow(everyone()), {"action": "service_auth", "include": everyone()}]), vec![1, 2]),
        (json!([allow(json!([{"groups": ["a"]}])), block(json!([{"groups": ["b", "a"]}]))]), vec![0]),
        (
            json!([allow(json!([{"emails": ["A@x.example"]}])), block(json!([{"email_domain": ["X.example"]}]))]),
            vec![0],
        ),
        (json!([allow(json!([{"ip": ["10.1.0.0/16"]}])), block(json!([{"ip": ["10.0.0.0/8"]}]))]), vec![0]),
        (
            json!([{"action": "allow", "include": everyone(), "require": [{"groups": ["a"]}]}, block(json!([{"groups": ["a"]}]))]),
            vec![0],
        ),
        // Twice the same: the first stays.
        (json!([allow(json!([{"groups": ["a"]}])), allow(json!([{"groups": ["a"]}]))]), vec![1]),
        (json!([allow(json!([{"groups": ["a"]}])), allow(everyone())]), vec![0]),
        // Not wholly inside.
        (json!([allow(json!([{"groups": ["a", "b"]}])), block(json!([{"groups": ["a"]}]))]), vec![]),
        (json!([allow(json!([{"groups": ["a"]}, {"ip": ["10.0.0.0/8"]}])), block(json!([{"groups": ["a"]}]))]), vec![]),
        (json!([allow(everyone()), block(json!([{"ip": ["0.0.0.0/0"]}]))]), vec![]),
        (
            json!([allow(everyone()), {"action": "block", "include": everyone(), "exclude": [{"groups": ["a"]}]}]),
            vec![],
        ),
        (
            json!([allow(everyone()), {"action": "block", "include": everyone(), "require": [{"groups": ["a"]}]}]),
            vec![],
        ),
        (json!([allow(json!([{"email_domain": ["x.example"]}])), block(json!([{"emails": ["a@x.example"]}]))]), vec![]),
        (json!([allow(everyone()), {"action": "service_auth", "include": everyone()}]), vec![]),
        (json!([allow(json!([{"ip": ["10.0.0.0/8"]}])), block(json!([{"ip": ["10.1.0.0/16"]}]))]), vec![]),
    ] {
        let expected: Vec<_> =
            dead.into_iter().map(|at| (format!("servers[0].policies[{at}]"), "shadowed_rule")).collect();
        assert_eq!(found(server(rules.clone())), expected, "{rules}");
        let mut portal = open_with(json!([]), json!([]));
        portal["portals"][0]["policies"] = rules;
        assert_eq!(found(portal).len(), expected.len());
    }
}

#[test]
fn u4_short_forms_that_contradict_themselves_are_reported() {
    let rule = |include: Value, require: Value, exclude: Value| json!([{"action": "allow", "include": include, "require": require, "exclude": exclude}]);
    let everyone = || json!([{"everyone": true}]);
    for (rules, dead) in [
        (rule(json!([{"everyone": false}]), json!([]), json!([])), true),
        (rule(everyone(), json!([{"everyone": false}]), json!([])), true),
        (rule(everyone(), json!([]), everyone()), true),
        (rule(json!([{"groups": ["a"]}]), json!([]), json!([{"groups": ["a", "b"]}])), true),
        (rule(everyone(), json!([{"groups": ["a"]}]), json!([{"groups": ["a"]}])), true),
        (rule(json!([{"emails": ["a@x.example"]}]), json!([{"email_domain": ["y.example"]}]), json!([])), true),
        (rule(json!([{"emails": ["a"]}]), json!([{"emails": ["b"]}]), json!([])), true),
        (rule(everyone(), json!([{"ip": ["10.0.0.0/8"]}, {"ip": ["192.168.0.0/16"]}]), json!([])), true),
        (rule(json!([{"emails": ["A@X.example"]}]), json!([{"email_domain": ["x.example"]}]), json!([])), false),
        (rule(json!([{"groups": ["a"]}]), json!([{"groups": ["b"]}]), json!([])), false),
        (rule(json!([{"groups": ["a"]}, {"groups": ["b"]}]), json!([]), json!([{"groups": ["a"]}])), false),
        (rule(everyone(), json!([{"ip": ["10.0.0.0/8"]}, {"ip": ["10.1.0.0/16"]}]), json!([])), false),
        (rule(json!([{"ip": ["::ffff:10.0.0.1"]}]), json!([{"ip": ["10.0.0.0/8"]}]), json!([])), false),
    ] {
        let expected = if dead { vec![("servers[0].policies[0]".to_owned(), "dead_rule")] } else { vec![] };
        assert_eq!(found(server(rules.clone())), expected, "{rules}");
    }
}

#[test]
fn u4_dead_grants_are_reported() {
    let grant = |more: Value| {
        let mut grant = json!({"id": "g", "principals": ["user:Ana@x.example", "group:a"], "server": "pay"});
        grant.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let mut all = open_with(json!([]), json!([grant]));
        all["servers"][0]["classes"] = json!({"read": ["get"], "write": ["set"]});
        all["servers"][0]["updated_tools"] =
            json!([{"name": "drop", "enabled": false}, {"name": "old", "alias": "new"}]);
        all
    };
    let one = |path: &str, code| vec![(path.to_owned(), code)];
    assert_eq!(found(grant(json!({"tools": ["set"]}))), vec![]);
    assert_eq!(found(grant(json!({"classes": ["write"], "expires": "1970-01-01T00:00:02Z"}))), vec![]);
    assert_eq!(
        found(grant(json!({"classes": ["write"], "expires": "1970-01-01T00:00:01Z"}))),
        one("grants[0].expires", "expired_grant")
    );
    assert_eq!(found(grant(json!({"tools": ["get"]}))), one("grants[0]", "needless_grant"));
    assert_eq!(found(grant(json!({"classes": ["read"]}))), one("grants[0]", "needless_grant"));
    assert_eq!(found(grant(json!({"tools": ["get", "set"]}))), vec![]);
    assert_eq!(found(grant(json!({"tools": ["set", "drop"]}))), one("grants[0].tools[1]", "dead_rule"));
    assert_eq!(found(grant(json!({"tools": ["new"]}))), one("grants[0].tools[0]", "dead_rule"));
    assert_eq!(warnings(grant(json!({"tools": ["new"]})))[0].suggestion.as_deref(), Some("write `old`"));
    let with = |text: &str, more: Value| {
        let mut all = grant(more);
        all["policies"] = cedar(text);
        found(all)
    };
    let tools = || json!({"tools": ["set"]});
    let shadowed = one("grants[0]", "shadowed_rule");
    assert_eq!(with("forbid(principal, action, resource in Server::\"pay\");", tools()), {
        let doors = [0, 1].map(|at| (format!("servers[0].policies[{at}]"), "shadowed_rule"));
        [doors.to_vec(), shadowed.clone()].concat()
    });
    let call = "action == Action::\"call_tool\"";
    assert_eq!(with(&format!("forbid(principal, {call}, resource == Tool::\"pay/set\");"), tools()), shadowed);
    assert_eq!(
        with(
            &format!(
                "forbid(principal in Group::\"a\", {call}, resource); forbid(principal == User::\"ana@X.example\", {call}, resource);"
            ),
            tools()
        ),
        shadowed
    );
    assert_eq!(with(&format!("forbid(principal in Group::\"a\", {call}, resource);"), tools()), vec![]);
    assert_eq!(
        with(&format!("forbid(principal, {call}, resource == Tool::\"pay/set\");"), json!({"classes": ["write"]})),
        vec![]
    );
    let conditional = format!("forbid(principal, {call}, resource) when {{ context.era == \"legacy\" }};");
    assert_eq!(with(&conditional, tools()), vec![]);
    let mut blocked = grant(tools());
    blocked["servers"][0]["policies"] = json!([{"action": "block", "include": [{"everyone": true}]}]);
    assert_eq!(found(blocked), shadowed);
}

/// Where the text begins that is compared with, in characters from 1.
fn word(text: &str, line: usize) -> usize {
    let text = text.lines().nth(line - 1).unwrap();
    let known = ["payy", "wiki", "modem", "x"].into_iter().find_map(|word| text.find(&format!("{word:?}")));
    known.unwrap() + 2
}

#[test]
fn u4_dead_statements_are_reported_at_their_place() {
    let all = |text: &str| {
        let mut all = open_with(cedar(text), json!([]));
        all["servers"][0]["updated_tools"] =
            json!([{"name": "drop", "enabled": false}, {"name": "old", "alias": "new"}]);
        all
    };
    let call = "action == Action::\"call_tool\"";
    for (text, code, line, column) in [
        (format!("permit(principal, {call}, resource == Tool::\"pay/drop\");"), "dead_rule", 1, 1),
        (format!("forbid(principal, {call}, resource == Tool::\"pay/new\");"), "dead_rule", 1, 1),
        ("\n  permit(principal, action == Action::\"get_prompt\", resource);".to_owned(), "dead_rule", 2, 3),
        (format!("permit(principal is Anonymous, {call}, resource);"), "dead_rule", 1, 1),
        (format!("forbid(principal, {call}, resource) when {{ resource.class == \"wrte\" }};"), "dead_rule", 1, 1),
        (
            format!(
                "forbid(principal, {call}, resource) when {{ resource.class == \"read\" && resource.class == \"write\" }};"
            ),
            "dead_rule",
            1,
            1,
        ),
        (format!("permit(principal, {call}, resource) when {{ resource.class == \"read\" }};"), "dead_rule", 1, 1),
        (format!("forbid(principal, {call}, resource)\nwhen {{ resource.server == \"payy\" }};"), "dead_rule", 2, 0),
        (
            format!("forbid(principal, {call}, resource in Server::\"pay\") when {{ resource.server == \"wiki\" }};"),
            "dead_rule",
            1,
            0,
        ),
        (format!("forbid(principal, {call}, resource) when {{ context.era == \"modem\" }};"), "dead_rule", 1, 0),
        (
            format!(
                "forbid(principal, {call}, resource) when {{ context has portal && [\"x\", \"y\"].contains(context.portal) }};"
            ),
            "dead_rule",
            1,
            0,
        ),
        (
            format!("permit(principal is User, {call}, resource);\nforbid(principal, action, resource is Tool);"),
            "shadowed_rule",
            1,
            1,
        ),
        (
            format!(
                "permit(principal == User::\"A@x.example\", {call}, resource in Server::\"pay\");\nforbid(principal is User, {call}, resource);"
            ),
            "shadowed_rule",
            1,
            1,
        ),
    ] {
        let found = warnings(all(&text));
        assert_eq!(found.len(), 1, "{text}: {found:#?}");
        let place = found[0].position.unwrap();
        let at = if column > 0 { column } else { word(&text, line) };
        assert_eq!((found[0].code, place.line, place.column), (code, line, at), "{text}: {}", found[0].message);
    }
    let suggestion = |text: &str| warnings(all(text))[0].suggestion.clone().unwrap();
    assert_eq!(
        suggestion(&format!("forbid(principal, {call}, resource) when {{ resource.server == \"payy\" }};")),
        "did you mean `pay`?"
    );
    for text in [
        format!("forbid(principal, {call}, resource == Tool::\"pay/drop\");"),
        "permit(principal, action, resource);".to_owned(),
        format!("permit(principal is User, {call}, resource); forbid(principal is Service, action, resource is Tool);"),
        format!("permit(principal, {call}, resource); forbid(principal, {call}, resource in Server::\"pay\");"),
        format!(
            "permit(principal, {call}, resource); forbid(principal, {call}, resource) when {{ context.era == \"legacy\" }};"
        ),
        format!(
            "permit(principal, {call}, resource) when {{ resource.class == \"read\" || resource.class == \"write\" }};"
        ),
        format!("forbid(principal, {call}, resource) unless {{ resource.server == \"nowhere\" }};"),
        format!(
            "forbid(principal, {call}, resource) when {{ resource.server == \"nowhere\" || resource.class == \"write\" }};"
        ),
        format!(
            "forbid(principal, {call}, resource) when {{ context.era == \"legacy\" && resource.server == \"pay\" }};"
        ),
    ] {
        assert_eq!(warnings(all(&text)), vec![], "{text}");
    }
}

#[test]
fn a20_what_only_a_sign_in_tells_should_be_asked_for() {
    let rule = |condition: &str| {
        let text = format!("permit(principal, action == Action::\"call_tool\", resource)\nwhen {{ {condition} }};");
        warnings(open_with(cedar(&text), json!([])))
    };
    let found = rule("context.mfa_age < 900");
    assert_eq!((found[0].code, found[0].position.unwrap().line), ("optional_attribute", 2));
    assert_eq!(found[0].suggestion.as_deref(), Some("write `context has mfa_age && …`"));
    assert_eq!(rule("context has mfa_age && context.mfa_age < 900"), vec![]);
    assert_eq!(rule("context.args.amount < 900"), vec![]);
}

fn selector() -> impl Strategy<Value = Value> {
    let some = |list: &[&'static str]| subsequence(list.to_vec(), 1..=list.len());
    prop_oneof![
        Just(json!({"everyone": true})),
        Just(json!({"everyone": false})),
        some(&["Ana@x.example", "bea@y.example", "cai"]).prop_map(|list| json!({"emails": list})),
        some(&["x.example", "Y.example"]).prop_map(|list| json!({"email_domain": list})),
        some(&["a", "b"]).prop_map(|list| json!({"groups": list})),
        some(&["10.0.0.0/8", "10.1.0.0/16", "192.0.2.0/24"]).prop_map(|list| json!({"ip": list})),
    ]
}

fn rule() -> impl Strategy<Value = Value> {
    let lists = |size| prop::collection::vec(selector(), size);
    (select(vec!["allow", "allow", "block"]), lists(1..3), lists(0..2), lists(0..2)).prop_map(
        |(action, include, require, exclude)| json!({"action": action, "include": include, "require": require, "exclude": exclude}),
    )
}

fn statement() -> impl Strategy<Value = String> {
    (
        select(vec!["permit", "permit", "forbid"]),
        select(vec![
            "principal",
            "principal is User",
            "principal == User::\"ANA@x.example\"",
            "principal in Group::\"a\"",
            "principal is Service",
            "principal is User in Group::\"b\"",
            "principal is Anonymous",
        ]),
        select(vec![
            "action",
            "action == Action::\"call_tool\"",
            "action == Action::\"use_server\"",
            "action in [Action::\"use_server\", Action::\"use_portal\"]",
        ]),
        select(vec![
            "resource",
            "resource in Server::\"pay\"",
            "resource == Tool::\"pay/set\"",
            "resource is Tool",
            "resource == Server::\"pay\"",
            "resource is Tool in Server::\"pay\"",
        ]),
        select(vec![
            "",
            "",
            " when { context.era == \"legacy\" }",
            " when { context.era == \"modern\" }",
            " when { context.era == \"x\" }",
            " when { principal.id == \"cai\" }",
        ]),
    )
        .prop_map(|(effect, principal, action, resource, when)| {
            format!("{effect}({principal}, {action}, {resource}){when};")
        })
}

/// Everybody, from everywhere, doing everything.
fn decisions(policies: &Policies) -> Vec<bool> {
    let mut all = Vec::new();
    let groups: [&[&str]; 4] = [&[], &["a"], &["b"], &["a", "b"]];
    let mut principals: Vec<Principal> = ["ana@x.example", "bea@y.example", "cai", "dan@z.example", "eve@x.example"]
        .iter()
        .flat_map(|id| groups.map(|groups| user(id, groups)))
        .collect();
    principals.extend([service("ci"), Principal::anonymous()]);
    for principal in principals {
        for ip in [None, Some("10.1.0.1"), Some("10.2.0.1"), Some("192.0.2.9"), Some("203.0.113.1")] {
            for (tool, class) in [("get", ToolClass::Read), ("set", ToolClass::Write), ("del", ToolClass::Destructive)]
            {
                let ask = Ask::tool(principal.clone(), "pay", tool, class).ip(ip);
                all.push(ask.decide(policies).allow);
                all.push(ask.direct().list(policies).allow);
            }
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn u4_without_a_reported_short_form_nothing_changes(rules in prop::collection::vec(rule(), 1..4)) {
        let all = server(json!(rules));
        let before = decisions(&compile(all.clone()));
        for (path, _) in found(all) {
            let at: usize = path.trim_start_matches("servers[0].policies[").trim_end_matches(']').parse().unwrap();
            let mut fewer = rules.clone();
            fewer.remove(at);
            prop_assert_eq!(&decisions(&compile(server(json!(fewer)))), &before, "{} of {:?}", at, rules);
        }
    }

    #[test]
    fn u4_without_a_reported_statement_nothing_changes(texts in prop::collection::vec(statement(), 1..4)) {
        let policies = |texts: &[String]| {
            let list: Vec<Value> = texts.iter().enumerate().map(|(at, text)| json!({"id": at.to_string(), "cedar": text})).collect();
            open_with(json!(list), json!([{"id": "g", "principals": ["group:a"], "server": "pay", "tools": ["set"]}]))
        };
        // Scopes that can never match are errors already.
        let Ok(compiled) = Policies::compile(&resources(policies(&texts)), 0) else { return Ok(()) };
        let before = decisions(&compiled);
        for finding in compiled.warnings() {
            let mut all = policies(&texts);
            let number = |path: &str| path.split(['[', ']']).nth(1).unwrap().parse::<usize>().unwrap();
            if finding.path.starts_with("policies") {
                all["policies"].as_array_mut().unwrap().remove(number(&finding.path));
            } else if finding.path == "grants[0]" {
                all["grants"] = json!([]);
            } else {
                continue;
            }
            prop_assert_eq!(&decisions(&compile(all)), &before, "{:?} of {:?}", finding, texts);
        }
    }
}

/// A planted rule that can never decide anything, and its twin that can.
struct Planted {
    kind: &'static str,
    dead: Value,
    alive: Value,
    path: &'static str,
    code: &'static str,
    /// Line within a Cedar text.
    line: Option<usize>,
}

fn planted() -> Vec<Planted> {
    let rule = |more: Value| {
        let mut rule = json!({"action": "allow", "include": [{"everyone": true}]});
        rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server(json!([rule]))
    };
    let text = |text: &str| open_with(cedar(text), json!([]));
    let grants = |list: Value| {
        let mut all = open_with(json!([]), list);
        all["servers"][0]["classes"] = json!({"read": ["get"], "write": ["set"]});
        all["servers"][0]["updated_tools"] = json!([{"name": "drop", "enabled": false}]);
        all
    };
    let grant =
        |id: &str, who: &str, tool: &str| json!({"id": id, "principals": [who], "server": "pay", "tools": [tool]});
    let until = |expires: &str| {
        let mut one = grant("g", "group:a", "set");
        one["expires"] = json!(expires);
        grants(json!([one]))
    };
    let behind = |server: &str| {
        let mut all = text(&format!(
            "forbid(principal, action == Action::\"call_tool\", resource in Server::\"{server}\")\n  when {{ context has portal && context.portal == \"small\" }};"
        ));
        all["portals"].as_array_mut().unwrap().push(json!({"id": "small", "servers": ["wiki"]}));
        all
    };
    let class = |class: &str| {
        let mut all = text(&format!(
            "\nforbid(principal, action == Action::\"call_tool\", resource == Tool::\"pay/set\") when {{ resource.class == \"{class}\" }};"
        ));
        all["servers"][0]["classes"] = json!({"write": ["set"]});
        all
    };
    let hours = |from: &str, to: &str| {
        rule(json!({"require": [{"time": {"from": "08:00", "to": "12:00"}}, {"time": {"from": from, "to": to}}]}))
    };
    let new = |kind, dead, alive, path, code, line| Planted { kind, dead, alive, path, code, line };
    let rules = "servers[0].policies[0]";
    let group = |name: &str| json!([{"groups": [name]}]);
    vec![
        new(
            "selects nobody",
            rule(json!({"include": [{"everyone": false}]})),
            rule(json!({})),
            rules,
            "dead_rule",
            None,
        ),
        new(
            "required and excluded",
            rule(json!({"require": group("a"), "exclude": group("a")})),
            rule(json!({"require": group("a"), "exclude": group("b")})),
            rules,
            "dead_rule",
            None,
        ),
        new(
            "inside of a block",
            server(json!([allow(group("a")), block(group("a"))])),
            server(json!([allow(group("a")), block(group("b"))])),
            rules,
            "shadowed_rule",
            None,
        ),
        new("windows that never meet", hours("13:00", "17:00"), hours("11:00", "17:00"), rules, "dead_rule", None),
        new(
            "wrong type of caller",
            rule(json!({"include": [{"service_token": ["ci"]}]})),
            rule(json!({"include": [{"emails": ["ci"]}]})),
            "servers[0].policies[0].include[0]",
            "selector_never_matches",
            None,
        ),
        new(
            "expired",
            until("1970-01-01T00:00:01Z"),
            until("1970-01-01T00:00:02Z"),
            "grants[0].expires",
            "expired_grant",
            None,
        ),
        new(
            "switched off",
            grants(json!([grant("g", "group:a", "drop")])),
            grants(json!([grant("g", "group:a", "set")])),
            "grants[0].tools[0]",
            "dead_rule",
            None,
        ),
        new(
            "inside of a wider grant",
            grants(json!([grant("g", "user:Ana@x.example", "set"), grant("h", "everyone", "set")])),
            grants(json!([grant("g", "user:Ana@x.example", "set"), grant("h", "group:a", "set")])),
            "grants[0]",
            "shadowed_rule",
            None,
        ),
        new(
            "no such server",
            text("\n\nforbid(principal, action, resource in Server::\"payy\");"),
            text("\n\nforbid(principal, action, resource in Server::\"pay\") when { context.era == \"legacy\" };"),
            "policies[0].cedar",
            "unknown_server",
            Some(3),
        ),
        new(
            "not known in that phase",
            text("forbid(principal, action == Action::\"use_server\", resource)\nwhen { context.args.amount > 1 };"),
            text("forbid(principal, action == Action::\"call_tool\", resource)\nwhen { context.args.amount > 1 };"),
            "policies[0].cedar",
            "args_without_call",
            Some(2),
        ),
        new("behind another portal", behind("pay"), behind("wiki"), "policies[0].cedar", "dead_rule", Some(2)),
        new("of another class", class("read"), class("write"), "policies[0].cedar", "dead_rule", Some(2)),
        new(
            "inside of a wider statement",
            text(
                "forbid(principal is Agent, action, resource is Tool);\nforbid(principal is Agent, action, resource is Tool in Server::\"pay\");",
            ),
            text(
                "forbid(principal is Agent, action, resource is Tool in Server::\"wiki\");\nforbid(principal is Agent, action, resource is Tool in Server::\"pay\");",
            ),
            "policies[0].cedar",
            "shadowed_rule",
            Some(2),
        ),
    ]
}

#[test]
fn a22_ten_planted_dead_rules_are_all_reported() {
    let findings = |value: &Value| match Policies::compile(&resources(value.clone()), 1_500) {
        Ok(policies) => policies.warnings().to_vec(),
        Err(findings) => findings,
    };
    let all = planted();
    assert!(all.len() >= 10);
    for each in all {
        let found = findings(&each.dead);
        assert_eq!(found.len(), 1, "{}: {found:#?}", each.kind);
        assert_eq!((found[0].path.as_str(), found[0].code), (each.path, each.code), "{}: {found:#?}", each.kind);
        assert_eq!(found[0].position.map(|at| at.line), each.line, "{}: {found:#?}", each.kind);
        assert_eq!(findings(&each.alive), vec![], "the twin of {}", each.kind);
    }
}
