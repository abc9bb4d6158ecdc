//! Up and down by one version of the schema while calls go on (row O7).
//!
//! There is one version of the binary, so the next one is simulated: what its expanding
//! migration would do to the database is done with SQL (a column in every table, a table, an
//! index, the entry among the migrations), and what only it would write is written with SQL.
//! The processes of both versions are the same binary: the "old" ones were started before the
//! schema grew, or are started on the grown one, as after a downgrade.

#![allow(clippy::indexing_slicing, reason = "helpers of tests")]

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bartizan_testkit::client::{Identity, ModernClient};
use bartizan_testkit::fixture::{Era, Fixture, Options};
use bartizan_testkit::http::Http;
use bartizan_testkit::postgres::{fresh_database, run_sql};
use bartizan_testkit::process;
use bartizan_testkit::product::{Config, Product, http_server};
use bartizan_testkit::tools::{self, Part};
use bartizan_testkit::wait::until;
use serde_json::json;

const SOON: Duration = Duration::from_secs(60);

/// A process that takes calls.
struct Target {
    url: String,
    ready: String,
    served: AtomicUsize,
}

/// Calls that go on until the end; clients follow readiness as a load balancer does.
struct Load {
    targets: Arc<Mutex<Vec<Arc<Target>>>>,
    stop: Arc<AtomicBool>,
    answered: Arc<Mutex<HashSet<String>>>,
    workers: Vec<tokio::task::JoinHandle<Result<()>>>,
}

impl Load {
    fn start(token: &str) -> Self {
        let mut load =
            Self { targets: Arc::default(), stop: Arc::default(), answered: Arc::default(), workers: Vec::new() };
        for worker in 0..4_usize {
            let (targets, stop, answered) =
                (Arc::clone(&load.targets), Arc::clone(&load.stop), Arc::clone(&load.answered));
            let token = token.to_owned();
            load.workers.push(tokio::spawn(async move {
                let http = Http::new();
                let mut turn = worker;
                while !stop.load(Ordering::SeqCst) {
                    turn += 1;
                    let target = {
                        let targets = targets.lock().expect("not poisoned");
                        targets.get(turn % targets.len().max(1)).cloned()
                    };
                    let Some(target) = target else {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                        continue;
                    };
                    if !matches!(http.get(&target.ready).await, Ok((200, _))) {
                        continue;
                    }
                    let id = call(&http, &target.url, &token).await?;
                    answered.lock().expect("not poisoned").insert(id);
                    target.served.fetch_add(1, Ordering::SeqCst);
                }
                Ok(())
            }));
        }
        load
    }

    fn add(&self, product: &Product) -> Arc<Target> {
        let target = Arc::new(Target {
            url: product.url(),
            ready: product.operations_url("/readyz"),
            served: AtomicUsize::new(0),
        });
        self.targets.lock().expect("not poisoned").push(Arc::clone(&target));
        target
    }

    /// Waits until a process has answered so many calls more.
    async fn more(&self, target: &Target, calls: usize) -> Result<()> {
        let goal = target.served.load(Ordering::SeqCst) + calls;
        let reached = async || target.served.load(Ordering::SeqCst) >= goal || self.failed();
        until("calls go on", SOON, reached).await
    }

    fn failed(&self) -> bool {
        self.workers.iter().any(tokio::task::JoinHandle::is_finished)
    }

    /// Ids of the events of all calls; not one failed.
    async fn end(self) -> Result<HashSet<String>> {
        self.stop.store(true, Ordering::SeqCst);
        for worker in self.workers {
            worker.await?.context("a call failed")?;
        }
        Ok(self.answered.lock().expect("not poisoned").clone())
    }
}

/// One good call; the id of its event.
async fn call(http: &Http, url: &str, token: &str) -> Result<String> {
    let client = ModernClient::with(http.clone(), url, Identity::bearer(token));
    let params = json!({"name": "fx_test_simple_text", "arguments": {}, "_meta": client.meta()});
    let headers = client.headers("tools/call", &params);
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
    let reply = client.send(&headers, body.to_string()).await?;
    let (status, id) = (reply.status, reply.header("x-request-id").map(str::to_owned));
    let text = reply.text().await?;
    ensure!(status == 200 && text.contains("This is a simple text"), "{status}: {text}");
    id.context("every answer names its event")
}

/// What the next version's migration does: it only adds. Statement by statement, the entry last.
fn expansion(tables: &str, version: u32) -> Vec<String> {
    let mut steps: Vec<String> =
        tables.lines().map(|table| format!("ALTER TABLE {table} ADD COLUMN added_later TEXT")).collect();
    steps.push("CREATE TABLE added_later (id BIGINT NOT NULL PRIMARY KEY, value TEXT)".to_owned());
    steps.push("CREATE INDEX added_later_index ON audit_index (server, kind)".to_owned());
    steps.push(format!(
        "INSERT INTO schema_migration (version, description, success, checksum, execution_time) \
         VALUES ({version}, 'later', true, '', 0)"
    ));
    steps
}

/// What only the next version writes.
const LATER: [&str; 2] =
    ["UPDATE service_token SET added_later = 'x'", "INSERT INTO added_later (id, value) VALUES (1, 'x')"];

fn contraction(version: u32) -> String {
    format!("UPDATE meta SET value = '{version}' WHERE name = 'schema.compatible_from'")
}

const VERSION: &str = "SELECT max(version) FROM schema_migration";

fn config(upstream: &Fixture) -> Config {
    Config::new()
        .server(http_server("fx", &upstream.url(), &["test_simple_text".to_owned()]))
        .set("limits", json!({"drain_wait_ms": 1_000, "drain_deadline_ms": 20_000}))
}

/// Every answered call is in the record of the process that answered it, and the records are whole.
async fn complete(answered: &HashSet<String>, products: &[&Product]) -> Result<()> {
    let mut recorded = HashSet::new();
    for product in products {
        for record in product.audit()? {
            let event = if record["event"].is_object() { &record["event"] } else { &record };
            if event["kind"] == "call" {
                recorded.extend(event["id"].as_str().map(str::to_owned));
            }
        }
        let verified = product.command(&["audit", "verify"]).await?;
        ensure!(verified.code == Some(0), "{verified:?}");
    }
    let missing: Vec<_> = answered.difference(&recorded).collect();
    ensure!(missing.is_empty(), "{} of {} calls are not on record", missing.len(), answered.len());
    Ok(())
}

/// After the contraction an old process refuses to start and says why.
async fn refuses(product: &mut Product) -> Result<()> {
    let refused = product.start_again().await.err().context("an old process started on a contracted schema")?;
    let text = format!("{refused:#}");
    ensure!(text.contains("schema"), "{text}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o7_up_and_down_by_one_version_under_load_on_postgres() -> Result<()> {
    let test = "o7_up_and_down_by_one_version_under_load_on_postgres";
    if !tools::ready(test, &[Part::Product, Part::Postgres]) {
        return Ok(());
    }
    let upstream = Fixture::start(Options::of(Era::Modern)).await?;
    let url = fresh_database().await?;
    let folders = [tempfile::TempDir::new()?, tempfile::TempDir::new()?, tempfile::TempDir::new()?];
    let with = |number: usize| config(&upstream).set("store", json!({"url": url, "data_dir": folders[number].path()}));
    let mut old = Product::serve(with(0)).await?;
    let token = old.token("agent").to_owned();
    let sharing = |number: usize| Config { tokens: Vec::new(), ..with(number) };
    let load = Load::start(&token);
    let first = load.add(&old);
    load.more(&first, 30).await?;
    // Up: the schema grows while the old process serves.
    let next: u32 = run_sql(&url, VERSION).await?.trim().parse::<u32>()? + 1;
    let tables =
        "SELECT tablename FROM pg_tables WHERE schemaname = current_schema() AND tablename <> 'schema_migration'";
    for step in expansion(&run_sql(&url, tables).await?, next) {
        run_sql(&url, &step).await?;
    }
    load.more(&first, 30).await?;
    // Side by side with a process of the next version, which writes what it alone knows.
    let mut new = Product::serve(sharing(1)).await?;
    let second = load.add(&new);
    for step in LATER {
        run_sql(&url, step).await?;
    }
    load.more(&first, 30).await?;
    load.more(&second, 30).await?;
    // What one of them writes counts for the other.
    let made = old.command(&["token", "create", "beside", "--json"]).await?;
    let beside: serde_json::Value = serde_json::from_str(made.stdout.trim())?;
    let beside = beside["bearer"].as_str().context("a token")?.to_owned();
    for product in [&old, &new] {
        let good = async || call(&product.http, &product.url(), &beside).await.is_ok();
        until("the token is good", SOON, good).await?;
    }
    // Down: the new process goes, an old one starts on the grown schema, the first old one goes.
    new.stop().await?;
    load.more(&first, 30).await?;
    let third = Product::serve(sharing(2)).await?;
    let last = load.add(&third);
    load.more(&last, 30).await?;
    old.stop().await?;
    load.more(&last, 30).await?;
    let answered = load.end().await?;
    println!("{} calls, {} by the process of the next version", answered.len(), second.served.load(Ordering::SeqCst));
    // The index in the shared store has them all as well, a moment later.
    let count = "SELECT id FROM audit_index WHERE kind = 'call'";
    let indexed = async || {
        let rows = run_sql(&url, count).await.unwrap_or_default();
        let rows: HashSet<&str> = rows.lines().collect();
        answered.iter().all(|id| rows.contains(id.as_str()))
    };
    until("every call is in the index", SOON, indexed).await?;
    run_sql(&url, &contraction(next)).await?;
    refuses(&mut old).await?;
    run_sql(&url, &contraction(1)).await?;
    complete(&answered, &[&old, &new, &third]).await
}

/// SQL on a file with another program's SQLite.
async fn sqlite(file: &Path, sql: &str) -> Result<String> {
    let script = "import sqlite3, sys\n\
        c = sqlite3.connect(sys.argv[1], timeout=30)\n\
        for row in c.execute(sys.argv[2]): print(row[0])\n\
        c.commit()";
    let file = file.display().to_string();
    let done = process::run("python3", ["-c", script, &file, sql], SOON).await?;
    ensure!(done.code == Some(0), "{}", done.stderr);
    Ok(done.stdout)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o7_up_and_down_by_one_version_under_load_on_sqlite() -> Result<()> {
    let test = "o7_up_and_down_by_one_version_under_load_on_sqlite";
    if !tools::ready(test, &[Part::Product]) {
        return Ok(());
    }
    // One file has one process: the versions follow each other, so only the growth is under load.
    let upstream = Fixture::start(Options::of(Era::Modern)).await?;
    let folder = tempfile::TempDir::new()?;
    let config = config(&upstream).set("store", json!({"data_dir": folder.path().join("data")}));
    let mut old = Product::serve(config).await?;
    let load = Load::start(old.token("agent"));
    let first = load.add(&old);
    load.more(&first, 30).await?;
    let mut files = std::fs::read_dir(folder.path().join("data"))?.flatten().map(|entry| entry.path());
    let database =
        |path: &std::path::PathBuf| path.extension().is_some_and(|ending| ending == "db" || ending == "sqlite");
    let file = files.find(database).context("the file of the store")?;
    let next: u32 = sqlite(&file, VERSION).await?.trim().parse::<u32>()? + 1;
    let tables = "SELECT name FROM sqlite_master WHERE type = 'table' AND name <> 'schema_migration' AND name NOT LIKE 'sqlite%'";
    for step in expansion(&sqlite(&file, tables).await?, next) {
        sqlite(&file, &step).await?;
    }
    load.more(&first, 30).await?;
    for step in LATER {
        sqlite(&file, step).await?;
    }
    load.more(&first, 30).await?;
    let mut answered = load.end().await?;
    old.stop().await?;
    // Down again: the old binary starts on the grown schema.
    old.start_again().await?;
    answered.insert(call(&old.http, &old.url(), old.token("agent")).await?);
    old.stop().await?;
    sqlite(&file, &contraction(next)).await?;
    refuses(&mut old).await?;
    sqlite(&file, &contraction(1)).await?;
    complete(&answered, &[&old]).await
}
