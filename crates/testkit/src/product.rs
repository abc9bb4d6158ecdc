//! The product's own binary, started the way an operator does.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::http::Http;
use crate::postgres;
use crate::process::{self, Output, Process};
use crate::{tools, wait};

/// How long the product may take to get ready in a debug build on a busy machine.
const READY: Duration = Duration::from_secs(60);

/// A configuration file in the making.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file as JSON (which is YAML too).
    pub file: Value,
    /// Names of service tokens to make before the start.
    pub tokens: Vec<String>,
    /// Environment of the process beside the inherited one.
    pub env: Vec<(String, String)>,
}

impl Default for Config {
    fn default() -> Self {
        Self::new()
    }
}

/// A rule that lets every service token in.
pub fn all_services() -> Value {
    json!([{"name": "services", "action": "service_auth", "include": [{"everyone": true}]}])
}

/// A server entry that every service token may use, with these tools reviewed as reads.
pub fn http_server(id: &str, url: &str, read: &[String]) -> Value {
    json!({"server_id": id, "hostname": url, "policies": all_services(), "classes": {"read": read}})
}

/// A local server entry that every service token may use.
pub fn stdio_server(id: &str, argv: Value, read: &[&str]) -> Value {
    json!({
        "server_id": id,
        "command": {"argv": argv, "shared": true, "allow_unpinned": true, "sandbox": "none"},
        "policies": all_services(),
        "classes": {"read": read},
    })
}

impl Config {
    /// No servers, a default portal for every service token, loopback upstreams allowed, one token `agent`.
    pub fn new() -> Self {
        Self {
            file: json!({
                "egress": {"private_allow": ["127.0.0.1"]},
                "hosting": {"enabled": true},
                "limits": {"drain_wait_ms": 100},
                "servers": [],
                "portals": [{"id": "default", "name": "All", "policies": all_services()}],
            }),
            tokens: vec!["agent".to_owned()],
            env: Vec::new(),
        }
    }

    /// Adds a server.
    #[must_use]
    pub fn server(mut self, server: Value) -> Self {
        self.push("servers", server);
        self
    }

    /// Adds an entry to a list of the file, such as `grants` or `policies`.
    #[must_use]
    pub fn with(mut self, list: &str, entry: Value) -> Self {
        self.push(list, entry);
        self
    }

    /// Sets a member of the file.
    #[must_use]
    pub fn set(mut self, member: &str, value: Value) -> Self {
        self.file[member] = value;
        self
    }

    /// Makes another service token.
    #[must_use]
    pub fn token(mut self, name: &str) -> Self {
        self.tokens.push(name.to_owned());
        self
    }

    fn push(&mut self, list: &str, entry: Value) {
        match self.file[list].as_array_mut() {
            Some(entries) => entries.push(entry),
            None => self.file[list] = json!([entry]),
        }
    }
}

/// A running product with its own folder.
pub struct Product {
    process: Process,
    folder: TempDir,
    config: Config,
    public: u16,
    operations: u16,
    tokens: BTreeMap<String, String>,
    /// A client for raw requests.
    pub http: Http,
}

/// A port nobody listens on right now.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

impl Product {
    /// Writes the file, makes the tokens, starts `bartizan serve` and waits until it is ready.
    ///
    /// # Errors
    /// When any of it fails; the message has what the product printed.
    pub async fn serve(mut config: Config) -> Result<Self> {
        let folder = TempDir::new()?;
        if tools::on_postgres() && config.file.get("store").is_none() {
            let url = postgres::fresh_database().await?;
            config.file["store"] = json!({"data_dir": folder.path().join("data"), "url": url});
        }
        std::fs::write(folder.path().join("key"), b"0123456789abcdefFEDCBA9876543210")?;
        restrict(&folder.path().join("key"))?;
        let mut last = None;
        let mut tokens = None;
        // Between choosing a port and using it somebody else may take it.
        for _ in 0..3 {
            let (public, operations) = (free_port()?, free_port()?);
            let path = write_config(folder.path(), &config.file, public, operations)?;
            let tokens = match &tokens {
                Some(made) => made,
                None => tokens.insert(make_tokens(&path, &config).await?),
            };
            match launch(&path, &config.env, operations).await {
                Ok(process) => {
                    let (http, tokens) = (Http::new(), tokens.clone());
                    return Ok(Self { process, folder, config, public, operations, tokens, http });
                }
                Err(error) if format!("{error:#}").to_lowercase().contains("in use") => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(last.context("no port could be had")?)
    }

    /// The public URL without a path.
    pub fn base(&self) -> String {
        format!("{}://127.0.0.1:{}", scheme(&self.config.file), self.public)
    }

    /// The endpoint of the default portal.
    pub fn url(&self) -> String {
        format!("{}/mcp", self.base())
    }

    /// The pass-through endpoint of a server.
    pub fn server_url(&self, id: &str) -> String {
        format!("{}/servers/{id}/mcp", self.base())
    }

    /// The endpoint of a portal.
    pub fn portal_url(&self, id: &str) -> String {
        format!("{}/portals/{id}/mcp", self.base())
    }

    /// A path of the operations listener.
    pub fn operations_url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.operations)
    }

    /// The public port.
    pub fn port(&self) -> u16 {
        self.public
    }

    /// The secret of a token made before the start.
    ///
    /// # Panics
    /// When no such token was asked for.
    #[expect(clippy::panic, reason = "a mistake in the test itself")]
    pub fn token(&self, name: &str) -> &str {
        self.tokens.get(name).map_or_else(|| panic!("no token {name} in the configuration"), String::as_str)
    }

    /// Its process id.
    pub fn pid(&self) -> Option<u32> {
        self.process.pid()
    }

    /// The process itself.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Everything it printed.
    pub fn log(&self) -> String {
        format!("{}\n{}", self.process.stdout(), self.process.stderr())
    }

    /// The folder with its data.
    pub fn data(&self) -> PathBuf {
        let own = || self.folder.path().join("data");
        self.config.file["store"]["data_dir"].as_str().map_or_else(own, PathBuf::from)
    }

    /// Its configuration file.
    pub fn config_path(&self) -> PathBuf {
        self.folder.path().join("bartizan.yaml")
    }

    /// Runs another command of the binary with `-c` of this installation.
    ///
    /// # Errors
    /// When it cannot be run.
    pub async fn command(&self, args: &[&str]) -> Result<Output> {
        command_with(&self.config_path(), args).await
    }

    /// Replaces the configuration file (ports stay). The product is not told.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn rewrite(&mut self, mut config: Config) -> Result<()> {
        if let (None, Some(store)) = (config.file.get("store"), self.config.file.get("store")) {
            config.file["store"] = store.clone();
        }
        write_config(self.folder.path(), &config.file, self.public, self.operations)?;
        self.config = config;
        Ok(())
    }

    /// One metric line's value; `None` when it is not there. `name` includes the labels.
    ///
    /// # Errors
    /// When the metrics cannot be had.
    pub async fn metric(&self, name: &str) -> Result<Option<f64>> {
        let (_, text) = self.http.get(&self.operations_url("/metrics")).await?;
        Ok(text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok()))
    }

    /// SIGTERM and the end of the process.
    ///
    /// # Errors
    /// When it does not end within 60 s.
    pub async fn stop(&mut self) -> Result<std::process::ExitStatus> {
        self.process.terminate(Duration::from_secs(60)).await
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn kill(&mut self) -> Result<()> {
        self.process.kill().await
    }

    /// Starts again on the same ports and data.
    ///
    /// # Errors
    /// When it does not get ready.
    pub async fn start_again(&mut self) -> Result<()> {
        self.process = launch(&self.config_path(), &self.config.env, self.operations).await?;
        Ok(())
    }

    /// Every record of every segment, in file order: the JSON lines of the audit folder.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn audit(&self) -> Result<Vec<Value>> {
        let mut files = Vec::new();
        collect(&self.data(), &mut files)?;
        files.sort();
        let mut records = Vec::new();
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            records.extend(lines.filter(|line| line.get("_seq").is_some() && line.get("_prev").is_some()));
        }
        Ok(records)
    }

    /// Whether a text occurs in any file of its data folder or in anything it printed.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn leaks(&self, text: &str) -> Result<Option<String>> {
        if self.log().contains(text) {
            return Ok(Some("log".to_owned()));
        }
        let mut files = Vec::new();
        collect_all(&self.data(), &mut files)?;
        for file in files {
            let bytes = std::fs::read(&file)?;
            if bytes.windows(text.len()).any(|window| window == text.as_bytes()) {
                return Ok(Some(file.display().to_string()));
            }
        }
        Ok(None)
    }
}

fn collect_all(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect_all(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let mut all = Vec::new();
    collect_all(folder, &mut all)?;
    let segment = |path: &PathBuf| {
        let name = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        !["sqlite", "db", "sqlite-wal", "sqlite-shm"].contains(&name)
    };
    files.extend(all.into_iter().filter(segment));
    Ok(())
}

fn restrict(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?)
}

fn scheme(file: &Value) -> &'static str {
    if file.get("tls").is_some_and(|tls| !tls.is_null()) { "https" } else { "http" }
}

fn write_config(folder: &Path, file: &Value, public: u16, operations: u16) -> Result<PathBuf> {
    let mut file = file.clone();
    let defaults = [
        ("public_url", json!(format!("{}://127.0.0.1:{public}", scheme(&file)))),
        ("listen", json!(format!("127.0.0.1:{public}"))),
        ("operations", json!({"listen": format!("127.0.0.1:{operations}")})),
        ("key", json!({"file": folder.join("key")})),
        ("store", json!({"data_dir": folder.join("data")})),
    ];
    for (member, value) in defaults {
        if file.get(member).is_none() {
            file[member] = value;
        }
    }
    let path = folder.join("bartizan.yaml");
    // Written beside and renamed: a watcher never sees half a file.
    let new = folder.join("bartizan.yaml.new");
    std::fs::write(&new, serde_json::to_string_pretty(&file)?)?;
    std::fs::rename(&new, &path)?;
    Ok(path)
}

async fn command_with(config: &Path, args: &[&str]) -> Result<Output> {
    let mut command = Command::new(tools::product());
    command.args(args).arg("-c").arg(config);
    process::run_command(&mut command, READY).await
}

async fn make_tokens(config: &Path, wanted: &Config) -> Result<BTreeMap<String, String>> {
    let mut tokens = BTreeMap::new();
    for name in &wanted.tokens {
        let output = command_with(config, &["token", "create", name, "--json"]).await?;
        if output.code != Some(0) {
            bail!("cannot make the token {name}: {}{}", output.stdout, output.stderr);
        }
        let made: Value = serde_json::from_str(output.stdout.trim())
            .with_context(|| format!("token create --json printed {}", output.stdout))?;
        let secret = ["bearer", "token", "secret"].iter().find_map(|member| made[*member].as_str());
        tokens.insert(name.clone(), secret.context("no secret in what token create printed")?.to_owned());
    }
    Ok(tokens)
}

async fn launch(config: &Path, env: &[(String, String)], operations: u16) -> Result<Process> {
    let mut command = Command::new(tools::product());
    command.arg("serve").arg("-c").arg(config);
    command.envs(env.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let mut process = Process::start(&mut command)?;
    let http = Http::new();
    let url = format!("http://127.0.0.1:{operations}/readyz");
    let mut ended = false;
    let waited = wait::until("the product is ready", READY, async || {
        ended = !process.running();
        ended || matches!(http.get(&url).await, Ok((200, _)))
    })
    .await;
    if ended || waited.is_err() {
        // What it printed last may still be on its way.
        tokio::time::sleep(Duration::from_millis(100)).await;
        bail!("bartizan serve did not get ready: {}{}", process.stdout(), process.stderr());
    }
    Ok(process)
}
