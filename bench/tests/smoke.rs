//! The scenarios run, with few of everything; figures are never judged here.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::Path;
use std::process::Command;

#[test]
fn memory_of_sessions_is_measured() {
    let bench = env!("CARGO_BIN_EXE_bartizan-bench");
    let gateway = Path::new(bench).with_file_name("bartizan");
    let pinned = Command::new("taskset").arg("--version").output().is_ok();
    if !gateway.exists() || !pinned {
        println!("SKIPPED memory_of_sessions_is_measured: the product's binary or taskset missing");
        return;
    }
    let done = Command::new(bench).args(["sessions", "--sessions", "60"]).output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{said}{}", String::from_utf8_lossy(&done.stderr));
    for line in ["60 sessions", "per idle session without a stream:", "per open stream:", "ratio, open stream / bare"] {
        assert!(said.contains(line), "{line}: {said}");
    }
}
