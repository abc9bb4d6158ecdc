//! What is ended alone, and what goes on, on three processes over one PostgreSQL with one
//! public address (A25), and parked calls of people who are gone (A14): a real client, a real
//! provider, real browsers.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bartizan_testkit::client::{Identity, ModernClient, all_capabilities};
use bartizan_testkit::fixture::{Era, Fixture, Options};
use bartizan_testkit::http::Http;
use bartizan_testkit::postgres::Postgres;
use bartizan_testkit::product::{Config, Product};
use bartizan_testkit::scripts::{self, RealClient};
use bartizan_testkit::sign_in::{Person, Provider};
use bartizan_testkit::tools::{self, Part};
use bartizan_testkit::wait;
use futures_util::future::try_join_all;
use http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

const DIRECTORY: &str = "the-directory-shows-this-token-0123456789";
/// What row A25 allows until everybody refuses.
const BOUND: Duration = Duration::from_secs(1);
const PARTS: [Part; 4] = [Part::Npm, Part::Browser, Part::Postgres, Part::Product];
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

/// Three processes behind one public address, which is the first one's. A balancer would do
/// what the tests do by hand: show one token to each of them.
struct House {
    nodes: Vec<Product>,
    upstream: Fixture,
    _provider: Provider,
    _folder: TempDir,
    _postgres: Postgres,
}

impl House {
    async fn start(era: Era) -> Result<Self> {
        let person = |name: &str| json!({"email": format!("{name}@corp.example"), "groups": ["staff"]});
        let mut provider = Provider::start(json!({"ana": person("ana"), "bo": person("bo")})).await?;
        let upstream = Fixture::start(Options::of(era)).await?;
        let postgres = Postgres::start().await?;
        let url = postgres.database("bartizan_revocation").await?;
        let folder = TempDir::new()?;
        let staff = json!([{"name": "staff", "action": "allow", "include": [{"groups": ["staff"]}]}]);
        let mut nodes: Vec<Product> = Vec::new();
        for number in 0..3 {
            let read = ["test_simple_text", "test_elicitation"];
            let mut config = Config::new()
                .server(json!({"server_id": "fx", "hostname": upstream.url(), "policies": staff, "classes": {"read": read}}))
                .set("portals", json!([{"id": "default", "policies": staff}]))
                .set("sign_in", json!({"scim": {"tokens": [DIRECTORY], "groups_from": "both"}}))
                .set("store", json!({"url": url, "data_dir": folder.path().join(number.to_string())}))
                .with("identity_providers", provider.resource());
            config.tokens.clear();
            if let Some(first) = nodes.first() {
                config = config.set("public_url", json!(first.base()));
            }
            nodes.push(Product::serve(config).await?);
        }
        provider.admit(&nodes[0].base()).await?;
        Ok(Self { nodes, upstream, _provider: provider, _folder: folder, _postgres: postgres })
    }

    /// A client signs in, a new one or one that is registered already.
    async fn sign_in(&self, person: &Person, client: Option<&SignedIn>) -> Result<SignedIn> {
        let times = person.trace().len() + 1;
        let more = client.map_or_else(|| json!({}), |known| json!({"client": {"client_id": known.client}}));
        let (steps, url) = (json!([{"list": "tools"}]), self.nodes[0].url());
        let report = scripts::sign_in_as(RealClient::TsV1, &url, person, "", steps, more).await?;
        let trace = person.closed(times).await?;
        let (told, last) = (&report.0["signedIn"], trace.last().context("a trace")?);
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let read = || {
            Some(SignedIn {
                client: text(&told["client"]["client_id"])?,
                access: text(&told["tokens"]["access_token"])?,
                refresh: text(&told["tokens"]["refresh_token"])?,
                session: text(&last["session"])?,
            })
        };
        read().with_context(|| format!("{:#}\n{last:#}\n{}", report.0, self.nodes[0].log()))
    }

    /// What each process says to a token.
    async fn statuses(&self, signed_in: &SignedIn) -> Vec<u16> {
        let mut statuses = Vec::new();
        for node in &self.nodes {
            statuses.push(status(node, &signed_in.access).await);
        }
        statuses
    }

    /// Waits until something is so on each process, asked at once; at most [`BOUND`].
    async fn each(&self, what: &str, is_so: impl AsyncFn(&Product) -> bool) -> Result<()> {
        let start = Instant::now();
        let one = async |node: &Product| wait::until(what, BOUND, async || is_so(node).await).await;
        try_join_all(self.nodes.iter().map(one)).await?;
        println!("{what}: {} ms on three processes", start.elapsed().as_millis());
        Ok(())
    }

    /// A request of the company's directory at a process.
    async fn directory(&self, node: usize, method: Method, path: &str, body: &Value) -> Result<Value> {
        let bearer = format!("Bearer {DIRECTORY}");
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/scim+json")];
        let url = format!("{}/scim/v2{path}", self.nodes[node].base());
        let reply = Http::new().send(method, &url, &headers, body.to_string()).await?;
        let (status, answer) = (reply.status, reply.json().await?);
        ensure!(status < 300, "{status} {answer}");
        Ok(answer)
    }
}

/// What a client and the browser got.
struct SignedIn {
    client: String,
    access: String,
    refresh: String,
    session: String,
}

async fn status(node: &Product, token: &str) -> u16 {
    match ModernClient::new(&node.url(), Identity::bearer(token)).tools().await {
        Ok(_) => 200,
        Err(problem) => problem.status,
    }
}

/// The account page as this browser gets it. Cookies do not look at ports.
async fn account(node: &Product, session: &str) -> Result<(u16, String)> {
    let cookie = format!("bartizan={session}");
    let headers = [("cookie", cookie.as_str()), ("accept", "text/html")];
    let reply = Http::new().send(Method::GET, &format!("{}/account", node.base()), &headers, "").await?;
    Ok((reply.status, reply.text().await?))
}

async fn is_signed_in(node: &Product, session: &str) -> bool {
    account(node, session).await.is_ok_and(|(status, page)| status == 200 && page.contains("Your account"))
}

/// Presses a button of the account page.
async fn press(node: &Product, session: &str, path: &str, fields: &str) -> Result<u16> {
    let (_, page) = account(node, session).await?;
    let csrf = page.split("name=\"csrf\" value=\"").nth(1).and_then(|rest| rest.split('"').next());
    let csrf = csrf.with_context(|| format!("no form in {page}"))?;
    ensure!(csrf.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)), "{csrf} must be escaped");
    let (cookie, origin) = (format!("bartizan={session}"), node.base());
    let headers = [("cookie", cookie.as_str()), ("origin", origin.as_str()), ("accept", "text/html"), FORM];
    let body = format!("csrf={csrf}{fields}");
    Ok(Http::new().send(Method::POST, &format!("{origin}{path}"), &headers, body).await?.status)
}

#[tokio::test(flavor = "multi_thread")]
async fn a25_a_withdrawn_client_is_refused_on_each_process_and_nobody_elses() -> Result<()> {
    if !tools::ready("a25_a_withdrawn_client_is_refused_on_each_process_and_nobody_elses", &PARTS) {
        return Ok(());
    }
    let house = House::start(Era::Modern).await?;
    let (ana, bo) = (Person::new("ana")?, Person::new("bo")?);
    let gone = house.sign_in(&ana, None).await?;
    let other = house.sign_in(&ana, None).await?;
    // The same registered client, for somebody else.
    let of_bo = house.sign_in(&bo, Some(&gone)).await?;
    assert_ne!(gone.client, other.client);
    assert_eq!(gone.client, of_bo.client);
    for signed_in in [&gone, &other, &of_bo] {
        assert_eq!(house.statuses(signed_in).await, [200, 200, 200]);
    }
    // Somebody else's button ends nothing of hers.
    let withdraw = format!("&action=withdraw&client={}", other.client);
    assert_eq!(press(&house.nodes[0], &of_bo.session, "/account", &withdraw).await?, 303);
    assert_eq!(house.statuses(&other).await, [200, 200, 200]);

    let withdraw = format!("&action=withdraw&client={}", gone.client);
    assert_eq!(press(&house.nodes[0], &gone.session, "/account", &withdraw).await?, 303);
    house.each("the client is refused", async |node| status(node, &gone.access).await == 401).await?;
    for node in &house.nodes {
        let body = format!("grant_type=refresh_token&refresh_token={}&client_id={}", gone.refresh, gone.client);
        let reply = Http::new().send(Method::POST, &format!("{}/token", node.base()), &[FORM], body).await?;
        assert_eq!((reply.status, reply.json().await?["error"].clone()), (400, json!("invalid_grant")));
    }
    for signed_in in [&other, &of_bo] {
        assert_eq!(house.statuses(signed_in).await, [200, 200, 200]);
    }
    // The browser stays signed in, and the client is not among the allowed ones on any process.
    for node in &house.nodes {
        let (status, page) = account(node, &gone.session).await?;
        assert_eq!(status, 200);
        assert!(page.contains(&other.client) && !page.contains(&gone.client), "{page}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a25_a_session_or_a_grant_ended_alone_ends_nothing_else_on_any_process() -> Result<()> {
    if !tools::ready("a25_a_session_or_a_grant_ended_alone_ends_nothing_else_on_any_process", &PARTS) {
        return Ok(());
    }
    let house = House::start(Era::Modern).await?;
    // Two browsers of one person.
    let (laptop, phone) = (Person::new("ana")?, Person::new("ana")?);
    let first = house.sign_in(&laptop, None).await?;
    let second = house.sign_in(&phone, None).await?;
    assert_ne!(first.session, second.session);
    for node in &house.nodes {
        assert!(is_signed_in(node, &first.session).await && is_signed_in(node, &second.session).await);
        assert!(!is_signed_in(node, "made-up").await);
    }
    for signed_in in [&first, &second] {
        assert_eq!(house.statuses(signed_in).await, [200, 200, 200]);
    }
    // One browser: the other one and both clients go on.
    assert_eq!(press(&house.nodes[0], &first.session, "/logout", "").await?, 303);
    house.each("the browser is signed out", async |node| !is_signed_in(node, &first.session).await).await?;
    for node in &house.nodes {
        assert!(is_signed_in(node, &second.session).await);
    }
    for signed_in in [&first, &second] {
        assert_eq!(house.statuses(signed_in).await, [200, 200, 200]);
    }
    // One grant (RFC 7009), at a process that did not make it: the other one and the browser go on.
    let body = format!("token={}&client_id={}", first.refresh, first.client);
    let url = format!("{}/revoke", house.nodes[2].base());
    assert_eq!(Http::new().send(Method::POST, &url, &[FORM], body).await?.status, 200);
    house.each("the grant is over", async |node| status(node, &first.access).await == 401).await?;
    assert_eq!(house.statuses(&second).await, [200, 200, 200]);
    for node in &house.nodes {
        assert!(is_signed_in(node, &second.session).await);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a14_parked_calls_of_a_deactivated_person_end_on_another_process() -> Result<()> {
    if !tools::ready("a14_parked_calls_of_a_deactivated_person_end_on_another_process", &PARTS) {
        return Ok(());
    }
    let house = House::start(Era::Legacy).await?;
    let mut ids = Vec::new();
    for name in ["ana", "bo"] {
        let schema = "urn:ietf:params:scim:schemas:core:2.0:User";
        let user = json!({"schemas": [schema], "userName": format!("{name}@corp.example"), "active": true});
        let made = house.directory(1, Method::POST, "/Users", &user).await?;
        ids.push(made["id"].as_str().context("an id")?.to_owned());
    }
    let holder = &house.nodes[2];
    let params = json!({"name": "fx_test_elicitation", "arguments": {"message": "who"}});
    let client = |node: &Product, token: &str| {
        ModernClient::new(&node.url(), Identity::bearer(token).declaring(all_capabilities()))
    };
    let mut parked = Vec::new();
    for name in ["ana", "bo"] {
        let signed_in = house.sign_in(&Person::new(name)?, None).await?;
        let asked = client(holder, &signed_in.access).once("tools/call", params.clone()).await?.result;
        assert_eq!(asked["resultType"], "input_required", "{asked}");
        parked.push((signed_in.access, asked));
    }
    let [(ana, of_ana), (bo, of_bo)] = <[_; 2]>::try_from(parked).ok().context("two parked calls")?;
    let ended = || -> Result<Option<Value>> {
        let note = |event: &Value| event["note"].as_str().is_some_and(|note| note.starts_with("parked call ended"));
        Ok(holder.audit()?.into_iter().find(note))
    };
    assert!(ended()?.is_none());

    let change = json!({
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
        "Operations": [{"op": "replace", "path": "active", "value": false}],
    });
    house.directory(1, Method::PATCH, &format!("/Users/{}", ids[0]), &change).await?;
    let bound = Duration::from_secs(5);
    wait::until("the parked call is over", bound, async || {
        house.upstream.stats().of("cancelled") == 1 && ended().is_ok_and(|event| event.is_some())
    })
    .await?;
    let event = ended()?.context("the end is on record")?;
    assert_eq!(event["verdict"]["code"], "unauthenticated", "{event}");
    assert_eq!((&event["kind"], &event["outcome"]), (&json!("call"), &json!("unknown")), "{event}");
    // Whoever comes back with the answer is refused everywhere.
    for node in &house.nodes {
        let late = client(node, &ana);
        let refused = late.once("tools/call", late.retry(&params, &of_ana)).await.err().context("it is taken up")?;
        assert_eq!(refused.status, 401, "{refused}");
    }
    // The parked call of somebody else goes on; nothing ran twice.
    let other = client(holder, &bo);
    let done = other.once("tools/call", other.retry(&params, &of_bo)).await?;
    assert!(done.text().starts_with("User response"), "{}", done.result);
    assert_eq!(house.upstream.stats().of("tools/call"), 2);
    assert_eq!(house.upstream.stats().of("cancelled"), 1);
    Ok(())
}
