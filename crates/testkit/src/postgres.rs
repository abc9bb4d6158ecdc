//! A throw-away PostgreSQL from Debian's package: own folder, own port, no sync.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::sync::OnceCell;

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

/// A folder with an empty cluster, and the command that serves it.
async fn prepared() -> Result<(TempDir, u16, Command)> {
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
    start.arg("-D").arg(&data).arg("-p").arg(port.to_string());
    for setting in ["listen_addresses=127.0.0.1", "fsync=off", "max_connections=400"] {
        start.arg("-c").arg(setting);
    }
    start.arg("-c").arg(format!("unix_socket_directories={}", folder.path().display()));
    start.current_dir("/");
    Ok((folder, port, start))
}

async fn answers(port: u16) -> Result<()> {
    let ready = programs().context("PostgreSQL is not installed")?.join("pg_isready");
    wait::until("PostgreSQL is ready", Duration::from_secs(60), async || {
        let asked = Command::new(&ready).args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()]).status().await;
        asked.is_ok_and(|status| status.success())
    })
    .await
}

async fn make_database(port: u16, name: &str) -> Result<String> {
    let bin = programs().context("PostgreSQL is not installed")?;
    let args = ["-h", "127.0.0.1", "-p", &port.to_string(), "-U", "bartizan", name];
    let made = Command::new(bin.join("createdb")).args(args).output().await?;
    ensure!(made.status.success(), "createdb: {}", String::from_utf8_lossy(&made.stderr));
    Ok(format!("postgres://bartizan@127.0.0.1:{port}/{name}"))
}

/// Ends the cluster and removes its folder as soon as its input ends. A test program has no
/// end of its own in which a shared value could be dropped; the kernel closes its pipes.
const KEEPER: &str = r#"folder=$1; shift
"$@" >"$folder/log" 2>&1 &
server=$!
read -r _
kill -INT $server; wait $server; rm -rf "$folder""#;

/// An empty database of its own in a cluster that all tests of the program share; its URL.
///
/// # Errors
/// When PostgreSQL is not installed or does not start.
pub async fn fresh_database() -> Result<String> {
    static CLUSTER: OnceCell<(u16, std::process::Child)> = OnceCell::const_new();
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = async || {
        let (folder, port, start) = prepared().await?;
        let start = start.as_std();
        let keeper = std::process::Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(folder.path())
            .arg(start.get_program())
            .args(start.get_args())
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let log = folder.keep().join("log");
        answers(port).await.with_context(|| std::fs::read_to_string(log).unwrap_or_default())?;
        anyhow::Ok((port, keeper))
    };
    let (port, _keeper) = CLUSTER.get_or_try_init(start).await?;
    make_database(*port, &format!("test{}", NEXT.fetch_add(1, Ordering::Relaxed))).await
}

/// Runs SQL against a database, as one transaction.
///
/// # Errors
/// What `psql` says.
pub async fn run_sql(url: &str, sql: &str) -> Result<String> {
    let bin = programs().context("PostgreSQL is not installed")?;
    let args = ["-X", "-q", "-A", "-t", "-1", "-v", "ON_ERROR_STOP=1", "-c", sql, "-d", url];
    let done = Command::new(bin.join("psql")).args(args).output().await?;
    ensure!(done.status.success(), "psql: {}", String::from_utf8_lossy(&done.stderr));
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

impl Postgres {
    /// Makes and starts a cluster on a free loopback port.
    ///
    /// # Errors
    /// When PostgreSQL is not installed or does not start.
    pub async fn start() -> Result<Self> {
        let (folder, port, mut start) = prepared().await?;
        let process = Process::start(&mut start)?;
        let mut cluster = Self { process, _folder: folder, port };
        if answers(port).await.is_err() || !cluster.process.running() {
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
        make_database(self.port, name).await
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
