//! Stable refusal codes (features section 1.2).

use serde::{Deserialize, Serialize};

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal),+ $(,)?) => {
        /// Why a call was refused. The text is stable: it is on the wire, in audit
        /// events, in metrics and in `bartizan explain-code`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum ReasonCode {
            $($(#[$doc])* #[serde(rename = $text)] $name),+
        }

        impl ReasonCode {
            /// Every code, in the order of the contract.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The stable text.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }

            /// The code of a text.
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$name),)+ _ => None }
            }
        }
    };
}

reasons! {
    /// No, wrong, expired or foreign token.
    Unauthenticated = "unauthenticated",
    /// The token lacks a scope.
    InsufficientScope = "insufficient_scope",
    /// The upstream wants the user's own login first.
    LoginRequired = "login_required",
    /// Stronger or fresher authentication is needed.
    StepUpRequired = "step_up_required",
    /// A purpose must be stated.
    PurposeRequired = "purpose_required",
    /// A policy forbids this call.
    PolicyDenied = "policy_denied",
    /// The tool is not class `read` and nothing grants it.
    WriteNotGranted = "write_not_granted",
    /// The session is read-only.
    ReadOnlyMode = "read_only_mode",
    /// A kill switch is on.
    Killed = "killed",
    /// A human has to approve first.
    ApprovalRequired = "approval_required",
    /// A human said no.
    ApprovalRejected = "approval_rejected",
    /// Nobody answered in time.
    ApprovalExpired = "approval_expired",
    /// The arguments are not acceptable.
    ArgumentRefused = "argument_refused",
    /// Protected data was found.
    DlpBlocked = "dlp_blocked",
    /// An injection was found.
    InjectionBlocked = "injection_blocked",
    /// Data may not flow there.
    FlowBlocked = "flow_blocked",
    /// Too many calls.
    RateLimited = "rate_limited",
    /// The budget is used up.
    BudgetExceeded = "budget_exceeded",
    /// A message is over its size limit.
    TooLarge = "too_large",
    /// The upstream server cannot be reached or answered nonsense.
    UpstreamUnavailable = "upstream_unavailable",
    /// The upstream server did not answer in time.
    UpstreamTimeout = "upstream_timeout",
    /// The upstream server refused bartizan's credential.
    UpstreamAuthFailed = "upstream_auth_failed",
    /// A script ran out of time.
    SandboxTimeout = "sandbox_timeout",
    /// A script ran out of memory.
    SandboxMemory = "sandbox_memory",
    /// A script made too many calls.
    SandboxCalls = "sandbox_calls",
    /// A script tried something forbidden.
    SandboxForbidden = "sandbox_forbidden",
    /// The audit record cannot be written, so nothing is forwarded (L9).
    AuditUnavailable = "audit_unavailable",
}
