//! Real servers behind one portal, over HTTP and as local processes.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use std::path::Path;
use std::time::Duration;

use bartizan_testkit::client::{Identity, LegacyClient, ModernClient};
use bartizan_testkit::fixture::{self, Era, Fixture, Options};
use bartizan_testkit::http::Http;
use bartizan_testkit::product::{Config, Product, all_services, http_server, stdio_server};
use bartizan_testkit::scripts::{self, RealClient};
use bartizan_testkit::tools::{self, Part};
use bartizan_testkit::{process, servers};
use serde_json::{Value, json};

const EVERYTHING: &[&str] = &[
    "echo",
    "get-sum",
    "get-tiny-image",
    "get-structured-content",
    "trigger-long-running-operation",
    "trigger-elicitation-request",
    "trigger-sampling-request",
];

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn everything_steps(prefix: &str) -> Value {
    let tool = |name: &str| format!("{prefix}{name}");
    json!([
        {"list": "tools"},
        {"list": "resources"},
        {"list": "prompts"},
        {"call": tool("echo"), "args": {"message": "hello"}},
        {"call": tool("get-sum"), "args": {"a": 2, "b": 3}},
        {"call": tool("get-tiny-image")},
        {"call": tool("get-structured-content"), "args": {"location": "Chicago"}},
        {"call": tool("trigger-long-running-operation"), "args": {"duration": 1, "steps": 4}, "progress": true},
        {"call": tool("trigger-elicitation-request")},
        {"call": tool("trigger-sampling-request"), "args": {"prompt": "hi", "maxTokens": 10}},
        {"call": tool("get-env")},
        {"prompt": tool("simple-prompt")},
    ])
}

/// A client in a mode through the portal to the npm server "everything".
async fn over_everything(test: &str, client: RealClient, mode: &str, transport: &str) {
    let mut parts = client.parts().to_vec();
    parts.push(Part::Npm);
    if !tools::ready(test, &parts) {
        return;
    }
    let (entry, _upstream) = if transport == "stdio" {
        (stdio_server("every", servers::everything_stdio(), EVERYTHING), None)
    } else {
        let upstream = servers::everything(transport).await.unwrap();
        (http_server("every", &upstream.url, &owned(EVERYTHING)), Some(upstream))
    };
    let product = Product::serve(Config::new().server(entry)).await.unwrap();
    let token = product.token("agent").to_owned();
    let steps = everything_steps("every_");
    let report = scripts::drive(client, &product.url(), Some(&token), mode, steps).await.unwrap();
    assert!(report.0.get("error").is_none(), "{:#}", report.0);
    let names = report.names("tools");
    assert!(EVERYTHING.iter().all(|name| names.contains(&format!("every_{name}"))), "{names:?}");
    assert!(!names.contains(&"every_get-env".to_owned()), "nobody reviewed get-env: {names:?}");
    assert_eq!(report.said("every_echo"), "Echo: hello");
    assert_eq!(report.said("every_get-sum"), "The sum of 2 and 3 is 5.");
    let kinds = &report.step("call", "every_get-tiny-image")["kinds"];
    assert!(kinds.as_array().unwrap().contains(&json!("image")), "{kinds}");
    assert!(report.step("call", "every_get-structured-content")["structuredContent"].is_object(), "{:#}", report.0);
    assert!(report.step("call", "every_get-env")["error"].is_object(), "the unreviewed tool answered");
    assert_eq!(report.step("prompt", "every_simple-prompt")["text"], "This is a simple prompt without arguments.");
    assert!(report.names("resources").len() >= 7);
    if client.answers() {
        let long = report.step("call", "every_trigger-long-running-operation");
        let values: Vec<f64> = long["progress"].as_array().unwrap().iter().filter_map(Value::as_f64).collect();
        // On one channel the server's own question (it asks for roots after a while) may fall into this
        // call and park it; reports made meanwhile are gone, those after it must come.
        assert!(values.is_sorted() && values.last() == Some(&4.0), "{long}");
        assert!(values.len() == 4 || transport != "streamableHttp", "{long}");
        let elicited = report.said("every_trigger-elicitation-request");
        assert!(elicited.contains("User provided the requested information"), "{elicited}");
        let sampled = report.said("every_trigger-sampling-request");
        assert!(sampled.contains("Paris"), "{sampled}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn e2e_ts_sdk_v1_over_everything() {
    over_everything("e2e_ts_sdk_v1_over_everything", RealClient::TsV1, "", "streamableHttp").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn e2e_ts_client_v2_modern_over_everything() {
    over_everything("e2e_ts_client_v2_modern_over_everything", RealClient::TsV2, "modern", "streamableHttp").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn e2e_python_mcp_auto_over_everything() {
    over_everything("e2e_python_mcp_auto_over_everything", RealClient::PythonMcp, "auto", "streamableHttp").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn e2e_fastmcp_over_everything_stdio() {
    over_everything("e2e_fastmcp_over_everything_stdio", RealClient::FastMcp, "auto", "stdio").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn e2e_ts_sdk_v1_over_everything_stdio() {
    over_everything("e2e_ts_sdk_v1_over_everything_stdio", RealClient::TsV1, "", "stdio").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_everything_over_http_and_sse() {
    over_everything("p8_everything_over_http_and_sse", RealClient::TsV1, "", "sse").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_modern_client_before_http_and_sse() {
    over_everything("p8_modern_client_before_http_and_sse", RealClient::TsV2, "modern", "sse").await;
}

/// Questions, progress, lists and reads through the portal to a server, by clients of both eras.
async fn both_eras_through(product: &Product, prefix: &str) {
    let identity = Identity::bearer(product.token("agent"));
    let modern = ModernClient::new(&product.url(), identity.clone());
    let legacy = LegacyClient::connect(&product.url(), identity).await.unwrap();
    let tool = |name: &str| format!("{prefix}_{name}");
    assert!(modern.tools().await.unwrap().contains(&tool("test_simple_text")));
    for (name, expected) in [
        ("test_simple_text", "This is a simple text response for testing."),
        ("test_input_required_result_elicitation", "Hello, Ada!"),
        ("test_input_required_result_sampling", "Paris"),
        ("test_input_required_result_multi_round", "Ada likes Ada"),
        ("test_tool_with_progress", "Tool with progress executed successfully"),
    ] {
        let one = modern.call(&tool(name), json!({})).await.unwrap();
        assert_eq!(one.text(), expected, "modern {name}");
        let two = legacy.call(&tool(name), json!({})).await.unwrap();
        assert_eq!(two.text(), expected, "legacy {name}");
    }
    let prompt = json!({"name": tool("test_simple_prompt")});
    assert!(modern.request("prompts/get", prompt).await.is_ok());
    let problem = modern.call(&tool("test_write_note"), json!({"text": "x"})).await.unwrap_err();
    assert_eq!(problem.code, -32602);
}

fn reviewed() -> Vec<String> {
    fixture::tool_names().into_iter().filter(|name| name != "test_write_note").collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn p7_local_servers_of_either_era() {
    if !tools::ready("p7_local_servers_of_either_era", &[Part::Product]) {
        return;
    }
    for era in ["legacy", "modern", "both"] {
        let names = reviewed();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let argv = json!([env!("CARGO_BIN_EXE_fixture"), "--stdio", "--era", era]);
        let product = Product::serve(Config::new().server(stdio_server("fx", argv, &names))).await.unwrap();
        println!("{era}");
        both_eras_through(&product, "fx").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_http_and_sse_upstream_in_both_eras() {
    if !tools::ready("p8_http_and_sse_upstream_in_both_eras", &[Part::Product]) {
        return;
    }
    let upstream = Fixture::start(Options::of(Era::Legacy)).await.unwrap();
    let config = Config::new().server(http_server("fx", &upstream.sse_url(), &reviewed()));
    let product = Product::serve(config).await.unwrap();
    both_eras_through(&product, "fx").await;
    assert!(upstream.stats().of("sse") >= 1);
}

const LOCAL: &[Part] = &[Part::Npm, Part::Servers, Part::Product];

async fn git(folder: &Path, args: &[&str]) {
    let folder = folder.display().to_string();
    let mut all = vec!["-C", &folder, "-c", "user.name=Ada", "-c", "user.email=ada@example.com"];
    all.extend_from_slice(args);
    let done = process::run("git", &all, Duration::from_secs(20)).await.unwrap();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
}

/// filesystem, memory, git, time and fetch behind one portal, in a scratch folder.
async fn local_servers(scratch: &Path) -> Product {
    let (files, repository) = (scratch.join("files"), scratch.join("repository"));
    std::fs::create_dir_all(&files).unwrap();
    std::fs::create_dir_all(&repository).unwrap();
    std::fs::write(files.join("note.txt"), "a note").unwrap();
    std::fs::write(repository.join("readme"), "hello").unwrap();
    git(&repository, &["init", "-q"]).await;
    git(&repository, &["add", "readme"]).await;
    git(&repository, &["commit", "-q", "-m", "first commit"]).await;
    let mut memory = stdio_server("memory", servers::memory(), &["read_graph", "search_nodes"]);
    memory["command"]["env"] = json!({"MEMORY_FILE_PATH": scratch.join("memory.jsonl")});
    let mut fetch = stdio_server("fetch", servers::fetch(), &["fetch"]);
    fetch["command"]["env"] = json!({"NO_PROXY": "127.0.0.1"});
    let config = Config::new()
        .server(stdio_server("files", servers::filesystem(&files), &["read_text_file", "list_directory"]))
        .server(memory)
        .server(stdio_server("git", servers::git(&repository), &["git_status", "git_log"]))
        .server(stdio_server("time", servers::time(), &["get_current_time", "convert_time"]))
        .server(fetch)
        .with(
            "grants",
            json!({
                "id": "remember", "principals": ["service:agent"], "server": "memory", "tools": ["create_entities"],
            }),
        );
    Product::serve(config).await.unwrap()
}

/// Waits until tools are listed: local servers start one after the other, and a list does not
/// wait longer than its deadline for any of them.
async fn listed(client: &ModernClient, wanted: &[&str]) -> Vec<String> {
    let mut names = Vec::new();
    let all = async || {
        names = client.tools().await.unwrap();
        wanted.iter().all(|name| names.iter().any(|listed| listed == name))
    };
    let waited = bartizan_testkit::wait::until("all local servers are listed", Duration::from_secs(90), all).await;
    assert!(waited.is_ok(), "{wanted:?} are not all in {names:?}");
    names
}

fn calls(scratch: &Path) -> Vec<(&'static str, Value, &'static str)> {
    vec![
        ("files_read_text_file", json!({"path": scratch.join("files/note.txt")}), "a note"),
        ("git_git_log", json!({"repo_path": scratch.join("repository")}), "first commit"),
        (
            "time_convert_time",
            json!({"source_timezone": "Etc/UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"}),
            "21:00",
        ),
        ("memory_read_graph", json!({}), "entities"),
        (
            "memory_create_entities",
            json!({"entities": [{"name": "bartizan", "entityType": "tower", "observations": ["small"]}]}),
            "bartizan",
        ),
    ]
}

const DENIED: &[&str] =
    &["files_write_file", "git_git_commit", "git_git_reset", "memory_delete_entities", "files_move_file"];

#[tokio::test(flavor = "multi_thread")]
async fn e2e_local_servers_in_both_eras() {
    if !tools::ready("e2e_local_servers_in_both_eras", LOCAL) {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let product = local_servers(scratch.path()).await;
    let identity = Identity::bearer(product.token("agent"));
    let modern = ModernClient::new(&product.url(), identity.clone());
    let legacy = LegacyClient::connect(&product.url(), identity).await.unwrap();
    let calls = calls(scratch.path());
    let names = listed(&modern, &calls.iter().map(|(name, ..)| *name).collect::<Vec<_>>()).await;
    assert_eq!(names, legacy.tools().await.unwrap());
    for (name, args, expected) in calls {
        for (era, done) in [
            ("modern", modern.call(name, args.clone()).await.unwrap()),
            ("legacy", legacy.call(name, args.clone()).await.unwrap()),
        ] {
            assert!(!done.is_error(), "{era} {name}: {}", done.text());
            let said = done.text() + &done.result["structuredContent"].to_string();
            assert!(said.contains(expected) || name == "memory_create_entities", "{era} {name}: {said}");
        }
    }
    for name in DENIED {
        assert!(!names.contains(&(*name).to_owned()), "{name} is listed");
        assert_eq!(modern.call(name, json!({})).await.unwrap_err().code, -32602, "{name}");
        assert_eq!(legacy.call(name, json!({})).await.unwrap_err().code, -32602, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn e2e_fetch_server_reads_a_local_page() {
    if !tools::ready("e2e_fetch_server_reads_a_local_page", LOCAL) {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let product = local_servers(scratch.path()).await;
    let client = ModernClient::new(&product.url(), Identity::bearer(product.token("agent")));
    listed(&client, &["fetch_fetch"]).await;
    // The product's own health page is as good a page as any.
    let url = product.operations_url("/livez");
    let done = client.call("fetch_fetch", json!({"url": url, "raw": true})).await.unwrap();
    assert!(done.text().contains(&url), "{}", done.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn e2e_local_servers_end_with_the_product() {
    let test = "e2e_local_servers_end_with_the_product";
    if !tools::ready(test, LOCAL) {
        return;
    }
    for brutal in [false, true] {
        let scratch = tempfile::tempdir().unwrap();
        let mut product = local_servers(scratch.path()).await;
        let client = ModernClient::new(&product.url(), Identity::bearer(product.token("agent")));
        listed(&client, &["time_get_current_time", "memory_read_graph"]).await;
        client.call("time_get_current_time", json!({"timezone": "Etc/UTC"})).await.unwrap();
        client.call("memory_read_graph", json!({})).await.unwrap();
        let children = descendants(product.pid().unwrap());
        assert!(!children.is_empty(), "no local server was started");
        if brutal {
            product.kill().await.unwrap();
        } else {
            product.stop().await.unwrap();
        }
        let gone = async || children.iter().all(|pid| !alive(*pid));
        bartizan_testkit::wait::until("the local servers are gone", Duration::from_secs(10), gone).await.unwrap();
    }
}

/// Direct and indirect children, from /proc.
fn descendants(of: u32) -> Vec<u32> {
    let mut found = Vec::new();
    let mut parents = vec![of];
    while let Some(parent) = parents.pop() {
        let tasks = format!("/proc/{parent}/task");
        for task in std::fs::read_dir(tasks).into_iter().flatten().flatten() {
            let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            for child in children.split_whitespace().filter_map(|pid| pid.parse().ok()) {
                found.push(child);
                parents.push(child);
            }
        }
    }
    found
}

fn alive(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !status.is_empty() && !status.contains(") Z ")
}

#[tokio::test(flavor = "multi_thread")]
async fn g12_hosting_off_refuses_local_servers() {
    if !tools::ready("g12_hosting_off_refuses_local_servers", LOCAL) {
        return;
    }
    let config = Config::new()
        .server(stdio_server("time", servers::time(), &["get_current_time"]))
        .set("hosting", json!({"enabled": false}));
    match Product::serve(config).await {
        // Refused at the start is one way, not offered the other.
        Err(error) => assert!(format!("{error:#}").contains("hosting"), "{error:#}"),
        Ok(product) => {
            let client = ModernClient::new(&product.url(), Identity::bearer(product.token("agent")));
            let names = client.tools().await.unwrap();
            assert!(!names.iter().any(|name| name.starts_with("time_")), "{names:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g12_unpinned_and_unsandboxed_needs_the_operators_word() {
    let test = "g12_unpinned_and_unsandboxed_needs_the_operators_word";
    if !tools::ready(test, LOCAL) {
        return;
    }
    for missing in ["allow_unpinned", "sandbox"] {
        let mut server = stdio_server("time", servers::time(), &["get_current_time"]);
        server["command"].as_object_mut().unwrap().remove(missing);
        match Product::serve(Config::new().server(server)).await {
            Err(error) => assert!(format!("{error:#}").contains(missing), "{missing}: {error:#}"),
            Ok(product) => {
                let client = ModernClient::new(&product.url(), Identity::bearer(product.token("agent")));
                let names = client.tools().await.unwrap();
                assert!(!names.iter().any(|name| name.starts_with("time_")), "{missing}: {names:?}");
            }
        }
    }
}

/// A local server that shows its argv and environment instead of speaking MCP.
#[tokio::test(flavor = "multi_thread")]
async fn g14_argv_is_passed_as_it_is_and_the_environment_is_not_inherited() {
    let test = "g14_argv_is_passed_as_it_is_and_the_environment_is_not_inherited";
    if !tools::ready(test, &[Part::Product]) {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let seen = scratch.path().join("seen");
    let script = "import os,sys,json;json.dump({'argv':sys.argv[2:],'env':dict(os.environ)},open(sys.argv[1],'w'))";
    let argv = json!(["python3", "-c", script, seen, "a;b", "$(id)", "line\nbreak", "*"]);
    let mut server = stdio_server("odd", argv, &[]);
    server["command"]["env"] = json!({"GIVEN": "value"});
    let mut config = Config::new().server(server);
    config.env.push(("BARTIZAN_E2E_SECRET".to_owned(), "do-not-inherit".to_owned()));
    let product = Product::serve(config).await.unwrap();
    let client = ModernClient::new(&product.url(), Identity::bearer(product.token("agent")));
    // The server is useless, the list is not.
    client.tools().await.unwrap();
    bartizan_testkit::wait::until("the child ran", Duration::from_secs(20), async || seen.exists()).await.unwrap();
    let full = async || std::fs::read_to_string(&seen).is_ok_and(|text| text.ends_with('}'));
    bartizan_testkit::wait::until("the child wrote", Duration::from_secs(10), full).await.unwrap();
    let seen: Value = serde_json::from_str(&std::fs::read_to_string(&seen).unwrap()).unwrap();
    assert_eq!(seen["argv"], json!(["a;b", "$(id)", "line\nbreak", "*"]));
    assert_eq!(seen["env"]["GIVEN"], "value");
    assert!(seen["env"].get("BARTIZAN_E2E_SECRET").is_none(), "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_real_servers_and_another_portal_side_by_side() {
    if !tools::ready("p1_real_servers_and_another_portal_side_by_side", LOCAL) {
        return;
    }
    let every = servers::everything("streamableHttp").await.unwrap();
    let config = Config::new()
        .server(http_server("every", &every.url, &owned(EVERYTHING)))
        .server(stdio_server("time", servers::time(), &["get_current_time"]))
        .with("portals", json!({"id": "clock", "servers": ["time"], "policies": all_services()}));
    let product = Product::serve(config).await.unwrap();
    let identity = Identity::bearer(product.token("agent"));
    let of = async |url: String| {
        let client = ModernClient::with(Http::new(), &url, identity.clone());
        listed(&client, &["time_get_current_time"]).await
    };
    let all = of(product.url()).await;
    assert!(all.contains(&"every_echo".to_owned()) && all.contains(&"time_get_current_time".to_owned()), "{all:?}");
    let clock = of(product.portal_url("clock")).await;
    assert!(clock.contains(&"time_get_current_time".to_owned()), "{clock:?}");
    assert!(!clock.iter().any(|name| name.starts_with("every_")), "{clock:?}");
}
