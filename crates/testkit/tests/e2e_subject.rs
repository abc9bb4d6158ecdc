//! People's own tokens of the company's provider, exchanged for tokens of a server (row P17): a
//! real provider, real sign-ins, and one token endpoint per strategy that checks what arrives.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use std::time::Duration;

use bartizan_testkit::client::{Exchange, Identity, ModernClient};
use bartizan_testkit::exchange::{CLIENT, Exchanger, SECRET};
use bartizan_testkit::fixture::{Era, Fixture, Options};
use bartizan_testkit::product::{Config, Product};
use bartizan_testkit::scripts::{self, RealClient};
use bartizan_testkit::sign_in::{Person, Provider};
use bartizan_testkit::tools::{self, Part};
use bartizan_testkit::wait;
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

const TOOL: &str = "notes_test_echo";

/// A company, and a server that wants tokens of its own for the company's people.
struct Office {
    provider: Provider,
    exchanger: Exchanger,
    product: Product,
    _fixture: Fixture,
}

fn ready(test: &str) -> bool {
    let parts: Vec<Part> = RealClient::TsV1.parts().iter().copied().chain([Part::Npm, Part::Browser]).collect();
    tools::ready(test, &parts)
}

/// What the administrator writes.
fn auth_config(strategy: &str, exchanger: &Exchanger) -> Value {
    let mut config = json!({"client_id": CLIENT, "client_secret": SECRET, "provider": "corp"});
    match strategy {
        "token_exchange" => {
            config["token_endpoint"] = json!(exchanger.token);
            config["audience"] = json!("notes");
        }
        "entra_obo" => {
            config["token_endpoint"] = json!(exchanger.token);
            config["scopes"] = json!(["api://notes/.default"]);
        }
        // Its endpoint is discovered.
        _ => config["issuer"] = json!(exchanger.issuer),
    }
    config
}

/// Tokens of the provider last `provider_ttl_s`, those of the server `ttl_s` seconds.
async fn office(strategy: &str, provider_ttl_s: u32, ttl_s: u32) -> Office {
    let people = json!({
        "ana": {"email": "ana@corp.example", "name": "Ana Lovelace", "groups": ["engineering"]},
        "bo": {"email": "bo@corp.example", "name": "Bo Hopper", "groups": ["engineering"]},
    });
    let settings = json!({"people": people, "idTokenTtl": provider_ttl_s, "accessTokenTtl": provider_ttl_s});
    let mut provider = Provider::start_with(settings).await.unwrap();
    let fixture = Fixture::start(Options::of(Era::Modern)).await.unwrap();
    let behind = format!("http://127.0.0.1:{}", fixture.port());
    let exchanger = Exchanger::start(strategy, &behind, provider.issuer(), ttl_s).await.unwrap();
    let allow = json!([{"name": "people", "action": "allow", "include": [{"groups": ["engineering"]}]}]);
    let server = json!({"server_id": "notes", "name": "Notes", "hostname": exchanger.url, "auth_type": strategy,
        "auth_config": auth_config(strategy, &exchanger), "policies": allow, "classes": {"read": ["test_echo"]}});
    let config = Config::new()
        .server(server)
        .set("portals", json!([{"id": "default", "name": "Corp tools", "policies": allow}]))
        .set("egress", json!({"private_allow": ["127.0.0.1"]}))
        .with("identity_providers", provider.resource());
    let product = Product::serve(config).await.unwrap();
    provider.admit(&product.base()).await.unwrap();
    Office { provider, exchanger, product, _fixture: fixture }
}

/// A client of the person, signed in with a real browser.
async fn sign_in(office: &Office, person: &Person) -> ModernClient {
    let report = scripts::sign_in(RealClient::TsV1, &office.product.url(), person, "", json!([])).await.unwrap();
    let times = person.trace().len().max(1);
    let trace = person.closed(times).await;
    let token = report.0["signedIn"]["tokens"]["access_token"].as_str();
    let token = token.unwrap_or_else(|| panic!("{:#}\n{trace:#?}\n{}", report.0, office.product.log()));
    let declaring = json!({"elicitation": {"form": {}, "url": {}}});
    ModernClient::new(&office.product.url(), Identity::bearer(token).declaring(declaring))
}

fn arguments(name: &str) -> Value {
    json!({"value": {"tag": name, "who": "@@who@@"}})
}

/// The server saw this person.
fn seen(exchange: &Exchange, name: &str) -> bool {
    exchange.text().contains(&format!("\"who\":\"{name}\""))
}

async fn lists(client: &ModernClient) -> bool {
    client.tools().await.unwrap().iter().any(|name| name == TOOL)
}

/// The line of the server in `portal_list_servers`.
async fn line(client: &ModernClient) -> Value {
    let listed = client.call("portal_list_servers", json!({})).await.unwrap().result;
    listed["structuredContent"]["servers"][0].clone()
}

/// Two people are two people at the server, with nothing to connect; no token is anywhere.
async fn never_mixed(test: &str, strategy: &str) {
    if !ready(test) {
        return;
    }
    let office = office(strategy, 3600, 3600).await;
    let mut clients = Vec::new();
    for name in ["ana", "bo"] {
        let client = sign_in(&office, &Person::new(name).unwrap()).await;
        let listed = wait::until("the tools are listed", Duration::from_secs(20), async || lists(&client).await).await;
        assert!(listed.is_ok(), "{}\n{}", office.exchanger.stats().await.unwrap(), office.product.log());
        clients.push((name, client));
    }
    let calls = (0..400).map(|number| {
        let (name, client) = &clients[number % 2];
        async move {
            let answer = client.call(TOOL, arguments(name)).await.unwrap();
            assert!(seen(&answer, name), "{name}: {}", answer.result);
            answer.result.to_string()
        }
    });
    let answers = stream::iter(calls).buffer_unordered(16).collect::<Vec<String>>().await;
    let stats = office.exchanger.stats().await.unwrap();
    assert_eq!((&stats["mixed"], &stats["seen"]), (&json!(0), &json!({"ana": 200, "bo": 200})), "{stats}");
    // Once per person, and anew when somebody else's sign-in changed what is known of people.
    let times = |who: &str| stats["exchanged"][who].as_u64().unwrap();
    assert!((1..=4).contains(&times("ana")) && (1..=4).contains(&times("bo")), "{stats}");
    assert_eq!(stats["refused"], json!([]), "{stats}");
    let records = office.product.audit().unwrap();
    for name in ["ana", "bo"] {
        let identity = format!("{strategy}:{name}@corp.example");
        let mine = records.iter().filter(|record| record["upstream_identity"] == identity);
        assert_eq!(mine.count(), 200, "{identity}");
    }
    let secrets = stats["secrets"].as_array().unwrap();
    assert!(secrets.len() >= 4, "two were exchanged for two");
    for secret in secrets.iter().filter_map(Value::as_str).chain([SECRET]) {
        assert_eq!(office.product.leaks(secret).unwrap(), None);
        assert!(!answers.iter().any(|answer| answer.contains(secret)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p17_token_exchange_with_peoples_own_tokens() {
    never_mixed("p17_token_exchange_with_peoples_own_tokens", "token_exchange").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p17_entra_obo_with_peoples_own_tokens() {
    never_mixed("p17_entra_obo_with_peoples_own_tokens", "entra_obo").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p17_id_jag_with_peoples_own_tokens() {
    never_mixed("p17_id_jag_with_peoples_own_tokens", "id_jag").await;
}

/// Short tokens are renewed at the provider; when that is over, the person is sent to sign in and
/// nothing vanishes, for nobody else either.
async fn renewed_and_lost(test: &str, strategy: &str) {
    if !ready(test) {
        return;
    }
    let mut office = office(strategy, 5, 4).await;
    let (ana, bo) = (Person::new("ana").unwrap(), Person::new("bo").unwrap());
    let (client, other) = (sign_in(&office, &ana).await, sign_in(&office, &bo).await);
    wait::until("the tools are listed", Duration::from_secs(20), async || lists(&client).await && lists(&other).await)
        .await
        .unwrap();
    let end = tokio::time::Instant::now() + Duration::from_secs(16);
    let mut calls = 0;
    while tokio::time::Instant::now() < end {
        let answer = client.call(TOOL, arguments("ana")).await.unwrap();
        assert!(seen(&answer, "ana"), "call {calls}: {}\n{}", answer.result, office.product.log());
        calls += 1;
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    let stats = office.exchanger.stats().await.unwrap();
    let times = stats["exchanged"]["ana"].as_u64().unwrap();
    assert!(times >= 4 && stats["refused"] == json!([]), "tokens of 4 s over 16 s: {stats}");

    // The provider ends what it gave for her.
    office.provider.forget("ana").await.unwrap();
    let url = format!("{}/connect/notes", office.product.base());
    wait::until("she is sent to sign in", Duration::from_secs(20), async || {
        line(&client).await["status"] == "login_needed"
    })
    .await
    .unwrap();
    assert_eq!(line(&client).await["url"], json!(url));
    assert!(lists(&client).await, "no tool vanishes");
    let call = json!({"name": TOOL, "arguments": arguments("ana")});
    let asked = client.once("tools/call", call.clone()).await.unwrap().result;
    assert_eq!(asked["resultType"], "input_required", "{asked}");
    let ask = &asked["inputRequests"]["login"]["params"];
    assert_eq!((&ask["mode"], &ask["url"]), (&json!("url"), &json!(url)), "{asked}");
    assert!(ask["message"].as_str().unwrap().contains("Sign in again to use Notes"), "{asked}");
    assert!(seen(&other.call(TOOL, arguments("bo")).await.unwrap(), "bo"), "he notices nothing");
    assert_eq!(line(&other).await["url"], Value::Null);

    // She signs in again, and the call goes on.
    let trace = ana.open(&url).await.unwrap();
    assert_eq!(trace["ended"], format!("{url}/done"), "{trace:#}\n{}", office.product.log());
    let answer = client.once("tools/call", client.retry(&call, &asked)).await.unwrap();
    assert!(seen(&answer, "ana"), "{}", answer.result);
}

#[tokio::test(flavor = "multi_thread")]
async fn p17_id_tokens_are_renewed_and_who_has_none_signs_in_again() {
    renewed_and_lost("p17_id_tokens_are_renewed_and_who_has_none_signs_in_again", "id_jag").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p17_access_tokens_are_renewed_and_who_has_none_signs_in_again() {
    renewed_and_lost("p17_access_tokens_are_renewed_and_who_has_none_signs_in_again", "entra_obo").await;
}
