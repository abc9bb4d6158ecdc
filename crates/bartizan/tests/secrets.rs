//! P5: secrets of servers go in and never come out, whatever is asked.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

use std::time::Duration;

use bartizan_testkit::client::{Identity, ModernClient};
use bartizan_testkit::fixture::{self, Era, Fixture, Options};
use bartizan_testkit::product::{Config, Product, http_server};
use bartizan_testkit::wait::until;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(20);
const PLANTED: &str = "planted-secret";

/// The fixture behind a bearer token, and a server that cannot be had.
fn config(fixture: &Fixture, token: &str) -> Config {
    let mut good = http_server("fx", &fixture.url(), &fixture::tool_names());
    good["auth_type"] = "bearer".into();
    good["auth_credentials"] = token.into();
    let mut dead = http_server("dead", "http://127.0.0.1:9/mcp", &[]);
    dead["auth_type"] = "client_credentials".into();
    dead["auth_config"] = json!({
        "client_id": "gw", "client_secret": format!("{PLANTED}-client"), "token_endpoint": "http://127.0.0.1:9/token",
    });
    let mut aws = http_server("aws", "http://127.0.0.1:9/mcp", &[]);
    aws["auth_type"] = "aws_sigv4".into();
    aws["auth_config"] = json!({
        "service": "s", "region": "r", "access_key_id": "AKID", "secret_access_key": format!("{PLANTED}-key"),
        "session_token": format!("{PLANTED}-session"),
    });
    Config::new().server(good).server(dead).server(aws)
}

async fn servers(product: &Product) -> Vec<Value> {
    let output = product.command(&["status", "--json"]).await.unwrap();
    let status: Value = serde_json::from_str(output.stdout.trim()).unwrap();
    status["servers"].as_array().unwrap().clone()
}

fn summary(servers: &[Value], id: &str) -> Value {
    servers.iter().find(|server| server["server_id"] == id).unwrap()["auth_config_summary"].clone()
}

#[tokio::test]
async fn p5_no_output_gives_a_secret_back() {
    let fixture = Fixture::start(Options::of(Era::Legacy)).await.unwrap();
    let first = format!("{PLANTED}-1");
    let mut product = Product::serve(config(&fixture, &first)).await.unwrap();
    let client = ModernClient::new(&product.url(), Identity::bearer(product.token("agent")));
    let tools = format!("{:?}", client.tools().await.unwrap());
    assert!(tools.contains("fx_") && !tools.contains(PLANTED));
    let is = async |id: &str, version: i64| {
        summary(&servers(&product).await, id) == json!({"has_client_secret": true, "client_secret_version": version})
    };
    for id in ["fx", "dead", "aws"] {
        until("a secret is counted", SOON, async || is(id, 1).await).await.unwrap();
    }
    let mut said = String::new();
    for arguments in [
        &["status"][..],
        &["status", "--json"],
        &["check"],
        &["check", "--json"],
        &["explain", "--user", "service:agent", "--tool", "fx_echo"],
        &["audit", "search", "--json"],
        &["audit", "verify"],
        &["alert", "list"],
        &["server", "classify", "dead"],
        &["token", "list"],
    ] {
        let output = product.command(arguments).await.unwrap();
        said += &output.stdout;
        said += &output.stderr;
    }
    assert!(said.contains("client_credentials") && said.contains("client_secret_version"), "{said}");
    assert!(!said.contains(PLANTED), "{said}");
    let metrics = product.http.get(&product.operations_url("/metrics")).await.unwrap();
    assert!(!format!("{metrics:?}").contains(PLANTED));
    // Log, state file, record, database and everything else beside it.
    assert_eq!(product.leaks(PLANTED).unwrap(), None);

    // A new value raises the version of this one; the same file again does not.
    product.rewrite(config(&fixture, &format!("{PLANTED}-2"))).unwrap();
    let is = async |id: &str, version: i64| {
        summary(&servers(&product).await, id) == json!({"has_client_secret": true, "client_secret_version": version})
    };
    until("the new secret is counted", SOON, async || is("fx", 2).await).await.unwrap();
    assert!(is("dead", 1).await && is("aws", 1).await);
    assert_eq!(product.leaks(PLANTED).unwrap(), None);
}
