//! Canonical JSON (RFC 8785), for digests.

use crate::build::push_quoted;
use crate::raw::RawJson;
use crate::scan::text::{Unit, units};
use crate::scan::{HARD_DEPTH, ScanError, Scanner, StrTok};

/// The canonical text: no white space, members sorted by UTF-16 code units, numbers as
/// ECMAScript writes them.
///
/// RFC 8785 covers I-JSON only; outside of it the function stays total and keeps
/// different values different: numbers beyond the range of doubles keep their
/// spelling, half surrogate pairs become lower-case `\udXXX`, members of one name all
/// stay in their order.
pub fn rfc8785(raw: &RawJson) -> String {
    let mut out = Vec::with_capacity(raw.len());
    let bytes = raw.as_bytes();
    // The text was checked when the value was made, so the scan does not fail.
    let _ = write(bytes, &mut Scanner::new(bytes, HARD_DEPTH), &mut out);
    String::from_utf8(out).unwrap_or_default()
}

/// Writes the value that comes next. The scanner bounds the nesting and so the recursion.
fn write(bytes: &[u8], scan: &mut Scanner<'_>, out: &mut Vec<u8>) -> Result<(), ScanError> {
    match scan.peek() {
        Some(b'{') => write_object(bytes, scan, out),
        Some(b'[') => {
            let (mut first, mut some) = (true, false);
            scan.open(b'[')?;
            out.push(b'[');
            while scan.more_items(&mut first)? {
                if some {
                    out.push(b',');
                }
                some = true;
                write(bytes, scan, out)?;
            }
            out.push(b']');
            Ok(())
        }
        Some(b'"') => {
            write_string(bytes, scan.string()?, out);
            Ok(())
        }
        Some(b'-' | b'0'..=b'9') => {
            let text = scan.value()?.of(bytes);
            out.extend_from_slice(number(std::str::from_utf8(text).unwrap_or("0")).as_bytes());
            Ok(())
        }
        _ => {
            out.extend_from_slice(scan.value()?.of(bytes));
            Ok(())
        }
    }
}

fn write_object(bytes: &[u8], scan: &mut Scanner<'_>, out: &mut Vec<u8>) -> Result<(), ScanError> {
    let mut first = true;
    let mut members = Vec::new();
    let mut values = Vec::new();
    scan.open(b'{')?;
    while let Some(key) = scan.next_key(&mut first)? {
        let start = values.len();
        write(bytes, scan, &mut values)?;
        members.push((key, start..values.len()));
    }
    // Stable, so members of one name keep their order.
    if members.iter().all(|(key, _)| sorts_as_bytes(bytes, *key)) {
        members.sort_by(|a, b| a.0.inner(bytes).cmp(b.0.inner(bytes)));
    } else {
        members.sort_by_cached_key(|(key, _)| utf16(bytes, *key));
    }
    out.push(b'{');
    for (i, (key, value)) in members.into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_string(bytes, key, out);
        out.push(b':');
        out.extend_from_slice(values.get(value).unwrap_or_default());
    }
    out.push(b'}');
    Ok(())
}

/// Below U+E000 (in UTF-8: no byte from 0xEE on) the orders of UTF-8 bytes and UTF-16
/// units are the same.
fn sorts_as_bytes(bytes: &[u8], key: StrTok) -> bool {
    !key.escaped && key.inner(bytes).iter().all(|b| *b < 0xee)
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
    // `{:e}` says how many digits read back as the same double. With so many digits the
    // closest decimal is wanted, of two equally close ones the even one (ECMA-262,
    // Number::toString, note 2): that is what an explicit precision gives.
    let shortest = format!("{:e}", value.abs());
    let precision = shortest.find('e').unwrap_or(1).saturating_sub(2);
    let closest = format!("{:.precision$e}", value.abs());
    let (mantissa, exponent) = closest.split_once('e').unwrap_or((&closest, "0"));
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
