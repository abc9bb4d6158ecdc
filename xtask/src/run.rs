//! Running programs, with the folder of the workspace as theirs.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Root of the workspace.
pub(crate) fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().map(PathBuf::from).unwrap_or(here)
}

/// Where cargo puts its output.
pub(crate) fn target() -> PathBuf {
    env("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// An environment variable, if set and not empty.
#[expect(clippy::disallowed_methods, reason = "development tool")]
pub(crate) fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A cargo command of the same toolchain.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env("CARGO").unwrap_or_else(|| "cargo".to_owned()));
    command.current_dir(root());
    command
}

/// Runs to the end and fails with the command line when it fails.
pub(crate) fn checked(command: &mut Command) -> Result<()> {
    let line = format!("{command:?}");
    let status = command.status().with_context(|| format!("cannot start {line}"))?;
    ensure!(status.success(), "{line}: {status}");
    Ok(())
}

/// The standard output of a command that must succeed.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let line = format!("{command:?}");
    let out = command.output().with_context(|| format!("cannot start {line}"))?;
    ensure!(out.status.success(), "{line}: {}\n{}", out.status, String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).with_context(|| format!("{line}: output is not UTF-8"))
}

/// Files that git tracks or would track.
pub(crate) fn files() -> Result<Vec<PathBuf>> {
    let list = output(Command::new("git").current_dir(root()).args(["ls-files", "-co", "--exclude-standard"]))?;
    Ok(list.lines().map(PathBuf::from).filter(|path| root().join(path).is_file()).collect())
}
