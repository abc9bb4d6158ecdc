//! What is kept of lists, for how long, and for whom; and what happens when servers fail.

use std::sync::atomic::Ordering;

use bartizan_config::settings::{AuditMode, WireLimits};
use bartizan_model::ReasonCode;
use serde_json::{Value, json};

use super::bench::{Bench, end, modern, names};
use super::lists::{add_many, many};
use super::mock::{Speaks, TOOLS};
use crate::CallReply;

const BOTH: &[(&str, Speaks)] = &[("old", Speaks::Legacy), ("new", Speaks::Modern)];

#[tokio::test]
async fn p25_a_thousand_lists_are_one_upstream_list() {
    let bench = Bench::built(BOTH, AuditMode::Fast, WireLimits::default(), |_| {}).await;
    for _ in 0..1_000 {
        bench.list(&modern("alice"), "tools/list").await.unwrap();
    }
    for _ in 0..10 {
        bench.tool(&modern("alice"), "old_echo", json!({})).await.json();
    }
    assert_eq!(bench.mock("old").state.count("tools/list"), 1);
    assert_eq!(bench.mock("old").state.count("initialize"), 1);
    assert_eq!(bench.events_of("list").await.len(), 1_000, "each is on record");
    bench.clock.advance_ms(60_000);
    bench.list(&modern("alice"), "tools/list").await.unwrap();
    assert_eq!(bench.mock("old").state.count("tools/list"), 2);
}

#[tokio::test]
async fn p25_a_policy_change_is_visible_at_once() {
    let mut bench = Bench::new(BOTH).await;
    assert!(!bench.tool_names(&modern("alice")).await.contains(&"old_write".to_owned()));
    bench.reload(|r| {
        r["grants"] = json!([{"id": "g", "principals": ["user:alice"], "server": "old", "tools": ["write"]}]);
    });
    assert!(bench.tool_names(&modern("alice")).await.contains(&"old_write".to_owned()));
    assert!(!bench.tool_names(&modern("bob")).await.contains(&"old_write".to_owned()));
    assert_eq!(bench.mock("old").state.count("tools/list"), 1, "the server has nothing new to say");
}

#[tokio::test]
async fn p25_a_rotated_secret_is_used_at_once() {
    let mut bench = Bench::with(&[("old", Speaks::Legacy)], |r| {
        r["servers"][0]["auth_type"] = "bearer".into();
        r["servers"][0]["auth_credentials"] = "first-secret-value".into();
    })
    .await;
    bench.tool(&modern("alice"), "old_echo", json!({})).await.json();
    let before = bench.snapshot.load().version;
    bench.reload(|r| r["servers"][0]["auth_credentials"] = "other-secret-value".into());
    assert_eq!(bench.snapshot.load().version, before, "a secret is no part of the version");
    bench.tool(&modern("alice"), "old_echo", json!({})).await.json();
    let given = bench.mock("old").state.authorizations.lock().unwrap().last().cloned();
    assert_eq!(given.as_deref(), Some("Bearer other-secret-value"));
    let text = format!("{:?}", bench.events().await);
    assert!(!text.contains("secret-value"));
    assert!(text.contains("bearer:server"));
}

#[tokio::test]
async fn p33_private_lists_never_cross_principals() {
    let bench = Bench::new(&[("new", Speaks::Modern)]).await;
    *bench.mock("new").state.cache.lock().unwrap() = Some((60_000, "private"));
    bench.mock("new").state.hold_lists.store(true, Ordering::SeqCst);
    let (alice, bob) = (modern("alice"), modern("bob"));
    let both = async { tokio::join!(bench.list(&alice, "tools/list"), bench.list(&bob, "tools/list")) };
    let release = async {
        // Both wait for what looks like one shared list.
        bench.mock("new").state.list_reached.notified().await;
        bench.mock("new").state.hold_lists.store(false, Ordering::SeqCst);
        bench.mock("new").state.release.notify_one();
    };
    let ((one, two), ()) = tokio::join!(both, release);
    one.unwrap();
    two.unwrap();
    assert_eq!(bench.mock("new").state.count("tools/list"), 2, "each has fetched its own");
    for from in [&alice, &bob] {
        for _ in 0..5 {
            bench.list(from, "tools/list").await.unwrap();
        }
    }
    assert_eq!(bench.mock("new").state.count("tools/list"), 2);
    bench.list(&modern("carol"), "tools/list").await.unwrap();
    assert_eq!(bench.mock("new").state.count("tools/list"), 3);
}

#[tokio::test]
async fn p33_what_only_one_principal_was_shown_is_nobody_elses() {
    for scope in ["private", "public"] {
        let bench = Bench::with(&[("new", Speaks::Modern)], |r| {
            let lists: Vec<String> = (1..=6).map(|n| format!("list_{n}")).collect();
            r["servers"][0]["classes"]["read"].as_array_mut().unwrap().extend(lists.into_iter().map(Value::from));
        })
        .await;
        let state = &bench.mock("new").state;
        *state.cache.lock().unwrap() = Some((60_000, scope));
        state.numbered.store(true, Ordering::SeqCst);
        state.hold_lists.store(true, Ordering::SeqCst);
        let (alice, bob) = (modern("alice"), modern("bob"));
        let release = async {
            state.list_reached.notified().await;
            state.hold_lists.store(false, Ordering::SeqCst);
            state.release.notify_one();
        };
        // Bob waits for what looks like one shared list, which alice has asked for.
        let (one, two, ()) = tokio::join!(bench.tool_names(&alice), bench.tool_names(&bob), release);
        let own = |names: &[String]| names.iter().filter(|name| name.starts_with("new_list_")).cloned().collect();
        let (one, two): (Vec<String>, Vec<String>) = (own(&one), own(&two));
        assert_eq!((one.len(), two.len()), (1, 1));
        assert_eq!(one == two, scope == "public", "{scope}: {one:?} {two:?}");
        for _ in 0..2 {
            for (from, mine, other) in [(&alice, &one[0], &two[0]), (&bob, &two[0], &one[0])] {
                assert_eq!(own(&bench.tool_names(from).await), std::slice::from_ref(mine), "{scope}");
                bench.tool(from, mine, json!({})).await.json();
                let reply = bench.tool(from, other, json!({})).await;
                assert_eq!(reply.is_not_found(), scope == "private", "{scope}: {reply:?}");
            }
        }
        // One who comes later, in the middle of a renewal by the others.
        bench.clock.advance_ms(60_001);
        let carol = modern("carol");
        let (one, two, three) =
            tokio::join!(bench.tool_names(&alice), bench.tool_names(&carol), bench.tool_names(&bob));
        let mut all: Vec<String> = [own(&one), own(&two), own(&three)].concat();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), if scope == "private" { 3 } else { 1 }, "{scope}: {all:?}");
    }
}

#[tokio::test]
async fn p33_public_lists_are_shared() {
    let bench = Bench::new(&[("new", Speaks::Modern)]).await;
    *bench.mock("new").state.cache.lock().unwrap() = Some((5_000, "public"));
    for user in ["alice", "bob", "carol"] {
        let list = bench.list(&modern(user), "tools/list").await.unwrap();
        assert_eq!(
            (&list["cacheScope"], &list["ttlMs"]),
            (&json!("private"), &json!(5_000)),
            "filtered lists are private"
        );
    }
    assert_eq!(bench.mock("new").state.count("tools/list"), 1);
    bench.clock.advance_ms(5_000);
    bench.tool(&modern("alice"), "new_echo", json!({})).await.json();
    assert_eq!(bench.mock("new").state.count("tools/list"), 1, "a short ttl does not cost a list per call");
    bench.list(&modern("alice"), "tools/list").await.unwrap();
    assert_eq!(bench.mock("new").state.count("tools/list"), 2);
}

#[tokio::test]
async fn p32_one_bad_server_harms_nobody() {
    let bench = Bench::new(BOTH).await;
    bench.mock("old").state.broken.store(true, Ordering::SeqCst);
    let list = bench.list(&modern("alice"), "tools/list").await.unwrap();
    let found = names(&list, "tools");
    assert!(found.contains(&"new_echo".to_owned()) && !found.iter().any(|name| name.starts_with("old_")));
    let outcomes = &list["_meta"]["bartizan/server_outcomes"];
    assert_eq!(outcomes["new"]["status"], "ok");
    assert_eq!(outcomes["old"], json!({"status": "error", "code": "upstream_unavailable"}));
    let event = &bench.events_of("list").await[0];
    assert_eq!(event["note"], "old: upstream_unavailable");
    match bench.list(&modern("alice").at("old"), "tools/list").await {
        Err(CallReply::Refused(refusal)) => assert_eq!(refusal.code, ReasonCode::UpstreamUnavailable),
        other => panic!("never an empty list for a failed server: {other:?}"),
    }
    assert!(bench.tool(&modern("alice"), "old_echo", json!({})).await.is_not_found());
    assert_eq!(bench.events_of("call").await[0]["verdict"]["code"], "upstream_unavailable");
    bench.mock("old").state.broken.store(false, Ordering::SeqCst);
    bench.clock.advance_ms(5_000);
    assert!(bench.tool_names(&modern("alice")).await.contains(&"old_echo".to_owned()), "recovers by itself");
}

#[tokio::test]
async fn p32_a_stalled_server_is_left_out_in_time() {
    let limits = WireLimits { list_ms: 200, ..WireLimits::default() };
    let bench = Bench::built(BOTH, AuditMode::Strict, limits, |_| {}).await;
    bench.mock("old").state.hold_lists.store(true, Ordering::SeqCst);
    let list = bench.list(&modern("alice"), "tools/list").await.unwrap();
    assert!(names(&list, "tools").contains(&"new_echo".to_owned()));
    let outcome = &list["_meta"]["bartizan/server_outcomes"]["old"];
    assert_eq!(*outcome, json!({"status": "error", "code": "upstream_timeout"}));
}

#[tokio::test]
async fn p32_the_last_good_list_is_served_as_stale() {
    let bench = Bench::new(BOTH).await;
    let before = bench.tool_names(&modern("alice")).await;
    bench.mock("old").state.broken.store(true, Ordering::SeqCst);
    bench.clock.advance_ms(60_000);
    let list = bench.list(&modern("alice"), "tools/list").await.unwrap();
    assert_eq!(names(&list, "tools"), before);
    assert_eq!(
        list["_meta"]["bartizan/server_outcomes"]["old"],
        json!({"status": "stale", "code": "upstream_unavailable"})
    );
    bench.tool(&modern("alice"), "old_echo", json!({})).await.json();
    let single = bench.list(&modern("alice").at("old"), "tools/list").await.unwrap();
    assert_eq!(single["_meta"]["bartizan/server_outcomes"]["old"]["status"], "stale");
}

#[tokio::test]
async fn p32_a_call_does_not_wait_for_another_servers_list() {
    let bench = Bench::with(&[("old", Speaks::Legacy), ("slow", Speaks::Legacy)], |r| {
        let mut flat = r["portals"][0].clone();
        flat["id"] = "flat".into();
        flat["prefix"] = "never".into();
        r["portals"].as_array_mut().unwrap().push(flat);
    })
    .await;
    bench.mock("slow").state.hold_lists.store(true, Ordering::SeqCst);
    bench.tool(&modern("alice"), "old_echo", json!({})).await.json();
    assert_eq!(bench.mock("slow").state.count("tools/list"), 0, "it is not even asked");
}

#[tokio::test]
async fn p32_without_prefixes_what_is_known_is_enough() {
    let bench = Bench::with(&[("quick", Speaks::Legacy), ("slow", Speaks::Legacy)], |r| {
        r["portals"][0]["prefix"] = "never".into();
    })
    .await;
    for (server, kept) in [("quick", "echo"), ("slow", "fail")] {
        let others = TOOLS.iter().filter(|name| **name != kept).map(|name| (*name).to_owned());
        bench.mock(server).state.hidden.lock().unwrap().extend(others);
    }
    let alice = modern("alice");
    bench.tool(&alice, "echo", json!({})).await.json();
    bench.mock("slow").state.hold_lists.store(true, Ordering::SeqCst);
    bench.clock.advance_ms(60_000);
    // The list of the slow server is old now and its next answer does not come.
    for _ in 0..3 {
        bench.tool(&alice, "echo", json!({})).await.json();
    }
    assert_eq!(bench.mock("quick").state.count("tools/list"), 2, "the list that is needed was renewed");
    assert_eq!(bench.mock("slow").state.count("tools/list"), 2, "the other is being renewed behind");
    bench.mock("slow").state.hold_lists.store(false, Ordering::SeqCst);
    bench.mock("slow").state.release.notify_one();
    assert_eq!(bench.tool(&alice, "fail", json!({})).await.json()["isError"], true);
}

#[tokio::test]
async fn p32_a_call_under_way_and_a_list_do_not_disturb_each_other() {
    let bench = Bench::new(BOTH).await;
    let handle = bench.start(&modern("alice"), "tools/call", json!({"name": "old_hang", "arguments": {}}));
    bench.mock("old").state.hanging.notified().await;
    bench.tool_names(&modern("alice")).await;
    bench.mock("old").state.unhang.notify_one();
    end(handle).await.json();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p25_many_cold_lists_at_once_are_one_upstream_list() {
    let bench = Bench::with(&[("old", Speaks::Legacy)], |r| many(r, 500)).await;
    add_many(&bench, 500, 100);
    let alice = modern("alice");
    let all = futures_util::future::join_all((0..100).map(|_| bench.tool_names(&alice))).await;
    assert!(all.iter().all(|found| found.len() == 503));
    assert_eq!(bench.mock("old").state.count("tools/list"), 1);
}

#[tokio::test]
async fn lists_for_made_up_capabilities_do_not_pile_up() {
    let bench = Bench::new(&[("new", Speaks::Modern)]).await;
    let long = "x".repeat(100_000);
    for n in 0..20 {
        let from = modern("alice").able(json!({"experimental": {"n": n, "long": long}}));
        bench.list(&from, "tools/list").await.unwrap();
    }
    assert!(bench.gate.0.lists.keys().iter().all(|capabilities| capabilities.len() < 600));
}
