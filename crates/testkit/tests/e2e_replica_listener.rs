//! The replica listener (O17): three processes over one PostgreSQL that reach each other.
//! `e2e_cluster` shows what the same does without it.

#![allow(clippy::indexing_slicing, reason = "helpers of tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use bartizan_testkit::balancer::Balancer;
use bartizan_testkit::client::{Identity, LegacyClient, ModernClient, Problem, all_capabilities, friendly};
use bartizan_testkit::fixture::{Era, Fixture, Options};
use bartizan_testkit::http::Http;
use bartizan_testkit::postgres::{self, Postgres};
use bartizan_testkit::process::{Output, run_command};
use bartizan_testkit::product::{Config, Product, http_server};
use bartizan_testkit::tools::{self, Part};
use futures_util::future::join_all;
use http::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

/// Three processes that reach each other.
struct Cluster {
    nodes: Vec<Product>,
    next: AtomicUsize,
    balancer: Balancer,
    token: String,
    other: String,
    database: String,
    folders: TempDir,
    _postgres: Postgres,
}

impl Cluster {
    async fn start(upstream: &Fixture) -> Result<Self> {
        let postgres = Postgres::start().await?;
        let database = postgres.database("bartizan_replica_listener").await?;
        let folders = TempDir::new()?;
        let mut nodes: Vec<Product> = Vec::new();
        for number in 0..3 {
            let mut config = Config::new()
                .token("other")
                .server(http_server("fx", &upstream.url(), &upstream.tool_names()))
                .set("store", json!({"url": database, "data_dir": folders.path().join(number.to_string())}))
                .set("cluster", json!({"listen": "127.0.0.1:0", "advertise": "127.0.0.1:0"}));
            if number > 0 {
                // The tokens are in the shared store already.
                config.tokens.clear();
            }
            nodes.push(Product::serve(config).await?);
        }
        let balancer = Balancer::start(nodes.iter().map(Product::port).collect()).await?;
        let first = nodes.first().context("three nodes")?;
        let (token, other) = (first.token("agent").to_owned(), first.token("other").to_owned());
        Ok(Self { nodes, next: AtomicUsize::new(0), balancer, token, other, database, folders, _postgres: postgres })
    }

    /// A client that sends its one request to the next process in turn.
    fn client(&self) -> ModernClient {
        self.client_of(self.next.fetch_add(1, Ordering::SeqCst) % self.nodes.len())
    }

    fn client_of(&self, node: usize) -> ModernClient {
        self.client_as(node, &self.token)
    }

    fn client_as(&self, node: usize, token: &str) -> ModernClient {
        let identity = Identity::bearer(token).declaring(all_capabilities());
        ModernClient::new(&self.nodes[node].url(), identity)
    }

    /// Addresses of the replica listeners.
    async fn addresses(&self) -> Result<Vec<String>> {
        let rows = postgres::run_sql(&self.database, "SELECT address FROM replica ORDER BY started_ms").await?;
        Ok(rows.lines().map(str::to_owned).collect())
    }
}

const TOOL: &str = "fx_test_elicitation";

fn arguments() -> Value {
    json!({"name": TOOL, "arguments": {"message": "who"}})
}

fn plain(problem: Problem) -> anyhow::Error {
    anyhow!("{problem}")
}

async fn ask(client: &ModernClient) -> Result<Value> {
    Ok(client.once("tools/call", arguments()).await.map_err(plain)?.result)
}

async fn answer(client: &ModernClient, asked: &Value) -> Result<String, Problem> {
    let exchange = client.once("tools/call", client.retry(&arguments(), asked)).await?;
    Ok(exchange.text())
}

/// A thousand questions, each answer to another process than the one that asked: every call
/// finishes, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o17_a_thousand_elicitations_with_answers_landing_anywhere() -> Result<()> {
    if !tools::ready("o17_a_thousand_elicitations_with_answers_landing_anywhere", &[Part::Product, Part::Postgres]) {
        return Ok(());
    }
    let upstream = Fixture::start(Options::of(Era::Legacy)).await?;
    let cluster = Arc::new(Cluster::start(&upstream).await?);
    for batch in 0..125 {
        let one = async |number: usize| -> Result<()> {
            let asked = ask(&cluster.client()).await?;
            let said = answer(&cluster.client(), &asked).await.map_err(plain)?;
            ensure!(said.starts_with("User response"), "{said}");
            if number == 0 {
                let again = answer(&cluster.client(), &asked).await;
                ensure!(again.is_err(), "the same answer twice: {again:?}");
            }
            Ok(())
        };
        for outcome in join_all((0..8).map(one)).await {
            outcome.with_context(|| format!("batch {batch}"))?;
        }
    }
    assert_eq!(upstream.stats().of("tools/call"), 1_000, "no call ran twice upstream");
    Ok(())
}

/// The process that gets an answer passes it on; whose it is, the holder decides by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o17_the_holder_checks_the_caller_itself() -> Result<()> {
    if !tools::ready("o17_the_holder_checks_the_caller_itself", &[Part::Product, Part::Postgres]) {
        return Ok(());
    }
    let upstream = Fixture::start(Options::of(Era::Legacy)).await?;
    let cluster = Cluster::start(&upstream).await?;
    let asked = ask(&cluster.client_of(0)).await?;
    let stranger = answer(&cluster.client_as(1, &cluster.other), &asked).await;
    assert!(stranger.as_ref().is_err_and(|problem| problem.code == -32602), "{stranger:?}");
    // What only another process may say is nothing when a client says it: neither whence nor who.
    let forged = Identity {
        headers: vec![
            ("bartizan-peer".to_owned(), "203.0.113.9:1".to_owned()),
            ("bartizan-device".to_owned(), "managed".to_owned()),
        ],
        ..Identity::bearer(&cluster.token).declaring(all_capabilities())
    };
    let said = answer(&ModernClient::new(&cluster.nodes[1].url(), forged), &asked).await.map_err(plain)?;
    assert!(said.starts_with("User response"), "{said}");
    let records = cluster.nodes[0].audit()?;
    assert!(!records.iter().any(|record| record.to_string().contains("203.0.113.9")));
    Ok(())
}

/// Legacy clients behind a balancer without affinity: their answers and cancellations reach
/// the process with the open stream.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o17_answers_of_legacy_clients_find_the_open_stream() -> Result<()> {
    if !tools::ready("o17_answers_of_legacy_clients_find_the_open_stream", &[Part::Product, Part::Postgres]) {
        return Ok(());
    }
    for era in [Era::Legacy, Era::Modern] {
        let upstream = Fixture::start(Options::of(era)).await?;
        let tool = upstream.tool_names().iter().any(|name| name == "test_elicitation");
        if !tool {
            continue;
        }
        let cluster = Cluster::start(&upstream).await?;
        let identity = Identity::bearer(&cluster.token).declaring(all_capabilities()).answering(friendly());
        let client = LegacyClient::connect(&cluster.balancer.url("/mcp"), identity).await.map_err(plain)?;
        for _ in 0..30 {
            let call = client.call(TOOL, json!({"message": "who"}));
            let exchange = tokio::time::timeout(Duration::from_secs(20), call).await?.map_err(plain)?;
            assert!(exchange.text().starts_with("User response"), "{}", exchange.result);
        }
    }
    Ok(())
}

/// A cancellation reaches the call, wherever it runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o17_a_cancellation_finds_its_call() -> Result<()> {
    if !tools::ready("o17_a_cancellation_finds_its_call", &[Part::Product, Part::Postgres]) {
        return Ok(());
    }
    let upstream = Fixture::start(Options::of(Era::Legacy)).await?;
    let cluster = Cluster::start(&upstream).await?;
    let identity = Identity::bearer(&cluster.token).declaring(all_capabilities());
    let client = LegacyClient::connect(&cluster.nodes[0].url(), identity).await.map_err(plain)?;
    let call = json!({"jsonrpc": "2.0", "id": 77, "method": "tools/call", "params": arguments()});
    let mut stream = client.post(&call).await.map_err(plain)?.events();
    let question = tokio::time::timeout(Duration::from_secs(20), stream.message()).await??;
    ensure!(question.as_ref().is_some_and(|asked| asked["method"] == "elicitation/create"), "{question:?}");
    let bearer = format!("Bearer {}", cluster.token);
    let headers = [
        ("authorization", bearer.as_str()),
        ("mcp-session-id", client.session().context("a session")?),
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
    ];
    let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 77}});
    let taken = Http::new().send(Method::POST, &cluster.nodes[1].url(), &headers, cancel.to_string()).await?;
    assert_eq!(taken.status, 202);
    let ended = tokio::time::timeout(Duration::from_secs(10), async {
        while let Some(message) = stream.message().await? {
            ensure!(message.get("result").is_none(), "a result of a cancelled call: {message}");
        }
        Ok(())
    });
    ended.await.context("the call goes on")?
}

/// The holder is killed, or hangs: a clear error within two seconds, and nothing runs again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o17_a_dead_or_hanging_holder_is_a_clear_error_within_two_seconds() -> Result<()> {
    let name = "o17_a_dead_or_hanging_holder_is_a_clear_error_within_two_seconds";
    if !tools::ready(name, &[Part::Product, Part::Postgres]) {
        return Ok(());
    }
    let upstream = Fixture::start(Options::of(Era::Legacy)).await?;
    let mut cluster = Cluster::start(&upstream).await?;
    let (mut asked, warm) = (Vec::new(), ask(&cluster.client_of(0)).await?);
    for _ in 0..6 {
        asked.push(ask(&cluster.client_of(0)).await?);
    }
    // Node 1 has a connection to the holder, node 2 has none.
    answer(&cluster.client_of(1), &warm).await.map_err(plain)?;
    let check = async |cluster: &Cluster, asked: &Value, node: usize| -> Result<()> {
        let start = tokio::time::Instant::now();
        let problem = answer(&cluster.client_of(node), asked).await.err().context("no holder, no answer")?;
        let took = start.elapsed();
        ensure!(took < Duration::from_secs(2), "node {node} took {took:?}");
        ensure!(problem.message.contains("not run again"), "{}", problem.message);
        Ok(())
    };
    cluster.nodes[0].process().signal(Signal::STOP)?;
    for node in [1, 2] {
        check(&cluster, &asked[node], node).await.context("hanging")?;
    }
    cluster.nodes[0].process().signal(Signal::CONT)?;
    cluster.nodes[0].kill().await?;
    for (number, node) in [(3, 1), (4, 2), (5, 1)] {
        check(&cluster, &asked[number], node).await.context("killed")?;
    }
    cluster.nodes[0].start_again().await?;
    let late = answer(&cluster.client_of(0), &asked[5]).await;
    assert!(late.is_err(), "a new process of the same folder holds nothing: {late:?}");
    assert_eq!(upstream.stats().of("tools/call"), 7, "no call ran again");
    Ok(())
}

async fn curl(args: &[&str]) -> Result<Output> {
    let mut command = Command::new("curl");
    command.args(["-sS", "-m", "10", "-k", "-o", "/dev/null", "-w", "%{http_code}"]).args(args);
    run_command(&mut command, Duration::from_secs(20)).await
}

/// Nobody without a certificate of the installation gets as far as a request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o17_a_client_certificate_of_another_authority_is_refused() -> Result<()> {
    let name = "o17_a_client_certificate_of_another_authority_is_refused";
    if !tools::ready(name, &[Part::Product, Part::Postgres]) {
        return Ok(());
    }
    let upstream = Fixture::start(Options::of(Era::Legacy)).await?;
    let cluster = Cluster::start(&upstream).await?;
    let addresses = cluster.addresses().await?;
    assert_eq!(addresses.len(), 3);
    let folder = cluster.folders.path();
    let (cert, key) =
        (folder.join("foreign.pem").display().to_string(), folder.join("foreign.key").display().to_string());
    let made = run_command(
        Command::new("openssl").args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=node",
            "-addext",
            "subjectAltName=DNS:node.replica.invalid",
            "-keyout",
            &key,
            "-out",
            &cert,
        ]),
        Duration::from_secs(30),
    )
    .await?;
    ensure!(made.code == Some(0), "{}", made.stderr);
    let url = format!("https://{}/mcp", addresses[0]);
    for args in [&["--http2", &url][..], &["--http2", "--cert", &cert, "--key", &key, &url]] {
        let refused = curl(args).await?;
        assert!(refused.code != Some(0) && refused.stdout == "000", "{args:?}: {refused:?}");
    }
    let plain = curl(&[&format!("http://{}/mcp", addresses[0])]).await?;
    assert!(plain.code != Some(0), "{plain:?}");
    // The public listener has no way in for those who say they are a process.
    let http = Http::new();
    let headers = [("bartizan-peer", "203.0.113.9:1"), ("content-type", "application/json")];
    let answer = http.send(Method::POST, &cluster.nodes[0].url(), &headers, "{}".to_owned()).await?;
    assert_eq!(answer.status, 401);
    Ok(())
}

/// A process that ends in order is gone from the register; what was parked there ends clearly.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o17_processes_come_and_go_in_the_register() -> Result<()> {
    if !tools::ready("o17_processes_come_and_go_in_the_register", &[Part::Product, Part::Postgres]) {
        return Ok(());
    }
    let upstream = Fixture::start(Options::of(Era::Legacy)).await?;
    let mut cluster = Cluster::start(&upstream).await?;
    let asked = ask(&cluster.client_of(0)).await?;
    cluster.nodes[0].stop().await?;
    assert_eq!(cluster.addresses().await?.len(), 2);
    let lost = answer(&cluster.client_of(1), &asked).await;
    assert!(lost.as_ref().is_err_and(|problem| problem.message.contains("not run again")), "{lost:?}");
    cluster.nodes[0].start_again().await?;
    assert_eq!(cluster.addresses().await?.len(), 3);
    let asked = ask(&cluster.client_of(0)).await?;
    let said = answer(&cluster.client_of(1), &asked).await.map_err(plain)?;
    assert!(said.starts_with("User response"), "{said}");
    Ok(())
}
