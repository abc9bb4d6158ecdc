//! Who has which role in the administration (A24).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// For each role, who has it: `user:NAME`, `group:NAME`, `service:ID` or `agent:ID`. Nobody by default;
/// everybody who is signed in is an employee.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Roles {
    /// May do everything but read the bodies of calls.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub owner: Vec<String>,
    /// Catalogue, definitions, policies, approval of servers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub governance: Vec<String>,
    /// Findings, kill switches, revocation, alerts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub security: Vec<String>,
    /// Reads the record and, alone, the bodies of calls.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub auditor: Vec<String>,
    /// Health and synchronisation of servers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub operator: Vec<String>,
    /// Asks for servers, and sees those of their own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub author: Vec<String>,
}

impl Roles {
    /// Whether nobody has any role.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
