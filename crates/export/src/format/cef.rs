//! ArcSight Common Event Format, version 0 (implementation standard, revision 26).

use std::fmt::Write as _;

use super::VERSION;
use crate::event::Event;

pub(super) fn line(event: &Event) -> String {
    let severity = match (event.kind(), event.failed()) {
        ("auth" | "admin" | "token", true) => 6,
        (_, true) => 5,
        ("admin" | "token", false) => 3,
        _ => 1,
    };
    let method = event.text("method").unwrap_or_default();
    let mut out = format!("CEF:0|bartizan|bartizan|{VERSION}|");
    header(&mut out, event.kind());
    out.push('|');
    header(&mut out, method);
    let _ = write!(out, "|{severity}|");
    let (at, seq, took) = (event.at_ms.to_string(), event.seq.to_string(), event.number("total_us").to_string());
    let (sent, got) = (event.number("request_bytes").to_string(), event.number("response_bytes").to_string());
    let groups = event.groups().join(",");
    let fields = [
        ("externalId", Some(event.id())),
        ("rt", Some(at.as_str())),
        ("act", Some(if event.allowed() { "allowed" } else { "refused" })),
        ("outcome", Some(event.outcome())),
        ("reason", event.code()),
        ("suser", event.who("principal")),
        ("spriv", (!groups.is_empty()).then_some(groups.as_str())),
        ("src", event.who("ip").filter(|ip| ip.contains('.'))),
        ("c6a2", event.who("ip").filter(|ip| ip.contains(':'))),
        ("c6a2Label", event.who("ip").filter(|ip| ip.contains(':')).map(|_| "Source IPv6 Address")),
        ("requestClientApplication", event.who("client")),
        ("requestMethod", Some(method)),
        ("destinationServiceName", event.text("server")),
        ("request", event.text("target")),
        ("in", Some(sent.as_str())),
        ("out", Some(got.as_str())),
        ("msg", event.text("note")),
        ("cs1", event.text("portal")),
        ("cs1Label", event.text("portal").map(|_| "portal")),
        ("cs2", event.verdict("rule").and_then(|rule| rule.as_str())),
        ("cs2Label", event.verdict("rule").map(|_| "rule")),
        ("cs3", event.text("class")),
        ("cs3Label", event.text("class").map(|_| "class")),
        ("cs4", event.text("trace_id")),
        ("cs4Label", event.text("trace_id").map(|_| "traceId")),
        ("cs5", Some(event.writer.as_str())),
        ("cs5Label", Some("writer")),
        ("cs6", event.text("session")),
        ("cs6Label", event.text("session").map(|_| "session")),
        ("cn1", Some(seq.as_str())),
        ("cn1Label", Some("seq")),
        ("cn2", Some(took.as_str())),
        ("cn2Label", Some("totalMicroseconds")),
    ];
    let mut first = true;
    for (name, value) in fields {
        let Some(value) = value.filter(|value| !value.is_empty()) else { continue };
        if !std::mem::take(&mut first) {
            out.push(' ');
        }
        out.push_str(name);
        out.push('=');
        extension(&mut out, value);
    }
    out
}

/// Header fields: backslash and pipe are escaped, and there are no line ends.
fn header(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '\\' | '|' => {
                out.push('\\');
                out.push(c);
            }
            c if breaks(c) => out.push(' '),
            c => out.push(c),
        }
    }
}

/// Extension values: backslash, equals sign and line ends are escaped.
fn extension(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '\\' | '=' => {
                out.push('\\');
                out.push(c);
            }
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            c if breaks(c) => out.push(' '),
            c => out.push(c),
        }
    }
}

/// What some reader takes for a line end, or a terminal for a command.
fn breaks(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}
