//! Canonical JSON (RFC 8785), for digests.

use crate::build::push_quoted;
use crate::raw::RawJson;
use crate::scan::text::{Unit, units};
use crate::scan::{HARD_DEPTH, JsonKind, Scanner, StrTok};

/// The canonical text: no white space, members sorted by UTF-16 code units, numbers as
/// ECMAScript writes them.
///
/// RFC 8785 covers I-JSON only; outside of it the function stays total and keeps
/// different values different: numbers beyond the range of doubles keep their
/// spelling, half surrogate pairs become lower-case `\udXXX`, members of one name all
/// stay in their order.
pub fn rfc8785(raw: &RawJson) -> String {
    let mut out = Vec::with_capacity(raw.len());
    write(raw.as_bytes(), &mut out);
    String::from_utf8(out).unwrap_or_default()
}

/// Nesting of valid values is bounded by the scanner, so the recursion is too.
fn write(bytes: &[u8], out: &mut Vec<u8>) {
    match JsonKind::of(bytes) {
        JsonKind::Object => write_object(bytes, out),
        JsonKind::Array => {
            let mut scan = Scanner::new(bytes, HARD_DEPTH);
            let mut first = true;
            out.push(b'[');
            if scan.open(b'[').is_ok() {
                let mut some = false;
                while let Ok(Some(item)) = scan.next_item(&mut first) {
                    if some {
                        out.push(b',');
                    }
                    some = true;
                    write(item.of(bytes), out);
                }
            }
            out.push(b']');
        }
        JsonKind::String => {
            if let Some(tok) = StrTok::whole(bytes) {
                write_string(bytes, tok, out);
            }
        }
        JsonKind::Number => out.extend_from_slice(number(std::str::from_utf8(bytes).unwrap_or("0")).as_bytes()),
        JsonKind::Bool | JsonKind::Null => out.extend_from_slice(bytes),
    }
}

fn write_object(bytes: &[u8], out: &mut Vec<u8>) {
    let mut scan = Scanner::new(bytes, HARD_DEPTH);
    let mut first = true;
    let mut members = Vec::new();
    if scan.open(b'{').is_ok() {
        while let Ok(Some(member)) = scan.next_member(&mut first) {
            members.push((utf16(bytes, member.key), member));
        }
    }
    // Stable, so members of one name keep their order.
    members.sort_by(|a, b| a.0.cmp(&b.0));
    out.push(b'{');
    for (i, (_, member)) in members.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_string(bytes, member.key, out);
        out.push(b':');
        write(member.value.of(bytes), out);
    }
    out.push(b'}');
}

fn utf16(bytes: &[u8], key: StrTok) -> Vec<u16> {
    let mut all = Vec::new();
    each_unit(bytes, key, |unit| match unit {
        Unit::Char(c) => all.extend_from_slice(c.encode_utf16(&mut [0; 2])),
        Unit::Lone(half) => all.push(half),
    });
    all
}

fn each_unit(bytes: &[u8], tok: StrTok, each: impl FnMut(Unit)) {
    units(std::str::from_utf8(tok.inner(bytes)).unwrap_or_default(), each);
}

fn write_string(bytes: &[u8], tok: StrTok, out: &mut Vec<u8>) {
    if !tok.escaped {
        // Without escapes a string already is in canonical form.
        out.extend_from_slice(tok.span.of(bytes));
        return;
    }
    let mut parts = vec![(String::new(), None)];
    each_unit(bytes, tok, |unit| match (unit, parts.last_mut()) {
        (Unit::Char(c), Some((text, None))) => text.push(c),
        (Unit::Char(c), _) => parts.push((c.to_string(), None)),
        (Unit::Lone(half), _) => parts.push((String::new(), Some(half))),
    });
    out.push(b'"');
    for (text, half) in &parts {
        let mut quoted = Vec::with_capacity(text.len() + 2);
        push_quoted(&mut quoted, text);
        out.extend_from_slice(quoted.get(1..quoted.len() - 1).unwrap_or_default());
        if let Some(half) = half {
            out.extend_from_slice(format!("\\u{half:04x}").as_bytes());
        }
    }
    out.push(b'"');
}

/// A number as ECMAScript's `Number::toString` writes it (RFC 8785, section 3.2.2.3).
fn number(text: &str) -> String {
    let value: f64 = match text.parse() {
        Ok(value) if f64::is_finite(value) => value,
        _ => return text.to_owned(),
    };
    if value == 0.0 {
        return "0".to_owned();
    }
    // `{:e}` gives the shortest digits that read back as the same double.
    let shortest = format!("{:e}", value.abs());
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let sign = if value < 0.0 { "-" } else { "" };
    let count = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    // The decimal point stands after `point` digits.
    let point = exponent + 1;
    let zeros = |n: i32| "0".repeat(usize::try_from(n).unwrap_or(0));
    let split = |at: i32| digits.split_at(usize::try_from(at).unwrap_or(0).min(digits.len()));
    if (count..=21).contains(&point) {
        format!("{sign}{digits}{}", zeros(point - count))
    } else if (1..=21).contains(&point) {
        let (whole, fraction) = split(point);
        format!("{sign}{whole}.{fraction}")
    } else if (-5..=0).contains(&point) {
        format!("{sign}0.{}{digits}", zeros(-point))
    } else {
        let (lead, rest) = split(1);
        let dot = if rest.is_empty() { "" } else { "." };
        let plus = if exponent < 0 { "" } else { "+" };
        format!("{sign}{lead}{dot}{rest}e{plus}{exponent}")
    }
}
