//! Decisions about requests of which not everything is known (row A22).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use bartizan_model::ToolClass;
use bartizan_policy::{Policies, SessionFacts, Simulated, Unknowns};
use common::{Ask, cedar, compile, open_with, service, user};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};

const ALL: Unknowns =
    Unknowns::ARGUMENTS.and(Unknowns::MFA).and(Unknowns::ACR).and(Unknowns::CLIENT_ID).and(Unknowns::CLAIMS);

fn simulate(policies: &Policies, ask: &Ask, unknown: Unknowns) -> Simulated {
    ask.with(|query| policies.simulate(query, unknown))
}

fn set(policies: &Policies) -> Simulated {
    simulate(policies, &Ask::tool(user("ana@x.example", &["a"]), "pay", "set", ToolClass::Write), ALL)
}

fn on(said: Simulated) -> Vec<&'static str> {
    match said {
        Simulated::Depends { on, .. } => on.names(),
        other => panic!("{other:?}"),
    }
}

fn granted(more: Value) -> Value {
    let mut grant = json!({"id": "g", "principals": ["group:a"], "server": "pay", "tools": ["set"]});
    grant.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    open_with(json!([]), json!([grant]))
}

fn ruled(more: Value) -> Value {
    let mut all = granted(json!({}));
    let mut rule = json!({"action": "allow", "include": [{"everyone": true}]});
    rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    all["servers"][0]["policies"] = json!([rule]);
    all
}

#[test]
fn a22_what_the_record_does_not_hold_is_named_and_not_guessed() {
    assert!(matches!(set(&compile(granted(json!({})))), Simulated::Allowed { .. }));
    for (resources, names) in [
        (granted(json!({"when": "context.args.amount <= 10"})), vec!["arguments"]),
        (granted(json!({"when": "context has mfa_age && context.mfa_age < 900"})), vec!["second factor"]),
        (granted(json!({"require_mfa": {"max_age": "15m"}})), vec!["second factor"]),
        (granted(json!({"require_mfa": {"acr": "x"}})), vec!["second factor", "authentication context"]),
        (granted(json!({"require_approval": {"approvers": ["group:a"]}})), vec!["approval"]),
        (ruled(json!({"require": [{"mfa": true}]})), vec!["second factor"]),
        (ruled(json!({"exclude": [{"client_id": ["c"]}]})), vec!["client id"]),
        (ruled(json!({"require": [{"idp_claim": {"name": "n", "value": "v"}}]})), vec!["claims"]),
    ] {
        assert_eq!(on(set(&compile(resources.clone()))), names, "{resources}");
    }
}

#[test]
fn a22_what_is_certain_all_the_same_is_decided() {
    let rule = |said: Simulated| match said {
        Simulated::Refused { rule, .. } | Simulated::Allowed { rule } => rule.map(|rule| rule.to_string()),
        other => panic!("{other:?}"),
    };
    // Whatever the arguments are, a forbid without conditions holds.
    let mut all = granted(json!({"when": "context.args.amount <= 10"}));
    all["policies"] = cedar("forbid(principal, action == Action::\"call_tool\", resource in Server::\"pay\");");
    assert_eq!(rule(set(&compile(all))).as_deref(), Some("policy \"p\""));
    // A second grant that asks nothing.
    let mut all = granted(json!({"when": "context.args.amount <= 10"}));
    let wide = json!({"id": "h", "principals": ["everyone"], "server": "pay", "classes": ["write"]});
    all["grants"].as_array_mut().unwrap().push(wide);
    assert_eq!(rule(set(&compile(all))).as_deref(), Some("grant \"h\""));
    // A missing purpose is on record as missing.
    let said = set(&compile(granted(json!({"require_purpose": true, "require_mfa": {}}))));
    assert!(matches!(said, Simulated::Refused { .. }), "{said:?}");
    // Without arguments there is nothing to depend on.
    let policies = compile(granted(json!({"when": "context.args has amount"})));
    let ask = Ask::tool(user("ana@x.example", &["a"]), "pay", "set", ToolClass::Write);
    assert!(matches!(simulate(&policies, &ask, Unknowns::MFA), Simulated::Refused { .. }));
    assert_eq!(on(simulate(&policies, &ask, ALL)), ["arguments"]);
}

static CLAIMS: LazyLock<BTreeMap<Arc<str>, Vec<Arc<str>>>> =
    LazyLock::new(|| BTreeMap::from([("n".into(), vec!["v".into()])]));

fn selector() -> impl Strategy<Value = Value> {
    let some = |list: &[&'static str]| subsequence(list.to_vec(), 1..=list.len());
    prop_oneof![
        Just(json!({"everyone": true})),
        Just(json!({"mfa": true})),
        Just(json!({"mfa": false})),
        Just(json!({"client_id": ["c"]})),
        Just(json!({"idp_claim": {"name": "n", "value": "v"}})),
        Just(json!({"country": ["AT"]})),
        some(&["a", "b"]).prop_map(|list| json!({"groups": list})),
    ]
}

fn rule() -> impl Strategy<Value = Value> {
    let lists = |size| prop::collection::vec(selector(), size);
    let more = select(vec![
        json!({}),
        json!({}),
        json!({"require_purpose": true}),
        json!({"require_mfa": {"max_age": "15m"}}),
    ]);
    (select(vec!["allow", "allow", "allow", "block"]), lists(1..3), lists(0..2), lists(0..2), more).prop_map(
        |(action, include, require, exclude, more)| {
            let mut rule = json!({"action": action, "include": include, "require": require, "exclude": exclude});
            if action == "allow" {
                rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            }
            rule
        },
    )
}

fn condition() -> impl Strategy<Value = &'static str> {
    select(vec![
        "true",
        "context.args.amount <= 10",
        "context has mfa_age && context.mfa_age < 900",
        "context.mfa_age < 900",
        "context has acr && context.acr == \"x\" && context.args.amount <= 10",
        "context has client_id && context.client_id == \"c\"",
        "context has country && context.country == \"AT\"",
        "resource.class == \"read\"",
    ])
}

fn world() -> impl Strategy<Value = Value> {
    let grant = (condition(), select(vec![json!({}), json!({}), json!({"require_mfa": {"acr": "x"}})]));
    let statement = (select(vec!["permit", "forbid", "forbid"]), condition());
    (
        prop::collection::vec(rule(), 1..3),
        prop::collection::vec(grant, 0..3),
        prop::collection::vec(statement, 0..3),
        prop::collection::vec(selector(), 0..2),
    )
        .prop_map(|(rules, grants, statements, read_only)| {
            let grants: Vec<Value> = grants
                .into_iter()
                .enumerate()
                .map(|(at, (when, more))| {
                    let mut grant = json!({"id": at.to_string(), "principals": ["group:a"], "server": "pay", "tools": ["set"], "when": when});
                    if when == "true" {
                        grant.as_object_mut().unwrap().remove("when");
                    }
                    grant.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
                    grant
                })
                .collect();
            let statements: Vec<Value> = statements
                .into_iter()
                .enumerate()
                .map(|(at, (effect, when))| {
                    let text = format!("{effect}(principal, action == Action::\"call_tool\", resource) when {{ {when} }};");
                    json!({"id": at.to_string(), "cedar": text})
                })
                .collect();
            let mut all = open_with(json!(statements), json!(grants));
            all["servers"][0]["policies"] = json!(rules);
            all["servers"][0]["read_only"] = json!(read_only);
            all
        })
}

/// Everything that one record could stand for.
fn sessions(country: Option<&'static str>, purpose: Option<&'static str>) -> Vec<SessionFacts<'static>> {
    let mut all = Vec::new();
    for signed_in in [false, true] {
        for mfa_at_ms in [None, Some(-10_000), Some(-3_600_000)] {
            for acr in [None, Some("x"), Some("y")] {
                for client_id in [None, Some("c"), Some("d")] {
                    for claims in [None, Some(&*CLAIMS)] {
                        let device = None;
                        all.push(SessionFacts {
                            signed_in,
                            mfa_at_ms,
                            acr,
                            device,
                            country,
                            purpose,
                            client_id,
                            claims,
                        });
                    }
                }
            }
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a22_what_is_said_for_certain_holds_for_every_request_it_could_be(world in world()) {
        let Ok(policies) = Policies::compile(&common::resources(world.clone()), 0) else { return Ok(()) };
        for (country, purpose) in [(None, None), (Some("AT"), Some("why"))] {
            for (tool, class) in [("get", ToolClass::Read), ("set", ToolClass::Write)] {
                for principal in [user("ana@x.example", &["a"]), service("ci")] {
                    let is_user = principal.kind == bartizan_model::PrincipalKind::User;
                    let mut ask = Ask::tool(principal, "pay", tool, class);
                    ask.session = Some(SessionFacts { country, purpose, ..SessionFacts::default() });
                    let unknown = if is_user { ALL } else { Unknowns::ARGUMENTS };
                    let said = simulate(&policies, &ask, unknown);
                    let all = if is_user { sessions(country, purpose) } else { vec![ask.session.unwrap()] };
                    for session in all {
                        for args in [None, Some(r#"{"amount": 5}"#), Some(r#"{"amount": 50}"#), Some(r#"{"amount": "x"}"#)] {
                            let mut live = ask.clone();
                            (live.session, live.args) = (Some(session), args.map(str::to_owned));
                            let decision = live.decide(&policies);
                            let fits = match &said {
                                Simulated::Allowed { .. } => decision.allow && decision.approvals.is_empty(),
                                Simulated::Refused { .. } => !decision.allow,
                                Simulated::Depends { .. } => true,
                            };
                            prop_assert!(fits, "{said:?} {decision:?} {session:?} {args:?} {world}");
                        }
                    }
                }
            }
        }
    }
}
