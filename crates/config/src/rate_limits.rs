//! Limits of rates and concurrency, as written in files (O11).

use bartizan_model::ServerId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One limit (O11). Off unless written down.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Unique id.
    pub id: String,
    /// What each counter is kept for: `address`, `user`, `client`, `portal`, `server`, `tool`; several make one combined key.
    pub per: Vec<LimitKey>,
    /// Only for this server.
    #[serde(default)]
    #[schemars(with = "Option<crate::schema::IdText>")]
    pub server: Option<ServerId>,
    /// Only for these original tool names (with `server`).
    #[serde(default)]
    pub tools: Vec<String>,
    /// Only for these agents, by id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agents: Vec<String>,
    /// Requests per minute (GCRA).
    #[serde(default)]
    pub per_minute: Option<u32>,
    /// Burst above the rate; default `per_minute`.
    #[serde(default)]
    pub burst: Option<u32>,
    /// Calls in flight at once.
    #[serde(default)]
    pub concurrent: Option<u32>,
    /// How long a call over `concurrent` waits for its turn, milliseconds, at most 60,000; principals take turns. 0 refuses at once. Default 10,000, or 0 when counted per `user`.
    #[serde(default)]
    pub queue_ms: Option<u32>,
    /// Request bytes per minute.
    #[serde(default)]
    pub bytes_per_minute: Option<u32>,
}

/// What a counter is kept for.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq, Hash)]
#[serde(rename_all = "lowercase")]
pub enum LimitKey {
    /// Peer address.
    Address,
    /// Principal.
    User,
    /// Client name.
    Client,
    /// Portal.
    Portal,
    /// Server.
    Server,
    /// Tool.
    Tool,
}
