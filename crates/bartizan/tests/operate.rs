//! Working with a running process: reload, status, tokens, record, classification.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod common;

use std::path::Path;
use std::time::Duration;

use bartizan_testkit::client::{Identity, ModernClient};
use bartizan_testkit::fixture::{self, Era, Fixture, Options};
use bartizan_testkit::product::{Config, Product, http_server, stdio_server};
use bartizan_testkit::wait::until;
use common::{Dev, run_in};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(20);

fn config(fixture: &Fixture) -> Config {
    Config::new().server(http_server("fx", &fixture.url(), &fixture::tool_names()))
}

async fn json_of(product: &Product, arguments: &[&str]) -> (Option<i32>, Value) {
    let mut all = arguments.to_vec();
    all.push("--json");
    let output = product.command(&all).await.unwrap();
    let value = serde_json::from_str(output.stdout.trim());
    (output.code, value.unwrap_or_else(|e| panic!("{e}: {}{}", output.stdout, output.stderr)))
}

async fn generation(product: &Product) -> u64 {
    json_of(product, &["status"]).await.1["process"]["generation"].as_u64().unwrap()
}

/// How many tools of servers are listed; the portal's own are always there.
async fn own(client: &ModernClient) -> usize {
    client.tools().await.unwrap().iter().filter(|name| !name.starts_with("portal_")).count()
}

#[tokio::test]
async fn o4_a_changed_file_is_taken_without_a_signal() {
    let fixture = Fixture::start(Options::of(Era::Legacy)).await.unwrap();
    let mut product = Product::serve(config(&fixture)).await.unwrap();
    let client = ModernClient::new(&product.url(), Identity::bearer(product.token("agent")));
    assert!(own(&client).await > 0);
    product.rewrite(Config::new()).unwrap();
    let gone = async || own(&client).await == 0;
    until("the server's tools are gone", SOON, gone).await.unwrap();
    product.rewrite(config(&fixture)).unwrap();
    let back = async || own(&client).await > 0;
    until("the server's tools are back", SOON, back).await.unwrap();
}

#[tokio::test]
async fn o4_a_bad_file_is_visible_until_it_is_mended() {
    let fixture = Fixture::start(Options::of(Era::Legacy)).await.unwrap();
    let mut product = Product::serve(config(&fixture)).await.unwrap();
    let (code, status) = json_of(&product, &["status"]).await;
    assert_eq!((code, &status["running"]), (Some(0), &json!(true)));
    assert_eq!(product.metric("bartizan_config_refused").await.unwrap(), Some(0.0));

    product.rewrite(config(&fixture).set("portals", json!([{"id": "default", "servers": ["nowhere"]}]))).unwrap();
    let refused = async || product.metric("bartizan_config_refused").await.unwrap() == Some(1.0);
    until("the reload is refused", SOON, refused).await.unwrap();
    let (code, status) = json_of(&product, &["status"]).await;
    assert_eq!(code, Some(1));
    let error = &status["process"]["reload_error"];
    assert!(error["text"].as_str().unwrap().contains("there is no server `nowhere`"), "{error}");
    let text = product.command(&["status"]).await.unwrap().stdout;
    assert!(text.contains("reload      REFUSED"), "{text}");
    // Readiness is about the process, which is as good as before.
    assert_eq!(product.http.get(&product.operations_url("/readyz")).await.unwrap().0, 200);
    let client = ModernClient::new(&product.url(), Identity::bearer(product.token("agent")));
    assert!(own(&client).await > 0, "the former configuration is in use");

    product.rewrite(config(&fixture)).unwrap();
    let mended = async || product.metric("bartizan_config_refused").await.unwrap() == Some(0.0);
    until("the error is gone", SOON, mended).await.unwrap();
    assert_eq!(json_of(&product, &["status"]).await.0, Some(0));
}

#[tokio::test]
async fn o4_the_reload_command_says_what_came_of_it() {
    let fixture = Fixture::start(Options::of(Era::Legacy)).await.unwrap();
    let mut product = Product::serve(config(&fixture)).await.unwrap();
    let before = generation(&product).await;
    let (code, said) = json_of(&product, &["reload"]).await;
    assert_eq!((code, said["restart_needed"].as_bool()), (Some(0), Some(false)));
    assert!(said["generation"].as_u64().unwrap() > before);
    // A setting that is only read at the start.
    product.rewrite(config(&fixture).set("limits", json!({"drain_wait_ms": 100, "call_ms": 777}))).unwrap();
    let (code, said) = json_of(&product, &["reload"]).await;
    assert_eq!((code, said["restart_needed"].as_bool()), (Some(0), Some(true)));
    product.rewrite(config(&fixture).set("servers", json!("nothing"))).unwrap();
    let output = product.command(&["reload"]).await.unwrap();
    assert_eq!(output.code, Some(1), "{}", output.stderr);
    assert!(output.stderr.contains("expected a list, found text"), "{}", output.stderr);
    product.stop().await.unwrap();
    let output = product.command(&["reload"]).await.unwrap();
    assert!(output.stderr.contains("[not_running]"), "{}", output.stderr);
}

#[tokio::test]
async fn g12_status_names_unpinned_and_unsandboxed_servers() {
    let fixture = Fixture::start(Options::of(Era::Legacy)).await.unwrap();
    let local = stdio_server("local", json!(["/bin/cat"]), &[]);
    let mut product = Product::serve(config(&fixture).server(local)).await.unwrap();
    let line = |text: &str, id: &str| text.lines().find(|line| line.starts_with(id)).unwrap().to_owned();
    for running in [true, false] {
        let text = product.command(&["status"]).await.unwrap().stdout;
        assert!(line(&text, "local").contains("UNPINNED, UNSANDBOXED"), "running {running}: {text}");
        assert!(!line(&text, "fx").contains("UN"), "{text}");
        if running {
            product.stop().await.unwrap();
        }
    }
    assert!(product.command(&["status"]).await.unwrap().stdout.contains("not running"));
}

#[tokio::test]
async fn a11_tokens_made_and_suspended_by_command_reach_the_running_process() {
    let fixture = Fixture::start(Options::of(Era::Legacy)).await.unwrap();
    let product = Product::serve(config(&fixture)).await.unwrap();
    let (_, made) = json_of(&product, &["token", "create", "late"]).await;
    let client = ModernClient::new(&product.url(), Identity::bearer(made["bearer"].as_str().unwrap()));
    let works = async || client.tools().await.is_ok();
    until("the new token works", SOON, works).await.unwrap();
    json_of(&product, &["token", "suspend", "late"]).await;
    let refused = async || client.tools().await.is_err_and(|problem| problem.status == 401);
    until("the suspended token is refused", SOON, refused).await.unwrap();
    json_of(&product, &["token", "resume", "late"]).await;
    until("the resumed token works", SOON, works).await.unwrap();
    let (_, listed) = json_of(&product, &["token", "list"]).await;
    let late = listed["tokens"].as_array().unwrap().iter().find(|token| token["name"] == "late").unwrap();
    assert!(late["last_used"].is_string(), "{late}");
}

#[tokio::test]
async fn u2_tokens_of_dev_mean_nothing_to_serve() {
    let fixture = Fixture::start(Options::of(Era::Legacy)).await.unwrap();
    let product = Product::serve(config(&fixture)).await.unwrap();
    let dev = Dev::start().await;
    let client = ModernClient::new(&product.url(), Identity::bearer(&dev.token("alice")));
    assert_eq!(client.tools().await.unwrap_err().status, 401);
}

#[tokio::test]
async fn l1_the_record_by_command() {
    let fixture = Fixture::start(Options::of(Era::Legacy)).await.unwrap();
    let mut product = Product::serve(config(&fixture)).await.unwrap();
    let client = ModernClient::new(&product.url(), Identity::bearer(product.token("agent")));
    client.call("fx_test_simple_text", json!({})).await.unwrap();
    assert!(client.call("fx_nothing", json!({})).await.is_err());
    let (code, found) = json_of(&product, &["audit", "search", "--denied", "--kind", "call"]).await;
    assert_eq!(code, Some(0));
    let events = found["events"].as_array().unwrap();
    assert_eq!(events.len(), 1, "{found}");
    assert_eq!(events[0]["who"]["principal"], "service:agent");
    let (code, none) = json_of(&product, &["audit", "search", "--principal", "user:nobody"]).await;
    assert_eq!((code, none["events"].as_array().unwrap().len()), (Some(1), 0));
    let (_, all) = json_of(&product, &["audit", "list"]).await;
    let methods: Vec<&str> = all["events"].as_array().unwrap().iter().map(|e| e["method"].as_str().unwrap()).collect();
    assert_eq!(methods[..2], ["token/create", "system/start"], "{methods:?}");
    product.stop().await.unwrap();
    let (code, verified) = json_of(&product, &["audit", "verify"]).await;
    assert_eq!((code, verified["whole"].as_bool()), (Some(0), Some(true)));
    let (_, rebuilt) = json_of(&product, &["audit", "rebuild-index"]).await;
    assert!(rebuilt["indexed"].as_u64().unwrap() >= 4);
    // One changed byte is found.
    let folder = product.data().join("audit");
    let mut segments = walk(&folder).into_iter().filter(|file| file.ends_with("00000001.log"));
    let changed = |file: &std::path::PathBuf| std::fs::read_to_string(file).unwrap().contains("\"allow\":true");
    let segment = segments.find(changed).unwrap();
    let text = std::fs::read_to_string(&segment).unwrap();
    std::fs::write(&segment, text.replacen("\"allow\":true", "\"allow\":trux", 1)).unwrap();
    let output = product.command(&["audit", "verify"]).await.unwrap();
    assert_eq!(output.code, Some(1));
    assert!(output.stdout.contains("NOT WHOLE"), "{}", output.stdout);
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(walk(&path)) } else { files.push(path) }
    }
    files
}

#[tokio::test]
async fn g3_after_one_reviewed_paste_the_read_tools_of_a_server_are_shown() {
    let dev = Dev::start().await;
    let url = |id: &str| {
        let servers = dev.announced["servers"].as_array().unwrap();
        servers.iter().find(|server| server["id"] == id).unwrap()["url"].as_str().unwrap().to_owned()
    };
    for (id, read, write) in [
        ("tracker", "search_issues", "create_issue"),
        ("wiki", "get_page", "update_page"),
        ("code", "list_commits", "delete_branch"),
    ] {
        let bare = Config::new().server(http_server(id, &url(id), &[]));
        let mut product = Product::serve(bare.clone()).await.unwrap();
        let client = ModernClient::new(&product.url(), Identity::bearer(product.token("agent")));
        let own = ["portal_list_servers", "portal_toggle_servers", "portal_toggle_single_server"];
        assert_eq!(client.tools().await.unwrap(), own, "nobody reviewed anything yet");
        let output = product.command(&["server", "classify", id]).await.unwrap();
        assert_eq!(output.code, Some(0), "{}", output.stderr);
        assert!(output.stdout.starts_with("classes:\n") && output.stderr.contains("review"), "{}", output.stdout);
        // The pasted block, in a file of the folder: the reviewer's part of the test.
        let entry = format!(
            "servers:\n  - server_id: {id}\n    hostname: {}\n    policies: [{{ action: service_auth, include: [{{ everyone: true }}] }}]\n{}",
            url(id),
            output.stdout.lines().map(|line| format!("    {line}\n")).collect::<String>()
        );
        let folder = product.config_path().parent().unwrap().join("resources");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("pasted.yaml"), entry).unwrap();
        product.rewrite(Config::new().set("resources", json!("resources"))).unwrap();
        let (read, write) = (format!("{id}_{read}"), format!("{id}_{write}"));
        let shown = async || client.tools().await.unwrap().contains(&read);
        until("the read tools are shown", SOON, shown).await.unwrap();
        assert!(!client.tools().await.unwrap().contains(&write), "{write} was granted by nobody");
    }
}

#[tokio::test]
async fn g3_classify_agrees_with_the_demo_servers_and_never_calls_a_write_a_read() {
    let dev = Dev::start().await;
    for id in ["tracker", "wiki", "code"] {
        let arguments = ["server", "classify", id, "-c", &dev.text("config"), "--json"];
        let said = run_in(Path::new("/"), &arguments, &[], "").ok().json();
        let tools = said["tools"].as_array().unwrap();
        assert!(tools.len() >= 7, "{said}");
        for tool in tools {
            let (class, reviewed) = (tool["class"].as_str().unwrap(), tool["reviewed"].as_str().unwrap());
            assert!(class != "read" || reviewed == "read", "{tool}");
            assert!(!tool["reasons"].as_array().unwrap().is_empty());
        }
        let right = tools.iter().filter(|tool| tool["class"] == tool["reviewed"]).count();
        assert!(right * 10 >= tools.len() * 8, "{right} of {}: {said:#}", tools.len());
    }
    let arguments = ["server", "classify", "wikki", "-c", &dev.text("config")];
    let printed = run_in(Path::new("/"), &arguments, &[], "");
    assert_eq!(printed.code, 1);
    assert!(printed.stderr.contains("did you mean `wiki`?"), "{}", printed.stderr);
}

#[tokio::test]
async fn g3_a_server_that_cannot_be_asked_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("b.yaml"),
        "egress: { private_allow: [127.0.0.1] }\nlimits: { connect_ms: 500 }\nservers:\n  - server_id: gone\n    \
         hostname: http://127.0.0.1:1/mcp\n    visibility: public\n",
    )
    .unwrap();
    let printed = run_in(folder.path(), &["server", "classify", "gone", "-c", "b.yaml"], &[], "");
    assert_eq!((printed.code, printed.stdout.as_str()), (2, ""));
    assert!(printed.stderr.contains("[upstream_unavailable]"), "{}", printed.stderr);
}
