//! Helpers for the tests of the binary.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test"
)]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use bartizan_testkit::process::Process;
use serde_json::Value;

/// The binary under test.
pub const BIN: &str = env!("CARGO_BIN_EXE_bartizan");

/// What a command printed.
pub struct Printed {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Printed {
    pub fn json(&self) -> Value {
        serde_json::from_str(self.stdout.trim()).unwrap_or_else(|e| panic!("{e}: {}{}", self.stdout, self.stderr))
    }

    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{}{}", self.stdout, self.stderr);
        self
    }
}

/// Runs a command to its end in a folder, with a clean environment but for `variables`.
pub fn run_in(folder: &Path, arguments: &[&str], variables: &[(&str, &str)], input: &str) -> Printed {
    use std::io::Write;
    let mut command = Command::new(BIN);
    command.args(arguments).current_dir(folder).env_clear().envs(variables.iter().copied());
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that does not read its input may be gone already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    Printed {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs a command in the crate's folder.
pub fn run(arguments: &[&str]) -> Printed {
    run_in(Path::new(env!("CARGO_MANIFEST_DIR")), arguments, &[], "")
}

/// A running `bartizan dev` on free ports.
pub struct Dev {
    pub process: Process,
    pub announced: Value,
}

impl Dev {
    pub async fn start() -> Self {
        let mut command = tokio::process::Command::new(BIN);
        command.args(["dev", "--json", "--listen", "127.0.0.1:0"]).env_remove("BARTIZAN_CONFIG");
        let mut process = Process::start(&mut command).unwrap();
        let line = process.line(Duration::from_secs(60), |line| line.starts_with('{').then(|| line.to_owned()));
        let line = line.await.unwrap();
        Self { announced: serde_json::from_str(&line).unwrap(), process }
    }

    pub fn text(&self, member: &str) -> String {
        self.announced[member].as_str().unwrap_or_else(|| panic!("no {member} in {}", self.announced)).to_owned()
    }

    pub fn token(&self, user: &str) -> String {
        let users = self.announced["users"].as_array().unwrap();
        let user = users.iter().find(|known| known["name"] == user).unwrap();
        user["token"].as_str().unwrap().to_owned()
    }

    pub fn groups(&self, user: &str) -> Vec<String> {
        let users = self.announced["users"].as_array().unwrap();
        let user = users.iter().find(|known| known["name"] == user).unwrap();
        user["groups"].as_array().unwrap().iter().map(|group| group.as_str().unwrap().to_owned()).collect()
    }
}
