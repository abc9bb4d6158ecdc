//! `bartizan upstream test` (U7): the step at fault is the one that is blamed.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use std::os::unix::fs::PermissionsExt as _;

use bartizan_testkit::product::{Config, Product};
use bartizan_testkit::tools::{self, Part};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

/// Made up; must not be in any report.
const TOKEN: &str = "s3cret-access-token";

/// What a server that is broken in one way answers.
fn answer(fault: &str, base: &str, line: &str, head: &str, body: &str) -> (u16, String, String) {
    let ok = |value: Value| (200, "Content-Type: application/json\r\n".to_owned(), value.to_string());
    let status = |status: u16| (status, String::new(), String::new());
    let target = line.split(' ').nth(1).unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let of = |name: &str| {
        let found = query.split('&').find_map(|part| part.strip_prefix(&format!("{name}=")));
        found.unwrap_or_default().replace("%3A", ":").replace("%2F", "/")
    };
    match path {
        "/mcp" => mcp(fault, base, head, body),
        "/.well-known/oauth-protected-resource/mcp" => match fault {
            "no metadata at all" => status(404),
            "resource metadata fails" => status(500),
            "resource metadata is no JSON" => (200, String::new(), "<html>".to_owned()),
            "resource metadata of another" => {
                ok(json!({"resource": "https://other.example/mcp", "authorization_servers": [base]}))
            }
            "no authorization server named" => {
                ok(json!({"resource": format!("{base}/mcp"), "authorization_servers": []}))
            }
            _ => ok(json!({"resource": format!("{base}/mcp"), "authorization_servers": [base]})),
        },
        "/.well-known/oauth-authorization-server" => {
            let mut metadata = json!({
                "issuer": base, "authorization_endpoint": format!("{base}/authorize"),
                "token_endpoint": format!("{base}/token"), "registration_endpoint": format!("{base}/register"),
                "response_types_supported": ["code"], "code_challenge_methods_supported": ["S256"],
            });
            match fault {
                "no server metadata" | "no metadata at all" => return status(404),
                "issuer of another" => metadata["issuer"] = "https://other.example".into(),
                "no S256" => metadata["code_challenge_methods_supported"] = json!(["plain"]),
                "no registration" => drop(metadata.as_object_mut().unwrap().remove("registration_endpoint")),
                _ => {}
            }
            ok(metadata)
        }
        "/register" if fault == "registration refused" => {
            (400, String::new(), json!({"error": "invalid_redirect_uri"}).to_string())
        }
        "/register" => (201, "Content-Type: application/json\r\n".to_owned(), json!({"client_id": "me"}).to_string()),
        "/authorize" => {
            let back = match fault {
                "access denied" => format!("error=access_denied&state={}", of("state")),
                "answer of another issuer" => format!("code=c&state={}&iss=https%3A%2F%2Fother.example", of("state")),
                _ => format!("code=c&state={}", of("state")),
            };
            (302, format!("Location: {}?{back}\r\n", of("redirect_uri")), String::new())
        }
        "/token" => match fault {
            "code refused" => (400, String::new(), json!({"error": "invalid_grant"}).to_string()),
            "no token in the answer" => ok(json!({"token_type": "Bearer", "refresh_token": TOKEN})),
            _ => ok(json!({"access_token": TOKEN, "token_type": "Bearer", "expires_in": 600})),
        },
        _ => status(404),
    }
}

fn mcp(fault: &str, base: &str, head: &str, body: &str) -> (u16, String, String) {
    let known = head.to_ascii_lowercase().contains(&format!("authorization: bearer {TOKEN}"));
    if !known || fault == "own token refused" {
        let link = format!("{base}/.well-known/oauth-protected-resource/mcp");
        let challenge = match fault {
            "no metadata at all" => String::new(),
            _ => format!("WWW-Authenticate: Bearer resource_metadata=\"{link}\"\r\n"),
        };
        return (401, challenge, String::new());
    }
    let request: Value = serde_json::from_str(body).unwrap_or_default();
    let kind = "Content-Type: application/json\r\n".to_owned();
    let result = |result: Value| {
        (200, kind.clone(), json!({"jsonrpc": "2.0", "id": request["id"], "result": result}).to_string())
    };
    let error = |code: i64| {
        let error = json!({"code": code, "message": "no"});
        (200, kind.clone(), json!({"jsonrpc": "2.0", "id": request["id"], "error": error}).to_string())
    };
    match request["method"].as_str().unwrap_or_default() {
        "initialize" if fault == "no MCP behind it" => {
            (200, "Content-Type: text/html\r\n".to_owned(), "<html>".to_owned())
        }
        "initialize" => result(json!({
            "protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "x", "version": "1"}})),
        "tools/list" if fault == "lists fail" => error(-32603),
        "tools/list" => result(json!({"tools": [{"name": "t", "inputSchema": {"type": "object"}}]})),
        method if method.starts_with("notifications/") => (202, String::new(), String::new()),
        _ => error(-32601),
    }
}

async fn serve(fault: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let shown = base.clone();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let base = base.clone();
            tokio::spawn(async move {
                let mut tcp = BufReader::new(tcp);
                loop {
                    let mut head = String::new();
                    while !head.ends_with("\r\n\r\n") {
                        if tcp.read_line(&mut head).await.unwrap_or(0) == 0 {
                            return;
                        }
                    }
                    let lower = head.to_ascii_lowercase();
                    let length =
                        lower.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
                    let mut body = vec![0; length.unwrap_or(0)];
                    if tcp.read_exact(&mut body).await.is_err() {
                        return;
                    }
                    let line = head.lines().next().unwrap_or_default().to_owned();
                    let (status, headers, text) = answer(fault, &base, &line, &head, &String::from_utf8_lossy(&body));
                    let whole = format!("HTTP/1.1 {status} x\r\n{headers}Content-Length: {}\r\n\r\n{text}", text.len());
                    if tcp.write_all(whole.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    shown
}

#[tokio::test(flavor = "multi_thread")]
async fn u7_the_right_step_is_blamed() {
    if !tools::ready("u7_the_right_step_is_blamed", &[Part::Product]) {
        return;
    }
    let faults = [
        ("nobody there", "challenge"),
        ("no metadata at all", "server_metadata"),
        ("resource metadata fails", "resource_metadata"),
        ("resource metadata is no JSON", "resource_metadata"),
        ("resource metadata of another", "resource_metadata"),
        ("no authorization server named", "resource_metadata"),
        ("no server metadata", "server_metadata"),
        ("issuer of another", "server_metadata"),
        ("no S256", "server_metadata"),
        ("no registration", "registration"),
        ("registration refused", "registration"),
        ("access denied", "authorize"),
        ("answer of another issuer", "authorize"),
        ("code refused", "token"),
        ("no token in the answer", "token"),
        ("own token refused", "token"),
        ("no MCP behind it", "handshake"),
        ("lists fail", "lists"),
        ("none", ""),
    ];
    // What opens addresses here goes where it is sent, as a browser would.
    let folder = tempfile::tempdir().unwrap();
    let browser = folder.path().join("browser");
    std::fs::write(&browser, "#!/bin/sh\nexec curl -sL -o /dev/null \"$1\"\n").unwrap();
    std::fs::set_permissions(&browser, std::fs::Permissions::from_mode(0o700)).unwrap();
    let browser = browser.display().to_string();

    let allow = json!([{"action": "allow", "include": [{"everyone": true}]}]);
    let mut config = Config::new();
    for (at, (fault, _)) in faults.iter().enumerate() {
        let base = if at == 0 { "http://127.0.0.1:9".to_owned() } else { serve(fault).await };
        let (id, url) = (format!("s{at}"), format!("{base}/mcp"));
        config = config.server(json!({"server_id": id, "hostname": url, "auth_type": "oauth", "policies": allow}));
    }
    let product = Product::serve(config).await.unwrap();
    for (at, (fault, blamed)) in faults.iter().enumerate() {
        let id = format!("s{at}");
        let run =
            product.command(&["upstream", "test", &id, "--sign-in", "--browser", &browser, "--json"]).await.unwrap();
        let report: Value = serde_json::from_str(&run.stdout).unwrap_or_else(|_| panic!("{fault}: {run:?}"));
        assert_eq!(report["failed"].as_str().unwrap_or_default(), *blamed, "{fault}: {report:#}");
        assert_eq!(run.code, Some(i32::from(!blamed.is_empty())), "{fault}");
        assert!(!run.stdout.contains(TOKEN) && !run.stderr.contains(TOKEN), "{fault}: a token is shown");
        for step in report["steps"].as_array().unwrap() {
            assert!(step["section"].as_str().unwrap().len() > 5, "{fault}: {step}");
        }
    }
    let text = product.command(&["upstream", "test", "s8"]).await.unwrap().stdout;
    assert!(text.contains("FAILED server_metadata") && text.contains("RFC 8414"), "{text}");
    let unknown = product.command(&["upstream", "test", "nobody"]).await.unwrap();
    assert_eq!(unknown.code, Some(1));
}
