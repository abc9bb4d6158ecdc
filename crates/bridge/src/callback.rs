//! The one address on this machine that the browser comes back to (RFC 8252, section 7.3).

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bartizan_oauth::authorization_answer::AuthorizationAnswer;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderValue, REFERRER_POLICY};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::BridgeError;

/// Time a person has for signing in.
const PATIENCE: Duration = Duration::from_secs(300);
/// Time a browser has for one request.
const REQUEST: Duration = Duration::from_secs(10);
const PATH: &str = "/callback";

/// Listens on loopback.
pub(crate) struct Callback {
    listener: TcpListener,
    port: u16,
}

impl Callback {
    /// On the port of last time if it is free, so that a registration stays good at servers
    /// that compare ports; else on any.
    pub(crate) async fn open(port: Option<u16>) -> Result<Self, BridgeError> {
        let listener = match port {
            Some(port) => TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.ok(),
            None => None,
        };
        let listener = match listener {
            Some(listener) => listener,
            None => TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?,
        };
        let port = listener.local_addr()?.port();
        Ok(Self { listener, port })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn redirect_uri(&self) -> String {
        format!("http://127.0.0.1:{}{PATH}", self.port)
    }

    /// Waits for the answer that carries this `state`. Anything else gets a page and changes
    /// nothing.
    pub(crate) async fn wait(&self, state: &str) -> Result<AuthorizationAnswer, BridgeError> {
        let (sender, mut answers) = mpsc::channel(1);
        let desk = Arc::new(Desk {
            host: format!("127.0.0.1:{}", self.port),
            state: state.to_owned(),
            sender: Mutex::new(Some(sender)),
        });
        let accept = async {
            loop {
                let Ok((tcp, peer)) = self.listener.accept().await else {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                };
                if !peer.ip().is_loopback() {
                    continue;
                }
                let desk = Arc::clone(&desk);
                tokio::spawn(async move {
                    let answer = service_fn(move |request| {
                        let desk = Arc::clone(&desk);
                        async move { Ok::<_, Infallible>(desk.answer(&request)) }
                    });
                    let connection = http1::Builder::new()
                        .timer(TokioTimer::new())
                        .header_read_timeout(REQUEST)
                        .keep_alive(false)
                        .max_buf_size(16 << 10)
                        .serve_connection(TokioIo::new(tcp), answer);
                    // The browser may go away; that is its right.
                    let _ = connection.await;
                });
            }
        };
        tokio::select! {
            answer = answers.recv() => answer.ok_or_else(|| BridgeError::SignIn("the browser's answer was lost".to_owned())),
            () = accept => Err(BridgeError::SignIn("nobody listens".to_owned())),
            () = tokio::time::sleep(PATIENCE) => Err(BridgeError::SignIn("nobody signed in within five minutes".to_owned())),
        }
    }
}

struct Desk {
    host: String,
    state: String,
    /// Taken by the first answer with the right state.
    sender: Mutex<Option<mpsc::Sender<AuthorizationAnswer>>>,
}

impl Desk {
    fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
        if host != Some(&self.host) || request.uri().path() != PATH {
            return page(StatusCode::NOT_FOUND, "Nothing is here.");
        }
        if request.method() != Method::GET {
            return page(StatusCode::METHOD_NOT_ALLOWED, "This address is for a browser.");
        }
        let answer = request.uri().query().and_then(|query| AuthorizationAnswer::parse(query).ok());
        let Some(answer) = answer.filter(|answer| same(answer.state(), &self.state)) else {
            return page(
                StatusCode::BAD_REQUEST,
                "This is not the sign-in that was begun. Start again from your client.",
            );
        };
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner).take();
        match sender.map(|sender| sender.try_send(answer)) {
            Some(Ok(())) => page(StatusCode::OK, "You can close this window and go back to your client."),
            _ => page(StatusCode::GONE, "This sign-in is over. Start again from your client."),
        }
    }
}

/// Takes the same time for every wrong text of a length.
fn same(one: &str, other: &str) -> bool {
    one.len() == other.len() && one.bytes().zip(other.bytes()).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

fn page(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>bartizan</title><style>body{{font:16px/1.5 system-ui;margin:15vh auto;\
         max-width:32rem;padding:0 1rem;color-scheme:light dark}}</style><h1>bartizan</h1><p>{text}</p></html>"
    );
    let mut answer = Response::new(Full::new(Bytes::from(html)));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // The address of this page holds a code.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    let policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    answer
}
