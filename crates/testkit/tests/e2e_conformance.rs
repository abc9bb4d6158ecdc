//! The official conformance suite through the pass-through endpoint, in the four pairings of
//! client revision and upstream era (rows P6, P7, P9, P24, P33).

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use bartizan_testkit::conformance::{self, LEGACY, MODERN};
use bartizan_testkit::fixture::{self, Era, Fixture, Options};
use bartizan_testkit::product::{Config, Product};
use bartizan_testkit::tools::{self, Part};
use serde_json::json;

const NEEDS: &[Part] = &[Part::Npm, Part::Product];

/// A public server in front of a fixture: every tool reviewed as a read, so that anonymous may call it.
async fn behind(era: Era) -> (Fixture, Product) {
    let fixture = Fixture::start(Options::of(era)).await.unwrap();
    let server = json!({
        "server_id": "fixture",
        "hostname": fixture.url(),
        "visibility": "public",
        "classes": {"read": fixture::tool_names()},
    });
    let product = Product::serve(Config::new().server(server)).await.unwrap();
    (fixture, product)
}

async fn pairing(test: &str, era: Era, set: &str, total: u64) {
    if !tools::ready(test, NEEDS) {
        return;
    }
    let (_fixture, product) = behind(era).await;
    let report = conformance::run(&product.server_url("fixture"), set).await.unwrap();
    println!("{test}: {}/{}\n{}", report.passed, report.total, report.lines());
    assert_eq!((report.passed, report.total), (total, total), "{:#?}", report.complaints);
    assert_eq!(report.complaints, Vec::<String>::new(), "warnings count with a baseline");
}

#[tokio::test(flavor = "multi_thread")]
async fn p24_conformance_legacy_client_legacy_server() {
    pairing("p24_conformance_legacy_client_legacy_server", Era::Legacy, LEGACY, 30).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p24_conformance_legacy_client_modern_server() {
    pairing("p24_conformance_legacy_client_modern_server", Era::Modern, LEGACY, 30).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p24_conformance_modern_client_legacy_server() {
    pairing("p24_conformance_modern_client_legacy_server", Era::Legacy, MODERN, 37).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p24_conformance_modern_client_modern_server() {
    pairing("p24_conformance_modern_client_modern_server", Era::Modern, MODERN, 37).await;
}

async fn beyond(test: &str, revision: &str, scenarios: &[&str]) {
    if !tools::ready(test, NEEDS) {
        return;
    }
    let mut complaints = Vec::new();
    for era in [Era::Legacy, Era::Modern] {
        let (_fixture, product) = behind(era).await;
        for scenario in scenarios {
            let report = conformance::scenario(&product.server_url("fixture"), revision, scenario).await.unwrap();
            // A server that answers in one JSON body leaves the polling scenario nothing to judge.
            let judged = report.complaints.into_iter().filter(|complaint| !complaint.contains("\"informed\""));
            complaints.extend(judged.map(|complaint| format!("{era:?}: {complaint}")));
        }
    }
    assert_eq!(complaints, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn p33_conformance_header_scenarios_in_front_of_both_eras() {
    let test = "p33_conformance_header_scenarios_in_front_of_both_eras";
    beyond(test, MODERN, &["http-header-validation", "http-custom-header-server-validation"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p24_conformance_beyond_the_scored_sets() {
    let test = "p24_conformance_beyond_the_scored_sets";
    beyond(test, LEGACY, &["server-session-lifecycle", "json-schema-2020-12", "server-sse-polling"]).await;
    beyond(test, MODERN, &["json-schema-2020-12"]).await;
}
