//! Questions in the middle of a call, in all pairings (feature row P9; protocol.md 3.7, 5.3).

use std::time::Duration;

use bartizan_config::settings::{AuditMode, WireLimits};
use bartizan_model::ReasonCode;
use bartizan_wire::{AskAnswer, RawJson};
use serde_json::{Value, json};

use super::bench::{Bench, From, accept, asked, end, legacy, modern};
use super::mock::Speaks;
use crate::{CallOutput, CallReply};

const BOTH: &[(&str, Speaks)] = &[("old", Speaks::Legacy), ("new", Speaks::Modern)];

fn answered(v: &str) -> AskAnswer {
    AskAnswer::Result(RawJson::from(&accept(v)))
}

/// The params of a call's next round.
fn round(name: &str, arguments: &Value, state: Option<&str>, responses: Value) -> Value {
    let mut params = json!({"name": name, "arguments": arguments, "inputResponses": responses});
    if let Some(state) = state {
        params["requestState"] = state.into();
    }
    params
}

fn state_of(reply: &Value) -> String {
    assert_eq!(reply["resultType"], "input_required", "{reply}");
    reply["requestState"].as_str().unwrap().to_owned()
}

async fn begin(bench: &Bench, from: &From, name: &str) -> String {
    state_of(&bench.tool(from, name, json!({"a": 1})).await.json())
}

async fn go_on(bench: &Bench, from: &From, name: &str, state: &str) -> CallReply {
    bench
        .call(from, "tools/call", round(name, &json!({"a": 1}), Some(state), json!({"user_name": accept("Bob")})))
        .await
}

#[tokio::test]
async fn p9_a_legacy_client_is_asked_on_its_stream() {
    let bench = Bench::new(BOTH).await;
    for server in ["old", "new"] {
        let params = json!({"name": format!("{server}_ask"), "arguments": {}});
        let mut handle = bench.start(&legacy("alice"), "tools/call", params);
        let (asks, answers) = asked(&mut handle).await;
        assert_eq!((asks.len(), asks[0].method.as_str()), (1, "elicitation/create"), "{server}");
        answers.send(vec![(asks[0].key.clone(), answered("Bob"))]).unwrap();
        assert_eq!(end(handle).await.text(), "Hello Bob", "{server}");
    }
    let resumed = bench.mock("new").state.last("tools/call").unwrap();
    assert_eq!(resumed["params"]["requestState"], "mock-state");
    assert_eq!(bench.events_of("call").await.len(), 2, "one event per call, however many rounds");
}

#[tokio::test]
async fn p9_a_modern_upstreams_questions_come_all_at_once() {
    let bench = Bench::new(BOTH).await;
    let mut handle = bench.start(&legacy("alice"), "tools/call", json!({"name": "new_ask_two", "arguments": {}}));
    let (asks, answers) = asked(&mut handle).await;
    assert_eq!(asks.iter().map(|ask| ask.key.as_str()).collect::<Vec<_>>(), ["one", "two"]);
    answers.send(vec![("two".into(), answered("b")), ("one".into(), answered("a"))]).unwrap();
    assert_eq!(end(handle).await.text(), "a b");
}

#[tokio::test]
async fn p9_a_legacy_upstreams_questions_are_answered_in_any_order() {
    let bench = Bench::new(BOTH).await;
    let mut handle = bench.start(&legacy("alice"), "tools/call", json!({"name": "old_ask_two", "arguments": {}}));
    let (first, first_answer) = asked(&mut handle).await;
    let (second, second_answer) = asked(&mut handle).await;
    second_answer.send(vec![(second[0].key.clone(), answered(&second[0].key))]).unwrap();
    first_answer.send(vec![(first[0].key.clone(), answered(&first[0].key))]).unwrap();
    assert_eq!(end(handle).await.text(), "one two");
}

#[tokio::test]
async fn p9_at_most_eight_rounds() {
    let bench = Bench::new(BOTH).await;
    let mut handle = bench.start(&legacy("alice"), "tools/call", json!({"name": "new_forever", "arguments": {}}));
    let mut rounds = 0;
    let reply = loop {
        match handle.next().await.unwrap() {
            CallOutput::Ask { asks, answers } => {
                rounds += 1;
                answers.send(vec![(asks[0].key.clone(), answered("x"))]).unwrap();
            }
            CallOutput::Notify { .. } => {}
            CallOutput::Done(reply) => break reply,
        }
    };
    assert_eq!(reply.error_code(), -32603);
    assert_eq!((rounds, bench.mock("new").state.executed("forever")), (9, 9), "the first call and eight more");
    assert_eq!(bench.events_of("call").await[0]["outcome"], "unknown");
}

#[tokio::test]
async fn p9_a_legacy_client_that_does_not_answer_ends_the_call() {
    let bench = Bench::new(BOTH).await;
    let mut handle = bench.start(&legacy("alice"), "tools/call", json!({"name": "new_ask", "arguments": {}}));
    let (_, answers) = asked(&mut handle).await;
    drop(answers);
    assert_eq!(end(handle).await.error_code(), -32603);
    let mut handle = bench.start(&legacy("alice"), "tools/call", json!({"name": "old_ask_sampling", "arguments": {}}));
    let (_, answers) = asked(&mut handle).await;
    drop(answers);
    assert_eq!(end(handle).await.error_code(), -32000, "the upstream hears an error and ends the call itself");
}

#[tokio::test]
async fn p9_a_modern_client_finishes_with_its_next_request() {
    let bench = Bench::new(BOTH).await;
    for (server, executed) in [("old", 1), ("new", 2)] {
        let name = format!("{server}_ask");
        let first = bench.tool(&modern("alice"), &name, json!({"a": 1})).await.json();
        assert_eq!(first["inputRequests"]["user_name"]["method"], "elicitation/create", "{first}");
        assert!(first["ttlMs"].is_null() && first["cacheScope"].is_null(), "interim results are not cached");
        let state = state_of(&first);
        assert_ne!(state, "mock-state", "always wrapped");
        assert_eq!(go_on(&bench, &modern("alice"), &name, &state).await.text(), "Hello Bob", "{server}");
        assert_eq!(bench.mock(server).state.executed("ask"), executed, "{server}");
    }
    let events = bench.events_of("call").await;
    assert_eq!(events.len(), 4);
    assert_eq!(events[1]["related"], events[0]["id"], "the rounds of a call are tied together");
    assert_eq!(bench.mock("old").state.count("initialize"), 1);
}

#[tokio::test]
async fn p9_a_state_is_good_for_one_call_of_one_principal_at_one_place_for_a_time() {
    let bench = Bench::with(BOTH, |r| {
        let mut second = r["portals"][0].clone();
        second["id"] = "second".into();
        r["portals"].as_array_mut().unwrap().push(second);
    })
    .await;
    let alice = modern("alice");
    for server in ["old", "new"] {
        let name = format!("{server}_ask");
        let state = begin(&bench, &alice, &name).await;
        let executed = bench.mock(server).state.executed("ask");
        let mut elsewhere = alice.clone();
        elsewhere.endpoint = crate::Endpoint::Portal(bartizan_model::PortalId::parse("second").unwrap());
        let answers = || json!({"user_name": accept("Bob")});
        let other = |n: &str, a: Value, s: &str| round(n, &a, Some(s), answers());
        let mut flipped = state.clone().into_bytes();
        let middle = flipped.len() / 2;
        flipped[middle] = if flipped[middle] == b'A' { b'B' } else { b'A' };
        let flipped = String::from_utf8(flipped).unwrap();
        let cases = [
            ("another principal", modern("bob"), other(&name, json!({"a": 1}), &state)),
            ("tampered", alice.clone(), other(&name, json!({"a": 1}), &flipped)),
            ("cut", alice.clone(), other(&name, json!({"a": 1}), &state[..state.len() - 4])),
            ("empty", alice.clone(), other(&name, json!({"a": 1}), "")),
            ("other arguments", alice.clone(), other(&name, json!({"a": 2}), &state)),
            ("another tool", alice.clone(), other(&format!("{server}_ask_two"), json!({"a": 1}), &state)),
            (
                "another server",
                alice.clone(),
                other(if server == "old" { "new_ask" } else { "old_ask" }, json!({"a": 1}), &state),
            ),
            ("another endpoint", elsewhere, other(&name, json!({"a": 1}), &state)),
        ];
        for (what, from, params) in cases {
            assert_eq!(bench.call(&from, "tools/call", params).await.error_code(), -32602, "{server}: {what}");
        }
        assert_eq!(bench.mock(server).state.executed("ask"), executed, "{server}: nothing was forwarded");
        assert_eq!(go_on(&bench, &alice, &name, &state).await.text(), "Hello Bob", "{server}: refusals cost nothing");
        assert_eq!(go_on(&bench, &alice, &name, &state).await.error_code(), -32602, "{server}: used twice");
        let late = begin(&bench, &alice, &name).await;
        bench.clock.advance_ms(600_000);
        assert_eq!(go_on(&bench, &alice, &name, &late).await.error_code(), -32602, "{server}: expired");
    }
    let notes: Vec<_> =
        bench.events_of("call").await.iter().filter_map(|e| e["note"].as_str().map(str::to_owned)).collect();
    for note in ["another principal", "not authentic", "another call", "used before", "expired"] {
        assert!(notes.iter().any(|known| known.contains(note)), "{note}: {notes:?}");
    }
}

#[tokio::test]
async fn p9_equal_arguments_in_another_spelling_are_the_same_call() {
    let bench = Bench::new(BOTH).await;
    let state = state_of(&bench.tool(&modern("alice"), "old_ask", json!({"a": 1, "b": "x"})).await.json());
    let params = round("old_ask", &json!({"b": "x", "a": 1}), Some(&state), json!({"user_name": accept("Bob")}));
    assert_eq!(bench.call(&modern("alice"), "tools/call", params).await.text(), "Hello Bob");
}

#[tokio::test]
async fn p9_two_retries_at_once_run_one() {
    let bench = Bench::new(BOTH).await;
    for server in ["old", "new"] {
        let name = format!("{server}_ask");
        let state = begin(&bench, &modern("alice"), &name).await;
        let alice = modern("alice");
        let all = futures_util::future::join_all((0..8).map(|_| go_on(&bench, &alice, &name, &state))).await;
        let good = all.iter().filter(|reply| matches!(reply, CallReply::Result(_))).count();
        assert_eq!(good, 1, "{server}");
    }
    assert_eq!(bench.mock("old").state.executed("ask"), 1);
    assert_eq!(bench.mock("new").state.executed("ask"), 2);
}

#[tokio::test]
async fn p9_missing_and_malformed_answers_are_asked_for_again() {
    let bench = Bench::new(BOTH).await;
    let alice = modern("alice");
    let first = bench.tool(&alice, "old_ask_two", json!({})).await.json();
    assert_eq!(first["inputRequests"].as_object().unwrap().len(), 2, "both questions settle into one round");
    let mut state = state_of(&first);
    for responses in [
        json!({}),
        json!({"one": accept("a")}),
        json!({"one": accept("a"), "two": {"no": "action"}}),
        json!({"x": accept("a")}),
    ] {
        let again =
            bench.call(&alice, "tools/call", round("old_ask_two", &json!({}), Some(&state), responses)).await.json();
        assert_eq!(again["inputRequests"], first["inputRequests"]);
        let next = state_of(&again);
        assert_ne!(next, state);
        state = next;
    }
    let all = json!({"one": accept("a"), "two": accept("b"), "unasked": accept("c")});
    let done = bench.call(&alice, "tools/call", round("old_ask_two", &json!({}), Some(&state), all)).await;
    assert_eq!(done.text(), "a b", "extra keys are ignored");
    assert_eq!(bench.mock("old").state.executed("ask_two"), 1);
}

#[tokio::test]
async fn p9_answers_in_advance() {
    let bench = Bench::new(BOTH).await;
    let params = round("old_ask", &json!({}), None, json!({"user_name": accept("Eve"), "other": accept("x")}));
    assert_eq!(bench.call(&modern("alice"), "tools/call", params).await.text(), "Hello Eve");
    let sent = bench.mock("old").state.last("tools/call").unwrap();
    assert!(sent["params"]["inputResponses"].is_null(), "a legacy server does not hear of it");
}

#[tokio::test]
async fn p9_a_call_can_be_asked_many_times() {
    let bench = Bench::new(BOTH).await;
    let alice = modern("alice");
    let mut state = state_of(&bench.tool(&alice, "old_forever", json!({})).await.json());
    for _ in 0..5 {
        let params = round("old_forever", &json!({}), Some(&state), json!({"again": accept("x")}));
        state = state_of(&bench.call(&alice, "tools/call", params).await.json());
    }
    assert_eq!(bench.mock("old").state.executed("forever"), 1);
    let events = bench.events_of("call").await;
    assert!(events[1..].iter().all(|event| event["related"] == events[0]["id"]));
}

#[tokio::test]
async fn p9_sixteen_parked_calls_per_principal() {
    let bench = Bench::new(BOTH).await;
    let mut parked = Vec::new();
    for _ in 0..16 {
        parked.push(bench.tool(&modern("alice"), "old_ask", json!({"a": 1})).await.json());
    }
    let reply = bench.tool(&modern("alice"), "old_ask", json!({"a": 1})).await;
    assert_eq!(
        (reply.refusal().code, reply.refusal().rule.as_deref()),
        (ReasonCode::RateLimited, Some("parked_calls"))
    );
    begin(&bench, &modern("bob"), "old_ask").await;
    let key = parked[3]["inputRequests"].as_object().unwrap().keys().next().unwrap();
    let params = round("old_ask", &json!({"a": 1}), Some(&state_of(&parked[3])), json!({key: accept("Bob")}));
    assert_eq!(bench.call(&modern("alice"), "tools/call", params).await.text(), "Hello Bob");
    begin(&bench, &modern("alice"), "old_ask").await;
    assert_eq!(bench.mock("old").state.cancelled(), 1, "the one too many was cancelled upstream");
}

#[tokio::test]
async fn p9_what_the_client_did_not_declare_is_not_asked() {
    let bench = Bench::new(BOTH).await;
    let able = |from: From| from.able(json!({"elicitation": {}}));
    let reply = bench.tool(&able(modern("alice")), "old_ask_sampling", json!({})).await;
    match reply {
        CallReply::Error(error) => {
            assert_eq!(error.code, -32021);
            assert_eq!(super::bench::value(&error.data.unwrap()), json!({"requiredCapabilities": {"sampling": {}}}));
        }
        other => panic!("{other:?}"),
    }
    let reply = bench.tool(&able(legacy("alice")), "old_ask_sampling", json!({})).await;
    assert_eq!(reply.error_code(), -32000, "the upstream heard that it is not available");
    let reply = bench.tool(&able(legacy("alice")), "new_ask_sampling", json!({})).await;
    match reply {
        CallReply::Error(error) => assert!(error.message.contains("sampling"), "{}", error.message),
        other => panic!("{other:?}"),
    }
}

fn short_lived() -> WireLimits {
    WireLimits { park_ms: 150, ..WireLimits::default() }
}

#[tokio::test]
async fn p9_a_parked_call_that_expires_is_recorded_and_never_run_again() {
    let bench = Bench::built(BOTH, AuditMode::Strict, short_lived(), |_| {}).await;
    let state = begin(&bench, &modern("alice"), "old_ask").await;
    bench.idle().await;
    // The state itself is still good by the (standing) clock: the call is what is gone.
    let reply = go_on(&bench, &modern("alice"), "old_ask", &state).await;
    match reply {
        CallReply::Error(error) => assert!(error.message.contains("not run again"), "{}", error.message),
        other => panic!("{other:?}"),
    }
    assert_eq!(bench.mock("old").state.executed("ask"), 1);
    let events = bench.events_of("call").await;
    assert_eq!((events.len(), &events[1]["outcome"], &events[1]["related"]), (3, &json!("unknown"), &events[0]["id"]));
    assert_eq!(bench.mock("old").state.cancelled(), 1, "the upstream was told");
}

#[tokio::test]
async fn o7_draining_ends_parked_calls_at_once() {
    let bench = Bench::new(BOTH).await;
    begin(&bench, &modern("alice"), "old_ask").await;
    assert!(bench.gate.drain(Duration::from_secs(5)).await);
    let events = bench.events_of("call").await;
    assert_eq!((events.len(), &events[1]["outcome"]), (2, &json!("unknown")));
}

#[tokio::test]
async fn p9_links_of_a_legacy_server_for_a_modern_client() {
    let bench = Bench::new(BOTH).await;
    let alice = modern("alice");
    let first = bench.tool(&alice, "old_link", json!({})).await.json();
    let requests = first["inputRequests"].as_object().unwrap();
    let (key, ask) = requests.iter().next().unwrap();
    assert_eq!((&ask["params"]["mode"], &ask["params"]["url"]), (&json!("url"), &json!("https://example.com/go")));
    assert!(ask["params"]["elicitationId"].is_null());
    let state = state_of(&first);
    let params = round("old_link", &json!({}), Some(&state), json!({key: {"action": "accept"}}));
    // The mock asks for ever; what matters is that the retry calls again, once.
    state_of(&bench.call(&alice, "tools/call", params.clone()).await.json());
    assert_eq!(bench.mock("old").state.executed("link"), 2);
    assert_eq!(bench.call(&alice, "tools/call", params).await.error_code(), -32602);
    assert_eq!(bench.mock("old").state.executed("link"), 2);
    let plain = alice.able(json!({"elicitation": {}}));
    assert_eq!(bench.tool(&plain, "old_link", json!({})).await.error_code(), -32021);
}

#[tokio::test]
async fn p9_links_of_a_modern_server_for_a_legacy_client() {
    let bench = Bench::new(BOTH).await;
    let mut handle = bench.start(&legacy("alice"), "tools/call", json!({"name": "new_link", "arguments": {}}));
    let (asks, answers) = asked(&mut handle).await;
    let id = asks[0].text("elicitationId").unwrap();
    answers.send(vec![(asks[0].key.clone(), AskAnswer::Result(RawJson::from(&json!({"action": "accept"}))))]).unwrap();
    let mut completed = None;
    loop {
        match handle.next().await.unwrap() {
            CallOutput::Notify { method, params } if &*method == "notifications/elicitation/complete" => {
                completed = params
            }
            CallOutput::Done(reply) => {
                assert_eq!(reply.text(), "went");
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(super::bench::value(&completed.unwrap())["elicitationId"], id.as_str());
    let older = From { revision: bartizan_wire::Revision::V2025_06_18, ..legacy("alice") };
    let read = bench.tool(&older, "new_link", json!({})).await.json();
    assert_eq!(read["isError"], true);
    assert!(read["content"][0]["text"].as_str().unwrap().contains("https://example.com/go"));
}

#[tokio::test]
async fn p10_progress_comes_with_the_clients_token() {
    let bench = Bench::new(&[("old", Speaks::Legacy)]).await;
    for from in [legacy("alice"), modern("alice")] {
        let params = json!({"name": "old_progress", "arguments": {}, "_meta": {"progressToken": "mine"}});
        let mut handle = bench.start(&from, "tools/call", params);
        let mut heard = Vec::new();
        loop {
            match handle.next().await.unwrap() {
                CallOutput::Notify { params, .. } => heard.push(super::bench::value(&params.unwrap())),
                CallOutput::Done(reply) => {
                    assert_eq!(reply.text(), "done");
                    break;
                }
                CallOutput::Ask { .. } => panic!("nothing to ask"),
            }
        }
        assert_eq!(heard.len(), 3);
        assert!(heard.iter().all(|note| note["progressToken"] == "mine"), "{heard:?}");
    }
}

#[tokio::test]
async fn p9_a_write_that_is_parked_has_one_intent() {
    let bench = Bench::with(BOTH, |r| {
        for server in 0..2 {
            let read = r["servers"][server]["classes"]["read"].as_array_mut().unwrap();
            read.retain(|name| name != "ask");
            r["servers"][server]["classes"]["write"] = json!(["ask"]);
        }
        r["grants"] = json!([
            {"id": "g", "principals": ["everyone"], "server": "old", "tools": ["ask"]},
            {"id": "h", "principals": ["everyone"], "server": "new", "tools": ["ask"]}
        ]);
    })
    .await;
    for server in ["old", "new"] {
        let name = format!("{server}_ask");
        let state = begin(&bench, &modern("alice"), &name).await;
        assert_eq!(go_on(&bench, &modern("alice"), &name, &state).await.text(), "Hello Bob");
    }
    let intents = bench.events_of("intent").await;
    let servers: Vec<_> = intents.iter().map(|event| event["server"].as_str().unwrap()).collect();
    assert_eq!(
        servers,
        ["old", "new", "new"],
        "a parked call goes on under its first intent, a new request has its own"
    );
}

#[tokio::test]
async fn p9_progress_during_a_park_comes_with_the_retry() {
    let bench = Bench::new(&[("old", Speaks::Legacy)]).await;
    let alice = modern("alice");
    for (token, expected) in [(Some("second"), vec![1, 2, 3, 4]), (None, vec![])] {
        let params = json!({"name": "old_ask_slowly", "arguments": {"a": 1}, "_meta": {"progressToken": "first"}});
        let first = bench.call(&alice, "tools/call", params).await.json();
        bench.mock("old").state.unhang.notify_one();
        let key = first["inputRequests"].as_object().unwrap().keys().next().unwrap().clone();
        let responses = json!({key: accept("Bob")});
        let mut params = round("old_ask_slowly", &json!({"a": 1}), Some(&state_of(&first)), responses);
        if let Some(token) = token {
            params["_meta"]["progressToken"] = token.into();
        }
        let mut handle = bench.start(&alice, "tools/call", params);
        let mut heard = Vec::new();
        loop {
            match handle.next().await.unwrap() {
                CallOutput::Notify { params, .. } => heard.push(super::bench::value(&params.unwrap())),
                CallOutput::Done(reply) => break assert_eq!(reply.text(), "Hello Bob"),
                CallOutput::Ask { .. } => panic!("nothing to ask"),
            }
        }
        let steps: Vec<_> = heard.iter().map(|note| note["progress"].as_i64().unwrap()).collect();
        assert_eq!(steps, expected);
        assert!(heard.iter().all(|note| note["progressToken"] == "second"), "{heard:?}");
    }
}

/// The reply of one call at a gate.
async fn at(gate: &crate::Gate, from: &From, params: Value) -> CallReply {
    end(gate.call(from.request("tools/call", params))).await
}

#[tokio::test]
async fn p9_a_state_is_used_once_however_many_replicas_there_are() {
    let bench = Bench::new(BOTH).await;
    let alice = modern("alice");
    for (shared, good) in [(true, 1), (false, 2)] {
        let store = shared.then(|| bench.store.clone());
        let gates = [bench.another("node-2", store.clone()), bench.another("node-3", store)];
        // A modern server's own state, and one that only means "call again".
        for (name, key, answer) in
            [("new_ask", "user_name", accept("Bob")), ("old_link", "", json!({"action": "accept"}))]
        {
            let first = bench.tool(&alice, name, json!({"a": 1})).await.json();
            let key = match key {
                "" => first["inputRequests"].as_object().unwrap().keys().next().unwrap().clone(),
                key => key.to_owned(),
            };
            let params = round(name, &json!({"a": 1}), Some(&state_of(&first)), json!({key: answer}));
            let (one, two) = tokio::join!(at(&gates[0], &alice, params.clone()), at(&gates[1], &alice, params.clone()));
            let results = [&one, &two].iter().filter(|reply| matches!(reply, CallReply::Result(_))).count();
            assert_eq!(results, good, "{name}: {one:?} {two:?}");
            for gate in &gates {
                assert_eq!(at(gate, &alice, params.clone()).await.error_code(), -32602, "{name}: used");
            }
        }
    }
}

#[tokio::test]
async fn p9_an_answer_that_lands_elsewhere_does_not_use_up_the_park() {
    let bench = Bench::new(BOTH).await;
    let alice = modern("alice");
    let state = begin(&bench, &alice, "old_ask").await;
    let elsewhere = bench.another("node-2", Some(bench.store.clone()));
    let params = round("old_ask", &json!({"a": 1}), Some(&state), json!({"user_name": accept("Bob")}));
    assert_eq!(at(&elsewhere, &alice, params).await.error_code(), -32603);
    assert_eq!(go_on(&bench, &alice, "old_ask", &state).await.text(), "Hello Bob");
}

#[tokio::test]
async fn p9_without_the_store_no_state_is_taken_and_calls_go_on() {
    let bench = Bench::new(BOTH).await;
    let alice = modern("alice");
    let state = begin(&bench, &alice, "new_ask").await;
    let parked = begin(&bench, &alice, "old_ask").await;
    bench.store.close().await;
    let executed = bench.mock("new").state.executed("ask");
    for _ in 0..2 {
        assert_eq!(go_on(&bench, &alice, "new_ask", &state).await.error_code(), -32603);
    }
    assert_eq!(bench.mock("new").state.executed("ask"), executed, "nothing was forwarded");
    let events = bench.events_of("call").await;
    let last = events.last().unwrap();
    assert_eq!((&last["outcome"], &last["note"]), (&json!("refused"), &json!("replay markers cannot be reached")));
    // What needs no marker never asks for one.
    bench.tool(&alice, "new_echo", json!({})).await.json();
    assert_eq!(go_on(&bench, &alice, "old_ask", &parked).await.text(), "Hello Bob");
    // The refusals have not used up the state.
    let store = bartizan_store::Store::open(&bartizan_store::StoreUrl::Memory, bench.gate.0.clock.clone()).await;
    let recovered = bench.another("node-1", Some(store.unwrap()));
    let params = round("new_ask", &json!({"a": 1}), Some(&state), json!({"user_name": accept("Bob")}));
    assert_eq!(at(&recovered, &alice, params).await.text(), "Hello Bob");
}

#[tokio::test]
async fn p9_old_markers_are_removed() {
    let bench = Bench::new(BOTH).await;
    let alice = modern("alice");
    let state = begin(&bench, &alice, "new_ask").await;
    go_on(&bench, &alice, "new_ask", &state).await.json();
    bench.idle().await;
    // Past the state's life and the slack for clocks that differ.
    bench.clock.advance_ms(1_200_001);
    let state = begin(&bench, &alice, "new_ask").await;
    go_on(&bench, &alice, "new_ask", &state).await.json();
    bench.idle().await;
    let left = bartizan_store::repo::replay::prune(&bench.store, i64::MAX).await.unwrap();
    assert_eq!(left, 1, "only the newer one is left");
}
