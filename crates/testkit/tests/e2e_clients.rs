//! The real clients through the product, each against servers of both eras (issue 2, row P58 in part).

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use bartizan_testkit::fixture::{self, Era, Fixture, Options};
use bartizan_testkit::product::{Config, Product, http_server};
use bartizan_testkit::scripts::{self, RealClient, Report};
use bartizan_testkit::tools;
use serde_json::{Value, json};

/// Reads are all tools but these two; one of them is granted.
const GRANTED: &str = "test_write_note";
const DENIED: &str = "test_delete_notes";

fn reviewed() -> Vec<String> {
    fixture::tool_names().into_iter().filter(|name| name != GRANTED && name != DENIED).collect()
}

async fn behind(era: Era) -> (Fixture, Product) {
    let fixture = Fixture::start(Options::of(era).recorded()).await.unwrap();
    let grant = json!({"id": "notes", "principals": ["service:agent"], "server": "fx", "tools": [GRANTED]});
    let config = Config::new().server(http_server("fx", &fixture.url(), &reviewed())).with("grants", grant);
    let product = Product::serve(config).await.unwrap();
    (fixture, product)
}

fn plan(client: RealClient) -> Value {
    let mut steps = vec![
        json!({"list": "tools"}),
        json!({"list": "resources"}),
        json!({"list": "templates"}),
        json!({"list": "prompts"}),
        json!({"call": "fx_test_simple_text"}),
        json!({"call": "fx_test_multiple_content_types"}),
        json!({"call": "fx_test_tool_with_progress", "progress": true}),
        json!({"call": "fx_test_error_handling"}),
        json!({"call": "fx_test_header_echo", "args": {"region": "Zürich"}}),
        json!({"call": format!("fx_{GRANTED}"), "args": {"text": "remember"}}),
        json!({"call": format!("fx_{DENIED}")}),
        json!({"call": "fx_no_such_tool"}),
        json!({"readNamed": "static-text"}),
        json!({"prompt": "fx_test_prompt_with_arguments", "args": {"arg1": "hello", "arg2": "world"}}),
    ];
    if client.answers() {
        steps.push(json!({"complete": "fx_test_prompt_with_arguments", "argument": "arg1", "value": "par"}));
        steps.push(json!({"call": "fx_test_elicitation", "args": {"message": "Who are you?"}}));
        steps.push(json!({"call": "fx_test_sampling", "args": {"prompt": "Capital of France?"}}));
        steps.push(json!({"call": "fx_test_input_required_result_multi_round"}));
        steps.push(json!({"call": "fx_test_input_required_result_multiple_inputs"}));
    }
    json!(steps)
}

fn judge(client: RealClient, report: &Report, case: &str) {
    assert!(report.0.get("error").is_none(), "{case}: {:#}", report.0);
    let names = report.names("tools");
    for name in reviewed().iter().filter(|name| !name.contains("dynamic")) {
        assert!(names.contains(&format!("fx_{name}")), "{case}: {name} is not listed: {names:?}");
    }
    assert!(names.contains(&format!("fx_{GRANTED}")), "{case}: the granted write is not listed");
    assert!(!names.contains(&format!("fx_{DENIED}")), "{case}: the denied write is listed");
    assert_eq!(report.names("resources").len(), 4, "{case}");
    assert_eq!(report.names("templates").len(), 1, "{case}");
    assert!(report.names("prompts").contains(&"fx_test_simple_prompt".to_owned()), "{case}: {:#}", report.0);

    assert_eq!(report.said("fx_test_simple_text"), "This is a simple text response for testing.", "{case}");
    let mixed = &report.step("call", "fx_test_multiple_content_types")["kinds"];
    assert_eq!(*mixed, json!(["text", "image", "resource"]), "{case}");
    let progress = &report.step("call", "fx_test_tool_with_progress");
    assert_eq!(progress["isError"], false, "{case}: {progress}");
    if client.answers() {
        let values: Vec<f64> = progress["progress"].as_array().unwrap().iter().filter_map(Value::as_f64).collect();
        // Two hops of v1 SDK: a report that arrives together with the result may be dropped by the bridge.
        let enough = if client == RealClient::McpRemote { 2 } else { 3 };
        assert!(values.len() >= enough && [0.0, 50.0, 100.0].starts_with(&values), "{case}: {values:?}");
    }
    let failing = report.step("call", "fx_test_error_handling");
    assert_eq!(failing["isError"], true, "{case}: {failing}");
    assert_eq!(report.said("fx_test_header_echo"), "region=Zürich", "{case}");
    assert_eq!(report.said(&format!("fx_{GRANTED}")), "stored: remember", "{case}");

    // Denied and unknown look the same.
    let denied = &report.step("call", &format!("fx_{DENIED}"))["error"];
    let unknown = &report.step("call", "fx_no_such_tool")["error"];
    assert!(denied.is_object() && unknown.is_object(), "{case}: denied {denied}, unknown {unknown}");
    assert_eq!(denied["code"], unknown["code"], "{case}");
    if client.answers() {
        assert_eq!(denied["code"], -32602, "{case}: {denied}");
        let plain = |error: &Value, name: &str| error["message"].as_str().unwrap().replace(name, "NAME");
        assert_eq!(plain(denied, &format!("fx_{DENIED}")), plain(unknown, "fx_no_such_tool"), "{case}");
    }

    let read = report.step("readNamed", "static-text");
    assert_eq!(read["text"], "This is the content of the static text resource.", "{case}: {read}");
    let prompt = report.step("prompt", "fx_test_prompt_with_arguments");
    assert_eq!(prompt["text"], "Prompt with arguments: arg1='hello', arg2='world'", "{case}: {prompt}");
    if client.answers() {
        let completed = report.step("complete", "fx_test_prompt_with_arguments");
        assert_eq!(completed["values"], json!(["paris", "park", "party"]), "{case}: {completed}");
        let elicited = report.said("fx_test_elicitation");
        assert!(elicited.starts_with("User response: action=accept"), "{case}: {elicited}");
        assert_eq!(report.said("fx_test_sampling"), "LLM response: Paris", "{case}");
        assert_eq!(report.said("fx_test_input_required_result_multi_round"), "Ada likes Ada", "{case}");
        let many = report.said("fx_test_input_required_result_multiple_inputs");
        assert!(many.starts_with("Paris Ada, roots: "), "{case}: {many}");
        assert_eq!(report.asked().iter().filter(|method| **method == "roots/list").count(), 1, "{case}");
    }
}

/// One client in one mode in front of servers of both eras.
async fn through(test: &str, client: RealClient, mode: &str, version: &str) {
    if !tools::ready(test, client.parts()) {
        return;
    }
    for era in [Era::Legacy, Era::Modern] {
        let (fixture, product) = behind(era).await;
        let token = product.token("agent").to_owned();
        let report = scripts::drive(client, &product.url(), Some(&token), mode, plan(client)).await.unwrap();
        let case = format!("{client:?} {mode} before {era:?}");
        judge(client, &report, &case);
        if !report.version().is_empty() {
            assert_eq!(report.version(), version, "{case}");
        }
        assert_eq!(fixture.stats().of(&format!("tool:{DENIED}")), 0, "{case}: the denied write reached the server");
        let leaked = fixture.stats().recorded().into_iter().find(|request| request.contains(&token));
        assert!(leaked.is_none(), "{case}: the client's token went upstream: {leaked:?}");
    }
}

const HANDSHAKE: &str = "2025-11-25";
const STATELESS: &str = "2026-07-28";

#[tokio::test(flavor = "multi_thread")]
async fn e2e_ts_sdk_v1() {
    through("e2e_ts_sdk_v1", RealClient::TsV1, "", HANDSHAKE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn e2e_ts_client_v2_legacy() {
    through("e2e_ts_client_v2_legacy", RealClient::TsV2, "legacy", HANDSHAKE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn e2e_ts_client_v2_auto() {
    through("e2e_ts_client_v2_auto", RealClient::TsV2, "auto", STATELESS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn e2e_ts_client_v2_modern() {
    through("e2e_ts_client_v2_modern", RealClient::TsV2, "modern", STATELESS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn e2e_python_mcp_auto() {
    through("e2e_python_mcp_auto", RealClient::PythonMcp, "auto", STATELESS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn e2e_python_mcp_legacy() {
    through("e2e_python_mcp_legacy", RealClient::PythonMcp, "legacy", HANDSHAKE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn e2e_python_mcp_modern() {
    through("e2e_python_mcp_modern", RealClient::PythonMcp, "modern", STATELESS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn e2e_fastmcp_auto() {
    through("e2e_fastmcp_auto", RealClient::FastMcp, "auto", STATELESS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn e2e_fastmcp_legacy() {
    through("e2e_fastmcp_legacy", RealClient::FastMcp, "legacy", HANDSHAKE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn e2e_inspector_legacy() {
    through("e2e_inspector_legacy", RealClient::Inspector, "legacy", "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn e2e_inspector_modern() {
    through("e2e_inspector_modern", RealClient::Inspector, "modern", "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn e2e_mcp_remote() {
    through("e2e_mcp_remote", RealClient::McpRemote, "", "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn u14_a_client_behind_the_bridge_sees_all_it_sees_over_http() {
    through("u14_a_client_behind_the_bridge_sees_all_it_sees_over_http", RealClient::Stdio, "", "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn e2e_clients_with_a_wrong_token_are_refused() {
    let test = "e2e_clients_with_a_wrong_token_are_refused";
    let clients = [RealClient::TsV1, RealClient::PythonMcp, RealClient::FastMcp];
    let parts: Vec<_> = clients.iter().flat_map(|client| client.parts()).copied().collect();
    if !tools::ready(test, &parts) {
        return;
    }
    let (fixture, product) = behind(Era::Both).await;
    for client in clients {
        let steps = json!([{"list": "tools"}, {"call": "fx_test_simple_text"}]);
        let report = scripts::drive(client, &product.url(), Some("bzs_not.a-token"), "", steps).await.unwrap();
        assert!(report.0["error"].is_object(), "{client:?} got in: {:#}", report.0);
    }
    assert_eq!(fixture.stats().of("tools/call"), 0);
}
