//! Copies of a running installation, and the way back on another host (row O6).

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bartizan_testkit::client::{Identity, ModernClient};
use bartizan_testkit::fixture::{Era, Fixture, Options};
use bartizan_testkit::http::Http;
use bartizan_testkit::postgres::Postgres;
use bartizan_testkit::process::{self, Output};
use bartizan_testkit::product::{Config, Product, http_server};
use bartizan_testkit::scripts::{self, RealClient};
use bartizan_testkit::sign_in::{Person, Provider};
use bartizan_testkit::tools::{self, Part};
use http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

/// The master key that every product of the test kit has.
const MASTER: &[u8] = b"0123456789abcdefFEDCBA9876543210";

/// The key that backups are encrypted with.
const NIGHTLY: &[u8] = b"this is the key of our backups..";

/// Another machine: a folder with its own data, keys and configuration.
struct Host {
    folder: TempDir,
    store: Value,
}

fn secret(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

impl Host {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let store = json!({"data_dir": folder.path().join("data")});
        Self::with(folder, store, MASTER)
    }

    fn on(url: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let store = json!({"data_dir": folder.path().join("data"), "url": url});
        Self::with(folder, store, MASTER)
    }

    fn with(folder: TempDir, store: Value, master: &[u8]) -> Self {
        secret(&folder.path().join("key"), master);
        secret(&folder.path().join("nightly"), NIGHTLY);
        secret(&folder.path().join("other"), b"another key, not that of backups");
        let config = json!({"key": {"file": "key"}, "store": store,
            "backup_keys": backup_keys()});
        std::fs::write(folder.path().join("bartizan.yaml"), config.to_string()).unwrap();
        Self { folder, store }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(tools::product());
        command.args(args).arg("-c").arg(self.path("bartizan.yaml")).arg("--json");
        process::run_command(&mut command, Duration::from_secs(120)).await.unwrap()
    }

    async fn restore(&self, archive: &Path) -> Value {
        said(&self.run(&["restore", archive.to_str().unwrap()]).await)
    }

    /// A process that serves what is here, as the installation that it was.
    async fn serve(&self, config: Config, base: &str) -> Product {
        let mut config = config.set("store", self.store.clone()).set("public_url", json!(base));
        config.tokens.clear();
        Product::serve(config).await.unwrap()
    }
}

fn said(output: &Output) -> Value {
    assert_eq!(output.code, Some(0), "{output:?}");
    serde_json::from_str(output.stdout.trim()).unwrap()
}

/// The code of a refusal and how the command ended.
fn refused(output: &Output) -> (Option<i32>, String) {
    let error: Value = serde_json::from_str(output.stderr.trim()).unwrap_or_else(|_| panic!("{output:?}"));
    (output.code, error["error"]["code"].as_str().unwrap().to_owned())
}

fn backup_keys() -> Value {
    json!({"nightly": {"file": "nightly"}})
}

fn config(fixture: &Fixture) -> Config {
    let server = http_server("fx", &fixture.url(), &["test_simple_text".to_owned()]);
    Config::new().server(server).set("backup_keys", backup_keys())
}

/// Makes a copy while the product serves.
async fn backup(product: &Product, host: &Host, name: &str) -> PathBuf {
    let file = host.path(name);
    secret(&product.config_path().with_file_name("nightly"), NIGHTLY);
    let args = ["backup", file.to_str().unwrap(), "--key", "nightly", "--json"];
    said(&product.command(&args).await.unwrap());
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    file
}

/// Calls a tool at the address of `product` as if it were at `base`; the status and what came back.
async fn call(product: &Product, base: &str, token: &str) -> (u16, String) {
    let host = base.strip_prefix("http://").unwrap();
    let version = "2026-07-28";
    let meta = json!({"io.modelcontextprotocol/protocolVersion": version,
        "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {}});
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {"name": "fx_test_simple_text", "arguments": {}, "_meta": meta}});
    let bearer = format!("Bearer {token}");
    let headers = [
        ("host", host),
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
        ("mcp-protocol-version", version),
        ("mcp-method", "tools/call"),
        ("mcp-name", "fx_test_simple_text"),
    ];
    let reply = Http::new().send(Method::POST, &product.url(), &headers, body.to_string()).await.unwrap();
    (reply.status, reply.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn o6_restored_on_another_host_tokens_open_and_the_chain_verifies() {
    let test = "o6_restored_on_another_host_tokens_open_and_the_chain_verifies";
    if !tools::ready(test, &[Part::Product, Part::Npm, Part::Browser]) {
        return;
    }
    let people = json!({"ana": {"email": "ana@corp.example", "name": "Ana", "groups": ["engineering"]}});
    let mut provider = Provider::start(people).await.unwrap();
    let fixture = Fixture::start(Options::of(Era::Modern)).await.unwrap();
    let rule = json!([{"name": "people", "action": "allow", "include": [{"groups": ["engineering"]}]},
        {"name": "services", "action": "service_auth", "include": [{"everyone": true}]}]);
    let mut server = http_server("fx", &fixture.url(), &["test_simple_text".to_owned()]);
    server["policies"] = rule.clone();
    let config = Config::new()
        .server(server)
        .set("portals", json!([{"id": "default", "name": "All", "policies": rule}]))
        .with("identity_providers", provider.resource())
        .set("backup_keys", backup_keys());
    let mut product = Product::serve(config.clone()).await.unwrap();
    let base = product.base();
    provider.admit(&base).await.unwrap();
    let ana = Person::new("ana").unwrap();
    let steps = json!([{"call": "fx_test_simple_text"}]);
    let report = scripts::sign_in(RealClient::TsV1, &product.url(), &ana, "", steps).await.unwrap();
    assert!(report.0.get("error").is_none(), "{:#}", report.0);
    let tokens = &report.0["signedIn"]["tokens"];
    let (access, refresh) = (tokens["access_token"].as_str().unwrap(), tokens["refresh_token"].as_str().unwrap());

    let host = Host::new();
    let archive = backup(&product, &host, "copy").await;
    product.stop().await.unwrap();
    // Nothing of it can be read without the key.
    let bytes = std::fs::read(&archive).unwrap();
    for hidden in ["ana@corp.example", "test_simple_text", "SQLite format", "oauth_grant"] {
        assert!(!bytes.windows(hidden.len()).any(|window| window == hidden.as_bytes()), "{hidden} is readable");
    }
    assert!(!bytes.windows(MASTER.len()).any(|window| window == MASTER), "the master key is in it");

    let restored = host.restore(&archive).await;
    assert_eq!((&restored["restored"], &restored["record_whole"]), (&json!(true), &json!(true)));
    let verified = host.run(&["audit", "verify"]).await;
    assert_eq!(said(&verified)["whole"], true);
    let elsewhere = host.serve(config, &base).await;
    assert_ne!(elsewhere.port(), product.port());
    for token in [access, product.token("agent")] {
        let (status, text) = call(&elsewhere, &base, token).await;
        assert!(status == 200 && text.contains("This is a simple text"), "{status}: {text}");
    }
    let (status, _) = call(&elsewhere, &base, "bzt_nobody").await;
    assert_eq!(status, 401);
    // The grant goes on: its refresh token is taken here.
    let client = report.0["signedIn"]["client"]["client_id"].as_str().unwrap();
    let form = [("content-type", "application/x-www-form-urlencoded"), ("host", base.strip_prefix("http://").unwrap())];
    let body = format!("grant_type=refresh_token&refresh_token={refresh}&client_id={client}");
    let url = format!("{}/token", elsewhere.base().replace(&base, &format!("http://127.0.0.1:{}", elsewhere.port())));
    let reply = Http::new().send(Method::POST, &url, &form, body).await.unwrap();
    assert_eq!(reply.status, 200);
    let renewed = reply.json().await.unwrap()["access_token"].as_str().unwrap().to_owned();
    assert_eq!(call(&elsewhere, &base, &renewed).await.0, 200);
    // What was done before is on record here, and so is the restore.
    let record = elsewhere.audit().unwrap();
    for wanted in ["admin/backup", "admin/restore", "test_simple_text"] {
        assert!(record.iter().any(|event| event.to_string().contains(wanted)), "{wanted} is not on record");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o6_a_copy_during_load_is_of_one_moment() {
    let test = "o6_a_copy_during_load_is_of_one_moment";
    if !tools::ready(test, &[Part::Product]) {
        return;
    }
    let fixture = Fixture::start(Options::of(Era::Modern)).await.unwrap();
    let product = Arc::new(Product::serve(config(&fixture)).await.unwrap());
    let (answered, going) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(true)));
    let mut load = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (product, answered, going) = (Arc::clone(&product), Arc::clone(&answered), Arc::clone(&going));
        load.spawn(async move {
            let client = ModernClient::new(&product.url(), Identity::bearer(product.token("agent")));
            while going.load(Ordering::SeqCst) {
                let done = client.call("fx_test_simple_text", json!({})).await.unwrap();
                assert!(!done.is_error());
                answered.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
    // Rows change as well while they are copied.
    let (writing, still) = (Arc::clone(&product), Arc::clone(&going));
    load.spawn(async move {
        let mut made = 0;
        while still.load(Ordering::SeqCst) {
            let name = format!("made{made}");
            let output = writing.command(&["token", "create", &name, "--json"]).await.unwrap();
            assert_eq!(output.code, Some(0), "{output:?}");
            made += 1;
        }
    });
    for round in 0..3 {
        let before = answered.load(Ordering::SeqCst);
        bartizan_testkit::wait::until("calls are answered", Duration::from_secs(60), async || {
            answered.load(Ordering::SeqCst) > before + 20
        })
        .await
        .unwrap();
        let (host, known) = (Host::new(), answered.load(Ordering::SeqCst));
        let archive = backup(&product, &host, &format!("copy{round}")).await;
        host.restore(&archive).await;
        // Against the positions of the index as well: the record is no older than the rows.
        assert_eq!(said(&host.run(&["audit", "verify"]).await)["whole"], true, "round {round}");
        let files = std::fs::read_dir(host.path("data/audit")).unwrap().flatten();
        let logs = files.flat_map(|writer| std::fs::read_dir(writer.path()).unwrap().flatten());
        let logs = logs.filter(|file| file.path().extension().is_some_and(|ending| ending == "log"));
        let text: String = logs.map(|file| std::fs::read_to_string(file.path()).unwrap()).collect();
        let calls = text.lines().filter(|line| line.contains("test_simple_text")).count();
        assert!(calls >= known, "round {round}: {known} calls were answered before, {calls} are in the copy");
        // Every token that is listed was put on record, and the rows are usable.
        let listed = said(&host.run(&["token", "list"]).await);
        assert!(!listed["tokens"].as_array().unwrap().is_empty());
    }
    going.store(false, Ordering::SeqCst);
    while let Some(done) = load.join_next().await {
        done.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn o6_postgres_is_copied_and_comes_back_on_either_engine() {
    let test = "o6_postgres_is_copied_and_comes_back_on_either_engine";
    if !tools::ready(test, &[Part::Product, Part::Postgres]) {
        return;
    }
    let postgres = Postgres::start().await.unwrap();
    let (first, second) = (postgres.database("first").await.unwrap(), postgres.database("second").await.unwrap());
    let fixture = Fixture::start(Options::of(Era::Modern)).await.unwrap();
    let data = TempDir::new().unwrap();
    let store = json!({"data_dir": data.path().join("data"), "url": first});
    let mut product = Product::serve(config(&fixture).set("store", store)).await.unwrap();
    let base = product.base();
    assert_eq!(call(&product, &base, product.token("agent")).await.0, 200);
    let hosts = [Host::on(&second), Host::new()];
    let archive = backup(&product, &hosts[0], "copy").await;
    product.stop().await.unwrap();
    for host in &hosts {
        host.restore(&archive).await;
        assert_eq!(said(&host.run(&["audit", "verify"]).await)["whole"], true);
        let mut elsewhere = host.serve(config(&fixture), &base).await;
        let (status, text) = call(&elsewhere, &base, product.token("agent")).await;
        assert_eq!(status, 200, "{text}");
        elsewhere.stop().await.unwrap();
    }
    // A database that is in use already is not filled up, unless told.
    let again = hosts[0].run(&["restore", archive.to_str().unwrap()]).await;
    assert_eq!(refused(&again), (Some(1), "not_empty".to_owned()));
    let elsewhere = Host::on(&second);
    let again = elsewhere.run(&["restore", archive.to_str().unwrap()]).await;
    assert_eq!(refused(&again), (Some(1), "not_empty".to_owned()), "the rows of another folder's database");
    said(&elsewhere.run(&["restore", archive.to_str().unwrap(), "--replace"]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn o6_the_command_refuses_clearly_and_changes_nothing() {
    let test = "o6_the_command_refuses_clearly_and_changes_nothing";
    if !tools::ready(test, &[Part::Product]) {
        return;
    }
    let fixture = Fixture::start(Options::of(Era::Modern)).await.unwrap();
    let mut product = Product::serve(config(&fixture)).await.unwrap();
    let host = Host::new();
    let archive = backup(&product, &host, "copy").await;
    let text = archive.to_str().unwrap();

    // Writing: another file is never overwritten, and a key must be named that there is.
    let key = host.path("nightly");
    let key = key.to_str().unwrap();
    let over = product.command(&["backup", text, "--key-file", key, "--json"]).await.unwrap();
    assert_eq!(refused(&over), (Some(1), "backup_exists".to_owned()));
    let new = host.path("new");
    let new = new.to_str().unwrap();
    let unknown = product.command(&["backup", new, "--key", "weekly", "--json"]).await.unwrap();
    assert_eq!(refused(&unknown), (Some(1), "unknown_backup_key".to_owned()));
    assert_eq!(product.command(&["backup", new]).await.unwrap().code, Some(2), "a key is needed");
    assert!(!Path::new(new).exists());

    // A key of a file has no name under which the other side could find it.
    said(&product.command(&["backup", new, "--key-file", key, "--json"]).await.unwrap());
    let unnamed = std::fs::read(new).unwrap();

    // Reading: damaged, cut off, of another key, no backup at all.
    let bytes = std::fs::read(&archive).unwrap();
    let mut flipped = bytes.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let other = host.path("other");
    let other = other.to_str().unwrap();
    let nightly = ["--key-file", key];
    let wrong = ["--key-file", other];
    let cases: [(&[u8], &[&str], &str); 5] = [
        (&bytes[..bytes.len() - 9], &nightly, "backup_truncated"),
        (&flipped, &nightly, "backup_damaged"),
        (&bytes, &wrong, "backup_key"),
        (b"SQLite format 3\0 and so on", &nightly, "not_a_backup"),
        (&unnamed, &[], "backup_key"),
    ];
    let bad = host.path("bad");
    for (content, more, code) in cases {
        std::fs::write(&bad, content).unwrap();
        let args = [&["restore", bad.to_str().unwrap()], more].concat();
        assert_eq!(refused(&host.run(&args).await), (Some(1), code.to_owned()), "{more:?}");
        assert!(!host.path("data/bartizan.sqlite").exists() && !host.path("data/audit").exists(), "{code}");
        let mut page = Command::new(tools::product());
        let page = process::run_command(page.args(["explain-code", code]), Duration::from_secs(30)).await.unwrap();
        assert_eq!(page.code, Some(0), "{code} has no page");
    }
    // Only looked at: nothing is there afterwards either.
    let looked = said(&host.run(&["restore", text, "--check", "--key-file", key]).await);
    assert_eq!((&looked["restored"], &looked["record_whole"]), (&json!(false), &json!(true)));
    assert!(!host.path("data/bartizan.sqlite").exists());
    // Another master key: what is sealed would not open.
    let foreign = Host::with(TempDir::new().unwrap(), host.store.clone(), b"fedcba9876543210FEDCBA9876543210");
    let answer = foreign.run(&["restore", text, "--key-file", key]).await;
    assert_eq!(refused(&answer), (Some(1), "backup_master_key".to_owned()));

    // Not over an installation, not under a process, and what was there stays.
    let running = product.command(&["restore", text, "--key-file", key, "--replace", "--json"]).await.unwrap();
    assert_eq!(refused(&running), (Some(1), "in_use".to_owned()));
    product.stop().await.unwrap();
    let over = product.command(&["restore", text, "--key-file", key, "--json"]).await.unwrap();
    assert_eq!(refused(&over), (Some(1), "not_empty".to_owned()));
    said(&product.command(&["restore", text, "--key-file", key, "--replace", "--json"]).await.unwrap());
    // Stopped in the middle of the exchange: nobody opens what is half there.
    std::fs::write(product.data().join("restore.unfinished"), "").unwrap();
    let half = product.command(&["token", "list", "--json"]).await.unwrap();
    assert_eq!(refused(&half), (Some(2), "restore_unfinished".to_owned()));
    said(&product.command(&["restore", text, "--key-file", key, "--replace", "--json"]).await.unwrap());
    said(&product.command(&["token", "list", "--json"]).await.unwrap());
}
