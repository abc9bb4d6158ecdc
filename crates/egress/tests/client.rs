//! Connection reuse, broken peers and bounds.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod common;

use std::sync::atomic::Ordering;
use std::time::Duration;

use bartizan_egress::{Egress, EgressError};
use bytes::Bytes;
use common::{Names, egress, serve, text};
use http::{HeaderMap, Method, Request};
use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn local() -> Egress {
    egress(&["127.0.0.1"], Names::new(&[]))
}

async fn post(egress: &Egress, url: &str, body: &str) -> Result<String, EgressError> {
    let url = egress.check_url(url)?;
    let body = Bytes::copy_from_slice(body.as_bytes());
    let response = egress.client().send(&url, Method::POST, HeaderMap::new(), body).await?;
    let body = response.into_body().collect_bytes(1 << 20).await?;
    Ok(String::from_utf8(body.to_vec()).unwrap())
}

/// Serves one canned answer per connection on raw sockets.
async fn raw(answers: Vec<&'static [u8]>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for answer in answers {
            let (mut tcp, _) = listener.accept().await.unwrap();
            let mut buf = [0; 4096];
            let _ = tcp.read(&mut buf).await;
            let _ = tcp.write_all(answer).await;
            let _ = tcp.shutdown().await;
        }
    });
    format!("http://{addr}/")
}

#[tokio::test]
async fn sequential_requests_share_one_connection() {
    let server = serve(|seen| Box::pin(async move { text(200, std::str::from_utf8(&seen.body).unwrap()) })).await;
    let egress = local();
    for n in 0..200 {
        let body = format!("request {n}");
        assert_eq!(post(&egress, &format!("http://{}/", server.addr), &body).await.unwrap(), body);
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn parallel_requests_are_not_mixed() {
    let server = serve(|seen| {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(u64::from(seen.body[0] % 7))).await;
            text(200, std::str::from_utf8(&seen.body).unwrap())
        })
    })
    .await;
    let egress = local();
    let tasks: Vec<_> = (0..100)
        .map(|n| {
            let (egress, url) = (egress.clone(), format!("http://{}/", server.addr));
            tokio::spawn(async move {
                for round in 0..10 {
                    let body = format!("{n} {round}");
                    assert_eq!(post(&egress, &url, &body).await.unwrap(), body);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert!(server.connections.load(Ordering::SeqCst) <= 100);
}

#[tokio::test]
async fn a_dropped_body_closes_its_connection() {
    let server = serve(|_| Box::pin(async { text(200, &"x".repeat(4 << 20)) })).await;
    let egress = local();
    let url = egress.check_url(&format!("http://{}/", server.addr)).unwrap();
    let mut response = egress.client().send(&url, Method::GET, HeaderMap::new(), Bytes::new()).await.unwrap();
    assert!(response.body_mut().chunk().await.unwrap().is_some());
    drop(response);
    assert_eq!(
        post(&egress, &format!("http://{}/", server.addr), "").await.err().map(|e| e.to_string()),
        Some("body is over 1048576 bytes".to_owned())
    );
    assert_eq!(server.connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_connection_closed_while_idle_is_not_used() {
    // Answers keep-alive, then closes: the second request must go over a new connection.
    let url =
        raw(vec![b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na", b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nb"])
            .await;
    let egress = local();
    assert_eq!(post(&egress, &url, "1").await.unwrap(), "a");
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(post(&egress, &url, "2").await.unwrap(), "b");
}

#[tokio::test]
async fn unasked_bytes_spoil_a_connection() {
    let url = raw(vec![
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\naHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nX",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nb",
    ])
    .await;
    let egress = local();
    assert_eq!(post(&egress, &url, "1").await.unwrap(), "a");
    assert_eq!(post(&egress, &url, "2").await.unwrap(), "b");
}

#[tokio::test]
async fn broken_answers_are_errors() {
    for (answer, unsent) in [
        (&b""[..], false),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc", false),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabc", false),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab", false),
        (b"nonsense\r\n\r\n", false),
    ] {
        let url = raw(vec![answer]).await;
        let error = post(&local(), &url, "x").await.unwrap_err();
        assert!(matches!(error, EgressError::Io { .. }), "{error}");
        assert_eq!(error.unsent(), unsent);
    }
}

#[tokio::test]
async fn an_endless_head_is_cut() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        let _ = tcp.write_all(b"HTTP/1.1 200 OK\r\nx: ").await;
        while tcp.write_all(&[b'a'; 8192]).await.is_ok() {}
    });
    assert!(matches!(post(&local(), &format!("http://{addr}/"), "").await, Err(EgressError::Io { .. })));
}

#[tokio::test]
async fn bodies_are_bounded_while_reading() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        let _ = tcp.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
        while tcp.write_all(b"400\r\n").await.is_ok()
            && tcp.write_all(&[b'a'; 1024]).await.is_ok()
            && tcp.write_all(b"\r\n").await.is_ok()
        {}
    });
    assert!(matches!(post(&local(), &format!("http://{addr}/"), "").await, Err(EgressError::TooLarge { .. })));
}

#[tokio::test]
async fn a_refused_port_is_unsent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let error = post(&local(), &format!("http://{addr}/"), "").await.unwrap_err();
    assert!(matches!(error, EgressError::Connect { .. }) && error.unsent(), "{error}");
}

#[tokio::test]
async fn absolute_uris_work_and_host_is_ours() {
    let server = serve(|seen| {
        Box::pin(
            async move { text(200, &format!("{} {}", seen.parts.headers["host"].to_str().unwrap(), seen.parts.uri)) },
        )
    })
    .await;
    let request = Request::builder()
        .uri(format!("http://{}/a?b=c", server.addr))
        .header("host", "forged.example")
        .body(Full::default())
        .unwrap();
    let response = local().client().request(request).await.unwrap();
    let body = response.into_body().collect_bytes(1000).await.unwrap();
    assert_eq!(body, format!("{} /a?b=c", server.addr));
}

#[tokio::test]
async fn tls_needs_a_trusted_certificate() {
    // A plain server cannot complete the handshake.
    let server = serve(|_| Box::pin(async { text(200, "") })).await;
    let error = post(&local(), &format!("https://{}/", server.addr), "").await.unwrap_err();
    assert!(matches!(error, EgressError::Tls { .. }), "{error}");
}

/// Chunked answers whose last chunk comes `late` after the first.
async fn late_end(late: Duration) -> (String, std::sync::Arc<std::sync::atomic::AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let connections = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let mut buf = [0; 4096];
                while matches!(tcp.read(&mut buf).await, Ok(1..)) {
                    let _ = tcp.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n").await;
                    tokio::time::sleep(late).await;
                    let _ = tcp.write_all(b"0\r\n\r\n").await;
                }
            });
        }
    });
    (format!("http://{addr}/"), connections)
}

#[tokio::test]
async fn a_body_whose_end_comes_soon_keeps_its_connection() {
    for (late, want) in [(0, 1), (20, 1), (1_000, 3)] {
        let (url, connections) = late_end(Duration::from_millis(late)).await;
        let egress = local();
        let url = egress.check_url(&url).unwrap();
        for _ in 0..3 {
            let mut response = egress.client().send(&url, Method::GET, HeaderMap::new(), Bytes::new()).await.unwrap();
            assert_eq!(response.body_mut().chunk().await.unwrap().unwrap(), "abc");
            response.into_body().finish();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(connections.load(Ordering::SeqCst), want, "{late} ms");
    }
}
