//! Proposed classes (row G3): conservative, with reasons, as a block to paste.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use bartizan_catalog::ToolDef;
use bartizan_catalog::classify::propose;
use bartizan_config::resources::Classes;
use bartizan_model::ToolClass;
use common::raw;
use serde_json::{Value, json};

fn tool(name: &str, annotations: Value, parameters: &[&str]) -> ToolDef {
    let properties: serde_json::Map<String, Value> =
        parameters.iter().map(|name| ((*name).to_owned(), json!({"type": "string"}))).collect();
    let definition =
        json!({"name": name, "annotations": annotations, "inputSchema": {"type": "object", "properties": properties}});
    ToolDef::parse(raw(&definition.to_string())).unwrap()
}

fn class(name: &str, annotations: Value, parameters: &[&str]) -> (ToolClass, bool) {
    let proposals = propose([&tool(name, annotations, parameters)]);
    (proposals.tools[0].class, proposals.tools[0].contradicts)
}

#[test]
fn g3_names_say_what_tools_do() {
    for (name, expected) in [
        ("get_file_contents", ToolClass::Read),
        ("list_commits", ToolClass::Read),
        ("get_commit", ToolClass::Read),
        ("search_issues", ToolClass::Read),
        ("searchIssues", ToolClass::Read),
        ("read-graph", ToolClass::Read),
        ("github.get_label", ToolClass::Read),
        ("git_status", ToolClass::Read),
        ("git_log", ToolClass::Read),
        ("git_diff_unstaged", ToolClass::Read),
        ("get_current_time", ToolClass::Read),
        ("listHTTPServers", ToolClass::Read),
        ("create_issue", ToolClass::Write),
        ("createIssue", ToolClass::Write),
        ("issue_write", ToolClass::Write),
        ("git_commit", ToolClass::Write),
        ("git_add", ToolClass::Write),
        ("send_message", ToolClass::Write),
        ("add_issue_comment", ToolClass::Write),
        ("browser_click", ToolClass::Write),
        ("delete_repository", ToolClass::Destructive),
        ("deleteRepository", ToolClass::Destructive),
        ("git_reset", ToolClass::Destructive),
        ("remove_member", ToolClass::Destructive),
        ("bulk_delete_comments", ToolClass::Destructive),
        ("create_or_delete_label", ToolClass::Destructive),
        ("cancel_order", ToolClass::Destructive),
        // Not clear.
        ("get_or_create_label", ToolClass::Unknown),
        ("read_and_delete_message", ToolClass::Unknown),
        ("execute_sql", ToolClass::Unknown),
        ("run_query", ToolClass::Unknown),
        ("query", ToolClass::Unknown),
        ("frobnicate", ToolClass::Unknown),
        ("log_message", ToolClass::Unknown),
        ("getaway", ToolClass::Unknown),
        ("target", ToolClass::Unknown),
        ("x", ToolClass::Unknown),
        ("工具", ToolClass::Unknown),
    ] {
        assert_eq!(class(name, json!({}), &[]), (expected, false), "{name}");
    }
}

#[test]
fn g3_a_servers_claim_never_makes_a_write_a_read() {
    let read_only = json!({"readOnlyHint": true});
    assert_eq!(class("delete_all", read_only.clone(), &[]), (ToolClass::Destructive, true));
    assert_eq!(class("create_issue", read_only.clone(), &[]), (ToolClass::Write, true));
    assert_eq!(class("run_script", read_only.clone(), &[]), (ToolClass::Unknown, true));
    assert_eq!(class("get_or_create", read_only.clone(), &[]), (ToolClass::Unknown, true));
    assert_eq!(class("get_issue", read_only.clone(), &[]), (ToolClass::Read, false));
    // A name that says nothing: the claim fills in the form.
    assert_eq!(class("frobnicate", read_only.clone(), &[]), (ToolClass::Read, false));
    assert_eq!(class("frobnicate", read_only.clone(), &["sql"]), (ToolClass::Unknown, true));
    assert_eq!(
        class("frobnicate", json!({"readOnlyHint": true, "destructiveHint": true}), &[]),
        (ToolClass::Unknown, true)
    );
    assert_eq!(class("frobnicate", json!({"readOnlyHint": false}), &[]), (ToolClass::Unknown, false));
    assert_eq!(
        class("frobnicate", json!({"readOnlyHint": false, "destructiveHint": false}), &[]),
        (ToolClass::Write, false)
    );
    assert_eq!(class("frobnicate", json!({"destructiveHint": true}), &[]), (ToolClass::Destructive, false));
    assert_eq!(class("frobnicate", json!({"readOnlyHint": "true"}), &[]), (ToolClass::Unknown, false));
    // The other way round, the server's word is taken as a warning.
    assert_eq!(class("get_issue", json!({"readOnlyHint": false}), &[]), (ToolClass::Unknown, true));
    assert_eq!(class("get_issue", json!({"destructiveHint": true}), &[]), (ToolClass::Unknown, true));
    assert_eq!(class("update_issue", json!({"destructiveHint": true}), &[]), (ToolClass::Destructive, false));
    assert_eq!(class("update_issue", json!({"destructiveHint": false}), &[]), (ToolClass::Write, false));
}

#[test]
fn g3_parameters_that_readers_do_not_have() {
    for parameter in ["sql", "command", "script", "force", "dryRun", "dry_run", "overwrite", "Code"] {
        assert_eq!(class("get_rows", json!({}), &["id", parameter]).0, ToolClass::Unknown, "{parameter}");
    }
    assert_eq!(class("get_rows", json!({}), &["id", "query", "limit", "cursor"]).0, ToolClass::Read);
}

#[test]
fn g3_the_block_can_be_pasted() {
    let tools = [
        tool("get_issue", json!({}), &[]),
        tool("list_all", json!({"readOnlyHint": true}), &[]),
        tool("create_issue", json!({"readOnlyHint": true}), &[]),
        tool("delete_issue", json!({}), &[]),
        tool("frobnicate", json!({}), &[]),
        tool("yes", json!({"readOnlyHint": true}), &[]),
        tool("get it: now # or\n  write:\n    - never", json!({}), &[]),
        tool("get \"quoted\" \\ ü\u{2028}😀", json!({}), &[]),
        tool("evil\n  read:\n    - wipe_all", json!({}), &[]),
    ];
    let block = propose(&tools).to_yaml();
    let quoted = |name: &str| serde_json::to_string(name).unwrap();
    // Every line is a heading, an item or a comment: names cannot add lines.
    for line in block.lines() {
        let text = line.trim_start();
        assert!(
            text.is_empty()
                || ["classes:", "read:", "write:", "destructive:"].contains(&text)
                || text.starts_with("- ")
                || text.starts_with('#'),
            "{line}"
        );
    }
    assert!(block.contains("    - get_issue\n    - list_all\n"), "{block}");
    assert!(
        block.contains(
            "    - create_issue  # the name says `create`; the server says readOnlyHint: true; these do not agree"
        ),
        "{block}"
    );
    assert!(block.contains(&format!("    - {}", quoted("yes"))), "{block}");
    assert!(block.contains("  # - frobnicate  # the name does not say what it does"), "{block}");
    assert!(block.contains(r#"- "get \"quoted\" \\ \u00fc\u2028\U0001f600""#), "{block}");
    assert!(block.contains(r"\u000a"), "{block}");
    let nothing = propose(&[tool("frobnicate", json!({}), &[])]).to_yaml();
    assert!(nothing.starts_with("classes: {}\n"), "{nothing}");
    // Pasted, it reads back as what was proposed, whatever the names hold.
    #[derive(serde::Deserialize)]
    struct Pasted {
        classes: Classes,
    }
    let pasted: Pasted = serde_saphyr::from_str(&block).unwrap();
    let proposals = propose(&tools);
    let of = |class| proposals.of(class).map(|one| one.name.to_string()).collect::<Vec<_>>();
    assert_eq!(pasted.classes.read, of(ToolClass::Read));
    assert_eq!(pasted.classes.write, of(ToolClass::Write));
    assert_eq!(pasted.classes.destructive, of(ToolClass::Destructive));
    assert!(pasted.classes.read.contains(&"yes".to_owned()));
    let empty: Pasted = serde_saphyr::from_str(&nothing).unwrap();
    assert_eq!(empty.classes, Classes::default());
}
