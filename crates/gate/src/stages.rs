//! The stages, one file each. A stage is an async function over one
//! [`Exchange`](crate::exchange::Exchange) that lets the call go on or rejects it.

pub(crate) mod added;
pub(crate) mod approve;
pub(crate) mod authorize;
pub(crate) mod credential;
pub(crate) mod forward;
pub(crate) mod intend;
pub(crate) mod limit;
pub(crate) mod page;
pub(crate) mod record;
pub(crate) mod route;
pub(crate) mod state;

/// The stages by name, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Exposed name → server and original name.
    Route,
    /// Kill switch, server status.
    State,
    /// Rates, concurrency, bytes.
    Limit,
    /// Policies with arguments.
    Authorize,
    /// Somebody else has a say.
    Approve,
    /// Whose authority goes upstream.
    Credential,
    /// Durable intent.
    Intend,
    /// Upstream and back.
    Forward,
    /// The audit event.
    Record,
}

impl Stage {
    /// All stages in order.
    pub const ALL: [Self; 9] = [
        Self::Route,
        Self::State,
        Self::Limit,
        Self::Authorize,
        Self::Approve,
        Self::Credential,
        Self::Intend,
        Self::Forward,
        Self::Record,
    ];

    /// The name in audit events and explanations.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Route => "route",
            Self::State => "state",
            Self::Limit => "limit",
            Self::Authorize => "authorize",
            Self::Approve => "approve",
            Self::Credential => "credential",
            Self::Intend => "intend",
            Self::Forward => "forward",
            Self::Record => "record",
        }
    }
}
