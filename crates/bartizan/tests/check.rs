//! `bartizan check` (U4), and the examples in `deploy/examples` (U3).
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod common;

use std::path::{Path, PathBuf};
use std::time::Duration;

use bartizan_testkit::http::Http;
use bartizan_testkit::process::Process;
use bartizan_testkit::wait;
use common::{BIN, run, run_in};
use serde_json::Value;

/// Values for what the examples take from the environment.
const SECRETS: [(&str, &str); 5] = [
    ("BARTIZAN_MASTER_KEY", "MDEyMzQ1Njc4OWFiY2RlZkZFRENCQTk4NzY1NDMyMTA="),
    ("TRACKER_TOKEN", "tracker-token-for-a-test"),
    ("LEDGER_KEY", "ledger-key-for-a-test"),
    ("OIDC_SECRET", "oidc-secret-for-a-test"),
    ("DATABASE_URL", "postgres://bartizan@127.0.0.1:1/bartizan"),
];

fn broken() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir("tests/broken").unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|end| end == "yaml"));
    files.sort();
    files
}

fn examples() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/examples");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|end| end == "yaml"));
    files.push(root.join("folder/bartizan.yaml"));
    files.sort();
    files
}

#[test]
fn u4_broken_resources_give_their_reports() {
    let update = std::env::vars_os().any(|(name, _)| name == "UPDATE_GOLDEN");
    let key = [("MASTER_KEY", "0123456789abcdefFEDCBA9876543210")];
    let mut wrong = Vec::new();
    for file in broken() {
        let arguments = ["check", "--offline", "-c", file.to_str().unwrap()];
        let printed = run_in(Path::new(env!("CARGO_MANIFEST_DIR")), &arguments, &key, "");
        assert_eq!(printed.code, 1, "{}: {}{}", file.display(), printed.stdout, printed.stderr);
        assert!(!printed.stdout.contains("hunter2"), "{} shows a secret", file.display());
        let golden = file.with_extension("txt");
        if update {
            std::fs::write(&golden, &printed.stdout).unwrap();
        } else if std::fs::read_to_string(&golden).unwrap_or_default() != printed.stdout {
            wrong.push(format!("{}:\n{}", file.display(), printed.stdout));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn u4_problems_of_all_layers_come_at_once() {
    let key = [("MASTER_KEY", "too short")];
    let arguments = ["check", "--offline", "--json", "-c", "tests/broken/17-all-layers-at-once.yaml"];
    let found = run_in(Path::new(env!("CARGO_MANIFEST_DIR")), &arguments, &key, "").json();
    let codes: Vec<&str> =
        found["problems"].as_array().unwrap().iter().map(|problem| problem["code"].as_str().unwrap()).collect();
    for code in ["out_of_range", "unknown_key", "unknown_server", "policy_syntax", "bad_key"] {
        assert!(codes.contains(&code), "{code} is missing in {codes:?}");
    }
}

#[test]
fn u4_the_exit_code_and_the_formats() {
    let broken = "tests/broken/01-unknown-server.yaml";
    let check = |arguments: &[&str]| {
        let mut all = vec!["check", "--offline"];
        all.extend(arguments);
        run(&all)
    };
    assert_eq!(check(&["-c", broken]).code, 1);
    assert_eq!(check(&["-c", "none.yaml"]).code, 2);
    assert_eq!(check(&["-c", broken, "--json"]).stdout, check(&["-c", broken, "--format", "json"]).stdout);
    let github = check(&["-c", broken, "--format", "github"]).stdout;
    assert!(
        github.lines().all(|line| line.starts_with("::error file=tests/broken/01-unknown-server.yaml,line=")),
        "{github}"
    );
    let sarif: Value = serde_json::from_str(&check(&["-c", broken, "--format", "sarif"]).stdout).unwrap();
    assert_eq!(sarif["runs"][0]["tool"]["driver"]["name"], "bartizan");
    assert!(!sarif["runs"][0]["results"].as_array().unwrap().is_empty());
    let rules = sarif["runs"][0]["tool"]["driver"]["rules"].as_array().unwrap();
    for result in sarif["runs"][0]["results"].as_array().unwrap() {
        assert!(rules.iter().any(|rule| rule["id"] == result["ruleId"]));
    }
}

#[test]
fn u4_rules_that_never_decide_are_warnings_in_every_format() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let key = [("MASTER_KEY", "0123456789abcdefFEDCBA9876543210")];
    let file = "tests/broken/19-rules-that-never-decide.yaml";
    let check = |format: &str| run_in(folder, &["check", "--offline", "-c", file, "--format", format], &key, "").stdout;
    let json: Value = serde_json::from_str(&check("json")).unwrap();
    assert_eq!((&json["errors"], &json["warnings"]), (&Value::from(0), &Value::from(13)));
    let sarif: Value = serde_json::from_str(&check("sarif")).unwrap();
    let (text, github) = (check("text"), check("github"));
    for (at, problem) in json["problems"].as_array().unwrap().iter().enumerate() {
        let (code, line, column) = (problem["code"].as_str().unwrap(), &problem["line"], &problem["column"]);
        assert_eq!(problem["severity"], "warning");
        assert!(text.contains(&format!("--> {file}:{line}:{column}\n")), "{problem}");
        let annotation = format!("::warning file={file},line={line},col={column},title={code}::");
        assert!(github.lines().nth(at).unwrap().starts_with(&annotation), "{problem}");
        let result = &sarif["runs"][0]["results"][at];
        let region = &result["locations"][0]["physicalLocation"]["region"];
        assert_eq!((&result["ruleId"], &result["level"]), (&Value::from(code), &Value::from("warning")));
        assert_eq!((&region["startLine"], &region["startColumn"]), (line, column));
    }
}

#[test]
fn u4_names_and_databases_are_only_reached_without_offline() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("b.yaml"),
        "public_url: https://mcp.example.com\nlisten: 127.0.0.1:0\nkey: { env: MASTER_KEY }\n\
         store: { url: 'postgres://bartizan@127.0.0.1:1/none' }\n\
         servers:\n  - { server_id: a, hostname: 'https://no-such-name.invalid/mcp', visibility: public }\n\
         portals:\n  - id: default\n    policies: [{ action: allow, include: [{ everyone: true }] }]\n",
    )
    .unwrap();
    let key = [("MASTER_KEY", "0123456789abcdefFEDCBA9876543210")];
    assert_eq!(run_in(folder.path(), &["check", "-c", "b.yaml", "--offline"], &key, "").code, 0);
    let found = run_in(folder.path(), &["check", "-c", "b.yaml", "--json"], &key, "").json();
    let mut codes: Vec<&str> =
        found["problems"].as_array().unwrap().iter().map(|p| p["code"].as_str().unwrap()).collect();
    codes.sort_unstable();
    assert_eq!(codes, ["bad_store", "unreachable_host"]);
}

#[test]
fn u3_examples_have_no_findings() {
    for file in examples() {
        let arguments = ["check", "--offline", "-c", file.to_str().unwrap()];
        let printed = run_in(Path::new("/"), &arguments, &SECRETS, "");
        assert_eq!((printed.code, printed.stdout.as_str()), (0, ""), "{}: {}", file.display(), printed.stderr);
    }
}

#[tokio::test]
async fn u3_examples_all_start() {
    let http = Http::new();
    for file in examples() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let mut command = tokio::process::Command::new(BIN);
        command.args(["serve", "-c"]).arg(&file);
        command.args(["--listen", "127.0.0.1:0", "--operations", "127.0.0.1:0", "--data-dir"]).arg(&data);
        command.envs(SECRETS).env("BARTIZAN_LIMITS__DRAIN_WAIT_MS", "0");
        // No database server belongs to this test.
        command.env("BARTIZAN_STORE__URL", format!("sqlite:{}", data.join("test.sqlite").display()));
        command.env_remove("BARTIZAN_CONFIG");
        let mut process = Process::start(&mut command).unwrap();
        let state = data.join("process.json");
        let mut described = Value::Null;
        let ready = wait::until("the example serves", Duration::from_secs(60), async || {
            described =
                std::fs::read(&state).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
            !process.running() || described["phase"] == "serving"
        })
        .await;
        assert!(ready.is_ok() && process.running(), "{}: {}", file.display(), process.stderr());
        let operations = described["operations"].as_str().unwrap();
        let (status, text) = http.get(&format!("http://{operations}/readyz")).await.unwrap();
        assert_eq!(status, 200, "{}: {text}", file.display());
        // Without a credential, nothing but what is public.
        let url = format!("http://{}/mcp", described["listen"].as_str().unwrap());
        let host = described["public_url"].as_str().unwrap().strip_prefix("https://").unwrap().to_owned();
        let reply = http.send(http::Method::POST, &url, &[("host", &host)], "{}").await.unwrap();
        assert!([400, 401].contains(&reply.status), "{}: {}", file.display(), reply.status);
        let ended = process.terminate(Duration::from_secs(60)).await.unwrap();
        assert_eq!(ended.code(), Some(0), "{}", process.stderr());
        assert!(!state.exists(), "the description of an ended process is left");
    }
}
