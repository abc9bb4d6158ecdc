//! `bartizan dev` (U1, U2).
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod common;

use std::path::Path;
use std::time::Duration;

use bartizan_testkit::client::{Identity, LegacyClient, ModernClient};
use bartizan_testkit::http::Http;

use common::{BIN, Dev, run, run_in};
use rustix::process::Signal;
use serde_json::{Value, json};

#[tokio::test]
async fn u1_prints_one_object_on_one_line() {
    let dev = Dev::start().await;
    let stdout = dev.process.stdout();
    assert_eq!(stdout.trim_end().lines().count(), 1, "{stdout}");
    let all = &dev.announced;
    assert!(all["mcp_url"].as_str().unwrap().starts_with("http://127.0.0.1:"));
    for later in ["console_url", "admin_link"] {
        assert!(all.as_object().unwrap().contains_key(later), "{later}");
    }
    let users = all["users"].as_array().unwrap();
    assert!(users.len() >= 3);
    for user in users {
        assert!(user["name"].is_string() && user["groups"].is_array());
        assert!(user["token"].as_str().unwrap().len() > 32);
    }
    let servers = all["servers"].as_array().unwrap();
    let eras: Vec<&str> = servers.iter().map(|server| server["era"].as_str().unwrap()).collect();
    assert_eq!(eras, ["legacy", "modern", "both"]);
    assert!(all["audit_command"].as_str().unwrap().contains(" audit search --denied"));
}

#[tokio::test]
async fn u1_text_has_entries_for_three_clients_and_a_loud_warning() {
    let mut command = tokio::process::Command::new(BIN);
    command.args(["dev", "--listen", "127.0.0.1:0"]);
    let mut process = bartizan_testkit::process::Process::start(&mut command).unwrap();
    let seen = process.line(Duration::from_secs(60), |line| line.contains("Ctrl-C").then_some(())).await;
    seen.unwrap();
    let (stdout, stderr) = (process.stdout(), process.stderr());
    for part in [
        "claude mcp add --transport http bartizan http://127.0.0.1:",
        "--header \"Authorization: Bearer bzd_alice_",
        ".vscode/mcp.json",
        "{\"servers\":{\"bartizan\":{\"type\":\"http\"",
        "~/.cursor/mcp.json",
        "{\"mcpServers\":{\"bartizan\":{\"url\":",
        "audit search --denied",
    ] {
        assert!(stdout.contains(part), "{part} is missing in\n{stdout}");
    }
    assert!(stderr.contains("on this machine only"), "{stderr}");
    assert!(!stdout.contains('\u{1b}'), "no colours into a pipe");
}

#[tokio::test]
async fn u1_ten_reads_and_a_granted_write_for_both_eras() {
    let dev = Dev::start().await;
    let url = dev.text("mcp_url");
    let alice = ModernClient::new(&url, Identity::bearer(&dev.token("alice")));
    let carol = LegacyClient::connect(&url, Identity::bearer(&dev.token("carol"))).await.unwrap();
    let of_alice = alice.tools().await.unwrap();
    let of_carol = carol.tools().await.unwrap();
    assert!(of_carol.len() >= 11, "{of_carol:?}");
    assert!(of_alice.contains(&"tracker_create_issue".to_owned()));
    assert!(!of_carol.contains(&"tracker_create_issue".to_owned()), "carol was granted nothing");
    for destructive in ["tracker_delete_issue", "wiki_delete_page", "code_delete_branch"] {
        assert!(!of_alice.contains(&destructive.to_owned()));
    }
    let made = alice.call("tracker_create_issue", json!({"project": "WEB", "title": "From a test"})).await.unwrap();
    assert!(!made.is_error(), "{:?}", made.result);
    let found = carol.call("tracker_search_issues", json!({"query": "from a test"})).await.unwrap();
    assert_eq!(found.result["structuredContent"]["total"], 1);
    for (tool, arguments) in [
        ("wiki_get_page", json!({"slug": "how-we-release"})),
        ("code_search_code", json!({"query": "TODO"})),
        ("tracker_get_issue", json!({"issue": "WEB-1"})),
    ] {
        assert!(!carol.call(tool, arguments.clone()).await.unwrap().is_error(), "{tool}");
        assert!(!alice.call(tool, arguments).await.unwrap().is_error(), "{tool}");
    }
}

#[tokio::test]
async fn u1_the_printed_command_shows_the_first_denied_call() {
    let dev = Dev::start().await;
    let bob = ModernClient::new(&dev.text("mcp_url"), Identity::bearer(&dev.token("bob")));
    let ask = |amount: i64| json!({"project": "FIN", "amount": amount, "reason": "a test"});
    assert!(!bob.call("tracker_request_budget", ask(1000)).await.unwrap().is_error());
    for amount in [1001, 5000] {
        let refused = bob.call("tracker_request_budget", ask(amount)).await.unwrap();
        assert_eq!(refused.decision()["code"], "policy_denied");
    }
    // Exactly as a person would paste it.
    let shell = |command: &str| {
        let output = std::process::Command::new("sh").args(["-c", command]).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, stdout, stderr) = shell(&dev.text("audit_command"));
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    for part in ["user:bob", "tracker.request_budget", "policy_denied", "small-budgets-only"] {
        assert!(stdout.contains(part), "{part} is missing in\n{stdout}");
    }
    let (_, stdout, stderr) = shell(&format!("{} --json", dev.text("audit_command")));
    let found: Value = serde_json::from_str(&stdout).unwrap_or_else(|e| panic!("{e}: {stdout}{stderr}"));
    assert_eq!(found["events"].as_array().unwrap().len(), 1);
    assert_eq!(found["events"][0]["who"]["principal"], "user:bob");
    let (code, stdout, stderr) = shell(&dev.text("explain_command"));
    assert_eq!(code, Some(1), "{stdout}{stderr}");
    assert!(stdout.contains("authorize  REFUSED  policy_denied"), "{stdout}");
}

#[tokio::test]
async fn u2_dev_removes_its_data_at_the_end() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let mut dev = Dev::start().await;
        let folder = dev.text("data_dir");
        assert!(Path::new(&folder).is_dir());
        dev.process.signal(signal).unwrap();
        let status = dev.process.ended(Duration::from_secs(60)).await.unwrap();
        assert_eq!(status.code(), Some(0), "{signal:?}");
        assert!(!Path::new(&folder).exists(), "{signal:?}");
    }
}

#[tokio::test]
async fn u2_the_next_dev_removes_what_a_killed_one_left() {
    let mut killed = Dev::start().await;
    let folder = killed.text("data_dir");
    killed.process.kill().await.unwrap();
    assert!(Path::new(&folder).exists());
    let next = Dev::start().await;
    assert!(!Path::new(&folder).exists());
    assert!(Path::new(&next.text("data_dir")).exists(), "a running one is left alone");
}

#[test]
fn u2_dev_refuses_what_is_for_serve_with_a_code() {
    for (arguments, code) in [
        (&["dev", "--listen", "0.0.0.0:0"][..], "dev_loopback_only"),
        (&["dev", "--listen", "[::]:0"], "dev_loopback_only"),
        (&["dev", "--listen", "192.0.2.1:7420"], "dev_loopback_only"),
        (&["dev", "--listen", "127.0.0.1:0", "--data-dir", "/tmp"], "dev_no_data_dir"),
    ] {
        let printed = run(arguments);
        assert_eq!(printed.code, 2, "{arguments:?}");
        assert!(printed.stderr.contains(&format!("[{code}]")), "{}", printed.stderr);
        assert_eq!(printed.stdout, "");
        let mut with_json = arguments.to_vec();
        with_json.push("--json");
        let printed = run(&with_json);
        let error: Value = serde_json::from_str(&printed.stderr).unwrap();
        assert_eq!(error["error"]["code"], code);
    }
}

#[tokio::test]
async fn u2_the_environment_of_serve_does_not_reach_dev() {
    let mut command = tokio::process::Command::new(BIN);
    command.args(["dev", "--json", "--listen", "127.0.0.1:0"]);
    command.env("BARTIZAN_LISTEN", "0.0.0.0:7420").env("BARTIZAN_STORE__DATA_DIR", "/nonexistent");
    let mut process = bartizan_testkit::process::Process::start(&mut command).unwrap();
    let line = process.line(Duration::from_secs(60), |line| line.starts_with('{').then(|| line.to_owned())).await;
    let announced: Value = serde_json::from_str(&line.unwrap()).unwrap();
    assert!(announced["mcp_url"].as_str().unwrap().starts_with("http://127.0.0.1:"));
    assert!(!announced["data_dir"].as_str().unwrap().contains("nonexistent"));
}

#[tokio::test]
async fn u2_serve_refuses_what_dev_wrote() {
    let dev = Dev::start().await;
    let printed = run_in(Path::new("/"), &["serve", "-c", &dev.text("config")], &[], "");
    assert_eq!(printed.code, 1, "{}", printed.stderr);
    assert!(printed.stderr.contains("[missing_setting]"), "{}", printed.stderr);
}

#[test]
fn u2_serve_refuses_demo_keys_and_missing_settings_with_a_code() {
    let folder = tempfile::tempdir().unwrap();
    let write = |text: &str| std::fs::write(folder.path().join("b.yaml"), text).unwrap();
    let good = "public_url: https://mcp.example.com\nlisten: 127.0.0.1:0\noperations: { listen: 127.0.0.1:0 }\nkey: { env: K }\n";
    let demo = "bartizan demo key, do not use it";
    for (text, key, code) in [
        (good.to_owned(), demo, "demo_key"),
        (good.to_owned(), "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "demo_key"),
        (good.to_owned(), "too short", "bad_key"),
        (
            good.replace("public_url: https://mcp.example.com\n", ""),
            "0123456789abcdefFEDCBA9876543210",
            "missing_setting",
        ),
        (good.replace("listen: 127.0.0.1:0\nop", "op"), "0123456789abcdefFEDCBA9876543210", "missing_setting"),
        (good.replace("key: { env: K }\n", ""), "0123456789abcdefFEDCBA9876543210", "missing_setting"),
    ] {
        write(&text);
        let printed = run_in(folder.path(), &["serve", "-c", "b.yaml"], &[("K", key)], "");
        assert_eq!(printed.code, 1, "{code}: {}", printed.stderr);
        assert!(printed.stderr.contains(&format!("[{code}]")), "{code}: {}", printed.stderr);
        assert!(!printed.stderr.contains(key), "the key is shown");
        assert!(!folder.path().join("bartizan-data").exists(), "nothing was started");
    }
}

#[tokio::test]
async fn u2_dev_accepts_no_token_but_those_it_printed() {
    let dev = Dev::start().await;
    let http = Http::new();
    let token = dev.token("alice");
    for bad in ["bzd_alice_", "alice", "", &token[..token.len() - 1]] {
        let header = format!("Bearer {bad}");
        let reply =
            http.send(http::Method::POST, &dev.text("mcp_url"), &[("authorization", &header)], "{}").await.unwrap();
        assert_eq!(reply.status, 401, "{bad}");
    }
}
