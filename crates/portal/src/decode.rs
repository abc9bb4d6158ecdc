//! From bytes to a message whose era is known (protocol section 4.1): the envelope is
//! read, the headers agree with the body, `params` stay as they came.

use std::sync::Arc;

use bartizan_model::Era;
use bartizan_wire::era::{self, Detected};
use bartizan_wire::{ClientProfile, Kind, Limits, Message, Params, headers};
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue};

use crate::respond::{Problem, ProblemKind};
use crate::sessions::Session;

/// The session of an id, or [`ProblemKind::Session`], or why it cannot be told.
pub(crate) type Found = Result<Arc<Session>, ProblemKind>;

/// A message with all that is known before it is dispatched.
pub(crate) struct Decoded {
    pub(crate) message: Message,
    pub(crate) params: Params,
    pub(crate) way: Way,
}

/// How a message is served.
pub(crate) enum Way {
    /// By itself.
    Modern(Arc<ClientProfile>),
    /// `initialize`.
    Open,
    /// Within its session.
    Session(Arc<Session>),
}

/// What came in one POST.
pub(crate) enum Incoming {
    One(Box<Decoded>),
    /// 2025-03-26 only.
    Batch(Vec<Message>, Arc<Session>),
}

/// Checks the headers that say what the body is and what may be answered. True when
/// the client reads event streams.
pub(crate) fn media(headers: &HeaderMap) -> Result<bool, ProblemKind> {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let json = match (types.next(), types.next()) {
        (Some(only), None) => only.as_bytes() == b"application/json" || is_json(only),
        _ => false,
    };
    if !json || headers.contains_key(CONTENT_ENCODING) {
        return Err(ProblemKind::MediaType);
    }
    if !headers.contains_key(ACCEPT) {
        return Ok(true);
    }
    let events = accepts(headers, "text/event-stream");
    if !events && !accepts(headers, "application/json") {
        return Err(ProblemKind::NotAcceptable);
    }
    Ok(events)
}

fn is_json(value: &HeaderValue) -> bool {
    let Ok(text) = value.to_str() else { return false };
    let mut parts = text.split(';');
    let kind = parts.next().unwrap_or_default().trim();
    let utf8 = parts.all(|part| match part.trim().split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
            value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        _ => true,
    });
    kind.eq_ignore_ascii_case("application/json") && utf8
}

/// Whether `Accept` allows a media type (RFC 9110 section 12.5.1; weights of 0 exclude).
pub(crate) fn accepts(headers: &HeaderMap, wanted: &str) -> bool {
    let group = wanted.split('/').next().unwrap_or_default();
    let fits = |range: &str| {
        let mut parts = range.split(';');
        let name = parts.next().unwrap_or_default().trim();
        let excluded = parts.any(|part| matches!(part.trim(), "q=0" | "q=0.0" | "q=0.00" | "q=0.000"));
        let matches = name.eq_ignore_ascii_case(wanted)
            || name == "*/*"
            || name.strip_suffix("/*").is_some_and(|given| given.eq_ignore_ascii_case(group));
        matches && !excluded
    };
    headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).any(|text| text.split(',').any(fits))
}

/// The text of a header that may come once. More than one, or one that is not text,
/// gives a text no valid value has.
pub(crate) fn single_header<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => None,
        (Some(only), None) => Some(only.to_str().unwrap_or("\u{fffd}")),
        (Some(_), Some(_)) => Some("\u{fffd}"),
    }
}

/// Reads a body. `find` looks a session up for the caller and the endpoint.
pub(crate) fn decode(
    headers: &HeaderMap,
    body: Bytes,
    depth: usize,
    find: impl Fn(&str) -> Found,
) -> Result<Incoming, Problem> {
    let limits = Limits { depth };
    let message = match Message::parse(body.clone(), &limits) {
        Ok(message) => message,
        Err(error) if error.is_batch() => return batch(headers, body, &limits, find, error.into()),
        Err(error) => return Err(error.into()),
    };
    let id = message.id().cloned();
    let fail = |kind: ProblemKind| kind.of(id.as_ref());
    let params = match message.kind() {
        Kind::Request | Kind::Notification => Params::of(&message).map_err(|error| fail(error.into()))?,
        Kind::Response | Kind::Error => Params::empty(),
    };
    let way = way(headers, &message, &params, find).map_err(fail)?;
    Ok(Incoming::One(Box::new(Decoded { message, params, way })))
}

fn way(
    headers: &HeaderMap,
    message: &Message,
    params: &Params,
    find: impl Fn(&str) -> Found,
) -> Result<Way, ProblemKind> {
    let method = message.method().unwrap_or_default();
    let version = headers::protocol_version(headers);
    let body_version = params.protocol_version();
    // A modern request has no session, whatever headers it carries.
    let (mut found, mut state) = (None, era::Session::Absent);
    if body_version.is_none()
        && method != "initialize"
        && let Some(id) = single_header(headers, &headers::SESSION_ID)
    {
        found = match find(id) {
            Ok(session) => Some(session),
            Err(ProblemKind::Session) => None,
            Err(problem) => return Err(problem),
        };
        state = if found.is_some() { era::Session::Known } else { era::Session::Unknown };
    }
    // Only a request can open a session.
    let opens = if message.kind() == Kind::Request { method } else { "" };
    match (era::detect(body_version, version, opens, state)?, found) {
        (Detected::Modern(revision), _) => {
            if matches!(message.kind(), Kind::Response | Kind::Error) {
                return Err(ProblemKind::Unexpected("clients of this version do not send responses"));
            }
            let meta = params.meta.as_ref().ok_or(ProblemKind::Internal)?;
            let profile = ClientProfile::modern(revision, meta).map_err(ProblemKind::bad)?;
            headers::check(headers, message, params).map_err(|error| ProblemKind::bad(error.to_rpc()))?;
            Ok(Way::Modern(Arc::new(profile)))
        }
        (Detected::LegacyOpen, _) => Ok(Way::Open),
        (Detected::LegacySession, Some(session)) => Ok(Way::Session(session)),
        (Detected::LegacySession, None) => Err(ProblemKind::Session),
    }
}

/// An array: only within a session that negotiated 2025-03-26.
fn batch(
    headers: &HeaderMap,
    body: Bytes,
    limits: &Limits,
    find: impl Fn(&str) -> Found,
    refusal: Problem,
) -> Result<Incoming, Problem> {
    let session = single_header(headers, &headers::SESSION_ID)
        .and_then(|id| find(id).ok())
        .filter(|session| session.revision().has_batches());
    let session = session.ok_or(refusal)?;
    let messages = Message::parse_batch(body, limits)?;
    if messages.iter().any(|message| message.method() == Some("initialize")) {
        return Err(ProblemKind::Unexpected("initialize must not be part of a batch").into());
    }
    Ok(Incoming::Batch(messages, session))
}

impl Way {
    pub(crate) fn era(&self) -> Era {
        match self {
            Self::Modern(_) => Era::Modern,
            Self::Open | Self::Session(_) => Era::Legacy,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        map
    }

    #[test]
    fn p26_media_types() {
        let json = ("content-type", "application/json");
        for good in [
            "application/json",
            "Application/JSON",
            "application/json; charset=utf-8",
            "application/json;charset=\"UTF-8\"",
        ] {
            assert_eq!(media(&map(&[("content-type", good)])), Ok(true), "{good}");
        }
        for bad in ["text/plain", "application/jsonx", "application/json; charset=latin1", "", "multipart/form-data"] {
            assert_eq!(media(&map(&[("content-type", bad)])), Err(ProblemKind::MediaType), "{bad}");
        }
        assert_eq!(media(&map(&[])), Err(ProblemKind::MediaType));
        assert_eq!(media(&map(&[json, json])), Err(ProblemKind::MediaType));
        assert_eq!(media(&map(&[json, ("content-encoding", "gzip")])), Err(ProblemKind::MediaType));
        let accept = |value| media(&map(&[json, ("accept", value)]));
        assert_eq!(accept("application/json, text/event-stream"), Ok(true));
        assert_eq!(accept("*/*"), Ok(true));
        assert_eq!(accept("text/*"), Ok(true));
        assert_eq!(accept("application/json"), Ok(false));
        assert_eq!(accept("application/json, text/event-stream;q=0"), Ok(false));
        assert_eq!(accept("text/html"), Err(ProblemKind::NotAcceptable));
    }

    #[test]
    fn p26_doubled_headers_have_no_valid_value() {
        let map = map(&[("mcp-session-id", "a"), ("mcp-session-id", "a")]);
        assert_eq!(single_header(&map, &headers::SESSION_ID), Some("\u{fffd}"));
        assert_eq!(single_header(&map, &headers::PROTOCOL_VERSION), None);
    }
}
