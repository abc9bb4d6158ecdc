//! The client side of the official conformance suite: for each scenario the suite starts a
//! server, and what it judges is a bartizan with a person and a client before it (row P24).

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::time::Duration;

use bartizan_testkit::conformance::{LEGACY, MODERN};
use bartizan_testkit::process;
use bartizan_testkit::tools::{self, Part};
use serde_json::Value;
use tokio::process::Command;

const NEEDS: &[Part] = &[Part::Npm, Part::Product];

/// What does not pass yet, by set: scenario and reason.
fn baseline(set: &str) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(tools::script("conformance-client-baseline.json")).unwrap();
    let mut all: BTreeMap<String, BTreeMap<String, String>> = serde_json::from_str(&text).unwrap();
    all.remove(set).unwrap_or_default()
}

async fn judge(test: &str, set: &str, total: usize) {
    if !tools::ready(test, NEEDS) {
        return;
    }
    let mut command = Command::new(tools::node());
    command.arg(tools::script("conformance-client.mjs")).args(["--set", set]);
    command.env("BARTIZAN_BIN", tools::product()).env("BARTIZAN_TOOLS_DIR", tools::folder());
    let output = process::run_command(&mut command, Duration::from_secs(600)).await.unwrap();
    let report: Value = serde_json::from_str(output.stdout.trim()).unwrap_or_else(|_| panic!("{output:?}"));
    let scenarios = report["scenarios"].as_array().unwrap();
    assert_eq!(scenarios.len(), total, "{report:#}");

    let mut known = baseline(set);
    let mut wrong = Vec::new();
    for scenario in scenarios {
        let name = scenario["name"].as_str().unwrap();
        let passed = scenario["passed"] == true;
        println!("{} {name}", if passed { "passed" } else { "FAILED" });
        match known.remove(name) {
            None if !passed => wrong.push(format!("{name} fails: {:#}", scenario["complaints"])),
            Some(reason) if passed => wrong.push(format!("{name} passes, and the baseline says: {reason}")),
            Some(reason) => assert!(reason.len() > 20, "{name} needs a reason"),
            None => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(known, BTreeMap::new(), "the baseline names scenarios that do not exist");
}

/// The 18 scored ones and `json-schema-2020-12-preservation`.
#[tokio::test(flavor = "multi_thread")]
async fn p24_conformance_client_side_legacy() {
    judge("p24_conformance_client_side_legacy", LEGACY, 19).await;
}

/// The 32 scored ones and `json-schema-2020-12-preservation`.
#[tokio::test(flavor = "multi_thread")]
async fn p24_conformance_client_side_modern() {
    judge("p24_conformance_client_side_modern", MODERN, 33).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p24_conformance_client_side_extensions() {
    judge("p24_conformance_client_side_extensions", "extensions", 3).await;
}
