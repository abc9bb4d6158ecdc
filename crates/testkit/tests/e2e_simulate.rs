//! A draft asked about the record answers as the product then decides (row A22).

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use std::time::Duration;

use bartizan_testkit::client::{Identity, ModernClient};
use bartizan_testkit::fixture::{Era, Fixture, Options};
use bartizan_testkit::product::{Config, Product, http_server};
use bartizan_testkit::tools::{self, Part};
use bartizan_testkit::wait::until;
use rustix::process::Signal;
use serde_json::{Value, json};

const CALLS: [(&str, &str); 5] = [
    ("agent", "test_simple_text"),
    ("agent", "test_write_note"),
    ("writer", "test_simple_text"),
    ("writer", "test_write_note"),
    ("writer", "test_delete_notes"),
];

fn config(url: &str, write: &str, reads: &[&str], policy: Option<&str>) -> Config {
    let mut server = http_server("fx", url, &reads.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
    server["classes"]["write"] = json!(["test_write_note"]);
    let grant = json!({"id": "w", "principals": [write], "server": "fx", "classes": ["write"]});
    let config = Config::new().server(server).token("writer").with("grants", grant);
    match policy {
        Some(text) => config.with("policies", json!({"id": "p", "cedar": text})),
        None => config,
    }
}

async fn live(product: &Product) -> Vec<bool> {
    let mut all = Vec::new();
    for (token, tool) in CALLS {
        let client = ModernClient::new(&product.url(), Identity::bearer(product.token(token)));
        let done = client.call(&format!("fx_{tool}"), json!({"text": "x"})).await;
        all.push(done.is_ok_and(|done| done.decision().is_null()));
    }
    all
}

async fn simulated(product: &Product, draft: &str) -> (Option<i32>, Value) {
    let output = product.command(&["simulate", draft, "--days", "1", "--json"]).await.unwrap();
    let said = serde_json::from_str(output.stdout.trim()).unwrap_or_else(|_| panic!("{output:?}"));
    (output.code, said)
}

/// `token tool` of the changes.
fn changes(said: &Value, list: &str) -> Vec<(String, u64)> {
    let line = |each: &Value| {
        let text = |member: &str| each[member].as_str().unwrap_or_default().to_owned();
        (format!("{} {}", text("who"), text("target")), each["count"].as_u64().unwrap())
    };
    said[list].as_array().unwrap().iter().map(line).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a22_simulated_decisions_equal_live_ones_on_the_same_requests() {
    if !tools::ready("a22_simulated_decisions_equal_live_ones_on_the_same_requests", &[Part::Product]) {
        return;
    }
    let fixture = Fixture::start(Options::of(Era::Both).recorded()).await.unwrap();
    let url = fixture.url();
    let first = || config(&url, "service:writer", &["test_simple_text"], None);
    let mut product = Product::serve(first()).await.unwrap();
    let before = live(&product).await;
    assert_eq!(before, [true, false, true, true, false]);

    let path = product.config_path();
    let same = path.to_str().unwrap().to_owned();
    until("the record is indexed", Duration::from_secs(20), async || {
        simulated(&product, &same).await.1["compared"].as_u64() >= Some(CALLS.len() as u64)
    })
    .await
    .unwrap();
    let (code, said) = simulated(&product, &same).await;
    assert_eq!(code, Some(0), "{said:#}");
    for list in ["newly_allowed", "newly_refused", "depends"] {
        assert_eq!(said[list], json!([]), "{said:#}");
    }
    assert_eq!((&said["compared"], &said["not_compared"]), (&said["unchanged"], &json!({})), "{said:#}");

    // The draft: the other one writes, and the writer no longer reads.
    let forbid = "forbid(principal == Service::\"writer\", action == Action::\"call_tool\", resource == Tool::\"fx/test_simple_text\");";
    let second = || config(&url, "service:agent", &["test_simple_text"], Some(forbid));
    product.rewrite(second()).unwrap();
    let draft = path.with_file_name("draft.yaml");
    std::fs::copy(&path, &draft).unwrap();
    let (code, said) = simulated(&product, draft.to_str().unwrap()).await;
    assert_eq!(code, Some(1), "{said:#}");
    product.process().signal(Signal::HUP).unwrap();
    until("the draft decides", Duration::from_secs(20), async || live(&product).await != before).await.unwrap();
    let after = live(&product).await;
    let name = |at: usize| (format!("service:{} {}", CALLS[at].0, CALLS[at].1), 1);
    let expected = |from: bool| -> Vec<(String, u64)> {
        let mut all: Vec<_> =
            (0..CALLS.len()).filter(|at| before[*at] == from && after[*at] != from).map(name).collect();
        all.sort();
        all
    };
    assert_eq!(after, [true, true, false, false, false]);
    assert_eq!(changes(&said, "newly_allowed"), expected(false), "{said:#}");
    let mut refused = changes(&said, "newly_refused");
    refused.sort();
    assert_eq!(refused, expected(true), "{said:#}");
    assert_eq!(said["depends"], json!([]));
    let rules: Vec<&str> =
        said["newly_refused"].as_array().unwrap().iter().filter_map(|each| each["rule"].as_str()).collect();
    assert!(rules.contains(&"policy \"p\""), "{said:#}");
}
