//! Kill switches through the product (G24): three processes over one PostgreSQL, a switch
//! set and lifted by the command line, calls at rest and in flight on each of them.

#![allow(clippy::indexing_slicing, reason = "helpers of tests")]

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bartizan_testkit::client::{Identity, ModernClient};
use bartizan_testkit::fixture::{Era, Fixture, Options};
use bartizan_testkit::postgres::Postgres;
use bartizan_testkit::product::{Config, Product, http_server};
use bartizan_testkit::tools::{self, Part};
use serde_json::{Value, json};
use tempfile::TempDir;

async fn nodes(upstream: &Fixture, postgres: &Postgres, folders: &TempDir) -> Result<Vec<Product>> {
    let database = postgres.database("bartizan_kill").await?;
    let tools = upstream.tool_names();
    let mut nodes: Vec<Product> = Vec::new();
    for number in 0..3 {
        let store = json!({"url": database, "data_dir": folders.path().join(number.to_string())});
        let mut config = Config::new().set("store", store).server(http_server("fx", &upstream.url(), &tools));
        if number > 0 {
            config.tokens.clear();
        }
        nodes.push(Product::serve(config).await?);
    }
    Ok(nodes)
}

async fn command(node: &Product, arguments: &[&str]) -> Result<Value> {
    let output = node.command(arguments).await?;
    serde_json::from_str(output.stdout.trim())
        .with_context(|| format!("{arguments:?}: {} {}", output.stdout, output.stderr))
}

/// Whether a call goes through, or why not.
async fn called(client: &ModernClient) -> Result<Option<String>> {
    let exchange = client.call("fx_test_simple_text", json!({})).await.map_err(|p| anyhow::anyhow!("{p}"))?;
    let text = format!("{exchange:?}");
    Ok(text.contains("killed").then_some(text))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g24_a_switch_stops_three_replicas_within_a_second() -> Result<()> {
    if !tools::ready("g24_a_switch_stops_three_replicas_within_a_second", &[Part::Product, Part::Postgres]) {
        return Ok(());
    }
    let upstream = Fixture::start(Options::of(Era::Modern)).await?;
    let (postgres, folders) = (Postgres::start().await?, TempDir::new()?);
    let nodes = nodes(&upstream, &postgres, &folders).await?;
    let token = nodes[0].token("agent").to_owned();
    let clients: Vec<ModernClient> =
        nodes.iter().map(|node| ModernClient::new(&node.url(), Identity::bearer(&token))).collect();
    for client in &clients {
        ensure!(called(client).await?.is_none());
    }
    for (scope, subject) in [("service", Some("agent")), ("everything", None)] {
        let mut arguments = vec!["kill", "set", "--json", "--reason", "a drill", scope];
        arguments.extend(subject);
        let set = command(&nodes[0], &arguments).await?;
        let id = set["id"].as_str().context("an id")?.to_owned();
        let began = Instant::now();
        for client in &clients {
            while called(client).await?.is_none() {
                ensure!(began.elapsed() < Duration::from_secs(1), "{scope}: not on every replica after a second");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        let list = command(&nodes[1], &["kill", "list", "--json"]).await?;
        ensure!(list["kill_switches"][0]["id"] == id.as_str(), "{list}");
        let lifted = command(&nodes[2], &["kill", "lift", "--json", "--reason", "over", &id]).await?;
        ensure!(lifted["lifted"] == (scope != "everything"), "{lifted}");
        if scope == "everything" {
            // The same operating system user is not a second person.
            let again = nodes[2].command(&["kill", "lift", "--json", "--reason", "over", &id]).await?;
            ensure!(again.stdout.contains("second_person_needed") || again.stderr.contains("second_person_needed"));
            ensure!(called(&clients[1]).await?.is_some());
            continue;
        }
        let began = Instant::now();
        for client in &clients {
            while called(client).await?.is_some() {
                ensure!(began.elapsed() < Duration::from_secs(5), "{scope}: does not go on");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
    Ok(())
}
