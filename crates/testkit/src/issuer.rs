//! An issuer of tokens that is no sign-in: a company's provider that vouches for people, or a
//! CI platform.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::tools;

/// What a program outside may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running `tests/e2e/sign-in/issuer.mjs`. Ends with the value.
pub struct Issuer {
    issuer: String,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Issuer {
    /// Starts one with a key.
    ///
    /// # Errors
    /// When it does not get ready.
    pub async fn start() -> Result<Self> {
        let mut child = Command::new(tools::node())
            .arg(tools::script("sign-in/issuer.mjs"))
            .env("BARTIZAN_TOOLS_DIR", tools::folder())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let input = child.stdin.take().context("stdin is piped")?;
        let output = BufReader::new(child.stdout.take().context("stdout is piped")?).lines();
        let mut started = Self { issuer: String::new(), input, output, _child: child };
        let first = started.answer().await?;
        started.issuer = first["issuer"].as_str().context("no issuer")?.to_owned();
        Ok(started)
    }

    async fn answer(&mut self) -> Result<Value> {
        let line = timeout(PATIENCE, self.output.next_line()).await??.context("the issuer ended")?;
        Ok(serde_json::from_str(&line)?)
    }

    /// Its name.
    pub fn url(&self) -> &str {
        &self.issuer
    }

    /// A token: `{typ?, claims, as?: "none" | "other"}`.
    ///
    /// # Errors
    /// When the issuer is gone.
    pub async fn token(&mut self, wanted: Value) -> Result<String> {
        self.input.write_all(format!("{wanted}\n").as_bytes()).await?;
        Ok(self.answer().await?["token"].as_str().context("no token")?.to_owned())
    }

    /// Makes a new key the only one.
    ///
    /// # Errors
    /// When the issuer is gone.
    pub async fn rotate(&mut self) -> Result<()> {
        self.input.write_all(format!("{}\n", json!({"rotate": true})).as_bytes()).await?;
        self.answer().await.map(drop)
    }
}
