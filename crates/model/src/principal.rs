//! Who calls.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// What kind of caller a principal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PrincipalKind {
    /// A person.
    User,
    /// A service token (A11).
    Service,
    /// Nobody in particular: only public servers (G7).
    Anonymous,
}

impl PrincipalKind {
    /// `user`, `service` or `anonymous`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Service => "service",
            Self::Anonymous => "anonymous",
        }
    }
}

/// An authenticated caller. Two principals are the same iff `key()` is the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Principal {
    /// Kind of caller.
    pub kind: PrincipalKind,
    /// Stable id within the kind: a user name or e-mail, a service token id, `anonymous`.
    pub id: Arc<str>,
    /// Group names, sorted and unique.
    pub groups: Arc<[Arc<str>]>,
    /// `kind:id`, computed once because every cache is keyed by it.
    key: Arc<str>,
}

impl Principal {
    /// Builds a principal; sorts and deduplicates the groups.
    pub fn new(kind: PrincipalKind, id: impl Into<Arc<str>>, groups: impl IntoIterator<Item = Arc<str>>) -> Self {
        let id = id.into();
        let mut groups: Vec<Arc<str>> = groups.into_iter().collect();
        groups.sort();
        groups.dedup();
        let key = format!("{}:{id}", kind.as_str()).into();
        Self { kind, id, groups: groups.into(), key }
    }

    /// The caller of public servers.
    pub fn anonymous() -> Self {
        Self::new(PrincipalKind::Anonymous, "anonymous", [])
    }

    /// `user:alice`, `service:ci`, `anonymous:anonymous`: the name in policies, caches and audit events.
    pub fn key(&self) -> &Arc<str> {
        &self.key
    }
}
