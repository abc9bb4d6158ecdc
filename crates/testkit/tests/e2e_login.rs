//! What a sign-in is worth later: each refresh asks the real provider and the policy again
//! (A5), and a provider that left the configuration takes its people along (A2).

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use std::time::Duration;

use bartizan_testkit::client::{Identity, ModernClient};
use bartizan_testkit::fixture::{Era, Fixture, Options};
use bartizan_testkit::http::Http;
use bartizan_testkit::product::{Config, Product};
use bartizan_testkit::scripts::{self, RealClient};
use bartizan_testkit::sign_in::{Person, Provider};
use bartizan_testkit::tools::{self, Part};
use bartizan_testkit::wait;
use http::Method;
use serde_json::{Value, json};

/// One installation with a provider, a server for engineers and one for finance.
struct Company {
    provider: Provider,
    product: Product,
    _fixture: Fixture,
}

fn allow(groups: &[&str]) -> Value {
    json!([{"name": "people", "action": "allow", "include": [{"groups": groups}]}])
}

async fn company() -> Company {
    let people = json!({
        "ana": {"email": "ana@corp.example", "name": "Ana", "groups": ["engineering", "finance"]},
    });
    let mut provider = Provider::start(people).await.unwrap();
    let fixture = Fixture::start(Options::of(Era::Modern)).await.unwrap();
    let server = |id: &str, groups: &[&str]| {
        let read = ["test_simple_text"];
        json!({"server_id": id, "hostname": fixture.url(), "policies": allow(groups), "classes": {"read": read}})
    };
    let portals = json!([{"id": "default", "policies": allow(&["engineering", "finance"])}]);
    let config = Config::new()
        .server(server("eng", &["engineering"]))
        .server(server("fin", &["finance"]))
        .set("portals", portals)
        .with("identity_providers", provider.resource());
    let product = Product::serve(config).await.unwrap();
    provider.admit(&product.base()).await.unwrap();
    Company { provider, product, _fixture: fixture }
}

/// A client with its tokens.
struct Client {
    id: String,
    access: String,
    refresh: String,
}

impl Company {
    /// Ana signs in with a real client and a real browser.
    async fn connect(&self) -> Client {
        let ana = Person::new("ana").unwrap();
        let steps = json!([{"list": "tools"}]);
        let report = scripts::sign_in(RealClient::TsV1, &self.product.url(), &ana, "", steps).await.unwrap();
        assert!(report.0.get("error").is_none(), "{:#}\n{}", report.0, self.product.log());
        let signed_in = &report.0["signedIn"];
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        Client {
            id: text(&signed_in["client"]["client_id"]),
            access: text(&signed_in["tokens"]["access_token"]),
            refresh: text(&signed_in["tokens"]["refresh_token"]),
        }
    }

    /// A refresh; the status, and the error if there is one.
    async fn refresh(&self, client: &mut Client) -> (u16, String) {
        let body = format!("grant_type=refresh_token&refresh_token={}&client_id={}", client.refresh, client.id);
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let url = format!("{}/token", self.product.base());
        let reply = Http::new().send(Method::POST, &url, &headers, body).await.unwrap();
        let (status, answer) = (reply.status, reply.json().await.unwrap());
        if let (Some(access), Some(refresh)) = (answer["access_token"].as_str(), answer["refresh_token"].as_str()) {
            (client.access, client.refresh) = (access.to_owned(), refresh.to_owned());
        }
        (status, answer["error"].as_str().unwrap_or_default().to_owned())
    }

    /// The servers whose tools are listed.
    async fn servers(&self, client: &Client) -> Vec<&'static str> {
        let tools = ModernClient::new(&self.product.url(), Identity::bearer(&client.access)).tools().await;
        let tools = tools.unwrap_or_default();
        ["eng", "fin"].into_iter().filter(|id| tools.iter().any(|tool| tool.starts_with(&format!("{id}_")))).collect()
    }
}

fn ready(test: &str) -> bool {
    let parts: Vec<Part> = RealClient::TsV1.parts().iter().copied().chain([Part::Npm, Part::Browser]).collect();
    tools::ready(test, &parts)
}

#[tokio::test(flavor = "multi_thread")]
async fn a5_a_group_that_is_taken_away_is_gone_at_the_next_refresh() {
    if !ready("a5_a_group_that_is_taken_away_is_gone_at_the_next_refresh") {
        return;
    }
    let mut company = company().await;
    let mut client = company.connect().await;
    assert_eq!(company.servers(&client).await, ["eng", "fin"]);
    // Nothing changed: the refresh passes.
    let answer = company.refresh(&mut client).await;
    assert_eq!(answer, (200, String::new()), "{}", company.product.log());
    assert_eq!(company.servers(&client).await, ["eng", "fin"]);
    // One of two groups: the server of it vanishes.
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    company.provider.change("ana", json!({"groups": ["engineering"]})).await.unwrap();
    assert_eq!(company.refresh(&mut client).await.0, 200);
    assert_eq!(company.servers(&client).await, ["eng"], "{}", company.product.log());
    // The last one: the next refresh fails, and what the client still holds shows nothing.
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    company.provider.change("ana", json!({"groups": ["sales"]})).await.unwrap();
    let answer = company.refresh(&mut client).await;
    assert_eq!(answer, (400, "invalid_grant".to_owned()), "{}", company.product.log());
    assert!(company.servers(&client).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a5_a_person_the_provider_does_not_know_any_more_is_out_at_the_next_refresh() {
    if !ready("a5_a_person_the_provider_does_not_know_any_more_is_out_at_the_next_refresh") {
        return;
    }
    let mut company = company().await;
    let mut client = company.connect().await;
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    company.provider.remove("ana").await.unwrap();
    let answer = company.refresh(&mut client).await;
    assert_eq!(answer, (400, "invalid_grant".to_owned()), "{}", company.product.log());
    // The access token ends with the grant, as soon as the change was heard of.
    wait::until("the access token is refused", Duration::from_secs(5), async || {
        company.servers(&client).await.is_empty()
    })
    .await
    .unwrap();
    // For good: a new sign-in is needed.
    company.provider.change("ana", json!({"email": "ana@corp.example", "groups": ["engineering"]})).await.unwrap();
    assert_eq!(company.refresh(&mut client).await.0, 400);
}
