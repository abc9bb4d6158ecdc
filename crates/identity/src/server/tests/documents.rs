//! A8: clients known by their document, fetched over TLS from a server that may be anybody's.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use bartizan_egress::{EgressError, Resolve, Resolving};
use bartizan_oauth::client_document::DocumentUrl;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::super::document::{Documents, FetchError};
use super::*;

/// Hosts of this test, and where their names lead.
const HOSTS: [(&str, &str); 5] = [
    ("client.example", "127.0.0.1"),
    ("loopback.example", "127.0.0.1"),
    ("private.example", "10.1.2.3"),
    ("metadata.example", "169.254.169.254"),
    ("mapped.example", "::ffff:127.0.0.1"),
];

struct Names;

impl Resolve for Names {
    fn resolve<'a>(&'a self, name: &'a str) -> Resolving<'a> {
        Box::pin(async move {
            let found = HOSTS.iter().find(|(host, _)| *host == name);
            let missing = || EgressError::Dns { host: name.to_owned(), why: "no such name".to_owned() };
            Ok(vec![found.ok_or_else(missing)?.1.parse().unwrap()])
        })
    }
}

/// A web server whose answers are texts, by path. An empty one never comes.
pub(super) struct Site {
    port: u16,
    pages: Arc<Mutex<HashMap<String, String>>>,
    pub(super) requests: Arc<AtomicUsize>,
    pub(super) egress: Egress,
    folder: TempDir,
}

impl Site {
    pub(super) async fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let (ca_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&ca_key).unwrap();
        let names: Vec<String> = HOSTS.iter().map(|(host, _)| (*host).to_owned()).collect();
        let leaf = CertificateParams::new(names).unwrap().signed_by(&key, &Issuer::new(params, ca_key)).unwrap();
        std::fs::write(folder.path().join("ca.pem"), ca.pem()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let settings = settings::Egress {
            private_allow: vec!["client.example".to_owned()],
            ca_files: vec![folder.path().join("ca.pem")],
            ..Default::default()
        };
        let egress = Egress::with_resolver(&settings, Duration::from_secs(2), Arc::new(Names)).unwrap();
        let pages: Arc<Mutex<HashMap<String, String>>> = Arc::default();
        let requests = Arc::new(AtomicUsize::new(0));
        let (served, count) = (Arc::clone(&pages), Arc::clone(&requests));
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, served, count) = (acceptor.clone(), Arc::clone(&served), Arc::clone(&count));
                tokio::spawn(async move {
                    let Ok(mut tls) = acceptor.accept(tcp).await else { return };
                    let mut head = vec![0; 8192];
                    let length = tls.read(&mut head).await.unwrap_or(0);
                    let head = String::from_utf8_lossy(&head[..length]).into_owned();
                    count.fetch_add(1, Ordering::SeqCst);
                    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                    let page = served.lock().unwrap().get(&path).cloned();
                    let missing = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned();
                    let page = page.unwrap_or(missing);
                    if page.is_empty() {
                        std::future::pending::<()>().await;
                    }
                    let _ = tls.write_all(page.as_bytes()).await;
                    let _ = tls.shutdown().await;
                });
            }
        });
        Self { port, pages, requests, egress, folder }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("https://client.example:{}{path}", self.port)
    }

    pub(super) fn page(&self, path: &str, headers: &str, body: &str) {
        let length = body.len();
        let text = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}");
        self.pages.lock().unwrap().insert(path.to_owned(), text);
    }

    fn raw(&self, path: &str, text: &str) {
        self.pages.lock().unwrap().insert(path.to_owned(), text.to_owned());
    }

    /// A good document at a path; returns its URL.
    pub(super) fn document(&self, path: &str, more: &str) -> String {
        let url = self.url(path);
        let body = format!(
            r#"{{"client_id":"{url}","client_name":"Desk","redirect_uris":["{CALLBACK}","https://desk.example/cb"]{more}}}"#
        );
        self.page(path, "content-type: application/json\r\n", &body);
        url
    }

    pub(super) fn count(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

async fn start() -> (Site, Bench) {
    let site = Site::start().await;
    let bench = bench_with(SignIn::default(), site.egress.clone()).await;
    (site, bench)
}

#[tokio::test]
async fn a8_a_good_document_logs_in_without_registration() {
    let (site, bench) = start().await;
    let client = site.document("/c.json", "");
    let Step::SignIn { transaction } = bench.server.authorize(&request(&client), None).await else { panic!() };
    assert_eq!(site.count(), 0, "strangers make no requests");
    let Step::Consent(view) = bench.server.resume(&transaction, &bench.session).await else { panic!() };
    assert_eq!((view.client_name.as_str(), view.client_host.as_deref()), ("Desk", Some("client.example")));
    assert_eq!((view.redirect_host.as_str(), view.kind), ("127.0.0.1", ClientKind::Document));
    let Step::Redirect(to) = bench.server.decide(&view.transaction, &bench.session, true).await else { panic!() };
    let code = parameters(&to).get("code").unwrap().to_owned();
    let answer = bench.redeem(&client, &code).await;
    assert_eq!(answer.status, 200, "{}", answer.json);
    assert!(bench.who(&answer.text("access_token")).await.is_some());
    assert_eq!(bench.refresh(&client, &answer.text("refresh_token")).await.status, 200);
    assert_eq!(site.count(), 1, "fetched once");
    assert_eq!((bench.saw(Action::Register, true), bench.saw(Action::Register, false)), (0, 0));
    let metadata: Value = serde_json::from_slice(&bench.server.metadata()).unwrap();
    assert_eq!(metadata["client_id_metadata_document_supported"], true);
}

#[tokio::test]
async fn a8_documents_that_are_refused() {
    let (site, bench) = start().await;
    let json = "content-type: application/json\r\n";
    let good = |path: &str| {
        let url = site.url(path);
        format!(r#"{{"client_id":"{url}","client_name":"Desk","redirect_uris":["{CALLBACK}"]}}"#)
    };
    site.page("/big", json, &format!("{}{}", good("/big"), " ".repeat(6000)));
    let chunk = format!("1800\r\n{}\r\n", "a".repeat(0x1800));
    site.raw(
        "/chunked",
        &format!("HTTP/1.1 200 OK\r\n{json}transfer-encoding: chunked\r\n\r\n{}0\r\n\r\n", chunk.repeat(4)),
    );
    site.page("/mismatch", json, &good("/other"));
    site.page("/html", "content-type: text/html\r\n", &good("/html"));
    site.page("/untyped", "", &good("/untyped"));
    site.page("/garbage", json, "{");
    site.document("/secret", r#","client_secret":"x""#);
    site.document("/secret_method", r#","token_endpoint_auth_method":"client_secret_basic""#);
    site.document("/no_keys", r#","token_endpoint_auth_method":"private_key_jwt""#);
    site.document("/target", "");
    let to = site.url("/target");
    for (path, status) in [("/301", 301), ("/302", 302), ("/307", 307), ("/308", 308)] {
        site.raw(path, &format!("HTTP/1.1 {status} Moved\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n"));
    }
    site.raw(
        "/201",
        &format!("HTTP/1.1 201 Created\r\n{json}content-length: {}\r\n\r\n{}", good("/201").len(), good("/201")),
    );
    site.raw("/broken", "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort");
    for path in [
        "/big",
        "/chunked",
        "/mismatch",
        "/html",
        "/untyped",
        "/garbage",
        "/secret",
        "/secret_method",
        "/no_keys",
        "/301",
        "/302",
        "/307",
        "/308",
        "/201",
        "/broken",
        "/404",
    ] {
        for _ in 0..2 {
            let before = site.count();
            match bench.server.authorize(&request(&site.url(path)), Some(&bench.session)).await {
                Step::Problem(problem) => {
                    assert_eq!(problem.code, "client_document_unavailable", "{path}: {problem:?}")
                }
                other => panic!("{path}: {other:?}"),
            }
            assert_eq!(site.count(), before + 1, "{path}: asked once, redirects not followed, errors not remembered");
        }
    }
}

#[tokio::test]
async fn a8_no_document_from_this_network() {
    let (site, bench) = start().await;
    let mut texts = std::collections::HashSet::new();
    for host in [
        "nobody.example",
        "client.example",
        "loopback.example",
        "private.example",
        "metadata.example",
        "mapped.example",
        "127.0.0.1",
        "10.0.0.1",
        "[::1]",
        "169.254.169.254",
    ] {
        let client = format!("https://{host}:{}/c.json", site.port);
        match bench.server.authorize(&request(&client), Some(&bench.session)).await {
            Step::Problem(problem) => drop(texts.insert((problem.code, problem.title, problem.text, problem.hint))),
            other => panic!("{host}: {other:?}"),
        }
    }
    assert_eq!(site.requests.swap(0, Ordering::SeqCst), 1, "the one host that is allowed has no such page");
    assert_eq!(texts.len(), 1, "the page tells nothing about the network: {texts:?}");
    assert_eq!(site.count(), 0);
}

/// Without the address rule the request would have arrived.
#[tokio::test]
async fn a8_the_address_rule_is_what_stops_it() {
    let site = Site::start().await;
    let settings = settings::Egress {
        private_allow: vec!["loopback.example".to_owned()],
        ca_files: vec![site.folder.path().join("ca.pem")],
        ..Default::default()
    };
    let open = Egress::with_resolver(&settings, Duration::from_secs(2), Arc::new(Names)).unwrap();
    let bench = bench_with(SignIn::default(), open).await;
    let client = format!("https://loopback.example:{}/c.json", site.port);
    assert!(matches!(bench.server.authorize(&request(&client), Some(&bench.session)).await, Step::Problem(_)));
    assert_eq!(site.count(), 1);
}

#[tokio::test]
async fn a8_a_slow_document_is_not_waited_for() {
    let site = Site::start().await;
    site.raw("/slow", "");
    let documents = Documents::new(site.egress.clone(), Duration::from_millis(300));
    let url = DocumentUrl::parse(&site.url("/slow")).unwrap();
    assert!(matches!(documents.get(&url, NOW).await, Err(FetchError::Timeout)));
    assert_eq!(super::super::document::TIMEOUT, Duration::from_secs(10));
}

#[tokio::test]
async fn a8_a_document_is_remembered_and_renewed() {
    let (site, bench) = start().await;
    let client = site.document("/c.json", "");
    let ask =
        async || matches!(bench.server.authorize(&request(&client), Some(&bench.session)).await, Step::Consent(_));
    assert!(ask().await && ask().await);
    assert_eq!(site.count(), 1);
    bench.clock.advance_ms(3_599_999);
    assert!(ask().await && site.count() == 1);
    bench.clock.advance_ms(1);
    assert!(ask().await && site.count() == 2);
    // A document that has become bad is bad when its time is over.
    site.page("/c.json", "", "gone");
    bench.clock.advance_ms(3_600_000);
    assert!(!ask().await);
}

#[tokio::test]
async fn a8_a_public_document_on_loopback_is_asked_about_each_time() {
    let (site, bench) = start().await;
    let mixed = site.document("/mixed.json", "");
    let only = site.url("/only.json");
    let body = format!(r#"{{"client_id":"{only}","client_name":"Desk","redirect_uris":["{CALLBACK}"]}}"#);
    site.page("/only.json", "content-type: application/json\r\n", &body);
    let local = site.url("/local.json");
    let body =
        format!(r#"{{"client_id":"{local}","client_name":"Desk","redirect_uris":["https://localhost:4711/cb"]}}"#);
    site.page("/local.json", "content-type: application/json\r\n", &body);
    let web = "https://desk.example/cb";
    // It is the requested redirect that counts: another one in the document proves nothing.
    for (client, redirect, on_device) in [
        (mixed.as_str(), CALLBACK, true),
        (&mixed, web, false),
        (&only, CALLBACK, true),
        (&local, "https://localhost:4711/cb", true),
        (PUBLIC_CLIENT, CALLBACK, true),
        (PUBLIC_CLIENT, web, false),
    ] {
        let query = request_with(client, "redirect_uri", Some(redirect));
        let Step::Consent(view) = bench.server.authorize(&query, Some(&bench.session)).await else { panic!() };
        assert_eq!(view.loopback_only, on_device, "{client} {redirect}");
        bench.code_by(&query, &bench.session).await;
        let again = bench.server.authorize(&query, Some(&bench.session)).await;
        assert_eq!(matches!(again, Step::Consent(_)), on_device, "{client} {redirect}");
    }
}

#[tokio::test]
async fn a8_keys_come_from_accepted_domains_only() {
    let site = Site::start().await;
    let mut settings = SignIn::default();
    settings.client_metadata.allowed_domains = vec!["client.example".to_owned()];
    let bench = bench_with(settings, site.egress.clone()).await;
    for (path, uri, good) in [
        ("/a.json", "https://client.example/keys".to_owned(), true),
        ("/b.json", "https://loopback.example/keys".to_owned(), false),
    ] {
        let more = format!(r#","token_endpoint_auth_method":"private_key_jwt","jwks_uri":"{uri}""#);
        let client = site.document(path, &more);
        let step = bench.server.authorize(&request(&client), Some(&bench.session)).await;
        assert_eq!(matches!(step, Step::Consent(_)), good, "{uri}: {step:?}");
    }
}

#[tokio::test]
async fn a8_redirects_of_documents() {
    let (site, bench) = start().await;
    let client = site.document("/c.json", "");
    for (redirect, good) in [
        ("https://desk.example/cb", true),
        ("http://127.0.0.1:1/cb", true),
        ("https://desk.example/cb2", false),
        ("https://client.example/cb", false),
    ] {
        let step =
            bench.server.authorize(&request_with(&client, "redirect_uri", Some(redirect)), Some(&bench.session)).await;
        assert_eq!(matches!(step, Step::Consent(_)), good, "{redirect}");
    }
}

#[tokio::test]
async fn a8_documents_can_be_limited_to_domains_and_switched_off() {
    let site = Site::start().await;
    let client = site.document("/c.json", "");
    for (enabled, domains, good) in [
        (true, vec!["client.example"], true),
        (true, vec!["*.example"], true),
        (true, vec!["other.example", "*.client.example"], false),
        (false, vec![], false),
    ] {
        let mut settings = SignIn::default();
        settings.client_metadata.enabled = enabled;
        settings.client_metadata.allowed_domains = domains.iter().map(|domain| (*domain).to_owned()).collect();
        let bench = bench_with(settings, site.egress.clone()).await;
        let before = site.count();
        let signed_in = bench.server.authorize(&request(&client), Some(&bench.session)).await;
        let stranger = bench.server.authorize(&request(&client), None).await;
        if good {
            assert!(matches!(signed_in, Step::Consent(_)) && matches!(stranger, Step::SignIn { .. }));
        } else {
            assert!(matches!(signed_in, Step::Problem(_)) && matches!(stranger, Step::Problem(_)));
            assert_eq!(site.count(), before, "nothing is fetched");
        }
    }
}

#[tokio::test]
async fn a8_the_token_endpoint_fetches_for_nobody_without_a_code() {
    let (site, bench) = start().await;
    let client = site.document("/c.json", "");
    bench.redeem(&client, "bzk_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA").await.is_refused(400, "invalid_grant");
    bench.refresh(&client, "bzr_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA").await.is_refused(400, "invalid_grant");
    assert_eq!(site.count(), 0);
}

#[tokio::test]
async fn a8_the_memory_of_documents_is_bounded() {
    let site = Site::start().await;
    let documents = Documents::new(site.egress.clone(), Duration::from_secs(5));
    assert!(documents.capacity() <= 1_000);
}
