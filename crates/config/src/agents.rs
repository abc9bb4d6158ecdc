//! Agents: programs that call by themselves, without a person at a browser (A27).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::time::parse_rfc3339;

/// A program with an identity of its own, `agent:ID`, and a person who answers for it.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// Unique id, 1–64 characters `a-z`, `0-9`, `-`, `_`; also its `client_id` at the token endpoint.
    pub id: String,
    /// E-mail address of the person who answers for it. While that person is unknown or
    /// deactivated, the agent can do nothing.
    pub owner: String,
    /// Groups of the agent; those that its owner is not in do not count.
    #[serde(default)]
    pub groups: Vec<String>,
    /// How it proves itself.
    pub auth: AgentAuth,
    /// Limits of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<AgentLimits>,
    /// RFC 3339 time after which the agent can do nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
}

impl Agent {
    /// When it ends, milliseconds since the epoch; `None` never. What cannot be read has
    /// ended: checks refuse it, and nobody runs on forever by a slip.
    pub fn expires_ms(&self) -> Option<i64> {
        self.expires.as_deref().map(|text| parse_rfc3339(text).unwrap_or(0))
    }
}

/// How an agent proves itself.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum AgentAuth {
    /// A secret for the grant `client_credentials`; `${env:NAME}` and `${file:PATH}` are resolved at load.
    ClientSecret(String),
    /// Keys of `private_key_jwt` for the grant `client_credentials`, a JWK set as JSON text.
    Jwks(String),
    /// Tokens of the platform it runs on, for the token exchange (RFC 8693).
    Workload(Workload),
}

/// Which tokens of a platform (OpenID Connect tokens of a CI job, say) are this agent's.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Issuer of the tokens, exactly as in them.
    pub issuer: String,
    /// Where its keys are. Default: where its discovery document says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_uri: Option<String>,
    /// `aud` of the tokens; something that names this installation.
    pub audience: String,
    /// Claims that must be there with exactly this text, e.g. `repository: acme/shop`, `ref: refs/heads/main`.
    pub claims: BTreeMap<String, String>,
}

/// Limits of one agent; each off unless written down.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct AgentLimits {
    /// Calls per minute.
    pub per_minute: Option<u32>,
    /// Calls in flight at once.
    pub concurrent: Option<u32>,
    /// Request bytes per minute.
    pub bytes_per_minute: Option<u32>,
}
