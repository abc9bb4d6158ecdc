//! Rules on arguments cannot be slipped past by another spelling (row A20).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use bartizan_model::{ReasonCode, ServerId, ToolClass};
use bartizan_policy::{Action, Policies};
use common::{Ask, cedar, compile, findings, open_with, user};
use proptest::prelude::*;
use serde_json::json;

/// One forbid on a tool that is otherwise allowed.
fn forbid(condition: &str) -> Policies {
    compile(open_with(
        cedar(&format!(
            "forbid(principal, action == Action::\"call_tool\", resource == Tool::\"pay/transfer\") when {{ {condition} }};"
        )),
        json!([{"id": "g", "principals": ["everyone"], "server": "pay", "classes": ["write"]}]),
    ))
}

fn call(args: &str) -> Ask {
    Ask::tool(user("ann", &[]), "pay", "transfer", ToolClass::Write).args(args)
}

/// `A` allowed, `D` policy_denied, `R` argument_refused.
fn outcome(policies: &Policies, args: &str) -> char {
    let decision = call(args).decide(policies);
    match (decision.allow, decision.code) {
        (true, None) => 'A',
        (false, Some(ReasonCode::PolicyDenied)) => 'D',
        (false, Some(ReasonCode::ArgumentRefused)) => 'R',
        other => panic!("{other:?}"),
    }
}

fn table(condition: &str, rows: &[(&str, char)]) {
    let policies = forbid(condition);
    for (args, expected) in rows {
        assert_eq!(outcome(&policies, args), *expected, "{condition}: {args}");
    }
}

#[test]
fn a20_a_rule_on_a_number_refuses_only_those_calls() {
    table(
        "context.args has amount && context.args.amount > 1000",
        &[
            (r#"{"amount":1000}"#, 'A'),
            (r#"{"amount":1001}"#, 'D'),
            (r#"{"amount":1.001e3}"#, 'D'),
            (r#"{"amount":1E3}"#, 'A'),
            (r#"{"amount":100100e-2}"#, 'D'),
            (r#"{"amount":1001.0}"#, 'D'),
            (r#"{"amount":9223372036854775807}"#, 'D'),
            (r#"{"amount":-9223372036854775808}"#, 'A'),
            ("{}", 'A'),
            (r#"{"other":5000}"#, 'A'),
            (r#"{"nested":{"amount":5000}}"#, 'A'),
            // Unclear spellings of something that may be too much.
            (r#"{"amount":"1001"}"#, 'R'),
            (r#"{"amount":"5"}"#, 'R'),
            (r#"{"amount":1000.5}"#, 'R'),
            (r#"{"amount":9223372036854775808}"#, 'R'),
            (r#"{"amount":1e300}"#, 'R'),
            (r#"{"amount":1e999999999999}"#, 'R'),
            (r#"{"amount":1000.00000000000000000000001}"#, 'R'),
            (r#"{"amount":null}"#, 'R'),
            (r#"{"amount":true}"#, 'R'),
            (r#"{"amount":[1001]}"#, 'R'),
            (r#"{"amount":{"value":1001}}"#, 'R'),
            (r#"{"amount":1,"amount":1001}"#, 'R'),
            (r#"{"amount":1001,"amount":1}"#, 'R'),
            (r#"{"\u0061mount":1001}"#, 'D'),
            (r#"{"amount":1,"\u0061mount":1001}"#, 'R'),
            (r#"{"Amount":1001}"#, 'R'),
            (r#"{"AMOUNT":1001,"amount":1}"#, 'R'),
            (r#"{"amount ":1001}"#, 'A'),
            ("[]", 'R'),
            ("[{\"amount\":1001}]", 'R'),
            ("null", 'R'),
            ("\"{}\"", 'R'),
            ("", 'R'),
            ("{\"amount\":1001", 'R'),
            ("{\"amount\":1}{\"amount\":1001}", 'R'),
            ("{\"amount\":NaN}", 'R'),
            ("{\"amount\":0x10}", 'R'),
            ("{\"amount\":01}", 'R'),
            ("{\"amount\":+1}", 'R'),
            ("{\"amount\":1,}", 'R'),
        ],
    );
}

#[test]
fn a20_an_unguarded_rule_refuses_when_the_member_is_missing() {
    table(
        "context.args.amount > 1000",
        &[(r#"{"amount":5}"#, 'A'), (r#"{"amount":5000}"#, 'D'), ("{}", 'R'), (r#"{"amount":null}"#, 'R')],
    );
    table(
        "context.args.a.b.c == \"x\"",
        &[
            (r#"{"a":{"b":{"c":"x"}}}"#, 'D'),
            (r#"{"a":{"b":{"c":"y"}}}"#, 'A'),
            (r#"{"a":{"b":{}}}"#, 'R'),
            (r#"{"a":{}}"#, 'R'),
            ("{}", 'R'),
            (r#"{"a":[{"b":{"c":"x"}}]}"#, 'R'),
            (r#"{"a":"{\"b\":{\"c\":\"x\"}}"}"#, 'R'),
            (r#"{"a":null}"#, 'R'),
            (r#"{"a":{"b":{"c":"y"}},"A":{"b":{"c":"x"}}}"#, 'R'),
            (r#"{"a":{"b":{"c":"y","C":"x"}}}"#, 'R'),
            (r#"{"a":{"b":{"c":"y"},"b":{"c":"x"}}}"#, 'R'),
        ],
    );
}

#[test]
fn a20_text_rules() {
    table(
        "context.args has path && context.args.path like \"/etc/*\"",
        &[
            (r#"{"path":"/etc/passwd"}"#, 'D'),
            (r#"{"path":"\/\u0065tc\/passwd"}"#, 'D'),
            (r#"{"path":"/home"}"#, 'A'),
            (r#"{"path":["/etc/passwd"]}"#, 'R'),
            (r#"{"path":5}"#, 'R'),
            (r#"{"path":"\ud800/etc/"}"#, 'R'),
            (r#"{"Path":"/etc/passwd"}"#, 'R'),
            (r#"{"path":"/etc/\u0000"}"#, 'D'),
        ],
    );
    table(
        "[\"prod\", \"live\"].contains(context.args.env)",
        &[(r#"{"env":"prod"}"#, 'D'), (r#"{"env":"dev"}"#, 'A'), (r#"{"env":["prod"]}"#, 'R'), ("{}", 'R')],
    );
    // Equality alone tells the type too: text for a number is refused, not unequal.
    table(
        "context.args has id && context.args.id == 5",
        &[(r#"{"id":5}"#, 'D'), (r#"{"id":5.0}"#, 'D'), (r#"{"id":"5"}"#, 'R'), (r#"{"id":6}"#, 'A')],
    );
}

#[test]
fn a20_truth_values_and_presence() {
    table(
        "context.args has force && context.args.force",
        &[
            (r#"{"force":true}"#, 'D'),
            (r#"{"force":false}"#, 'A'),
            (r#"{"force":"true"}"#, 'R'),
            (r#"{"force":1}"#, 'R'),
            ("{}", 'A'),
        ],
    );
    table(
        "context.args has override",
        &[
            (r#"{"override":false}"#, 'D'),
            (r#"{"override":{"x":[]}}"#, 'D'),
            (r#"{"override":null}"#, 'R'),
            (r#"{"Override":1}"#, 'R'),
            ("{}", 'A'),
        ],
    );
    // The other way round: a ticket must be there, and null is none.
    table(
        "!(context.args has ticket)",
        &[(r#"{"ticket":"T-1"}"#, 'A'), ("{}", 'D'), (r#"{"ticket":null}"#, 'R'), (r#"{"TICKET":"T-1"}"#, 'R')],
    );
    table(
        "context.args has a.b",
        &[
            (r#"{"a":{"b":1}}"#, 'D'),
            (r#"{"a":{"c":1}}"#, 'A'),
            ("{}", 'A'),
            (r#"{"a":5}"#, 'R'),
            (r#"{"a":null}"#, 'R'),
        ],
    );
}

#[test]
fn a20_arrays_of_plain_values() {
    table(
        "context.args has to && context.args.to.contains(\"all@x.test\")",
        &[
            (r#"{"to":["a","all@x.test"]}"#, 'D'),
            (r#"{"to":["a"]}"#, 'A'),
            (r#"{"to":[]}"#, 'A'),
            (r#"{"to":"all@x.test"}"#, 'R'),
            (r#"{"to":["a",5]}"#, 'R'),
            (r#"{"to":["a",null]}"#, 'R'),
            (r#"{"to":{"0":"all@x.test"}}"#, 'R'),
        ],
    );
    table(
        "context.args.ids.containsAny([1, 2])",
        &[(r#"{"ids":[3,2e0]}"#, 'D'), (r#"{"ids":[3]}"#, 'A'), (r#"{"ids":["2"]}"#, 'R'), (r#"{"ids":[2.5]}"#, 'R')],
    );
    table("!context.args.list.isEmpty()", &[(r#"{"list":[{}]}"#, 'D'), (r#"{"list":[]}"#, 'A'), ("{}", 'R')]);
    let long = format!("{{\"to\":[{}\"x\"]}}", "\"a\",".repeat(10_000));
    table("context.args.to.contains(\"x\")", &[(long.as_str(), 'R')]);
}

#[test]
fn a20_arithmetic_that_overflows_refuses() {
    table(
        "context.args.price * context.args.count > 1000",
        &[
            (r#"{"price":10,"count":100}"#, 'A'),
            (r#"{"price":10,"count":101}"#, 'D'),
            (r#"{"price":9223372036854775807,"count":2}"#, 'R'),
            (r#"{"price":10}"#, 'R'),
        ],
    );
}

#[test]
fn a20_what_arguments_cannot_change_is_decided_without_them() {
    // The part without arguments comes first, wherever it stands.
    let policies = forbid("context.args.amount > 10 && resource.class == \"destructive\"");
    assert_eq!(outcome(&policies, r#"{"amount":"x"}"#), 'A');
    let policies = forbid("context.args.amount > 10 && context.era == \"legacy\"");
    assert_eq!(outcome(&policies, "{}"), 'A');
    let mut legacy = call("{}");
    legacy.era = bartizan_model::Era::Legacy;
    assert_eq!(legacy.decide(&policies).code, Some(ReasonCode::ArgumentRefused));
}

#[test]
fn a20_lists_do_not_hide_what_arguments_decide() {
    let policies = forbid("context.args.amount > 1000");
    let listed = call("{}").list(&policies);
    assert!(listed.allow && listed.uses_args);
    let server = ServerId::parse("pay").unwrap();
    assert!(policies.args_matter(&server, "transfer"));
    assert!(!policies.args_matter(&server, "note"));
    assert!(!policies.args_matter(&ServerId::parse("wiki").unwrap(), "transfer"));
    // But the part without arguments does not list a permit that cannot hold.
    let permit = compile(open_with(
        cedar(
            "permit(principal, action == Action::\"call_tool\", resource in Server::\"pay\")\n\
             when { principal.id == \"ben\" && context.args.amount < 5 };",
        ),
        json!([]),
    ));
    let ask = |who: &str| Ask::tool(user(who, &[]), "pay", "transfer", ToolClass::Write);
    assert!(ask("ben").list(&permit).allow);
    assert!(!ask("ann").list(&permit).allow);
}

#[test]
fn a20_each_statement_reads_arguments_in_its_own_way() {
    let policies = compile(open_with(
        json!([
            {"id": "n", "cedar": "forbid(principal, action == Action::\"call_tool\", resource == Tool::\"pay/transfer\") when { context.args has id && context.args.id > 5 };"},
            {"id": "t", "cedar": "forbid(principal, action == Action::\"call_tool\", resource == Tool::\"pay/note\") when { context.args has id && context.args.id like \"x*\" };"},
        ]),
        json!([{"id": "g", "principals": ["everyone"], "server": "pay", "classes": ["write"]}]),
    ));
    let on = |tool: &str, args: &str| {
        Ask::tool(user("ann", &[]), "pay", tool, ToolClass::Write).args(args).decide(&policies).code
    };
    assert_eq!(on("transfer", r#"{"id":6}"#), Some(ReasonCode::PolicyDenied));
    assert_eq!(on("transfer", r#"{"id":"x1"}"#), Some(ReasonCode::ArgumentRefused));
    assert_eq!(on("note", r#"{"id":"x1"}"#), Some(ReasonCode::PolicyDenied));
    assert_eq!(on("note", r#"{"id":6}"#), Some(ReasonCode::ArgumentRefused));
    assert_eq!(on("other", r#"{"id":null}"#), None);
}

#[test]
fn a20_prompts_have_arguments_too() {
    let policies = compile(open_with(
        cedar(
            "forbid(principal, action == Action::\"get_prompt\", resource) when { context.args has topic && context.args.topic == \"secret\" };",
        ),
        json!([]),
    ));
    let mut ask = call(r#"{"topic":"secret"}"#);
    ask.action = Action::GetPrompt;
    ask.class = ToolClass::Read;
    assert_eq!(ask.decide(&policies).code, Some(ReasonCode::PolicyDenied));
    ask.args = Some(r#"{"topic":"open"}"#.to_owned());
    assert!(ask.decide(&policies).allow);
}

#[test]
fn a20_uses_that_have_no_type_are_compile_errors() {
    for (condition, code) in [
        ("context.args.a == context.args.b", "policy_type"),
        ("context.args.a < 5 && context.args.a == \"x\"", "policy_type"),
        ("context.args.a like \"x*\" && context.args.a.b == 1", "unknown_attribute"),
        ("context.args.a.b == 1 && context.args.a == 2", "policy_unsupported"),
        ("context.args.a == {x: 1}", "policy_unsupported"),
        ("context.args.list.contains({x: 1})", "policy_unsupported"),
        ("context.args == context.args", "policy_unsupported"),
        ("context == context", "policy_unsupported"),
        ("context.args.host.isLoopback()", "policy_type"),
        ("ip(context.args.host).isLoopback()", "policy_type"),
        ("context.args.who == User::\"ann\"", "policy_type"),
        ("context.args.who in Group::\"eng\"", "policy_type"),
        ("context.args.a.contains(context.args.a)", "policy_type"),
        ("resource.hasTag(\"x\")", "policy_unsupported"),
        ("(if context.args.a then context.args else context.args).b == 1", "policy_unsupported"),
    ] {
        let text = format!("forbid(principal, action == Action::\"call_tool\", resource) when {{ {condition} }};");
        let found = findings(open_with(cedar(&text), json!([])));
        assert!(found.iter().any(|one| one.code == code), "{condition}: {found:#?}");
    }
}

#[test]
fn a20_hostile_arguments_cost_no_more_than_their_size() {
    let policies = forbid("context.args has a && context.args.a has b && context.args.a.b > 1");
    for args in [
        format!("{{\"x\":{}1{}}}", "[".repeat(200_000), "]".repeat(200_000)),
        format!("{{\"a\":{}{{}}{}}}", "{\"a\":".repeat(100_000), "}".repeat(100_000)),
        format!("{{{}\"a\":{{\"b\":2}}}}", "\"a\":{},".repeat(200_000)),
        format!("{{\"a\":{{\"b\":{}}}}}", "9".repeat(1_000_000)),
        format!("{{\"{}\":1}}", "A".repeat(1_000_000)),
    ] {
        let decision = call(&args).decide(&policies);
        assert!(decision.allow || decision.code == Some(ReasonCode::ArgumentRefused));
    }
}

#[test]
fn a20_members_spelled_another_way_are_refused() {
    table(
        "context.args has user_id && context.args.user_id == \"root\"",
        &[
            (r#"{"user_id":"root"}"#, 'D'),
            (r#"{"user_id":"ann","user":"root"}"#, 'A'),
            (r#"{"userId":"root"}"#, 'R'),
            (r#"{"UserID":"root"}"#, 'R'),
            (r#"{"user-id":"root"}"#, 'R'),
            (r#"{"user_id":"ann","userId":"root"}"#, 'R'),
        ],
    );
}

/// JSON text of any shape around a member `amount`.
fn json_text() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        (any::<i32>(), -3_i32..4).prop_map(|(n, e)| format!("{n}e{e}")),
        any::<f64>().prop_filter("finite", |n| n.is_finite()).prop_map(|n| n.to_string()),
        "[a-zA-Z0-9 ]{0,6}".prop_map(|text| format!("{text:?}")),
        Just("null".to_owned()),
        Just("true".to_owned()),
    ];
    let key =
        prop_oneof![Just("amount"), Just("Amount"), Just("\\u0061mount"), Just("a"), Just("payload"), Just("amount "),];
    leaf.prop_recursive(3, 24, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            proptest::collection::vec((key.clone(), inner), 0..4).prop_map(|members| {
                let members: Vec<_> = members.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever any JSON reader could make of `amount`, an allowed call never has more than 1000.
    #[test]
    fn a20_no_spelling_gets_past_a_forbid(args in json_text()) {
        use std::sync::LazyLock;
        static POLICIES: LazyLock<Policies> =
            LazyLock::new(|| forbid("context.args has amount && context.args.amount > 1000"));
        if call(&args).decide(&POLICIES).allow {
            // A reader that ignores case and takes the last of equal keys.
            let value: serde_json::Value = serde_json::from_str(&args).unwrap();
            let members = value.as_object().expect("only objects are allowed");
            for (key, value) in members {
                if key.eq_ignore_ascii_case("amount") {
                    let number = value.as_f64().expect("a number");
                    prop_assert!(number <= 1000.0 && number.fract() == 0.0, "{args}");
                }
            }
        }
    }

    #[test]
    fn a20_any_text_as_arguments_is_decided(args in any::<String>()) {
        use std::sync::LazyLock;
        static POLICIES: LazyLock<Policies> = LazyLock::new(|| forbid("context.args has a && context.args.a > 1"));
        let decision = call(&args).decide(&POLICIES);
        prop_assert!(!decision.allow || serde_json::from_str::<serde_json::Value>(&args).is_ok_and(|value| value.is_object()));
    }
}
