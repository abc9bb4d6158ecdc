//! Everything CI runs, in the order that says soonest what is wrong.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::libtest::{self, Outcome, Results};
use crate::run::{cargo, checked, env, target};
use crate::{bans, rows, schema, setup, tidy};

/// So many failures may be the machine's; more are ours.
const RETRIED: usize = 12;
/// A hung test must not hold CI for ever.
const TEST_DEADLINE: Duration = Duration::from_secs(45 * 60);

pub(crate) fn run(quick: bool) -> Result<()> {
    // Packages install while the code compiles.
    let installing = (!quick).then(|| std::thread::spawn(setup::run));
    let mut failed = Vec::new();
    let mut part = |name: &'static str, work: &mut dyn FnMut() -> Result<()>| {
        let start = Instant::now();
        println!("== {name}");
        let result = work();
        println!(
            "== {name}: {} in {:.0} s",
            if result.is_ok() { "ok" } else { "FAILED" },
            start.elapsed().as_secs_f64()
        );
        if let Err(error) = result {
            println!("{error:#}");
            failed.push(name);
        }
    };
    part("format", &mut || checked(cargo().args(["fmt", "--all", "--check"])));
    part("tidy", &mut tidy::run);
    part("dependencies", &mut bans::run);
    if !quick {
        part("lints", &mut lints);
    }
    part("build", &mut || checked(cargo().args(["build", "--workspace", "--bins", "--locked", "--quiet"])));
    let tools = match installing.map(std::thread::JoinHandle::join) {
        None => setup::Tools::found(),
        Some(Ok(Ok(tools))) => tools,
        Some(Ok(Err(error))) => bail!("set-up: {error:#}"),
        Some(Err(_)) => bail!("set-up panicked"),
    };
    part("tests", &mut || tests(quick, &tools));
    if !quick {
        part("schema", &mut || schema::run(true));
        part("rows", &mut || rows::run(false, true));
    }
    if failed.is_empty() {
        return Ok(());
    }
    bail!("failed: {}", failed.join(", "))
}

/// Everything is a warning that counts; tests may panic, that is how they fail.
fn lints() -> Result<()> {
    let clippy = ["clippy", "--workspace", "--locked", "--quiet"];
    checked(cargo().args(clippy).args(["--", "-D", "warnings"]))?;
    let panics = ["unwrap_used", "expect_used", "panic", "indexing_slicing"].map(|lint| format!("-Aclippy::{lint}"));
    checked(cargo().args(clippy).args(["--tests", "--", "-D", "warnings"]).args(panics))
}

fn tests(quick: bool, tools: &setup::Tools) -> Result<()> {
    let folder = target().join("xtask");
    fs::create_dir_all(&folder)?;
    let mut log = File::create(folder.join("tests.log"))?;
    let mut command = cargo();
    command.args(["test", "--workspace", "--no-fail-fast", "--locked"]);
    if quick {
        // The end-to-end tests with installed clients are in the test kit.
        command.args(["--exclude", "bartizan-testkit"]);
    }
    command.args(["--", "--show-output"]);
    tools.describe(&mut command);
    let (seconds, mut results) = (Instant::now(), Results::new());
    let (mut text, mut ended_well) = tee(&mut command, &mut log)?;
    libtest::read(&text, &mut results);
    let failed = libtest::failed(&text);
    if !failed.is_empty() && failed.len() <= RETRIED {
        // Alone and one at a time: what passes now depended on the load of the machine. It
        // is named, so that somebody mends it, and does not hide anything that fails twice.
        let mut again = cargo();
        again.args(["test", "--workspace", "--no-fail-fast", "--locked", "--", "--show-output", "--exact"]);
        again.arg("--test-threads=1").args(&failed);
        tools.describe(&mut again);
        let (second, second_ended_well) = tee(&mut again, &mut log)?;
        for name in &failed {
            results.remove(name.rsplit("::").next().unwrap_or(name));
        }
        libtest::read(&second, &mut results);
        for name in &failed {
            let now = results.get(name.rsplit("::").next().unwrap_or(name));
            println!("failed at first, alone {now:?}: {name}");
        }
        print_failures(&text);
        text = second;
        ended_well = second_ended_well;
    }
    if !quick {
        fs::write(rows::results_file(), serde_json::to_vec_pretty(&results)?)?;
    }
    let count = |outcome| results.values().filter(|o| **o == outcome).count();
    let (passed, failures, skipped) = (count(Outcome::Passed), count(Outcome::Failed), count(Outcome::Skipped));
    for (name, outcome) in &results {
        if *outcome != Outcome::Passed {
            println!("{outcome:?}: {name}");
        }
    }
    println!("tests took {:.0} s; log in {}", seconds.elapsed().as_secs_f64(), folder.join("tests.log").display());
    println!("{passed} passed, {failures} failed, {skipped} skipped");
    if failures > 0 || text.contains("error: could not compile") || passed == 0 {
        print_failures(&text);
        bail!("{failures} tests failed twice, or did not compile");
    }
    if !ended_well {
        // A program that aborted or was stopped names no test.
        bail!("cargo test failed although no test is named as failed; see the log");
    }
    if skipped > 0 && env("CI").is_some() {
        bail!("{skipped} tests were skipped; CI installs everything and skips nothing");
    }
    Ok(())
}

/// Runs a command, copying what it prints to the log; returns it, and whether it succeeded.
fn tee(command: &mut Command, log: &mut File) -> Result<(String, bool)> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("cannot start cargo test")?;
    let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) else { bail!("no output") };
    let progress = std::thread::spawn(move || {
        let mut kept = String::new();
        for line in BufReader::new(err).split(b'\n').map_while(std::result::Result::ok) {
            let line = String::from_utf8_lossy(&line);
            kept.push_str(&line);
            kept.push('\n');
        }
        kept
    });
    let pid = child.id();
    let (done, watch) = std::sync::mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || {
        if watch.recv_timeout(TEST_DEADLINE) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            println!("tests did not end within {} s, stopping them", TEST_DEADLINE.as_secs());
            let _ = Command::new("kill").arg(pid.to_string()).status();
        }
    });
    let mut text = String::new();
    for line in BufReader::new(out).split(b'\n').map_while(std::result::Result::ok) {
        let line = String::from_utf8_lossy(&line);
        log.write_all(line.as_bytes())?;
        log.write_all(b"\n")?;
        text.push_str(&line);
        text.push('\n');
    }
    let ended_well = child.wait()?.success();
    drop(done);
    let _ = watchdog.join();
    if let Ok(kept) = progress.join() {
        log.write_all(kept.as_bytes())?;
        text.push_str(&kept);
    }
    Ok((text, ended_well))
}

fn print_failures(text: &str) {
    let mut inside = false;
    let mut shown = 0;
    for line in text.lines() {
        if line == "failures:" {
            inside = true;
        } else if line.starts_with("test result:") {
            inside = false;
        }
        if (inside || line.starts_with("error")) && shown < 400 {
            println!("{line}");
            shown += 1;
        }
    }
}
