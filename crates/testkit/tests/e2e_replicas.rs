//! Sessions of legacy clients on any replica (P34): three processes over one PostgreSQL
//! behind a balancer without affinity.

#![allow(clippy::indexing_slicing, reason = "helpers of tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bartizan_testkit::balancer::Balancer;
use bartizan_testkit::client::{Identity, LegacyClient, ModernClient};
use bartizan_testkit::fixture::{Era, Fixture, Options};
use bartizan_testkit::http::Http;
use bartizan_testkit::postgres::{self, Postgres};
use bartizan_testkit::product::{Config, Product, http_server};
use bartizan_testkit::tools::{self, Part};
use http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Three processes that share a store and nothing else.
struct Replicas {
    nodes: Vec<Product>,
    balancer: Balancer,
    a: String,
    b: String,
    database: String,
    _folders: TempDir,
    _postgres: Postgres,
}

impl Replicas {
    async fn start(upstream: &Fixture) -> Result<Self> {
        let postgres = Postgres::start().await?;
        let database = postgres.database("bartizan_replicas").await?;
        let folders = TempDir::new()?;
        let tools = upstream.tool_names();
        let mut nodes: Vec<Product> = Vec::new();
        for number in 0..3 {
            let store = json!({"url": database, "data_dir": folders.path().join(number.to_string())});
            let mut config = Config::new().token("other").set("store", store);
            config = config.server(http_server("fx", &upstream.url(), &tools));
            config = config.server(http_server("fy", &upstream.url(), &tools));
            if number > 0 {
                // The tokens are in the shared store already.
                config.tokens.clear();
            }
            nodes.push(Product::serve(config).await?);
        }
        let balancer = Balancer::start(nodes.iter().map(Product::port).collect()).await?;
        let first = nodes.first().context("three nodes")?;
        let (a, b) = (first.token("agent").to_owned(), first.token("other").to_owned());
        Ok(Self { nodes, balancer, a, b, database, _folders: folders, _postgres: postgres })
    }

    fn url(&self) -> String {
        self.balancer.url("/mcp")
    }

    async fn client(&self, token: &str) -> Result<LegacyClient> {
        LegacyClient::connect(&self.url(), Identity::bearer(token)).await.map_err(|p| anyhow::anyhow!("{p}"))
    }

    /// Status of one `ping` with this session and token at one node.
    async fn ping(&self, node: usize, token: &str, session: &str) -> Result<u16> {
        status(&self.nodes[node].http, Method::POST, &self.nodes[node].url(), token, session).await
    }
}

async fn status(http: &Http, method: Method, url: &str, token: &str, session: &str) -> Result<u16> {
    let bearer = format!("Bearer {token}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("mcp-session-id", session),
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
    ];
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"}).to_string();
    Ok(http.send(method, url, &headers, body).await?.status)
}

async fn ready(name: &str) -> bool {
    tools::ready(name, &[Part::Product, Part::Postgres])
}

const CALLS: usize = 10_000;

/// One replica after the other is killed without warning, every five seconds, during ten
/// thousand calls of legacy sessions: each call succeeds with at most one repeat, and no
/// session has to be opened again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p34_ten_thousand_calls_while_replicas_are_killed() -> Result<()> {
    if !ready("p34_ten_thousand_calls_while_replicas_are_killed").await {
        return Ok(());
    }
    let upstream = Fixture::start(Options::of(Era::Legacy)).await?;
    let mut replicas = Replicas::start(&upstream).await?;
    let (left, repeats) = (Arc::new(AtomicUsize::new(CALLS)), Arc::new(AtomicUsize::new(0)));
    let over = Arc::new(AtomicBool::new(false));
    let mut workers = Vec::new();
    for _ in 0..8 {
        let client = replicas.client(&replicas.a).await?;
        let (left, repeats) = (Arc::clone(&left), Arc::clone(&repeats));
        workers.push(tokio::spawn(async move {
            let one = async || client.call("fx_test_simple_text", json!({})).await;
            while left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
                let exchange = match one().await {
                    Ok(exchange) => exchange,
                    Err(first) => {
                        ensure!(first.status != 404, "the session was lost: {first}");
                        repeats.fetch_add(1, Ordering::SeqCst);
                        // A client waits a little before it comes back: a process that dies
                        // still takes connections until the kernel has closed its door.
                        tokio::time::sleep(Duration::from_millis(500)).await;
                        one().await.map_err(|second| anyhow::anyhow!("{first}, then {second}"))?
                    }
                };
                ensure!(exchange.text().starts_with("This is a simple text"), "{}", exchange.result);
            }
            Ok(())
        }));
    }
    let ended = Arc::clone(&over);
    let waiting = tokio::spawn(async move {
        let mut outcomes = Vec::new();
        for worker in workers {
            outcomes.push(worker.await);
        }
        ended.store(true, Ordering::SeqCst);
        outcomes
    });
    let mut kills = 0;
    while !over.load(Ordering::SeqCst) {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let node = &mut replicas.nodes[kills % 3];
        node.kill().await?;
        node.start_again().await?;
        kills += 1;
    }
    for outcome in waiting.await? {
        outcome??;
    }
    println!("{CALLS} calls, {kills} kills, {} repeats", repeats.load(Ordering::SeqCst));
    ensure!(kills > 1, "nobody was killed meanwhile");
    Ok(())
}

/// A session is its owner's on every replica and nobody else's on any; what ends on one is
/// unknown to the others within two seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p34_a_session_is_one_callers_on_every_replica() -> Result<()> {
    if !ready("p34_a_session_is_one_callers_on_every_replica").await {
        return Ok(());
    }
    let upstream = Fixture::start(Options::of(Era::Legacy)).await?;
    let replicas = Replicas::start(&upstream).await?;
    let client = replicas.client(&replicas.a).await?;
    let session = client.session().context("a session")?.to_owned();
    ensure!(session.len() <= 512, "{} characters", session.len());
    for node in 0..3 {
        ensure!(replicas.ping(node, &replicas.a, &session).await? == 200);
        ensure!(replicas.ping(node, &replicas.b, &session).await? == 404, "the token of another one");
        ensure!(replicas.ping(node, &replicas.a, &session[..session.len() - 4]).await? == 404, "cut off");
        let swapped = format!("{}AAAA{}", &session[..40], &session[44..]);
        ensure!(replicas.ping(node, &replicas.a, &swapped).await? == 404, "changed");
    }
    let (http, url) = (&replicas.nodes[0].http, replicas.nodes[0].url());
    ensure!(status(http, Method::DELETE, &url, &replicas.b, &session).await? == 404, "ended by another one");
    ensure!(replicas.ping(1, &replicas.a, &session).await? == 200);
    ensure!(status(http, Method::DELETE, &url, &replicas.a, &session).await? == 204);
    let ended = tokio::time::Instant::now();
    let mut known = vec![0, 1, 2];
    while !known.is_empty() {
        ensure!(ended.elapsed() < Duration::from_secs(2), "{known:?} know it still");
        let mut still = Vec::new();
        for node in known {
            if replicas.ping(node, &replicas.a, &session).await? != 404 {
                still.push(node);
            }
        }
        known = still;
    }
    ensure!(status(http, Method::DELETE, &url, &replicas.a, &session).await? == 404, "ended twice");
    let rows = postgres::run_sql(&replicas.database, "SELECT id || profile || off FROM portal_state").await?;
    ensure!(!rows.contains("agent"), "{rows}");
    Ok(())
}

/// One process over SQLite knows its sessions after a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p34_a_session_outlives_a_restart() -> Result<()> {
    if !tools::ready("p34_a_session_outlives_a_restart", &[Part::Product]) {
        return Ok(());
    }
    let upstream = Fixture::start(Options::of(Era::Modern)).await?;
    let config = Config::new().server(http_server("fx", &upstream.url(), &upstream.tool_names()));
    let mut product = Product::serve(config).await?;
    let client = LegacyClient::connect(&product.url(), Identity::bearer(product.token("agent"))).await;
    let client = client.map_err(|p| anyhow::anyhow!("{p}"))?;
    product.kill().await?;
    product.start_again().await?;
    let called = match client.call("fx_test_simple_text", json!({})).await {
        // The kept connection died with the process.
        Err(problem) if problem.status == 0 => client.call("fx_test_simple_text", json!({})).await,
        called => called,
    };
    let called = called.map_err(|p| anyhow::anyhow!("{p}"))?;
    ensure!(called.text().starts_with("This is a simple text"), "{}", called.result);
    Ok(())
}

/// Switches of a session reach its stream on another replica, and nobody else's (P36).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p36_a_switch_is_heard_on_every_replica_and_by_nobody_else() -> Result<()> {
    if !ready("p36_a_switch_is_heard_on_every_replica_and_by_nobody_else").await {
        return Ok(());
    }
    let upstream = Fixture::start(Options::of(Era::Legacy)).await?;
    let replicas = Replicas::start(&upstream).await?;
    let (mine, other) = (replicas.client(&replicas.a).await?, replicas.client(&replicas.a).await?);
    let fail = |p| anyhow::anyhow!("{p}");
    let (mut stream, mut quiet) = (mine.stream(None).await.map_err(fail)?, other.stream(None).await.map_err(fail)?);
    let off = json!({"server_id": "fy", "action": "untoggle"});
    let done = mine.call("portal_toggle_single_server", off.clone()).await.map_err(fail)?;
    ensure!(!done.is_error(), "{}", done.result);
    let heard = loop {
        let message = stream.message().await?.context("the stream ended")?;
        if message["method"] == "notifications/tools/list_changed" {
            break message;
        }
    };
    ensure!(heard.get("id").is_none());
    let has = |tools: &[String]| tools.iter().any(|name| name.starts_with("fy_"));
    // The balancer sends each list to another replica; all know within two seconds.
    tokio::time::sleep(Duration::from_secs(2)).await;
    for _ in 0..3 {
        ensure!(!has(&mine.tools().await.map_err(fail)?), "still listed");
        ensure!(has(&other.tools().await.map_err(fail)?), "another session lost it");
        let refused = mine.call("fy_test_simple_text", json!({})).await.err().context("it is called")?;
        ensure!(refused.code == -32602 && refused.message == "Unknown tool: fy_test_simple_text", "{refused}");
    }
    // A modern client of the same token keeps its own switches, with the credential.
    let modern = ModernClient::new(&replicas.url(), Identity::bearer(&replicas.a));
    ensure!(has(&modern.tools().await.map_err(fail)?));
    modern.call("portal_toggle_single_server", off).await.map_err(fail)?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    for _ in 0..3 {
        ensure!(!has(&modern.tools().await.map_err(fail)?));
        ensure!(has(&other.tools().await.map_err(fail)?));
    }
    let stranger = ModernClient::new(&replicas.url(), Identity::bearer(&replicas.b));
    ensure!(has(&stranger.tools().await.map_err(fail)?), "B lost what A switched off");
    let nothing = tokio::time::timeout(Duration::from_millis(200), quiet.message()).await;
    ensure!(nothing.is_err(), "{nothing:?}");
    let _: Value = done.result;
    Ok(())
}
