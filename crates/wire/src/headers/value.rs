//! How a text is written in `Mcp-Name` and `Mcp-Param-*` (protocol reference 3.2).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;

const OPEN: &str = "=?base64?";
const CLOSE: &str = "?=";

/// A header value that cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed header value")]
pub struct ValueError;

fn looks_coded(text: &str) -> bool {
    text.len() >= OPEN.len() + CLOSE.len() && text.starts_with(OPEN) && text.ends_with(CLOSE)
}

/// The text as it is when it is made of TAB and 0x20–0x7E, has no white space at its
/// ends and does not look coded; else `=?base64?…?=` over its UTF-8.
pub fn encode_value(text: &str) -> String {
    let plain = text.bytes().all(|b| matches!(b, b'\t' | 0x20..=0x7e));
    let edge = |b: Option<u8>| matches!(b, Some(b' ' | b'\t'));
    if plain && !edge(text.bytes().next()) && !edge(text.bytes().last()) && !looks_coded(text) {
        return text.to_owned();
    }
    format!("{OPEN}{}{CLOSE}", STANDARD.encode(text))
}

/// [`encode_value`] as a header value.
pub fn header_value(text: &str) -> HeaderValue {
    // What was encoded holds only TAB and 0x20–0x7E, which every header value may.
    HeaderValue::try_from(encode_value(text)).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Reads a header value. White space around it is HTTP's, not the value's. Without the
/// marker the value is the text itself.
///
/// # Errors
/// [`ValueError`] for bytes outside TAB and 0x20–0x7E, bad base64 (alphabet, padding),
/// and base64 of something that is not UTF-8.
pub fn decode_value(value: &[u8]) -> Result<String, ValueError> {
    let text = std::str::from_utf8(value).map_err(|_| ValueError)?;
    let text = text.trim_matches([' ', '\t']);
    if !text.bytes().all(|b| matches!(b, b'\t' | 0x20..=0x7e)) {
        return Err(ValueError);
    }
    if !looks_coded(text) {
        return Ok(text.to_owned());
    }
    let code = text.strip_prefix(OPEN).and_then(|rest| rest.strip_suffix(CLOSE)).ok_or(ValueError)?;
    let bytes = STANDARD.decode(code).map_err(|_| ValueError)?;
    String::from_utf8(bytes).map_err(|_| ValueError)
}
