//! Programs without a person at a browser: identity assertions (A15), agents and CI jobs (A27).

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use std::time::Duration;

use bartizan_testkit::client::{Identity, ModernClient};
use bartizan_testkit::fixture::{Era, Fixture, Options};
use bartizan_testkit::http::Http;
use bartizan_testkit::issuer::Issuer;
use bartizan_testkit::postgres::{Postgres, run_sql};
use bartizan_testkit::product::{Config, Product};
use bartizan_testkit::tools::{self, Part};
use bartizan_testkit::wait;
use http::Method;
use serde_json::{Value, json};

const PARTS: [Part; 2] = [Part::Product, Part::Npm];
const TOOL: &str = "eng_test_simple_text";
const SECRET: &str = "a secret of the back office";
const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// People of engineering and the agent `ci` may use `eng`; nobody `fin`.
fn config(issuer: &Issuer, upstream: &Fixture) -> Config {
    let rules = json!([
        {"action": "allow", "include": [{"groups": ["engineering"]}]},
        {"action": "service_auth", "include": [{"agents": ["ci"]}]},
    ]);
    let server = |id: &str, policies: &Value| {
        let read = ["test_simple_text"];
        json!({"server_id": id, "hostname": upstream.url(), "policies": policies, "classes": {"read": read}})
    };
    let finance = json!([{"action": "service_auth", "include": [{"agents": ["other"]}]}]);
    Config::new()
        .server(server("eng", &rules))
        .server(server("fin", &finance))
        .set("portals", json!([{"id": "default", "name": "All", "policies": rules}]))
        .with(
            "identity_providers",
            json!({"id": "corp", "issuer": issuer.url(), "client_id": "bartizan", "id_jag": true}),
        )
        .with("clients", json!({"client_id": "back-office", "name": "Back office", "client_secret": SECRET}))
        .with(
            "agents",
            json!({"id": "ci", "owner": "ana@corp.example", "limits": {"per_minute": 50}, "auth": {"workload": {
                "issuer": issuer.url(), "audience": "bartizan-agents",
                "claims": {"repository": "acme/shop", "ref": "refs/heads/main"},
            }}}),
        )
}

/// What an identity assertion about Ana says to the installation with this name.
fn about_ana(gateway: &str, resource: &str) -> Value {
    json!({
        "sub": "ana", "aud": gateway, "client_id": "back-office", "resource": resource, "scope": "mcp:read",
        "email": "ana@corp.example", "groups": ["engineering"],
    })
}

fn job(changes: &[(&str, Value)]) -> Value {
    let mut claims = json!({
        "sub": "repo:acme/shop", "aud": "bartizan-agents", "repository": "acme/shop", "ref": "refs/heads/main",
    });
    for (name, value) in changes {
        claims[*name] = value.clone();
    }
    json!({ "claims": claims })
}

async fn post(base: &str, form: &[(&str, &str)]) -> (u16, Value) {
    let encode = |text: &str| {
        text.bytes().fold(String::new(), |out, byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => out + &char::from(byte).to_string(),
            byte => out + &format!("%{byte:02X}"),
        })
    };
    let body = form.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect::<Vec<_>>().join("&");
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let reply = Http::new().send(Method::POST, &format!("{base}/token"), &headers, body).await.unwrap();
    (reply.status, reply.json().await.unwrap())
}

async fn by_assertion(base: &str, assertion: &str) -> (u16, Value) {
    let form =
        [("grant_type", JWT_BEARER), ("client_id", "back-office"), ("client_secret", SECRET), ("assertion", assertion)];
    post(base, &form).await
}

async fn by_exchange(base: &str, resource: &str, token: &str) -> (u16, Value) {
    let form = [
        ("grant_type", EXCHANGE),
        ("client_id", "ci"),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:id_token"),
        ("subject_token", token),
        ("resource", resource),
    ];
    post(base, &form).await
}

fn token_of(answer: &(u16, Value)) -> &str {
    answer.1["access_token"].as_str().unwrap_or_else(|| panic!("{answer:?}"))
}

fn client(url: &str, token: &str) -> ModernClient {
    ModernClient::new(url, Identity::bearer(token))
}

#[tokio::test(flavor = "multi_thread")]
async fn a15_an_id_jag_lets_ana_in_without_a_browser() {
    if !tools::ready("a15_an_id_jag_lets_ana_in_without_a_browser", &PARTS) {
        return;
    }
    let mut issuer = Issuer::start().await.unwrap();
    let upstream = Fixture::start(Options::of(Era::Modern)).await.unwrap();
    let product = Product::serve(config(&issuer, &upstream)).await.unwrap();
    let (base, url) = (product.base(), product.url());
    let typ = "oauth-id-jag+jwt";
    let good = json!({"typ": typ, "claims": about_ana(&base, &url)});
    let changed = |name: &str, value: Value| {
        let mut claims = about_ana(&base, &url);
        claims[name] = value;
        json!({"typ": typ, "claims": claims})
    };
    for (case, wanted) in [
        ("none", json!({"typ": typ, "claims": about_ana(&base, &url), "as": "none"})),
        ("another key", json!({"typ": typ, "claims": about_ana(&base, &url), "as": "other"})),
        ("an ID token", json!({"claims": about_ana(&base, &url)})),
        ("another server", changed("aud", "https://other.example".into())),
        ("another resource", changed("resource", "https://other.example/mcp".into())),
        ("another client", changed("client_id", "desk".into())),
    ] {
        let token = issuer.token(wanted).await.unwrap();
        let (status, answer) = by_assertion(&base, &token).await;
        assert_eq!((status, answer["error"].as_str()), (400, Some("invalid_grant")), "{case}: {answer}");
    }
    let assertion = issuer.token(good).await.unwrap();
    let answer = by_assertion(&base, &assertion).await;
    assert_eq!((answer.0, &answer.1["refresh_token"]), (200, &Value::Null), "{answer:?}");
    let tools = client(&url, token_of(&answer)).tools().await.unwrap();
    assert!(tools.contains(&TOOL.to_owned()) && !tools.iter().any(|name| name.starts_with("fin_")), "{tools:?}");
    let called = client(&url, token_of(&answer)).call(TOOL, json!({})).await.unwrap();
    assert!(!called.is_error(), "{}", called.text());
    // Once; and a new key of the provider is found.
    assert_eq!(by_assertion(&base, &assertion).await.0, 400);
    issuer.rotate().await.unwrap();
    let next = issuer.token(json!({"typ": typ, "claims": about_ana(&base, &url)})).await.unwrap();
    assert_eq!(by_assertion(&base, &next).await.0, 200);
    assert_eq!(product.leaks(&assertion).unwrap(), None, "an assertion is kept");
    let metadata: Value = serde_json::from_str(
        &Http::new().get(&format!("{base}/.well-known/oauth-authorization-server")).await.unwrap().1,
    )
    .unwrap();
    let profiles = json!(["urn:ietf:params:oauth:grant-profile:id-jag"]);
    assert_eq!(metadata["authorization_grant_profiles_supported"], profiles);
    let (status, keys) = Http::new().get(&format!("{base}/cdn-cgi/access/certs")).await.unwrap();
    assert!(status == 200 && keys.contains("\"kid\""), "A13: {keys}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a27_a_ci_job_calls_as_an_agent_and_the_record_names_its_owner() {
    if !tools::ready("a27_a_ci_job_calls_as_an_agent_and_the_record_names_its_owner", &PARTS) {
        return;
    }
    let mut issuer = Issuer::start().await.unwrap();
    let upstream = Fixture::start(Options::of(Era::Modern)).await.unwrap();
    let product = Product::serve(config(&issuer, &upstream)).await.unwrap();
    let (base, url) = (product.base(), product.url());
    // Nobody answers for the agent yet.
    let early = issuer.token(job(&[])).await.unwrap();
    assert_eq!(by_exchange(&base, &url, &early).await.0, 400);
    let vouched = issuer.token(json!({"typ": "oauth-id-jag+jwt", "claims": about_ana(&base, &url)})).await.unwrap();
    assert_eq!(by_assertion(&base, &vouched).await.0, 200);
    for (case, changes) in [
        ("repository", vec![("repository", json!("acme/other"))]),
        ("branch", vec![("ref", json!("refs/heads/feature"))]),
        ("list", vec![("repository", json!(["acme/shop"]))]),
        ("null", vec![("ref", Value::Null)]),
        ("audience", vec![("aud", json!("bartizan"))]),
    ] {
        let token = issuer.token(job(&changes)).await.unwrap();
        let (status, answer) = by_exchange(&base, &url, &token).await;
        assert_eq!((status, answer["error"].as_str()), (400, Some("invalid_grant")), "{case}: {answer}");
    }
    let token = issuer.token(job(&[])).await.unwrap();
    let answer = by_exchange(&base, &url, &token).await;
    assert_eq!((answer.0, &answer.1["refresh_token"]), (200, &Value::Null), "{answer:?}");
    let agent = client(&url, token_of(&answer));
    let tools = agent.tools().await.unwrap();
    assert!(tools.contains(&TOOL.to_owned()) && !tools.iter().any(|name| name.starts_with("fin_")), "{tools:?}");
    assert!(!agent.call(TOOL, json!({})).await.unwrap().is_error());
    assert_eq!(by_exchange(&base, &url, &token).await.0, 400, "once");
    let calls = product.audit().unwrap();
    let call = calls.iter().find(|event| event["kind"] == "call" && event["principal_kind"] == "agent");
    assert!(call.is_some(), "{calls:#?}");
    // The index is built behind the record.
    bartizan_testkit::wait::until("the call is found with its owner", std::time::Duration::from_secs(30), async || {
        let listed = product.command(&["audit", "search", "--json", "--limit", "100"]).await.unwrap().stdout;
        let line = listed.lines().find(|line| line.contains("agent:ci") && line.contains("test_simple_text"));
        line.is_some_and(|line| line.contains("ana@corp.example"))
    })
    .await
    .unwrap();
    // Its own limit: 50 a minute, and nobody else's.
    let mut limited = false;
    for _ in 0..60 {
        limited = limited || agent.call(TOOL, json!({})).await.unwrap().is_error();
    }
    assert!(limited, "the agent has a limit");
    let ana = issuer.token(json!({"typ": "oauth-id-jag+jwt", "claims": about_ana(&base, &url)})).await.unwrap();
    let ana = by_assertion(&base, &ana).await;
    assert!(!client(&url, token_of(&ana)).call(TOOL, json!({})).await.unwrap().is_error());
}

/// As the other commands do it: the change and its line in the feed together.
const LEAVE: &str = "UPDATE person SET deactivated_ms = 1 WHERE email = 'ana@corp.example'; \
     UPDATE change_head SET seq = seq + 1; \
     INSERT INTO change_log (seq, topic, name, at_ms) SELECT seq, 'person', 'ana', 0 FROM change_head";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a15_a27_three_replicas_refuse_a_repeat_and_hear_that_an_owner_left() {
    let parts = [Part::Product, Part::Npm, Part::Postgres];
    if !tools::ready("a15_a27_three_replicas_refuse_a_repeat_and_hear_that_an_owner_left", &parts) {
        return;
    }
    let mut issuer = Issuer::start().await.unwrap();
    let upstream = Fixture::start(Options::of(Era::Modern)).await.unwrap();
    let postgres = Postgres::start().await.unwrap();
    let database = postgres.database("bartizan_agents").await.unwrap();
    let folder = tempfile::TempDir::new().unwrap();
    let public = "https://gateway.example";
    let mut nodes = Vec::new();
    for number in 0..3 {
        let data = folder.path().join(number.to_string());
        let mut config = config(&issuer, &upstream)
            .set("store", json!({"url": database, "data_dir": data}))
            .set("public_url", json!(public))
            .set("allowed_hosts", json!(["127.0.0.1"]));
        config.tokens.clear();
        nodes.push(Product::serve(config).await.unwrap());
    }
    let url = format!("{public}/mcp");
    let assertion = issuer.token(json!({"typ": "oauth-id-jag+jwt", "claims": about_ana(public, &url)})).await.unwrap();
    let bases: Vec<String> = nodes.iter().map(Product::base).collect();
    let (a, b, c) = tokio::join!(
        by_assertion(&bases[0], &assertion),
        by_assertion(&bases[1], &assertion),
        by_assertion(&bases[2], &assertion),
    );
    let mut statuses = [a.0, b.0, c.0];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 400, 400], "{a:?} {b:?} {c:?}");
    let keys = |node: usize| {
        let url = format!("{}/.well-known/jwks.json", nodes[node].base());
        async move { Http::new().get(&url).await.unwrap().1 }
    };
    assert_eq!(keys(0).await, keys(1).await, "A13: one key set");
    assert_eq!(keys(1).await, keys(2).await);

    let job_token = issuer.token(job(&[])).await.unwrap();
    let answer = by_exchange(&nodes[0].base(), &url, &job_token).await;
    let token = token_of(&answer).to_owned();
    assert_eq!(by_exchange(&nodes[1].base(), &url, &job_token).await.0, 400, "on another replica");
    for node in &nodes {
        assert!(!client(&node.url(), &token).call(TOOL, json!({})).await.unwrap().is_error());
    }
    run_sql(&database, LEAVE).await.unwrap();
    wait::until("every replica refuses the agent", Duration::from_secs(2), async || {
        for node in &nodes {
            match client(&node.url(), &token).call(TOOL, json!({})).await {
                Err(problem) if problem.status == 401 => {}
                _ => return false,
            }
        }
        true
    })
    .await
    .unwrap();
    let next = issuer.token(job(&[])).await.unwrap();
    assert_eq!(by_exchange(&nodes[2].base(), &url, &next).await.0, 400, "nobody answers for it");
}
