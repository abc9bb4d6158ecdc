//! What is asked and what is answered.

use std::net::IpAddr;
use std::sync::Arc;

use bartizan_model::{Era, PortalId, Principal, ReasonCode, ServerId, ToolClass};

use crate::approval::Approval;
use crate::need::Need;
use crate::session::SessionFacts;

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
    /// What sign-in and connection prove; of what is not known no attribute exists.
    pub session: Option<SessionFacts<'a>>,
    /// Now, milliseconds since the epoch; decides which grants have expired.
    pub now_ms: i64,
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
    /// True when other arguments or a second factor could have led to another answer, so the
    /// answer must not be kept for calls.
    pub uses_args: bool,
    /// What the person can add so that the call would be allowed; nothing else is missing.
    pub need: Option<Need>,
    /// Who must say yes before the request goes on, all of them; only where it is allowed.
    pub approvals: Vec<Arc<Approval>>,
}

impl Decision {
    pub(crate) fn allowed(rule: Option<Arc<str>>) -> Self {
        Self { allow: true, code: None, rule, uses_args: false, need: None, approvals: Vec::new() }
    }

    /// A refusal that nothing can change.
    pub fn refused(code: ReasonCode, rule: Option<Arc<str>>) -> Self {
        Self { allow: false, code: Some(code), rule, uses_args: false, need: None, approvals: Vec::new() }
    }
}
