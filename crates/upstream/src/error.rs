//! Why an upstream server did not do what was asked.

use bartizan_egress::EgressError;
use bartizan_model::ReasonCode;
use bartizan_wire::RawJson;

/// A failed exchange with an upstream server. Texts never hold credentials or bodies.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpstreamError {
    /// It cannot be reached, broke off, or answered with HTTP 5xx.
    #[error("unavailable: {why}")]
    Unavailable {
        /// What happened.
        why: String,
        /// Seconds after which a repeat may succeed, when known.
        retry_after_s: Option<u64>,
    },
    /// It answered, and refused this request: HTTP 4xx or 3xx, or a JSON-RPC error to bartizan's
    /// own. Whoever asks can bring that about, so it is no sign of a server that is down.
    #[error("refused the request: {why}")]
    Refused {
        /// What it said.
        why: String,
        /// Seconds after which a repeat may succeed, when known.
        retry_after_s: Option<u64>,
    },
    /// The asker, or all together, hold as many sessions or places here as they may. Nothing was sent.
    #[error("busy: {why}")]
    Crowded {
        /// Which bound it is.
        why: &'static str,
    },
    /// It did not answer in time.
    #[error("no answer in time")]
    Timeout,
    /// It refused bartizan's credential (401 or 403).
    #[error("refused the credential (HTTP {status})")]
    Auth {
        /// HTTP status.
        status: u16,
        /// `WWW-Authenticate`, as received.
        challenge: Option<String>,
    },
    /// A body, event or line is over its limit.
    #[error("answer is over the size limit")]
    TooLarge,
    /// It failed so often that it is left alone for a while (P32).
    #[error("circuit open after repeated failures")]
    CircuitOpen {
        /// Seconds until the next attempt.
        retry_after_s: u64,
    },
    /// An egress rule forbids its address (O9).
    #[error("blocked: {why}")]
    Blocked {
        /// The rule's words.
        why: String,
    },
    /// It broke the protocol.
    #[error("broke the protocol: {why}")]
    Protocol {
        /// How.
        why: String,
    },
    /// Its session ended; whether the call was executed is unknown, so it was not repeated.
    #[error("the upstream session ended; the call was not repeated because it may have been executed")]
    SessionLost,
    /// It asked the client for something the client did not declare (-32021 towards a modern client).
    #[error("needs a client capability that was not declared")]
    MissingCapability {
        /// Shaped like ClientCapabilities, e.g. `{"sampling":{}}`.
        required: RawJson,
    },
}

impl UpstreamError {
    /// The refusal code of features section 1.2.
    pub fn code(&self) -> ReasonCode {
        match self {
            Self::Timeout => ReasonCode::UpstreamTimeout,
            Self::Auth { .. } => ReasonCode::UpstreamAuthFailed,
            Self::TooLarge => ReasonCode::TooLarge,
            Self::Crowded { .. } => ReasonCode::RateLimited,
            Self::Unavailable { .. }
            | Self::Refused { .. }
            | Self::CircuitOpen { .. }
            | Self::Blocked { .. }
            | Self::Protocol { .. }
            | Self::SessionLost
            | Self::MissingCapability { .. } => ReasonCode::UpstreamUnavailable,
        }
    }

    /// One sentence for the audit record and for people; no secrets.
    pub fn note(&self) -> String {
        self.to_string()
    }

    /// Seconds after which a repeat may succeed, when known.
    pub fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::Unavailable { retry_after_s, .. } | Self::Refused { retry_after_s, .. } => *retry_after_s,
            Self::Crowded { .. } => Some(1),
            Self::CircuitOpen { retry_after_s } => Some(*retry_after_s),
            _ => None,
        }
    }

    pub(crate) fn unavailable(why: impl Into<String>) -> Self {
        Self::Unavailable { why: why.into(), retry_after_s: None }
    }

    pub(crate) fn refused(why: impl Into<String>) -> Self {
        Self::Refused { why: why.into(), retry_after_s: None }
    }

    pub(crate) fn protocol(why: impl Into<String>) -> Self {
        Self::Protocol { why: why.into() }
    }

    /// True when the server itself failed: it could not be reached, broke off, was silent or
    /// answered 5xx. An answer of any other kind may be the doing of one client, which must
    /// not close the server to the others.
    pub(crate) fn counts_as_failure(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Timeout)
    }
}

impl From<EgressError> for UpstreamError {
    fn from(error: EgressError) -> Self {
        match error {
            EgressError::TooLarge { .. } => Self::TooLarge,
            EgressError::Blocked { .. } | EgressError::Url(_) | EgressError::Redirect(_) => {
                Self::Blocked { why: error.to_string() }
            }
            other => Self::unavailable(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p32_codes_of_errors() {
        assert_eq!(UpstreamError::Timeout.code(), ReasonCode::UpstreamTimeout);
        assert_eq!(UpstreamError::Auth { status: 401, challenge: None }.code(), ReasonCode::UpstreamAuthFailed);
        assert_eq!(UpstreamError::TooLarge.code(), ReasonCode::TooLarge);
        assert_eq!(UpstreamError::SessionLost.code(), ReasonCode::UpstreamUnavailable);
        assert_eq!(UpstreamError::CircuitOpen { retry_after_s: 7 }.retry_after_s(), Some(7));
    }

    #[test]
    fn p32_refusals_are_no_failures() {
        for error in [
            UpstreamError::Auth { status: 401, challenge: None },
            UpstreamError::TooLarge,
            UpstreamError::SessionLost,
            UpstreamError::Blocked { why: String::new() },
            UpstreamError::refused("HTTP 400"),
            UpstreamError::protocol("an odd answer"),
            UpstreamError::Crowded { why: "full" },
            UpstreamError::CircuitOpen { retry_after_s: 1 },
        ] {
            assert!(!error.counts_as_failure(), "{error}");
        }
        assert!(UpstreamError::Timeout.counts_as_failure());
    }
}
