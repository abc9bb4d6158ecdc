//! What can go wrong on the way out.

use crate::rules::Rule;

/// Why an outgoing request failed. Texts name hosts, never header values or bodies.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EgressError {
    /// The settings cannot be used.
    #[error("egress settings: {0}")]
    Config(String),
    /// Not an acceptable target URL.
    #[error("URL refused: {0}")]
    Url(&'static str),
    /// An address rule forbids the target (O9).
    #[error("address of `{host}` is blocked ({rule}); list it in egress.private_allow to allow it")]
    Blocked {
        /// The rule.
        rule: Rule,
        /// Host of the URL.
        host: String,
    },
    /// The name has no usable address.
    #[error("name lookup of `{host}` failed: {why}")]
    Dns {
        /// Host of the URL.
        host: String,
        /// Resolver's words.
        why: String,
    },
    /// No address accepted the connection, or the proxy refused.
    #[error("connect to `{host}` failed: {why}")]
    Connect {
        /// Host of the URL.
        host: String,
        /// System's words.
        why: String,
    },
    /// TLS handshake or certificate.
    #[error("TLS with `{host}` failed: {why}")]
    Tls {
        /// Host of the URL.
        host: String,
        /// TLS library's words.
        why: String,
    },
    /// Connecting took too long.
    #[error("connect to `{host}` timed out")]
    ConnectTimeout {
        /// Host of the URL.
        host: String,
    },
    /// The connection broke after the request was (perhaps) sent.
    #[error("connection to `{host}` broke: {why}")]
    Io {
        /// Host of the URL.
        host: String,
        /// HTTP library's words.
        why: String,
    },
    /// The body is longer than the caller allows.
    #[error("body is over {limit} bytes")]
    TooLarge {
        /// The caller's limit in bytes.
        limit: usize,
    },
    /// A redirect that is not followed.
    #[error("redirect refused: {0}")]
    Redirect(&'static str),
}

impl EgressError {
    /// True when the request certainly never left: it may be repeated without harm.
    pub fn unsent(&self) -> bool {
        !matches!(self, Self::Io { .. } | Self::TooLarge { .. } | Self::Redirect(_))
    }
}
