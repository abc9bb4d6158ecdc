//! MCP headers: they must say what the body says (protocol reference 3.2).

mod param;
mod value;

pub use param::{InvalidAnnotation, ParamHeader, check_params, forwarded, param_headers, param_values};
pub use value::{ValueError, decode_value, encode_value, header_value};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::error::{RpcError, codes};
use crate::message::{Kind, Message};
use crate::method;
use crate::params::Params;
use crate::raw::RawJson;
use crate::revision::Revision;

/// `MCP-Protocol-Version`
pub const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
/// `Mcp-Method`
pub const METHOD: HeaderName = HeaderName::from_static("mcp-method");
/// `Mcp-Name`
pub const NAME: HeaderName = HeaderName::from_static("mcp-name");
/// `Mcp-Session-Id`
pub const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
/// `Last-Event-ID`
pub const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// What the names of `Mcp-Param-*` begin with.
pub const PARAM_PREFIX: &str = "mcp-param-";

/// A header does not say what the body says: HTTP 400 and -32020.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("header {header} {problem}")]
pub struct HeaderMismatch {
    /// Name of the header.
    pub header: String,
    /// What is wrong with it.
    pub problem: HeaderProblem,
}

/// What is wrong with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderProblem {
    /// Required by the body, and not there.
    #[error("is missing")]
    Missing,
    /// There more than once.
    #[error("is given more than once")]
    Twice,
    /// Not decodable.
    #[error("is malformed")]
    Malformed,
    /// Says something else than the body.
    #[error("differs from the body")]
    Different,
}

impl HeaderMismatch {
    pub(crate) fn new(header: &HeaderName, problem: HeaderProblem) -> Self {
        Self { header: header.as_str().to_owned(), problem }
    }

    /// Always 400.
    pub fn status(&self) -> StatusCode {
        StatusCode::BAD_REQUEST
    }

    /// The error object to answer with.
    pub fn to_rpc(&self) -> RpcError {
        RpcError::new(codes::HEADER_MISMATCH, self.to_string())
    }
}

/// The one value of a header; giving it twice is an error, since two readers may pick
/// different ones.
pub(crate) fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h HeaderValue>, HeaderMismatch> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(HeaderMismatch::new(name, HeaderProblem::Twice));
    }
    Ok(first)
}

/// The text of `MCP-Protocol-Version` for [`crate::era::detect`]: empty, so no version,
/// when it is malformed or given twice.
pub fn protocol_version(headers: &HeaderMap) -> Option<&str> {
    match single(headers, &PROTOCOL_VERSION) {
        Ok(value) => value.map(|value| value.to_str().unwrap_or("").trim()),
        Err(_) => Some(""),
    }
}

/// Checks the headers of a modern message against its body, before any policy reads
/// either: `MCP-Protocol-Version`, `Mcp-Method` and, where the method has one,
/// `Mcp-Name`. A notification may leave out `Mcp-Method`; a wrong one is refused.
/// `Mcp-Param-*` need the tool's schema: [`check_params`].
///
/// # Errors
/// [`HeaderMismatch`].
pub fn check(headers: &HeaderMap, message: &Message, params: &Params) -> Result<(), HeaderMismatch> {
    let fail = |name: &HeaderName, problem| Err(HeaderMismatch::new(name, problem));
    let version = single(headers, &PROTOCOL_VERSION)?;
    match (version, params.protocol_version()) {
        (None, _) => return fail(&PROTOCOL_VERSION, HeaderProblem::Missing),
        (Some(header), Some(body)) if header.as_bytes().trim_ascii() != body.as_bytes() => {
            return fail(&PROTOCOL_VERSION, HeaderProblem::Different);
        }
        _ => {}
    }
    let Some(method) = message.method() else { return Ok(()) };
    match single(headers, &METHOD)? {
        Some(value) if value.as_bytes().trim_ascii() == method.as_bytes() => {}
        // Method names are sent as they are; one that needs coding is compared decoded.
        Some(value) if decode_value(value.as_bytes()).is_ok_and(|text| text == method) => {}
        Some(_) => return fail(&METHOD, HeaderProblem::Different),
        None if message.kind() == Kind::Request => return fail(&METHOD, HeaderProblem::Missing),
        None => {}
    }
    let Some(member) = method::lookup(method).and_then(|info| info.name_member) else { return Ok(()) };
    let body = params.mirrored(member);
    match (single(headers, &NAME)?, body) {
        (None, Some(_)) => fail(&NAME, HeaderProblem::Missing),
        (Some(value), body) => match decode_value(value.as_bytes()) {
            Err(_) => fail(&NAME, HeaderProblem::Malformed),
            Ok(text) if Some(text.as_str()) == body => Ok(()),
            Ok(_) => fail(&NAME, HeaderProblem::Different),
        },
        // The body lacks the member: the params check says so.
        (None, None) => Ok(()),
    }
}

/// The headers a modern request (or notification) carries upstream:
/// `MCP-Protocol-Version`, `Mcp-Method`, and `Mcp-Name` where the method has one.
/// `Mcp-Param-*` come from [`param_values`] or [`forwarded`].
pub fn for_request(revision: Revision, method: &str, params: Option<&RawJson>) -> Vec<(HeaderName, HeaderValue)> {
    let member = method::lookup(method).and_then(|info| info.name_member);
    let value = member.and_then(|member| params?.get(member));
    with_name(revision, method, value.as_ref().and_then(RawJson::as_string).as_deref())
}

/// As [`for_request`], when the name (or URI, or task id) is known already.
pub fn with_name(revision: Revision, method: &str, name: Option<&str>) -> Vec<(HeaderName, HeaderValue)> {
    let mut out = Vec::with_capacity(4);
    out.push((PROTOCOL_VERSION, HeaderValue::from_static(revision.as_str())));
    out.push((METHOD, header_value(method)));
    out.extend(name.map(|name| (NAME, header_value(name))));
    out
}
