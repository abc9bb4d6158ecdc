//! `bartizan stdio URL` (U14) with a real client behind it, and a real person in front.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use bartizan_testkit::fixture::{Era, Fixture, Options};
use bartizan_testkit::product::{Config, Product};
use bartizan_testkit::scripts::{self, RealClient};
use bartizan_testkit::sign_in::{Person, Provider};
use bartizan_testkit::tools::{self, Part};
use serde_json::{Value, json};

struct Company {
    provider: Provider,
    product: Product,
    #[expect(dead_code, reason = "it serves until it is dropped")]
    fixture: Fixture,
}

async fn company() -> Company {
    let people = json!({"ana": {"email": "ana@corp.example", "name": "Ana", "groups": ["engineering"]}});
    let mut provider = Provider::start(people).await.unwrap();
    let fixture = Fixture::start(Options::of(Era::Modern)).await.unwrap();
    let allow = json!([{"action": "allow", "include": [{"everyone": true}]}]);
    let config = Config::new()
        .server(json!({"server_id": "eng", "hostname": fixture.url(), "policies": allow.clone(),
            "classes": {"read": ["test_simple_text"]}}))
        .set("portals", json!([{"id": "default", "policies": allow}]))
        .with("identity_providers", provider.resource());
    let product = Product::serve(config).await.unwrap();
    provider.admit(&product.base()).await.unwrap();
    Company { provider, product, fixture }
}

fn ready(test: &str) -> bool {
    let parts: Vec<Part> = RealClient::Stdio.parts().iter().copied().chain([Part::Npm, Part::Browser]).collect();
    tools::ready(test, &parts)
}

fn steps() -> Value {
    json!([{"list": "tools"}, {"call": "eng_test_simple_text"}])
}

#[tokio::test(flavor = "multi_thread")]
async fn u14_a_stdio_client_signs_in_and_calls() {
    if !ready("u14_a_stdio_client_signs_in_and_calls") {
        return;
    }
    let company = company().await;
    let ana = Person::new("ana").unwrap();
    let url = company.product.url();
    let report = scripts::sign_in(RealClient::Stdio, &url, &ana, "", steps()).await.unwrap();
    let trace = ana.closed(1).await.unwrap_or_default();
    assert!(report.0.get("error").is_none(), "{:#}\n{trace:#?}\n{}", report.0, company.product.log());
    assert_eq!(report.said("eng_test_simple_text"), "This is a simple text response for testing.");
    drop(company.provider);
}
