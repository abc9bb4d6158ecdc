//! What a portal shows of its servers: its own words on single entries, and bundles that
//! several portals share (feature rows P2, P42). A portal only narrows what a server has
//! on; it switches nothing on that the server has off.

use bartizan_model::ServerId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What one portal says of one tool or prompt. What is absent is as the server says.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PortalCuration {
    /// Server of the entry; it must be one of the portal.
    #[schemars(with = "crate::schema::IdText")]
    pub server: ServerId,
    /// Original name.
    pub name: String,
    /// `false`: not in this portal. `true`: also when no bundle of the portal names it, for everybody who
    /// may use the portal. What the server has off stays off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Exposed name in this portal; goes before the server's alias (P42).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// Description in this portal; goes before the server's override (P42).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// A named set of tools that several portals include under `bundles` (P2). It narrows what a portal
/// shows and allows nothing: policies and grants decide as everywhere. A server's own endpoint knows no
/// bundles.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// Id.
    pub id: String,
    /// Name for people, at most 350 characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Only members of one of these groups see something through the bundle. Absent = whoever may use
    /// the portal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<String>>,
    /// What is in it.
    #[serde(default)]
    pub tools: Vec<BundleEntry>,
}

/// What a bundle takes from one server.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BundleEntry {
    /// The server.
    #[schemars(with = "crate::schema::IdText")]
    pub server: ServerId,
    /// Original names of tools.
    #[serde(default)]
    pub tools: Vec<String>,
    /// Original names of prompts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prompts: Vec<String>,
    /// Also the resources and templates that the server has on. Default `false`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resources: bool,
}
