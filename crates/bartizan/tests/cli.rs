//! Manners of the command line (U13).
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod common;

use std::path::Path;

use common::{run, run_in};
use serde_json::Value;

/// Compares with a file in `tests/golden`; `UPDATE_GOLDEN=1` writes it anew.
fn golden(name: &str, text: &str) {
    let path = Path::new("tests/golden").join(name);
    if std::env::vars_os().any(|(name, _)| name == "UPDATE_GOLDEN") {
        std::fs::create_dir_all("tests/golden").unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, wanted, "{name} differs; UPDATE_GOLDEN=1 writes it anew");
}

#[test]
fn u13_help_of_every_command() {
    for command in [
        "",
        "dev",
        "serve",
        "check",
        "schema",
        "explain",
        "explain-code",
        "server classify",
        "token",
        "token create",
        "token rotate",
        "audit",
        "audit search",
        "audit verify",
        "status",
        "reload",
        "migrate",
        "backup",
        "restore",
        "completions",
    ] {
        let mut arguments: Vec<&str> = command.split_whitespace().collect();
        arguments.push("--help");
        let printed = run(&arguments).ok();
        assert_eq!(printed.stderr, "", "{command}");
        let name = if command.is_empty() { "bartizan".to_owned() } else { command.replace(' ', "-") };
        golden(&format!("help-{name}.txt"), &printed.stdout);
    }
}

#[test]
fn u13_usage_errors_are_on_stderr_with_code_2() {
    for arguments in [
        &["no-such-command"][..],
        &["check"],
        &["check", "-c", "x", "--format", "xml"],
        &["serve"],
        &["token", "create"],
        &["token", "create", "-c", "x", "n", "--ttl", "soon"],
        &["audit", "list", "--limit", "many"],
        &["dev", "--listen", "localhost"],
        &["explain", "--user", "x"],
    ] {
        let printed = run(arguments);
        assert_eq!((printed.code, printed.stdout.as_str()), (2, ""), "{arguments:?}");
        assert!(!printed.stderr.is_empty());
    }
}

#[test]
fn u13_missing_files_cannot_be_worked_with() {
    for arguments in [
        &["check", "-c", "none.yaml"][..],
        &["serve", "-c", "none.yaml"],
        &["status", "-c", "none.yaml"],
        &["token", "list", "-c", "none.yaml"],
        &["migrate", "--plan", "-c", "none.yaml"],
        &["audit", "list", "-c", "none.yaml"],
        &["audit", "list"],
        &["audit", "list", "--data-dir", "none"],
        &["explain", "-c", "none.yaml", "--user", "x", "--tool", "a.b"],
        &["server", "classify", "-c", "none.yaml", "a"],
        &["reload", "-c", "none.yaml"],
    ] {
        let printed = run(arguments);
        assert_eq!((printed.code, printed.stdout.as_str()), (2, ""), "{arguments:?} {}", printed.stderr);
        let mut with_json = arguments.to_vec();
        with_json.push("--json");
        let error: Value = serde_json::from_str(&run(&with_json).stderr).unwrap();
        assert!(error["error"]["code"].is_string(), "{arguments:?}");
    }
}

#[test]
fn u13_colours_only_when_asked_for() {
    let file = "tests/broken/01-unknown-server.yaml";
    assert!(!run(&["check", "-c", file, "--offline"]).stdout.contains('\u{1b}'));
    assert!(run(&["check", "-c", file, "--offline", "--color", "always"]).stdout.contains('\u{1b}'));
    assert!(!run(&["check", "-c", file, "--offline", "--color", "never"]).stdout.contains('\u{1b}'));
    assert!(!run(&["check", "-c", file, "--json", "--color", "always"]).stdout.contains('\u{1b}'));
}

#[test]
fn u13_schema_is_json_schema() {
    let schema: Value = serde_json::from_str(&run(&["schema"]).ok().stdout).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(schema["additionalProperties"], false);
    for key in ["public_url", "listen", "servers", "portals", "policies", "grants", "rate_limits", "resources"] {
        assert!(schema["properties"][key]["description"].as_str().is_some_and(|text| text.len() > 8), "{key}");
    }
    assert_eq!(run(&["schema", "--json"]).ok().stdout, run(&["schema"]).stdout);
}

#[test]
fn u13_completions_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = run(&["completions", shell]).ok().stdout;
        assert!(script.contains("bartizan") && script.contains("explain-code"), "{shell}");
        assert!(!script.contains("__child"), "{shell} shows the hidden command");
    }
}

#[test]
fn u13_explain_code() {
    let page = run(&["explain-code", "policy_denied"]).ok().stdout;
    assert!(page.starts_with("# policy_denied\n"), "{page}");
    let value = run(&["explain-code", "policy_denied", "--json"]).ok().json();
    assert_eq!((value["code"].as_str(), value["refusal"].as_bool()), (Some("policy_denied"), Some(true)));
    let all = run(&["explain-code", "--json"]).ok().json();
    assert!(all["codes"].as_array().unwrap().len() > 60);
    let printed = run(&["explain-code", "policy_denid"]);
    assert_eq!(printed.code, 1);
    assert!(printed.stderr.contains("did you mean `policy_denied`?"), "{}", printed.stderr);
}

#[test]
fn u13_version() {
    assert_eq!(run(&["--version"]).ok().stdout, format!("bartizan {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn u13_tokens_by_command_line() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("b.yaml"), "store: { data_dir: data }\n").unwrap();
    let token = |arguments: &[&str]| {
        let mut all = vec!["token"];
        all.extend(arguments);
        all.extend(["-c", "b.yaml", "--json"]);
        run_in(folder.path(), &all, &[], "")
    };
    let made = token(&["create", "ci", "--ttl", "90d"]).ok().json();
    let secret = made["client_secret"].as_str().unwrap();
    assert!(secret.starts_with("bzs_") && made["bearer"] == made["client_secret"]);
    assert!(made["client_id"].as_str().unwrap().starts_with("bzc_"));
    assert_eq!(token(&["create", "ci"]).code, 1);
    assert_eq!(token(&["create", "bad name"]).code, 1);
    let listed = token(&["list"]).ok();
    assert!(!listed.stdout.contains(secret), "the secret is listed");
    let entry = &listed.json()["tokens"][0];
    assert_eq!((entry["name"].as_str(), entry["last_used"].is_null()), (Some("ci"), true));
    assert!(entry["expires"].is_string());
    assert_eq!(token(&["suspend", "ci"]).ok().json()["changed"], true);
    assert_eq!(token(&["suspend", "ci"]).ok().json()["changed"], false);
    assert!(token(&["list"]).ok().json()["tokens"][0]["suspended"].is_string());
    assert_eq!(token(&["resume", "ci"]).ok().json()["changed"], true);
    let rotated = token(&["rotate", "ci", "--grace", "10m"]).ok().json();
    assert_ne!(rotated["client_secret"], made["client_secret"]);
    assert_eq!(rotated["grace_s"], 600);
    token(&["delete", "ci"]).ok();
    assert_eq!(token(&["delete", "ci"]).code, 1);
    assert_eq!(token(&["list"]).ok().json()["tokens"], serde_json::json!([]));
    // Only the owner may look at the data.
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(folder.path().join("data")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn u13_migrate_plan_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("b.yaml"), "store: { data_dir: data }\n").unwrap();
    let plan = run_in(folder.path(), &["migrate", "--plan", "-c", "b.yaml", "--json"], &[], "").ok().json();
    assert!(plan["current"].is_null() && !plan["pending"].as_array().unwrap().is_empty());
    assert!(!folder.path().join("data").exists(), "planning made a file");
    run_in(folder.path(), &["migrate", "-c", "b.yaml"], &[], "").ok();
    let plan = run_in(folder.path(), &["migrate", "--plan", "-c", "b.yaml", "--json"], &[], "").ok().json();
    assert_eq!((plan["current"].clone(), plan["pending"].as_array().unwrap().len()), (plan["known"].clone(), 0));
}
