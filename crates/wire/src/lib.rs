//! MCP and JSON-RPC on the wire, both eras: envelopes, parameters, headers, SSE,
//! and translation between the eras, all as pure functions.
//!
//! This crate must never do I/O, and must never drop a member it does not know: a
//! message is read as an envelope whose members are ranges of the original bytes
//! ([`Message`], [`RawJson`]); edits are splices on the text ([`splice`]), so number
//! spellings, key order and unknown members survive.
//!
//! The way of a request in: [`Message::parse`] → [`Params::parse`] →
//! [`era::detect`] → [`headers::check`] → [`ClientProfile`]; on the way out
//! [`translate::params`], and for what comes back [`translate::result_to`],
//! [`translate::error_to`] and [`translate::notification`]. Between equal eras the
//! translation functions return the bytes they were given.
//!
//! All input is hostile: nothing here panics, memory is bounded by the size of the
//! input (itself bounded by the caller), nesting by [`Limits`].

pub mod ask;
pub mod build;
pub mod canonical;
pub mod era;
pub mod error;
mod fold;
pub mod headers;
pub mod id;
pub mod level;
pub mod list;
pub mod listen;
pub mod message;
pub mod method;
mod number;
pub mod params;
pub mod profile;
pub mod raw;
pub mod revision;
mod scan;
pub mod splice;
pub mod sse;
pub mod translate;

pub use ask::{Ask, AskAnswer};
pub use bartizan_model::Era;
pub use error::{EnvelopeError, EnvelopeProblem, RpcError, codes, modern_status};
pub use id::RequestId;
pub use level::LogLevel;
pub use message::{Kind, MAX_BATCH, Message};
pub use params::{Meta, Params, ParamsError, Reference};
pub use profile::ClientProfile;
pub use raw::{JsonError, Limits, RawJson, one_line};
pub use revision::{LATEST_LEGACY, LATEST_MODERN, MODERN_VERSIONS, Revision};
pub use scan::JsonKind;

/// Names of `_meta` members (protocol reference 3.1).
pub mod meta_key {
    /// Version of a modern request.
    pub const PROTOCOL_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
    /// Capabilities of a modern request.
    pub const CLIENT_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
    /// Name and version of the client.
    pub const CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
    /// Least severe level of log messages wanted.
    pub const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
    /// Id of the listen request a message belongs to.
    pub const SUBSCRIPTION_ID: &str = "io.modelcontextprotocol/subscriptionId";
    /// Name and version of the server, on results.
    pub const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";
    /// Task a message belongs to (2025-11-25 core tasks).
    pub const RELATED_TASK: &str = "io.modelcontextprotocol/related-task";
    /// Token of progress notifications.
    pub const PROGRESS_TOKEN: &str = "progressToken";
    /// W3C trace context.
    pub const TRACEPARENT: &str = "traceparent";
    /// W3C trace state.
    pub const TRACESTATE: &str = "tracestate";
}

/// Extension id of tasks (SEP-2663).
pub const TASKS_EXTENSION: &str = "io.modelcontextprotocol/tasks";
