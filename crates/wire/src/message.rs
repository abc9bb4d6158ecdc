//! The JSON-RPC envelope.

use std::sync::Arc;

use bytes::Bytes;

use crate::error::{EnvelopeError, EnvelopeProblem, RpcError};
use crate::fold::folds_to;
use crate::id::RequestId;
use crate::raw::{JsonError, Limits, RawJson};
use crate::scan::{JsonKind, MAX_DEPTH, Member, Scanner, Span, StrTok, decode, dup};

/// Most messages in one batch.
pub const MAX_BATCH: usize = 256;

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `method` and `id`.
    Request,
    /// `method` without `id`.
    Notification,
    /// `result` and `id`.
    Response,
    /// `error`; the id may be missing.
    Error,
}

#[derive(Clone, Debug)]
enum Method {
    Plain(Span),
    Escaped(Arc<str>),
}

/// One JSON-RPC message: the envelope is read, its members are ranges of the
/// original bytes. Cloning is cheap.
#[derive(Clone)]
pub struct Message {
    raw: Bytes,
    kind: Kind,
    id: Option<RequestId>,
    id_span: Option<Span>,
    method: Option<Method>,
    params: Option<Span>,
    result: Option<Span>,
    error: Option<Span>,
}

/// The envelope's own members.
const NAMES: [&str; 6] = ["jsonrpc", "id", "method", "params", "result", "error"];

#[derive(Default)]
struct Envelope {
    /// `jsonrpc`, `id`, `method`, `params`, `result`, `error`.
    spans: [Option<Span>; 6],
    keys: Vec<StrTok>,
    ambiguous: bool,
    twice_id: bool,
}

impl Envelope {
    fn take(&mut self, bytes: &[u8], member: Member) {
        self.keys.push(member.key);
        let Some(name) = decode(bytes, member.key) else {
            self.ambiguous = true;
            return;
        };
        if let Some(at) = NAMES.iter().position(|known| *known == name) {
            if let Some(slot) = self.spans.get_mut(at) {
                self.ambiguous |= slot.is_some();
                self.twice_id |= slot.is_some() && at == 1;
                *slot = Some(member.value);
            }
        } else if NAMES.iter().any(|known| folds_to(&name, known)) {
            self.ambiguous = true;
        }
    }
}

impl Message {
    /// Reads one message: UTF-8, JSON, depth, one of each envelope member.
    /// `params`, `result` and `error` are checked to be JSON and kept as they are.
    ///
    /// # Errors
    /// [`EnvelopeError`]; its problem is [`EnvelopeProblem::Batch`] for an array.
    pub fn parse(raw: Bytes, limits: &Limits) -> Result<Self, EnvelopeError> {
        check_utf8(&raw)?;
        let start = first_byte(&raw);
        match start {
            Some(b'[') => return Err(EnvelopeError::new(EnvelopeProblem::Batch)),
            Some(b'{') | None => {}
            Some(_) => {
                // Tell `nonsense` from `"a string"`: only the latter is JSON.
                RawJson::parse(raw, limits).map_err(|e| EnvelopeError::new(EnvelopeProblem::Json(e)))?;
                return Err(EnvelopeError::new(EnvelopeProblem::NotAnObject));
            }
        }
        Self::parse_object(raw, limits.depth)
    }

    /// Reads a batch of revision 2025-03-26, or one message. At most [`MAX_BATCH`].
    ///
    /// # Errors
    /// [`EnvelopeError`] of the array or of the first message that is wrong.
    pub fn parse_batch(raw: Bytes, limits: &Limits) -> Result<Vec<Self>, EnvelopeError> {
        if first_byte(&raw) != Some(b'[') {
            return Ok(vec![Self::parse(raw, limits)?]);
        }
        check_utf8(&raw)?;
        let json = |e| EnvelopeError::new(EnvelopeProblem::Json(JsonError::from(e)));
        let mut scan = Scanner::new(&raw, limits.depth.min(MAX_DEPTH));
        let mut spans = Vec::new();
        let mut first = true;
        scan.open(b'[').map_err(json)?;
        while let Some(item) = scan.next_item(&mut first).map_err(json)? {
            if spans.len() == MAX_BATCH {
                return Err(EnvelopeError::new(EnvelopeProblem::LongBatch(MAX_BATCH)));
            }
            spans.push(item);
        }
        scan.end().map_err(json)?;
        if spans.is_empty() {
            return Err(EnvelopeError::new(EnvelopeProblem::EmptyBatch));
        }
        spans
            .into_iter()
            .map(|span| match raw.get(span.start) {
                Some(b'{') => Self::parse_object(raw.slice(span.start..span.end), limits.depth),
                _ => Err(EnvelopeError::new(EnvelopeProblem::NotAnObject)),
            })
            .collect()
    }

    fn parse_object(raw: Bytes, depth: usize) -> Result<Self, EnvelopeError> {
        let mut envelope = Envelope { keys: Vec::with_capacity(8), ..Envelope::default() };
        let mut scan = Scanner::new(&raw, depth.min(MAX_DEPTH));
        let json = |e| EnvelopeError::new(EnvelopeProblem::Json(JsonError::from(e)));
        let mut first = true;
        scan.open(b'{').map_err(json)?;
        while let Some(member) = scan.next_member(&mut first).map_err(json)? {
            envelope.take(&raw, member);
        }
        scan.end().map_err(json)?;

        let [version, id_span, method, params, result, error] = envelope.spans;
        let id = id_span.and_then(|span| RequestId::from_raw(&RawJson::of(&raw, span)));
        let readable = if envelope.twice_id { None } else { id.clone() };
        let fail = |problem| Err(EnvelopeError { problem, id: readable.clone() });
        if envelope.ambiguous || dup::unique(&raw, &envelope.keys).is_err() {
            return fail(EnvelopeProblem::Ambiguous);
        }
        let two = version.map(|span| RawJson::of(&raw, span));
        if two.as_ref().and_then(RawJson::as_string).as_deref() != Some("2.0") {
            return fail(EnvelopeProblem::Version);
        }
        let method = match method.map(|span| read_method(&raw, span)) {
            Some(None) => return fail(EnvelopeProblem::Method),
            Some(method) => method,
            None => None,
        };
        // Some servers write the member that does not apply as `null`.
        let given = |span: Option<Span>| span.filter(|s| s.of(&raw) != b"null");
        let (kind, result, error) = match (&method, result, error) {
            (Some(_), None, None) if id_span.is_some() => (Kind::Request, None, None),
            (Some(_), None, None) => (Kind::Notification, None, None),
            (None, result, Some(error))
                if given(result).is_none() && JsonKind::of(error.of(&raw)) == JsonKind::Object =>
            {
                (Kind::Error, None, Some(error))
            }
            (None, Some(result), error) if given(error).is_none() => (Kind::Response, Some(result), None),
            _ => return fail(EnvelopeProblem::Shape),
        };
        // Beside a result, `params` is just a member nobody knows.
        let params = params.filter(|_| method.is_some());
        let null_id = id_span.is_some_and(|span| span.of(&raw) == b"null");
        let id_fits = match kind {
            Kind::Request | Kind::Response => id.is_some(),
            Kind::Notification => true,
            Kind::Error => id.is_some() || id_span.is_none() || null_id,
        };
        if !id_fits {
            return fail(EnvelopeProblem::Id);
        }
        Ok(Self { kind, id, id_span, method, params, result, error, raw })
    }

    /// What the message is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The whole message as it came.
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// The id; always there for requests and results.
    pub fn id(&self) -> Option<&RequestId> {
        self.id.as_ref()
    }

    /// The method of a request or notification.
    pub fn method(&self) -> Option<&str> {
        match self.method.as_ref()? {
            Method::Plain(span) => std::str::from_utf8(span.of(&self.raw)).ok(),
            Method::Escaped(text) => Some(text),
        }
    }

    /// `params` as it came, of whatever kind it is.
    pub fn params(&self) -> Option<RawJson> {
        self.params.map(|span| RawJson::of(&self.raw, span))
    }

    /// `result` as it came.
    pub fn result(&self) -> Option<RawJson> {
        self.result.map(|span| RawJson::of(&self.raw, span))
    }

    /// `error` as it came.
    pub fn raw_error(&self) -> Option<RawJson> {
        self.error.map(|span| RawJson::of(&self.raw, span))
    }

    /// `error`, read.
    pub fn error(&self) -> Option<RpcError> {
        self.raw_error().map(|raw| RpcError::from_raw(&raw))
    }

    /// The message with another id; every other byte stays. A message without an id
    /// is returned as it is.
    pub fn with_id(&self, id: &RequestId) -> Bytes {
        self.replaced(self.id_span, id.raw_json().as_bytes())
    }

    /// The message with other params; every other byte stays. A message without
    /// params is returned as it is.
    pub fn with_params(&self, params: &RawJson) -> Bytes {
        self.replaced(self.params, params.as_bytes())
    }

    fn replaced(&self, span: Option<Span>, by: &[u8]) -> Bytes {
        let Some(span) = span else { return self.raw.clone() };
        let (head, tail) = (self.raw.slice(..span.start), self.raw.slice(span.end..));
        [&head, by, &tail].concat().into()
    }
}

/// Kind, method and id; never the body.
impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message")
            .field("kind", &self.kind)
            .field("method", &self.method())
            .field("id", &self.id)
            .field("bytes", &self.raw.len())
            .finish()
    }
}

fn check_utf8(raw: &[u8]) -> Result<(), EnvelopeError> {
    std::str::from_utf8(raw).map(drop).map_err(|_| EnvelopeError::new(EnvelopeProblem::Json(JsonError::Utf8)))
}

fn first_byte(raw: &[u8]) -> Option<u8> {
    raw.iter().copied().find(|b| !matches!(b, b' ' | b'\t' | b'\r' | b'\n'))
}

fn read_method(raw: &Bytes, span: Span) -> Option<Method> {
    let text = RawJson::of(raw, span);
    let plain = Span { start: span.start + 1, end: span.end.saturating_sub(1) };
    Some(match text.as_string()? {
        std::borrow::Cow::Borrowed(_) => Method::Plain(plain),
        std::borrow::Cow::Owned(text) => Method::Escaped(text.into()),
    })
}
