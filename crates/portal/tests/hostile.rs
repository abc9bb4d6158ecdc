//! Bad input: the exact answers, no crash, and the next client is served (rows P26, O10).
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails")]

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::stack::{ALICE, BOB, Setup};
use support::{Client, MODERN, World, eventually, modern_body, modern_headers, raw, read_all};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

const QUIET: Duration = Duration::from_secs(5);

fn head(world: &World, more: &str) -> String {
    format!(
        "POST /servers/fix/mcp HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {ALICE}\r\n\
         Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n{more}",
        world.address
    )
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
}

async fn still_serves(world: &World) {
    let (status, answer) = world.client("servers/fix/mcp").ask_modern("tools/list", json!({})).await;
    assert_eq!(status, 200, "{answer}");
}

#[tokio::test]
async fn o10_forged_host_and_origin_are_403_before_anything_else() {
    let world = World::start().await;
    let body = "{}";
    for (host, origin, expected) in [
        ("evil.example", "", 403),
        ("evil.example:7420", "", 403),
        ("localhost.evil.example", "", 403),
        ("127.0.0.1.evil.example", "", 403),
        ("", "", 400),
        ("a b", "", 400),
        ("localhost", "Origin: http://evil.example\r\n", 403),
        ("localhost", "Origin: null\r\n", 403),
        ("localhost", "Origin: http://localhost.evil.example\r\n", 403),
        ("localhost", "Origin: http://localhost\r\nOrigin: http://localhost\r\n", 403),
        ("localhost", "Origin: http://localhost:3000\r\n", 401),
        ("127.0.0.1", "", 401),
        ("[::1]:1", "", 401),
        // Who is trusted to say so is decided by the peer's address.
        ("evil.example", "X-Forwarded-Host: localhost\r\nForwarded: host=localhost\r\n", 403),
    ] {
        let request = format!(
            "POST /mcp HTTP/1.1\r\nHost: {host}\r\n{origin}Content-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        let answer = raw(&world.address, request.as_bytes(), QUIET).await;
        assert_eq!(status(&answer), expected, "{host:?} {origin:?}: {answer}");
        assert!(answer.contains("x-request-id"), "{answer}");
        assert!(!answer.to_lowercase().contains("access-control-allow-origin: http://evil"));
    }
    let twice = "POST /mcp HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert_eq!(status(&raw(&world.address, twice.as_bytes(), QUIET).await), 400);
    let absolute = "POST http://evil.example/mcp HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert_eq!(status(&raw(&world.address, absolute.as_bytes(), QUIET).await), 403);
    still_serves(&world).await;
}

#[tokio::test]
async fn o10_pages_of_allowed_origins_may_read_answers() {
    let world = World::start().await;
    let client = world.client("servers/fix/mcp");
    let origin = ("origin", "http://localhost:6274");
    let wanted = ("access-control-request-headers", "authorization, mcp-method, mcp-param-region");
    let preflight = [origin, ("access-control-request-method", "POST"), wanted];
    let reply = Client::new(world.url("servers/fix/mcp"), None).send(http::Method::OPTIONS, &preflight, "").await;
    assert_eq!(reply.status, 204);
    assert_eq!(reply.header("access-control-allow-origin"), Some(origin.1));
    assert_eq!(reply.header("access-control-allow-headers"), Some(wanted.1));
    let evil = [("origin", "http://evil.example"), wanted];
    let reply = client.send(http::Method::OPTIONS, &evil, "").await;
    assert_eq!((reply.status, reply.header("access-control-allow-headers")), (403, None));
    let anonymous = Client::new(world.url("servers/fix/mcp"), None);
    let reply = anonymous.post(&[origin], "{}").await;
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (401, Some(origin.1)));
    assert!(reply.header("access-control-expose-headers").unwrap().contains("WWW-Authenticate"));
    let reply = client.post(&[], "{}").await;
    assert!(reply.header("access-control-allow-origin").is_none());
}

#[tokio::test]
async fn p26_oversize_bodies_are_413_declared_or_not() {
    let world = World::with(Setup { request_body: 10_000, ..Setup::default() }).await;
    let declared = head(&world, "Content-Length: 10001\r\n\r\n");
    let answer = raw(&world.address, declared.as_bytes(), QUIET).await;
    assert_eq!(status(&answer), 413, "{answer}");
    assert!(answer.to_lowercase().contains("connection: close"));
    let absurd = head(&world, "Content-Length: 99999999999999999999999\r\n\r\n");
    assert_eq!(status(&raw(&world.address, absurd.as_bytes(), QUIET).await), 400);
    let mut chunked = head(&world, "Transfer-Encoding: chunked\r\n\r\n").into_bytes();
    for _ in 0..11 {
        chunked.extend_from_slice(format!("3e8\r\n{}\r\n", " ".repeat(1000)).as_bytes());
    }
    let answer = raw(&world.address, &chunked, QUIET).await;
    assert_eq!(status(&answer), 413, "{answer}");
    // One byte below the bound is read (and is no JSON).
    let client = world.client("servers/fix/mcp");
    let reply = client.post(&[], "x".repeat(10_000)).await;
    assert_eq!(reply.status, 400);
    assert_eq!(reply.json().await.unwrap()["error"]["code"], -32700);
    still_serves(&world).await;
}

#[tokio::test]
async fn p26_half_sent_bodies_and_slow_clients_are_let_go() {
    let world = World::with(Setup { client_read_ms: 300, ..Setup::default() }).await;
    // The body stops.
    let request = head(&world, "Content-Length: 500\r\n\r\n{\"jsonrpc\"");
    let answer = raw(&world.address, request.as_bytes(), QUIET).await;
    assert_eq!(status(&answer), 408, "{answer}");
    // The head stops: nothing to answer, but the connection ends.
    let mut stream = TcpStream::connect(&world.address).await.unwrap();
    stream.write_all(b"POST /mcp HTTP/1.1\r\nHost: loc").await.unwrap();
    let answer = read_all(&mut stream, QUIET).await;
    assert!(answer.is_empty() || status(&answer) == 408, "{answer}");
    // A byte now and then does not help.
    let mut stream = TcpStream::connect(&world.address).await.unwrap();
    let mut sent = 0;
    for byte in head(&world, "X-Slow: ").bytes().cycle() {
        sent += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
        if stream.write_all(&[byte]).await.is_err() || sent > 200 {
            break;
        }
    }
    assert!(sent <= 200, "the connection was never closed");
    // The client goes away in the middle.
    let mut stream = TcpStream::connect(&world.address).await.unwrap();
    stream.write_all(head(&world, "Content-Length: 500\r\n\r\n{").as_bytes()).await.unwrap();
    drop(stream);
    // A broken chunk.
    let request = head(&world, "Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n");
    let answer = raw(&world.address, request.as_bytes(), QUIET).await;
    assert!(matches!(status(&answer), 0 | 400), "{answer}");
    still_serves(&world).await;
    assert_eq!(world.fixture.stats().of("tools/call"), 0);
}

#[tokio::test]
async fn p26_what_is_no_message() {
    let world = World::start().await;
    let client = world.client("servers/fix/mcp");
    let deep = |depth: usize| {
        let inner = format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        format!("{{\"jsonrpc\":\"2.0\",\"id\":5,\"method\":\"ping\",\"params\":{{\"x\":{inner}}}}}")
    };
    let rows: Vec<(Vec<u8>, i64)> = vec![
        (b"".to_vec(), -32700),
        (b"   ".to_vec(), -32700),
        (b"{".to_vec(), -32700),
        (b"nonsense".to_vec(), -32700),
        (b"{} {}".to_vec(), -32700),
        (b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\"}".to_vec(), -32700),
        (b"\xef\xbb\xbf{}".to_vec(), -32700),
        (b"1".to_vec(), -32600),
        (b"null".to_vec(), -32600),
        (b"[]".to_vec(), -32600),
        (b"{}".to_vec(), -32600),
        (br#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#.to_vec(), -32600),
        (br#"{"id":1,"method":"ping"}"#.to_vec(), -32600),
        (br#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#.to_vec(), -32600),
        (br#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#.to_vec(), -32600),
        (br#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#.to_vec(), -32600),
        (br#"{"jsonrpc":"2.0","id":1,"method":7}"#.to_vec(), -32600),
        (br#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#.to_vec(), -32600),
        (br#"{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}"#.to_vec(), -32600),
        (br#"{"jsonrpc":"2.0","id":1,"method":"ping","Method":"tools/call"}"#.to_vec(), -32600),
        (br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","name":"b"}}"#.to_vec(), -32600),
        (br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","\u006eame":"b"}}"#.to_vec(), -32600),
        (
            br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"x":1,"x":2}}}"#
                .to_vec(),
            -32600,
        ),
        (br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":[]}"#.to_vec(), -32602),
        (deep(127).into_bytes(), -32600),
        (deep(100_000).into_bytes(), -32600),
    ];
    for (body, code) in rows {
        let shown = String::from_utf8_lossy(&body).chars().take(90).collect::<String>();
        let length = format!("Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        let mut request = head(&world, &length).into_bytes();
        request.extend_from_slice(&body);
        let answer = raw(&world.address, &request, QUIET).await;
        assert_eq!(status(&answer), 400, "{shown}: {answer}");
        let json: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        assert_eq!(json["error"]["code"], code, "{shown}: {json}");
    }
    assert_eq!(client.post(&[], deep(100)).await.json().await.unwrap()["error"]["code"], -32600);
    still_serves(&world).await;
}

#[tokio::test]
async fn p26_duplicates_deep_inside_are_refused_too() {
    let world = World::start().await;
    let client = world.client("servers/fix/mcp");
    let params = json!({"name": "test_echo", "arguments": {}});
    let body = modern_body(&json!(5), "tools/call", &params, json!({})).to_string();
    let headers = modern_headers("tools/call", &params);
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    for inside in
        [r#"{"a":{"b":1,"b":2}}"#, r#"{"a":[{"secret":false,"secret":true}]}"#, r#"{"secret":false,"secret":true}"#]
    {
        let body = body.replace("\"arguments\":{}", &format!("\"arguments\":{inside}"));
        let reply = client.post(&headers, body).await;
        assert_eq!(reply.status, 400, "{inside}");
        let answer = reply.json().await.unwrap();
        assert_eq!((&answer["error"]["code"], &answer["id"]), (&json!(-32600), &json!(5)));
    }
    assert_eq!(world.fixture.stats().of("tool:test_echo"), 0);
}

#[tokio::test]
async fn p26_media_types() {
    let world = World::start().await;
    let client = world.client("servers/fix/mcp");
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"}).to_string();
    let rows: &[(&[(&str, &str)], u16)] = &[
        (&[("content-type", "text/plain")], 415),
        (&[], 415),
        (&[("content-type", "application/json"), ("content-encoding", "gzip")], 415),
        (&[("content-type", "application/x-www-form-urlencoded")], 415),
        (&[("content-type", "application/json"), ("accept", "text/html")], 406),
        (&[("content-type", "application/json"), ("accept", "image/png")], 406),
        (&[("content-type", "application/json")], 400),
    ];
    for (headers, expected) in rows {
        let reply = client.send(http::Method::POST, headers, body.clone()).await;
        assert_eq!(reply.status, *expected, "{headers:?}");
    }
}

#[tokio::test]
async fn p26_unknown_sessions_are_404_whatever_they_look_like() {
    let world = World::start().await;
    let mut client = world.client("servers/fix/mcp");
    for id in ["x", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "../../etc", "%00", "{}", &"y".repeat(4000)] {
        client.session = Some(id.to_owned());
        let reply = client.legacy(&json!(1), "tools/list", &json!({})).await;
        assert_eq!(reply.status, 404, "{id}");
        assert_eq!(client.stream(&[]).await.status, 404);
        assert_eq!(client.send(http::Method::DELETE, &[], "").await.status, 404);
        assert_eq!(client.notify("notifications/cancelled", &json!({"requestId": 1})).await, 404);
        assert_eq!(client.answer(&json!(1), &json!({})).await, 404);
    }
}

#[tokio::test]
async fn p26_one_connection_survives_refusals() {
    let world = World::start().await;
    let body = "{}";
    let one = head(&world, &format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    let last = head(&world, &format!("Connection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    let answer = raw(&world.address, format!("{one}{one}{last}").as_bytes(), QUIET).await;
    assert_eq!(answer.matches("HTTP/1.1 400").count(), 3, "{answer}");
}

#[tokio::test]
async fn o10_the_forwarded_address_counts_only_from_trusted_proxies() {
    // The server `near` lets in 127.0.0.0/8 only.
    let list = |world: &World, forwarded: &'static str| {
        let client = world.client("servers/near/mcp");
        async move {
            let headers = modern_headers("tools/list", &json!({}));
            let mut headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            if !forwarded.is_empty() {
                headers.push(("x-forwarded-for", forwarded));
            }
            client.post(&headers, modern_body(&json!(1), "tools/list", &json!({}), json!({})).to_string()).await.status
        }
    };
    let world = World::start().await;
    assert_eq!(list(&world, "").await, 200);
    assert_eq!(list(&world, "203.0.113.9").await, 200);
    let behind = World::with(Setup { trusted: vec!["127.0.0.0/8"], ..Setup::default() }).await;
    assert_eq!(list(&behind, "203.0.113.9").await, 404);
    assert_eq!(list(&behind, "203.0.113.9, 127.0.0.5").await, 404);
    assert_eq!(list(&behind, "127.0.0.5").await, 200);
}

#[tokio::test]
async fn p26_http2_with_prior_knowledge_is_understood() {
    let world = World::start().await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
    let mut stream = TcpStream::connect(&world.address).await.unwrap();
    stream.write_all(preface).await.unwrap();
    let mut frame = [0_u8; 9];
    tokio::io::AsyncReadExt::read_exact(&mut stream, &mut frame).await.unwrap();
    assert_eq!(frame[3], 4, "a SETTINGS frame");
}

#[tokio::test]
async fn p1_a_portal_is_also_at_its_own_host_name() {
    let world = World::start().await;
    let ask = |path: &'static str, token: &'static str, host: &'static str| {
        let address = world.address.clone();
        async move {
            let body = modern_body(&json!(1), "tools/list", &json!({}), json!({})).to_string();
            let bearer = if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
            let request = format!(
                "POST {path} HTTP/1.1\r\nHost: {host}\r\n{bearer}Content-Type: application/json\r\n\
                 MCP-Protocol-Version: {MODERN}\r\nMcp-Method: tools/list\r\nConnection: close\r\n\
                 Content-Length: {}\r\n\r\n{body}",
                body.len()
            );
            raw(&address, request.as_bytes(), QUIET).await
        }
    };
    let answer = ask("/mcp", BOB, "staff.example").await;
    assert_eq!(status(&answer), 200, "{answer}");
    assert!(answer.contains("fix_test_simple_text"));
    assert_eq!(status(&ask("/mcp", BOB, "STAFF.example:443").await), 200);
    assert_eq!(status(&ask("/portals/staff/mcp", BOB, "staff.example").await), 200);
    assert_eq!(status(&ask("/portals/staff/mcp", BOB, "localhost").await), 200);
    // Nothing else is at that name, and it is nobody else's.
    assert_eq!(status(&ask("/portals/default/mcp", BOB, "staff.example").await), 404);
    assert_eq!(status(&ask("/servers/fix/mcp", BOB, "staff.example").await), 404);
    assert_eq!(status(&ask("/mcp", ALICE, "staff.example").await), 404);
    assert_eq!(status(&ask("/mcp", ALICE, "other.example").await), 403);
    let answer = ask("/mcp", "", "staff.example").await;
    assert_eq!(status(&answer), 401);
    assert!(answer.contains("\"https://staff.example/.well-known/oauth-protected-resource/mcp\""), "{answer}");
}

#[tokio::test]
async fn p26_a_thousand_clients_that_come_and_go_leave_nothing_behind() {
    let world = World::with(Setup { session_idle_ms: 10_000, ..Setup::default() }).await;
    for round in 0..20 {
        let visits = (0..50).map(|n| {
            let url = world.url("servers/fix/mcp");
            async move {
                let client = Client::opened(url, Some(ALICE)).await;
                match (round + n) % 5 {
                    0 => drop(client.stream(&[]).await),
                    1 => assert_eq!(client.send(http::Method::DELETE, &[], "").await.status, 204),
                    2 => {
                        let params =
                            json!({"name": "test_tool_with_progress", "arguments": {}, "_meta": {"progressToken": 1}});
                        drop(client.legacy(&json!(1), "tools/call", &params).await);
                    }
                    3 => assert_eq!(client.ask("ping", json!({})).await.0, 200),
                    _ => drop(client),
                }
            }
        });
        futures_util::future::join_all(visits).await;
    }
    eventually("all connections are closed", || world.drain.connections() == 0).await;
    assert_eq!(world.portal.session_count(), 800);
    world.clock.advance_ms(10_000);
    // Not reached by any request; the sweep that runs every minute ends them.
    world.portal.sweep().await;
    assert_eq!(world.portal.session_count(), 0);
    still_serves(&world).await;
}

/// Many clients send head and body in two packets, and open with a request that is refused for want of a token. Closing
/// on the unread body would reset the connection under their next request.
#[tokio::test]
async fn p26_a_refusal_before_the_body_keeps_the_connection() {
    use tokio::io::AsyncReadExt as _;
    let world = World::start().await;
    let mut stream = TcpStream::connect(&world.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"}).to_string();
    for round in 0..20 {
        let head = format!(
            "POST /servers/fix/mcp HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
             Accept: application/json, text/event-stream\r\nContent-Length: {}\r\n\r\n",
            world.address,
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
        stream.write_all(body.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.windows(4).any(|end| end == b"\r\n\r\n") || !answer.ends_with(b"}") {
            let mut part = [0; 4096];
            let count = tokio::time::timeout(QUIET, stream.read(&mut part)).await.unwrap().unwrap();
            assert!(count > 0, "round {round}: the connection was closed after {}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&part[..count]);
        }
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert_eq!(status(&answer), 401, "{answer}");
        assert!(!answer.to_lowercase().contains("connection: close"), "{answer}");
    }
}
