//! JSON-RPC request ids.

use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::raw::RawJson;
use crate::scan::JsonKind;

/// Longest id in bytes of JSON. Ids are kept for as long as a request runs, and are
/// echoed; nobody needs more.
const MAX_LEN: usize = 1024;

/// The id of a request: a string or a whole number, with the spelling it came in.
///
/// Two ids are equal when their JSON values are: `1` and `1.0` are, `1` and `"1"` are
/// not, `"a"` and `"\u0061"` are.
#[derive(Clone)]
pub struct RequestId {
    raw: Arc<str>,
    /// Normal form, when `raw` is not already that.
    normal: Option<Arc<str>>,
}

impl RequestId {
    /// A number.
    pub fn number(value: i64) -> Self {
        Self { raw: value.to_string().into(), normal: None }
    }

    /// A string.
    pub fn string(value: &str) -> Self {
        Self { raw: crate::build::quoted(value).into(), normal: None }
    }

    /// Reads an id. Nothing for `null`, fractions, other kinds, strings with half a
    /// surrogate pair, and ids of more than 1024 bytes.
    pub fn from_raw(raw: &RawJson) -> Option<Self> {
        if raw.len() > MAX_LEN {
            return None;
        }
        let text = raw.as_str();
        let normal: Cow<'_, str> = match raw.kind() {
            JsonKind::String => match raw.as_string()? {
                Cow::Borrowed(_) => Cow::Borrowed(text),
                Cow::Owned(value) => Cow::Owned(crate::build::quoted(&value)),
            },
            JsonKind::Number => crate::number::integer(text)?,
            _ => return None,
        };
        let normal = (normal != text).then(|| Arc::from(&*normal));
        Some(Self { raw: text.into(), normal })
    }

    /// The JSON text as it came.
    pub fn raw_json(&self) -> &str {
        &self.raw
    }

    /// The id as a JSON value.
    pub fn to_raw(&self) -> RawJson {
        RawJson::trusted(self.raw.as_bytes().to_vec())
    }

    /// True for a string id.
    pub fn is_string(&self) -> bool {
        self.raw.starts_with('"')
    }

    /// What a string id says.
    pub fn as_string(&self) -> Option<String> {
        self.to_raw().as_string().map(Cow::into_owned)
    }

    /// The value of a number id that fits.
    pub fn as_i64(&self) -> Option<i64> {
        if self.is_string() { None } else { self.key().parse().ok() }
    }

    fn key(&self) -> &str {
        self.normal.as_deref().unwrap_or(&self.raw)
    }
}

impl PartialEq for RequestId {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for RequestId {}

impl Hash for RequestId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.raw)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.raw)
    }
}
