//! `bartizan explain` says what a live call gets (U6).
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod common;

use std::path::Path;

use bartizan_testkit::client::{Identity, ModernClient};
use common::{Dev, run_in};
use serde_json::{Value, json};

/// A small generator, so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % bound as u64).unwrap()
    }

    fn pick<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())].clone()
    }
}

/// What a call came to: allowed, or the code, or `hidden`.
async fn live(client: &ModernClient, tool: &str, arguments: &Value) -> String {
    match client.call(tool, arguments.clone()).await {
        Err(problem) if problem.code == -32602 && problem.message.contains("Unknown tool") => "hidden".to_owned(),
        Err(problem) => panic!("{problem:?}"),
        Ok(done) => match done.decision()["code"].as_str() {
            Some(code) => code.to_owned(),
            None => "allowed".to_owned(),
        },
    }
}

#[tokio::test]
async fn u6_explain_equals_the_live_decision_in_100_random_cases() {
    let dev = Dev::start().await;
    let config = dev.text("config");
    let tools = [
        "tracker.request_budget",
        "tracker.request_budget",
        "tracker.request_budget",
        "tracker.create_issue",
        "tracker.get_issue",
        "tracker.delete_issue",
        "tracker.assign_issue",
        "wiki.get_page",
        "wiki.update_page",
        "wiki.delete_page",
        "code.list_repositories",
        "code.run_checks",
        "code.delete_branch",
        "tracker.no_such_tool",
    ];
    let amounts =
        [json!(1), json!(1000), json!(1001), json!(-5), json!("1000"), json!(null), json!(2000.5), json!(9_000_000)];
    let clients: Vec<(&str, ModernClient)> = ["alice", "bob", "carol"]
        .into_iter()
        .map(|user| (user, ModernClient::new(&dev.text("mcp_url"), Identity::bearer(&dev.token(user)))))
        .collect();
    let mut random = Random(20_261_122);
    let mut seen = std::collections::BTreeMap::<String, usize>::new();
    for case in 0..100 {
        let (user, client) = &clients[random.below(clients.len())];
        let tool = random.pick(&tools);
        let mut arguments = json!({"project": "WEB", "reason": "r", "issue": "WEB-1", "title": "t", "assignee": "bob",
            "slug": "none", "body": "b", "repository": "none", "branch": "b"});
        if random.below(4) > 0 {
            arguments["amount"] = random.pick(&amounts);
        }
        let groups: Vec<String> = dev.groups(user).into_iter().flat_map(|g| ["--group".to_owned(), g]).collect();
        // Both ways to name a tool.
        let named = if random.below(2) == 0 { tool.to_owned() } else { tool.replacen('.', "_", 1) };
        let mut command = vec!["explain", "--json", "-c", &config, "--user", user, "--tool", &named, "--args", "-"];
        command.extend(groups.iter().map(String::as_str));
        let printed = run_in(Path::new("/"), &command, &[], &arguments.to_string());
        let said = printed.json();
        let explained = match (said["allowed"].as_bool().unwrap(), said["visible"].as_bool().unwrap()) {
            (true, _) => "allowed".to_owned(),
            (false, false) => "hidden".to_owned(),
            (false, true) => said["code"].as_str().unwrap().to_owned(),
        };
        assert_eq!(printed.code, i32::from(explained != "allowed"));
        let got = live(client, &tool.replacen('.', "_", 1), &arguments).await;
        assert_eq!(explained, got, "case {case}: {user} {tool} {arguments}\n{said}");
        *seen.entry(got).or_default() += 1;
    }
    assert!(seen.len() >= 3, "the cases are too much alike: {seen:?}");
}

#[tokio::test]
async fn u6_explain_names_the_line_of_the_deciding_rule() {
    let dev = Dev::start().await;
    let config = dev.text("config");
    let arguments = [
        "explain",
        "--json",
        "-c",
        &config,
        "--user",
        "bob",
        "--group",
        "finance",
        "--tool",
        "tracker.request_budget",
        "--args",
        "-",
    ];
    let said = run_in(Path::new("/"), &arguments, &[], r#"{"amount": 4000}"#).json();
    let stages: Vec<&str> = said["stages"].as_array().unwrap().iter().map(|s| s["stage"].as_str().unwrap()).collect();
    assert_eq!(stages, ["route", "state", "authorize"]);
    let forbid = said["rules"].as_array().unwrap().iter().find(|rule| rule["kind"] == "forbid").unwrap();
    let place = forbid["place"].as_str().unwrap();
    let line: usize = place.rsplit(':').nth(1).unwrap().parse().unwrap();
    let file = std::fs::read_to_string(&config).unwrap();
    assert!(file.lines().nth(line - 1).unwrap().contains("forbid("), "{place}");
    assert_eq!(said["rule"], "policy \"small-budgets-only\"");
}

#[test]
fn u6_bad_questions_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("b.yaml"),
        "servers:\n  - server_id: a\n    hostname: https://a.example/mcp\n    policies: [{ action: allow, include: [{ everyone: true }] }]\n",
    )
    .unwrap();
    for (arguments, input) in [
        (&["--user", "bob", "--tool", "b.x"][..], ""),
        (&["--user", "bob", "--tool", "nothing"], ""),
        (&["--user", "robot:bob", "--tool", "a.x"], ""),
        (&["--user", "bob", "--tool", "a.x", "--portal", "other"], ""),
        (&["--user", "bob", "--tool", "a.x", "--args", "none.json"], ""),
        (&["--user", "bob", "--tool", "a.x", "--args", "-"], "[1]"),
        (&["--user", "bob", "--tool", "a.x", "--args", "-"], "{\"a\":"),
    ] {
        let mut all = vec!["explain", "-c", "b.yaml"];
        all.extend(arguments);
        let printed = run_in(folder.path(), &all, &[], input);
        assert_eq!(printed.code, 2, "{arguments:?} {}", printed.stdout);
        assert!(printed.stderr.contains("[bad_argument]"), "{}", printed.stderr);
    }
}
