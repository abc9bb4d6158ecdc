//! A JSON value kept as the text it came as.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::de::{DeserializeOwned, Error as _};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::scan::{HARD_DEPTH, JsonKind, MAX_DEPTH, ScanError, Scanner, Span, StrTok, decode};

/// How much a message may nest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Deepest nesting of objects and arrays; the outermost one counts as 1.
    /// Values above 512 mean 512.
    pub depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { depth: 128 }
    }
}

/// Why a text is not a JSON value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Not UTF-8 (RFC 8259, section 8.1).
    #[error("not UTF-8")]
    Utf8,
    /// Not JSON; the byte offset where it goes wrong.
    #[error("not JSON at byte {0}")]
    Syntax(usize),
    /// Nests deeper than the limit.
    #[error("nested too deeply")]
    Depth,
    /// Two members of one object have the same name; the byte offset of one of them.
    #[error("duplicate member name at byte {0}")]
    Duplicate(usize),
    /// A member name holds half a surrogate pair; its byte offset.
    #[error("member name with half a surrogate pair at byte {0}")]
    Surrogate(usize),
}

impl From<ScanError> for JsonError {
    fn from(error: ScanError) -> Self {
        match error {
            ScanError::Syntax(at) => Self::Syntax(at),
            ScanError::Depth => Self::Depth,
            ScanError::Duplicate(at) => Self::Duplicate(at),
            ScanError::Surrogate(at) => Self::Surrogate(at),
        }
    }
}

/// One valid JSON value as text, without white space around it. Cloning is cheap:
/// the bytes are shared with the message the value came in.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RawJson(Bytes);

impl RawJson {
    /// Checks a text: UTF-8, JSON grammar, depth.
    ///
    /// # Errors
    /// [`JsonError`] when it is not one acceptable JSON value.
    pub fn parse(text: impl Into<Bytes>, limits: &Limits) -> Result<Self, JsonError> {
        let text = text.into();
        std::str::from_utf8(&text).map_err(|_| JsonError::Utf8)?;
        let mut scan = Scanner::new(&text, limits.depth.min(MAX_DEPTH));
        let span = scan.value()?;
        scan.end()?;
        Ok(Self::of(&text, span))
    }

    /// As [`Self::parse`], and no object at any depth may have two members of one name.
    ///
    /// # Errors
    /// [`JsonError`].
    pub fn parse_unique(text: impl Into<Bytes>, limits: &Limits) -> Result<Self, JsonError> {
        let raw = Self::parse(text, limits)?;
        raw.check_unique()?;
        Ok(raw)
    }

    /// Checks that no object inside has two members of one name.
    ///
    /// # Errors
    /// [`JsonError::Duplicate`], [`JsonError::Surrogate`].
    pub fn check_unique(&self) -> Result<(), JsonError> {
        let mut keys = crate::scan::dup::UniqueKeys::default();
        Scanner::new(&self.0, HARD_DEPTH).value_with(&mut keys)?;
        Ok(())
    }

    /// Takes a text known to be JSON: spans of scanned text, and what this crate builds.
    pub(crate) fn trusted(text: impl Into<Bytes>) -> Self {
        Self(text.into())
    }

    pub(crate) fn of(bytes: &Bytes, span: Span) -> Self {
        Self(bytes.slice(span.start..span.end))
    }

    /// Writes any value as compact JSON.
    ///
    /// # Errors
    /// The serializer's error (a map key that is not a string, for one).
    pub fn from_serialize<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        serde_json::to_vec(value).map(|text| Self(text.into()))
    }

    /// `null`
    pub fn null() -> Self {
        Self(Bytes::from_static(b"null"))
    }

    /// `{}`
    pub fn empty_object() -> Self {
        Self(Bytes::from_static(b"{}"))
    }

    /// `true` or `false`
    pub fn bool(value: bool) -> Self {
        Self(Bytes::from_static(if value { b"true" } else { b"false" }))
    }

    /// An integer.
    pub fn int(value: i64) -> Self {
        Self(value.to_string().into())
    }

    /// A string, escaped as needed.
    pub fn string(value: &str) -> Self {
        Self(crate::build::quoted(value).into())
    }

    /// An array of values.
    pub fn array<'a>(items: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut out = vec![b'['];
        for item in items {
            if out.len() > 1 {
                out.push(b',');
            }
            out.extend_from_slice(item.as_bytes());
        }
        out.push(b']');
        Self(out.into())
    }

    /// An object of members in the given order. Names are not checked for doubles.
    pub fn object<'a>(members: impl IntoIterator<Item = (&'a str, &'a Self)>) -> Self {
        let mut out = vec![b'{'];
        for (key, value) in members {
            if out.len() > 1 {
                out.push(b',');
            }
            crate::build::push_quoted(&mut out, key);
            out.push(b':');
            out.extend_from_slice(value.as_bytes());
        }
        out.push(b'}');
        Self(out.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        // The bytes were checked when the value was made, so this never falls back.
        std::str::from_utf8(&self.0).unwrap_or("null")
    }

    /// The text as bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The shared bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// The shared bytes, taken out.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// Length of the text in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Never true: the shortest JSON text has one byte.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A copy with bytes of its own, so that keeping it does not keep the whole message alive.
    pub fn detached(&self) -> Self {
        Self(Bytes::copy_from_slice(&self.0))
    }

    /// What kind of value this is.
    pub fn kind(&self) -> JsonKind {
        JsonKind::of(&self.0)
    }

    /// True for `{…}`.
    pub fn is_object(&self) -> bool {
        self.kind() == JsonKind::Object
    }

    /// True for `null`.
    pub fn is_null(&self) -> bool {
        self.kind() == JsonKind::Null
    }

    /// What a string says; nothing for other kinds and for half a surrogate pair.
    pub fn as_string(&self) -> Option<Cow<'_, str>> {
        decode(&self.0, StrTok::whole(&self.0)?)
    }

    /// `true` or `false`; nothing for other kinds.
    pub fn as_bool(&self) -> Option<bool> {
        match &*self.0 {
            b"true" => Some(true),
            b"false" => Some(false),
            _ => None,
        }
    }

    /// An integer, however it is spelled (`42`, `42.0`, `4.2e1`), when it fits.
    pub fn as_i64(&self) -> Option<i64> {
        if self.kind() != JsonKind::Number {
            return None;
        }
        crate::number::integer(self.as_str())?.parse().ok()
    }

    /// A member of this object (the last of that name), see [`crate::splice::get`].
    pub fn get(&self, key: &str) -> Option<Self> {
        crate::splice::get(self, key)
    }

    /// Reads the value into a type.
    ///
    /// # Errors
    /// The deserializer's error.
    pub fn to<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.0)
    }

    /// The bytes without line breaks, as transports of one line per message need
    /// them. In JSON a line break can only be white space between tokens.
    pub fn one_line(&self) -> Bytes {
        one_line(&self.0)
    }
}

/// Replaces line breaks by spaces; for valid JSON texts only.
pub fn one_line(text: &Bytes) -> Bytes {
    if memchr::memchr2(b'\n', b'\r', text).is_none() {
        return text.clone();
    }
    text.iter().map(|b| if matches!(b, b'\n' | b'\r') { b' ' } else { *b }).collect::<Vec<_>>().into()
}

/// Only the length: bodies do not belong in logs.
impl fmt::Debug for RawJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawJson({} bytes)", self.0.len())
    }
}

impl Serialize for RawJson {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        serde_json::from_str::<&RawValue>(self.as_str()).map_err(S::Error::custom)?.serialize(s)
    }
}

impl<'de> Deserialize<'de> for RawJson {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text: Box<str> = Box::<RawValue>::deserialize(d)?.into();
        Self::parse(text.into_string(), &Limits { depth: MAX_DEPTH }).map_err(D::Error::custom)
    }
}

impl From<&serde_json::Value> for RawJson {
    fn from(value: &serde_json::Value) -> Self {
        Self(value.to_string().into())
    }
}

impl TryFrom<&str> for RawJson {
    type Error = JsonError;

    fn try_from(text: &str) -> Result<Self, JsonError> {
        Self::parse(text.to_owned(), &Limits::default())
    }
}

impl std::str::FromStr for RawJson {
    type Err = JsonError;

    fn from_str(text: &str) -> Result<Self, JsonError> {
        Self::try_from(text)
    }
}
