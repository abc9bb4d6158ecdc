//! Which era a request belongs to (protocol reference 4.1).

use http::StatusCode;

use crate::RawJson;
use crate::error::{RpcError, codes};
use crate::revision::{MODERN_VERSIONS, Revision, looks_modern, modern_versions_json};

/// The session id of a request, looked up for this principal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    /// The request names no session.
    Absent,
    /// A running session of this principal.
    Known,
    /// No session, an ended one, or one of another principal.
    Unknown,
}

/// How a request is to be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detected {
    /// By itself, at this revision.
    Modern(Revision),
    /// It opens a legacy session.
    LegacyOpen,
    /// Within its legacy session.
    LegacySession,
}

impl Detected {
    /// The era.
    pub fn era(self) -> crate::Era {
        match self {
            Self::Modern(_) => crate::Era::Modern,
            Self::LegacyOpen | Self::LegacySession => crate::Era::Legacy,
        }
    }
}

/// Why a request belongs to no era.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{error}")]
pub struct EraError {
    /// HTTP status.
    pub status: StatusCode,
    /// JSON-RPC error for the body.
    pub error: RpcError,
}

fn refuse<T>(status: StatusCode, code: i64, message: impl Into<String>) -> Result<T, EraError> {
    Err(EraError { status, error: RpcError::new(code, message) })
}

/// The table of section 4.1, top to bottom. `meta_version` is the version in the
/// body's `_meta`, `header` the text of `MCP-Protocol-Version` (any text that is not a
/// version when the header is malformed or given twice).
///
/// # Errors
/// [`EraError`] with status and error of the row that applies.
pub fn detect(
    meta_version: Option<&str>,
    header: Option<&str>,
    method: &str,
    session: Session,
) -> Result<Detected, EraError> {
    let bad = StatusCode::BAD_REQUEST;
    if let Some(version) = meta_version {
        if header != Some(version) {
            let message = "MCP-Protocol-Version must equal the version in params._meta";
            return refuse(bad, codes::HEADER_MISMATCH, message);
        }
        return match Revision::parse(version).filter(|revision| MODERN_VERSIONS.contains(revision)) {
            Some(revision) => Ok(Detected::Modern(revision)),
            None => Err(EraError { status: bad, error: unsupported_version(version) }),
        };
    }
    match header {
        Some(text) if looks_modern(text) => {
            let message = "params._meta[\"io.modelcontextprotocol/protocolVersion\"] is required at this version";
            return refuse(bad, codes::INVALID_PARAMS, message);
        }
        Some(text) if Revision::parse(text).is_none() => {
            return refuse(bad, codes::INVALID_REQUEST, format!("unknown MCP-Protocol-Version; {}", spoken()));
        }
        _ => {}
    }
    match session {
        _ if method == "initialize" => Ok(Detected::LegacyOpen),
        Session::Known => Ok(Detected::LegacySession),
        Session::Unknown => refuse(StatusCode::NOT_FOUND, codes::INVALID_REQUEST, "session not found"),
        Session::Absent => refuse(
            bad,
            codes::INVALID_REQUEST,
            format!("open a session with initialize, or send the version in params._meta; {}", spoken()),
        ),
    }
}

/// "legacy versions …, modern versions …".
fn spoken() -> String {
    let of = |era| {
        let all = Revision::ALL.iter().filter(|revision| revision.era() == era);
        all.map(|revision| revision.as_str()).collect::<Vec<_>>().join(", ")
    };
    format!("served with a session: {}; without: {}", of(crate::Era::Legacy), of(crate::Era::Modern))
}

/// -32022: `supported` is the same list as discover's `supportedVersions`; the legacy
/// versions are only named in the message.
pub fn unsupported_version(requested: &str) -> RpcError {
    // Never echo more of a hostile text than a version can have.
    let requested: String = requested.chars().take(64).collect();
    let data = RawJson::object([("supported", &modern_versions_json()), ("requested", &RawJson::string(&requested))]);
    RpcError::new(codes::UNSUPPORTED_VERSION, format!("unsupported protocol version; {}", spoken())).with_data(data)
}
