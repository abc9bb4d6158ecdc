//! Questions of servers to clients across eras, and what an attacker may try with them (row P9).

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use std::sync::Arc;
use std::time::Duration;

use bartizan_testkit::client::{Identity, LegacyClient, ModernClient, friendly};
use bartizan_testkit::fixture::{self, Era, Fixture, Options};
use bartizan_testkit::product::{Config, Product, http_server};
use bartizan_testkit::tools::{self, Part};
use serde_json::{Value, json};

fn ready(test: &str) -> bool {
    tools::ready(test, &[Part::Product])
}

async fn behind(era: Era) -> (Fixture, Product) {
    let fixture = Fixture::start(Options::of(era)).await.unwrap();
    let server = http_server("fx", &fixture.url(), &fixture::tool_names());
    let product = Product::serve(Config::new().server(server).token("other")).await.unwrap();
    (fixture, product)
}

fn asks(name: &str) -> Value {
    json!({"name": name, "arguments": {}})
}

const TOOL: &str = "fx_test_input_required_result_elicitation";
const STEPS: &str = "fx_test_input_required_result_multi_round";

#[tokio::test(flavor = "multi_thread")]
async fn p9_every_kind_of_question_crosses_in_all_four_pairings() {
    if !ready("p9_every_kind_of_question_crosses_in_all_four_pairings") {
        return;
    }
    for era in [Era::Legacy, Era::Modern] {
        let (_fixture, product) = behind(era).await;
        let identity = Identity::bearer(product.token("agent"));
        let modern = ModernClient::new(&product.url(), identity.clone());
        let legacy = LegacyClient::connect(&product.url(), identity).await.unwrap();
        let expected = [
            (TOOL, "Hello, Ada!"),
            ("fx_test_input_required_result_sampling", "Paris"),
            ("fx_test_input_required_result_list_roots", "file:///test/root"),
            ("fx_test_input_required_result_request_state", "state-ok"),
            ("fx_test_input_required_result_multiple_inputs", "Paris Ada, roots: "),
            (STEPS, "Ada likes Ada"),
            ("fx_test_input_required_result_capabilities", "user_name, greeting, client_roots"),
        ];
        for (name, text) in expected {
            let one = modern.call(name, json!({})).await.unwrap();
            assert!(one.text().contains(text), "modern before {era:?}, {name}: {}", one.text());
            let two = legacy.call(name, json!({})).await.unwrap();
            assert!(two.text().contains(text), "legacy before {era:?}, {name}: {}", two.text());
        }
        let prompt = json!({"name": "fx_test_input_required_result_prompt"});
        for messages in [
            modern.request("prompts/get", prompt.clone()).await.unwrap().result["messages"].to_string(),
            legacy.request("prompts/get", prompt.clone()).await.unwrap().result["messages"].to_string(),
        ] {
            assert!(messages.contains("Use this context: Ada"), "{era:?}: {messages}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p9_a_declined_question_reaches_the_server_as_declined() {
    if !ready("p9_a_declined_question_reaches_the_server_as_declined") {
        return;
    }
    for era in [Era::Legacy, Era::Modern] {
        let (_fixture, product) = behind(era).await;
        let decline = Arc::new(|method: &str, params: &Value| match method {
            "elicitation/create" => Some(json!({"action": "decline"})),
            _ => friendly()(method, params),
        });
        let identity = Identity::bearer(product.token("agent")).answering(decline);
        let modern = ModernClient::new(&product.url(), identity.clone());
        let legacy = LegacyClient::connect(&product.url(), identity).await.unwrap();
        for done in [
            modern.call("fx_test_elicitation", json!({"message": "m"})).await.unwrap(),
            legacy.call("fx_test_elicitation", json!({"message": "m"})).await.unwrap(),
        ] {
            assert!(done.text().contains("action=decline"), "{era:?}: {}", done.text());
        }
    }
}

/// The interim result of a question and the retry that answers it.
async fn parked(client: &ModernClient, name: &str) -> (Value, Value) {
    let params = asks(name);
    let required = client.once("tools/call", params.clone()).await.unwrap().result;
    assert_eq!(required["resultType"], "input_required", "{required}");
    assert!(required["requestState"].is_string(), "{required}");
    let retry = client.retry(&params, &required);
    (required, retry)
}

#[tokio::test(flavor = "multi_thread")]
async fn p9_the_state_of_one_caller_is_worthless_to_another() {
    if !ready("p9_the_state_of_one_caller_is_worthless_to_another") {
        return;
    }
    for (era, tool) in [(Era::Legacy, TOOL), (Era::Modern, STEPS)] {
        let (fixture, product) = behind(era).await;
        let alice = ModernClient::new(&product.url(), Identity::bearer(product.token("agent")));
        let mallory = ModernClient::new(&product.url(), Identity::bearer(product.token("other")));
        let (_, retry) = parked(&alice, tool).await;
        let stolen = mallory.once("tools/call", retry.clone()).await.unwrap_err();
        assert_eq!(stolen.code, -32602, "{era:?}: {stolen}");
        // It is still good for its owner.
        let own = alice.once("tools/call", retry).await.unwrap();
        assert!(!own.is_error(), "{era:?}: {:#}", own.result);
        assert!(fixture.stats().of("refused") <= 2, "the stolen state was sent upstream");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p9_changed_moved_and_used_states_are_refused() {
    if !ready("p9_changed_moved_and_used_states_are_refused") {
        return;
    }
    for (era, tool) in [(Era::Legacy, TOOL), (Era::Modern, STEPS)] {
        let (fixture, product) = behind(era).await;
        let client = ModernClient::new(&product.url(), Identity::bearer(product.token("agent")));
        let (required, retry) = parked(&client, tool).await;
        let state = required["requestState"].as_str().unwrap();
        let changed = |state: String| {
            let mut changed = retry.clone();
            changed["requestState"] = json!(state);
            changed
        };
        let mut flipped: Vec<char> = state.chars().collect();
        let middle = flipped.len() / 2;
        flipped[middle] = if flipped[middle] == 'A' { 'B' } else { 'A' };
        let half: String = state.chars().take(state.len() / 2).collect();
        for bad in [format!("{state}x"), flipped.into_iter().collect(), half, String::new(), "☃".to_owned()] {
            let problem = client.once("tools/call", changed(bad.clone())).await.unwrap_err();
            assert_eq!(problem.code, -32602, "{era:?} {bad:?}: {problem}");
        }
        // On another tool, with other arguments, at another endpoint.
        let mut moved = retry.clone();
        moved["name"] = json!("fx_test_input_required_result_request_state");
        assert_eq!(client.once("tools/call", moved).await.unwrap_err().code, -32602, "{era:?}: other tool");
        let mut argued = retry.clone();
        argued["arguments"] = json!({"more": 1});
        assert_eq!(client.once("tools/call", argued).await.unwrap_err().code, -32602, "{era:?}: other arguments");
        let elsewhere = ModernClient::new(&product.server_url("fx"), Identity::bearer(product.token("agent")));
        let mut carried = retry.clone();
        carried["name"] = json!(tool.trim_start_matches("fx_"));
        assert_eq!(elsewhere.once("tools/call", carried).await.unwrap_err().code, -32602, "{era:?}: other endpoint");
        // Once, and not twice.
        let first = client.once("tools/call", retry.clone()).await.unwrap();
        assert!(!first.is_error(), "{era:?}: {:#}", first.result);
        if era == Era::Legacy {
            let again = client.once("tools/call", retry).await;
            assert!(again.is_err(), "{era:?}: the same state was good twice: {again:?}");
            assert_eq!(fixture.stats().of(&format!("tool:{}", tool.trim_start_matches("fx_"))), 1, "run twice");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p9_a_lost_park_is_a_plain_error_and_never_a_second_run() {
    if !ready("p9_a_lost_park_is_a_plain_error_and_never_a_second_run") {
        return;
    }
    let (fixture, mut product) = behind(Era::Legacy).await;
    let client = ModernClient::new(&product.url(), Identity::bearer(product.token("agent")));
    let (_, retry) = parked(&client, TOOL).await;
    product.kill().await.unwrap();
    product.start_again().await.unwrap();
    let lost = client.once("tools/call", retry).await;
    assert!(lost.is_err() || lost.as_ref().is_ok_and(|done| done.is_error()), "{lost:?}");
    assert_eq!(fixture.stats().of("tool:test_input_required_result_elicitation"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn p9_an_undeclared_capability_is_32021_and_never_asked_for() {
    if !ready("p9_an_undeclared_capability_is_32021_and_never_asked_for") {
        return;
    }
    for era in [Era::Legacy, Era::Modern] {
        let (_fixture, product) = behind(era).await;
        let nobody = Arc::new(|_: &str, _: &Value| -> Option<Value> { unreachable!("asked for an undeclared thing") });
        let identity = Identity::bearer(product.token("agent")).declaring(json!({})).answering(nobody);
        let modern = ModernClient::new(&product.url(), identity.clone());
        let problem = modern.once("tools/call", asks("fx_test_missing_capability")).await.unwrap_err();
        assert_eq!((problem.status, problem.code), (400, -32021), "{era:?}: {problem}");
        assert!(problem.data["requiredCapabilities"]["sampling"].is_object(), "{era:?}: {problem}");
        let legacy = LegacyClient::connect(&product.url(), identity).await.unwrap();
        let refused = legacy.call("fx_test_missing_capability", json!({})).await;
        assert!(refused.is_err() || refused.is_ok_and(|done| done.is_error()), "{era:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p9_answers_in_advance_and_extra_answers() {
    if !ready("p9_answers_in_advance_and_extra_answers") {
        return;
    }
    for era in [Era::Legacy, Era::Modern] {
        let (_fixture, product) = behind(era).await;
        let client = ModernClient::new(&product.url(), Identity::bearer(product.token("agent")));
        let answer = json!({"action": "accept", "content": {"name": "Grace"}});
        let mut params = asks(TOOL);
        params["inputResponses"] = json!({"user_name": answer, "stray": answer});
        let done = client.once("tools/call", params.clone()).await.unwrap();
        assert_eq!(done.text(), "Hello, Grace!", "{era:?}");
        params["inputResponses"] = json!({"stray": answer});
        let asked = client.once("tools/call", params.clone()).await.unwrap().result;
        assert_eq!(asked["resultType"], "input_required", "{era:?}: {asked}");
        for malformed in [json!(null), json!([]), json!("x"), json!({"user_name": 5})] {
            params["inputResponses"] = malformed.clone();
            match client.once("tools/call", params.clone()).await {
                Err(problem) => assert!(problem.code != 0, "{era:?} {malformed}: {problem}"),
                Ok(done) => assert!(
                    done.is_error() || done.result["resultType"] == "input_required",
                    "{era:?} {malformed}: {:#}",
                    done.result
                ),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p9_parked_calls_are_bounded_per_caller() {
    if !ready("p9_parked_calls_are_bounded_per_caller") {
        return;
    }
    let (fixture, product) = behind(Era::Legacy).await;
    let client = ModernClient::new(&product.url(), Identity::bearer(product.token("agent")));
    let other = ModernClient::new(&product.url(), Identity::bearer(product.token("other")));
    let mut kept = 0;
    for _ in 0..40 {
        let done = client.once("tools/call", asks(TOOL)).await;
        kept += usize::from(done.is_ok_and(|done| done.result["resultType"] == "input_required"));
    }
    assert!(kept <= 16, "{kept} calls are parked");
    // Somebody else has room of his own.
    let (_, retry) = parked(&other, TOOL).await;
    assert!(!other.once("tools/call", retry).await.unwrap().is_error());
    assert!(fixture.open_sessions() <= 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn p9_many_callers_elicit_at_once_and_nobody_gets_anothers_answer() {
    if !ready("p9_many_callers_elicit_at_once_and_nobody_gets_anothers_answer") {
        return;
    }
    for era in [Era::Legacy, Era::Modern] {
        let (_fixture, product) = behind(era).await;
        let product = Arc::new(product);
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..12 {
            let product = Arc::clone(&product);
            tasks.spawn(async move {
                let name = format!("user-{number}");
                let own = name.clone();
                let answers = Arc::new(move |_: &str, _: &Value| {
                    Some(json!({"action": "accept", "content": {"username": own, "email": "a@b.example"}}))
                });
                let identity = Identity::bearer(product.token("agent")).answering(answers);
                let modern = ModernClient::new(&product.url(), identity.clone());
                let legacy = LegacyClient::connect(&product.url(), identity).await.unwrap();
                let mut wrong = Vec::new();
                for _ in 0..5 {
                    let asked = json!({"message": "who?"});
                    for done in [
                        modern.call("fx_test_elicitation", asked.clone()).await,
                        legacy.call("fx_test_elicitation", asked).await,
                    ] {
                        let text = done.map_or_else(|problem| problem.to_string(), |done| done.text());
                        if !text.contains(&format!("\"{name}\"")) {
                            wrong.push(text);
                        }
                    }
                }
                wrong
            });
        }
        let wrong: Vec<String> = tasks.join_all().await.into_iter().flatten().collect();
        assert_eq!(wrong, Vec::<String>::new(), "{era:?}");
    }
}

/// A retry is a request of its own: progress goes on under its token, not under that of the first one.
#[tokio::test(flavor = "multi_thread")]
async fn p9_progress_after_a_question_has_the_token_of_the_retry() {
    if !ready("p9_progress_after_a_question_has_the_token_of_the_retry") {
        return;
    }
    for era in [Era::Legacy, Era::Modern] {
        let (_fixture, product) = behind(era).await;
        let client = ModernClient::new(&product.url(), Identity::bearer(product.token("agent")));
        let progress = |notifications: &[Value]| {
            let of =
                |message: &Value| (message["params"]["progressToken"].clone(), message["params"]["progress"].clone());
            notifications
                .iter()
                .filter(|message| message["method"] == "notifications/progress")
                .map(of)
                .collect::<Vec<_>>()
        };
        let mut params = asks("fx_test_streaming_elicitation");
        params["_meta"] = json!({"progressToken": "first"});
        let first = client.once("tools/call", params.clone()).await.unwrap();
        assert_eq!(first.result["resultType"], "input_required", "{era:?}: {:#}", first.result);
        assert_eq!(progress(&first.notifications), [(json!("first"), json!(1))], "{era:?}");
        let mut retry = client.retry(&params, &first.result);
        retry["_meta"] = json!({"progressToken": "second"});
        let done = client.once("tools/call", retry).await.unwrap();
        assert!(done.text().contains("action=accept"), "{era:?}: {}", done.text());
        let seen = progress(&done.notifications);
        assert!(seen.contains(&(json!("second"), json!(2))), "{era:?}: {seen:?}");
        assert!(seen.iter().all(|(token, _)| token == "second"), "{era:?}: {seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p9_a_legacy_client_that_never_answers_ends_with_the_limit() {
    if !ready("p9_a_legacy_client_that_never_answers_ends_with_the_limit") {
        return;
    }
    let fixture = Fixture::start(Options::of(Era::Modern)).await.unwrap();
    let limits = json!({"call_ms": 2_000, "call_max_ms": 3_000, "park_ms": 2_000, "drain_wait_ms": 100});
    let server = http_server("fx", &fixture.url(), &fixture::tool_names());
    let product = Product::serve(Config::new().server(server).set("limits", limits)).await.unwrap();
    let client = LegacyClient::connect(&product.url(), Identity::bearer(product.token("agent"))).await.unwrap();
    let message = json!({"jsonrpc": "2.0", "id": 9, "method": "tools/call", "params": asks(TOOL)});
    let mut events = client.post(&message).await.unwrap().events();
    let end = tokio::time::timeout(Duration::from_secs(30), async {
        while let Some(message) = events.message().await.unwrap() {
            if message["id"] == 9 && message.get("method").is_none() {
                return Some(message);
            }
        }
        None
    });
    let end = end.await.unwrap();
    assert!(end.is_none_or(|message| message.get("error").is_some() || message["result"]["isError"] == true));
}
