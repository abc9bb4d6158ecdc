//! Lines in, lines out.

use std::sync::Arc;
use std::time::Duration;

use bartizan_config::settings::Egress as EgressSettings;
use bartizan_egress::{Body, Egress, Url};
use bartizan_model::{Clock, Secret};
use bartizan_wire::sse::Decoder;
use bartizan_wire::{Kind, Limits, Message, RequestId, RpcError, build, codes};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::BridgeError;
use crate::browser::Opener;
use crate::keys::Keys;
use crate::link::Link;
use crate::sign_in::{SignIn, Way, fixed, say};

/// Largest message, either way.
const MESSAGE: usize = 16 << 20;
/// Messages on their way at once.
const PARALLEL: usize = 64;
/// Lines that wait for stdout.
const AHEAD: usize = 64;
/// Time for connecting.
const CONNECT: Duration = Duration::from_secs(15);
/// Time for what is on its way when stdin ends.
const LAST: Duration = Duration::from_secs(5);
/// Shortest and longest wait before a stream is opened again.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// What a bridge needs.
pub struct BridgeDeps {
    /// URL of the MCP server: https, or http on this machine.
    pub url: String,
    /// Certificate authorities beside the built-in ones.
    pub ca_files: Vec<std::path::PathBuf>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Where tokens stay.
    pub keys: Arc<dyn Keys>,
    /// How the browser is started.
    pub open: Opener,
    /// An own client at the authorization server; without it one is registered.
    pub client_id: Option<String>,
    /// A token for every request, instead of signing in.
    pub token: Option<Secret<String>>,
}

/// A bridge to one server.
pub struct Bridge {
    link: Arc<Link>,
}

impl Bridge {
    /// Checks the URL; nothing is sent yet.
    ///
    /// # Errors
    /// [`BridgeError::Url`].
    pub fn new(deps: BridgeDeps) -> Result<Self, BridgeError> {
        let bad = |error: bartizan_egress::EgressError| BridgeError::Url(error.to_string());
        let url = Url::parse(&deps.url).map_err(bad)?;
        let local = matches!(url.host(), bartizan_egress::Host::Ip(ip) if ip.is_loopback())
            || url.host().to_string() == "localhost";
        if !url.is_https() && !local {
            return Err(BridgeError::Url("the URL must begin with https://, or be on this machine".to_owned()));
        }
        // The person named this host, wherever it is; what its documents name must be public.
        let host = url.host().to_string().trim_matches(['[', ']']).to_owned();
        let settings =
            EgressSettings { private_allow: vec![host], ca_files: deps.ca_files, ..EgressSettings::default() };
        let egress = Egress::new(&settings, CONNECT).map_err(bad)?;
        let client = egress.client();
        let sign_in = match deps.token {
            Some(token) => Way::Fixed(fixed(&token)?),
            None => {
                Way::SignIn(Box::new(SignIn::new(deps.url, egress, deps.clock, deps.keys, deps.open, deps.client_id)))
            }
        };
        Ok(Self { link: Arc::new(Link::new(url, client, sign_in)) })
    }

    /// Runs until stdin ends.
    ///
    /// # Errors
    /// [`BridgeError::Stdio`].
    pub async fn run(
        self,
        stdin: impl AsyncRead + Unpin,
        stdout: impl AsyncWrite + Unpin + Send + 'static,
    ) -> Result<(), BridgeError> {
        let (out, lines) = mpsc::channel(AHEAD);
        let writer = tokio::spawn(write(stdout, lines));
        let mut work = JoinSet::new();
        let mut listener = None;
        let places = Arc::new(Semaphore::new(PARALLEL));
        let mut stdin = BufReader::new(stdin);
        loop {
            let Some(line) = read(&mut stdin, &out).await? else { break };
            let message = match Message::parse(line, &Limits::default()) {
                Ok(message) => message,
                Err(error) => {
                    let text = format!(
                        "{{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{{\"code\":-32700,\"message\":{}}}}}",
                        quoted(&error.to_string())
                    );
                    let _ = out.send(Bytes::from(text)).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
            let (link, sender) = (Arc::clone(&self.link), out.clone());
            let is_initialized = message.method() == Some("notifications/initialized");
            // The handshake is in order; everything else answers for itself.
            if matches!(message.method(), Some("initialize" | "notifications/initialized")) {
                forward(&link, &message, &sender).await;
                drop(place);
            } else {
                work.spawn(async move {
                    forward(&link, &message, &sender).await;
                    drop(place);
                });
            }
            while work.try_join_next().is_some() {}
            if is_initialized && listener.is_none() && self.link.has_session() {
                listener = Some(tokio::spawn(listen(Arc::clone(&self.link), out.clone())));
            }
        }
        let all = async { while work.join_next().await.is_some() {} };
        // Whoever closed stdin waits for no more answers for long.
        let _ = tokio::time::timeout(LAST, all).await;
        work.shutdown().await;
        if let Some(listener) = listener {
            listener.abort();
        }
        let _ = tokio::time::timeout(LAST, self.link.end()).await;
        drop(out);
        let _ = tokio::time::timeout(LAST, writer).await;
        Ok(())
    }
}

/// One line of stdin; `None` at its end. A line that is too long is refused and skipped.
async fn read(
    stdin: &mut BufReader<impl AsyncRead + Unpin>,
    out: &mpsc::Sender<Bytes>,
) -> Result<Option<Bytes>, BridgeError> {
    loop {
        let mut line = Vec::new();
        let most = u64::try_from(MESSAGE + 1).unwrap_or(u64::MAX);
        if stdin.take(most).read_until(b'\n', &mut line).await? == 0 {
            return Ok(None);
        }
        if line.len() > MESSAGE {
            while !line.ends_with(b"\n") {
                line.clear();
                if stdin.take(1 << 16).read_until(b'\n', &mut line).await? == 0 {
                    return Ok(None);
                }
            }
            let text =
                r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"the message is larger than 16 MiB"}}"#;
            let _ = out.send(Bytes::from_static(text.as_bytes())).await;
            continue;
        }
        if !line.iter().all(u8::is_ascii_whitespace) {
            return Ok(Some(Bytes::from(line)));
        }
    }
}

async fn write(mut stdout: impl AsyncWrite + Unpin, mut lines: mpsc::Receiver<Bytes>) {
    while let Some(line) = lines.recv().await {
        // A message is one line, whatever white space the server put into it.
        let line = bartizan_wire::one_line(&line);
        let whole = async {
            stdout.write_all(&line).await?;
            stdout.write_all(b"\n").await?;
            stdout.flush().await
        };
        if whole.await.is_err() {
            return;
        }
    }
}

/// Sends one message and passes on what comes back. A request is always answered.
async fn forward(link: &Link, message: &Message, out: &mpsc::Sender<Bytes>) {
    let request = message.id().filter(|_| message.kind() == Kind::Request);
    match exchange(link, message, out).await {
        Ok(true) => {}
        Ok(false) => {
            if let Some(id) = request {
                refuse(out, id, "the server ended the answer early").await;
            }
        }
        Err(error) => match request {
            Some(id) => refuse(out, id, &error.to_string()).await,
            None => say(&error.to_string()),
        },
    }
}

async fn refuse(out: &mpsc::Sender<Bytes>, id: &RequestId, text: &str) {
    let _ = out.send(build::error(Some(id), &RpcError::new(codes::INTERNAL_ERROR, text))).await;
}

/// True when the message needs no (further) answer.
async fn exchange(link: &Link, message: &Message, out: &mpsc::Sender<Bytes>) -> Result<bool, BridgeError> {
    let request = message.id().filter(|_| message.kind() == Kind::Request);
    let answer = link.post(message).await?;
    let status = answer.status();
    let kind = answer.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let method = message.method().unwrap_or_default();
    let lost = |error: bartizan_egress::EgressError| BridgeError::Unreachable(error.to_string());
    if kind == "text/event-stream" && status.is_success() {
        return stream(link, answer.into_body(), request, method, out, &mut None).await;
    }
    let body = answer.into_body().collect_bytes(MESSAGE).await.map_err(lost)?;
    if body.iter().all(u8::is_ascii_whitespace) && request.is_none() && status.is_success() {
        return Ok(true);
    }
    match Message::parse(body, &Limits::default()) {
        Ok(answer) if matches!(answer.kind(), Kind::Response | Kind::Error) => {
            if request.is_none() {
                say(&format!("the server refused a notification with status {}", status.as_u16()));
                return Ok(true);
            }
            // An error about the message as a whole has no id of its own.
            let raw = match (answer.id(), request) {
                (None, Some(id)) if answer.kind() == Kind::Error => answer.with_id(id),
                _ => answer.raw().clone(),
            };
            link.note(method, &answer);
            let _ = out.send(raw).await;
            Ok(true)
        }
        _ => Err(BridgeError::Unreachable(format!("the server answered with status {}", status.as_u16()))),
    }
}

/// Passes on a stream. True when the answer to `request` was in it, or there was none to wait for.
async fn stream(
    link: &Link,
    mut body: Body,
    request: Option<&RequestId>,
    method: &str,
    out: &mpsc::Sender<Bytes>,
    retry: &mut Option<Duration>,
) -> Result<bool, BridgeError> {
    let mut decoder = Decoder::new(MESSAGE);
    let mut answered = request.is_none();
    while let Some(chunk) = body.chunk().await.map_err(|error| BridgeError::Unreachable(error.to_string()))? {
        let events = decoder.push(&chunk).map_err(|error| BridgeError::Unreachable(error.to_string()))?;
        for event in events {
            if let Some(ms) = event.retry {
                *retry = Some(Duration::from_millis(ms).clamp(AGAIN.0, AGAIN.1));
            }
            if event.data.is_empty() || !event.is_message() {
                continue;
            }
            let Ok(message) = Message::parse(event.data, &Limits::default()) else {
                say("the server sent something that is no message");
                continue;
            };
            if request.is_some() && message.id() == request && matches!(message.kind(), Kind::Response | Kind::Error) {
                link.note(method, &message);
                answered = true;
            }
            if out.send(message.raw().clone()).await.is_err() {
                return Ok(true);
            }
        }
    }
    Ok(answered)
}

/// The server's own messages, for as long as it has a stream for them.
async fn listen(link: Arc<Link>, out: mpsc::Sender<Bytes>) {
    let mut wait = AGAIN.0;
    loop {
        match link.listen(None).await {
            Ok(None) => return,
            Ok(Some(body)) => {
                let mut retry = None;
                // A broken stream is opened again.
                let _ = stream(&link, body, None, "", &out, &mut retry).await;
                wait = retry.unwrap_or(AGAIN.0);
            }
            Err(_) => wait = (wait * 2).min(AGAIN.1),
        }
        if out.is_closed() {
            return;
        }
        tokio::time::sleep(wait).await;
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
