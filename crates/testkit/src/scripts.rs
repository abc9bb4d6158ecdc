//! The real clients: scripts of `tests/e2e/clients` that follow a plan and report.

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::process;
use crate::sign_in::Person;
use crate::tools::{self, Part};

/// A real client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RealClient {
    /// `@modelcontextprotocol/sdk` (v1, legacy).
    TsV1,
    /// `@modelcontextprotocol/client` (v2).
    TsV2,
    /// Python `mcp`.
    PythonMcp,
    /// FastMCP.
    FastMcp,
    /// The Inspector's command line.
    Inspector,
    /// The bridge `mcp-remote`.
    McpRemote,
    /// `rmcp`, the official Rust SDK.
    Rmcp,
    /// Our own bridge, `bartizan stdio`.
    Stdio,
}

impl RealClient {
    /// What has to be installed for it (the product's binary included).
    pub fn parts(self) -> &'static [Part] {
        match self {
            Self::PythonMcp => &[Part::Mcp, Part::Product],
            Self::FastMcp => &[Part::FastMcp, Part::Product],
            Self::Rmcp => &[Part::Rmcp, Part::Product],
            _ => &[Part::Npm, Part::Product],
        }
    }

    /// The program and, if it is an interpreter, what it runs.
    fn program(self) -> (PathBuf, Option<PathBuf>) {
        let script = |name| Some(tools::script("clients").join(name));
        match self {
            Self::TsV1 => (tools::node(), script("ts-v1.mjs")),
            Self::TsV2 => (tools::node(), script("ts-v2.mjs")),
            Self::PythonMcp => (tools::venv("mcp", "python"), script("mcp_client.py")),
            Self::FastMcp => (tools::venv("fastmcp", "python"), script("fastmcp_client.py")),
            Self::Inspector => (tools::node(), script("inspector.mjs")),
            Self::McpRemote => (tools::node(), script("mcp-remote.mjs")),
            Self::Rmcp => (tools::folder().join("rmcp/client"), None),
            Self::Stdio => (tools::node(), script("stdio.mjs")),
        }
    }

    /// Whether it can answer what servers ask.
    pub fn answers(self) -> bool {
        !matches!(self, Self::Inspector | Self::Rmcp)
    }
}

/// What a client script reported.
#[derive(Clone, Debug)]
pub struct Report(pub Value);

/// Lets a client follow a plan. `mode` is `legacy`, `auto`, `modern` or empty for its default.
///
/// # Errors
/// When it prints no report.
pub async fn drive(client: RealClient, url: &str, token: Option<&str>, mode: &str, steps: Value) -> Result<Report> {
    let plan = json!({"url": url, "token": token, "steps": steps, "limit": 240});
    follow(client, plan, mode, &[]).await
}

/// The same with more in the client's environment.
///
/// # Errors
/// As [`drive`].
pub async fn drive_with(
    client: RealClient,
    url: &str,
    token: Option<&str>,
    mode: &str,
    steps: Value,
    env: &[(String, String)],
) -> Result<Report> {
    let plan = json!({"url": url, "token": token, "steps": steps, "limit": 240});
    follow(client, plan, mode, env).await
}

/// Lets a client sign in by itself (OAuth), with this person in front of the browser, and
/// follow a plan. The report's `signedIn` tells what it got.
///
/// # Errors
/// When it prints no report.
pub async fn sign_in(client: RealClient, url: &str, person: &Person, mode: &str, steps: Value) -> Result<Report> {
    sign_in_as(client, url, person, mode, steps, json!({})).await
}

/// The same with more members of the plan, such as `elicitation`.
///
/// # Errors
/// When it prints no report.
pub async fn sign_in_as(
    client: RealClient,
    url: &str,
    person: &Person,
    mode: &str,
    steps: Value,
    more: Value,
) -> Result<Report> {
    let mut plan = json!({"url": url, "signIn": true, "steps": steps, "limit": 240});
    if let (Some(plan), Some(more)) = (plan.as_object_mut(), more.as_object()) {
        plan.extend(more.clone());
    }
    if client == RealClient::Inspector {
        // Its redirect has a fixed port, which is a setting.
        plan["callbackPort"] = json!(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port());
    }
    follow(client, plan, mode, &person.environment()).await
}

async fn follow(client: RealClient, mut plan: Value, mode: &str, env: &[(String, String)]) -> Result<Report> {
    if !mode.is_empty() {
        plan["mode"] = json!(mode);
    }
    let (program, script) = client.program();
    let mut command = Command::new(program);
    command.args(script).arg(plan.to_string());
    command.env("BARTIZAN_TOOLS_DIR", tools::folder()).env("PYTHONDONTWRITEBYTECODE", "1");
    command.env("BARTIZAN_BINARY", tools::product());
    command.envs(env.iter().map(|(name, value)| (name, value)));
    let output = process::run_command(&mut command, Duration::from_secs(250)).await?;
    let line = output.stdout.trim().lines().last().unwrap_or_default();
    let report =
        serde_json::from_str(line).with_context(|| format!("no report: {}\n{}", output.stdout, output.stderr))?;
    Ok(Report(report))
}

impl Report {
    /// The negotiated version; empty when the client does not tell.
    pub fn version(&self) -> &str {
        self.0["version"].as_str().unwrap_or_default()
    }

    /// The step whose `kind` member (`list`, `call`, `read`, `prompt`, `complete`) is `what`; null when absent.
    pub fn step(&self, kind: &str, what: &str) -> &Value {
        let steps = self.0["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
        steps.iter().find(|step| step[kind] == what).unwrap_or(&Value::Null)
    }

    /// The names of a list.
    pub fn names(&self, list: &str) -> Vec<String> {
        let names = self.step("list", list)["names"].as_array().map(Vec::as_slice).unwrap_or_default();
        names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect()
    }

    /// The text of a call.
    pub fn said(&self, tool: &str) -> &str {
        self.step("call", tool)["text"].as_str().unwrap_or_default()
    }

    /// What the server asked the client, in order.
    pub fn asked(&self) -> Vec<&str> {
        let asked = self.0["asked"].as_array().map(Vec::as_slice).unwrap_or_default();
        asked.iter().filter_map(Value::as_str).collect()
    }
}
