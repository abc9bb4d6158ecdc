//! Reports as text, JSON, GitHub annotations and SARIF (U4).

use std::fmt::Write;

use serde_json::{Value, json};

use crate::problem::{Problem, Report, Severity};

/// How a report is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people, with snippets.
    Text,
    /// One JSON object on one line.
    Json,
    /// Workflow commands that become annotations.
    Github,
    /// SARIF 2.1.0.
    Sarif,
}

/// The report in a format; ends with a line end unless it is empty.
pub fn report(report: &Report, format: Format, color: bool) -> String {
    match format {
        Format::Text => text(report, color),
        Format::Json => {
            let (errors, warnings) = report.counts();
            format!("{}\n", json!({"errors": errors, "warnings": warnings, "problems": report.problems}))
        }
        Format::Github => report.problems.iter().map(github).collect(),
        Format::Sarif => format!("{}\n", sarif(report)),
    }
}

/// The text form; `color` adds terminal colours with fixed meanings.
pub(crate) fn text(report: &Report, color: bool) -> String {
    let mut out = String::new();
    for problem in &report.problems {
        // Writing to a String cannot fail.
        let _ = one(&mut out, problem, color);
    }
    let (errors, warnings) = report.counts();
    if !report.is_empty() {
        let plural = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
        let _ = writeln!(out, "{}, {}", plural(errors, "error"), plural(warnings, "warning"));
    }
    out
}

fn one(out: &mut String, problem: &Problem, color: bool) -> std::fmt::Result {
    let (word, code) = match problem.severity {
        Severity::Error => ("error", "\u{1b}[1;31m"),
        Severity::Warning => ("warning", "\u{1b}[1;33m"),
    };
    let (on, dim, off) = if color { (code, "\u{1b}[34m", "\u{1b}[0m") } else { ("", "", "") };
    writeln!(out, "{on}{word}[{}]{off}: {}", problem.code, problem.message)?;
    let mut margin = 2;
    if let Some(place) = &problem.place {
        let number = place.line.to_string();
        margin = number.len() + 1;
        let blank = " ".repeat(margin);
        match &problem.snippet {
            Some(line) => {
                writeln!(out, "{blank}{dim}-->{off} {}:{}:{}", place.file, place.line, place.column)?;
                writeln!(out, "{blank}{dim}|{off}")?;
                writeln!(out, "{dim}{number} |{off} {line}")?;
                let room = line.chars().count().saturating_sub(place.column - 1).max(1);
                let under = "^".repeat(place.length.min(room));
                writeln!(out, "{blank}{dim}|{off} {}{on}{under}{off}", " ".repeat(place.column - 1))?;
            }
            None => writeln!(out, "{blank}{dim}-->{off} {}", place.file)?,
        }
    } else if !problem.path.is_empty() {
        writeln!(out, "  {dim}-->{off} {}", problem.path)?;
    }
    let blank = " ".repeat(margin);
    if let Some(suggestion) = &problem.suggestion {
        writeln!(out, "{blank}{dim}={off} help: {suggestion}")?;
    }
    writeln!(out, "{blank}{dim}={off} more: bartizan explain-code {}", problem.code)?;
    writeln!(out)
}

fn full_message(problem: &Problem) -> String {
    match &problem.suggestion {
        Some(suggestion) => format!("{} ({suggestion})", problem.message),
        None => problem.message.clone(),
    }
}

fn github(problem: &Problem) -> String {
    let data = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
    let level = match problem.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let mut at = String::new();
    if let Some(place) = &problem.place {
        at = format!("file={},line={},col={},", property(&place.file), place.line, place.column);
    }
    format!("::{level} {at}title={}::{}\n", property(problem.code), data(&full_message(problem)))
}

fn sarif(report: &Report) -> Value {
    let mut codes: Vec<&str> = report.problems.iter().map(|problem| problem.code).collect();
    codes.sort_unstable();
    codes.dedup();
    let rules: Vec<Value> = codes
        .iter()
        .map(|code| json!({"id": code, "help": {"text": format!("bartizan explain-code {code}")}}))
        .collect();
    let results: Vec<Value> = report.problems.iter().map(sarif_result).collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {"name": "bartizan", "version": env!("CARGO_PKG_VERSION"), "rules": rules}},
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

fn sarif_result(problem: &Problem) -> Value {
    let level = match problem.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let locations: Vec<Value> = problem
        .place
        .iter()
        .map(|place| {
            json!({"physicalLocation": {
                "artifactLocation": {"uri": uri(&place.file)},
                "region": {"startLine": place.line, "startColumn": place.column,
                    "endColumn": place.column + place.length.max(1)},
            }})
        })
        .collect();
    json!({"ruleId": problem.code, "level": level, "message": {"text": full_message(problem)}, "locations": locations})
}

/// A relative or absolute path as a URI reference (RFC 3986).
fn uri(path: &str) -> String {
    let mut out = String::new();
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    if path.starts_with('/') { format!("file://{out}") } else { out }
}
