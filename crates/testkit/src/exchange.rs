//! An MCP server whose token endpoint takes people's own tokens of their provider (row P17).

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::tools;

/// What a program outside may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// bartizan at the token endpoint.
pub const CLIENT: &str = "gateway";
/// And its secret there.
pub const SECRET: &str = "the-endpoint-knows-this-secret";

/// A running `sign-in/exchange.mjs`. Ends with the value.
pub struct Exchanger {
    /// Name of its authorization server.
    pub issuer: String,
    /// The MCP endpoint that wants tokens.
    pub url: String,
    /// The token endpoint.
    pub token: String,
    pipe: Mutex<(ChildStdin, Lines<BufReader<ChildStdout>>)>,
    _child: Child,
}

impl Exchanger {
    /// Starts one in front of an MCP server at `http://127.0.0.1:PORT`, for people of this
    /// provider; its tokens last this many seconds.
    ///
    /// # Errors
    /// When it does not get ready.
    pub async fn start(strategy: &str, behind: &str, provider: &str, ttl_s: u32) -> Result<Self> {
        let mut child = Command::new(tools::node())
            .arg(tools::script("sign-in/exchange.mjs"))
            .arg(json!({"behind": behind, "provider": provider, "strategy": strategy, "ttl": ttl_s}).to_string())
            .env("BARTIZAN_TOOLS_DIR", tools::folder())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let input = child.stdin.take().context("stdin is piped")?;
        let mut output = BufReader::new(child.stdout.take().context("stdout is piped")?).lines();
        let first = line(&mut output).await?;
        let text = |name: &str| first[name].as_str().map(str::to_owned).context("not announced");
        let (issuer, url, token) = (text("issuer")?, text("url")?, text("token")?);
        Ok(Self { issuer, url, token, pipe: Mutex::new((input, output)), _child: child })
    }

    /// What it saw: `{seen: {who: calls}, mixed, exchanged: {who: times}, refused: [why], secrets: [..]}`.
    ///
    /// # Errors
    /// When it is gone.
    pub async fn stats(&self) -> Result<Value> {
        let mut pipe = self.pipe.lock().await;
        let (input, output) = &mut *pipe;
        input.write_all(b"{}\n").await?;
        input.flush().await?;
        line(output).await
    }
}

async fn line(output: &mut Lines<BufReader<ChildStdout>>) -> Result<Value> {
    let line = timeout(PATIENCE, output.next_line()).await??.context("the token endpoint ended")?;
    Ok(serde_json::from_str(&line)?)
}
