//! The hidden subcommand `bartizan __child --parent PID -- argv…`.
//!
//! Only the child itself can ask the kernel to be killed when its parent dies, and it can
//! do so without unsafe code only as a program of its own. So bartizan starts itself, and
//! this code turns into the wanted program.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

/// Exit code for wrong arguments or a parent that is gone (as `EX_USAGE`).
const BAD_CALL: u8 = 64;
/// Exit code when the program cannot be started (as shells use it).
const NOT_STARTED: u8 = 127;

/// Arguments of the hidden subcommand, put before the argv of the program.
pub fn prefix(parent_pid: u32) -> [OsString; 4] {
    ["__child".into(), "--parent".into(), parent_pid.to_string().into(), "--".into()]
}

/// Runs the subcommand; `args` are the arguments after `__child`.
///
/// Never returns when the program was started. The exit code is 64 for a wrong call or when
/// the parent died meanwhile, 127 when the program cannot be started.
pub fn exec_main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let Some((parent, argv)) = parse(args) else {
        return fail(BAD_CALL, "usage: __child --parent PID -- PROGRAM [ARG…]");
    };
    let Some((program, rest)) = argv.split_first() else {
        return fail(BAD_CALL, "no program");
    };
    let orphaned = || getppid().map(|pid| pid.as_raw_nonzero().get()) != Some(parent);
    if orphaned() {
        return fail(BAD_CALL, "the parent is gone");
    }
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return fail(BAD_CALL, &format!("cannot bind to the parent: {error}"));
    }
    // The parent may have died before the line above took effect.
    if orphaned() {
        return fail(BAD_CALL, "the parent is gone");
    }
    let error = Command::new(program).args(rest).exec();
    fail(NOT_STARTED, &format!("cannot start {}: {error}", program.to_string_lossy()))
}

fn parse(args: impl IntoIterator<Item = OsString>) -> Option<(i32, Vec<OsString>)> {
    let mut args = args.into_iter();
    if args.next().as_deref() != Some(OsStr::new("--parent")) {
        return None;
    }
    let parent = args.next()?.to_str()?.parse().ok()?;
    if args.next().as_deref() != Some(OsStr::new("--")) {
        return None;
    }
    Some((parent, args.collect()))
}

fn fail(code: u8, why: &str) -> ExitCode {
    // stderr may be closed; there is nobody else to tell.
    let _ = writeln!(std::io::stderr(), "bartizan: {why}");
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn os(args: &[&str]) -> Vec<OsString> {
        args.iter().map(OsString::from).collect()
    }

    #[test]
    fn arguments_are_passed_as_they_are() {
        let argv = ["prog", "a;b", "$(c)", "d\ne", "--", ""];
        let mut all = prefix(77).to_vec();
        all.remove(0);
        all.extend(os(&argv));
        assert_eq!(parse(all), Some((77, os(&argv))));
    }

    #[test]
    fn wrong_calls_are_refused() {
        for bad in [&[][..], &["prog"], &["--parent", "x", "--", "p"], &["--parent", "1", "p"], &["--parent"]] {
            assert_eq!(parse(os(bad)), None, "{bad:?}");
        }
        assert_eq!(exec_main(os(&["--parent", "1"])), ExitCode::from(BAD_CALL));
    }

    #[test]
    fn a_foreign_parent_stops_the_start() {
        // The test runner's parent is not this number; the program must not be started.
        assert_eq!(exec_main(os(&["--parent", "2147483647", "--", "/bin/true"])), ExitCode::from(BAD_CALL));
    }
}
