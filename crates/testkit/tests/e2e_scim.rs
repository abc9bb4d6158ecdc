//! A company's directory, and cutting people off, on three processes over one PostgreSQL
//! (rows A14, A25): real SCIM clients, a real provider, a real browser.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bartizan_testkit::client::{Identity, LegacyClient, ModernClient};
use bartizan_testkit::fixture::{Era, Fixture, Options};
use bartizan_testkit::http::Http;
use bartizan_testkit::postgres::{self, Postgres};
use bartizan_testkit::process;
use bartizan_testkit::product::{Config, Product};
use bartizan_testkit::scripts::{self, RealClient};
use bartizan_testkit::sign_in::{Person, Provider};
use bartizan_testkit::tools::{self, Part};
use bartizan_testkit::wait;
use http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

const TOKEN: &str = "the-directory-shows-this-token-0123456789";
/// What row A14 allows from the directory's word to the refused call.
const BOUND: Duration = Duration::from_secs(5);
const PARTS: [Part; 5] = [Part::Npm, Part::Browser, Part::Postgres, Part::Scim, Part::Product];

/// `scim2-client` as the directory of the company.
struct Directory {
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Directory {
    fn at(product: &Product) -> Result<Self> {
        let mut child = Command::new(tools::venv("scim", "python"))
            .arg(tools::script("scim/directory.py"))
            .args([&format!("{}/scim/v2", product.base()), TOKEN])
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let input = child.stdin.take().context("stdin is piped")?;
        let output = BufReader::new(child.stdout.take().context("stdout is piped")?).lines();
        Ok(Self { input, output, _child: child })
    }

    async fn tell(&mut self, command: Value) -> Result<Value> {
        self.input.write_all(format!("{command}\n").as_bytes()).await?;
        self.input.flush().await?;
        let line = tokio::time::timeout(Duration::from_secs(60), self.output.next_line()).await??;
        let answer: Value = serde_json::from_str(&line.context("the directory ended")?)?;
        anyhow::ensure!(answer.get("error").is_none(), "{command}: {answer}");
        Ok(answer)
    }

    async fn user(&mut self, name: &str) -> Result<String> {
        let made = self.tell(json!({"do": "user", "name": name})).await?;
        Ok(made["id"].as_str().context("no id")?.to_owned())
    }
}

fn scim(more: Value) -> Value {
    let mut scim = json!({"tokens": [TOKEN]});
    if let (Some(scim), Value::Object(more)) = (scim.as_object_mut(), more) {
        scim.extend(more);
    }
    json!({"scim": scim})
}

fn allow(groups: &[&str]) -> Value {
    json!([{"name": "people", "action": "allow", "include": [{"groups": groups}]}])
}

/// Three processes that share a store, a provider, and a server for engineers.
struct Company {
    nodes: Vec<Product>,
    provider: Provider,
    url: String,
    _folder: TempDir,
    _postgres: Postgres,
    _fixture: Fixture,
}

impl Company {
    async fn start() -> Result<Self> {
        let people = json!({
            "ana": {"email": "Ana@Corp.Example", "name": "Ana", "groups": ["everyone"]},
            "bo": {"email": "bo@corp.example", "name": "Bo", "groups": ["everyone"]},
        });
        let provider = Provider::start(people).await?;
        let fixture = Fixture::start(Options::of(Era::Modern)).await?;
        let postgres = Postgres::start().await?;
        let url = postgres.database("bartizan_scim").await?;
        let folder = TempDir::new()?;
        let server = |id: &str, groups: &[&str]| {
            let read = ["test_simple_text"];
            json!({"server_id": id, "hostname": fixture.url(), "policies": allow(groups), "classes": {"read": read}})
        };
        let mut nodes: Vec<Product> = Vec::new();
        for number in 0..3 {
            let services = json!({"name": "services", "action": "service_auth", "include": [{"everyone": true}]});
            let mut door = allow(&["everyone"]);
            door.as_array_mut().context("a list")?.push(services);
            let mut config = Config::new()
                .server(server("eng", &["engineering"]))
                .server(server("all", &["everyone"]))
                .set("portals", json!([{"id": "default", "name": "Corp", "policies": door}]))
                .set("sign_in", scim(json!({"groups_from": "both"})))
                .set("store", json!({"url": url, "data_dir": folder.path().join(number.to_string())}))
                .with("identity_providers", provider.resource());
            if number > 0 {
                config.tokens.clear();
            }
            nodes.push(Product::serve(config).await?);
        }
        Ok(Self { nodes, provider, url, _folder: folder, _postgres: postgres, _fixture: fixture })
    }

    /// Signs in on every process, each with a client of its own; the tokens. Tokens are good
    /// for one resource, and each process has an address of its own here.
    async fn sign_in(&mut self, person: &Person) -> Result<Vec<Value>> {
        let mut tokens = Vec::new();
        for node in &self.nodes {
            self.provider.admit(&node.base()).await?;
            let steps = json!([{"list": "tools"}]);
            let report = scripts::sign_in(RealClient::TsV1, &node.url(), person, "", steps).await?;
            let signed_in = report.0["signedIn"].clone();
            anyhow::ensure!(signed_in["tokens"]["access_token"].is_string(), "{:#}", report.0);
            tokens.push(signed_in);
        }
        Ok(tokens)
    }

    /// Waits until a condition holds on every process; how long that took.
    async fn everywhere(&self, what: &str, mut is_so: impl AsyncFnMut(&Product, usize) -> bool) -> Result<Duration> {
        let start = Instant::now();
        for (number, node) in self.nodes.iter().enumerate() {
            let left = BOUND.saturating_sub(start.elapsed());
            wait::until(&format!("{what} on process {number}"), left, async || is_so(node, number).await).await?;
        }
        println!("{what}: {} ms on three processes", start.elapsed().as_millis());
        Ok(start.elapsed())
    }
}

fn access(signed_in: &Value) -> &str {
    signed_in["tokens"]["access_token"].as_str().unwrap()
}

/// Status of a list with this token; its names.
async fn tools_of(node: &Product, token: &str) -> (u16, Vec<String>) {
    let client = ModernClient::new(&node.url(), Identity::bearer(token));
    match client.tools().await {
        Ok(names) => (200, names),
        Err(problem) => (problem.status, Vec::new()),
    }
}

async fn refused(node: &Product, token: &str) -> bool {
    tools_of(node, token).await.0 == 401
}

/// Puts an account of a person at an upstream server into the store, as `connect` would.
async fn connect(url: &str, email: &str) -> Result<()> {
    let sql = format!(
        "INSERT INTO upstream_account (owner, server, status, issuer, scopes, version, connected_ms) \
         VALUES ('user:{email}', 'eng', 'ready', 'https://as.example', '', 1, 1)"
    );
    postgres::run_sql(url, &sql).await.map(drop)
}

async fn count(url: &str, sql: &str) -> Result<String> {
    Ok(postgres::run_sql(url, sql).await?.trim().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a14_the_conformance_tester_finds_nothing() -> Result<()> {
    let test = "a14_the_conformance_tester_finds_nothing";
    if !tools::ready(test, &[Part::Scim, Part::Product]) {
        return Ok(());
    }
    let product = Product::serve(Config::new().set("sign_in", scim(json!({})))).await?;
    let mut command = Command::new(tools::venv("scim", "python"));
    command.arg(tools::script("scim/check.py")).args([&format!("{}/scim/v2", product.base()), TOKEN]);
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    let output = process::run_command(&mut command, Duration::from_secs(240)).await?;
    let line = output.stdout.trim().lines().last().unwrap_or_default();
    let report: Value = serde_json::from_str(line).with_context(|| format!("{}{}", output.stdout, output.stderr))?;
    assert_eq!(report["failed"], json!([]), "{report:#}");
    assert_eq!(report["skipped"], json!([]), "{report:#}");
    assert!(report["checks"].as_u64() > Some(80), "{report:#}");
    assert_eq!(product.leaks(TOKEN)?, None, "the directory's token is kept");
    // Sabotage: the same service, asked with a wrong token, answers nothing.
    let url = format!("{}/scim/v2/ServiceProviderConfig", product.base());
    let wrong = Http::new().send(Method::GET, &url, &[("authorization", "Bearer wrong")], "").await?;
    assert_eq!(wrong.status, 401);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a14_without_a_setting_there_is_no_provisioning() -> Result<()> {
    if !tools::ready("a14_without_a_setting_there_is_no_provisioning", &[Part::Product]) {
        return Ok(());
    }
    let product = Product::serve(Config::new()).await?;
    let url = format!("{}/scim/v2/Users", product.base());
    let answer = Http::new().send(Method::GET, &url, &[("authorization", "Bearer ")], "").await?;
    assert_eq!(answer.status, 404);
    let weak = Config::new().set("sign_in", json!({"scim": {"tokens": ["short"]}}));
    let error = Product::serve(weak).await.err().context("a weak token is refused")?;
    assert!(format!("{error:#}").contains("weak_token"), "{error:#}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a14_whom_the_directory_deactivates_or_deletes_is_refused_everywhere() -> Result<()> {
    if !tools::ready("a14_whom_the_directory_deactivates_or_deletes_is_refused_everywhere", &PARTS) {
        return Ok(());
    }
    let mut company = Company::start().await?;
    let mut directory = Directory::at(&company.nodes[0])?;
    for (name, deletes) in [("ana", false), ("bo", true)] {
        let email = format!("{name}@corp.example");
        let id = directory.user(&email).await?;
        let person = Person::new(name)?;
        let tokens = company.sign_in(&person).await?;
        connect(&company.url, &email).await?;
        for (number, node) in company.nodes.iter().enumerate() {
            assert_eq!(tools_of(node, access(&tokens[number])).await.0, 200);
        }
        let open = LegacyClient::connect(&company.nodes[1].url(), Identity::bearer(access(&tokens[1]))).await;
        let open = open.map_err(|problem| anyhow::anyhow!("{problem}"))?;
        let mut stream = open.stream(None).await.map_err(|problem| anyhow::anyhow!("{problem}"))?;
        let sessions = format!(
            "SELECT COUNT(*) FROM browser_session s JOIN person p ON p.id = s.person WHERE p.email = '{email}'"
        );
        assert_ne!(count(&company.url, &sessions).await?, "0");

        let word = if deletes {
            json!({"do": "delete", "what": "user", "id": id})
        } else {
            json!({"do": "active", "id": id, "active": false})
        };
        directory.tell(word).await?;
        let all = async |node: &Product, number: usize| refused(node, access(&tokens[number])).await;
        company.everywhere(&format!("{name} is refused"), all).await?;
        assert_eq!(count(&company.url, &sessions).await?, "0", "no browser session is left");
        let accounts = format!("SELECT COUNT(*) FROM upstream_account WHERE owner = 'user:{email}'");
        assert_eq!(count(&company.url, &accounts).await?, "0", "no upstream account is left");
        // The stream that was open ends.
        let ended =
            tokio::time::timeout(Duration::from_secs(10), async { while let Ok(Some(_)) = stream.next().await {} });
        ended.await.context("the stream goes on")?;
        // Nor does the refresh token help, or the browser that is still signed in at the provider.
        for (number, node) in company.nodes.iter().enumerate() {
            let (refresh, client) =
                (&tokens[number]["tokens"]["refresh_token"], &tokens[number]["client"]["client_id"]);
            let (refresh, client) = (refresh.as_str().unwrap(), client.as_str().unwrap());
            let body = format!("grant_type=refresh_token&refresh_token={refresh}&client_id={client}");
            let form = [("content-type", "application/x-www-form-urlencoded")];
            let reply = Http::new().send(Method::POST, &format!("{}/token", node.base()), &form, body).await?;
            assert_eq!(reply.status, 400);
        }
        let last = company.nodes.last().context("three nodes")?.base();
        // The browsers of the sign-ins are through with what they tell.
        person.closed(company.nodes.len()).await?;
        let trace = person.open(&format!("{last}/account")).await?;
        let shown = trace["pages"].as_array().and_then(|pages| pages.last()).cloned().unwrap_or_default();
        let title = shown["title"].as_str().unwrap_or_default();
        assert!(title.contains("Signing in did not work"), "{trace:#}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a14_a_change_of_groups_changes_what_live_tokens_see() -> Result<()> {
    if !tools::ready("a14_a_change_of_groups_changes_what_live_tokens_see", &PARTS) {
        return Ok(());
    }
    let mut company = Company::start().await?;
    let mut directory = Directory::at(&company.nodes[2])?;
    let ana = directory.user("ana@corp.example").await?;
    let group = directory.tell(json!({"do": "group", "name": "engineering", "members": [ana]})).await?;
    let tokens = company.sign_in(&Person::new("ana")?).await?;
    let sees = async |node: &Product, number: usize| {
        let names = tools_of(node, access(&tokens[number])).await.1;
        (names.iter().any(|name| name.starts_with("eng_")), names.iter().any(|name| name.starts_with("all_")))
    };
    for (number, node) in company.nodes.iter().enumerate() {
        assert_eq!(sees(node, number).await, (true, true), "process {number}");
    }
    directory.tell(json!({"do": "members", "id": group["id"], "members": []})).await?;
    let without = async |node: &Product, number: usize| sees(node, number).await == (false, true);
    company.everywhere("the group's server is gone", without).await?;
    for (number, node) in company.nodes.iter().enumerate() {
        let client = ModernClient::new(&node.url(), Identity::bearer(access(&tokens[number])));
        assert!(client.call("eng_test_simple_text", json!({})).await.is_err(), "process {number} still calls it");
    }
    directory.tell(json!({"do": "members", "id": group["id"], "members": [ana]})).await?;
    let with = async |node: &Product, number: usize| sees(node, number).await == (true, true);
    company.everywhere("the group's server is back", with).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a25_what_is_revoked_is_refused_on_three_processes() -> Result<()> {
    if !tools::ready("a25_what_is_revoked_is_refused_on_three_processes", &PARTS) {
        return Ok(());
    }
    let mut company = Company::start().await?;
    // A service token is good everywhere at once.
    let service = company.nodes[0].token("agent").to_owned();
    for node in &company.nodes {
        assert_eq!(tools_of(node, &service).await.0, 200);
    }
    let done = company.nodes[1].command(&["token", "delete", "agent"]).await?;
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let all = async |node: &Product, _: usize| refused(node, &service).await;
    company.everywhere("the service token is refused", all).await?;

    // A grant: RFC 7009 with the refresh token, at another process than the one that issued it.
    let ana = Person::new("ana")?;
    let tokens = company.sign_in(&ana).await?;
    assert_eq!(tools_of(&company.nodes[0], access(&tokens[0])).await.0, 200);
    let (refresh, client) = (&tokens[0]["tokens"]["refresh_token"], &tokens[0]["client"]["client_id"]);
    let body = format!("token={}&client_id={}", refresh.as_str().unwrap(), client.as_str().unwrap());
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let url = format!("{}/revoke", company.nodes[2].base());
    assert_eq!(Http::new().send(Method::POST, &url, &form, body).await?.status, 200);
    wait::until("the grant is over", BOUND, async || refused(&company.nodes[0], access(&tokens[0])).await).await?;
    // The other grants go on.
    assert_eq!(tools_of(&company.nodes[1], access(&tokens[1])).await.0, 200);

    // An access token alone.
    let (one, client) = (access(&tokens[1]), tokens[1]["client"]["client_id"].as_str().unwrap());
    let url = format!("{}/revoke", company.nodes[0].base());
    let body = format!("token={one}&client_id={client}");
    assert_eq!(Http::new().send(Method::POST, &url, &form, body).await?.status, 200);
    wait::until("the token is over", BOUND, async || refused(&company.nodes[1], one).await).await?;

    // A person: all sessions and clients, by command at any process.
    let tokens = company.sign_in(&ana).await?;
    let done = company.nodes[2].command(&["user", "revoke", "ANA@corp.example", "--json"]).await?;
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let all = async |node: &Product, number: usize| refused(node, access(&tokens[number])).await;
    company.everywhere("the person's clients are refused", all).await?;

    // Deactivated by command: not even a new sign-in helps, until they are let in again.
    let tokens = company.sign_in(&ana).await?;
    let done = company.nodes[0].command(&["user", "deactivate", "ana@corp.example"]).await?;
    assert_eq!((done.code, done.stdout.trim()), (Some(0), "ana@corp.example is deactivated"), "{}", done.stderr);
    let all = async |node: &Product, number: usize| refused(node, access(&tokens[number])).await;
    company.everywhere("the deactivated person is refused", all).await?;
    assert!(company.sign_in(&ana).await.is_err());
    let shown = company.nodes[1].command(&["user", "show", "ana@corp.example", "--json"]).await?;
    let shown: Value = serde_json::from_str(shown.stdout.trim())?;
    assert!(shown["deactivated"].is_string() && shown["grants"] == json!([]), "{shown}");
    assert_eq!(company.nodes[1].command(&["user", "reactivate", "ana@corp.example"]).await?.code, Some(0));
    assert!(company.sign_in(&ana).await.is_ok());
    assert_eq!(company.nodes[1].command(&["user", "deactivate", "nobody@corp.example"]).await?.code, Some(1));
    let records = company.nodes[0].audit()?;
    assert!(records.iter().any(|record| record.to_string().contains("user/deactivate")), "not on record");
    Ok(())
}

/// A way to the database that can be stopped: what is on its way stays on its way.
struct Way {
    url: String,
    open: tokio::sync::watch::Sender<bool>,
}

impl Way {
    async fn to(url: &str) -> Result<Self> {
        let rest = url.split_once('@').context("a user in the URL")?.1;
        let (target, database) = rest.split_once('/').context("a database in the URL")?;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let own = format!("postgres://bartizan@{}/{database}", listener.local_addr()?);
        let (open, is_open) = tokio::sync::watch::channel(true);
        let target = target.to_owned();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = tokio::net::TcpStream::connect(&target).await else { continue };
                let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                tokio::spawn(pass(near_in, far_out, is_open.clone()));
                tokio::spawn(pass(far_in, near_out, is_open.clone()));
            }
        });
        Ok(Self { url: own, open })
    }
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut open: tokio::sync::watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = tokio::io::AsyncReadExt::read(&mut from, &mut buffer).await {
        if open.wait_for(|open| *open).await.is_err() || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a25_a_process_that_hears_nothing_believes_nothing() -> Result<()> {
    if !tools::ready("a25_a_process_that_hears_nothing_believes_nothing", &[Part::Postgres, Part::Product]) {
        return Ok(());
    }
    let postgres = Postgres::start().await?;
    let url = postgres.database("bartizan_feed").await?;
    let way = Way::to(&url).await?;
    let folder = TempDir::new()?;
    let store = |url: &str, name: &str| json!({"url": url, "data_dir": folder.path().join(name)});
    let config = Config::new();
    let teller = Product::serve(config.clone().set("store", store(&url, "one"))).await?;
    let mut deaf = config.set("store", store(&way.url, "two"));
    deaf.tokens.clear();
    let deaf = Product::serve(deaf).await?;
    let token = teller.token("agent").to_owned();
    // Good, and in memory from now on.
    for _ in 0..3 {
        assert_eq!(tools_of(&deaf, &token).await.0, 200);
    }
    way.open.send(false)?;
    let done = teller.command(&["token", "delete", "agent"]).await?;
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(refused(&teller, &token).await);
    // What was heard last is believed for two seconds, which began before the deletion was made.
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    let end = Instant::now() + Duration::from_secs(10);
    let mut asked = 0;
    while Instant::now() < end {
        let answer = tokio::time::timeout(Duration::from_secs(8), tools_of(&deaf, &token)).await;
        let status = answer.map_or(0, |(status, _)| status);
        assert_ne!(status, 200, "a deleted token is believed by a process that hears nothing");
        asked += 1;
    }
    assert!(asked > 0);
    way.open.send(true)?;
    wait::until("the process hears again", Duration::from_secs(30), async || refused(&deaf, &token).await).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn p39_signing_out_everywhere_ends_clients_browsers_and_accounts() -> Result<()> {
    if !tools::ready("p39_signing_out_everywhere_ends_clients_browsers_and_accounts", &PARTS) {
        return Ok(());
    }
    let mut company = Company::start().await?;
    let ana = Person::new("ana")?;
    let tokens = company.sign_in(&ana).await?;
    connect(&company.url, "ana@corp.example").await?;
    let shown = ana.leave(&format!("{}/account", company.nodes[2].base()), true).await?;
    let text = shown["text"].as_str().unwrap_or_default();
    assert!(text.contains("signed out everywhere"), "{shown:#}");
    for wanted in [["Clients", "3"], ["Accounts", "1"]] {
        let words: Vec<&str> = text.split_whitespace().collect();
        assert!(words.windows(2).any(|pair| pair == wanted), "{wanted:?} in {text}");
    }
    let all = async |node: &Product, number: usize| refused(node, access(&tokens[number])).await;
    company.everywhere("the old tokens are refused", all).await?;
    for sql in [
        "SELECT COUNT(*) FROM browser_session",
        "SELECT COUNT(*) FROM upstream_account",
        "SELECT COUNT(*) FROM oauth_grant WHERE revoked_ms IS NULL",
    ] {
        assert_eq!(count(&company.url, sql).await?, "0", "{sql}");
    }
    // The way to sign out at the provider is shown, and it ends the session there: the next
    // sign-in asks who it is.
    assert!(shown["provider"].as_str().is_some_and(|url| url.starts_with(company.provider.issuer())), "{shown:#}");
    assert_eq!(shown["providerEnded"], true, "{shown:#}");
    Ok(())
}
