//! Servers behind the helpers of `helpers/` (row P59): what came through the gateway gets in, nothing else does;
//! and a server that answers everybody is flagged.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use bartizan_testkit::client::{Identity, ModernClient};
use bartizan_testkit::http::Http;
use bartizan_testkit::product::{Config, Product, all_services};
use bartizan_testkit::tools::{self, Part};
use bartizan_testkit::wait::until;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use http::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

const TAG: &str = "tag-of-this-origin";

/// An origin program, guarded; ended with the value.
struct Origin {
    url: String,
    _child: Child,
}

impl Origin {
    async fn start(kind: &str, issuer: &str, jwks: &str, more: &[&str]) -> Self {
        let python = tools::venv("mcp", "python");
        let (program, script): (PathBuf, String) = match kind {
            "asgi" | "wsgi" => (python, format!("origins/{kind}.py")),
            _ => (tools::node(), format!("origins/{kind}.mjs")),
        };
        let mut child = Command::new(program)
            .arg(tools::script(&script))
            .args([issuer, TAG, jwks])
            .args(more)
            .env("BARTIZAN_TOOLS_DIR", tools::folder())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("NODE_NO_WARNINGS", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = tokio::time::timeout(Duration::from_secs(60), lines.next_line()).await.unwrap().unwrap();
        let port: u16 = line.unwrap_or_else(|| panic!("{kind} ended")).trim().parse().unwrap();
        let origin = Self { url: format!("http://127.0.0.1:{port}/mcp"), _child: child };
        // Some tell their port before they listen.
        until("the origin answers", Duration::from_secs(60), async || Http::new().get(&origin.url).await.is_ok())
            .await
            .unwrap();
        origin
    }

    /// A request straight to it; status and body.
    async fn ask(&self, assertion: Option<&str>) -> (u16, String) {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
            "params": {"name": "whoami", "arguments": {}}});
        let mut headers = vec![("content-type", "application/json"), ("accept", "application/json")];
        headers.extend(assertion.map(|text| ("cf-access-jwt-assertion", text)));
        let reply = Http::new().send(Method::POST, &self.url, &headers, body.to_string()).await.unwrap();
        (reply.status, reply.text().await.unwrap())
    }
}

/// A gateway in the hands of the test: whatever it signs is signed right.
struct Forger {
    key: EcdsaKeyPair,
    url: String,
}

impl Forger {
    async fn start() -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let body = json!({"keys": [jwk(&key)]}).to_string();
        tokio::spawn(async move {
            while let Ok((mut tcp, _)) = listener.accept().await {
                let mut head = [0u8; 4096];
                let _ = tcp.read(&mut head).await;
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                    body.len()
                );
                let _ = tcp.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await;
            }
        });
        Self { key, url }
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let message = encoded(header, claims);
        let signature = self.key.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", B64.encode(signature.as_ref()))
    }

    fn claims(&self) -> Value {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let now = now();
        let id = format!("id-{}", NEXT.fetch_add(1, Ordering::SeqCst));
        json!({"iss": self.url, "aud": TAG, "sub": "user:ana@corp.example", "iat": now, "exp": now + 60, "jti": id})
    }
}

#[expect(clippy::disallowed_methods, reason = "the origins have the machine's clock")]
fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

fn jwk(key: &EcdsaKeyPair) -> Value {
    let point = key.public_key().as_ref();
    json!({"kid": "one", "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig",
        "x": B64.encode(&point[1..33]), "y": B64.encode(&point[33..])})
}

fn encoded(header: &Value, claims: &Value) -> String {
    format!("{}.{}", B64.encode(header.to_string()), B64.encode(claims.to_string()))
}

/// Everything that somebody who reaches the origin could try.
async fn attacked(kind: &str) {
    let (forger, foreign) = (Forger::start().await, Forger::start().await);
    let origin = Origin::start(kind, &forger.url, &format!("{}/.well-known/jwks.json", forger.url), &[]).await;
    let header = json!({"alg": "ES256", "typ": "JWT", "kid": "one"});
    let head = |name: &str, value: Value| {
        let mut all = header.clone();
        all[name] = value;
        all
    };
    let with = |name: &str, value: Value| {
        let mut all = forger.claims();
        all[name] = value;
        forger.sign(&header, &all)
    };
    let hmac_of = |secret: &[u8]| {
        let message = encoded(&head("alg", json!("HS256")), &forger.claims());
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
        format!("{message}.{}", B64.encode(tag.as_ref()))
    };
    let good = forger.sign(&header, &forger.claims());
    let (message, signature) = good.rsplit_once('.').unwrap();
    let mut carried = head("jwk", jwk(&foreign.key));
    carried["jku"] = json!(format!("{}/.well-known/jwks.json", foreign.url));
    let as_ours = {
        let mut claims = foreign.claims();
        claims["iss"] = json!(forger.url);
        claims
    };
    let forgeries = [
        ("alg none", format!("{}.", encoded(&head("alg", json!("none")), &forger.claims()))),
        ("HS256 with the point", hmac_of(forger.key.public_key().as_ref())),
        ("HS256 with the key's text", hmac_of(jwk(&forger.key).to_string().as_bytes())),
        ("a foreign key under our id", foreign.sign(&header, &as_ours)),
        ("a key id of a foreign set", foreign.sign(&head("kid", json!("two")), &as_ours)),
        ("a key it brings along", foreign.sign(&carried, &as_ours)),
        ("no key id", forger.sign(&json!({"alg": "ES256"}), &forger.claims())),
        ("another server's", with("aud", json!("payroll"))),
        ("another issuer", with("iss", json!(foreign.url))),
        ("expired", with("exp", json!(now() - 30))),
        ("good for an hour", with("exp", json!(now() + 3600))),
        ("from the future", with("nbf", json!(now() + 600))),
        ("without an id", with("jti", json!(""))),
        ("a wrong signature", format!("{message}.{}", signature.chars().rev().collect::<String>())),
        ("no token", "a.b.c".to_owned()),
        ("too long", "a".repeat(17_000)),
    ];
    for (what, forgery) in &forgeries {
        let (status, text) = origin.ask(Some(forgery)).await;
        // Servers have limits of their own for headers.
        assert!([400, 401, 431].contains(&status) && !text.contains("you are"), "{kind}, {what}: {status} {text}");
        assert!(status == 401 || *what == "too long", "{kind}, {what}: {status} {text}");
    }
    assert_eq!(origin.ask(None).await.0, 401, "{kind}: without an assertion");
    let (status, text) = origin.ask(Some(&good)).await;
    assert!(status == 200 && text.contains("you are user:ana@corp.example"), "{kind}: {status} {text}");
    assert_eq!(origin.ask(Some(&good)).await.0, 401, "{kind}: the same once more");
    let (status, _) = origin.ask(Some(&forger.sign(&header, &forger.claims()))).await;
    assert_eq!(status, 200, "{kind}: the next one");
}

#[tokio::test(flavor = "multi_thread")]
async fn p59_express_refuses_every_forgery() {
    if tools::ready("p59_express_refuses_every_forgery", &[Part::Npm]) {
        attacked("express").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p59_a_fetch_handler_refuses_every_forgery() {
    if tools::ready("p59_a_fetch_handler_refuses_every_forgery", &[Part::Npm]) {
        attacked("hono").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p59_asgi_refuses_every_forgery() {
    if tools::ready("p59_asgi_refuses_every_forgery", &[Part::Mcp]) {
        attacked("asgi").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p59_wsgi_refuses_every_forgery() {
    if tools::ready("p59_wsgi_refuses_every_forgery", &[Part::Mcp]) {
        attacked("wsgi").await;
    }
}

fn behind(origin: &Origin) -> Config {
    Config::new().server(json!({
        "server_id": "own", "hostname": origin.url, "auth_type": "assertion", "auth_config": {"audience": TAG},
        "policies": all_services(), "classes": {"read": ["whoami"]},
    }))
}

/// A product and an origin that trusts it: each needs the address of the other.
async fn company(kind: &str, more: &[&str]) -> (Product, Origin) {
    let mut product = Product::serve(Config::new()).await.unwrap();
    let jwks = format!("{}/.well-known/jwks.json", product.base());
    let origin = Origin::start(kind, &product.base(), &jwks, more).await;
    product.rewrite(behind(&origin)).unwrap();
    product.process().signal(Signal::HUP).unwrap();
    (product, origin)
}

/// Nobody gets to the origin but through the gateway.
async fn guarded(kind: &str) {
    let (product, origin) = company(kind, &[]).await;
    assert_eq!(origin.ask(None).await.0, 401, "{kind}: straight to the origin");
    let client = ModernClient::new(&product.url(), Identity::bearer(product.token("agent")));
    let listed = async || client.tools().await.is_ok_and(|names| names.contains(&"own_whoami".to_owned()));
    until("the origin's tool is listed", Duration::from_secs(60), listed).await.unwrap();
    for round in 0..3 {
        let done = client.call("own_whoami", json!({})).await.unwrap();
        assert!(done.text().starts_with("you are service:"), "{kind} {round}: {}", done.text());
    }
    // Who holds a token of the gateway has none of the origin's.
    assert_eq!(origin.ask(Some(product.token("agent"))).await.0, 401, "{kind}: a token is no assertion");
    let tested = product.command(&["upstream", "test", "own", "--json"]).await.unwrap();
    assert_eq!(tested.code, Some(0), "{tested:?}");
    let report: Value = serde_json::from_str(tested.stdout.trim()).unwrap();
    assert!(report["steps"][0]["text"].as_str().unwrap().contains("without an assertion"), "{report:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn p59_express_is_reached_through_the_gateway_only() {
    if tools::ready("p59_express_is_reached_through_the_gateway_only", &[Part::Npm, Part::Product]) {
        guarded("express").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p59_a_fetch_handler_is_reached_through_the_gateway_only() {
    if tools::ready("p59_a_fetch_handler_is_reached_through_the_gateway_only", &[Part::Npm, Part::Product]) {
        guarded("hono").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p59_asgi_is_reached_through_the_gateway_only() {
    if tools::ready("p59_asgi_is_reached_through_the_gateway_only", &[Part::Mcp, Part::Product]) {
        guarded("asgi").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p59_wsgi_is_reached_through_the_gateway_only() {
    if tools::ready("p59_wsgi_is_reached_through_the_gateway_only", &[Part::Mcp, Part::Product]) {
        guarded("wsgi").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p59_an_open_origin_is_flagged() {
    if !tools::ready("p59_an_open_origin_is_flagged", &[Part::Npm, Part::Product]) {
        return;
    }
    // The same origin without its guard: whoever reaches it is let in, past the gateway.
    let (product, origin) = company("express", &["open"]).await;
    let (status, text) = origin.ask(None).await;
    assert!(status == 200 && text.contains("you are anybody"), "{status} {text}");
    let tested = product.command(&["upstream", "test", "own", "--json"]).await.unwrap();
    assert_eq!(tested.code, Some(1), "{tested:?}");
    let report: Value = serde_json::from_str(tested.stdout.trim()).unwrap();
    assert_eq!((&report["ok"], &report["failed"]), (&json!(false), &json!("challenge")), "{report:#}");
    assert!(report["steps"][0]["text"].as_str().unwrap().contains("open origin"), "{report:#}");
}
