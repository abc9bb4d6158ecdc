//! One bad server harms nobody: rows P26, P32 and the list of upstream faults of issue 2.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "helpers of tests")]

use std::time::Duration;

use bartizan_testkit::client::{Identity, ModernClient};
use bartizan_testkit::faulty::{Fault, Faulty};
use bartizan_testkit::fixture::{Era, Fixture, Options};
use bartizan_testkit::product::{Config, Product, http_server};
use bartizan_testkit::tools::{self, Part};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

fn ready(test: &str) -> bool {
    tools::ready(test, &[Part::Product])
}

/// Short limits, so that the tests of time-outs end soon.
fn impatient() -> Value {
    json!({"connect_ms": 1_000, "list_ms": 1_500, "call_ms": 1_500, "call_max_ms": 3_000, "drain_wait_ms": 100})
}

struct Setup {
    faulty: Faulty,
    healthy: Fixture,
    product: Product,
}

async fn setup() -> Setup {
    let faulty = Faulty::start().await.unwrap();
    let healthy = Fixture::start(Options::of(Era::Both)).await.unwrap();
    let config = Config::new()
        .server(http_server("bad", &faulty.url(), &["ping_tool".to_owned()]))
        .server(http_server("good", &healthy.url(), &["test_simple_text".to_owned()]))
        .set("limits", impatient());
    let product = Product::serve(config).await.unwrap();
    Setup { faulty, healthy, product }
}

/// Every fault with a list, and whether the list of the rest must come all the same.
fn faults() -> Vec<Fault> {
    vec![
        Fault::Silence,
        Fault::Stall,
        Fault::Drip(50),
        Fault::Reset,
        Fault::Truncate,
        Fault::Status(500),
        Fault::Status(502),
        Fault::Status(503),
        Fault::Status(429),
        Fault::Status(404),
        Fault::Status(418),
        Fault::Status(204),
        Fault::Challenge,
        Fault::Status(403),
        Fault::WrongId,
        Fault::Garbage,
        Fault::Huge(17 << 20),
        Fault::Deep(500),
        Fault::Redirect("http://169.254.169.254/latest/meta-data".to_owned()),
        Fault::EmptyStream,
        Fault::CommentsForever,
        Fault::Duplicate,
        Fault::Html,
        Fault::RpcError(-32603),
        Fault::RpcError(-32000),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn p32_a_list_answers_with_the_rest_whatever_one_server_does() {
    if !ready("p32_a_list_answers_with_the_rest_whatever_one_server_does") {
        return;
    }
    let healthy = Fixture::start(Options::of(Era::Both)).await.unwrap();
    let config = Config::new().set("limits", impatient());
    let mut config = config.server(http_server("good", &healthy.url(), &["test_simple_text".to_owned()]));
    let mut servers = Vec::new();
    // Each fault twice: in the list alone, and in everything from the first word on.
    for method in ["tools/list", "*"] {
        for fault in faults() {
            let server = Faulty::start().await.unwrap();
            server.fail(method, fault.clone());
            let id = format!("bad{:02}", servers.len());
            config = config.server(http_server(&id, &server.url(), &["ping_tool".to_owned()]));
            servers.push((id, format!("{method} {fault:?}"), server));
        }
    }
    let product = Product::serve(config).await.unwrap();
    let client = ModernClient::new(&product.url(), Identity::bearer(product.token("agent")));
    // Limits are 1.5 s per server; the rest is a busy machine.
    let listed = timeout(Duration::from_secs(30), client.once("tools/list", json!({}))).await;
    let result = listed.expect("no list within 30 s").unwrap().result;
    let text = result["tools"].to_string();
    assert!(text.contains("good_test_simple_text"), "{text}");
    let outcomes = &result["_meta"]["bartizan/server_outcomes"];
    assert_eq!(outcomes["good"]["status"], "ok", "{outcomes}");
    for (id, what, _server) in &servers {
        let bad = &outcomes[id];
        assert!(bad.is_object() && bad["status"] != "ok", "{what}: the failure is not named: {bad}");
        assert!(!text.contains(&format!("{id}_ping_tool")), "{what}: a tool out of nothing");
    }
}

/// The deadline of a list (10 s) and what it may take beside it.
const LISTED: Duration = Duration::from_millis(10_500);

/// With default limits: how long a list takes before four bad servers and a good one, and its result.
async fn list_before_four_bad_servers() -> (Duration, Value) {
    let healthy = Fixture::start(Options::of(Era::Both)).await.unwrap();
    let mut config = Config::new().server(http_server("good", &healthy.url(), &["test_simple_text".to_owned()]));
    let mut servers = Vec::new();
    for (id, method, fault) in [
        ("stall", "tools/list", Fault::Stall),
        ("drip", "tools/list", Fault::Drip(1_000)),
        ("comments", "tools/list", Fault::CommentsForever),
        ("mute", "*", Fault::Silence),
    ] {
        let server = Faulty::start().await.unwrap();
        server.fail(method, fault);
        config = config.server(http_server(id, &server.url(), &["ping_tool".to_owned()]));
        servers.push(server);
    }
    let product = Product::serve(config).await.unwrap();
    let client = ModernClient::new(&product.url(), Identity::bearer(product.token("agent")));
    let began = Instant::now();
    let listed = timeout(Duration::from_secs(60), client.once("tools/list", json!({}))).await;
    let took = began.elapsed();
    (took, listed.expect("no list within a minute").unwrap().result)
}

#[tokio::test(flavor = "multi_thread")]
async fn p32_a_list_returns_within_ten_and_a_half_seconds_at_the_default_deadline() {
    if !ready("p32_a_list_returns_within_ten_and_a_half_seconds_at_the_default_deadline") {
        return;
    }
    let mut result = list_before_four_bad_servers().await;
    if result.0 > LISTED {
        // The only bound in time of these tests; a busy machine has a second chance.
        println!("the first list took {:?}", result.0);
        result = list_before_four_bad_servers().await;
    }
    let (took, result) = result;
    let text = result["tools"].to_string();
    assert!(text.contains("good_test_simple_text"), "{text}");
    let outcomes = &result["_meta"]["bartizan/server_outcomes"];
    assert_eq!(outcomes["good"]["status"], "ok", "{outcomes}");
    for bad in ["stall", "drip", "comments", "mute"] {
        assert_eq!(outcomes[bad]["code"], "upstream_timeout", "{bad}: {outcomes}");
    }
    println!("the list took {took:?}");
    assert!(took <= LISTED, "the list took {took:?}");
    assert!(took > Duration::from_secs(5), "{took:?}: no server was waited for");
}

#[tokio::test(flavor = "multi_thread")]
async fn p26_a_server_that_dies_and_comes_back() {
    if !ready("p26_a_server_that_dies_and_comes_back") {
        return;
    }
    let healthy = Fixture::start(Options::of(Era::Legacy)).await.unwrap();
    let port = healthy.port();
    let config = Config::new()
        .server(http_server("fx", &healthy.url(), &["test_simple_text".to_owned()]))
        .set("limits", impatient());
    let product = Product::serve(config).await.unwrap();
    let client = ModernClient::new(&product.url(), Identity::bearer(product.token("agent")));
    assert!(client.call("fx_test_simple_text", json!({})).await.is_ok());
    drop(healthy);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let gone = client.call("fx_test_simple_text", json!({})).await;
    let said = match &gone {
        Ok(exchange) => exchange.decision()["code"].to_string(),
        Err(problem) => problem.to_string(),
    };
    assert!(gone.is_err() || gone.is_ok_and(|exchange| exchange.is_error()), "{said}");
    let _again = Fixture::start_on(Options::of(Era::Legacy), port).await.unwrap();
    let works = async || client.call("fx_test_simple_text", json!({})).await.is_ok_and(|done| !done.is_error());
    bartizan_testkit::wait::until("the server is used again", Duration::from_secs(45), works).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn p35_a_lost_upstream_session_is_opened_again_for_reads_only() {
    if !ready("p35_a_lost_upstream_session_is_opened_again_for_reads_only") {
        return;
    }
    let fixture = Fixture::start(Options::of(Era::Legacy)).await.unwrap();
    let server = http_server("fx", &fixture.url(), &["test_simple_text".to_owned()]);
    let product = Product::serve(Config::new().server(server)).await.unwrap();
    let client = ModernClient::new(&product.server_url("fx"), Identity::bearer(product.token("agent")));
    client.call("test_simple_text", json!({})).await.unwrap();
    fixture.forget_sessions();
    let read = client.request("resources/read", json!({"uri": "test://static-text"})).await.unwrap();
    assert!(read.result["contents"][0]["text"].is_string());
    fixture.forget_sessions();
    fixture.stats().reset();
    // 404 for an unknown session means that the call was not run; it is still not sent twice.
    let first = client.call("test_simple_text", json!({})).await;
    assert!(fixture.stats().of("tool:test_simple_text") <= 1, "{first:?}");
    let second = client.call("test_simple_text", json!({})).await.unwrap();
    assert!(!second.is_error());
}

#[tokio::test(flavor = "multi_thread")]
async fn p32_the_circuit_opens_after_five_failures() {
    if !ready("p32_the_circuit_opens_after_five_failures") {
        return;
    }
    let setup = setup().await;
    let client = ModernClient::new(&setup.product.url(), Identity::bearer(setup.product.token("agent")));
    assert!(client.call("bad_ping_tool", json!({})).await.is_ok());
    setup.faulty.fail("*", Fault::Status(500));
    for _ in 0..5 {
        let failed = client.call("bad_ping_tool", json!({})).await;
        assert!(failed.is_err() || failed.unwrap().is_error());
    }
    let before = setup.faulty.seen("tools/call");
    for _ in 0..10 {
        let failed = client.call("bad_ping_tool", json!({})).await;
        assert!(failed.is_err() || failed.unwrap().is_error());
    }
    assert_eq!(setup.faulty.seen("tools/call"), before, "calls went on although the circuit should be open");
    assert!(client.call("good_test_simple_text", json!({})).await.is_ok());
    drop(setup.healthy);
}

#[tokio::test(flavor = "multi_thread")]
async fn p32_the_last_good_catalogue_is_served_as_stale() {
    if !ready("p32_the_last_good_catalogue_is_served_as_stale") {
        return;
    }
    // Nothing may be kept, so that every list asks again.
    let fixture = Fixture::start(Options { ttl_ms: 0, ..Options::of(Era::Modern) }).await.unwrap();
    let server = http_server("fx", &fixture.url(), &["test_simple_text".to_owned()]);
    let product = Product::serve(Config::new().server(server).set("limits", impatient())).await.unwrap();
    let client = ModernClient::new(&product.url(), Identity::bearer(product.token("agent")));
    assert!(client.tools().await.unwrap().contains(&"fx_test_simple_text".to_owned()));
    drop(fixture);
    let stale = async || {
        let result = client.once("tools/list", json!({})).await.unwrap().result;
        assert!(result["tools"].to_string().contains("fx_test_simple_text"), "{result}");
        result["_meta"]["bartizan/server_outcomes"]["fx"]["status"] == "stale"
    };
    bartizan_testkit::wait::until("the list is marked stale", Duration::from_secs(20), stale).await.unwrap();
}
