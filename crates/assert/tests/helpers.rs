//! Libraries that servers use accept assertions, and refuse what they should (A13).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bartizan_assert::{Assertion, KEPT_MS, NOTICE_MS, PERIOD_MS, Signer, SignerDeps, derived_audience};
use bartizan_model::{Clock, Principal, PrincipalKind, SystemClock};
use bartizan_oauth::jwt::SigningAlg;
use bartizan_store::{Store, StoreUrl};
use bartizan_testkit::tools::{self, Part};
use bartizan_vault::{KeyRing, Vault};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// The machine's clock, some time away: libraries ask the machine.
struct Shifted(std::sync::atomic::AtomicI64);

impl Clock for Shifted {
    fn now_ms(&self) -> i64 {
        SystemClock.now_ms() + self.0.load(std::sync::atomic::Ordering::SeqCst)
    }
}

struct Gateway {
    signer: Signer,
    clock: Arc<Shifted>,
    url: String,
    _dir: TempDir,
}

impl Gateway {
    /// Serves the key set of a signer at the addresses that bartizan has it at.
    async fn start(alg: SigningAlg) -> Self {
        let clock = Arc::new(Shifted(0.into()));
        let dir = TempDir::new().unwrap();
        let store = Store::open(&StoreUrl::Sqlite(dir.path().join("store.db")), clock.clone()).await.unwrap();
        let vault = Vault::new(KeyRing::ephemeral().unwrap()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let signer = Signer::new(SignerDeps { store, vault, clock: clock.clone(), public_url: url.clone(), alg });
        let served = signer.clone();
        tokio::spawn(async move {
            while let Ok((mut tcp, _)) = listener.accept().await {
                let mut head = vec![0; 4096];
                let length = tcp.read(&mut head).await.unwrap_or(0);
                let head = String::from_utf8_lossy(&head[..length]).into_owned();
                let path = head.split(' ').nth(1).unwrap_or_default();
                let known = ["/cdn-cgi/access/certs", "/.well-known/jwks.json"].contains(&path);
                let body = if known { served.jwks().await.unwrap().to_vec() } else { Vec::new() };
                let status = if known { "200 OK" } else { "404 Not Found" };
                let head = format!(
                    "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                    body.len()
                );
                let _ = tcp.write_all(&[head.as_bytes(), &body].concat()).await;
            }
        });
        Self { signer, clock, url, _dir: dir }
    }

    async fn token(&self, audience: &str) -> String {
        let ana = Principal::new(PrincipalKind::User, "ana@corp.example", ["eng".into()]);
        let about = Assertion { principal: &ana, audience, client: None, owner: None };
        self.signer.sign(&about).await.unwrap().expose().clone()
    }
}

/// A server that verifies with a library.
struct Verifier {
    _child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Verifier {
    fn start(program: PathBuf, script: &str, gateway: &Gateway, path: &str, audience: &str) -> Self {
        let mut child = Command::new(program)
            .arg(tools::script(script))
            .args([&gateway.url, &format!("{}{path}", gateway.url), audience])
            .env("BARTIZAN_TOOLS_DIR", tools::folder())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { _child: child, input, output }
    }

    async fn ask(&mut self, token: &str) -> Value {
        self.input.write_all(format!("{token}\n").as_bytes()).await.unwrap();
        let line = tokio::time::timeout(Duration::from_secs(60), self.output.next_line()).await.unwrap();
        serde_json::from_str(&line.unwrap().expect("the verifier ended")).unwrap()
    }

    async fn refuses(&mut self, token: &str, what: &str) {
        let answer = self.ask(token).await;
        assert!(answer["refused"].is_string(), "{what}: {answer}");
    }
}

async fn judged_by(program: PathBuf, script: &str, path: &str, alg: SigningAlg) {
    let gateway = Gateway::start(alg).await;
    let tag = derived_audience(&gateway.url, "github");
    let mut verifier = Verifier::start(program, script, &gateway, path, &tag);
    let first = gateway.token(&tag).await;
    let said = verifier.ask(&first).await;
    assert_eq!(said["email"], "ana@corp.example", "{said}");
    assert_eq!((&said["sub"], &said["groups"][0]), (&"user:ana@corp.example".into(), &"eng".into()));
    // Each call has an assertion of its own; the same one twice is somebody who read it.
    assert_eq!(verifier.ask(&gateway.token(&tag).await).await["email"], "ana@corp.example");
    assert_eq!(verifier.ask(&first).await["refused"], "replay");
    verifier.refuses(&gateway.token(&derived_audience(&gateway.url, "payroll")).await, "another server's").await;
    let elsewhere = Gateway::start(alg).await;
    verifier.refuses(&elsewhere.token(&tag).await, "another installation's").await;
    let (message, signature) = first.rsplit_once('.').unwrap();
    verifier.refuses(&format!("{message}.{}", signature.chars().rev().collect::<String>()), "a wrong signature").await;
    verifier.refuses(&format!("eyJhbGciOiJub25lIn0.{}.", first.split('.').nth(1).unwrap()), "none").await;

    // Six weeks later: a new key signs, and after the overlap the old one is refused. (The
    // clock of the libraries stands where it is, so that it is the key that decides.)
    let stolen = gateway.token(&tag).await;
    let forward = |ms| gateway.clock.0.fetch_add(ms, std::sync::atomic::Ordering::SeqCst);
    forward(PERIOD_MS - NOTICE_MS);
    gateway.signer.refresh().await.unwrap();
    forward(NOTICE_MS + 1000);
    assert_eq!(verifier.ask(&stolen).await["email"], "ana@corp.example", "within the overlap");
    let stolen = {
        gateway.clock.0.store(0, std::sync::atomic::Ordering::SeqCst);
        let by_old_key = gateway.token(&tag).await;
        forward(PERIOD_MS + KEPT_MS + 1000);
        by_old_key
    };
    gateway.signer.refresh().await.unwrap();
    verifier.refuses(&stolen, "an old key").await;
}

#[tokio::test]
async fn a13_jose_accepts_assertions_as_cloudflare_access_documents_it() {
    if tools::ready("a13_jose_accepts_assertions_as_cloudflare_access_documents_it", &[Part::Npm]) {
        judged_by(tools::node(), "assertions/verify.mjs", "/cdn-cgi/access/certs", SigningAlg::Es256).await;
        judged_by(tools::node(), "assertions/verify.mjs", "/.well-known/jwks.json", SigningAlg::EdDsa).await;
    }
}

#[tokio::test]
async fn a13_pyjwt_accepts_assertions() {
    if tools::ready("a13_pyjwt_accepts_assertions", &[Part::Mcp]) {
        let python = || tools::venv("mcp", "python");
        judged_by(python(), "assertions/verify.py", "/.well-known/jwks.json", SigningAlg::Es256).await;
        judged_by(python(), "assertions/verify.py", "/cdn-cgi/access/certs", SigningAlg::EdDsa).await;
    }
}
