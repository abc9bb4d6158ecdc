//! Reads what the standard test harness prints.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    Failed,
    Skipped,
    Passed,
}

/// Results by function name (last path segment); several tests of one name count
/// as the worst of them.
pub(crate) type Results = BTreeMap<String, Outcome>;

/// Marks a test that could not run because something is missing; a test prints it.
const SKIP_MARK: &str = "SKIPPED ";

/// Adds the results in `text` (run with `--show-output`).
pub(crate) fn read(text: &str, results: &mut Results) {
    let mut section: Option<String> = None;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("test ")
            && let Some((name, outcome)) = rest.rsplit_once(" ... ")
        {
            let outcome = match outcome {
                o if o.starts_with("ok") => Outcome::Passed,
                o if o.starts_with("ignored") => Outcome::Skipped,
                _ => Outcome::Failed,
            };
            worst(results, name.trim_end_matches(" - should panic"), outcome);
        } else if let Some(name) = line.strip_prefix("---- ").and_then(|l| l.strip_suffix(" stdout ----")) {
            section = Some(name.to_owned());
        } else if line.starts_with("successes:") || line.starts_with("test result:") {
            section = None;
        } else if line.starts_with(SKIP_MARK)
            && let Some(name) = &section
        {
            worst(results, name, Outcome::Skipped);
        }
    }
}

/// Full paths of the tests that failed.
pub(crate) fn failed(text: &str) -> Vec<String> {
    let line = |line: &str| Some(line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?.to_owned());
    text.lines().filter_map(line).collect()
}

fn worst(results: &mut Results, path: &str, outcome: Outcome) {
    let name = path.rsplit("::").next().unwrap_or(path).to_owned();
    results.entry(name).and_modify(|seen| *seen = outcome.min(*seen)).or_insert(outcome);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_a_run() {
        let text = "\
running 3 tests
test a::p1_good ... ok
test p2_bad ... FAILED
test p3_absent ... ok
test b::p1_good ... ignored, reason

successes:

---- p3_absent stdout ----
SKIPPED p3_absent: no node

successes:
    p3_absent
test result: ok.
";
        let mut results = Results::new();
        read(text, &mut results);
        assert_eq!(failed(text), ["p2_bad"]);
        assert_eq!(results["p1_good"], Outcome::Skipped);
        assert_eq!(results["p2_bad"], Outcome::Failed);
        assert_eq!(results["p3_absent"], Outcome::Skipped);
    }
}
