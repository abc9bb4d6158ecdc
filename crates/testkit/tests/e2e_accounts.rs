//! People's accounts at an upstream of another company: a real authorization server, real
//! browsers, both eras (rows P16, P18, P20, P28, P37, P57, A26).

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bartizan_testkit::accounts::Upstream;
use bartizan_testkit::client::{Exchange, Identity, LegacyClient, ModernClient};
use bartizan_testkit::fixture::{Era, Fixture, Options};
use bartizan_testkit::http::Http;
use bartizan_testkit::postgres::Postgres;
use bartizan_testkit::product::{Config, Product};
use bartizan_testkit::scripts::{self, RealClient};
use bartizan_testkit::sign_in::{Person, Provider};
use bartizan_testkit::tools::{self, Part};
use bartizan_testkit::wait;
use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

const TOOL: &str = "notes_test_echo";

/// A company whose people have accounts at an upstream.
struct Office {
    provider: Provider,
    upstream: Upstream,
    product: Product,
    _fixture: Fixture,
}

fn ready(test: &str) -> bool {
    let parts: Vec<Part> = RealClient::TsV1.parts().iter().copied().chain([Part::Npm, Part::Browser]).collect();
    tools::ready(test, &parts)
}

fn allow(groups: &[&str]) -> Value {
    json!([{"name": "people", "action": "allow", "include": [{"groups": groups}]}])
}

fn config(provider: &Provider, upstream: &Upstream, allowed: &[&str]) -> Config {
    let server = |id: &str, groups: &[&str]| {
        json!({"server_id": id, "name": "Notes", "hostname": upstream.url, "auth_type": "oauth",
            "policies": allow(groups), "classes": {"read": ["test_echo"]}})
    };
    Config::new()
        .server(server("notes", &["engineering"]))
        .server(server("secret", &["finance"]))
        .set("portals", json!([{"id": "default", "name": "Corp tools", "policies": allow(&["engineering"])}]))
        .set("egress", json!({"private_allow": allowed}))
        .with("identity_providers", provider.resource())
}

async fn company(era: Era, ttl_s: u32) -> (Provider, Upstream, Fixture) {
    let people = json!({
        "ana": {"email": "ana@corp.example", "name": "Ana Lovelace", "groups": ["engineering"]},
        "bo": {"email": "bo@corp.example", "name": "Bo Hopper", "groups": ["engineering"]},
    });
    let provider = Provider::start(people).await.unwrap();
    let fixture = Fixture::start(Options::of(era)).await.unwrap();
    let upstream = Upstream::start(&format!("http://127.0.0.1:{}", fixture.port()), ttl_s).await.unwrap();
    (provider, upstream, fixture)
}

/// Accounts at the upstream are on 127.0.0.2, which counts as private.
async fn office(era: Era, ttl_s: u32, allowed: &[&str]) -> Office {
    let (mut provider, upstream, fixture) = company(era, ttl_s).await;
    let product = Product::serve(config(&provider, &upstream, allowed)).await.unwrap();
    provider.admit(&product.base()).await.unwrap();
    Office { provider, upstream, product, _fixture: fixture }
}

const BOTH: &[&str] = &["127.0.0.1", "127.0.0.2"];

/// A person who is called `NAME-up` at the upstream.
fn person(name: &str, upstream: &Upstream) -> Person {
    Person::new(name).unwrap().called(&upstream.issuer, &format!("{name}-up"))
}

/// The access token that a client of the person gets.
async fn sign_in(product: &Product, person: &Person) -> String {
    let report = scripts::sign_in(RealClient::TsV1, &product.url(), person, "", json!([])).await.unwrap();
    let times = person.trace().len().max(1);
    let trace = person.closed(times).await;
    let token = report.0["signedIn"]["tokens"]["access_token"].as_str();
    token.unwrap_or_else(|| panic!("{:#}\n{trace:#?}\n{}", report.0, product.log())).to_owned()
}

fn declaring() -> Value {
    json!({"elicitation": {"form": {}, "url": {}}})
}

fn modern(product: &Product, token: &str) -> ModernClient {
    ModernClient::new(&product.url(), Identity::bearer(token).declaring(declaring()))
}

fn arguments(name: &str) -> Value {
    json!({"value": {"tag": format!("{name}-up"), "who": "@@who@@"}})
}

fn call(name: &str) -> Value {
    json!({"name": TOOL, "arguments": arguments(name)})
}

/// The upstream saw this person.
fn seen(exchange: &Exchange, name: &str) -> bool {
    exchange.text().contains(&format!("\"who\":\"{name}-up\""))
}

/// What `portal_list_servers` says of the server.
async fn line(client: &ModernClient) -> Value {
    let listed = client.call("portal_list_servers", json!({})).await.unwrap().result;
    let servers = listed["structuredContent"]["servers"].as_array().unwrap();
    assert!(!servers.iter().any(|server| server["id"] == "secret"), "{listed}");
    servers.iter().find(|server| server["id"] == "notes").unwrap().clone()
}

/// The person connects the account, by the address the portal names; then the tools are there.
async fn connect(office: &Office, who: &Person, client: &ModernClient) {
    let asked = line(client).await;
    assert_eq!(asked["status"], "login_needed", "{asked}");
    let url = asked["url"].as_str().unwrap();
    assert_eq!(url, format!("{}/connect/notes", office.product.base()));
    opens(office, who, url).await;
    listed(client).await;
}

async fn listed(client: &ModernClient) {
    wait::until("the tools are listed", Duration::from_secs(20), async || {
        client.tools().await.unwrap().iter().any(|name| name == TOOL)
    })
    .await
    .unwrap();
}

/// The person opens the page, reads it, goes through the upstream's sign-in and is told.
async fn opens(office: &Office, who: &Person, url: &str) -> Value {
    let trace = who.open(url).await.unwrap();
    let case = format!("{trace:#}\n{}", office.product.log());
    assert_eq!(trace["ended"], format!("{}/connect/notes/done", office.product.base()), "{case}");
    let pages = trace["pages"].as_array().unwrap();
    let asked = pages.iter().position(|page| page["url"].as_str().unwrap().ends_with("/connect/notes"));
    let left = pages.iter().position(|page| page["url"].as_str().unwrap().starts_with(&office.upstream.issuer));
    assert!(asked.is_some() && left.is_none_or(|left| asked.unwrap() < left), "it asks before it leaves: {case}");
    trace
}

#[tokio::test(flavor = "multi_thread")]
async fn p16_two_people_two_accounts_ten_thousand_calls_never_mixed() {
    if !ready("p16_two_people_two_accounts_ten_thousand_calls_never_mixed") {
        return;
    }
    let office = office(Era::Modern, 3600, BOTH).await;
    let mut clients = Vec::new();
    for name in ["ana", "bo"] {
        let who = person(name, &office.upstream);
        let token = sign_in(&office.product, &who).await;
        let client = modern(&office.product, &token);
        assert!(!client.tools().await.unwrap().iter().any(|tool| tool == TOOL), "nobody else's list is shown");
        connect(&office, &who, &client).await;
        clients.push((name, token));
    }
    let http = Http::new();
    let calls = (0..10_000).map(|number| {
        let (name, token) = &clients[number % 2];
        let identity = Identity::bearer(token).declaring(declaring());
        let client = ModernClient::with(http.clone(), &office.product.url(), identity);
        async move {
            let answer = client.call(TOOL, arguments(name)).await.unwrap();
            assert!(seen(&answer, name), "{name}: {}", answer.result);
        }
    });
    stream::iter(calls).buffer_unordered(16).collect::<Vec<()>>().await;
    let stats = office.upstream.stats().await.unwrap();
    assert_eq!((&stats["mixed"], &stats["seen"]), (&json!(0), &json!({"ana-up": 5000, "bo-up": 5000})), "{stats}");
    // The record names the person on both sides, and no token.
    let records = office.product.audit().unwrap();
    let by = |who: &str| {
        let mine = |record: &&Value| record["upstream_identity"] == format!("oauth_user:{who}@corp.example");
        records.iter().filter(mine).count()
    };
    assert_eq!((by("ana"), by("bo")), (5000, 5000));
    drop(office.provider);
}

#[tokio::test(flavor = "multi_thread")]
async fn p28_an_authorization_server_on_a_private_network_works_only_when_listed() {
    if !ready("p28_an_authorization_server_on_a_private_network_works_only_when_listed") {
        return;
    }
    let office = office(Era::Modern, 3600, &["127.0.0.1"]).await;
    let ana = person("ana", &office.upstream);
    sign_in(&office.product, &ana).await;
    let trace = ana.open(&format!("{}/connect/notes", office.product.base())).await.unwrap();
    let text = trace["text"].as_str().unwrap();
    assert!(text.contains("Connecting the account did not work") && text.contains("connect_settings"), "{trace:#}");
    assert_eq!(office.upstream.stats().await.unwrap()["registered"], 0, "nobody was asked");
    // What the person may not use is not there, and looks like nothing.
    let page = async |id: &str| {
        let trace = ana.open(&format!("{}/connect/{id}", office.product.base())).await.unwrap();
        let text = trace["text"].as_str().unwrap().to_owned();
        text.split("Event").next().unwrap().to_owned()
    };
    let (hidden, absent) = (page("secret").await, page("nowhere").await);
    assert_eq!(hidden, absent);
    assert!(hidden.contains("There is no such page"), "{hidden}");
}

#[tokio::test(flavor = "multi_thread")]
async fn p14_a_server_without_a_login_names_the_address_in_both_eras() {
    if !ready("p14_a_server_without_a_login_names_the_address_in_both_eras") {
        return;
    }
    let office = office(Era::Legacy, 3600, BOTH).await;
    let ana = person("ana", &office.upstream);
    let token = sign_in(&office.product, &ana).await;
    let url = format!("{}/connect/notes", office.product.base());
    let told = line(&modern(&office.product, &token)).await;
    assert_eq!((&told["status"], &told["url"]), (&json!("login_needed"), &json!(url)));
    let legacy = LegacyClient::connect(&office.product.url(), Identity::bearer(&token)).await.unwrap();
    let listed = legacy.call("portal_list_servers", json!({})).await.unwrap();
    assert!(listed.text().contains(&format!("\"url\":\"{url}\"")), "{}", listed.result);
    // Switching it on names the address too.
    let on = json!({"server_id": "notes", "action": "toggle"});
    let wanted = json!({"server_id": "notes", "on": true, "status": "login_needed", "url": url});
    let switched = modern(&office.product, &token).call("portal_toggle_single_server", on.clone()).await.unwrap();
    assert_eq!(switched.result["structuredContent"], wanted, "{}", switched.result);
    let switched = legacy.call("portal_toggle_single_server", on).await.unwrap();
    assert_eq!(switched.result["structuredContent"], wanted, "{}", switched.result);
    assert!(switched.text().contains(&url), "{}", switched.result);
    // A signed-out browser signs in first and comes back to the page.
    let fresh = person("ana", &office.upstream);
    let trace = fresh.open(&url).await.unwrap();
    assert_eq!(trace["ended"], format!("{url}/done"), "{trace:#}");
    let pages: Vec<&str> = trace["pages"].as_array().unwrap().iter().filter_map(|page| page["url"].as_str()).collect();
    assert!(pages[0].starts_with(office.provider.issuer()), "{pages:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn p37_an_account_lost_in_the_middle_is_asked_for_and_the_call_goes_on() {
    if !ready("p37_an_account_lost_in_the_middle_is_asked_for_and_the_call_goes_on") {
        return;
    }
    for era in [Era::Modern, Era::Legacy] {
        let office = office(era, 3600, BOTH).await;
        let ana = person("ana", &office.upstream);
        let token = sign_in(&office.product, &ana).await;
        let client = modern(&office.product, &token);
        connect(&office, &ana, &client).await;
        assert!(seen(&client.call(TOOL, arguments("ana")).await.unwrap(), "ana"));

        // A modern client.
        office.upstream.forget("ana-up").await.unwrap();
        let asked = client.once("tools/call", call("ana")).await.unwrap().result;
        assert_eq!(asked["resultType"], "input_required", "{era:?} {asked}");
        let ask = &asked["inputRequests"]["login"]["params"];
        assert_eq!(ask["mode"], "url", "{asked}");
        listed(&client).await;
        opens(&office, &ana, ask["url"].as_str().unwrap()).await;
        let answer = client.once("tools/call", client.retry(&call("ana"), &asked)).await.unwrap();
        assert!(seen(&answer, "ana"), "{era:?} {}", answer.result);

        // A legacy client with URL elicitation: the call waits.
        office.upstream.forget("ana-up").await.unwrap();
        let heard: Arc<Mutex<Vec<String>>> = Arc::default();
        let hears = Arc::clone(&heard);
        let identity = Identity::bearer(&token).declaring(declaring()).answering(Arc::new(move |method, params| {
            hears.lock().unwrap().push(format!("{method} {} {}", params["mode"], params["url"].as_str().unwrap()));
            Some(json!({"action": "accept"}))
        }));
        let legacy = Arc::new(LegacyClient::connect(&office.product.url(), identity).await.unwrap());
        let waiting = tokio::spawn({
            let legacy = Arc::clone(&legacy);
            async move { legacy.call(TOOL, arguments("ana")).await }
        });
        let told = || heard.lock().unwrap().first().cloned();
        wait::until("the client is asked", Duration::from_secs(30), async || told().is_some()).await.unwrap();
        let url = format!("{}/connect/notes", office.product.base());
        assert_eq!(told().unwrap(), format!("elicitation/create \"url\" {url}"));
        opens(&office, &ana, &url).await;
        let answer = waiting.await.unwrap().unwrap();
        assert!(seen(&answer, "ana"), "{era:?} {}", answer.result);
        let complete = "notifications/elicitation/complete";
        assert!(answer.notifications.iter().any(|note| note["method"] == complete), "{:?}", answer.notifications);

        // A client that can be asked nothing: a refusal with the address, and a repeat goes on.
        let plain = Identity::bearer(&token).declaring(json!({}));
        let plain = ModernClient::new(&office.product.url(), plain);
        listed(&plain).await;
        office.upstream.forget("ana-up").await.unwrap();
        let refused = plain.call(TOOL, arguments("ana")).await.unwrap();
        assert_eq!((&refused.decision()["code"], &refused.decision()["url"]), (&json!("login_required"), &json!(url)));
        assert!(refused.is_error() && refused.text().contains(&url), "{}", refused.result);
        // A26: the upstream has forgotten its client as well, and she notices nothing.
        office.upstream.forget_clients().await.unwrap();
        opens(&office, &ana, &url).await;
        assert!(seen(&plain.call(TOOL, arguments("ana")).await.unwrap(), "ana"));
        assert_eq!(office.upstream.stats().await.unwrap()["registered"], 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p20_short_tokens_lose_no_tool_and_no_call() {
    if !ready("p20_short_tokens_lose_no_tool_and_no_call") {
        return;
    }
    let office = office(Era::Modern, 4, BOTH).await;
    let ana = person("ana", &office.upstream);
    let client = modern(&office.product, &sign_in(&office.product, &ana).await);
    connect(&office, &ana, &client).await;
    let end = tokio::time::Instant::now() + Duration::from_secs(24);
    let mut calls = 0;
    while tokio::time::Instant::now() < end {
        let answer = client.call(TOOL, arguments("ana")).await.unwrap();
        assert!(seen(&answer, "ana"), "call {calls}: {}", answer.result);
        assert!(client.tools().await.unwrap().iter().any(|name| name == TOOL), "after call {calls}");
        calls += 1;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let stats = office.upstream.stats().await.unwrap();
    let refreshed = stats["refreshed"].as_u64().unwrap();
    println!("{calls} calls over {refreshed} refreshes");
    assert!(refreshed >= 5 && stats["refused"] == 0, "{stats}");
}

#[tokio::test(flavor = "multi_thread")]
async fn p57_disconnecting_on_the_account_page_revokes_at_the_upstream() {
    if !ready("p57_disconnecting_on_the_account_page_revokes_at_the_upstream") {
        return;
    }
    let office = office(Era::Modern, 3600, BOTH).await;
    let ana = person("ana", &office.upstream);
    let client = modern(&office.product, &sign_in(&office.product, &ana).await);
    connect(&office, &ana, &client).await;
    assert!(seen(&client.call(TOOL, arguments("ana")).await.unwrap(), "ana"));
    let account = format!("{}/account", office.product.base());
    let shown = ana.open(&account).await.unwrap();
    let text = shown["text"].as_str().unwrap();
    for wanted in [
        "Notes",
        &format!("signed in at {}", office.upstream.issuer),
        "As ana-up@upstream.example",
        "Ready",
        "notes.read",
        "last used",
    ] {
        assert!(text.contains(wanted), "{wanted}: {shown:#}");
    }
    assert_eq!(office.upstream.stats().await.unwrap()["revoked"], json!([]));
    let pressed = ana.press(&account, "button[name=\"action\"][value=\"disconnect\"]").await.unwrap();
    assert!(!pressed["text"].as_str().unwrap().contains("signed in at"), "{pressed:#}");
    let stats = office.upstream.stats().await.unwrap();
    let revoked = stats["revoked"].as_array().unwrap();
    assert!(revoked.contains(&json!("refresh_token ana-up")), "{stats}");
    wait::until("the account is gone", Duration::from_secs(5), async || {
        line(&client).await["status"] == "login_needed"
    })
    .await
    .unwrap();
    let asked = client.once("tools/call", call("ana")).await.unwrap().result;
    assert_eq!(asked["resultType"], "input_required", "{asked}");
}

/// Three processes over one PostgreSQL.
#[tokio::test(flavor = "multi_thread")]
async fn p20_three_processes_a_hundred_calls_each_redeem_once() {
    let test = "p20_three_processes_a_hundred_calls_each_redeem_once";
    if !ready(test) || !tools::ready(test, &[Part::Postgres]) {
        return;
    }
    // Half a minute until a token of a minute is renewed.
    let (mut provider, upstream, fixture) = company(Era::Modern, 60).await;
    let postgres = Postgres::start().await.unwrap();
    let url = postgres.database("accounts").await.unwrap();
    let folders: Vec<_> = (0..3).map(|_| tempfile::TempDir::new().unwrap()).collect();
    let mut nodes: Vec<Product> = Vec::new();
    for folder in &folders {
        let mut config =
            config(&provider, &upstream, BOTH).set("store", json!({"url": url, "data_dir": folder.path()}));
        if let Some(first) = nodes.first() {
            // One address for all, as behind a load balancer.
            config = config.set("public_url", json!(first.base()));
            config.tokens.clear();
        }
        nodes.push(Product::serve(config).await.unwrap());
    }
    let public = nodes[0].base();
    provider.admit(&public).await.unwrap();
    let first = nodes.remove(0);
    let office = Office { provider, upstream, product: first, _fixture: fixture };
    let ana = person("ana", &office.upstream);
    let token = sign_in(&office.product, &ana).await;
    connect(&office, &ana, &modern(&office.product, &token)).await;
    let connected = tokio::time::Instant::now();
    let host = public.trim_start_matches("http://").to_owned();
    let clients: Vec<ModernClient> = std::iter::once(&office.product)
        .chain(&nodes)
        .map(|node| {
            let mut identity = Identity::bearer(&token).declaring(declaring());
            identity.headers.push(("host".to_owned(), host.clone()));
            ModernClient::new(&node.url(), identity)
        })
        .collect();
    for client in &clients {
        listed(client).await;
        assert!(seen(&client.call(TOOL, arguments("ana")).await.unwrap(), "ana"));
    }
    assert_eq!(office.upstream.stats().await.unwrap()["refreshed"], 0, "nothing is due");
    tokio::time::sleep_until(connected + Duration::from_secs(31)).await;
    let storm = clients.iter().map(|client| join_all((0..100).map(|_| client.call(TOOL, arguments("ana")))));
    for answer in join_all(storm).await.into_iter().flatten() {
        let answer = answer.unwrap();
        assert!(seen(&answer, "ana"), "{}", answer.result);
    }
    let stats = office.upstream.stats().await.unwrap();
    assert_eq!((&stats["refreshed"], &stats["refused"], &stats["mixed"]), (&json!(1), &json!(0), &json!(0)), "{stats}");
    assert_eq!(stats["seen"]["ana-up"], 303, "{stats}");
}

/// An office where signing in leads through the upstream's login.
async fn leading() -> Office {
    let (mut provider, upstream, fixture) = company(Era::Modern, 3600).await;
    let mut config = config(&provider, &upstream, BOTH);
    config.file["servers"][0]["connect_on_sign_in"] = json!(true);
    config.file["servers"][1]["connect_on_sign_in"] = json!(true);
    let product = Product::serve(config).await.unwrap();
    provider.admit(&product.base()).await.unwrap();
    Office { provider, upstream, product, _fixture: fixture }
}

#[tokio::test(flavor = "multi_thread")]
async fn p18_one_popup_from_nothing_to_the_first_call() {
    if !ready("p18_one_popup_from_nothing_to_the_first_call") {
        return;
    }
    let office = leading().await;
    let ana = person("ana", &office.upstream);
    let steps = json!([{"list": "tools"}, {"call": TOOL, "args": arguments("ana")}]);
    let report = scripts::sign_in(RealClient::TsV1, &office.product.url(), &ana, "", steps).await.unwrap();
    let trace = ana.closed(1).await.unwrap();
    let case = format!("{:#}\n{trace:#?}\n{}", report.0, office.product.log());
    assert_eq!(trace.len(), 1, "one browser window: {case}");
    assert!(report.names("tools").contains(&TOOL.to_owned()), "{case}");
    assert!(report.said(TOOL).contains("\"who\":\"ana-up\""), "{case}");
    let pages: Vec<&str> =
        trace[0]["pages"].as_array().unwrap().iter().filter_map(|page| page["url"].as_str()).collect();
    let asked = |page: &&str| page.starts_with(&format!("{}/connect?", office.product.base()));
    assert_eq!(pages.iter().filter(|page| asked(page)).count(), 1, "{pages:?}");
    // The one of another group is never offered.
    assert!(!case.contains("/connect/secret"), "{case}");
    // With the account there, the next client is not led anywhere.
    let again = scripts::sign_in(RealClient::TsV1, &office.product.url(), &ana, "", json!([])).await.unwrap();
    let trace = ana.closed(2).await.unwrap();
    assert!(again.0["signedIn"]["tokens"]["access_token"].is_string(), "{:#}\n{trace:#?}", again.0);
    assert!(!trace[1].to_string().contains("/connect?"), "{trace:#?}");
}
