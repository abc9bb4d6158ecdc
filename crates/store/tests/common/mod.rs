//! Stores for tests: a SQLite file in a folder of its own, and Postgres, either the one
//! that `BARTIZAN_TEST_POSTGRES` names or a throw-away server of this machine's package.
//!
//! Used by the tests of several crates through `#[path]`, none of which uses all of it.
#![allow(dead_code, unreachable_pub, clippy::expect_used, clippy::panic, reason = "shared by several test crates")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bartizan_model::{Clock, ManualClock, Secret, SystemClock};
use bartizan_store::{Store, StoreUrl};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};
use tempfile::TempDir;

/// Printed by a test that did nothing; `cargo xtask test` looks for it.
pub const SKIPPED: &str = "SKIPPED: no Postgres: set BARTIZAN_TEST_POSTGRES or install the package `postgresql`";

/// 2026-01-01T00:00:00Z
pub const NOW: i64 = 1_767_225_600_000;

/// A clock at a fixed time.
pub fn manual() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(NOW))
}

/// A fresh SQLite store. Keep the folder.
pub async fn sqlite(clock: Arc<dyn Clock>) -> (TempDir, Store) {
    let dir = TempDir::new().expect("a temporary folder");
    let store = Store::open(&StoreUrl::Sqlite(dir.path().join("store.db")), clock).await.expect("a SQLite store");
    (dir, store)
}

/// A Postgres to test against.
pub enum Postgres {
    Given { url: String, database: std::sync::atomic::AtomicU32 },
    Own(Server),
}

/// A server of our own; ends with the value.
pub struct Server {
    child: Child,
    dir: TempDir,
    database: std::sync::atomic::AtomicU32,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Postgres {
    /// `None`, with [`SKIPPED`] on standard error, when there is none.
    pub async fn start() -> Option<Self> {
        if let Some(url) = std::env::var_os("BARTIZAN_TEST_POSTGRES") {
            let url = url.into_string().expect("BARTIZAN_TEST_POSTGRES is UTF-8");
            return Some(Self::Given { url, database: 0.into() });
        }
        let Some(bin) = newest_bin() else {
            eprintln!("{SKIPPED}");
            return None;
        };
        Some(Self::Own(start_own(&bin).await))
    }

    fn database_url(&self, database: &str) -> String {
        match self {
            Self::Given { url, .. } => {
                let (start, query) = url.split_once('?').map_or((url.as_str(), ""), |(start, query)| (start, query));
                let end = start.rfind('/').filter(|at| *at > "postgres://".len()).unwrap_or(start.len());
                format!("{}/{database}?{query}", &start[..end])
            }
            Self::Own(server) => socket_url(server.dir.path(), database),
        }
    }

    /// The address of a new, empty database.
    pub async fn empty(&self) -> StoreUrl {
        StoreUrl::Postgres(Secret::new(self.empty_url().await))
    }

    /// The same as text.
    pub async fn empty_url(&self) -> String {
        let (Self::Given { database, .. } | Self::Own(Server { database, .. })) = self;
        let number = database.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let name = format!("bartizan_test_{}_{}_{number}", std::process::id(), SystemClock.now_ms());
        let admin = match self {
            Self::Given { url, .. } => url.clone(),
            Self::Own(_) => self.database_url("postgres"),
        };
        let options: sqlx::postgres::PgConnectOptions = admin.parse().expect("a Postgres url");
        let mut connection = options.connect().await.expect("Postgres answers");
        sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}")))
            .execute(&mut connection)
            .await
            .expect("may create databases");
        connection.close().await.expect("closes");
        self.database_url(&name)
    }

    /// A store in a new database.
    pub async fn store(&self, clock: Arc<dyn Clock>) -> Store {
        Store::open(&self.empty().await, clock).await.expect("a Postgres store")
    }
}

fn newest_bin() -> Option<PathBuf> {
    let mut bins: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|bin| bin.join("initdb").exists())
        .collect();
    bins.sort();
    bins.pop()
}

fn socket_url(dir: &Path, database: &str) -> String {
    format!("postgres://postgres@localhost/{database}?host={}", dir.display())
}

/// Postgres refuses to run as root; then the package's own user does it.
fn command(program: &Path, dir: &Path) -> Command {
    let mut command = Command::new(program);
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let is_root = status.lines().any(|line| line.starts_with("Uid:\t0\t"));
    if is_root {
        use std::os::unix::process::CommandExt as _;
        let passwd = fs::read_to_string("/etc/passwd").expect("/etc/passwd");
        let user = passwd.lines().find(|line| line.starts_with("postgres:")).expect("a user `postgres`");
        let mut ids = user.split(':').skip(2).map(|id| id.parse::<u32>().expect("a number"));
        let (uid, gid) = (ids.next().expect("uid"), ids.next().expect("gid"));
        std::os::unix::fs::chown(dir, Some(uid), Some(gid)).expect("root may chown");
        command.uid(uid).gid(gid);
    }
    command.current_dir(dir).env_clear().env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
    command
}

async fn start_own(bin: &Path) -> Server {
    // Short, because a socket's path has at most 107 bytes.
    let dir = tempfile::Builder::new().prefix("bzpg").tempdir_in("/tmp").expect("a temporary folder");
    let data = dir.path().join("data");
    let made = command(&bin.join("initdb"), dir.path())
        .args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-instructions"])
        .arg("--pgdata")
        .arg(&data)
        .output()
        .expect("initdb runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let log = fs::File::create(dir.path().join("log")).expect("a log");
    let child = command(&bin.join("postgres"), dir.path())
        .arg("-D")
        .arg(&data)
        .arg("-k")
        .arg(dir.path())
        .args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=200"])
        .stdout(log.try_clone().expect("a second handle"))
        .stderr(log)
        .spawn()
        .expect("postgres runs");
    let server = Server { child, dir, database: 0.into() };
    let options: sqlx::postgres::PgConnectOptions =
        socket_url(server.dir.path(), "postgres").parse().expect("a Postgres url");
    for _ in 0..600 {
        if let Ok(connection) = options.connect().await {
            connection.close().await.expect("closes");
            return server;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("postgres did not start: {}", fs::read_to_string(server.dir.path().join("log")).unwrap_or_default());
}
