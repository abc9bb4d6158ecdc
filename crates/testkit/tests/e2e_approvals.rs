//! Approvals through the product (W12): real clients of both eras, the command line, and three
//! processes over one PostgreSQL of which one dies.

#![allow(clippy::indexing_slicing, reason = "helpers of tests")]

use anyhow::{Context as _, Result, ensure};
use bartizan_testkit::client::{Exchange, Identity, ModernClient};
use bartizan_testkit::fixture::{Era, Fixture, Options};
use bartizan_testkit::postgres::Postgres;
use bartizan_testkit::product::{Config, Product, http_server};
use bartizan_testkit::scripts::{self, RealClient};
use bartizan_testkit::tools::{self, Part};
use serde_json::{Value, json};
use tempfile::TempDir;

const TOOL: &str = "fx_test_write_note";

/// Everybody may write, once somebody with the right said yes.
fn config(upstream: &Fixture) -> Config {
    let mut server = http_server("fx", &upstream.url(), &["test_simple_text".to_owned()]);
    server["classes"] = json!({"read": ["test_simple_text"], "write": ["test_write_note"]});
    Config::new().server(server).with(
        "grants",
        json!({"id": "notes", "principals": ["everyone"], "server": "fx", "tools": ["test_write_note"],
            "require_approval": {"approvers": "group:leads"}}),
    )
}

async fn command(node: &Product, arguments: &[&str]) -> Result<Value> {
    let output = node.command(arguments).await?;
    serde_json::from_str(output.stdout.trim())
        .with_context(|| format!("{arguments:?}: {} {}", output.stdout, output.stderr))
}

async fn only_open(node: &Product) -> Result<String> {
    let open = command(node, &["approval", "list", "--json"]).await?;
    let open = open["approvals"].as_array().context("a list")?;
    ensure!(open.len() == 1, "{open:#?}");
    Ok(open[0]["id"].as_str().context("an id")?.to_owned())
}

async fn approve(node: &Product, id: &str) -> Result<Value> {
    command(node, &["approval", "approve", "--json", "--role", "security", "--reason", "fine", id]).await
}

fn plain(node: &Product, token: &str) -> ModernClient {
    ModernClient::new(&node.url(), Identity::bearer(token).declaring(json!({})))
}

async fn called(client: &ModernClient, text: &str) -> Result<Exchange> {
    client.call(TOOL, json!({"text": text})).await.map_err(|problem| anyhow::anyhow!("{problem}"))
}

fn executed(upstream: &Fixture) -> u64 {
    upstream.stats().of("tool:test_write_note")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w12_real_clients_of_both_eras_go_on_when_the_operator_approved() -> Result<()> {
    if !tools::ready("w12_real_clients_of_both_eras_go_on_when_the_operator_approved", &[Part::Npm, Part::Product]) {
        return Ok(());
    }
    let upstream = Fixture::start(Options::of(Era::Both)).await?;
    let product = Product::serve(config(&upstream)).await?;
    let token = product.token("agent").to_owned();
    for (number, (client, mode)) in [(RealClient::TsV1, ""), (RealClient::TsV2, "modern")].into_iter().enumerate() {
        let text = format!("{client:?}");
        let steps = || json!([{"call": TOOL, "args": {"text": text}}]);
        let drive = async || scripts::drive(client, &product.url(), Some(&token), mode, steps()).await;
        let refused = drive().await?;
        let step = &refused.0["steps"][0];
        ensure!(step["meta"]["bartizan/decision"]["code"] == "approval_required", "{:#}", refused.0);
        let id = only_open(&product).await?;
        ensure!(step["text"].as_str().is_some_and(|said| said.contains(&id)), "{step:#}");
        ensure!(executed(&upstream) == number as u64);
        // The text is of the real arguments.
        let shown = product.command(&["approval", "show", &id]).await?.stdout;
        ensure!(shown.contains(&format!("\"text\": \"{text}\"")) && shown.contains("service:"), "{shown}");
        approve(&product, &id).await?;
        let done = drive().await?;
        ensure!(done.0["steps"][0]["isError"] == false, "{:#}", done.0);
        ensure!(executed(&upstream) == number as u64 + 1);
        // Used: the next one is asked about anew.
        let again = drive().await?;
        ensure!(again.0["steps"][0]["meta"]["bartizan/decision"]["code"] == "approval_required", "{:#}", again.0);
        let next = only_open(&product).await?;
        ensure!(next != id);
        command(&product, &["approval", "reject", "--json", "--role", "governance", &next]).await?;
        let rejected = drive().await?;
        ensure!(rejected.0["steps"][0]["meta"]["bartizan/decision"]["code"] == "approval_rejected", "{:#}", rejected.0);
        ensure!(executed(&upstream) == number as u64 + 1);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w12_three_replicas_use_an_approval_once_and_one_may_die_before() -> Result<()> {
    if !tools::ready("w12_three_replicas_use_an_approval_once_and_one_may_die_before", &[Part::Product, Part::Postgres])
    {
        return Ok(());
    }
    let upstream = Fixture::start(Options::of(Era::Modern)).await?;
    let (postgres, folders) = (Postgres::start().await?, TempDir::new()?);
    let database = postgres.database("bartizan_approvals").await?;
    let mut nodes: Vec<Product> = Vec::new();
    for number in 0..4 {
        let store = json!({"url": database, "data_dir": folders.path().join(number.to_string())});
        let mut config = config(&upstream).set("store", store);
        if number > 0 {
            config.tokens.clear();
        }
        nodes.push(Product::serve(config).await?);
    }
    let token = nodes[0].token("agent").to_owned();
    // Asked at a process that then is gone.
    let first = called(&plain(&nodes[0], &token), "pay").await?;
    ensure!(first.decision()["code"] == "approval_required", "{first:?}");
    nodes[0].kill().await?;
    let id = only_open(&nodes[1]).await?;
    let early = called(&plain(&nodes[2], &token), "pay").await?;
    ensure!(early.text().contains(&id), "the same question everywhere: {early:?}");
    approve(&nodes[1], &id).await?;
    let mut racing = tokio::task::JoinSet::new();
    for node in nodes.iter().skip(1) {
        for _ in 0..4 {
            let client = plain(node, &token);
            racing.spawn(async move { called(&client, "pay").await });
        }
    }
    let mut good = 0;
    for answer in racing.join_all().await {
        good += u64::from(!answer?.is_error());
    }
    ensure!((good, executed(&upstream)) == (1, 1), "{good} answers, {} calls", executed(&upstream));
    // Another argument was never approved.
    let other = called(&plain(&nodes[3], &token), "pay more").await?;
    ensure!(other.decision()["code"] == "approval_required" && executed(&upstream) == 1, "{other:?}");
    Ok(())
}
