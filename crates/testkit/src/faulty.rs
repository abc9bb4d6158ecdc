//! Upstream servers that misbehave in one way at a chosen method and are well-behaved otherwise.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The request is read and never answered.
    Silence,
    /// Headers come, then nothing.
    Stall,
    /// The right body, one byte every so many milliseconds.
    Drip(u64),
    /// Half of the body, then the connection is reset.
    Reset,
    /// Half of the body, then an orderly close.
    Truncate,
    /// An HTTP status with an empty body.
    Status(u16),
    /// An HTTP status and after how many seconds to come back.
    Later(u16, u32),
    /// 401 with a challenge.
    Challenge,
    /// The right result under another id.
    WrongId,
    /// A body that is no JSON.
    Garbage,
    /// A JSON body with a result of so many bytes.
    Huge(usize),
    /// A result nested so deeply.
    Deep(usize),
    /// Redirects to this URL.
    Redirect(String),
    /// An event stream that ends without a response.
    EmptyStream,
    /// An event stream that sends a comment every 100 ms and never a response.
    CommentsForever,
    /// The result has a duplicate of a member that matters.
    Duplicate,
    /// 200 with an HTML page.
    Html,
    /// A JSON-RPC error with this code.
    RpcError(i64),
    /// This text as the result, byte for byte.
    Result(String),
}

/// When it goes wrong, and how often that happened.
#[derive(Debug, Default)]
struct Plan {
    method: String,
    fault: Option<Fault>,
    seen: Vec<String>,
}

/// A legacy server with one tool `ping_tool` that misbehaves on demand. Ends when dropped.
#[derive(Debug)]
pub struct Faulty {
    address: SocketAddr,
    plan: Arc<Mutex<Plan>>,
    end: CancellationToken,
    _guard: DropGuard,
}

fn locked(plan: &Mutex<Plan>) -> std::sync::MutexGuard<'_, Plan> {
    plan.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Faulty {
    /// Starts healthy.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start() -> Result<Self> {
        Self::start_on(0).await
    }

    /// Starts healthy on a given port of 127.0.0.1; 0 = a free one.
    ///
    /// # Errors
    /// When the port cannot be bound.
    pub async fn start_on(port: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let address = listener.local_addr()?;
        let plan = Arc::new(Mutex::new(Plan::default()));
        let end = CancellationToken::new();
        let (shared, stop) = (Arc::clone(&plan), end.clone());
        tokio::spawn(async move {
            loop {
                let stream = tokio::select! {
                    () = stop.cancelled() => return,
                    accepted = listener.accept() => accepted,
                };
                let Ok((stream, _)) = stream else { continue };
                let (plan, stop) = (Arc::clone(&shared), stop.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        // A connection that ends early is the point of this server.
                        _ended = connection(stream, &plan) => {}
                    }
                });
            }
        });
        Ok(Self { address, plan, end: end.clone(), _guard: end.drop_guard() })
    }

    /// The address of its endpoint.
    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// The port of its endpoint.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// From now on a method (`*` = every one) goes wrong.
    pub fn fail(&self, method: &str, fault: Fault) {
        let mut plan = locked(&self.plan);
        plan.method = method.to_owned();
        plan.fault = Some(fault);
    }

    /// From now on everything goes well.
    pub fn heal(&self) {
        locked(&self.plan).fault = None;
    }

    /// How often a method was seen.
    pub fn seen(&self, method: &str) -> usize {
        locked(&self.plan).seen.iter().filter(|seen| *seen == method).count()
    }

    /// Stops: connections break, the port is closed.
    pub fn die(&self) {
        self.end.cancel();
    }
}

struct Incoming {
    verb: String,
    body: Vec<u8>,
}

/// Reads one request; `None` at the end of the connection.
async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<Option<Incoming>> {
    let mut chunk = vec![0_u8; 16 * 1024];
    loop {
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(buffer.get(..end).unwrap_or_default()).into_owned();
            let length = head
                .lines()
                .filter_map(|line| line.split_once(':'))
                .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
                .and_then(|(_, value)| value.trim().parse().ok())
                .unwrap_or(0_usize);
            let total = end + 4 + length;
            if buffer.len() >= total {
                let request: Vec<u8> = buffer.drain(..total).collect();
                let verb = head.split(' ').next().unwrap_or_default().to_owned();
                return Ok(Some(Incoming { verb, body: request.get(end + 4..).unwrap_or_default().to_vec() }));
            }
        }
        let count = stream.read(&mut chunk).await?;
        if count == 0 {
            return Ok(None);
        }
        buffer.extend_from_slice(chunk.get(..count).unwrap_or_default());
    }
}

fn head(status: u16, kind: &str, length: Option<usize>, more: &str) -> String {
    let length =
        length.map_or_else(|| "Connection: close\r\n".to_owned(), |length| format!("Content-Length: {length}\r\n"));
    format!("HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\n{length}{more}\r\n")
}

async fn whole(stream: &mut TcpStream, status: u16, kind: &str, body: &str, more: &str) -> Result<()> {
    let text = format!("{}{body}", head(status, kind, Some(body.len()), more));
    stream.write_all(text.as_bytes()).await.context("the client is gone")
}

async fn connection(mut stream: TcpStream, plan: &Mutex<Plan>) -> Result<()> {
    let mut buffer = Vec::new();
    while let Some(request) = read(&mut stream, &mut buffer).await? {
        if request.verb != "POST" {
            whole(&mut stream, 405, "text/plain", "", "").await?;
            continue;
        }
        let message: Value = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
        let method = message["method"].as_str().unwrap_or_default().to_owned();
        let fault = {
            let mut plan = locked(plan);
            plan.seen.push(method.clone());
            let hit = plan.method == method || plan.method == "*";
            plan.fault.clone().filter(|_| hit)
        };
        let response = answer(&method, &message);
        match fault {
            Some(fault) => {
                if !misbehave(&mut stream, &fault, &message, response).await? {
                    return Ok(());
                }
            }
            None => match response {
                Some(response) => {
                    let session = if method == "initialize" { "Mcp-Session-Id: faulty\r\n" } else { "" };
                    whole(&mut stream, 200, "application/json", &response.to_string(), session).await?;
                }
                None => whole(&mut stream, 202, "text/plain", "", "").await?,
            },
        }
    }
    Ok(())
}

fn answer(method: &str, message: &Value) -> Option<Value> {
    let id = message.get("id")?;
    let result = match method {
        "initialize" => json!({
            "protocolVersion": "2025-11-25",
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "faulty", "version": "1.0.0"},
        }),
        "tools/list" => json!({"tools": [{
            "name": "ping_tool", "description": "Answers pong", "inputSchema": {"type": "object"},
        }]}),
        "tools/call" => json!({"content": [{"type": "text", "text": "pong"}]}),
        "ping" => json!({}),
        _ => {
            let error = json!({"code": -32601, "message": "Method not found"});
            return Some(json!({"jsonrpc": "2.0", "id": id, "error": error}));
        }
    };
    Some(json!({"jsonrpc": "2.0", "id": id, "result": result}))
}

/// Whether the connection can be used again.
async fn misbehave(stream: &mut TcpStream, fault: &Fault, message: &Value, response: Option<Value>) -> Result<bool> {
    let right = response.unwrap_or_default();
    let body = right.to_string();
    let json_kind = "application/json";
    let half = body.get(..body.len() / 2).unwrap_or_default();
    match fault {
        Fault::Silence => sleep(Duration::from_secs(3_600)).await,
        Fault::Stall => {
            stream.write_all(head(200, json_kind, Some(body.len()), "").as_bytes()).await?;
            sleep(Duration::from_secs(3_600)).await;
        }
        Fault::Drip(ms) => {
            stream.write_all(head(200, json_kind, Some(body.len()), "").as_bytes()).await?;
            for byte in body.bytes() {
                stream.write_all(&[byte]).await?;
                sleep(Duration::from_millis(*ms)).await;
            }
            return Ok(true);
        }
        Fault::Reset => {
            stream.write_all(head(200, json_kind, Some(body.len()), "").as_bytes()).await?;
            stream.write_all(half.as_bytes()).await?;
            stream.flush().await?;
            // Long enough for the bytes to be read before the reset discards them.
            sleep(Duration::from_millis(50)).await;
            stream.set_zero_linger()?;
        }
        Fault::Truncate => {
            stream.write_all(head(200, json_kind, Some(body.len()), "").as_bytes()).await?;
            stream.write_all(half.as_bytes()).await?;
        }
        Fault::Status(status) => {
            whole(stream, *status, "text/plain", "", "").await?;
            return Ok(true);
        }
        Fault::Later(status, seconds) => {
            whole(stream, *status, "text/plain", "", &format!("Retry-After: {seconds}\r\n")).await?;
            return Ok(true);
        }
        Fault::Challenge => {
            let more = "WWW-Authenticate: Bearer realm=\"faulty\"\r\n";
            whole(stream, 401, "text/plain", "", more).await?;
            return Ok(true);
        }
        Fault::WrongId => {
            let mut wrong = right;
            wrong["id"] = json!("not-the-id");
            whole(stream, 200, json_kind, &wrong.to_string(), "").await?;
            return Ok(true);
        }
        Fault::Garbage => {
            whole(stream, 200, json_kind, "{\"jsonrpc\": \"2.0\", oops", "").await?;
            return Ok(true);
        }
        Fault::Huge(bytes) => {
            let content = json!([{"type": "text", "text": "x".repeat(*bytes)}]);
            let huge = json!({"jsonrpc": "2.0", "id": message["id"], "result": {"content": content}});
            whole(stream, 200, json_kind, &huge.to_string(), "").await?;
            return Ok(true);
        }
        Fault::Deep(depth) => {
            let nested = format!("{}{}", "[".repeat(*depth), "]".repeat(*depth));
            let deep =
                format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"content":[],"deep":{nested}}}}}"#, message["id"]);
            whole(stream, 200, json_kind, &deep, "").await?;
            return Ok(true);
        }
        Fault::Redirect(url) => {
            whole(stream, 307, "text/plain", "", &format!("Location: {url}\r\n")).await?;
            return Ok(true);
        }
        Fault::EmptyStream => stream.write_all(head(200, "text/event-stream", None, "").as_bytes()).await?,
        Fault::CommentsForever => {
            stream.write_all(head(200, "text/event-stream", None, "").as_bytes()).await?;
            loop {
                stream.write_all(b": still here\n\n").await?;
                sleep(Duration::from_millis(100)).await;
            }
        }
        Fault::Duplicate => {
            let twice = format!(r#"{{"jsonrpc":"2.0","id":{0},"id":{0},"result":{{}},"result":{{}}}}"#, message["id"]);
            whole(stream, 200, json_kind, &twice, "").await?;
            return Ok(true);
        }
        Fault::Html => {
            whole(stream, 200, "text/html", "<html><body>Welcome to the proxy</body></html>", "").await?;
            return Ok(true);
        }
        Fault::Result(result) => {
            let text = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, message["id"]);
            whole(stream, 200, json_kind, &text, "").await?;
            return Ok(true);
        }
        Fault::RpcError(code) => {
            let error = json!({"code": code, "message": "as ordered"});
            let text = json!({"jsonrpc": "2.0", "id": message["id"], "error": error}).to_string();
            whole(stream, 200, json_kind, &text, "").await?;
            return Ok(true);
        }
    }
    Ok(false)
}
