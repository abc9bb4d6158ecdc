//! O9 and P28: what may be reached, by name, by address, by redirect, by proxy.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod common;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bartizan_config::settings;
use bartizan_egress::{Egress, EgressError, Rule, Url};
use bytes::Bytes;
use common::{Names, egress, redirect, serve, text};
use http::{HeaderMap, HeaderValue, Method};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

async fn get(egress: &Egress, url: &str) -> Result<String, EgressError> {
    let url = egress.check_url(url)?;
    let response = egress.client().send(&url, Method::GET, HeaderMap::new(), Bytes::new()).await?;
    let body = response.into_body().collect_bytes(1 << 20).await?;
    Ok(String::from_utf8(body.to_vec()).unwrap())
}

fn blocked(result: Result<String, EgressError>) -> Option<Rule> {
    match result {
        Err(EgressError::Blocked { rule, .. }) => Some(rule),
        _ => None,
    }
}

#[tokio::test]
async fn o9_thirty_spellings_of_local_addresses_reach_nothing() {
    let server = serve(|_| Box::pin(async { text(200, "secret") })).await;
    let names = Names::new(&[
        ("local.example", &[&["127.0.0.1"]]),
        ("local6.example", &[&["::1"]]),
        ("mapped.example", &[&["::ffff:127.0.0.1"]]),
        ("any.example", &[&["0.0.0.0"]]),
        ("meta.example", &[&["169.254.169.254"]]),
        ("localhost", &[&["127.0.0.1", "::1"]]),
    ]);
    let egress = egress(&[], names);
    let port = server.addr.port();
    for host in [
        "127.0.0.1",
        "127.0.0.1.",
        "127.1",
        "127.0.1",
        "127.255.255.255",
        "0",
        "0.0.0.0",
        "00.0.0.0",
        "0x7f.0.0.1",
        "0x7F000001",
        "2130706433",
        "017700000001",
        "0177.0.0.1",
        "0177.0.0.01",
        "127.0.0.01",
        "127.0.0.0x1",
        "%31%32%37.0.0.1",
        "127%2e0.0.1",
        "①②⑦.0.0.1",
        "127。0。0。1",
        "[::1]",
        "[::]",
        "[0:0:0:0:0:0:0:1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[64:ff9b::127.0.0.1]",
        "[2002:7f00:1::]",
        "[::ffff:0:127.0.0.1]",
        "[fe80::1%25lo]",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "local.example",
        "local6.example",
        "mapped.example",
        "any.example",
        "x@127.0.0.1",
        "x.example@127.0.0.1",
        "x.example\\@127.0.0.1",
        "169.254.169.254",
        "[fd00:ec2::254]",
        "meta.example",
        "[::ffff:a9fe:a9fe]",
    ] {
        let result = get(&egress, &format!("http://{host}:{port}/")).await;
        assert!(matches!(result, Err(EgressError::Url(_) | EgressError::Blocked { .. })), "{host}: {result:?}");
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn p28_listed_address_and_name_are_reached() {
    let server = serve(|_| Box::pin(async { text(200, "hello") })).await;
    let port = server.addr.port();
    let by_address = egress(&["127.0.0.1"], Names::new(&[]));
    assert_eq!(get(&by_address, &format!("http://127.0.0.1:{port}/")).await.unwrap(), "hello");
    let names = Names::new(&[("git.internal", &[&["127.0.0.1"]]), ("other.internal", &[&["127.0.0.1"]])]);
    let by_name = egress(&["git.internal"], names);
    assert_eq!(get(&by_name, &format!("http://git.internal:{port}/")).await.unwrap(), "hello");
    assert_eq!(blocked(get(&by_name, &format!("http://other.internal:{port}/")).await), Some(Rule::Loopback));
    assert_eq!(blocked(get(&by_name, &format!("http://127.0.0.1:{port}/")).await), Some(Rule::Loopback));
}

#[tokio::test]
async fn o9_a_rebinding_name_is_checked_at_every_dial() {
    let server = serve(|_| {
        Box::pin(async { http::Response::builder().header("connection", "close").body(Default::default()).unwrap() })
    })
    .await;
    let port = server.addr.port();
    // First answer allowed, second one not: the second connection must not be made.
    let names = Names::new(&[("flip.example", &[&["127.0.0.1"], &["127.0.0.2"]])]);
    let egress = egress(&["127.0.0.1"], names);
    get(&egress, &format!("http://flip.example:{port}/")).await.unwrap();
    assert_eq!(blocked(get(&egress, &format!("http://flip.example:{port}/")).await), Some(Rule::Loopback));
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn o9_one_blocked_answer_refuses_the_name() {
    let server = serve(|_| Box::pin(async { text(200, "") })).await;
    let names = Names::new(&[("mixed.example", &[&["127.0.0.1", "10.0.0.1"]]), ("empty.example", &[&[]])]);
    let egress = egress(&["127.0.0.1"], names);
    let port = server.addr.port();
    assert_eq!(blocked(get(&egress, &format!("http://mixed.example:{port}/")).await), Some(Rule::Private));
    assert!(matches!(get(&egress, "http://empty.example/").await, Err(EgressError::Dns { .. })));
    assert!(matches!(get(&egress, "http://unknown.example/").await, Err(EgressError::Dns { .. })));
    assert_eq!(server.connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn o9_redirects_are_not_followed_unasked() {
    let server = serve(|_| Box::pin(async { redirect(302, "/elsewhere") })).await;
    let egress = egress(&["127.0.0.1"], Names::new(&[]));
    let url = egress.check_url(&format!("http://{}/", server.addr)).unwrap();
    let response = egress.client().send(&url, Method::GET, HeaderMap::new(), Bytes::new()).await.unwrap();
    assert_eq!(response.status(), 302);
    assert_eq!(server.requests.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn o9_each_redirect_is_checked_again() {
    let target = serve(|_| Box::pin(async { text(200, "inside") })).await;
    for to in [
        format!("http://127.0.0.2:{}/", target.addr.port()),
        format!("http://inside.example:{}/", target.addr.port()),
        "http://169.254.169.254/latest/meta-data".to_owned(),
        "http://[::1]/".to_owned(),
        "//10.0.0.1/".to_owned(),
        "file:///etc/passwd".to_owned(),
        "http://2130706433/".to_owned(),
    ] {
        let hop = to.clone();
        let server = serve(move |_| {
            let hop = hop.clone();
            Box::pin(async move { redirect(302, &hop) })
        })
        .await;
        let egress = egress(&["127.0.0.1"], Names::new(&[("inside.example", &[&["127.0.0.3"]])]));
        let url = egress.check_url(&format!("http://{}/", server.addr)).unwrap();
        let result = egress.client().follow(&url, Method::GET, HeaderMap::new(), Bytes::new(), 5).await;
        assert!(matches!(result, Err(EgressError::Blocked { .. } | EgressError::Redirect(_))), "{to}: {result:?}");
    }
    assert_eq!(target.connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn o9_redirect_chains_end() {
    let server = serve(|seen| Box::pin(async move { redirect(307, &format!("/{}", seen.number)) })).await;
    let egress = egress(&["127.0.0.1"], Names::new(&[]));
    let url = egress.check_url(&format!("http://{}/", server.addr)).unwrap();
    let result = egress.client().follow(&url, Method::GET, HeaderMap::new(), Bytes::new(), 3).await;
    assert!(matches!(result, Err(EgressError::Redirect("too many hops"))));
    assert_eq!(server.requests.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn o9_credentials_do_not_cross_origins() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let other = serve(move |request| {
        log.lock().unwrap().push((request.parts.method.clone(), request.parts.headers.clone(), request.body.clone()));
        Box::pin(async { text(200, "done") })
    })
    .await;
    for status in [307, 303] {
        let to = format!("http://{}/", other.addr);
        let server = serve(move |seen| {
            let to = to.clone();
            // The first hop stays on the origin and must keep the credentials.
            Box::pin(async move {
                match seen.parts.uri.path() {
                    "/" => redirect(307, "/again"),
                    _ if seen.parts.headers.contains_key("authorization") => redirect(status, &to),
                    _ => text(500, "lost"),
                }
            })
        })
        .await;
        let egress = egress(&["127.0.0.1"], Names::new(&[]));
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_static("Bearer x"));
        headers.insert("cookie", HeaderValue::from_static("a=b"));
        let mut key = HeaderValue::from_static("k");
        key.set_sensitive(true);
        headers.insert("x-api-key", key);
        headers.insert("x-plain", HeaderValue::from_static("p"));
        let url = egress.check_url(&format!("http://{}/", server.addr)).unwrap();
        let (end, response) =
            egress.client().follow(&url, Method::POST, headers, Bytes::from_static(b"body"), 5).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(end.port(), other.addr.port());
    }
    let seen = seen.lock().unwrap();
    let [(kept, first, body), (changed, second, empty)] = &seen[..] else { panic!("two requests") };
    assert_eq!((kept, &body[..]), (&Method::POST, &b"body"[..]));
    assert_eq!((changed, &empty[..]), (&Method::GET, &b""[..]));
    for headers in [first, second] {
        for gone in ["authorization", "cookie", "x-api-key"] {
            assert!(!headers.contains_key(gone), "{gone}");
        }
        assert_eq!(headers["x-plain"], "p");
    }
}

/// A proxy that answers CONNECT with `answer` and notes what was asked.
async fn proxy(answer: &'static str, forward_to: std::net::SocketAddr) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(tcp.read_u8().await.unwrap());
            }
            log.lock().unwrap().push(String::from_utf8(head).unwrap());
            tcp.write_all(answer.as_bytes()).await.unwrap();
            let mut to = tokio::net::TcpStream::connect(forward_to).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut tcp, &mut to).await;
        }
    });
    (format!("http://{addr}"), asked)
}

#[tokio::test]
async fn o9_a_proxy_gets_the_checked_address() {
    let server = serve(|seen| Box::pin(async move { text(200, seen.parts.headers["host"].to_str().unwrap()) })).await;
    let (url, asked) = proxy("HTTP/1.1 200 ok\r\nx: y\r\n\r\n", server.addr).await;
    let settings = settings::Egress { proxy: Some(url), ..Default::default() };
    let names = Names::new(&[("pub.example", &[&["93.184.216.34"]]), ("bad.example", &[&["10.0.0.1"]])]);
    let egress = Egress::with_resolver(&settings, Duration::from_secs(2), names).unwrap();
    assert_eq!(get(&egress, "http://pub.example/").await.unwrap(), "pub.example");
    assert_eq!(blocked(get(&egress, "http://bad.example/").await), Some(Rule::Private));
    let asked = asked.lock().unwrap();
    assert_eq!(asked.len(), 1);
    assert!(asked[0].starts_with("CONNECT 93.184.216.34:80 HTTP/1.1\r\n"), "{}", asked[0]);
}

#[tokio::test]
async fn o9_a_refusing_proxy_is_an_error() {
    let server = serve(|_| Box::pin(async { text(200, "") })).await;
    let (url, _) = proxy("HTTP/1.1 403 no\r\n\r\n", server.addr).await;
    let settings = settings::Egress { proxy: Some(url), ..Default::default() };
    let names = Names::new(&[("pub.example", &[&["93.184.216.34"]])]);
    let egress = Egress::with_resolver(&settings, Duration::from_secs(2), names).unwrap();
    assert!(matches!(get(&egress, "http://pub.example/").await, Err(EgressError::Connect { .. })));
}

#[test]
fn o9_settings_errors_name_the_entry() {
    let bad = settings::Egress { private_allow: vec!["10.0.0.0/99".to_owned()], ..Default::default() };
    let error = Egress::new(&bad, Duration::from_secs(1)).err().unwrap().to_string();
    assert!(error.contains("10.0.0.0/99"), "{error}");
    assert!(Url::parse("http://ok.example").is_ok());
}
