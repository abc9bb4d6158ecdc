//! Several processes over one PostgreSQL behind a round-robin (O2's harness).

#![allow(clippy::indexing_slicing, reason = "helpers of tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result};
use bartizan_testkit::client::{Identity, ModernClient, Problem, all_capabilities};
use bartizan_testkit::fixture::{Era, Fixture, Options};
use bartizan_testkit::postgres::Postgres;
use bartizan_testkit::product::{Config, Product, http_server};
use bartizan_testkit::tools::{self, Part};
use futures_util::future::join_all;
use serde_json::{Value, json};

/// Three processes that share a store and nothing else.
struct Cluster {
    nodes: Vec<Product>,
    next: AtomicUsize,
    token: String,
    _postgres: Postgres,
}

impl Cluster {
    async fn start(config: Config) -> Result<Self> {
        let postgres = Postgres::start().await?;
        let url = postgres.database("bartizan_cluster").await?;
        let mut nodes: Vec<Product> = Vec::new();
        for number in 0..3 {
            let folder = std::env::temp_dir().join(format!("bartizan-cluster-{}-{number}", std::process::id()));
            let mut config = config.clone().set("store", json!({"url": url, "data_dir": folder}));
            if number > 0 {
                // The token is in the shared store already.
                config.tokens.clear();
            }
            nodes.push(Product::serve(config).await?);
        }
        let token = nodes.first().context("three nodes")?.token("agent").to_owned();
        Ok(Self { nodes, next: AtomicUsize::new(0), token, _postgres: postgres })
    }

    /// A client that sends its one request to the next process in turn.
    fn client(&self) -> (usize, ModernClient) {
        let turn = self.next.fetch_add(1, Ordering::SeqCst) % self.nodes.len();
        (turn, self.client_of(turn))
    }

    fn client_of(&self, node: usize) -> ModernClient {
        let identity = Identity::bearer(&self.token).declaring(all_capabilities());
        ModernClient::new(&self.nodes[node].url(), identity)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for number in 0..3 {
            let _ = std::fs::remove_dir_all(
                std::env::temp_dir().join(format!("bartizan-cluster-{}-{number}", std::process::id())),
            );
        }
    }
}

fn config(upstream: &Fixture) -> Config {
    let tools = upstream.tool_names();
    Config::new().server(http_server("fx", &upstream.url(), &tools))
}

const TOOL: &str = "fx_test_elicitation";

fn arguments() -> Value {
    json!({"name": TOOL, "arguments": {"message": "who"}})
}

/// What became of an answer that landed on some process.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Landing {
    Finished,
    /// Refused with an error that a person understands.
    Refused,
}

async fn answer(client: &ModernClient, asked: &Value) -> Result<Landing, Problem> {
    let params = client.retry(&arguments(), asked);
    match client.once("tools/call", params).await {
        Ok(exchange) if exchange.text().starts_with("User response") => Ok(Landing::Finished),
        Ok(exchange) if exchange.is_error() => Ok(Landing::Refused),
        Ok(exchange) => Err(Problem { status: 200, code: 0, message: exchange.result.to_string(), data: Value::Null }),
        Err(problem) if problem.code != 0 && !problem.message.is_empty() => Ok(Landing::Refused),
        Err(problem) => Err(problem),
    }
}

/// The experiment behind the parking of calls: answers land on any of three
/// processes. The owner finishes them; the others refuse plainly; nothing runs twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p9_a_thousand_answers_that_land_anywhere() -> Result<()> {
    if !tools::ready("p9_a_thousand_answers_that_land_anywhere", &[Part::Product, Part::Postgres]) {
        return Ok(());
    }
    let upstream = Fixture::start(Options::of(Era::Legacy)).await?;
    let cluster = Arc::new(Cluster::start(config(&upstream)).await?);
    let (mut at_owner, mut elsewhere, mut rescued) = (0, 0, 0);
    for batch in 0..125 {
        let one = async |_: usize| -> Result<(bool, Landing, Option<Landing>), Problem> {
            let (owner, client) = cluster.client();
            let asked = client.once("tools/call", arguments()).await?.result;
            // The round-robin goes on, so the answer lands where it likes.
            let (landed, other) = cluster.client();
            let first = answer(&other, &asked).await?;
            // A refused answer is not used up: the owner still takes it.
            let second =
                if first == Landing::Refused { Some(answer(&cluster.client_of(owner), &asked).await?) } else { None };
            Ok((owner == landed, first, second))
        };
        for outcome in join_all((0..8).map(one)).await {
            match outcome.map_err(|problem| anyhow::anyhow!("batch {batch}: {problem}"))? {
                (true, Landing::Finished, None) => at_owner += 1,
                (false, Landing::Finished, None) => elsewhere += 1,
                (false, Landing::Refused, Some(Landing::Finished)) => rescued += 1,
                other => anyhow::bail!("batch {batch}: {other:?}"),
            }
        }
    }
    println!(
        "landed at the owner {at_owner}, finished elsewhere {elsewhere}, refused elsewhere and then finished by the owner {rescued}"
    );
    assert_eq!(at_owner + elsewhere + rescued, 1_000);
    assert_eq!(upstream.stats().of("tools/call"), 1_000, "no call ran twice upstream");
    Ok(())
}

/// The owner of parked calls is killed: every answer gets a clear error at once and
/// nothing is executed again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p9_a_killed_owner_ends_its_parked_calls_with_a_clear_error() -> Result<()> {
    if !tools::ready("p9_a_killed_owner_ends_its_parked_calls_with_a_clear_error", &[Part::Product, Part::Postgres]) {
        return Ok(());
    }
    let upstream = Fixture::start(Options::of(Era::Legacy)).await?;
    let mut cluster = Cluster::start(config(&upstream)).await?;
    let owner = cluster.client_of(0);
    let mut asked = Vec::new();
    for _ in 0..10 {
        asked.push(owner.once("tools/call", arguments()).await.map_err(|p| anyhow::anyhow!("{p}"))?.result);
    }
    cluster.nodes[0].kill().await?;
    let start = tokio::time::Instant::now();
    for question in &asked {
        for node in [1, 2] {
            let landing = answer(&cluster.client_of(node), question).await.map_err(|p| anyhow::anyhow!("{p}"))?;
            assert_eq!(landing, Landing::Refused);
        }
    }
    assert!(start.elapsed() < std::time::Duration::from_secs(20), "a lost park is known at once");
    cluster.nodes[0].start_again().await?;
    for question in &asked {
        let landing = answer(&cluster.client_of(0), question).await.map_err(|p| anyhow::anyhow!("{p}"))?;
        assert_eq!(landing, Landing::Refused, "a new process of the same folder does not own them either");
    }
    assert_eq!(upstream.stats().of("tools/call"), 10, "no call ran again");
    Ok(())
}

/// One process after the other is restarted while calls go on: a client that follows
/// readiness sees no error (O3).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o3_rolling_restart_under_load() -> Result<()> {
    if !tools::ready("o3_rolling_restart_under_load", &[Part::Product, Part::Postgres]) {
        return Ok(());
    }
    let upstream = Fixture::start(Options::of(Era::Modern)).await?;
    let config = config(&upstream).set("limits", json!({"drain_wait_ms": 1_000, "drain_deadline_ms": 20_000}));
    let mut cluster = Cluster::start(config).await?;
    let targets: Vec<(String, String)> =
        cluster.nodes.iter().map(|node| (node.url(), node.operations_url("/readyz"))).collect();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut workers = Vec::new();
    for worker in 0..6 {
        let (targets, stop, token) = (targets.clone(), Arc::clone(&stop), cluster.token.clone());
        workers.push(tokio::spawn(async move {
            let http = bartizan_testkit::http::Http::new();
            let (mut calls, mut turn) = (0_usize, worker);
            while !stop.load(Ordering::SeqCst) {
                turn += 1;
                let (url, ready) = &targets[turn % targets.len()];
                // What a load balancer does, only more often.
                if !matches!(http.get(ready).await, Ok((200, _))) {
                    continue;
                }
                let client = ModernClient::with(http.clone(), url, Identity::bearer(&token));
                let exchange = client.call("fx_test_simple_text", json!({})).await?;
                assert!(exchange.text().starts_with("This is a simple text"), "{}", exchange.result);
                calls += 1;
            }
            Ok::<_, Problem>(calls)
        }));
    }
    for number in 0..3 {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        cluster.nodes[number].stop().await?;
        cluster.nodes[number].start_again().await?;
    }
    stop.store(true, Ordering::SeqCst);
    let mut calls = 0;
    for worker in workers {
        calls += worker.await?.map_err(|problem| anyhow::anyhow!("a client saw an error: {problem}"))?;
    }
    println!("{calls} calls during three restarts");
    assert!(calls > 50, "only {calls} calls");
    Ok(())
}
