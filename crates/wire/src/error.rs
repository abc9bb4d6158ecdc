//! JSON-RPC errors and what goes wrong with an envelope.

use http::StatusCode;

use crate::id::RequestId;
use crate::raw::{JsonError, RawJson};
use crate::splice;

/// Error codes (JSON-RPC 2.0 section 5.1; MCP protocol reference 3.6).
pub mod codes {
    /// Not JSON.
    pub const PARSE_ERROR: i64 = -32700;
    /// Not a request.
    pub const INVALID_REQUEST: i64 = -32600;
    /// Unknown method.
    pub const METHOD_NOT_FOUND: i64 = -32601;
    /// Wrong parameters; in the modern era also "resource not found" with `data.uri`.
    pub const INVALID_PARAMS: i64 = -32602;
    /// Anything else.
    pub const INTERNAL_ERROR: i64 = -32603;
    /// Modern: a header is missing, malformed or differs from the body.
    pub const HEADER_MISMATCH: i64 = -32020;
    /// Modern: `data.requiredCapabilities` were not declared by the client.
    pub const MISSING_CLIENT_CAPABILITY: i64 = -32021;
    /// Modern: `data.supported` and `data.requested`.
    pub const UNSUPPORTED_VERSION: i64 = -32022;
    /// Legacy only: resource not found.
    pub const RESOURCE_NOT_FOUND: i64 = -32002;
    /// 2025-11-25 only: `data.elicitations`.
    pub const URL_ELICITATION_REQUIRED: i64 = -32042;
}

/// The HTTP status of a modern error response for failures of an accepted request
/// (protocol reference 3.5): 400 for protocol errors, 404 for unknown methods, else 200.
/// Legacy responses to requests of a session are always 200. An error in the envelope,
/// in `_meta` or in a header is 400 whatever its code.
pub fn modern_status(code: i64) -> StatusCode {
    match code {
        codes::PARSE_ERROR
        | codes::INVALID_REQUEST
        | codes::HEADER_MISMATCH
        | codes::MISSING_CLIENT_CAPABILITY
        | codes::UNSUPPORTED_VERSION => StatusCode::BAD_REQUEST,
        codes::METHOD_NOT_FOUND => StatusCode::NOT_FOUND,
        _ => StatusCode::OK,
    }
}

/// The error object of a response.
#[derive(Clone, Debug)]
pub struct RpcError {
    /// Code, see [`codes`].
    pub code: i64,
    /// One sentence for people.
    pub message: String,
    /// Anything more.
    pub data: Option<RawJson>,
    /// The object as received, with members nobody here knows.
    raw: Option<RawJson>,
}

impl RpcError {
    /// An error of our own.
    pub fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None, raw: None }
    }

    /// The same with data.
    #[must_use]
    pub fn with_data(mut self, data: RawJson) -> Self {
        self.data = Some(data);
        self
    }

    /// Reads a received error object. Never fails: what is missing or of the wrong
    /// type counts as -32603 and an empty message, and the bytes are kept anyway.
    pub fn from_raw(raw: &RawJson) -> Self {
        let code = raw.get("code").and_then(|code| code.as_i64()).unwrap_or(codes::INTERNAL_ERROR);
        let message = raw.get("message");
        let message = message.as_ref().and_then(RawJson::as_string).map(String::from).unwrap_or_default();
        Self { code, message, data: raw.get("data"), raw: Some(raw.clone()) }
    }

    /// -32601 for a method that is unknown, or of a capability not advertised.
    pub fn method_not_found(method: &str) -> Self {
        let method: String = method.chars().take(128).collect();
        Self::new(codes::METHOD_NOT_FOUND, format!("Method not found: {method}"))
    }

    /// The error object: as received where nothing was changed, else with the changed
    /// members replaced and the unknown ones kept.
    pub fn to_raw(&self) -> RawJson {
        let (code, message) = (RawJson::int(self.code), RawJson::string(&self.message));
        let Some(raw) = self.raw.as_ref().filter(|raw| raw.is_object()) else {
            let mut members = vec![("code", &code), ("message", &message)];
            members.extend(self.data.as_ref().map(|data| ("data", data)));
            return RawJson::object(members);
        };
        let old = Self::from_raw(raw);
        let mut edits = Vec::new();
        if old.code != self.code {
            edits.push(("code", Some(&code)));
        }
        if old.message != self.message {
            edits.push(("message", Some(&message)));
        }
        if old.data != self.data {
            edits.push(("data", self.data.as_ref()));
        }
        splice::edit(raw, &edits)
    }
}

impl PartialEq for RpcError {
    fn eq(&self, other: &Self) -> bool {
        self.code == other.code && self.message == other.message && self.data == other.data
    }
}

impl std::fmt::Display for RpcError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (code {})", self.message, self.code)
    }
}

impl std::error::Error for RpcError {}

/// What is wrong with an envelope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeProblem {
    /// Not JSON at all.
    #[error("the body is {0}")]
    Json(JsonError),
    /// An array where one message was expected.
    #[error("batches are only part of revision 2025-03-26")]
    Batch,
    /// An array without messages.
    #[error("the batch is empty")]
    EmptyBatch,
    /// An array of too many messages.
    #[error("the batch has more than {0} messages")]
    LongBatch(usize),
    /// Neither an object nor an array.
    #[error("the message is not an object")]
    NotAnObject,
    /// Two members of one name, or one that differs from a defined name only in case.
    #[error("ambiguous member name in the message")]
    Ambiguous,
    /// No `"jsonrpc":"2.0"`.
    #[error("`jsonrpc` must be \"2.0\"")]
    Version,
    /// `id` is `null`, a fraction, too long, or of the wrong type.
    #[error("`id` must be a string or an integer")]
    Id,
    /// `method` is not a string.
    #[error("`method` must be a string")]
    Method,
    /// The members fit none of request, notification, response, error.
    #[error("the message is neither request, notification nor response")]
    Shape,
}

/// A message that cannot be accepted: HTTP 400 with a JSON-RPC error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct EnvelopeError {
    /// What is wrong.
    pub problem: EnvelopeProblem,
    /// The request id, when it could be read and is not itself ambiguous.
    pub id: Option<RequestId>,
}

impl EnvelopeError {
    pub(crate) fn new(problem: EnvelopeProblem) -> Self {
        Self { problem, id: None }
    }

    /// -32700 for what is not JSON, else -32600.
    pub fn code(&self) -> i64 {
        match self.problem {
            EnvelopeProblem::Json(JsonError::Utf8 | JsonError::Syntax(_)) => codes::PARSE_ERROR,
            _ => codes::INVALID_REQUEST,
        }
    }

    /// Always 400.
    pub fn status(&self) -> StatusCode {
        StatusCode::BAD_REQUEST
    }

    /// The request id, if it could be read.
    pub fn id(&self) -> Option<&RequestId> {
        self.id.as_ref()
    }

    /// True when the body is an array, which a session of revision 2025-03-26 may
    /// send: then use [`crate::Message::parse_batch`].
    pub fn is_batch(&self) -> bool {
        self.problem == EnvelopeProblem::Batch
    }

    /// The error object to answer with.
    pub fn to_rpc(&self) -> RpcError {
        RpcError::new(self.code(), self.problem.to_string())
    }
}
