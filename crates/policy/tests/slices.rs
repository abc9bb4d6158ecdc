//! Looking only at candidates changes no decision (design rule 12), and lists and calls
//! agree (row A21).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::collections::HashSet;
use std::str::FromStr;

use bartizan_model::{PrincipalKind, ReasonCode, ToolClass};
use bartizan_policy::{Action, Verdict};
use cedar_policy::{
    Authorizer, Context, Decision, Effect, Entities, Entity, EntityUid, PolicySet, Request, RestrictedExpression,
};
use common::{Ask, compile, open_with, service, user};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

const USERS: [&str; 3] = ["ann", "ben", "eve"];
const GROUPS: [&str; 3] = ["eng", "fin", "ops"];
const SERVERS: [&str; 2] = ["pay", "wiki"];
const TOOLS: [&str; 3] = ["get", "set", "del"];

fn statement() -> impl Strategy<Value = String> {
    let effect = select(vec!["permit", "forbid"]);
    let principal = prop_oneof![
        Just("principal".to_owned()),
        Just("principal is User".to_owned()),
        Just("principal is Service".to_owned()),
        select(USERS.to_vec()).prop_map(|id| format!("principal == User::\"{id}\"")),
        select(GROUPS.to_vec()).prop_map(|id| format!("principal in Group::\"{id}\"")),
        select(GROUPS.to_vec()).prop_map(|id| format!("principal is Service in Group::\"{id}\"")),
    ];
    let resource = prop_oneof![
        Just("resource".to_owned()),
        Just("resource is Tool".to_owned()),
        select(SERVERS.to_vec()).prop_map(|id| format!("resource in Server::\"{id}\"")),
        (select(SERVERS.to_vec()), select(TOOLS.to_vec()))
            .prop_map(|(server, tool)| format!("resource == Tool::\"{server}/{tool}\"")),
    ];
    (effect, principal, resource, condition()).prop_map(|(effect, principal, resource, condition)| {
        format!("{effect}({principal}, action == Action::\"call_tool\", {resource}){condition};")
    })
}

fn condition() -> impl Strategy<Value = String> {
    let atom = select(vec![
        "resource.class == \"write\"",
        "resource.class != \"read\"",
        "[\"write\", \"destructive\"].contains(resource.class)",
        "resource.name == \"set\"",
        "\"get\" == resource.name",
        "[\"get\", \"del\"].contains(resource.name)",
        "resource.name like \"*e*\"",
        "resource.server == \"pay\"",
        "principal.id == \"ann\"",
        "principal in Group::\"fin\"",
        "context.era == \"legacy\"",
        "(context has ip && context.ip.isLoopback())",
        "(context.args has n && context.args.n > 5)",
        "(context.args has s && context.args.s like \"x*\")",
        "context.args.n > 2",
        "true",
    ]);
    let clause = proptest::collection::vec(atom, 1..4)
        .prop_flat_map(|atoms| (Just(atoms), select(vec![" && ", " || "])))
        .prop_map(|(atoms, operator)| atoms.join(operator));
    proptest::collection::vec((select(vec!["when", "unless"]), clause), 0..3)
        .prop_map(|clauses| clauses.iter().map(|(kind, clause)| format!(" {kind} {{ {clause} }}")).collect::<String>())
}

#[derive(Clone, Debug)]
struct Question {
    user: Option<&'static str>,
    groups: Vec<&'static str>,
    server: &'static str,
    tool: &'static str,
    class: ToolClass,
    legacy: bool,
    loopback: bool,
    n: Option<i64>,
    s: Option<&'static str>,
}

fn question() -> impl Strategy<Value = Question> {
    (
        proptest::option::weighted(0.8, select(USERS.to_vec())),
        proptest::sample::subsequence(GROUPS.to_vec(), 0..=3),
        select(SERVERS.to_vec()),
        select(TOOLS.to_vec()),
        select(vec![ToolClass::Read, ToolClass::Write, ToolClass::Destructive, ToolClass::Unknown]),
        any::<(bool, bool)>(),
        proptest::option::of(0_i64..10),
        proptest::option::of(select(vec!["x", "y"])),
    )
        .prop_map(|(user, groups, server, tool, class, (legacy, loopback), n, s)| Question {
            user,
            groups,
            server,
            tool,
            class,
            legacy,
            loopback,
            n,
            s,
        })
}

impl Question {
    fn ask(&self) -> Ask {
        let kind = if self.user.is_some() { PrincipalKind::User } else { PrincipalKind::Service };
        let groups = self.groups.iter().map(|group| std::sync::Arc::from(*group));
        let principal = bartizan_model::Principal::new(kind, self.user.unwrap_or("ci"), groups);
        let mut args = serde_json::Map::new();
        args.extend(self.n.map(|n| ("n".to_owned(), json!(n))));
        args.extend(self.s.map(|s| ("s".to_owned(), json!(s))));
        let mut ask = Ask::tool(principal, self.server, self.tool, self.class).args(&Value::Object(args).to_string());
        ask.era = if self.legacy { bartizan_model::Era::Legacy } else { bartizan_model::Era::Modern };
        ask.ip(self.loopback.then_some("127.0.0.1"))
    }

    /// What Cedar alone says about one whole statement: satisfied, not, or an error.
    fn cedar(&self, text: &str) -> Result<bool, ()> {
        let uid = |text: &str| EntityUid::from_str(text).unwrap();
        let string = |text: &str| RestrictedExpression::new_string(text.to_owned());
        let principal = match self.user {
            Some(id) => uid(&format!("User::\"{id}\"")),
            None => uid("Service::\"ci\""),
        };
        let parents: HashSet<_> = self.groups.iter().map(|group| uid(&format!("Group::\"{group}\""))).collect();
        let resource = uid(&format!("Tool::\"{}/{}\"", self.server, self.tool));
        let attributes =
            [("name", string(self.tool)), ("class", string(self.class.as_str())), ("server", string(self.server))];
        let entities = Entities::from_entities(
            [
                Entity::new(principal.clone(), [("id".to_owned(), string(self.user.unwrap_or("ci")))].into(), parents)
                    .unwrap(),
                Entity::new(
                    resource.clone(),
                    attributes.map(|(name, value)| (name.to_owned(), value)).into(),
                    [uid(&format!("Server::\"{}\"", self.server))].into(),
                )
                .unwrap(),
            ],
            None,
        )
        .unwrap();
        let mut args = Vec::new();
        args.extend(self.n.map(|n| ("n".to_owned(), RestrictedExpression::new_long(n))));
        args.extend(self.s.map(|s| ("s".to_owned(), string(s))));
        let mut context = vec![
            ("era".to_owned(), string(if self.legacy { "legacy" } else { "modern" })),
            ("args".to_owned(), RestrictedExpression::new_record(args).unwrap()),
            ("client".to_owned(), string("test")),
            ("portal".to_owned(), string("default")),
        ];
        context.extend(self.loopback.then(|| ("ip".to_owned(), RestrictedExpression::new_ip("127.0.0.1"))));
        let request = Request::new(
            principal,
            uid("Action::\"call_tool\""),
            resource,
            Context::from_pairs(context).unwrap(),
            None,
        )
        .unwrap();
        let set = PolicySet::from_str(text).unwrap();
        let response = Authorizer::new().is_authorized(&request, &set, &entities);
        if response.diagnostics().errors().next().is_some() {
            return Err(());
        }
        let satisfied = response.diagnostics().reason().next().is_some();
        let permit = set.policies().all(|policy| policy.effect() == Effect::Permit);
        assert_eq!(response.decision() == Decision::Allow, permit && satisfied);
        Ok(satisfied)
    }
}

/// A statement whose condition may fail is asked in parts (arguments last), which Cedar
/// alone does not do; such statements are compared for what cannot differ.
fn may_fail(text: &str) -> bool {
    text.contains("context.args.n > 2")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Every statement, unsliced, with the whole context, by Cedar alone: the same decision.
    #[test]
    fn rule12_sliced_equals_unsliced(
        statements in proptest::collection::vec(statement(), 0..7),
        questions in proptest::collection::vec(question(), 8..24),
    ) {
        // What never applies is refused at compile time, so statements are tried one by one.
        let statements: Vec<String> = statements
            .into_iter()
            .filter(|text| {
                let value = open_with(common::cedar(text), json!([]));
                bartizan_policy::Policies::compile(&common::resources(value), 0).is_ok()
            })
            .collect();
        let list: Vec<Value> =
            statements.iter().enumerate().map(|(at, text)| json!({"id": format!("p{at}"), "cedar": text})).collect();
        let policies = compile(open_with(Value::Array(list), json!([])));
        for question in &questions {
            let decision = question.ask().decide(&policies);
            let outcomes: Vec<_> = statements.iter().map(|text| (text, question.cedar(text))).collect();
            let of = |effect: &str| outcomes.iter().filter(move |(text, _)| text.starts_with(effect)).collect::<Vec<_>>();
            let forbids = of("forbid");
            let permits = of("permit");
            let needs = question.class.needs_grant();
            // Whatever happens, a satisfied forbid denies and a grantless write is denied.
            if forbids.iter().any(|(_, outcome)| *outcome == Ok(true)) {
                prop_assert!(!decision.allow, "{statements:?} {question:?}");
            }
            if needs && !permits.iter().any(|(_, outcome)| *outcome == Ok(true)) {
                prop_assert!(!decision.allow, "{statements:?} {question:?}");
            }
            if outcomes.iter().any(|(text, _)| may_fail(text)) {
                continue;
            }
            let forbidden = forbids.iter().any(|(_, outcome)| *outcome == Ok(true));
            let permitted = permits.iter().any(|(_, outcome)| *outcome == Ok(true));
            prop_assert_eq!(decision.allow, !forbidden && (!needs || permitted), "{:?} {:?}", statements, question);
            let code = if forbidden {
                Some(ReasonCode::PolicyDenied)
            } else if needs && !permitted {
                Some(ReasonCode::WriteNotGranted)
            } else {
                None
            };
            prop_assert_eq!(decision.code, code);
        }
    }

    /// A forbid that Cedar cannot evaluate denies, unless a part without arguments rules it out.
    #[test]
    fn a20_a_forbid_that_fails_is_never_skipped(text in statement(), question in question()) {
        prop_assume!(text.starts_with("forbid"));
        let value = open_with(common::cedar(&text), json!([
            {"id": "all", "principals": ["everyone"], "server": "pay", "classes": ["write", "destructive", "unknown"]},
            {"id": "all2", "principals": ["everyone"], "server": "wiki", "classes": ["write", "destructive", "unknown"]},
        ]));
        let Ok(policies) = bartizan_policy::Policies::compile(&common::resources(value), 0) else { return Ok(()) };
        let decision = question.ask().decide(&policies);
        match question.cedar(&text) {
            Ok(true) => prop_assert_eq!(decision.code, Some(ReasonCode::PolicyDenied)),
            Ok(false) => prop_assert!(decision.allow || decision.code == Some(ReasonCode::ArgumentRefused)),
            // Allowed only if it can be shown to be false for every argument.
            Err(()) if decision.allow => {
                for n in [0, 3, 9] {
                    for s in [None, Some("x"), Some("y")] {
                        let other = Question { n: Some(n), s, ..question.clone() };
                        prop_assert_eq!(other.cedar(&text), Ok(false), "{}", text);
                    }
                }
            }
            Err(()) => prop_assert_eq!(decision.code, Some(ReasonCode::ArgumentRefused)),
        }
    }

    /// Listed ⇔ callable, for all rules without arguments.
    #[test]
    fn a21_listed_equals_callable_without_argument_rules(
        statements in proptest::collection::vec(statement(), 0..6),
        grants in proptest::collection::vec(
            (select(vec!["user:ann", "group:eng", "group:fin", "everyone", "service:ci"]), select(SERVERS.to_vec()),
             proptest::sample::subsequence(TOOLS.to_vec(), 0..=2),
             proptest::sample::subsequence(vec!["write", "destructive", "unknown"], 1..=2)), 0..4),
        rules in proptest::collection::vec(
            (select(vec!["allow", "block", "service_auth"]), select(GROUPS.to_vec())), 0..3),
        questions in proptest::collection::vec(question(), 1..16),
    ) {
        let statements: Vec<Value> = statements
            .iter()
            .filter(|text| !text.contains("args"))
            .filter(|text| {
                let value = open_with(common::cedar(text), json!([]));
                bartizan_policy::Policies::compile(&common::resources(value), 0).is_ok()
            })
            .enumerate()
            .map(|(at, text)| json!({"id": format!("p{at}"), "cedar": text}))
            .collect();
        let grants: Vec<Value> = grants
            .iter()
            .enumerate()
            .map(|(at, (who, server, tools, classes))| {
                json!({"id": format!("g{at}"), "principals": [who], "server": server, "tools": tools, "classes": classes})
            })
            .collect();
        let mut value = open_with(Value::Array(statements), Value::Array(grants));
        for (action, group) in rules {
            let rule = json!({"action": action, "include": [{"groups": [group]}]});
            value["servers"][0]["policies"].as_array_mut().unwrap().push(rule);
        }
        let policies = compile(value);
        for question in &questions {
            let ask = question.ask();
            let (call, list) = (ask.decide(&policies), ask.list(&policies));
            prop_assert_eq!(&call, &list);
            prop_assert!(!call.uses_args);
            let server = ask.server.clone().unwrap();
            // Equal tools are decided once in lists.
            if !policies.conditions_use_name(Action::CallTool, &server)
                && !policies.is_named(Action::CallTool, &server, &ask.name)
            {
                let other = Ask { name: "some_other_tool".to_owned(), ..ask.clone() };
                prop_assert_eq!(other.list(&policies).allow, list.allow);
            }
        }
    }

    /// The explanation's decision is the live one, and some rule of it says why.
    #[test]
    fn u6_explanations_equal_the_live_decision(
        statements in proptest::collection::vec(statement(), 0..6),
        question in question(),
    ) {
        let statements: Vec<Value> = statements
            .iter()
            .filter(|text| {
                let value = open_with(common::cedar(text), json!([]));
                bartizan_policy::Policies::compile(&common::resources(value), 0).is_ok()
            })
            .enumerate()
            .map(|(at, text)| json!({"id": format!("p{at}"), "cedar": text}))
            .collect();
        let policies = compile(open_with(Value::Array(statements), json!([
            {"id": "g", "principals": ["group:eng"], "server": "pay", "classes": ["write"]},
        ])));
        let ask = question.ask();
        let live = ask.decide(&policies);
        let explained = ask.with(|query| policies.explain(query));
        prop_assert_eq!(&explained.decision, &live);
        if let Some(rule) = &live.rule {
            let found = explained.rules.iter().find(|each| each.rule == *rule);
            prop_assert!(found.is_some(), "{:?} {:?}", rule, explained);
            let verdict = found.unwrap().verdict;
            let expected = match live.code {
                None | Some(ReasonCode::PolicyDenied) => verdict == Verdict::Matched || verdict == Verdict::Failed,
                Some(ReasonCode::ArgumentRefused) => verdict == Verdict::Failed,
                _ => verdict == Verdict::NotMatched,
            };
            prop_assert!(expected, "{live:?} {explained:?}");
        }
    }
}

#[test]
fn u6_an_explanation_names_rule_kind_and_line() {
    let policies = compile(open_with(
        json!([{"id": "night", "cedar": "// first\npermit(principal == User::\"zoe\", action, resource);\n\nforbid(principal, action == Action::\"call_tool\", resource)\n  when { resource.name == \"del\" };"}]),
        json!([{"id": "g", "principals": ["everyone"], "server": "pay", "classes": ["write"]}]),
    ));
    let explained = Ask::tool(user("ann", &[]), "pay", "del", ToolClass::Write).with(|query| policies.explain(query));
    assert_eq!(explained.decision.rule.as_deref(), Some("policy \"night\" statement 2"));
    let forbid = explained.rules.iter().find(|rule| rule.verdict == Verdict::Matched && rule.line.is_some()).unwrap();
    assert_eq!((forbid.line, &*forbid.path, forbid.stage), (Some(4), "policies[0].cedar", "call_tool"));
    assert!(forbid.text.as_deref().unwrap().starts_with("forbid(principal"));
    let names: Vec<&str> = explained.rules.iter().map(|rule| &*rule.rule).collect();
    assert!(names.contains(&"portal default policies[0]") && names.contains(&"server pay policies[0]"), "{names:?}");
    assert!(names.contains(&"grant \"g\""));
    let json = serde_json::to_value(&explained.rules).unwrap();
    assert_eq!(json[0]["kind"], "allow");
    let bot = Ask::tool(service("ci"), "pay", "get", ToolClass::Read).with(|query| policies.explain(query));
    assert!(bot.decision.allow);
}
