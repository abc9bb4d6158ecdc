//! A small MCP server of either era, strict in its rules: what the conformance suite and the
//! end-to-end tests put behind the gateway. It shares no code with the product's own wire
//! layer, so that it cannot share its mistakes.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

mod call;
mod channel;
mod content;
mod http;
mod legacy;
mod modern;
mod shared;
mod sse;
mod stats;
mod tools;

use shared::Shared;
pub use stats::{Recorded, Stats};

/// What the fixture speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Era {
    /// Only the revisions with a handshake and sessions.
    Legacy,
    /// Only 2026-07-28.
    Modern,
    /// Both, decided per request.
    #[default]
    Both,
}

/// How a fixture behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// What it speaks.
    pub era: Era,
    /// Items per page of a list; 0 = all on one page.
    pub page_size: usize,
    /// So many generated tools `extra_00000` … beside the fixed ones.
    pub extra_tools: usize,
    /// The latest legacy revision it knows.
    pub legacy_version: String,
    /// `ttlMs` of cacheable results (modern), milliseconds.
    pub ttl_ms: u64,
    /// Keep every request for [`Stats::recorded`].
    pub record: bool,
    /// Demand this bearer token.
    pub bearer: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            era: Era::Both,
            page_size: 0,
            extra_tools: 0,
            legacy_version: "2025-11-25".to_owned(),
            ttl_ms: 60_000,
            record: false,
            bearer: None,
        }
    }
}

impl Options {
    /// The defaults of one era.
    pub fn of(era: Era) -> Self {
        Self { era, ..Self::default() }
    }

    /// The same, with every request kept.
    pub fn recorded(self) -> Self {
        Self { record: true, ..self }
    }
}

const INSTRUCTIONS: &str = "A fixture for conformance tests.";

fn server_info() -> Value {
    json!({"name": "bartizan-fixture", "version": env!("CARGO_PKG_VERSION")})
}

fn capabilities() -> Value {
    json!({
        "tools": {"listChanged": true},
        "prompts": {"listChanged": true},
        "resources": {"subscribe": true, "listChanged": true},
        "logging": {},
        "completions": {},
    })
}

/// A running fixture on a free port of 127.0.0.1; ends when dropped.
pub struct Fixture {
    address: SocketAddr,
    shared: Arc<Shared>,
    end: CancellationToken,
    _guard: DropGuard,
}

impl Fixture {
    /// Starts on a free port.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start(options: Options) -> std::io::Result<Self> {
        Self::start_on(options, 0).await
    }

    /// Starts on a given port of 127.0.0.1; 0 = a free one.
    ///
    /// # Errors
    /// When the port cannot be bound.
    pub async fn start_on(options: Options, port: u16) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::new(options));
        let end = CancellationToken::new();
        tokio::spawn(http::serve(listener, Arc::clone(&shared), end.clone()));
        Ok(Self { address, shared, end: end.clone(), _guard: end.drop_guard() })
    }

    /// Changes what tools it lists, from the next list on: a rug pull. The function is told the
    /// number of the list since the start, from 1.
    pub fn rewrite_tools(&self, rewrite: impl Fn(u64, &mut Vec<Value>) + Send + Sync + 'static) {
        self.shared.rewrite_tools(Arc::new(rewrite));
    }

    /// Tells everybody that its tools have changed.
    pub fn tell_tools(&self) {
        self.shared.tell_tools();
    }

    /// The address of its endpoint.
    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// The address of its HTTP+SSE endpoint (2024-11-05).
    pub fn sse_url(&self) -> String {
        format!("http://{}/sse", self.address)
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// What it saw.
    pub fn stats(&self) -> &Stats {
        &self.shared.stats
    }

    /// Forgets all sessions, as a restart would.
    pub fn forget_sessions(&self) {
        shared::locked(&self.shared.sessions).clear();
    }

    /// Adds or removes a tool and tells everybody who listens.
    pub fn change_tools(&self) {
        self.shared.change_tools();
    }

    /// Sessions that are open now.
    pub fn open_sessions(&self) -> usize {
        shared::locked(&self.shared.sessions).len()
    }

    /// Subscriptions (`subscriptions/listen`) that are open now.
    pub fn open_listeners(&self) -> usize {
        let mut listeners = shared::locked(&self.shared.listeners);
        listeners.retain(|listener| !listener.out.is_closed());
        listeners.len()
    }

    /// The names of its tools, in the order of the list.
    pub fn tool_names(&self) -> Vec<String> {
        self.shared.tools().iter().filter_map(|tool| tool["name"].as_str().map(str::to_owned)).collect()
    }

    /// Waits until the fixture is told to end.
    pub async fn ended(&self) {
        self.end.cancelled().await;
    }
}

/// Speaks MCP over standard input and output until the input ends.
///
/// # Errors
/// When the output is closed.
pub async fn stdio(options: Options) -> std::io::Result<()> {
    channel::stdio(Arc::new(Shared::new(options))).await
}

/// The names of the tools a fixture offers with its default options, the ones that come and go included.
pub fn tool_names() -> Vec<String> {
    content::tools(true, 0).iter().filter_map(|tool| tool["name"].as_str().map(str::to_owned)).collect()
}
