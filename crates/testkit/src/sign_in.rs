//! Signing in: a real OpenID provider, and people with real browsers.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::process;
use crate::{tools, wait};

/// What a program outside may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The secret of the client that bartizan is at the provider.
pub const CLIENT_SECRET: &str = "the-provider-knows-this-secret";

/// A running `oidc-provider` (npm). Ends with the value.
pub struct Provider {
    issuer: String,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Provider {
    /// Starts one that knows these people: `{"ana": {"email": …, "name": …, "groups": […]}}`. How they sign in is
    /// `amr` and `acr`, how many seconds ago `ages`, for each time in turn.
    ///
    /// # Errors
    /// When it does not get ready.
    pub async fn start(people: Value) -> Result<Self> {
        Self::start_with(json!({"people": people})).await
    }

    /// The same with other settings, as `sign-in/provider.mjs` names them.
    ///
    /// # Errors
    /// When it does not get ready.
    pub async fn start_with(settings: Value) -> Result<Self> {
        let mut child = Command::new(tools::node())
            .arg(tools::script("sign-in/provider.mjs"))
            .arg(settings.to_string())
            .env("BARTIZAN_TOOLS_DIR", tools::folder())
            .env("NODE_NO_WARNINGS", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let input = child.stdin.take().context("stdin is piped")?;
        let mut output = BufReader::new(child.stdout.take().context("stdout is piped")?).lines();
        let first = loop {
            let line = timeout(PATIENCE, output.next_line()).await??.context("the provider ended")?;
            if let Ok(value) = serde_json::from_str::<Value>(&line) {
                break value;
            }
        };
        let issuer = first["issuer"].as_str().context("no issuer")?.to_owned();
        Ok(Self { issuer, input, output, _child: child })
    }

    /// Its issuer.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The resource of bartizan's configuration that uses it.
    pub fn resource(&self) -> Value {
        json!({
            "id": "corp",
            "name": "Corp",
            "issuer": self.issuer,
            "client_id": "bartizan",
            "client_secret": CLIENT_SECRET,
            "scopes": ["openid", "email", "profile", "groups"],
        })
    }

    async fn tell(&mut self, command: Value) -> Result<Value> {
        self.input.write_all(format!("{command}\n").as_bytes()).await?;
        self.input.flush().await?;
        let answer = timeout(PATIENCE, self.output.next_line()).await??.context("the provider ended")?;
        let answer: Value = serde_json::from_str(&answer)?;
        anyhow::ensure!(answer["done"] == true, "the provider says {answer}");
        Ok(answer)
    }

    /// Makes bartizan at this base URL a client of the provider.
    ///
    /// # Errors
    /// When the provider is gone.
    pub async fn admit(&mut self, base: &str) -> Result<()> {
        // The second is used as soon as there are several providers.
        let redirects = [format!("{base}/login/callback"), format!("{base}/login/callback/corp")];
        let client = json!({"client_id": "bartizan", "client_secret": CLIENT_SECRET, "redirect_uris": redirects});
        self.tell(json!({"client": client})).await.map(drop)
    }

    /// Makes the provider forget a person.
    ///
    /// # Errors
    /// When the provider is gone.
    pub async fn remove(&mut self, person: &str) -> Result<()> {
        self.tell(json!({"remove": person})).await.map(drop)
    }

    /// Ends all that the provider gave for a person: tokens, refresh tokens, grants.
    ///
    /// # Errors
    /// When the provider is gone.
    pub async fn forget(&mut self, person: &str) -> Result<()> {
        self.tell(json!({"forget": person})).await.map(drop)
    }

    /// What it was asked at its authorization endpoint, in order: the parameters.
    ///
    /// # Errors
    /// When the provider is gone.
    pub async fn asked(&mut self) -> Result<Vec<Value>> {
        let answer = self.tell(json!({"asked": true})).await?;
        Ok(answer["asked"].as_array().cloned().unwrap_or_default())
    }

    /// Changes what the provider says of a person.
    ///
    /// # Errors
    /// When the provider is gone.
    pub async fn change(&mut self, person: &str, set: Value) -> Result<()> {
        self.tell(json!({"person": person, "set": set})).await.map(drop)
    }
}

/// A person with a browser (chromium) whose cookies stay from one use to the next.
pub struct Person {
    name: String,
    folder: TempDir,
    decide: &'static str,
    /// Other names of the person, by the origin where they are used.
    names: Vec<(String, String)>,
    /// What the person says an access is for.
    purpose: String,
}

impl Person {
    /// Somebody the provider knows by this name.
    ///
    /// # Errors
    /// When no folder can be made.
    pub fn new(name: &str) -> Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            folder: TempDir::new()?,
            decide: "allow",
            names: Vec::new(),
            purpose: String::new(),
        })
    }

    /// The same person refuses what bartizan asks.
    #[must_use]
    pub fn refusing(mut self) -> Self {
        self.decide = "deny";
        self
    }

    /// The same person is called otherwise at another authorization server.
    #[must_use]
    pub fn called(mut self, origin: &str, name: &str) -> Self {
        self.names.push((origin.to_owned(), name.to_owned()));
        self
    }

    /// The same person says that an access is for this.
    #[must_use]
    pub fn saying(mut self, purpose: &str) -> Self {
        self.purpose = purpose.to_owned();
        self
    }

    /// The environment in which a client finds this person's browser.
    pub fn environment(&self) -> Vec<(String, String)> {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        [
            ("BROWSER", tools::script("sign-in/open.mjs").display().to_string()),
            ("BARTIZAN_PERSON", self.name.clone()),
            ("BARTIZAN_PROFILE", path("profile")),
            ("BARTIZAN_TRACE", path("trace")),
            ("BARTIZAN_SHOTS", path("shots")),
            ("BARTIZAN_DECIDE", self.decide.to_owned()),
            ("BARTIZAN_PURPOSE", self.purpose.clone()),
            ("BARTIZAN_NAMES", Value::from_iter(self.names.iter().cloned()).to_string()),
            ("BARTIZAN_TOOLS_DIR", tools::folder().display().to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    /// Opens an address and goes on until nothing is left to answer.
    ///
    /// # Errors
    /// When the browser cannot be started.
    pub async fn open(&self, url: &str) -> Result<Value> {
        self.press(url, "").await
    }

    /// The same, and presses the first button of this selector once.
    ///
    /// # Errors
    /// When the browser cannot be started.
    pub async fn press(&self, url: &str, selector: &str) -> Result<Value> {
        let before = self.trace().len();
        let mut command = Command::new(tools::node());
        command.arg(tools::script("sign-in/browser.mjs")).arg(url).envs(self.environment());
        command.env("BARTIZAN_PRESS", selector);
        let output = process::run_command(&mut command, Duration::from_secs(90)).await?;
        let trace = self.trace();
        trace.get(before).cloned().with_context(|| format!("no trace: {}", output.stderr))
    }

    /// Signs out everywhere on the account page at this address, and of the accounts at servers
    /// if wanted; then at the provider: `{text, provider, providerEnded}`.
    ///
    /// # Errors
    /// When the browser cannot be started.
    pub async fn leave(&self, url: &str, accounts: bool) -> Result<Value> {
        let mut command = Command::new(tools::node());
        command.arg(tools::script("sign-in/leave.mjs")).arg(url).envs(self.environment());
        if accounts {
            command.arg("accounts");
        }
        let output = process::run_command(&mut command, Duration::from_secs(90)).await?;
        let line = output.stdout.trim().lines().last().unwrap_or_default();
        serde_json::from_str(line).with_context(|| format!("no answer: {}{}", output.stdout, output.stderr))
    }

    /// What the browser did so far, one entry per time it was opened:
    /// `{clicks, pages: [{url, title, heading}], ended, session?, text?, error?}`; `session` is
    /// the value of bartizan's cookie.
    pub fn trace(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("trace")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits until the browser was closed this often: a client goes on before its person does.
    ///
    /// # Errors
    /// When it takes too long.
    pub async fn closed(&self, times: usize) -> Result<Vec<Value>> {
        wait::until("the browser is closed", PATIENCE, async || self.trace().len() >= times).await?;
        Ok(self.trace())
    }

    /// The pictures of bartizan's pages.
    pub fn pictures(&self) -> PathBuf {
        self.folder.path().join("shots")
    }

    /// Copies the pictures to a folder that outlives the test.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn keep_pictures(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder)?;
        for entry in std::fs::read_dir(self.pictures()).into_iter().flatten() {
            let entry = entry?;
            std::fs::copy(entry.path(), folder.join(entry.file_name()))?;
        }
        Ok(())
    }
}
