//! A small MCP server over streamable HTTP: sessions for the legacy era, stateless
//! requests for the modern one. What it offers comes from an [`App`].

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::Eras;
use crate::app::App;

mod legacy;
mod methods;
mod modern;
mod rpc;
mod sse;

use rpc::{RpcError, error_response};

/// Largest request body, 4 MiB.
const BODY_LIMIT: usize = 4 << 20;

/// Revisions with sessions, oldest first.
const LEGACY_VERSIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];
/// The stateless revision.
const MODERN_VERSION: &str = "2026-07-28";

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// One server: its contents and its sessions.
struct Server {
    app: Arc<dyn App>,
    era: Eras,
    port: u16,
    sessions: Mutex<legacy::Sessions>,
}

/// Accepts connections until the task is aborted.
pub(crate) async fn run(listener: TcpListener, address: SocketAddr, era: Eras, app: Arc<dyn App>) {
    let server = Arc::new(Server { app, era, port: address.port(), sessions: Mutex::default() });
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                // Out of descriptors or a reset before accept: both pass.
                Err(_) => {
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                    continue;
                }
            },
            Some(_) = connections.join_next() => continue,
        };
        // Small answers must not wait for an acknowledgement of the previous one.
        let _ = stream.set_nodelay(true);
        let server = server.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let server = server.clone();
                async move { Ok::<_, Infallible>(handle(server, request).await) }
            });
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn handle(server: Arc<Server>, request: Request<Incoming>) -> Response<Body> {
    if request.uri().path() != "/mcp" {
        return plain(StatusCode::NOT_FOUND, "the MCP endpoint is /mcp\n");
    }
    if !local(request.headers(), server.port) {
        return plain(StatusCode::FORBIDDEN, "only for clients on this machine\n");
    }
    let (parts, body) = request.into_parts();
    match parts.method {
        Method::POST => {
            let Ok(body) = Limited::new(body, BODY_LIMIT).collect().await else {
                return plain(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 4 MiB or broken off\n");
            };
            post(server, &parts.headers, &body.to_bytes()).await
        }
        Method::GET if server.era.legacy() && session_id(&parts.headers).is_some() => {
            legacy::stream(&server, &parts.headers)
        }
        Method::DELETE if server.era.legacy() && session_id(&parts.headers).is_some() => {
            legacy::end(&server, &parts.headers)
        }
        _ => {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "this endpoint takes POST\n");
            response.headers_mut().insert(header::ALLOW, http::HeaderValue::from_static("POST"));
            response
        }
    }
}

async fn post(server: Arc<Server>, headers: &HeaderMap, body: &[u8]) -> Response<Body> {
    let Ok(value) = serde_json::from_slice::<Value>(body) else {
        let error = RpcError::new(-32700, "the body is not JSON");
        return error_response(StatusCode::BAD_REQUEST, None, &error);
    };
    let names_version = value.pointer("/params/_meta").is_some_and(|meta| meta.get(modern::VERSION_KEY).is_some());
    let modern_header = text(headers, "mcp-protocol-version") == Some(MODERN_VERSION);
    let modern = server.era.modern() && (names_version || modern_header || !server.era.legacy());
    if modern { modern::post(&server, headers, value) } else { legacy::post(server, headers, value) }
}

/// Refuses pages in a browser and names that were rebound to this machine.
fn local(headers: &HeaderMap, port: u16) -> bool {
    let hosts = [format!("127.0.0.1:{port}"), format!("localhost:{port}")];
    let host_ok = text(headers, "host").is_some_and(|host| hosts.iter().any(|own| own == host));
    let origin_ok = match headers.get(header::ORIGIN) {
        None => true,
        Some(origin) => hosts.iter().any(|own| origin.as_bytes() == format!("http://{own}").as_bytes()),
    };
    host_ok && origin_ok
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn session_id(headers: &HeaderMap) -> Option<&str> {
    text(headers, "mcp-session-id")
}

fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed_unsync()
}

fn plain(status: StatusCode, message: &'static str) -> Response<Body> {
    let mut response = Response::new(full(message));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(full(Bytes::new()));
    *response.status_mut() = status;
    response
}

fn json(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(full(value.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}
