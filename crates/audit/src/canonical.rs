//! Canonical JSON (RFC 8785) written straight from an event: no value trees, members in
//! the fixed order of their sorted names.
//!
//! Numbers stay within what I-JSON can hold exactly (RFC 7493, section 2.2): the
//! snapshot version, a 64-bit hash, is written as 16 hex digits; sizes and times are
//! capped at 2^53 − 1. Texts from outside are cut at a bound so that one event cannot
//! fill the disk.

use bartizan_model::event::{AuditEvent, EventKind, Verdict, Who};

use crate::digest::push_hex;

/// Longest text of one member, bytes; a longer one is cut and ends in `…`.
const MAX_TEXT: usize = 2_048;
/// Longest text of what a change was and became, bytes.
const MAX_CHANGE: usize = 64 << 10;
/// Longest text of one member of an identity, bytes.
const MAX_WHO_TEXT: usize = 512;
/// Longest purpose, bytes: 500 characters.
const MAX_PURPOSE: usize = 2_000;
/// Most labels of an event and groups of an identity.
const MAX_ITEMS: usize = 256;
/// The largest integer that a JSON number holds exactly.
const MAX_SAFE: u64 = (1 << 53) - 1;

/// Appends the members of an event, without braces and beginning with its first member,
/// ending with the commitment to its identity.
pub(crate) fn push_event(out: &mut Vec<u8>, event: &AuditEvent, commitment: &str) {
    // Exhaustive on purpose: a new member of the model must get its place here.
    let AuditEvent {
        id,
        at_ms,
        kind,
        principal_kind,
        who: _,
        method,
        portal,
        server,
        server_version,
        server_url,
        target,
        exposed,
        class,
        pin,
        arguments_digest,
        verdict,
        policy_version,
        labels,
        request_bytes,
        response_bytes,
        total_us,
        upstream_us,
        upstream_identity,
        era,
        session,
        grant,
        trace_id,
        outcome,
        related,
        note,
        change,
    } = event;
    opt_text(out, "\"arguments_digest\":", arguments_digest.as_deref());
    out.extend_from_slice(b"\"at_ms\":");
    push_i64(out, *at_ms);
    out.push(b',');
    if let Some(change) = change {
        out.extend_from_slice(b"\"change\":");
        push_text(out, change, MAX_CHANGE);
        out.push(b',');
    }
    opt_plain(out, "\"class\":\"", class.map(|class| class.as_str()));
    opt_plain(out, "\"era\":\"", era.map(|era| era.as_str()));
    opt_text(out, "\"exposed\":", exposed.as_deref());
    opt_text(out, "\"grant\":", grant.as_deref());
    out.extend_from_slice(b"\"id\":\"");
    push_display(out, id);
    out.extend_from_slice(b"\",\"kind\":\"");
    out.extend_from_slice(kind_str(*kind).as_bytes());
    out.extend_from_slice(b"\",");
    if !labels.is_empty() {
        out.extend_from_slice(b"\"labels\":");
        push_texts(out, labels, MAX_TEXT);
        out.push(b',');
    }
    text(out, "\"method\":", method);
    opt_text(out, "\"note\":", note.as_deref());
    opt_plain(out, "\"outcome\":\"", Some(outcome.as_str()));
    opt_text(out, "\"pin\":", pin.as_deref());
    out.extend_from_slice(b"\"policy_version\":\"");
    push_hex(out, &policy_version.to_be_bytes());
    out.extend_from_slice(b"\",");
    opt_plain(out, "\"portal\":\"", portal.as_ref().map(|portal| portal.as_str()));
    opt_plain(out, "\"principal_kind\":\"", Some(principal_kind.as_str()));
    if let Some(related) = related {
        out.extend_from_slice(b"\"related\":\"");
        push_display(out, related);
        out.extend_from_slice(b"\",");
    }
    number(out, "\"request_bytes\":", *request_bytes);
    number(out, "\"response_bytes\":", *response_bytes);
    opt_plain(out, "\"server\":\"", server.as_ref().map(|server| server.as_str()));
    opt_text(out, "\"server_url\":", server_url.as_deref());
    opt_text(out, "\"server_version\":", server_version.as_deref());
    opt_text(out, "\"session\":", session.as_deref());
    opt_text(out, "\"target\":", target.as_deref());
    number(out, "\"total_us\":", *total_us);
    opt_text(out, "\"trace_id\":", trace_id.as_deref());
    opt_text(out, "\"upstream_identity\":", upstream_identity.as_deref());
    number(out, "\"upstream_us\":", *upstream_us);
    push_verdict(out, verdict);
    out.extend_from_slice(b",\"who\":\"");
    out.extend_from_slice(commitment.as_bytes());
    out.push(b'"');
}

fn push_verdict(out: &mut Vec<u8>, verdict: &Verdict) {
    let Verdict { allow, code, rule, stage } = verdict;
    out.extend_from_slice(if *allow { b"\"verdict\":{\"allow\":true" } else { b"\"verdict\":{\"allow\":false" });
    for (name, value) in [
        (",\"code\":", code.map(|code| code.as_str())),
        (",\"rule\":", rule.as_deref()),
        (",\"stage\":", stage.as_deref()),
    ] {
        if let Some(value) = value {
            out.extend_from_slice(name.as_bytes());
            push_text(out, value, MAX_TEXT);
        }
    }
    out.push(b'}');
}

/// Appends an identity as a JSON object.
pub(crate) fn push_who(out: &mut Vec<u8>, who: &Who) {
    let Who { principal, groups, ip, client, client_version, owner, country, device, purpose } = who;
    out.push(b'{');
    for (name, value) in [
        ("\"client\":", client),
        ("\"client_version\":", client_version),
        ("\"country\":", country),
        ("\"device\":", device),
    ] {
        if let Some(value) = value {
            out.extend_from_slice(name.as_bytes());
            push_text(out, value, MAX_WHO_TEXT);
            out.push(b',');
        }
    }
    if !groups.is_empty() {
        out.extend_from_slice(b"\"groups\":");
        push_texts(out, groups, MAX_WHO_TEXT);
        out.push(b',');
    }
    if let Some(ip) = ip {
        out.extend_from_slice(b"\"ip\":");
        push_text(out, ip, MAX_WHO_TEXT);
        out.push(b',');
    }
    if let Some(owner) = owner {
        out.extend_from_slice(b"\"owner\":");
        push_text(out, owner, MAX_WHO_TEXT);
        out.push(b',');
    }
    out.extend_from_slice(b"\"principal\":");
    push_text(out, principal, MAX_WHO_TEXT);
    if let Some(purpose) = purpose {
        out.extend_from_slice(b",\"purpose\":");
        push_text(out, purpose, MAX_PURPOSE);
    }
    out.push(b'}');
}

/// `"name":"value",` with escapes.
fn text(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    push_text(out, value, MAX_TEXT);
    out.push(b',');
}

fn opt_text(out: &mut Vec<u8>, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        text(out, name, value);
    }
}

/// `"name":"value",` for words that need no escapes; `name` includes the opening quote.
fn opt_plain(out: &mut Vec<u8>, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\",");
    }
}

fn number(out: &mut Vec<u8>, name: &str, value: u64) {
    out.extend_from_slice(name.as_bytes());
    push_u64(out, value.min(MAX_SAFE));
    out.push(b',');
}

fn push_texts(out: &mut Vec<u8>, values: &[String], max: usize) {
    out.push(b'[');
    for (index, value) in values.iter().take(MAX_ITEMS).enumerate() {
        if index > 0 {
            out.push(b',');
        }
        push_text(out, value, max);
    }
    out.push(b']');
}

/// Decimal digits.
pub(crate) fn push_u64(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [b'0'; 20];
    let mut used = 0;
    for digit in digits.iter_mut().rev() {
        // A remainder of ten fits a byte.
        *digit = b'0' + u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
        used += 1;
        if value == 0 {
            break;
        }
    }
    out.extend(digits.iter().skip(digits.len() - used));
}

fn push_i64(out: &mut Vec<u8>, value: i64) {
    if value < 0 {
        out.push(b'-');
    }
    push_u64(out, value.unsigned_abs().min(MAX_SAFE));
}

fn push_display(out: &mut Vec<u8>, value: &impl std::fmt::Display) {
    // Writing into a Vec cannot fail.
    let _ = std::io::Write::write_fmt(out, format_args!("{value}"));
}

/// A JSON string (RFC 8785, section 3.2.2.2), cut at `max` bytes.
pub(crate) fn push_text(out: &mut Vec<u8>, value: &str, max: usize) {
    out.push(b'"');
    if value.len() <= max {
        push_escaped(out, value);
    } else {
        push_escaped(out, value.get(..value.floor_char_boundary(max)).unwrap_or_default());
        out.extend_from_slice("…".as_bytes());
    }
    out.push(b'"');
}

fn push_escaped(out: &mut Vec<u8>, value: &str) {
    let mut rest = value.as_bytes();
    while let Some(at) = rest.iter().position(|b| *b < 0x20 || *b == b'"' || *b == b'\\') {
        let (plain, from) = rest.split_at(at);
        out.extend_from_slice(plain);
        let Some((byte, after)) = from.split_first() else { return };
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x09 => out.extend_from_slice(b"\\t"),
            0x0a => out.extend_from_slice(b"\\n"),
            0x0c => out.extend_from_slice(b"\\f"),
            0x0d => out.extend_from_slice(b"\\r"),
            other => {
                out.extend_from_slice(b"\\u00");
                push_hex(out, &[*other]);
            }
        }
        rest = after;
    }
    out.extend_from_slice(rest);
}

fn kind_str(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Call => "call",
        EventKind::Intent => "intent",
        EventKind::List => "list",
        EventKind::Auth => "auth",
        EventKind::Token => "token",
        EventKind::Admin => "admin",
        EventKind::System => "system",
    }
}
