//! Puts JSON-RPC messages together around raw members.

use bytes::Bytes;

use crate::error::RpcError;
use crate::id::RequestId;
use crate::raw::RawJson;

/// Appends a JSON string.
pub(crate) fn push_quoted(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut plain = 0;
    let bytes = text.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        let short: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            0x08 => b"\\b",
            0x0c => b"\\f",
            0..=0x1f => b"",
            _ => continue,
        };
        out.extend_from_slice(bytes.get(plain..at).unwrap_or_default());
        if short.is_empty() {
            out.extend_from_slice(format!("\\u{byte:04x}").as_bytes());
        } else {
            out.extend_from_slice(short);
        }
        plain = at + 1;
    }
    out.extend_from_slice(bytes.get(plain..).unwrap_or_default());
    out.push(b'"');
}

/// A JSON string as text.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len() + 2);
    push_quoted(&mut out, text);
    // Only whole characters and ASCII were appended.
    String::from_utf8(out).unwrap_or_default()
}

struct Writer(Vec<u8>);

impl Writer {
    fn new(room: usize) -> Self {
        let mut out = Vec::with_capacity(room + 64);
        out.extend_from_slice(b"{\"jsonrpc\":\"2.0\"");
        Self(out)
    }

    fn member(mut self, key: &str, value: &[u8]) -> Self {
        self.0.extend_from_slice(b",\"");
        self.0.extend_from_slice(key.as_bytes());
        self.0.extend_from_slice(b"\":");
        self.0.extend_from_slice(value);
        self
    }

    fn method(mut self, method: &str) -> Self {
        self.0.extend_from_slice(b",\"method\":");
        push_quoted(&mut self.0, method);
        self
    }

    fn end(mut self) -> Bytes {
        self.0.push(b'}');
        self.0.into()
    }
}

/// A request.
pub fn request(id: &RequestId, method: &str, params: Option<&RawJson>) -> Bytes {
    let room = method.len() + params.map_or(0, RawJson::len) + id.raw_json().len();
    let out = Writer::new(room).member("id", id.raw_json().as_bytes()).method(method);
    match params {
        Some(params) => out.member("params", params.as_bytes()).end(),
        None => out.end(),
    }
}

/// A notification.
pub fn notification(method: &str, params: Option<&RawJson>) -> Bytes {
    let out = Writer::new(method.len() + params.map_or(0, RawJson::len)).method(method);
    match params {
        Some(params) => out.member("params", params.as_bytes()).end(),
        None => out.end(),
    }
}

/// A response with a result.
pub fn response(id: &RequestId, result: &RawJson) -> Bytes {
    Writer::new(result.len() + id.raw_json().len())
        .member("id", id.raw_json().as_bytes())
        .member("result", result.as_bytes())
        .end()
}

/// A response with an error. Without an id the member is `null` (JSON-RPC 2.0, section 5).
pub fn error(id: Option<&RequestId>, error: &RpcError) -> Bytes {
    let raw = error.to_raw();
    let id = id.map_or("null", RequestId::raw_json);
    Writer::new(raw.len() + id.len()).member("id", id.as_bytes()).member("error", raw.as_bytes()).end()
}

/// A batch (2025-03-26 only) of messages that are each whole already.
pub fn batch<'a>(messages: impl IntoIterator<Item = &'a Bytes>) -> Bytes {
    let mut out = vec![b'['];
    for message in messages {
        if out.len() > 1 {
            out.push(b',');
        }
        out.extend_from_slice(message);
    }
    out.push(b']');
    out.into()
}
