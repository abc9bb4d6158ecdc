//! What the record holds about one action (feature row L1).

use serde::{Deserialize, Serialize};

use crate::{Era, EventId, PortalId, PrincipalKind, ReasonCode, ServerId, ToolClass};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A tool call, prompt get, resource read, completion or other relayed request.
    Call,
    /// A non-read is about to be forwarded; written and durable before the forward.
    Intent,
    /// A list of tools, prompts, resources or templates was answered.
    List,
    /// A login or token check failed or succeeded in a way worth keeping.
    Auth,
    /// A service token was made, rotated, suspended or removed.
    Token,
    /// Configuration or resources changed.
    Admin,
    /// A process started, stopped or changed state.
    System,
}

/// Who acted. Kept apart from the chained bytes: the segment only holds a salted
/// commitment, so that erasing a person keeps the chain whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// `user:alice`, `service:ci`, `anonymous:anonymous`.
    pub principal: String,
    /// Group names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Peer address as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// Client name and version as the client gave them (never trusted).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// Client version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_version: Option<String>,
    /// E-mail address of the person who answers for an agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Country of the address, ISO 3166-1 alpha-2 (A3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// Identity or posture tag of the device (A3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// What the person said the access is for (A16).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
}

/// Allowed or refused, and by what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// True when the call was allowed to go on.
    pub allow: bool,
    /// Refusal code, also when the wire only said "unknown tool".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<ReasonCode>,
    /// Id of the deciding rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Stage that decided (`route`, `authorize`, …).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
}

impl Verdict {
    /// An allowing verdict without a rule.
    pub fn allowed() -> Self {
        Self { allow: true, code: None, rule: None, stage: None }
    }

    /// A refusing verdict.
    pub fn refused(stage: &str, code: ReasonCode, rule: Option<String>) -> Self {
        Self { allow: false, code: Some(code), rule, stage: Some(stage.to_owned()) }
    }
}

/// How an action ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A result was returned.
    Ok,
    /// A tool result with `isError: true` from the upstream.
    ToolError,
    /// A JSON-RPC error from the upstream.
    RpcError,
    /// Refused before forwarding.
    Refused,
    /// Forwarded, but no usable answer came back: the effect upstream is unknown.
    Unknown,
    /// The client cancelled.
    Cancelled,
    /// About to be forwarded (intents only).
    Pending,
}

impl Outcome {
    /// The word in records and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::ToolError => "tool_error",
            Self::RpcError => "rpc_error",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
            Self::Cancelled => "cancelled",
            Self::Pending => "pending",
        }
    }
}

/// One record. Every optional member is absent when it does not apply.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditEvent {
    /// Own id; for a call also its request id.
    pub id: EventId,
    /// When the action began, milliseconds since the epoch.
    pub at_ms: i64,
    /// What happened.
    pub kind: EventKind,
    /// Kind of caller; the name is in [`Who`].
    pub principal_kind: PrincipalKind,
    /// Who; stored apart.
    #[serde(skip)]
    pub who: Who,
    /// JSON-RPC method or administrative verb.
    pub method: String,
    /// Portal, when the call came through one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub portal: Option<PortalId>,
    /// Upstream server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerId>,
    /// Configuration version of the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_version: Option<String>,
    /// URL of the upstream server without its query, for servers that are called by HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_url: Option<String>,
    /// Original name or URI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Name the client used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exposed: Option<String>,
    /// Reviewed class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<ToolClass>,
    /// SHA-256 over the tool definition, lower-case hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<String>,
    /// SHA-256 over the argument bytes, lower-case hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments_digest: Option<String>,
    /// Decision.
    pub verdict: Verdict,
    /// Version of the resource snapshot that decided.
    #[serde(default)]
    pub policy_version: u64,
    /// Labels from inspection.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// Bytes of the request params and of the answer.
    #[serde(default)]
    pub request_bytes: u64,
    /// Bytes of the answer's result or error.
    #[serde(default)]
    pub response_bytes: u64,
    /// Microseconds from admission to answer.
    #[serde(default)]
    pub total_us: u64,
    /// Microseconds spent waiting for the upstream.
    #[serde(default)]
    pub upstream_us: u64,
    /// Whose authority went upstream: `none`, `bearer:server`, …; never a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_identity: Option<String>,
    /// Era of the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub era: Option<Era>,
    /// First 16 hex digits of SHA-256 over the session id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// First 16 hex digits of SHA-256 over the id of the grant behind the credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<String>,
    /// W3C trace id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// How it ended.
    pub outcome: Outcome,
    /// For an intent: the call's id. For a call: the id of its intent, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub related: Option<EventId>,
    /// A short remark for people (error kind, not message bodies).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// For a change of configuration: what it was and what it became, a JSON text of at most
    /// 64 KiB with secrets masked (L10).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<String>,
}

impl AuditEvent {
    /// An event with everything optional absent, verdict allowed and outcome ok.
    pub fn new(
        id: EventId,
        at_ms: i64,
        kind: EventKind,
        principal_kind: PrincipalKind,
        who: Who,
        method: impl Into<String>,
    ) -> Self {
        Self {
            id,
            at_ms,
            kind,
            principal_kind,
            who,
            method: method.into(),
            portal: None,
            server: None,
            server_version: None,
            server_url: None,
            target: None,
            exposed: None,
            class: None,
            pin: None,
            arguments_digest: None,
            verdict: Verdict::allowed(),
            policy_version: 0,
            labels: Vec::new(),
            request_bytes: 0,
            response_bytes: 0,
            total_us: 0,
            upstream_us: 0,
            upstream_identity: None,
            era: None,
            session: None,
            grant: None,
            trace_id: None,
            outcome: Outcome::Ok,
            related: None,
            note: None,
            change: None,
        }
    }
}
