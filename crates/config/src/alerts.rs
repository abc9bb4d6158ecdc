//! Alerts (feature row L14): rules on audit events, and where messages go.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Rules and destinations. Without a destination nothing is watched.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Alerts {
    /// Where messages go.
    pub destinations: Vec<Destination>,
    /// Own rules, beside the built-in ones.
    pub rules: Vec<AlertRule>,
    /// The built-in rules.
    pub built_in: BuiltIn,
}

/// Which built-in rules are used, and where they send.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BuiltIn {
    /// Built-in rules that are not used: `replayed_token`, `expired_credential`, `break_glass`, `kill_switch`,
    /// `export_lag`.
    pub off: Vec<String>,
    /// Ids of destinations; all when empty.
    pub to: Vec<String>,
}

/// Where messages go. Exactly one of `webhook`, `email` and `syslog` is set.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Destination {
    /// Name in rules: 1–64 characters, letters, digits, `-`, `_`.
    pub id: String,
    /// An HTTP endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
    /// People.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<Email>,
    /// A log collector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub syslog: Option<Syslog>,
}

/// An HTTP endpoint, called with POST and a JSON body, signed as Standard Webhooks has it.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Its URL.
    pub url: String,
    /// Key of the signature, `whsec_` and base64 of 24–64 bytes. `${env:NAME}` and `${file:PATH}` are resolved at load.
    pub secret: String,
}

/// E-mail through a relay.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Email {
    /// The relay: `smtps://HOST[:465]`, `smtp+starttls://HOST[:587]`, or `smtp://HOST[:25]` without encryption.
    pub server: String,
    /// Sender address.
    pub from: String,
    /// Receivers.
    pub to: Vec<String>,
    /// User name at the relay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Password at the relay. `${env:NAME}` and `${file:PATH}` are resolved at load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
}

/// A collector that takes RFC 5424.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Syslog {
    /// `tls://HOST[:6514]` (RFC 5425), or `tcp://HOST[:514]` without encryption.
    pub server: String,
}

/// A rule: so many events of a kind in a time, per cause.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AlertRule {
    /// Name: 1–64 characters, letters, digits, `-`, `_`.
    pub id: String,
    /// The events it is about. Every given member must fit.
    #[serde(rename = "match")]
    pub about: EventMatch,
    /// How many such events within the window make an alert. Default 1.
    #[serde(default = "one")]
    pub count: u32,
    /// The window, seconds. Default 300, at most 86,400.
    #[serde(default = "window")]
    pub window_s: u32,
    /// Members that tell causes apart; each cause has an alert of its own.
    #[serde(default)]
    pub group_by: Vec<EventField>,
    /// The alert is over when no such event came for so long, seconds. Default 3,600.
    #[serde(default = "quiet")]
    pub resolve_after_s: u32,
    /// Events that end the alert of the same cause at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolve_on: Option<EventMatch>,
    /// Ids of destinations; all when empty.
    #[serde(default)]
    pub to: Vec<String>,
}

fn one() -> u32 {
    1
}

fn window() -> u32 {
    300
}

fn quiet() -> u32 {
    3_600
}

/// What an event must be. A text is compared as it is; with `*` at its end, as a prefix.
/// Several texts: any of them.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EventMatch {
    /// `call`, `intent`, `list`, `auth`, `token`, `admin`, `system`.
    pub kind: Vec<String>,
    /// JSON-RPC method or administrative verb, e.g. `tools/call`, `auth/sign_in`.
    pub method: Vec<String>,
    /// Refusal code.
    pub code: Vec<String>,
    /// `ok`, `tool_error`, `rpc_error`, `refused`, `unknown`, `cancelled`.
    pub outcome: Vec<String>,
    /// Caller, e.g. `user:ana@corp.example`.
    pub principal: Vec<String>,
    /// Portal id.
    pub portal: Vec<String>,
    /// Server id.
    pub server: Vec<String>,
    /// Original tool name or URI.
    pub target: Vec<String>,
    /// Client as it names itself; for sign-in the OAuth client.
    pub client: Vec<String>,
    /// Remark of the event.
    pub note: Vec<String>,
    /// Allowed or refused.
    pub allow: Option<bool>,
}

/// A member of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventField {
    /// Kind of event.
    Kind,
    /// Method or verb.
    Method,
    /// Refusal code.
    Code,
    /// Caller.
    Principal,
    /// Portal id.
    Portal,
    /// Server id.
    Server,
    /// Original tool name or URI.
    Target,
    /// Client.
    Client,
}
