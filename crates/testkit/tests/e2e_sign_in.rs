//! Signing in once: real clients, a real OpenID provider, a real browser (rows A1, A2, A6–A10, A18, A19).

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use bartizan_testkit::fixture::{Era, Fixture, Options};
use bartizan_testkit::product::{Config, Product};
use bartizan_testkit::scripts::{self, RealClient, Report};
use bartizan_testkit::sign_in::{Person, Provider};
use bartizan_testkit::tools::{self, Part};
use serde_json::{Value, json};

/// One installation with a provider, a server for engineers and one for finance.
struct Company {
    provider: Provider,
    product: Product,
    fixture: Fixture,
}

fn people() -> Value {
    json!({
        "ana": {"email": "Ana@Corp.Example", "name": "Ana Lovelace", "groups": ["engineering"]},
        "bo": {"email": "bo@corp.example", "name": "Bo Hopper", "groups": ["finance"]},
    })
}

fn allow(groups: &[&str]) -> Value {
    json!([{"name": "people", "action": "allow", "include": [{"groups": groups}]}])
}

async fn company() -> Company {
    let mut provider = Provider::start(people()).await.unwrap();
    let fixture = Fixture::start(Options::of(Era::Modern).recorded()).await.unwrap();
    let server = |id: &str, groups: &[&str]| {
        let read = ["test_simple_text"];
        json!({"server_id": id, "hostname": fixture.url(), "policies": allow(groups), "classes": {"read": read}})
    };
    let portals = json!([{"id": "default", "name": "Corp tools", "policies": allow(&["engineering", "finance"])}]);
    let config = Config::new()
        .server(server("eng", &["engineering"]))
        .server(server("fin", &["finance"]))
        .set("portals", portals)
        .with("identity_providers", provider.resource());
    let product = Product::serve(config).await.unwrap();
    provider.admit(&product.base()).await.unwrap();
    Company { provider, product, fixture }
}

fn ready(test: &str, client: RealClient) -> bool {
    let parts: Vec<Part> = client.parts().iter().copied().chain([Part::Npm, Part::Browser]).collect();
    tools::ready(test, &parts)
}

fn steps() -> Value {
    json!([{"list": "tools"}, {"call": "eng_test_simple_text"}])
}

fn judge(report: &Report, case: &str) {
    assert!(report.0.get("error").is_none(), "{case}: {:#}", report.0);
    let names = report.names("tools");
    assert!(names.contains(&"eng_test_simple_text".to_owned()), "{case}: {:#}", report.0);
    assert!(!names.iter().any(|name| name.starts_with("fin_")), "{case}: another group's server is listed: {names:?}");
    assert_eq!(report.said("eng_test_simple_text"), "This is a simple text response for testing.", "{case}");
}

/// A client that knows nothing but the URL signs in, calls, and what it holds goes nowhere else.
async fn signs_in(test: &str, client: RealClient, mode: &str) {
    if !ready(test, client) {
        return;
    }
    let company = company().await;
    let ana = Person::new("ana").unwrap();
    let report = scripts::sign_in(client, &company.product.url(), &ana, mode, steps()).await.unwrap();
    // A client that failed may never have opened it.
    let trace = ana.closed(1).await.unwrap_or_default();
    let case = format!("{client:?} {mode}\nbrowser: {trace:#?}\nproduct: {}", company.product.log());
    judge(&report, &case);
    let heard = company.fixture.stats().recorded();
    if let Some(token) = report.0["signedIn"]["tokens"]["access_token"].as_str() {
        assert!(token.starts_with("bzt_") && token.split('.').count() == 1, "{case}: not opaque");
        assert!(!heard.iter().any(|request| request.contains(token)), "{case}: the client's token went upstream");
        assert_eq!(company.product.leaks(token).unwrap(), None, "{case}: the token is kept");
        let refresh = report.0["signedIn"]["tokens"]["refresh_token"].as_str().unwrap();
        assert_eq!(company.product.leaks(refresh).unwrap(), None, "{case}: the refresh token is kept");
    }
    let called = company.product.audit().unwrap();
    let by_ana = called.iter().any(|event| event.to_string().contains("test_simple_text"));
    assert!(by_ana, "{case}: the call is not on record");
    drop(company.provider);
}

#[tokio::test(flavor = "multi_thread")]
async fn a1_typescript_v1_signs_in() {
    signs_in("a1_typescript_v1_signs_in", RealClient::TsV1, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a1_typescript_v2_signs_in_modern() {
    signs_in("a1_typescript_v2_signs_in_modern", RealClient::TsV2, "auto").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a1_python_signs_in() {
    signs_in("a1_python_signs_in", RealClient::PythonMcp, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a1_fastmcp_signs_in() {
    signs_in("a1_fastmcp_signs_in", RealClient::FastMcp, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a1_inspector_signs_in() {
    signs_in("a1_inspector_signs_in", RealClient::Inspector, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a1_mcp_remote_signs_in() {
    signs_in("a1_mcp_remote_signs_in", RealClient::McpRemote, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a19_a_known_person_is_still_asked_for_a_new_client() {
    let test = "a19_a_known_person_is_still_asked_for_a_new_client";
    if !ready(test, RealClient::TsV1) {
        return;
    }
    let company = company().await;
    let ana = Person::new("ana").unwrap();
    let url = company.product.url();
    for round in 0..2 {
        let report = scripts::sign_in(RealClient::TsV1, &url, &ana, "", steps()).await.unwrap();
        judge(&report, test);
        let trace = ana.closed(round + 1).await.unwrap();
        let consents = |trace: &Value| {
            let pages = trace["pages"].as_array().cloned().unwrap_or_default();
            pages
                .iter()
                .filter(|page| page["url"].as_str().unwrap_or_default().starts_with(&company.product.base()))
                .count()
        };
        assert!(consents(&trace[round]) >= 1, "round {round}: no page of ours was shown: {trace:#?}");
    }
    // The browser knows the provider by now: one click from the URL to the first call.
    assert_eq!(ana.trace()[1]["clicks"], 1, "{:#?}", ana.trace());
}

#[tokio::test(flavor = "multi_thread")]
async fn a19_a_refusal_ends_at_the_client() {
    let test = "a19_a_refusal_ends_at_the_client";
    if !ready(test, RealClient::TsV1) {
        return;
    }
    let company = company().await;
    let ana = Person::new("ana").unwrap().refusing();
    let report = scripts::sign_in(RealClient::TsV1, &company.product.url(), &ana, "", steps()).await.unwrap();
    let error = report.0["error"]["message"].as_str().unwrap_or_default();
    assert!(error.contains("access_denied"), "{:#}", report.0);
}
