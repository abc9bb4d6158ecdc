//! Commands of the binary beside a running product: rows A11, G3, G24 in part, O11, U6, L7.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use std::time::Duration;

use bartizan_testkit::client::{Identity, LegacyClient, ModernClient};
use bartizan_testkit::fixture::{Era, Fixture, Options};
use bartizan_testkit::product::{Config, Product, all_services, http_server, stdio_server};
use bartizan_testkit::servers;
use bartizan_testkit::tools::{self, Part};
use bartizan_testkit::wait::until;
use rustix::process::Signal;
use serde_json::{Value, json};

fn ready(test: &str) -> bool {
    tools::ready(test, &[Part::Product])
}

async fn run(product: &Product, args: &[&str]) -> Value {
    let output = product.command(args).await.unwrap();
    assert_eq!(output.code, Some(0), "{args:?}: {output:?}");
    serde_json::from_str(output.stdout.trim()).unwrap_or(Value::Null)
}

#[tokio::test(flavor = "multi_thread")]
async fn g3_classify_makes_the_reads_of_a_real_server_visible_after_one_paste() {
    let test = "g3_classify_makes_the_reads_of_a_real_server_visible_after_one_paste";
    if !tools::ready(test, &[Part::Product, Part::Npm, Part::Servers]) {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let every = servers::everything("streamableHttp").await.unwrap();
    let entries = |classes: Option<Value>| {
        let mut all = vec![
            http_server("every", &every.url, &[]),
            stdio_server("files", servers::filesystem(scratch.path()), &[]),
            stdio_server("memory", servers::memory(), &[]),
            stdio_server("time", servers::time(), &[]),
        ];
        for entry in &mut all {
            let id = entry["server_id"].as_str().unwrap().to_owned();
            entry.as_object_mut().unwrap().remove("classes");
            if let Some(classes) = &classes {
                entry["classes"] = classes[&id].clone();
            }
        }
        all
    };
    // Node and Python servers take their time to start on a busy machine.
    let patient = json!({"list_ms": 60_000, "drain_wait_ms": 100});
    let with = |all: Vec<Value>| all.into_iter().fold(Config::new().set("limits", patient.clone()), Config::server);
    let mut product = Product::serve(with(entries(None))).await.unwrap();
    let client = ModernClient::new(&product.url(), Identity::bearer(product.token("agent")));
    let own = async |client: &ModernClient| {
        let mut names = client.tools().await.unwrap();
        names.retain(|name| !name.starts_with("portal_"));
        names
    };
    assert_eq!(own(&client).await, Vec::<String>::new(), "something is listed before any review");
    let mut classes = json!({});
    for id in ["every", "files", "memory", "time"] {
        let proposed = run(&product, &["server", "classify", id, "--json"]).await;
        let mut of = json!({"read": [], "write": [], "destructive": []});
        for tool in proposed["tools"].as_array().unwrap() {
            if let Some(list) = of[tool["class"].as_str().unwrap()].as_array_mut() {
                list.push(tool["name"].clone());
            }
        }
        classes[id] = of;
    }
    let has = |id: &str, class: &str, name: &str| classes[id][class].as_array().unwrap().contains(&json!(name));
    assert!(has("files", "read", "read_text_file") && has("files", "read", "list_directory"), "{classes:#}");
    assert!(!has("files", "read", "write_file") && !has("files", "read", "move_file"), "{classes:#}");
    assert!(has("memory", "read", "read_graph") && !has("memory", "read", "delete_entities"), "{classes:#}");
    assert!(has("time", "read", "get_current_time"), "{classes:#}");
    product.rewrite(with(entries(Some(classes.clone())))).unwrap();
    product.process().signal(Signal::HUP).unwrap();
    let listed = async || own(&client).await.contains(&"files_read_text_file".to_owned());
    until("the reviewed reads are listed", Duration::from_secs(20), listed).await.unwrap();
    let names = own(&client).await;
    for id in ["every", "files", "memory", "time"] {
        for name in classes[id]["read"].as_array().unwrap() {
            let exposed = format!("{id}_{}", name.as_str().unwrap());
            assert!(names.contains(&exposed), "{exposed} is not in {names:?}");
        }
    }
    assert!(!names.contains(&"files_write_file".to_owned()), "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a11_rotation_suspension_and_removal_work_on_a_running_product() {
    if !ready("a11_rotation_suspension_and_removal_work_on_a_running_product") {
        return;
    }
    let fixture = Fixture::start(Options::of(Era::Both)).await.unwrap();
    let server = http_server("fx", &fixture.url(), &["test_simple_text".to_owned()]);
    let product = Product::serve(Config::new().server(server)).await.unwrap();
    let at = |token: &str| ModernClient::new(&product.url(), Identity::bearer(token));
    let good = async |token: &str| match at(token).call("fx_test_simple_text", json!({})).await {
        Ok(_) => true,
        Err(problem) => {
            assert_eq!(problem.status, 401, "{problem}");
            false
        }
    };
    let soon = Duration::from_secs(5);
    let first = product.token("agent").to_owned();
    // An open legacy session of the token ends with it too.
    let session = LegacyClient::connect(&product.url(), Identity::bearer(&first)).await.unwrap();
    assert!(good(&first).await);
    run(&product, &["token", "suspend", "agent", "--json"]).await;
    until("the suspended token is refused", soon, async || !good(&first).await).await.unwrap();
    assert_eq!(session.call("fx_test_simple_text", json!({})).await.unwrap_err().status, 401);
    run(&product, &["token", "resume", "agent", "--json"]).await;
    until("the resumed token is good", soon, async || good(&first).await).await.unwrap();
    let rotated = run(&product, &["token", "rotate", "agent", "--grace", "3s", "--json"]).await;
    let second = rotated["bearer"].as_str().unwrap().to_owned();
    assert_ne!(first, second);
    until("the new secret is good", soon, async || good(&second).await).await.unwrap();
    until("the old secret ends with its grace", Duration::from_secs(15), async || !good(&first).await).await.unwrap();
    assert!(good(&second).await);
    let listed = run(&product, &["token", "list", "--json"]).await;
    assert!(!listed.to_string().contains(&second), "the list shows a secret");
    assert!(listed["tokens"][0]["last_used"].is_string() || listed["tokens"][0]["last_used"].is_null(), "{listed}");
    run(&product, &["token", "delete", "agent", "--json"]).await;
    until("the removed token is refused", soon, async || !good(&second).await).await.unwrap();
    let short = run(&product, &["token", "create", "short", "--ttl", "2s", "--json"]).await;
    let short = short["bearer"].as_str().unwrap().to_owned();
    until("a new token is good without a restart", soon, async || good(&short).await).await.unwrap();
    until("it expires", Duration::from_secs(15), async || !good(&short).await).await.unwrap();
    for secret in [first, second, short] {
        assert_eq!(product.leaks(&secret).unwrap(), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g24_a_killed_server_is_gone_at_once_and_recorded_as_killed() {
    if !ready("g24_a_killed_server_is_gone_at_once_and_recorded_as_killed") {
        return;
    }
    let fixture = Fixture::start(Options::of(Era::Both)).await.unwrap();
    let server = |status: &str| {
        let mut server = http_server("fx", &fixture.url(), &["test_simple_text".to_owned()]);
        server["status"] = json!(status);
        Config::new().server(server)
    };
    let mut product = Product::serve(server("enabled")).await.unwrap();
    let client = ModernClient::new(&product.url(), Identity::bearer(product.token("agent")));
    assert!(client.call("fx_test_simple_text", json!({})).await.is_ok());
    product.rewrite(server("killed")).unwrap();
    product.process().signal(Signal::HUP).unwrap();
    let dead = async || client.call("fx_test_simple_text", json!({})).await.is_err();
    until("the server is gone", Duration::from_secs(5), dead).await.unwrap();
    assert!(!client.tools().await.unwrap().contains(&"fx_test_simple_text".to_owned()));
    let before = fixture.stats().of("tool:test_simple_text");
    assert_eq!(client.call("fx_test_simple_text", json!({})).await.unwrap_err().code, -32602);
    assert_eq!(fixture.stats().of("tool:test_simple_text"), before);
    let killed = product.audit().unwrap().iter().any(|record| record["verdict"]["code"] == "killed");
    assert!(killed, "no record says killed");
}

#[tokio::test(flavor = "multi_thread")]
async fn o11_limits_count_exactly_and_say_when_to_come_back() {
    if !ready("o11_limits_count_exactly_and_say_when_to_come_back") {
        return;
    }
    let fixture = Fixture::start(Options::of(Era::Both)).await.unwrap();
    let server = http_server("fx", &fixture.url(), &["test_simple_text".to_owned(), "test_slow".to_owned()]);
    let limit =
        json!({"id": "five", "per": ["user", "tool"], "server": "fx", "tools": ["test_simple_text"], "per_minute": 5});
    let one = json!({"id": "one", "per": ["user"], "server": "fx", "tools": ["test_slow"], "concurrent": 1});
    let config = Config::new().server(server).with("rate_limits", limit).with("rate_limits", one).token("other");
    let product = Product::serve(config).await.unwrap();
    let client = ModernClient::new(&product.url(), Identity::bearer(product.token("agent")));
    let mut refused = Vec::new();
    for _ in 0..8 {
        let done = client.call("fx_test_simple_text", json!({})).await.unwrap();
        if done.is_error() {
            refused.push(done.decision().clone());
        }
    }
    assert_eq!(fixture.stats().of("tool:test_simple_text"), 5);
    assert_eq!(refused.len(), 3, "{refused:?}");
    assert!(refused.iter().all(|decision| decision["code"] == "rate_limited"), "{refused:?}");
    assert!(refused[0]["retry_after_s"].as_u64().is_some_and(|wait| (1..=60).contains(&wait)), "{refused:?}");
    // Another caller has his own five.
    let other = ModernClient::new(&product.url(), Identity::bearer(product.token("other")));
    assert!(!other.call("fx_test_simple_text", json!({})).await.unwrap().is_error());
    let slow = json!({"ms": 700});
    let (first, second) = tokio::join!(client.call("fx_test_slow", slow.clone()), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        client.call("fx_test_slow", slow.clone()).await
    });
    assert!(!first.unwrap().is_error());
    assert_eq!(second.unwrap().decision()["code"], "rate_limited");
    assert!(!client.call("fx_test_slow", slow).await.unwrap().is_error(), "the slot was not given back");
}

#[tokio::test(flavor = "multi_thread")]
async fn u6_explain_says_what_the_live_product_does() {
    if !ready("u6_explain_says_what_the_live_product_does") {
        return;
    }
    let fixture = Fixture::start(Options::of(Era::Both)).await.unwrap();
    let mut server = http_server("fx", &fixture.url(), &["test_simple_text".to_owned(), "test_slow".to_owned()]);
    server["classes"]["write"] = json!(["test_write_note"]);
    server["updated_tools"] = json!([{"name": "test_echo", "enabled": false}]);
    let mut closed = http_server("closed", &fixture.url(), &["test_simple_text".to_owned()]);
    closed["policies"] = json!([{"action": "service_auth", "include": [{"service_token": ["other"]}]}]);
    let forbid = r#"forbid(principal, action == Action::"call_tool", resource)
        when { context.args has ms && context.args.ms > 10 };"#;
    let config = Config::new()
        .server(server)
        .server(closed)
        .token("other")
        .with("grants", json!({"id": "g", "principals": ["service:other"], "server": "fx", "classes": ["write"]}))
        .with("policies", json!({"id": "short", "cedar": forbid}))
        .with("portals", json!({"id": "second", "servers": ["closed"], "policies": all_services()}));
    let product = Product::serve(config).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        ("test_simple_text", json!({})),
        ("test_slow", json!({"ms": 5})),
        ("test_slow", json!({"ms": 500})),
        ("test_write_note", json!({"text": "x"})),
        ("test_delete_notes", json!({})),
        ("test_echo", json!({})),
    ];
    for who in ["agent", "other"] {
        let client = ModernClient::new(&product.url(), Identity::bearer(product.token(who)));
        for (server, cases) in [("fx", &cases[..]), ("closed", &cases[..1])] {
            for (tool, args) in cases {
                let file = folder.path().join("args.json");
                std::fs::write(&file, args.to_string()).unwrap();
                let name = format!("{server}.{tool}");
                let user = format!("service:{who}");
                let file = file.display().to_string();
                let words = ["explain", "--user", &user, "--tool", &name, "--args", &file, "--json"];
                let output = product.command(&words).await.unwrap();
                let said: Value = serde_json::from_str(output.stdout.trim()).unwrap();
                let live = client.call(&format!("{server}_{tool}"), args.clone()).await;
                let allowed = live.as_ref().is_ok_and(|done| !done.is_error());
                assert_eq!(said["allowed"], allowed, "{who} {name} {args}: {said:#}\nlive: {live:?}");
                let visible = live.is_ok();
                assert_eq!(said["visible"], visible, "{who} {name} {args}: {said:#}");
                if let Ok(done) = &live
                    && done.is_error()
                {
                    assert_eq!(said["code"], done.decision()["code"], "{who} {name} {args}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn l7_metrics_count_calls_and_refusals_with_bounded_labels() {
    if !ready("l7_metrics_count_calls_and_refusals_with_bounded_labels") {
        return;
    }
    let fixture = Fixture::start(Options { extra_tools: 500, ..Options::of(Era::Both) }).await.unwrap();
    let server = http_server("fx", &fixture.url(), &fixture.tool_names());
    let product = Product::serve(Config::new().server(server)).await.unwrap();
    let client = ModernClient::new(&product.url(), Identity::bearer(product.token("agent")));
    client.tools().await.unwrap();
    for number in 0..100 {
        client.call(&format!("fx_extra_{number:05}"), json!({})).await.unwrap();
        assert!(client.call(&format!("fx_unknown_{number}"), json!({})).await.is_err());
    }
    let (_, metrics) = product.http.get(&product.operations_url("/metrics")).await.unwrap();
    let series = metrics.lines().filter(|line| !line.starts_with('#')).count();
    assert!(series < 400, "{series} series after 100 tools and 100 unknown names");
    assert!(!metrics.contains("extra_000") && !metrics.contains("unknown_"), "tool names are labels");
    assert!(metrics.contains("fx"), "{metrics}");
    assert!(!metrics.contains(product.token("agent")));
}

#[tokio::test(flavor = "multi_thread")]
async fn g17_many_connections_to_local_servers_leave_no_process_behind() {
    let test = "g17_many_connections_to_local_servers_leave_no_process_behind";
    if !ready(test) {
        return;
    }
    let argv = json!([env!("CARGO_BIN_EXE_fixture"), "--stdio", "--era", "legacy"]);
    let mut server = stdio_server("fx", argv, &["test_simple_text"]);
    server["command"]["shared"] = json!(false);
    let mut product = Product::serve(Config::new().server(server).token("other")).await.unwrap();
    let children = |pid: u32| {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        tasks
            .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
            .map(|children| children.split_whitespace().count())
            .sum::<usize>()
    };
    let pid = product.pid().unwrap();
    for turn in 0..300 {
        let who = if turn % 2 == 0 { "agent" } else { "other" };
        let client = LegacyClient::connect(&product.url(), Identity::bearer(product.token(who)).declaring(json!({})))
            .await
            .unwrap();
        assert!(!client.call("fx_test_simple_text", json!({})).await.unwrap().is_error());
        client.close().await.unwrap();
    }
    let running = children(pid);
    assert!(running <= 4, "{running} local processes after 300 sessions of two callers");
    product.stop().await.unwrap();
}
