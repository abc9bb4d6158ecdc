//! Real MCP servers to put behind the gateway.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::process::Process;
use crate::tools;

/// A server that was started over HTTP.
#[derive(Debug)]
pub struct HttpServer {
    /// Where its endpoint is.
    pub url: String,
    /// The process.
    pub process: Process,
}

/// Starts the npm server "everything" with a transport: `streamableHttp` or `sse`.
///
/// # Errors
/// When it does not start.
pub async fn everything(transport: &str) -> Result<HttpServer> {
    let mut command = Command::new(tools::node());
    command
        .arg("-r")
        .arg(tools::script("lib/loopback.cjs"))
        .arg(tools::npm("@modelcontextprotocol/server-everything/dist/index.js"))
        .arg(transport)
        .env("PORT", "0");
    let mut process = Process::start(&mut command)?;
    let port = process
        .line(Duration::from_secs(60), |line| serde_json::from_str::<Value>(line).ok()?["listening"].as_u64())
        .await?;
    let path = if transport == "sse" { "sse" } else { "mcp" };
    Ok(HttpServer { url: format!("http://127.0.0.1:{port}/{path}"), process })
}

fn argv(program: &Path, args: &[&str]) -> Value {
    let mut argv = vec![program.display().to_string()];
    argv.extend(args.iter().map(|arg| (*arg).to_owned()));
    json!(argv)
}

fn node(package: &str, args: &[&str]) -> Value {
    let script = tools::npm(&format!("@modelcontextprotocol/{package}/dist/index.js")).display().to_string();
    let mut all = vec![script.as_str()];
    all.extend_from_slice(args);
    argv(&tools::node(), &all)
}

/// The command line of the npm server "everything" over stdio.
pub fn everything_stdio() -> Value {
    node("server-everything", &["stdio"])
}

/// The command line of the npm server for files below a folder.
pub fn filesystem(folder: &Path) -> Value {
    node("server-filesystem", &[&folder.display().to_string()])
}

/// The command line of the npm server with a knowledge graph; set `MEMORY_FILE_PATH`.
pub fn memory() -> Value {
    node("server-memory", &[])
}

/// The command line of the PyPI server for a git repository.
pub fn git(repository: &Path) -> Value {
    argv(&tools::venv("servers", "mcp-server-git"), &["--repository", &repository.display().to_string()])
}

/// The command line of the PyPI server for time zones.
pub fn time() -> Value {
    argv(&tools::venv("servers", "mcp-server-time"), &["--local-timezone", "Etc/UTC"])
}

/// The command line of the PyPI server that fetches pages.
pub fn fetch() -> Value {
    argv(&tools::venv("servers", "mcp-server-fetch"), &["--ignore-robots-txt"])
}
