//! Data on stdout, everything else on stderr; stable exit codes (U13).

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::cli::Color;

/// Exit code 0: done, or the answer is yes.
pub(crate) const OK: u8 = 0;
/// Exit code 1: findings, or the answer is no.
pub(crate) const FINDINGS: u8 = 1;
/// Exit code 2: cannot run, e.g. wrong usage or an unreadable file.
pub(crate) const CANNOT_RUN: u8 = 2;

/// How to print.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Out {
    pub(crate) json: bool,
    color: Color,
}

/// A failure with a stable code, shown on stderr.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) exit: u8,
}

impl Failure {
    /// The answer is no.
    pub(crate) fn refused(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), exit: FINDINGS }
    }

    /// The command cannot do its work.
    pub(crate) fn cannot_run(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), exit: CANNOT_RUN }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{}] {}", self.code, self.message)
    }
}

/// What a command returns: its exit code, or why it failed.
pub(crate) type Done = Result<u8, Failure>;

impl Out {
    pub(crate) fn new(json: bool, color: Color) -> Self {
        Self { json, color }
    }

    /// Whether stdout gets colours.
    pub(crate) fn color(self) -> bool {
        self.colored(std::io::stdout().is_terminal())
    }

    fn colored(self, terminal: bool) -> bool {
        match self.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        }
    }

    /// Prints text as it is. A closed pipe is the reader's wish.
    pub(crate) fn text(self, text: &str) {
        let mut stdout = std::io::stdout().lock();
        let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    }

    /// Prints one JSON value on one line.
    pub(crate) fn value(self, value: &Value) {
        self.text(&format!("{value}\n"));
    }

    /// Prints the value with `--json`, else the text.
    pub(crate) fn either(self, value: &Value, text: impl FnOnce() -> String) {
        if self.json { self.value(value) } else { self.text(&text()) }
    }

    /// A remark for people on stderr.
    pub(crate) fn note(self, text: &str) {
        if !self.json {
            eprintln!("{text}");
        }
    }

    /// Reports a failure and gives the exit code.
    pub(crate) fn fail(self, failure: &Failure) -> ExitCode {
        if self.json {
            let value = json!({"error": {"code": failure.code, "message": failure.message}});
            eprintln!("{value}");
        } else {
            let (on, off) =
                if self.colored(std::io::stderr().is_terminal()) { ("\u{1b}[1;31m", "\u{1b}[0m") } else { ("", "") };
            eprintln!("{on}error[{}]{off}: {}", failure.code, failure.message);
        }
        ExitCode::from(failure.exit)
    }
}

/// Lays rows out in columns; the last column is not padded.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &[String]| {
        let mut out = String::new();
        for (index, (cell, width)) in cells.iter().zip(&widths).enumerate() {
            if index > 0 {
                out.push_str("  ");
            }
            out.push_str(cell);
            if index + 1 < cells.len() {
                out.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count())));
            }
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
        out
    };
    let head: Vec<String> = head.iter().map(|cell| cell.to_uppercase()).collect();
    let mut out = line(&head);
    rows.iter().for_each(|row| out.push_str(&line(row)));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned() {
        let rows = vec![vec!["a".to_owned(), "long name".to_owned(), String::new()]];
        assert_eq!(table(&["id", "name", "note"], &rows), "ID  NAME       NOTE\na   long name\n");
    }
}
