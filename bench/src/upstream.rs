//! A fast MCP server with canned answers, strict enough for the gateway to accept.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

struct Server {
    tools: Value,
    modern: bool,
    initialized: AtomicU64,
}

pub(crate) async fn run(tools: usize, modern: bool) -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("{}", listener.local_addr()?.port());
    let server = Arc::new(Server { tools: list(tools), modern, initialized: AtomicU64::new(0) });
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let server = Arc::clone(&server);
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(Arc::clone(&server), request));
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn list(count: usize) -> Value {
    let tool = |n: usize| {
        json!({
            "name": format!("read_record_{n}"),
            "title": format!("Read record {n}"),
            "description": format!("Returns record {n} of the archive with its owner, its state and its latest remarks."),
            "inputSchema": {"type": "object", "properties": {
                "id": {"type": "string", "description": "Number of the record"},
                "fields": {"type": "array", "items": {"type": "string"}},
            }, "required": ["id"]},
            "annotations": {"readOnlyHint": true},
        })
    };
    (0..count).map(tool).collect()
}

async fn answer(server: Arc<Server>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.method() != "POST" {
        return Ok(reply(405, Bytes::new()));
    }
    let Ok(body) = request.into_body().collect().await else { return Ok(reply(400, Bytes::new())) };
    let Ok(message) = serde_json::from_slice::<Value>(&body.to_bytes()) else { return Ok(reply(400, Bytes::new())) };
    let Some(id) = message.get("id") else { return Ok(reply(202, Bytes::new())) };
    let info = json!({"name": "bench", "version": "1"});
    let result = match (message.get("method").and_then(Value::as_str).unwrap_or_default(), server.modern) {
        ("initialize", false) => {
            server.initialized.fetch_add(1, Ordering::Relaxed);
            json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": info})
        }
        ("server/discover", true) => json!({
            "resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}},
            "ttlMs": 600_000, "cacheScope": "public", "_meta": {"io.modelcontextprotocol/serverInfo": info},
        }),
        ("tools/list", false) => json!({"tools": server.tools}),
        ("tools/list", true) => {
            json!({"resultType": "complete", "tools": server.tools, "ttlMs": 600_000, "cacheScope": "public"})
        }
        ("tools/call", false) => {
            json!({"content": [{"type": "text", "text": "Record 7 is open. Owner: archive team."}]})
        }
        ("tools/call", true) => json!({
            "resultType": "complete", "content": [{"type": "text", "text": "Record 7 is open. Owner: archive team."}],
        }),
        // The bare proxy's clients ask this one; it counts sessions for the report.
        ("bench/initialized", _) => json!({"count": server.initialized.load(Ordering::Relaxed)}),
        _ => {
            let error = json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32601, "message": "Method not found"}});
            return Ok(reply(if server.modern { 404 } else { 200 }, error.to_string().into()));
        }
    };
    let mut response = reply(200, json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string().into());
    if !server.modern
        && message.get("method").and_then(Value::as_str) == Some("initialize")
        && let Ok(value) = "bench-session".parse()
    {
        response.headers_mut().insert("mcp-session-id", value);
    }
    Ok(response)
}

fn reply(status: u16, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    response
}
