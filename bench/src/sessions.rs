//! Memory per legacy session, without and with its stream for messages of the server.

use anyhow::{Context as _, Result, ensure};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tokio::net::TcpStream;

use crate::load::{self, Shot};
use crate::process::Process;
use crate::scenarios::{CORE_TESTED, Gateway, upstream};

/// Sessions before the first look, so that pools and caches are filled.
const WARM: usize = 100;
/// File descriptors beside those of the streams.
const OTHER_FILES: u64 = 200;
/// Revision of the sessions.
const VERSION: &str = "2025-11-25";

/// An open stream; it ends with the value.
type Stream = (SendRequest<Empty<Bytes>>, Response<Incoming>);

pub(crate) async fn run(count: usize) -> Result<()> {
    println!("\n## memory per idle legacy session, {count} sessions");
    let count = count.max(1);
    files(u64::try_from(WARM + count)? + OTHER_FILES)?;
    let (_upstream, upstream_port) = upstream(true, 10)?;
    let gateway = Gateway::start(upstream_port, "strict", 10).await?;
    drop(open_sessions(&gateway, WARM).await?);
    let empty = settled(&gateway.process).await?;
    let sessions = open_sessions(&gateway, count).await?;
    let without = settled(&gateway.process).await?;
    let mut streams = Vec::with_capacity(count);
    for session in &sessions {
        let mut headers = gateway.headers();
        headers.push(("mcp-session-id".to_owned(), session.clone()));
        headers.push(("mcp-protocol-version".to_owned(), VERSION.to_owned()));
        streams.push(open_stream(gateway.port, &headers).await?);
    }
    let with = settled(&gateway.process).await?;
    drop(streams);
    drop(gateway);

    let own = std::env::current_exe()?;
    let (bare, port) = Process::start(CORE_TESTED, &own.to_string_lossy(), &["sse"])?;
    let port: u16 = port.parse()?;
    let mut streams = Vec::with_capacity(WARM + count);
    for _ in 0..WARM {
        streams.push(open_stream(port, &[]).await?);
    }
    let before = settled(&bare).await?;
    for _ in 0..count {
        streams.push(open_stream(port, &[]).await?);
    }
    let after = settled(&bare).await?;
    drop(streams);

    let each = |from: u64, to: u64| (to as f64 - from as f64) * 1024.0 / count as f64;
    let (idle, open, unit) = (each(empty, without), each(without, with), each(before, after));
    println!("gateway: {empty} KiB before, {without} KiB with the sessions, {with} KiB with their streams");
    println!("bare hyper SSE server: {before} KiB before, {after} KiB with as many streams");
    println!("per idle session without a stream: {idle:.0} bytes");
    println!("per open stream: {open:.0} bytes; bare server: {unit:.0} bytes");
    if unit > 0.0 {
        println!("ratio, open stream / bare server: {:.2} ×", open / unit);
    }
    Ok(())
}

/// Both ends of the streams are children or this process, and all inherit this limit.
fn files(wanted: u64) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    let enough = limit.maximum.is_none_or(|most| most >= wanted);
    ensure!(enough, "{wanted} open files are needed, {:?} allowed: ulimit -Hn", limit.maximum);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum })?)
}

/// Resident memory once it no longer grows, KiB.
async fn settled(process: &Process) -> Result<u64> {
    let mut last = process.rss_kib()?;
    for _ in 0..20 {
        tokio::time::sleep(std::time::Duration::from_millis(250)).await;
        let now = process.rss_kib()?;
        if now.abs_diff(last) < 64 {
            return Ok(now);
        }
        last = now;
    }
    Ok(last)
}

/// Opens sessions over one connection: as many sockets would be a measurement of sockets.
async fn open_sessions(gateway: &Gateway, count: usize) -> Result<Vec<String>> {
    let mut connection = load::connect(gateway.port).await?;
    let open = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": VERSION, "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}});
    let ready = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    let plain = Shot {
        port: gateway.port,
        path: "/mcp".to_owned(),
        headers: gateway.headers(),
        body: open.to_string().into(),
        expect: "",
    };
    let mut sessions = Vec::with_capacity(count);
    for _ in 0..count {
        let (head, body) = load::send(&mut connection, &plain).await?;
        let session = head.headers().get("mcp-session-id").and_then(|value| value.to_str().ok());
        let session =
            session.with_context(|| format!("no session: {} {}", head.status(), String::from_utf8_lossy(&body)))?;
        let mut second = plain.clone();
        second.headers.push(("mcp-session-id".to_owned(), session.to_owned()));
        second.headers.push(("mcp-protocol-version".to_owned(), VERSION.to_owned()));
        second.body = ready.to_string().into();
        let (head, _) = load::send(&mut connection, &second).await?;
        ensure!(head.status() == 202, "initialized: {}", head.status());
        sessions.push(session.to_owned());
    }
    Ok(sessions)
}

/// A `GET` whose answer is an open stream; what comes first is read.
async fn open_stream(port: u16, headers: &[(String, String)]) -> Result<Stream> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let mut request =
        Request::get("/mcp").header("host", format!("127.0.0.1:{port}")).header("accept", "text/event-stream");
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let mut response = sender.send_request(request.body(Empty::new())?).await?;
    ensure!(response.status() == 200, "the stream: {}", response.status());
    // Not every server says something at once.
    let first = response.body_mut().frame();
    let _ = tokio::time::timeout(std::time::Duration::from_millis(2), first).await;
    Ok((sender, response))
}
