//! One line of a segment.
//!
//! ```text
//! {"_hash":H,"_prev":P,"_seq":N,"_v":1,"_writer":W, …event…, "who":C}
//! ```
//!
//! H is SHA-256 over the same object without `_hash`; P is H of the record before
//! (64 zeros for the first of a writer). The underscore sorts before every other member,
//! so that the line is canonical JSON and the hashed bytes are one piece.

use bartizan_model::event::AuditEvent;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::canonical::{push_event, push_u64};
use crate::digest::Hex;

/// Start of every line.
const HASH: &[u8] = b"{\"_hash\":\"";
const PREV: &[u8] = b"\"_prev\":\"";
const SEQ: &[u8] = b"\",\"_seq\":";
const WRITER: &[u8] = b",\"_v\":1,\"_writer\":\"";

/// Where a chain stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// Sequence number of the last record; 0 before the first.
    pub(crate) seq: u64,
    /// Its hash.
    pub(crate) hash: Hex,
}

impl Link {
    pub(crate) const START: Self = Self { seq: 0, hash: Hex::ZERO };
}

/// Appends the line of an event, with its newline, and returns where the chain then stands.
pub(crate) fn push_line(out: &mut Vec<u8>, writer: &str, after: &Link, event: &AuditEvent, commitment: &str) -> Link {
    let seq = after.seq + 1;
    out.extend_from_slice(HASH);
    let hash_at = out.len();
    out.extend_from_slice(Hex::ZERO.bytes());
    out.extend_from_slice(b"\",");
    let body_at = out.len();
    out.extend_from_slice(PREV);
    out.extend_from_slice(after.hash.bytes());
    out.extend_from_slice(SEQ);
    push_u64(out, seq);
    out.extend_from_slice(WRITER);
    out.extend_from_slice(writer.as_bytes());
    out.extend_from_slice(b"\",");
    push_event(out, event, commitment);
    out.push(b'}');
    let hash = Hex::of(&[b"{", out.get(body_at..).unwrap_or_default()]);
    if let Some(place) = out.get_mut(hash_at..hash_at + hash.bytes().len()) {
        place.copy_from_slice(hash.bytes());
    }
    out.push(b'\n');
    Link { seq, hash }
}

/// What a line says of itself; nothing of it is checked but the form.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parsed<'a> {
    pub(crate) hash: Hex,
    pub(crate) prev: Hex,
    pub(crate) seq: u64,
    pub(crate) writer: &'a str,
    /// The bytes after `_hash`, up to and with the closing brace.
    body: &'a [u8],
    /// The bytes after the chain's members, up to and with the closing brace.
    event: &'a [u8],
}

impl<'a> Parsed<'a> {
    /// Reads the fixed start of a line (without its newline); `None` for anything else.
    pub(crate) fn new(line: &'a [u8]) -> Option<Self> {
        let (hash, rest) = line.strip_prefix(HASH)?.split_at_checked(64)?;
        let body = rest.strip_prefix(b"\",")?;
        let (prev, rest) = body.strip_prefix(PREV)?.split_at_checked(64)?;
        let rest = rest.strip_prefix(SEQ)?;
        let (digits, rest) = rest.split_at_checked(rest.iter().position(|b| *b == b',')?)?;
        let rest = rest.strip_prefix(WRITER)?;
        let (writer, rest) = rest.split_at_checked(rest.iter().position(|b| *b == b'"')?)?;
        let event = rest.strip_prefix(b"\",")?;
        if !event.starts_with(b"\"") || !event.ends_with(b"\"}") || event.contains(&0) {
            return None;
        }
        // No sign and no leading zero: `parse` alone would take `+1` and `01`.
        if !digits.first().is_some_and(|first| (b'1'..=b'9').contains(first)) {
            return None;
        }
        Some(Self {
            hash: Hex::parse(hash)?,
            prev: Hex::parse(prev)?,
            seq: std::str::from_utf8(digits).ok()?.parse().ok()?,
            writer: std::str::from_utf8(writer).ok()?,
            body,
            event,
        })
    }

    /// True when the content has the hash that the line names.
    pub(crate) fn is_intact(&self) -> bool {
        Hex::of(&[b"{", self.body]) == self.hash
    }

    /// The event as a canonical JSON object without the chain's members; `None` when it
    /// is not UTF-8.
    pub(crate) fn event_json(&self) -> Option<String> {
        Some(format!("{{{}", std::str::from_utf8(self.event).ok()?))
    }

    pub(crate) fn link(&self) -> Link {
        Link { seq: self.seq, hash: self.hash }
    }
}

/// The members that the index has columns for.
#[derive(Deserialize)]
pub(crate) struct Indexed {
    pub(crate) id: String,
    pub(crate) at_ms: i64,
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) portal: Option<String>,
    #[serde(default)]
    pub(crate) server: Option<String>,
    #[serde(default)]
    pub(crate) target: Option<String>,
    pub(crate) verdict: IndexedVerdict,
    pub(crate) outcome: String,
    #[serde(default)]
    pub(crate) total_us: u64,
    pub(crate) who: String,
}

#[derive(Deserialize)]
pub(crate) struct IndexedVerdict {
    pub(crate) allow: bool,
    #[serde(default)]
    pub(crate) code: Option<String>,
}

/// The event of a line, or of its [`Parsed::event_json`], with the identity where it is still known. Not for hot paths.
pub(crate) fn event(line: &str, who: Option<&str>) -> Option<AuditEvent> {
    let mut members: Map<String, Value> = serde_json::from_str(line).ok()?;
    // The model has a number where the line has hex digits.
    let version = u64::from_str_radix(members.get("policy_version")?.as_str()?, 16).ok()?;
    members.insert("policy_version".to_owned(), version.into());
    members.retain(|name, _| !name.starts_with('_') && name != "who");
    let mut event: AuditEvent = serde_json::from_value(Value::Object(members)).ok()?;
    event.who = who.and_then(|who| serde_json::from_str(who).ok()).unwrap_or_default();
    Some(event)
}
