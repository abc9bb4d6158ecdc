//! Where a person goes after signing in. Never to another site.

use serde::{Deserialize, Serialize};

/// Longest path, bytes: with the handle of a client's request in it.
const MAX: usize = 8192;

/// Where to go on after signing in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReturnTo {
    /// Back to an authorization request, by its transaction.
    Authorize(String),
    /// Back to a link for more, by its handle.
    StepUp(String),
    /// To a page of ours.
    Path(LocalPath),
}

impl ReturnTo {
    /// A page of ours; the home page when the text is anything else.
    pub fn path(text: &str) -> Self {
        Self::Path(LocalPath::parse(text).unwrap_or_default())
    }
}

/// A path with an optional query on this host, in the form in which no browser takes it for
/// anything else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LocalPath(String);

impl Default for LocalPath {
    fn default() -> Self {
        Self("/".to_owned())
    }
}

impl LocalPath {
    /// Takes `/path?query` of visible ASCII. Refused are a second slash at any place, which
    /// begins an authority (RFC 3986, section 4.2), backslashes, which browsers read as
    /// slashes (WHATWG URL), dot segments, and all of those percent-encoded.
    pub fn parse(text: &str) -> Option<Self> {
        let visible = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
        if text.len() > MAX || !visible || text.contains('#') {
            return None;
        }
        let path = text.split('?').next().unwrap_or_default();
        let decoded = decode(path)?;
        let good = decoded.starts_with('/')
            && path.starts_with('/')
            && !decoded.contains("//")
            && !decoded.contains(['\\', '%'])
            && !decoded.chars().any(char::is_control)
            && !decoded.split('/').any(|segment| segment == "." || segment == "..");
        good.then(|| Self(text.to_owned()))
    }

    /// The path.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for LocalPath {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        Self::parse(&text).ok_or("not a local path")
    }
}

impl From<LocalPath> for String {
    fn from(path: LocalPath) -> Self {
        path.0
    }
}

/// Percent-decodes once.
fn decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let hex = |byte: Option<u8>| char::from(byte?).to_digit(16);
            let (high, low) = (hex(rest.next())?, hex(rest.next())?);
            out.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a2_return_to_never_leaves_this_host() {
        for bad in [
            "",
            "evil.example",
            "//evil.example",
            "///evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "\\/evil.example",
            "https:evil.example",
            "https://evil.example",
            "javascript:alert(1)",
            "/%2fevil.example",
            "/%2Fevil.example",
            "%2f%2fevil.example",
            "/%5cevil.example",
            "/%255cevil.example",
            "/a//evil.example",
            "/..//evil.example",
            "/./a",
            "/%2e%2e/a",
            "/\tevil",
            "/\n/evil.example",
            "/\r\nSet-Cookie: a=b",
            "/%0d%0aSet-Cookie:%20a=b",
            "/%00",
            "/%",
            "/%zz",
            "/%c0%af",
            " /a",
            "/a b",
            "/ä",
            "/a#b",
            "/\u{0}",
        ] {
            assert_eq!(LocalPath::parse(bad), None, "{bad:?}");
            assert_eq!(ReturnTo::path(bad), ReturnTo::Path(LocalPath::default()), "{bad:?}");
        }
        assert_eq!(LocalPath::parse(&format!("/{}", "a".repeat(MAX))), None);
        for good in ["/", "/account", "/portals/a/", "/a?next=//b&c=%2F", "/a%20b"] {
            assert_eq!(LocalPath::parse(good).unwrap().as_str(), good);
        }
    }

    #[test]
    fn a2_a_stored_path_is_checked_again() {
        let back: ReturnTo = serde_json::from_str(r#"{"path":"/account"}"#).unwrap();
        assert_eq!(back, ReturnTo::path("/account"));
        assert!(serde_json::from_str::<ReturnTo>(r#"{"path":"//evil"}"#).is_err());
    }
}
