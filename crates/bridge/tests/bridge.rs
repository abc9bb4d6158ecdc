//! The bridge against servers that mean harm, and one that does not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bartizan_bridge::{Bridge, BridgeDeps, MemoryKeys};
use bartizan_model::{Secret, SystemClock};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What a server answers: method and path with query, head, body → status, headers, body.
type Answer = Arc<dyn Fn(&str, &str, &str) -> (u16, String, String) + Send + Sync>;

async fn serve(listener: TcpListener, answer: Answer) {
    loop {
        let Ok((tcp, _)) = listener.accept().await else { return };
        let answer = Arc::clone(&answer);
        tokio::spawn(async move {
            let mut tcp = BufReader::new(tcp);
            loop {
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") {
                    if tcp.read_line(&mut head).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                let length = head.lines().find_map(|line| {
                    line.to_ascii_lowercase()
                        .strip_prefix("content-length:")
                        .map(|n| n.trim().parse::<usize>().unwrap())
                });
                let mut body = vec![0; length.unwrap_or(0)];
                tcp.read_exact(&mut body).await.unwrap();
                let (status, headers, text) =
                    answer(head.lines().next().unwrap(), &head, &String::from_utf8_lossy(&body));
                let whole = format!("HTTP/1.1 {status} x\r\n{headers}Content-Length: {}\r\n\r\n{text}", text.len());
                if tcp.write_all(whole.as_bytes()).await.is_err() {
                    return;
                }
            }
        });
    }
}

fn json_answer(value: &Value) -> (u16, String, String) {
    (200, "Content-Type: application/json\r\n".to_owned(), value.to_string())
}

/// A server that needs a token, with this metadata over what is right.
async fn guarded(change: Value) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let (log, origin) = (Arc::clone(&seen), base.clone());
    let answer: Answer = Arc::new(move |line, head, body| {
        log.lock().unwrap().push(format!("{head}{body}"));
        let path = line.split(' ').nth(1).unwrap();
        match path {
            "/mcp" if head.contains("authorization: Bearer good") || head.contains("Authorization: Bearer good") => {
                let id = serde_json::from_str::<Value>(body).unwrap()["id"].clone();
                json_answer(&json!({"jsonrpc": "2.0", "id": id, "result": {"fine": true}}))
            }
            "/mcp" => {
                let link = format!("{origin}/.well-known/oauth-protected-resource/mcp");
                (401, format!("WWW-Authenticate: Bearer resource_metadata=\"{link}\"\r\n"), String::new())
            }
            "/.well-known/oauth-protected-resource/mcp" => {
                json_answer(&json!({"resource": format!("{origin}/mcp"), "authorization_servers": [origin]}))
            }
            "/.well-known/oauth-authorization-server" => {
                let mut metadata = json!({
                    "issuer": origin, "authorization_endpoint": format!("{origin}/authorize"),
                    "token_endpoint": format!("{origin}/token"), "registration_endpoint": format!("{origin}/register"),
                    "response_types_supported": ["code"], "code_challenge_methods_supported": ["S256"],
                });
                for (name, value) in change.as_object().unwrap() {
                    metadata[name] = value.clone();
                }
                json_answer(&metadata)
            }
            "/register" => {
                let (_, _, text) = json_answer(&json!({"client_id": "me"}));
                (201, "Content-Type: application/json\r\n".to_owned(), text)
            }
            "/token" if body.contains("code=right") && body.contains("code_verifier=") => {
                json_answer(&json!({"access_token": "good", "token_type": "Bearer", "expires_in": 3600}))
            }
            _ => (404, String::new(), String::new()),
        }
    });
    tokio::spawn(serve(listener, answer));
    (format!("{base}/mcp"), seen)
}

struct Run {
    answers: Vec<Value>,
    opened: Vec<String>,
}

/// Sends one request through a bridge. `browse` is what happens when the browser is started.
async fn request(url: &str, token: Option<&str>, browse: impl Fn(&str) + Send + Sync + 'static) -> Run {
    with_keys(url, token, Arc::new(MemoryKeys::default()), browse).await
}

async fn with_keys(
    url: &str,
    token: Option<&str>,
    keys: Arc<MemoryKeys>,
    browse: impl Fn(&str) + Send + Sync + 'static,
) -> Run {
    let opened: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = Arc::clone(&opened);
    let bridge = Bridge::new(BridgeDeps {
        url: url.to_owned(),
        ca_files: Vec::new(),
        clock: Arc::new(SystemClock),
        keys,
        open: Arc::new(move |address| {
            log.lock().unwrap().push(address.to_owned());
            browse(address);
            Ok(())
        }),
        client_id: None,
        token: token.map(|token| Secret::new(token.to_owned())),
    })
    .unwrap();
    let (client, server) = tokio::io::duplex(1 << 20);
    let (server_in, server_out) = tokio::io::split(server);
    let running = tokio::spawn(bridge.run(server_in, server_out));
    let (from, mut to) = tokio::io::split(client);
    to.write_all(b"{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"tools/list\"}\n").await.unwrap();
    let mut line = String::new();
    let read = BufReader::new(from).read_line(&mut line).await;
    drop(to);
    running.abort();
    read.unwrap();
    let answers = vec![serde_json::from_str(&line).unwrap()];
    let opened = opened.lock().unwrap().clone();
    Run { answers, opened }
}

/// What a browser does with the address: comes back with this query.
fn comes_back(query: &'static str) -> impl Fn(&str) + Send + Sync + 'static {
    move |address: &str| {
        let url = url::Url::parse(address).unwrap();
        let of = |name: &str| url.query_pairs().find(|(key, _)| key == name).unwrap().1.into_owned();
        let (back, state) = (url::Url::parse(&of("redirect_uri")).unwrap(), of("state"));
        let (port, query) = (back.port().unwrap(), query.replace("STATE", &state));
        tokio::spawn(async move { get(port, &format!("127.0.0.1:{port}"), &format!("/callback?{query}")).await });
    }
}

async fn get(port: u16, host: &str, path: &str) -> String {
    let mut tcp = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    tcp.write_all(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).await.unwrap();
    let mut text = String::new();
    tcp.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn u14_a_good_server_is_signed_in_at_and_answers() {
    let (url, seen) = guarded(json!({})).await;
    let run = request(&url, None, comes_back("code=right&state=STATE")).await;
    assert_eq!(run.answers[0], json!({"jsonrpc": "2.0", "id": 7, "result": {"fine": true}}));
    assert_eq!(run.opened.len(), 1);
    assert!(
        run.opened[0].contains("code_challenge_method=S256") && run.opened[0].contains("resource="),
        "{:?}",
        run.opened
    );
    let all = seen.lock().unwrap().concat();
    assert!(all.contains("grant_type=authorization_code"));
}

#[tokio::test(flavor = "multi_thread")]
async fn u14_a_hostile_authorization_endpoint_starts_nothing() {
    for endpoint in [
        "javascript:alert(1)",
        "data:text/html,<script>",
        "file:///etc/passwd",
        "file://host/share",
        "ftp://login.example/",
        "ms-msdt:/id PCWDiagnostic",
        "vbscript:x",
        "vscode://x.y/z",
        "-version",
        "--no-remote",
        "http://login.example/authorize",
        "https://user:pass@login.example/authorize",
        "https:login.example",
        "https:///authorize",
        "https:\\\\login.example\\authorize",
        "https://login.example/authorize\r\nX: y",
        "https://login.example/ & calc.exe",
        "https://login.example/\u{202e}x",
        "$(touch /tmp/x)",
        "`touch /tmp/x`",
        "; touch /tmp/x",
        "| touch /tmp/x",
        "C:\\Windows\\System32\\calc.exe",
        "\\\\host\\share\\x.exe",
        "/usr/bin/touch",
        "",
    ] {
        let (url, _) = guarded(json!({"authorization_endpoint": endpoint})).await;
        let run = request(&url, None, |_| {}).await;
        assert_eq!(run.opened, Vec::<String>::new(), "{endpoint:?} was given to a browser");
        assert_eq!(run.answers[0]["id"], 7, "{endpoint:?}: the client is told");
        assert!(run.answers[0]["error"]["message"].as_str().unwrap().starts_with("sign-in:"), "{}", run.answers[0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn u14_what_a_shell_would_read_is_one_escaped_argument() {
    let (url, _) = guarded(json!({"authorization_endpoint": "https://login.example/a$(id)`id`;x|y&z'q\"w"})).await;
    let folder = tempfile::tempdir().unwrap();
    let (program, out) = (folder.path().join("browser"), folder.path().join("arguments"));
    let script = format!("#!/bin/sh\nprintf '%s\\n' \"$#\" \"$@\" > {}\n", out.display());
    std::fs::write(&program, script).unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
    let open = bartizan_bridge::Browser::Program(program.into_os_string()).opener();
    let waiting = tokio::spawn(async move { request(&url, None, move |address| open(address).unwrap()).await });
    let told = async {
        loop {
            if let Ok(text) = std::fs::read_to_string(&out)
                && text.lines().count() >= 2
            {
                return text;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let text = tokio::time::timeout(Duration::from_secs(20), told).await.unwrap();
    waiting.abort();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((lines.len(), lines[0]), (2, "1"), "{text}");
    assert!(lines[1].starts_with("https://login.example/a%24%28id%29%60id%60;x%7Cy"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn u14_only_the_answer_that_was_asked_for_counts() {
    let (url, seen) = guarded(json!({})).await;
    let run = request(&url, None, |address| {
        let url = url::Url::parse(address).unwrap();
        let of = |name: &str| url.query_pairs().find(|(key, _)| key == name).unwrap().1.into_owned();
        let (port, state) = (url::Url::parse(&of("redirect_uri")).unwrap().port().unwrap(), of("state"));
        tokio::spawn(async move {
            let host = format!("127.0.0.1:{port}");
            // A page elsewhere, a rebound name, another sign-in: none of them changes anything.
            for (host, path, status) in [
                (host.as_str(), "/callback?code=stolen&state=guess".to_owned(), "400"),
                (host.as_str(), "/callback?code=stolen".to_owned(), "400"),
                (host.as_str(), format!("/callback?code=a&code=b&state={state}"), "400"),
                ("evil.example", format!("/callback?code=stolen&state={state}"), "404"),
                (host.as_str(), "/favicon.ico".to_owned(), "404"),
                (host.as_str(), format!("/callback?code=right&state={state}"), "200"),
                (host.as_str(), format!("/callback?code=stolen&state={state}"), "410"),
            ] {
                let Ok(mut tcp) = TcpStream::connect(("127.0.0.1", port)).await else { return };
                tcp.write_all(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).await.unwrap();
                let mut text = String::new();
                let _ = tcp.read_to_string(&mut text).await;
                // The bridge is gone when it has what it wanted.
                assert!(text.is_empty() || text.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {text}");
            }
        });
    })
    .await;
    assert_eq!(run.answers[0]["result"]["fine"], true, "{}", run.answers[0]);
    assert!(!seen.lock().unwrap().concat().contains("stolen"));
}

#[tokio::test(flavor = "multi_thread")]
async fn u14_a_mixed_up_issuer_gets_no_code() {
    let (url, seen) = guarded(json!({"authorization_response_iss_parameter_supported": true})).await;
    for query in ["code=right&state=STATE&iss=https://evil.example", "code=right&state=STATE"] {
        let run = request(&url, None, comes_back(query)).await;
        assert!(run.answers[0]["error"].is_object(), "{}", run.answers[0]);
    }
    assert!(!seen.lock().unwrap().concat().contains("code=right"));
}

#[tokio::test(flavor = "multi_thread")]
async fn u14_metadata_that_names_private_addresses_is_not_followed() {
    let inner = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let inside = format!("http://{}", inner.local_addr().unwrap());
    let (hit, flag) = (Arc::new(Mutex::new(0)), Arc::new(Mutex::new(0)));
    drop(flag);
    let count = Arc::clone(&hit);
    tokio::spawn(serve(
        inner,
        Arc::new(move |_, _, _| {
            *count.lock().unwrap() += 1;
            json_answer(&json!({"client_id": "me"}))
        }),
    ));
    for name in ["registration_endpoint", "token_endpoint"] {
        let (url, _) = guarded(json!({name: format!("{inside}/x")})).await;
        let run = request(&url, None, comes_back("code=right&state=STATE")).await;
        assert!(run.answers[0]["error"].is_object(), "{name}: {}", run.answers[0]);
    }
    assert_eq!(*hit.lock().unwrap(), 0, "an address that the person did not name was asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn u14_a_token_that_was_given_is_used_and_never_asks_for_a_browser() {
    let (url, _) = guarded(json!({})).await;
    assert_eq!(request(&url, Some("good"), |_| {}).await.answers[0]["result"]["fine"], true);
    let run = request(&url, Some("bad"), |_| {}).await;
    assert!(run.opened.is_empty() && run.answers[0]["error"].is_object());
}

#[tokio::test(flavor = "multi_thread")]
async fn u14_a_second_run_uses_the_tokens_that_were_kept() {
    let (url, _) = guarded(json!({})).await;
    let keys = Arc::new(MemoryKeys::default());
    let first = with_keys(&url, None, Arc::clone(&keys), comes_back("code=right&state=STATE")).await;
    let second = with_keys(&url, None, Arc::clone(&keys), |_| {}).await;
    assert_eq!((first.opened.len(), second.opened.len()), (1, 0));
    assert_eq!(second.answers[0]["result"]["fine"], true);
    // What is kept for one server is for no other one.
    let (other, _) = guarded(json!({})).await;
    assert_eq!(with_keys(&other, None, keys, comes_back("code=right&state=STATE")).await.opened.len(), 1);
}

#[test]
fn u14_urls_that_cannot_be_bridged() {
    for bad in
        ["http://mcp.corp.example/mcp", "ftp://x/", "mcp.corp.example", "https://u:p@x.example/mcp", "file:///x", ""]
    {
        let deps = BridgeDeps {
            url: bad.to_owned(),
            ca_files: Vec::new(),
            clock: Arc::new(SystemClock),
            keys: Arc::new(MemoryKeys::default()),
            open: Arc::new(|_| Ok(())),
            client_id: None,
            token: None,
        };
        assert!(Bridge::new(deps).is_err(), "{bad}");
    }
}
