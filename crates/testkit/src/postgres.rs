//! A throw-away PostgreSQL from Debian's package: own folder, own port, no sync.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;
use tokio::process::Command;

use crate::process::Process;
use crate::wait;

/// A running cluster; ended and removed when dropped.
#[derive(Debug)]
pub struct Postgres {
    process: Process,
    _folder: TempDir,
    port: u16,
}

/// Debian's folder of server programs, newest version first.
pub fn programs() -> Option<PathBuf> {
    let mut versions: Vec<PathBuf> = Path::new("/usr/lib/postgresql")
        .read_dir()
        .ok()?
        .flatten()
        .map(|version| version.path().join("bin"))
        .filter(|bin| bin.join("initdb").exists())
        .collect();
    versions.sort();
    versions.pop()
}

/// PostgreSQL refuses to run as root; Debian's package brings a user.
fn command(program: &Path) -> Command {
    if rustix::process::geteuid().is_root() {
        // Unlike su and runuser, setpriv becomes the program, so that its pid is ours to end.
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    }
}

impl Postgres {
    /// Makes and starts a cluster on a free loopback port.
    ///
    /// # Errors
    /// When PostgreSQL is not installed or does not start.
    pub async fn start() -> Result<Self> {
        let bin = programs().context("PostgreSQL is not installed (apt-get install postgresql)")?;
        let folder = TempDir::new()?;
        if rustix::process::geteuid().is_root() {
            let owned = Command::new("chown").arg("postgres").arg(folder.path()).status().await?;
            ensure!(owned.success(), "cannot hand the folder to the user postgres");
        }
        let data = folder.path().join("data");
        let made = command(&bin.join("initdb"))
            .args(["--no-sync", "--auth=trust", "--encoding=UTF8", "--no-locale", "--username=bartizan", "-D"])
            .arg(&data)
            .current_dir("/")
            .output()
            .await?;
        ensure!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let mut start = command(&bin.join("postgres"));
        start.arg("-D").arg(&data).args([
            "-p",
            &port.to_string(),
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            "fsync=off",
        ]);
        start.arg("-c").arg(format!("unix_socket_directories={}", folder.path().display()));
        start.current_dir("/");
        let process = Process::start(&mut start)?;
        let mut cluster = Self { process, _folder: folder, port };
        let ready = bin.join("pg_isready");
        let waited = wait::until("PostgreSQL is ready", Duration::from_secs(60), async || {
            let asked = Command::new(&ready).args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()]).status().await;
            asked.is_ok_and(|status| status.success())
        })
        .await;
        if waited.is_err() || !cluster.process.running() {
            bail!("PostgreSQL did not start: {}", cluster.process.stderr());
        }
        Ok(cluster)
    }

    /// The URL of its default database.
    pub fn url(&self) -> String {
        format!("postgres://bartizan@127.0.0.1:{}/postgres", self.port)
    }

    /// Makes an empty database and returns its URL.
    ///
    /// # Errors
    /// When it cannot be made.
    pub async fn database(&self, name: &str) -> Result<String> {
        let bin = programs().context("PostgreSQL is not installed")?;
        let port = self.port.to_string();
        let args = ["-h", "127.0.0.1", "-p", &port, "-U", "bartizan", name];
        let made = Command::new(bin.join("createdb")).args(args).output().await?;
        ensure!(made.status.success(), "createdb: {}", String::from_utf8_lossy(&made.stderr));
        Ok(format!("postgres://bartizan@127.0.0.1:{port}/{name}"))
    }

    /// A fast shutdown: open connections are ended.
    ///
    /// # Errors
    /// When it does not end within 30 s.
    pub async fn stop(&mut self) -> Result<()> {
        // SIGTERM would be a smart shutdown, which waits for clients.
        self.process.signal(rustix::process::Signal::INT)?;
        self.process.ended(Duration::from_secs(30)).await.map(drop)
    }
}
