//! The hidden subcommand, run for real. The test binary plays all the parts: it starts
//! itself as the parent, which starts itself as the child, which becomes `sleep`. So it
//! brings its own `main`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test with a main function")]

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use bartizan_sandbox::child;

type Test = (&'static str, fn());

const TESTS: &[Test] = &[
    ("stdio_a_child_dies_with_its_parent", dies_with_its_parent),
    ("stdio_a_child_is_the_program_with_its_arguments", is_the_program),
    ("stdio_a_missing_program_has_its_exit_code", missing_program),
];

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1).peekable();
    match args.peek().and_then(|arg| arg.to_str()) {
        Some("__child") => return child::exec_main(args.skip(1)),
        Some("parent") => return parent(),
        _ => {}
    }
    // The little of the usual interface that test runners need.
    let args: Vec<String> = args.map(|arg| arg.to_string_lossy().into_owned()).collect();
    let ignored = args.iter().any(|arg| arg == "--ignored");
    if args.iter().any(|arg| arg == "--list") {
        TESTS.iter().filter(|_| !ignored).for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let wanted: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    for (name, test) in TESTS.iter().filter(|_| !ignored) {
        if wanted.is_empty() || wanted.iter().any(|part| name.contains(part.as_str())) {
            test();
            println!("test {name} ... ok");
        }
    }
    ExitCode::SUCCESS
}

fn itself() -> Command {
    Command::new(std::env::current_exe().unwrap())
}

fn through_child(argv: &[&str]) -> Command {
    let mut command = itself();
    command.args(child::prefix(std::process::id())).args(argv);
    command
}

/// Starts a child in a group of its own, says its number and waits to be killed.
#[expect(clippy::zombie_processes, reason = "the test is about a parent that does not wait")]
fn parent() -> ExitCode {
    let mut sleep = through_child(&["/bin/sleep", "300"]);
    let child = sleep.process_group(0).spawn().unwrap();
    println!("{}", child.id());
    std::thread::sleep(Duration::from_secs(300));
    ExitCode::SUCCESS
}

fn command_line(pid: &str) -> Option<String> {
    let text = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    (!text.is_empty()).then(|| String::from_utf8_lossy(&text).replace('\0', " "))
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn dies_with_its_parent() {
    let mut parent = itself().arg("parent").stdout(Stdio::piped()).spawn().unwrap();
    let mut pid = String::new();
    BufReader::new(parent.stdout.take().unwrap()).read_line(&mut pid).unwrap();
    let pid = pid.trim().to_owned();
    let becomes = || command_line(&pid).is_some_and(|line| line.starts_with("/bin/sleep 300"));
    until("the child becomes the program", becomes);
    // As abrupt as it gets: nothing of the parent's own code runs any more.
    parent.kill().unwrap();
    parent.wait().unwrap();
    until("the child must be gone", || command_line(&pid).is_none());
}

fn is_the_program() {
    let output = through_child(&["/bin/echo", "a b", "$(id)", "--"]).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "a b $(id) --\n");
    assert!(output.status.success());
}

fn missing_program() {
    let output = through_child(&["/no/such/program"]).output().unwrap();
    assert_eq!(output.status.code(), Some(127));
    assert!(String::from_utf8(output.stderr).unwrap().contains("/no/such/program"));
}
