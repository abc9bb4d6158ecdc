//! The product in operation: many servers, reloads, failing dependencies.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use bartizan_testkit::client::{Identity, ModernClient};
use bartizan_testkit::fixture::{Era, Fixture, Options};
use bartizan_testkit::postgres::Postgres;
use bartizan_testkit::product::{Config, Product, http_server};
use bartizan_testkit::tools::{self, Part};
use bartizan_testkit::{http::Http, wait};
use serde_json::json;

fn ready(test: &str) -> bool {
    tools::ready(test, &[Part::Product])
}

/// Lists through portals of 80, 200 and 1,000 servers; prints what it took.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_eighty_two_hundred_and_a_thousand_servers() -> Result<()> {
    if !ready("p1_eighty_two_hundred_and_a_thousand_servers") {
        return Ok(());
    }
    // One process plays all servers: to the gateway each is a server of its own.
    let upstream = Fixture::start(Options::of(Era::Modern)).await?;
    for count in [80, 200, 1_000] {
        let mut config = Config::new();
        for number in 0..count {
            let read = ["test_simple_text".to_owned()];
            config = config.server(http_server(&format!("s{number}"), &upstream.url(), &read));
        }
        let product = Product::serve(config).await?;
        let client = ModernClient::new(&product.url(), Identity::bearer(product.token("agent")));
        let start = tokio::time::Instant::now();
        let tools = client.tools().await?;
        let took = start.elapsed();
        let status = std::fs::read_to_string(format!("/proc/{}/status", product.pid().context("runs")?))?;
        let memory = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
        println!("{count} servers: first list of {} tools in {took:?}, {memory}", tools.len());
        let offered = tools.iter().filter(|name| name.ends_with("_test_simple_text")).count();
        assert_eq!(offered, count, "every server is listed");
        let last = format!("s{}_test_simple_text", count - 1);
        assert!(client.call(&last, json!({})).await?.text().starts_with("This is a simple text"));
    }
    Ok(())
}

/// A thousand reloads while calls go on; a bad file leaves the last good one running.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o4_a_thousand_reloads_under_load() -> Result<()> {
    if !ready("o4_a_thousand_reloads_under_load") {
        return Ok(());
    }
    let upstream = Fixture::start(Options::of(Era::Modern)).await?;
    let tools = upstream.tool_names();
    let config = |number: usize| {
        Config::new().server(http_server("fx", &upstream.url(), &tools)).with(
            "grants",
            json!({"id": format!("g{number}"), "principals": ["everyone"], "server": "fx", "tools": ["never"]}),
        )
    };
    let mut product = Product::serve(config(0)).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let mut workers = Vec::new();
    for _ in 0..3 {
        let client = ModernClient::new(&product.url(), Identity::bearer(product.token("agent")));
        let stop = Arc::clone(&stop);
        workers.push(tokio::spawn(async move {
            let mut calls = 0_usize;
            while !stop.load(Ordering::SeqCst) {
                let exchange = client.call("fx_test_simple_text", json!({})).await?;
                assert!(!exchange.is_error(), "{}", exchange.result);
                calls += 1;
            }
            Ok::<_, anyhow::Error>(calls)
        }));
    }
    for number in 1..=1_000 {
        product.rewrite(config(number))?;
        product.process().signal(rustix::process::Signal::HUP)?;
        if number % 50 == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    stop.store(true, Ordering::SeqCst);
    let mut calls = 0;
    for worker in workers {
        calls += worker.await??;
    }
    println!("{calls} calls during 1,000 reloads");
    assert!(calls > 100, "only {calls} calls");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o4_a_bad_file_leaves_the_last_good_one_running_and_a_good_one_takes_effect() -> Result<()> {
    if !ready("o4_a_bad_file_leaves_the_last_good_one_running_and_a_good_one_takes_effect") {
        return Ok(());
    }
    let upstream = Fixture::start(Options::of(Era::Modern)).await?;
    let good = |read: &[&str]| {
        let read: Vec<String> = read.iter().map(|name| (*name).to_owned()).collect();
        Config::new().server(http_server("fx", &upstream.url(), &read))
    };
    let mut product = Product::serve(good(&["test_simple_text"])).await?;
    let client = ModernClient::new(&product.url(), Identity::bearer(product.token("agent")));
    assert!(client.tools().await?.contains(&"fx_test_simple_text".to_owned()));
    product.rewrite(good(&["test_simple_text"]).set("servers", json!([{"server_id": "NOT AN ID"}])))?;
    product.process().signal(rustix::process::Signal::HUP)?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(client.call("fx_test_simple_text", json!({})).await?.text().starts_with("This is a simple text"));
    assert!(product.log().contains("NOT AN ID") || product.log().contains("server_id"), "the error is visible");
    product.rewrite(good(&["test_error_handling"]))?;
    product.process().signal(rustix::process::Signal::HUP)?;
    wait::until("the new file is in force", Duration::from_secs(10), async || {
        client.tools().await.is_ok_and(|tools| {
            tools.contains(&"fx_test_error_handling".to_owned()) && !tools.contains(&"fx_test_simple_text".to_owned())
        })
    })
    .await
}

/// The store goes away: not ready, but alive; calls are still decided from memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o5_a_lost_store_flips_only_readiness() -> Result<()> {
    if !tools::ready("o5_a_lost_store_flips_only_readiness", &[Part::Product, Part::Postgres]) {
        return Ok(());
    }
    let mut postgres = Postgres::start().await?;
    let folder = tempfile::TempDir::new()?;
    let url = postgres.database("health").await?;
    let config = Config::new().set("store", json!({"url": url, "data_dir": folder.path()}));
    let product = Product::serve(config).await?;
    let http = Http::new();
    let status = async |path: &str| http.get(&product.operations_url(path)).await.map(|(status, _)| status);
    for path in ["/livez", "/readyz", "/startupz"] {
        assert_eq!(status(path).await?, 200, "{path}");
    }
    postgres.stop().await?;
    wait::until("readiness flips", Duration::from_secs(20), async || matches!(status("/readyz").await, Ok(503)))
        .await?;
    assert_eq!(status("/livez").await?, 200);
    assert_eq!(status("/startupz").await?, 200);
    Ok(())
}

/// The operations paths are not on the public port, and the public ones not on the operations port.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o10_the_two_listeners_do_not_mix() -> Result<()> {
    if !ready("o10_the_two_listeners_do_not_mix") {
        return Ok(());
    }
    let product = Product::serve(Config::new()).await?;
    let http = Http::new();
    for path in ["/metrics", "/readyz", "/livez"] {
        let (status, body) = http.get(&format!("{}{path}", product.base())).await?;
        assert!(status == 404 || status == 401, "{path}: {status} {body}");
    }
    let (status, _) = http.get(&product.operations_url("/mcp")).await?;
    assert_eq!(status, 404);
    for (name, value) in [("host", "evil.example"), ("origin", "https://evil.example")] {
        for url in [product.url(), product.operations_url("/metrics")] {
            let method = if url.ends_with("/mcp") { http::Method::POST } else { http::Method::GET };
            let reply = http.send(method, &url, &[(name, value)], "{}").await?;
            assert_eq!(reply.status, 403, "{name} on {url}");
        }
    }
    Ok(())
}
