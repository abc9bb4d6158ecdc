//! What is asked and what is answered.

use std::net::IpAddr;
use std::sync::Arc;

use bartizan_model::{Era, PortalId, Principal, ReasonCode, ServerId, ToolClass};

/// What a principal wants to do. In Cedar: `Action::"call_tool"` and so on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// See a portal; the resource is a `Portal`.
    UsePortal,
    /// See a server; the resource is a `Server`.
    UseServer,
    /// List or call a tool; the resource is a `Tool`.
    CallTool,
    /// List or get a prompt; the resource is a `Prompt`.
    GetPrompt,
    /// List or read a resource; the resource is a `Resource`.
    ReadResource,
    /// Complete an argument of a prompt or template; the resource is a `Server`.
    Complete,
    /// Any other relayed request; the resource is a `Server`.
    Other,
}

impl Action {
    /// All actions.
    pub const ALL: [Self; 7] = [
        Self::UsePortal,
        Self::UseServer,
        Self::CallTool,
        Self::GetPrompt,
        Self::ReadResource,
        Self::Complete,
        Self::Other,
    ];

    /// The id in Cedar text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UsePortal => "use_portal",
            Self::UseServer => "use_server",
            Self::CallTool => "call_tool",
            Self::GetPrompt => "get_prompt",
            Self::ReadResource => "read_resource",
            Self::Complete => "complete",
            Self::Other => "other",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str() == text)
    }

    pub(crate) fn bit(self) -> u8 {
        1 << self.slot()
    }

    pub(crate) fn slot(self) -> usize {
        self as usize
    }

    /// Whether `context.args` exists.
    pub(crate) fn has_args(self) -> bool {
        matches!(self, Self::CallTool | Self::GetPrompt)
    }
}

/// Circumstances of a request.
#[derive(Clone, Debug)]
pub struct RequestContext<'a> {
    /// Era of the client.
    pub era: Era,
    /// Peer address. Rules about addresses fail closed without one.
    pub ip: Option<IpAddr>,
    /// Client name as the client gave it; never trusted for an allow by itself.
    pub client: Option<&'a str>,
    /// Client version as the client gave it; trusted no more than the name.
    pub client_version: Option<&'a str>,
    /// What the sign-in told; `None` without one, and then none of its attributes exists.
    pub session: Option<&'a SessionFacts>,
    /// Now, milliseconds since the epoch; decides which grants have expired.
    pub now_ms: i64,
}

/// What a sign-in tells about the caller's session. Each is an optional member of
/// Cedar's `context`, absent when it is not known. Groups are the principal's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SessionFacts {
    /// When the user last proved a second factor, milliseconds since the epoch;
    /// `context.mfa_age` is the age in whole seconds.
    pub mfa_at_ms: Option<i64>,
    /// Authentication context class (`acr`, OpenID Connect Core §2); `context.acr`.
    pub acr: Option<Arc<str>>,
    /// Id or posture tag of the device; `context.device`.
    pub device: Option<Arc<str>>,
    /// ISO 3166-1 alpha-2, upper case; `context.country`.
    pub country: Option<Arc<str>>,
    /// What the user said the access is for (A16); `context.purpose`.
    pub purpose: Option<Arc<str>>,
}

/// How far another machine's clock may be ahead, milliseconds.
const SKEW_MS: i64 = 60_000;

impl SessionFacts {
    /// Seconds since the second factor. A time in the future, beyond what clocks differ,
    /// is no proof of anything.
    pub(crate) fn mfa_age_s(&self, now_ms: i64) -> Option<i64> {
        let age = now_ms.checked_sub(self.mfa_at_ms?)?;
        (age >= -SKEW_MS).then(|| age.max(0) / 1_000)
    }
}

/// One question.
#[derive(Clone, Debug)]
pub struct Query<'a> {
    /// Who asks.
    pub principal: &'a Principal,
    /// What for.
    pub action: Action,
    /// The portal the request came through; `None` on an endpoint of a single server.
    pub portal: Option<&'a PortalId>,
    /// The server; only [`Action::UsePortal`] goes without.
    pub server: Option<&'a ServerId>,
    /// Original name of the tool or prompt, or the URI; empty for other actions.
    pub name: &'a str,
    /// Reviewed class. Prompts, resources and completions are `read`.
    pub class: ToolClass,
    /// Circumstances.
    pub context: &'a RequestContext<'a>,
    /// The arguments as JSON text, as the client sent them; `None` is an empty object.
    pub args: Option<&'a str>,
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether the request may go on.
    pub allow: bool,
    /// Why not.
    pub code: Option<ReasonCode>,
    /// The rule that decided, for audit events and explanations.
    pub rule: Option<Arc<str>>,
    /// True when other arguments could have led to another answer, so the answer must not be kept.
    pub uses_args: bool,
}

impl Decision {
    pub(crate) fn allowed(rule: Option<Arc<str>>) -> Self {
        Self { allow: true, code: None, rule, uses_args: false }
    }

    pub(crate) fn refused(code: ReasonCode, rule: Option<Arc<str>>) -> Self {
        Self { allow: false, code: Some(code), rule, uses_args: false }
    }
}
