//! A3, A4: facts of one session never decide for another, and never for longer than they hold.

use serde_json::{Value, json};

use super::bench::{Bench, From, NOW_MS, legacy, modern};
use super::mock::Speaks;
use crate::Access;

const OLD: &[(&str, Speaks)] = &[("old", Speaks::Legacy)];

fn forbid(condition: &str) -> impl FnOnce(&mut Value) {
    let text = format!("forbid(principal, action, resource) unless {{ {condition} }};");
    move |r| r["policies"] = json!([{"id": "p", "cedar": text}])
}

async fn sees(bench: &Bench, from: &From) -> bool {
    bench.list(from, "tools/list").await.is_ok_and(|list| list.to_string().contains("old_echo"))
}

fn enters(bench: &Bench, from: &From) -> Access {
    let caller = from.caller();
    bench.gate.visible_endpoint(&caller.principal, &from.endpoint, caller.ip, &caller.circumstances)
}

/// Pairs of callers who differ in one fact; only the first is let in.
fn pairs() -> Vec<(&'static str, From, From)> {
    let alice = modern("alice");
    let client = |id: &str| {
        let mut from = alice.clone();
        from.circumstances.client_id = Some(id.into());
        from
    };
    let device = |tag: Option<&str>| {
        let mut from = alice.clone();
        from.circumstances.device = tag.map(Into::into);
        from
    };
    let acr = |acr: &str| alice.clone().facts(|facts| facts.acr = Some(acr.into()));
    let why = |why: &str| alice.clone().facts(|facts| facts.purpose = Some(why.into()));
    vec![
        ("country", alice.clone().in_country(Some("AT")), alice.clone().in_country(Some("XX"))),
        ("country", alice.clone().in_country(Some("AT")), alice.clone()),
        ("client_id", client("AT"), client("other")),
        ("device", device(Some("AT")), device(None)),
        ("acr", acr("AT"), acr("pwd")),
        ("purpose", why("AT"), why("none")),
    ]
}

#[tokio::test]
async fn a3_what_is_kept_for_one_session_never_serves_another() {
    for (name, inside, outside) in pairs() {
        for first in [&inside, &outside] {
            let condition = format!("context has {name} && context.{name} == \"AT\"");
            let bench = Bench::with(OLD, forbid(&condition)).await;
            enters(&bench, first);
            sees(&bench, first).await;
            for _ in 0..2 {
                assert!(sees(&bench, &inside).await, "{name}");
                assert!(!sees(&bench, &outside).await, "{name}");
                assert_eq!((enters(&bench, &inside), enters(&bench, &outside)), (Access::Allowed, Access::Denied));
                assert!(bench.tool(&inside, "old_echo", json!({})).await.text().contains('{'), "{name}");
                assert!(bench.tool(&outside, "old_echo", json!({})).await.is_not_found(), "{name}");
            }
        }
    }
}

/// The same, with views and answers kept by everything but the facts: the attack works.
#[tokio::test]
async fn a3_without_the_facts_in_the_key_another_session_gets_in() {
    let (name, inside, outside) = pairs().remove(0);
    let text = format!(
        "forbid(principal, action == Action::\"call_tool\", resource)
        unless {{ context has {name} && context.{name} == \"AT\" }};"
    );
    let bench = Bench::with(OLD, |r| r["policies"] = json!([{"id": "p", "cedar": text}])).await;
    bench.gate.sabotage().forget_facts();
    assert!(sees(&bench, &inside).await);
    assert!(sees(&bench, &outside).await, "the view of the other session");
    bench.tool(&outside, "old_echo", json!({})).await.json();
    bench.gate.sabotage().clear();
    assert!(!sees(&bench, &outside).await);
    assert!(bench.tool(&outside, "old_echo", json!({})).await.is_not_found());
}

#[tokio::test]
async fn a4_nothing_kept_outlives_the_age_of_a_second_factor() {
    for from in [modern("alice"), legacy("alice")] {
        // A caller that cannot add a second factor, so that nothing is asked for.
        let mut from = from.mfa(Some(NOW_MS - 899_500));
        from.circumstances.grant = None;
        let bench = Bench::with(OLD, forbid("context has mfa_age && context.mfa_age < 900")).await;
        for _ in 0..3 {
            assert_eq!(enters(&bench, &from), Access::Allowed);
            assert!(sees(&bench, &from).await);
            bench.tool(&from, "old_echo", json!({})).await.json();
        }
        bench.clock.advance_ms(499);
        assert!(sees(&bench, &from).await);
        bench.clock.advance_ms(1);
        assert_eq!(enters(&bench, &from), Access::Denied);
        assert!(!sees(&bench, &from).await);
        assert!(bench.tool(&from, "old_echo", json!({})).await.is_not_found());
        assert_eq!(bench.mock("old").state.executed("echo"), 3);
    }
}

#[tokio::test]
async fn a3_what_a_client_says_about_itself_is_no_fact() {
    let bench = Bench::with(OLD, forbid("context has country && context.country == \"AT\"")).await;
    let outside = modern("alice");
    let meta = json!({"name": "old_echo", "arguments": {}, "_meta": {"country": "AT", "device": "d", "bartizan/country": "AT"}});
    assert!(bench.call(&outside, "tools/call", meta).await.is_not_found());
}
