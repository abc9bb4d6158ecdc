//! House rules that no lint checks.

use std::fs;

use anyhow::{Result, ensure};

use crate::run::{files, root};

/// A Rust file longer than this does not fit in the head.
const LONGEST: usize = 700;

/// What prints.
const PRINTS: [&str; 5] = ["println!(", "eprintln!(", "print!(", "eprint!(", "dbg!("];

pub(crate) fn run() -> Result<()> {
    let mut findings = Vec::new();
    for path in files()? {
        let name = path.to_string_lossy().replace('\\', "/");
        let Ok(text) = fs::read_to_string(root().join(&path)) else { continue };
        if name.ends_with(".rs") {
            rust_file(&name, &text, &mut findings);
        }
        for (number, line) in text.lines().enumerate() {
            if line.starts_with("<<<<<<< ") || line.starts_with(">>>>>>> ") {
                findings.push(format!("{name}:{}: merge marker", number + 1));
            }
        }
    }
    ensure!(findings.is_empty(), "tidy:\n{}", findings.join("\n"));
    Ok(())
}

fn rust_file(name: &str, text: &str, findings: &mut Vec<String>) {
    let lines = text.lines().count();
    if lines > LONGEST && !name.contains("/tests/") {
        findings.push(format!("{name}: {lines} lines, at most {LONGEST}"));
    }
    if name.ends_with("/mod.rs") && !name.contains("/tests/") {
        findings.push(format!("{name}: use foo.rs + foo/, not foo/mod.rs"));
    }
    if (name.ends_with("src/lib.rs") || name.ends_with("src/main.rs")) && !text.starts_with("//!") {
        findings.push(format!("{name}: the first line says what the crate is responsible for"));
    }
    if text.contains(concat!("unsafe", " {")) || text.contains(concat!("unsafe", " fn")) {
        findings.push(format!("{name}: unsafe code"));
    }
    // A library says what it has to say through `tracing`: a forgotten print shows what was secret.
    let library = name.starts_with("crates/") && name.contains("/src/") && !name.ends_with("/src/main.rs");
    let speaks = ["crates/bartizan/", "crates/testkit/"].iter().any(|part| name.contains(part));
    if library && !speaks && text.lines().any(|line| PRINTS.iter().any(|print| line.trim_start().starts_with(print))) {
        findings.push(format!("{name}: prints"));
    }
    // O9: only the egress crate dials; tests, the test kit and the tools may.
    let dials = text.contains("TcpStream::connect(") || text.contains("client::conn::http1::handshake");
    let may =
        ["crates/egress/", "crates/testkit/", "bench/", "xtask/", "/tests/"].iter().any(|part| name.contains(part));
    if dials && !may && !text.contains("#[cfg(test)]") {
        findings.push(format!("{name}: only crates/egress opens outgoing connections (O9)"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o9_no_other_crate_opens_connections() {
        run().unwrap();
        let mut findings = Vec::new();
        rust_file("crates/gate/src/run.rs", "let s = TcpStream::connect(address).await;", &mut findings);
        assert_eq!(findings.len(), 1, "the search finds a planted client");
    }
}
