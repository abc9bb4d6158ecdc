//! The MCP conformance suite against a URL.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::{process, tools};

/// The legacy set: 30 server scenarios.
pub const LEGACY: &str = "2025-11-25";
/// The modern set: 37 server scenarios.
pub const MODERN: &str = "2026-07-28";

/// What the suite found.
#[derive(Clone, Debug)]
pub struct Report {
    /// Scored scenarios without a failure.
    pub passed: u64,
    /// Scored scenarios.
    pub total: u64,
    /// Every scenario that failed or warned, with its reasons.
    pub complaints: Vec<String>,
    /// The whole report of `tests/e2e/conformance.mjs`.
    pub json: Value,
}

/// Runs a requirement set with the empty baseline.
///
/// # Errors
/// When the suite cannot be run at all.
pub async fn run(url: &str, requirements: &str) -> Result<Report> {
    run_with(url, requirements, &[]).await
}

/// Runs one scenario of a revision.
///
/// # Errors
/// As [`run`].
pub async fn scenario(url: &str, revision: &str, name: &str) -> Result<Report> {
    run_with(url, revision, &["--scenario", name]).await
}

async fn run_with(url: &str, requirements: &str, more: &[&str]) -> Result<Report> {
    let script = tools::script("conformance.mjs").display().to_string();
    let mut args = vec![script.as_str(), "--url", url, "--requirements", requirements];
    args.extend_from_slice(more);
    let output = process::run(tools::node(), &args, Duration::from_secs(620)).await?;
    let json: Value = serde_json::from_str(output.stdout.trim())
        .with_context(|| format!("no report: {}\n{}", output.stdout, output.stderr))?;
    let scenarios = json["scenarios"].as_array().context("no scenarios in the report")?;
    let complaints = scenarios
        .iter()
        .filter(|scenario| scenario["outcome"] != "passed")
        .map(|scenario| {
            let reasons = [&scenario["failures"], &scenario["warnings"]].map(Value::to_string).join(" ");
            format!("{} {}: {reasons}", scenario["name"], scenario["outcome"])
        })
        .collect();
    Ok(Report {
        passed: json["passed"].as_u64().unwrap_or(0),
        total: json["total"].as_u64().unwrap_or(0),
        complaints,
        json,
    })
}

impl Report {
    /// Every scenario with its outcome, one a line.
    pub fn lines(&self) -> String {
        let scenarios = self.json["scenarios"].as_array().map(Vec::as_slice).unwrap_or_default();
        let line = |scenario: &Value| {
            format!(
                "{} {}",
                scenario["outcome"].as_str().unwrap_or_default(),
                scenario["name"].as_str().unwrap_or_default()
            )
        };
        scenarios.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}
