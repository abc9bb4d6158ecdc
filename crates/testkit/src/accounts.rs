//! An upstream of its own company: an MCP server behind a real authorization server.

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

/// A running `sign-in/upstream.mjs`. Ends with the value.
pub struct Upstream {
    /// Name of its authorization server, on a loopback address of its own.
    pub issuer: String,
    /// The MCP endpoint that wants tokens.
    pub url: String,
    pipe: Mutex<(ChildStdin, Lines<BufReader<ChildStdout>>)>,
    _child: Child,
}

impl Upstream {
    /// Starts one in front of an MCP server at `http://127.0.0.1:PORT`; its tokens last this
    /// many seconds.
    ///
    /// # Errors
    /// When it does not get ready.
    pub async fn start(behind: &str, ttl_s: u32) -> Result<Self> {
        let mut child = Command::new(tools::node())
            .arg(tools::script("sign-in/upstream.mjs"))
            .arg(json!({"behind": behind, "ttl": ttl_s}).to_string())
            .env("BARTIZAN_TOOLS_DIR", tools::folder())
            .env("NODE_NO_WARNINGS", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let input = child.stdin.take().context("stdin is piped")?;
        let mut output = BufReader::new(child.stdout.take().context("stdout is piped")?).lines();
        let first = line(&mut output).await?;
        let text = |name: &str| first[name].as_str().map(str::to_owned).context("not announced");
        Ok(Self { issuer: text("issuer")?, url: text("url")?, pipe: Mutex::new((input, output)), _child: child })
    }

    async fn tell(&self, command: Value) -> Result<Value> {
        let mut pipe = self.pipe.lock().await;
        let (input, output) = &mut *pipe;
        input.write_all(format!("{command}\n").as_bytes()).await?;
        input.flush().await?;
        line(output).await
    }

    /// The access tokens of a person are worthless from now on; refreshing works.
    ///
    /// # Errors
    /// When it is gone.
    pub async fn expire(&self, who: &str) -> Result<()> {
        self.tell(json!({"expire": who})).await.map(drop)
    }

    /// All a person granted is gone.
    ///
    /// # Errors
    /// When it is gone.
    pub async fn forget(&self, who: &str) -> Result<()> {
        self.tell(json!({"forget": who})).await.map(drop)
    }

    /// No registered client is known any more.
    ///
    /// # Errors
    /// When it is gone.
    pub async fn forget_clients(&self) -> Result<()> {
        self.tell(json!({"clients": "drop"})).await.map(drop)
    }

    /// What it saw: `{seen: {who: calls}, mixed, refreshed, refused, revoked, registered}`.
    ///
    /// # Errors
    /// When it is gone.
    pub async fn stats(&self) -> Result<Value> {
        self.tell(json!({"stats": true})).await
    }
}

async fn line(output: &mut Lines<BufReader<ChildStdout>>) -> Result<Value> {
    loop {
        let line = timeout(PATIENCE, output.next_line()).await??.context("the upstream ended")?;
        if let Ok(value) = serde_json::from_str(&line) {
            return Ok(value);
        }
    }
}
