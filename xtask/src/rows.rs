//! `docs/rows.toml` + the last test run → `docs/rows.md`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::libtest::{Outcome, Results};
use crate::run::{root, target};

#[derive(Deserialize)]
struct Contract {
    row: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    id: String,
    title: String,
    stage: String,
    clause: Vec<Clause>,
}

#[derive(Deserialize)]
struct Clause {
    text: String,
    tests: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Open,
    Part,
    Done,
}

#[derive(Serialize)]
struct RowState<'a> {
    id: &'a str,
    #[serde(skip)]
    title: &'a str,
    stage: &'a str,
    state: State,
    clauses: Vec<ClauseState<'a>>,
}

#[derive(Serialize)]
struct ClauseState<'a> {
    text: &'a str,
    #[serde(skip)]
    proven: bool,
    tests: Vec<TestState<'a>>,
}

#[derive(Serialize)]
struct TestState<'a> {
    name: &'a str,
    result: &'static str,
}

/// Where the test task leaves its results.
pub(crate) fn results_file() -> std::path::PathBuf {
    target().join("xtask").join("results.json")
}

pub(crate) fn run(json: bool, check: bool) -> Result<()> {
    let text = fs::read_to_string(root().join("docs/rows.toml"))?;
    let contract: Contract = toml::from_str(&text).context("docs/rows.toml")?;
    let results: Results = match fs::read_to_string(results_file()) {
        Ok(text) => serde_json::from_str(&text)?,
        Err(_) => bail!("no test run yet: run `cargo xtask test` first"),
    };
    let rows: Vec<RowState<'_>> = contract.row.iter().map(|row| state(row, &results)).collect();
    if json {
        println!("{}", serde_json::json!({ "rows": rows }));
        return Ok(());
    }
    let page = page(&rows);
    let file = root().join("docs/rows.md");
    if check {
        let committed = fs::read_to_string(&file).unwrap_or_default();
        ensure!(
            committed == page,
            "docs/rows.md is stale: run `cargo xtask rows` and commit it\n{}",
            difference(&committed, &page)
        );
        return Ok(());
    }
    fs::write(file, page)?;
    Ok(())
}

fn state<'a>(row: &'a Row, results: &Results) -> RowState<'a> {
    let clauses: Vec<_> = row.clause.iter().map(|clause| clause_state(clause, results)).collect();
    let proven = clauses.iter().filter(|clause| clause.proven).count();
    let some = clauses.iter().any(|clause| clause.tests.iter().any(|test| test.result == "passed"));
    let state = match proven {
        n if n == clauses.len() && n > 0 => State::Done,
        0 if !some => State::Open,
        _ => State::Part,
    };
    RowState { id: &row.id, title: &row.title, stage: &row.stage, state, clauses }
}

fn clause_state<'a>(clause: &'a Clause, results: &Results) -> ClauseState<'a> {
    let tests: Vec<_> = clause
        .tests
        .iter()
        .map(|name| {
            let result = match results.get(name) {
                Some(Outcome::Passed) => "passed",
                Some(Outcome::Failed) => "failed",
                Some(Outcome::Skipped) => "skipped",
                None => "missing",
            };
            TestState { name, result }
        })
        .collect();
    let proven = !tests.is_empty() && tests.iter().all(|test| test.result == "passed");
    ClauseState { text: &clause.text, proven, tests }
}

fn page(rows: &[RowState<'_>]) -> String {
    let mut out = String::from(
        "# Rows\n\nWritten by `cargo xtask rows` from `docs/rows.toml` and the last `cargo xtask test`. A row is *done* when every \
         clause of its acceptance check has passing tests, *part* when some have. Rows without any test are counted, not listed.\n\n",
    );
    let mut count: BTreeMap<&str, [usize; 3]> = BTreeMap::new();
    for row in rows {
        let slot = count.entry(row.stage).or_default();
        match row.state {
            State::Open => slot[0] += 1,
            State::Part => slot[1] += 1,
            State::Done => slot[2] += 1,
        }
    }
    out.push_str("| stage | done | part | open |\n|---|---|---|---|\n");
    for (stage, [open, part, done]) in count {
        let _ = writeln!(out, "| {stage} | {done} | {part} | {open} |");
    }
    for (title, state) in [("Done", State::Done), ("Part", State::Part)] {
        let _ = writeln!(out, "\n## {title}\n");
        for row in rows.iter().filter(|row| row.state == state) {
            let _ = writeln!(out, "- **{}** {}", row.id, row.title);
            for clause in &row.clauses {
                let mark = if clause.proven { 'x' } else { ' ' };
                let _ = writeln!(out, "  - [{mark}] {}", clause.text);
            }
        }
    }
    out
}

fn difference(old: &str, new: &str) -> String {
    let (old, new): (Vec<_>, Vec<_>) = (old.lines().collect(), new.lines().collect());
    let gone = old.iter().filter(|line| !new.contains(line)).map(|line| format!("- {line}"));
    let come = new.iter().filter(|line| !old.contains(line)).map(|line| format!("+ {line}"));
    gone.chain(come).take(60).collect::<Vec<_>>().join("\n")
}
