//! A record, a store, and destinations that write down what arrives.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use aws_lc_rs::hmac;
use bartizan_alerts::{Alerts, AlertsDeps};
use bartizan_audit::{Audit, Options};
use bartizan_config::alerts::Alerts as Config;
use bartizan_config::settings::{AuditMode, Egress as EgressSettings};
use bartizan_egress::Egress;
use bartizan_model::event::{AuditEvent, EventKind, Outcome, Who};
use bartizan_model::{Clock, EventId, ManualClock, PrincipalKind};
use bartizan_store::{Store, StoreUrl};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

pub(crate) const HOUR_MS: i64 = 3_600_000;
/// Made up.
pub(crate) const SECRET: &str = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

pub(crate) struct Bench {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) store: Store,
    pub(crate) audit: Audit,
    pub(crate) alerts: Alerts,
    dir: tempfile::TempDir,
    egress: Egress,
}

impl Bench {
    pub(crate) async fn new(config: &Config) -> Self {
        Self::with(config, &["127.0.0.1".to_owned(), "localhost".to_owned()]).await
    }

    /// No private address may be dialled.
    pub(crate) async fn strict(config: &Config) -> Self {
        Self::with(config, &[]).await
    }

    async fn with(config: &Config, allow: &[String]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(1_790_000_000_000));
        let url = StoreUrl::Sqlite(dir.path().join("db"));
        let store = Store::open(&url, Arc::clone(&clock) as Arc<dyn Clock>).await.unwrap();
        let ca = dir.path().join("ca.pem");
        std::fs::write(&ca, &identity().pem).unwrap();
        let settings =
            EgressSettings { private_allow: allow.to_vec(), ca_files: vec![ca], ..EgressSettings::default() };
        let egress = Egress::new(&settings, std::time::Duration::from_secs(5)).unwrap();
        let (rules, watch) = Alerts::rules();
        let options = Options { watch: Some(watch), ..Options::default() };
        let folder = dir.path().join("audit");
        let timed = Arc::clone(&clock) as Arc<dyn Clock>;
        let audit = Audit::open_with(&folder, AuditMode::Strict, Some(store.clone()), timed, &options).unwrap();
        let alerts = Alerts::new(deps(&store, &egress, &clock, "one"), rules);
        assert_eq!(alerts.configure(config), []);
        Self { clock, store, audit, alerts, dir, egress }
    }

    /// Another process over the same store.
    pub(crate) fn another(&self, config: &Config) -> Alerts {
        let (rules, _) = Alerts::rules();
        let alerts = Alerts::new(deps(&self.store, &self.egress, &self.clock, "two"), rules);
        assert_eq!(alerts.configure(config), []);
        alerts
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.dir.path().join("audit")
    }

    pub(crate) async fn event(&self, method: &str, who: &str, client: &str) {
        self.noted(method, who, client, None, false).await;
    }

    pub(crate) async fn noted(&self, method: &str, who: &str, client: &str, note: Option<&str>, allow: bool) {
        self.put(EventKind::Auth, method, who, Some(client), note, allow).await;
    }

    pub(crate) async fn call(&self, who: &str, allow: bool) {
        self.put(EventKind::Call, "tools/call", who, None, None, allow).await;
    }

    async fn put(
        &self,
        kind: EventKind,
        method: &str,
        who: &str,
        client: Option<&str>,
        note: Option<&str>,
        allow: bool,
    ) {
        let now = self.clock.now_ms();
        let who = Who { principal: who.to_owned(), client: client.map(str::to_owned), ..Who::default() };
        let mut event = AuditEvent::new(EventId::new(now), now, kind, PrincipalKind::User, who, method);
        event.note = note.map(str::to_owned);
        event.verdict.allow = allow;
        event.outcome = if allow { Outcome::Ok } else { Outcome::Refused };
        self.audit.append(event).await.unwrap();
    }

    pub(crate) async fn round(&self) {
        self.audit.flush().await.unwrap();
        self.alerts.round().await.unwrap();
    }
}

fn deps(store: &Store, egress: &Egress, clock: &Arc<ManualClock>, node: &str) -> AlertsDeps {
    AlertsDeps {
        store: store.clone(),
        egress: egress.clone(),
        clock: Arc::clone(clock) as Arc<dyn Clock>,
        node: node.to_owned(),
        installation: "https://mcp.corp.example".to_owned(),
    }
}

/// The signature of Standard Webhooks, made here once more.
pub(crate) fn sign(secret: &str, id: &str, at: &str, body: &str) -> String {
    let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    format!("v1,{}", STANDARD.encode(hmac::sign(&key, format!("{id}.{at}.{body}").as_bytes())))
}

pub(crate) fn header<'a>(head: &'a str, name: &str) -> &'a str {
    let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}:")));
    line.unwrap_or_else(|| panic!("no {name} in {head}")).split_once(':').unwrap().1.trim()
}

/// A certificate for `localhost`; one for all tests.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) pem: String,
    config: Arc<rustls::ServerConfig>,
}

pub(crate) fn identity() -> Identity {
    static ONE: std::sync::OnceLock<Identity> = std::sync::OnceLock::new();
    let make = || {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        Identity { pem: made.cert.pem(), config: Arc::new(config) }
    };
    ONE.get_or_init(make).clone()
}

#[derive(Default)]
struct Seen {
    heads: Vec<String>,
    texts: Vec<String>,
    clear: String,
    sealed: String,
}

/// A destination.
pub(crate) struct Sink {
    pub(crate) url: String,
    seen: Arc<Mutex<Seen>>,
}

impl Sink {
    /// Takes webhooks; the first answers have these statuses.
    pub(crate) async fn http(statuses: &[u16]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let (shared, statuses) = (Arc::clone(&seen), Arc::new(Mutex::new(statuses.to_vec())));
        tokio::spawn(async move {
            loop {
                let Ok((tcp, _)) = listener.accept().await else { return };
                let (seen, statuses) = (Arc::clone(&shared), Arc::clone(&statuses));
                tokio::spawn(async move {
                    let mut tcp = BufReader::new(tcp);
                    loop {
                        let mut head = String::new();
                        while !head.ends_with("\r\n\r\n") {
                            if tcp.read_line(&mut head).await.unwrap_or(0) == 0 {
                                return;
                            }
                        }
                        let mut body = vec![0; header(&head, "content-length").parse().unwrap()];
                        tcp.read_exact(&mut body).await.unwrap();
                        let status = {
                            let mut left = statuses.lock().unwrap();
                            if left.is_empty() { 204 } else { left.remove(0) }
                        };
                        {
                            let mut seen = seen.lock().unwrap();
                            seen.heads.push(head);
                            seen.texts.push(String::from_utf8(body).unwrap());
                        }
                        let answer = format!(
                            "HTTP/1.1 {status} x\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
                        );
                        tcp.write_all(answer.as_bytes()).await.unwrap();
                    }
                });
            }
        });
        Self { url, seen }
    }

    /// Takes connections and says nothing.
    pub(crate) async fn silent() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((tcp, _)) = listener.accept().await {
                held.push(tcp);
            }
        });
        Self { url, seen: Arc::default() }
    }

    /// A collector.
    pub(crate) async fn syslog() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("tcp://{}", listener.local_addr().unwrap());
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let shared = Arc::clone(&seen);
        tokio::spawn(async move {
            loop {
                let Ok((mut tcp, _)) = listener.accept().await else { return };
                let mut text = String::new();
                tcp.read_to_string(&mut text).await.unwrap();
                shared.lock().unwrap().texts.push(text);
            }
        });
        Self { url, seen }
    }

    /// A relay; with an identity it offers STARTTLS.
    pub(crate) async fn smtp(tls: Option<Identity>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let url = match tls {
            Some(_) => format!("smtp+starttls://localhost:{port}"),
            None => format!("smtp://127.0.0.1:{port}"),
        };
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let shared = Arc::clone(&seen);
        tokio::spawn(async move {
            loop {
                let Ok((mut tcp, _)) = listener.accept().await else { return };
                tcp.write_all(b"220 relay\r\n").await.unwrap();
                let (text, upgrade) = talk(&mut tcp, tls.is_some()).await;
                {
                    let mut seen = shared.lock().unwrap();
                    seen.clear.push_str(&text);
                    seen.texts.push(text);
                }
                if let (true, Some(identity)) = (upgrade, &tls) {
                    let mut stream =
                        tokio_rustls::TlsAcceptor::from(Arc::clone(&identity.config)).accept(tcp).await.unwrap();
                    let (text, _) = talk(&mut stream, false).await;
                    shared.lock().unwrap().sealed.push_str(&text);
                }
            }
        });
        Self { url, seen }
    }

    pub(crate) fn bodies(&self) -> Vec<Value> {
        self.texts().iter().map(|text| serde_json::from_str(text).unwrap()).collect()
    }

    pub(crate) fn kinds(&self) -> Vec<String> {
        self.bodies().iter().map(|body| body["type"].as_str().unwrap().to_owned()).collect()
    }

    pub(crate) fn texts(&self) -> Vec<String> {
        self.seen.lock().unwrap().texts.clone()
    }

    pub(crate) fn heads(&self) -> Vec<String> {
        self.seen.lock().unwrap().heads.clone()
    }

    pub(crate) fn clear_and_sealed(&self) -> (String, String) {
        let seen = self.seen.lock().unwrap();
        (seen.clear.clone(), seen.sealed.clone())
    }
}

/// One dialogue; true when the client begins TLS.
async fn talk(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), offers_tls: bool) -> (String, bool) {
    let mut all = String::new();
    let mut data = false;
    loop {
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            match stream.read_u8().await {
                Ok(byte) => line.push(byte),
                Err(_) => return (all, false),
            }
        }
        let line = String::from_utf8(line).unwrap();
        all.push_str(&line);
        let answer = match line.trim_end() {
            "." => {
                data = false;
                "250 taken\r\n"
            }
            _ if data => continue,
            "STARTTLS" if offers_tls => {
                stream.write_all(b"220 go\r\n").await.unwrap();
                return (all, true);
            }
            "STARTTLS" => "502 no\r\n",
            "DATA" => {
                data = true;
                "354 go on\r\n"
            }
            "QUIT" => "221 bye\r\n",
            text if text.starts_with("EHLO") && offers_tls => "250-relay\r\n250 STARTTLS\r\n",
            text if text.starts_with("EHLO") => "250-relay\r\n250 AUTH PLAIN LOGIN\r\n",
            text if text.starts_with("AUTH") => "235 ok\r\n",
            _ => "250 ok\r\n",
        };
        if stream.write_all(answer.as_bytes()).await.is_err() || line.starts_with("QUIT") {
            return (all, false);
        }
    }
}
