//! What is worth an audit event. Never a secret, never a token.

use std::net::IpAddr;
use std::sync::Arc;

/// Takes events, in the order of their happening; must not block.
pub type Recorder = Arc<dyn Fn(IdentityEvent) + Send + Sync>;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Somebody signed in, or tried to.
    SignIn,
    /// Somebody ended the browser session.
    SignOut,
    /// Somebody used the break-glass account, or tried to.
    BreakGlass,
    /// A client's authorization request was refused.
    Authorize,
    /// A person answered a consent page.
    Consent,
    /// A client registered itself.
    Register,
    /// A token was issued or refused.
    Token,
    /// A code or refresh token was used twice: the grant is revoked.
    Replay,
    /// A grant, client approval or token was withdrawn.
    Revoke,
    /// Somebody opened a link for more (A16, A17): `note` says what for.
    StepUp,
    /// The company's directory made or changed a user or a group (A14).
    Provision,
    /// A person may not sign in any more; everything of theirs ended.
    Deactivate,
    /// A deactivated person may sign in again.
    Reactivate,
    /// A person was removed.
    Delete,
    /// Somebody connected an account at an upstream server, or tried to. `client` is the
    /// server, `provider` its authorization server.
    Connect,
    /// Such an account is gone: taken back, or over (`note`).
    Disconnect,
}

impl Action {
    /// The word in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SignIn => "sign_in",
            Self::SignOut => "sign_out",
            Self::BreakGlass => "break_glass",
            Self::Authorize => "authorize",
            Self::Consent => "consent",
            Self::Register => "register",
            Self::Token => "token",
            Self::Replay => "replay",
            Self::Revoke => "revoke",
            Self::StepUp => "step_up",
            Self::Provision => "provision",
            Self::Deactivate => "deactivate",
            Self::Reactivate => "reactivate",
            Self::Delete => "delete",
            Self::Connect => "connect",
            Self::Disconnect => "disconnect",
        }
    }
}

/// One event for the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityEvent {
    /// When, milliseconds since the epoch.
    pub at_ms: i64,
    /// What.
    pub action: Action,
    /// False for a refusal.
    pub ok: bool,
    /// E-mail address of the person, as far as it is known.
    pub person: Option<String>,
    /// Groups of the person.
    pub groups: Vec<String>,
    /// The OAuth client; of a refusal, who it said to be.
    pub client: Option<String>,
    /// The identity provider.
    pub provider: Option<String>,
    /// Where the request came from, as far as that is known.
    pub ip: Option<IpAddr>,
    /// Stable word for the reason of a refusal, or a remark.
    pub note: Option<String>,
}

impl IdentityEvent {
    /// An event about nobody in particular.
    pub fn new(at_ms: i64, action: Action, ok: bool) -> Self {
        Self { at_ms, action, ok, person: None, groups: Vec::new(), client: None, provider: None, ip: None, note: None }
    }
}
