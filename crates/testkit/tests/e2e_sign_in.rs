//! Signing in once: real clients, a real OpenID provider, a real browser (rows A1, A2, A6–A10, A18, A19).

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use std::time::Duration;

use bartizan_testkit::fixture::{Era, Fixture, Options};
use bartizan_testkit::http::Http;
use bartizan_testkit::process::Process;
use bartizan_testkit::product::{Config, Product};
use bartizan_testkit::scripts::{self, RealClient, Report};
use bartizan_testkit::sign_in::{Person, Provider};
use bartizan_testkit::tools::{self, Part};
use bartizan_testkit::wait;
use http::Method;
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
async fn a1_rmcp_signs_in() {
    signs_in("a1_rmcp_signs_in", RealClient::Rmcp, "legacy").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a1_rmcp_signs_in_modern() {
    signs_in("a1_rmcp_signs_in_modern", RealClient::Rmcp, "modern").await;
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

/// An `initialize` with this token; the status of the answer and its challenge.
async fn knock(url: &str, token: &str) -> (u16, String) {
    let params =
        json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}).to_string();
    let bearer = format!("Bearer {token}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
    ];
    let reply = Http::new().send(Method::POST, url, &headers, body).await.unwrap();
    (reply.status, reply.header("www-authenticate").unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a18_a_token_is_good_for_its_resource_only_until_it_is_revoked() {
    let test = "a18_a_token_is_good_for_its_resource_only_until_it_is_revoked";
    if !ready(test, RealClient::TsV1) {
        return;
    }
    let company = company().await;
    let ana = Person::new("ana").unwrap();
    let url = company.product.url();
    let report = scripts::sign_in(RealClient::TsV1, &url, &ana, "", steps()).await.unwrap();
    judge(&report, test);
    let tokens = &report.0["signedIn"]["tokens"];
    let (access, refresh) = (tokens["access_token"].as_str().unwrap(), tokens["refresh_token"].as_str().unwrap());
    assert_eq!(knock(&url, access).await.0, 200, "the token is good where it was asked for");
    for other in [company.product.server_url("eng"), company.product.portal_url("default")] {
        // The second is another name of the same portal, but not the URL that was asked for.
        let (status, challenge) = knock(&other, access).await;
        let same = other.ends_with("/portals/default/mcp");
        if same && status == 200 {
            continue;
        }
        assert_eq!(status, 401, "{other}");
        assert!(
            challenge.contains("error=\"invalid_token\"") && challenge.contains("resource_metadata="),
            "{challenge}"
        );
    }
    assert_eq!(knock(&url, refresh).await.0, 401, "a refresh token opens nothing");

    // RFC 7009 with the refresh token ends the grant, and with it the access token.
    let client = report.0["signedIn"]["client"]["client_id"].as_str().unwrap();
    let body = format!("token={refresh}&client_id={client}");
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let revoke = format!("{}/revoke", company.product.base());
    let reply = Http::new().send(Method::POST, &revoke, &form, body).await.unwrap();
    assert_eq!(reply.status, 200);
    wait::until("the token is refused", Duration::from_secs(5), async || knock(&url, access).await.0 == 401)
        .await
        .unwrap();
    let body = format!("grant_type=refresh_token&refresh_token={refresh}&client_id={client}");
    let token = format!("{}/token", company.product.base());
    let reply = Http::new().send(Method::POST, &token, &form, body).await.unwrap();
    assert_eq!(reply.status, 400);
    assert_eq!(reply.json().await.unwrap()["error"], "invalid_grant");
}

#[tokio::test(flavor = "multi_thread")]
async fn a1_every_document_is_built_from_the_public_url() {
    let test = "a1_every_document_is_built_from_the_public_url";
    if !tools::ready(test, &[Part::Product]) {
        return;
    }
    let product = Product::serve(Config::new().set("allowed_hosts", json!(["other.example"]))).await.unwrap();
    let (base, http) = (product.base(), Http::new());
    let paths = [
        "/.well-known/oauth-protected-resource",
        "/.well-known/oauth-protected-resource/mcp",
        "/.well-known/cloudflare-access-protected-resource/mcp",
        "/.well-known/oauth-protected-resource/servers/nowhere/mcp",
        "/.well-known/oauth-protected-resource/api/v1",
        "/.well-known/oauth-authorization-server",
        "/.well-known/openid-configuration",
    ];
    for path in paths {
        let url = format!("{base}{path}");
        let plain = http.send(Method::GET, &url, &[], "").await.unwrap();
        assert_eq!(plain.status, 200, "{path}");
        assert_eq!(plain.header("access-control-allow-origin"), Some("*"), "{path}");
        let plain = plain.text().await.unwrap();
        assert!(plain.contains(&base), "{path}: {plain}");
        // A host that is let in changes nothing; forwarded ones are not even looked at.
        for name in ["host", "x-forwarded-host", "forwarded"] {
            let value = if name == "forwarded" { "host=other.example" } else { "other.example" };
            let forged = http.send(Method::GET, &url, &[(name, value)], "").await.unwrap();
            assert_eq!(forged.text().await.unwrap(), plain, "{path}: {name} changes the document");
        }
        let evil = http.send(Method::GET, &url, &[("host", "evil.example")], "").await.unwrap();
        assert!(evil.status >= 400, "{path}: a host of nobody is answered");
    }
    // The administration is a resource like endpoints: its 401 leads to its own document.
    let administration = format!("{base}/api/v1");
    let refused = http.send(Method::GET, &format!("{administration}/me"), &[], "").await.unwrap();
    assert_eq!(refused.status, 401);
    let challenge = refused.header("www-authenticate").unwrap().to_owned();
    let metadata = challenge.split("resource_metadata=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    let resource: Value = serde_json::from_str(&http.get(metadata).await.unwrap().1).unwrap();
    assert_eq!(
        (resource["resource"].as_str(), resource["authorization_servers"][0].as_str()),
        (Some(&*administration), Some(&*base))
    );
    // The chain that a client follows: 401 → metadata of the resource → metadata of the issuer.
    let (status, challenge) = knock(&product.url(), "bzt_nobody").await;
    assert_eq!(status, 401);
    let metadata = challenge.split("resource_metadata=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    let resource: Value = serde_json::from_str(&http.get(metadata).await.unwrap().1).unwrap();
    assert_eq!(resource["resource"], product.url());
    let issuer = resource["authorization_servers"][0].as_str().unwrap();
    let (_, server) = http.get(&format!("{issuer}/.well-known/oauth-authorization-server")).await.unwrap();
    let server: Value = serde_json::from_str(&server).unwrap();
    assert_eq!(server["issuer"], issuer);
    for endpoint in ["authorization_endpoint", "token_endpoint", "registration_endpoint", "revocation_endpoint"] {
        assert!(server[endpoint].as_str().unwrap().starts_with(&base), "{endpoint}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a2_a_demo_person_of_dev_signs_in_with_a_real_client() {
    let test = "a2_a_demo_person_of_dev_signs_in_with_a_real_client";
    if !ready(test, RealClient::TsV2) {
        return;
    }
    let mut command = tokio::process::Command::new(tools::product());
    command.args(["dev", "--json", "--listen", "127.0.0.1:0"]);
    let mut dev = Process::start(&mut command).unwrap();
    let announced = dev.line(Duration::from_secs(60), |line| serde_json::from_str::<Value>(line).ok()).await.unwrap();
    let alice = Person::new("alice").unwrap();
    let steps = json!([{"list": "tools"}, {"call": "tracker_list_projects"}]);
    let url = announced["mcp_url"].as_str().unwrap();
    let report = scripts::sign_in(RealClient::TsV2, url, &alice, "auto", steps).await.unwrap();
    let case = format!("{:#}\n{:#?}", report.0, alice.closed(1).await);
    assert!(report.0.get("error").is_none(), "{case}");
    let names = report.names("tools");
    // Alice is in engineering, which may create issues; what nobody granted is not there.
    assert!(names.contains(&"tracker_create_issue".to_owned()), "{case}");
    assert_eq!(report.step("call", "tracker_list_projects")["isError"], false, "{case}");
    dev.terminate(Duration::from_secs(60)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a5_a_person_of_another_group_sees_other_servers() {
    let test = "a5_a_person_of_another_group_sees_other_servers";
    if !ready(test, RealClient::TsV1) {
        return;
    }
    let mut company = company().await;
    let bo = Person::new("bo").unwrap();
    let url = company.product.url();
    let steps = json!([{"list": "tools"}, {"call": "eng_test_simple_text"}]);
    let report = scripts::sign_in(RealClient::TsV1, &url, &bo, "", steps.clone()).await.unwrap();
    let names = report.names("tools");
    assert!(names.contains(&"fin_test_simple_text".to_owned()), "{:#}", report.0);
    assert!(!names.iter().any(|name| name.starts_with("eng_")), "{names:?}");
    assert_eq!(report.step("call", "eng_test_simple_text")["error"]["code"], -32602, "{:#}", report.0);
    // The provider takes the group away: the next sign-in knows.
    bo.closed(1).await.unwrap();
    company.provider.change("bo", json!({"groups": ["sales"]})).await.unwrap();
    let fresh = Person::new("bo").unwrap();
    let report = scripts::sign_in(RealClient::TsV1, &url, &fresh, "", steps).await.unwrap();
    assert!(!report.names("tools").iter().any(|name| name.starts_with("fin_")), "{:#}", report.0);
    // It was not the sign-in that failed: the client got its code, and found no portal for them.
    let trace = fresh.closed(1).await.unwrap();
    let ended = trace[0]["ended"].as_str().unwrap();
    assert!(ended.contains("/callback?") && ended.contains("code="), "{trace:#?}");
    assert!(report.0["error"]["message"].is_string(), "{:#}", report.0);
}
