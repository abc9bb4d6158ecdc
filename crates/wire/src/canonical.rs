//! Canonical JSON (RFC 8785), for digests.

use crate::build::push_quoted;
use crate::raw::{JsonError, RawJson};
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
    form(raw, &mut Form { exact: false, fault: None })
}

/// Why a value has no exact canonical form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Inexact {
    /// An object has two members of one name.
    #[error("an object has two members of one name")]
    Duplicate,
    /// A text holds half a surrogate pair.
    #[error("a text holds half a surrogate pair")]
    Surrogate,
    /// A number is beyond the range of doubles.
    #[error("a number is beyond the range of doubles")]
    Number,
}

/// As [`rfc8785`], for pins: what lies outside of I-JSON is refused instead of written
/// somehow, and a number that a double would round keeps its spelling, so that no two
/// different values look alike. Where doubles hold every number, this is RFC 8785.
///
/// # Errors
/// [`Inexact`] for what different readers may read differently.
pub fn exact(raw: &RawJson) -> Result<String, Inexact> {
    raw.check_unique().map_err(|error| match error {
        JsonError::Surrogate(_) => Inexact::Surrogate,
        _ => Inexact::Duplicate,
    })?;
    let mut how = Form { exact: true, fault: None };
    let text = form(raw, &mut how);
    how.fault.map_or(Ok(text), Err)
}

/// How values are written, and what was found on the way.
struct Form {
    exact: bool,
    fault: Option<Inexact>,
}

fn form(raw: &RawJson, how: &mut Form) -> String {
    let mut out = Vec::with_capacity(raw.len());
    let bytes = raw.as_bytes();
    // The text was checked when the value was made, so the scan does not fail.
    let _ = write(bytes, &mut Scanner::new(bytes, HARD_DEPTH), &mut out, how);
    String::from_utf8(out).unwrap_or_default()
}

/// Writes the value that comes next. The scanner bounds the nesting and so the recursion.
fn write(bytes: &[u8], scan: &mut Scanner<'_>, out: &mut Vec<u8>, how: &mut Form) -> Result<(), ScanError> {
    match scan.peek() {
        Some(b'{') => write_object(bytes, scan, out, how),
        Some(b'[') => {
            let (mut first, mut some) = (true, false);
            scan.open(b'[')?;
            out.push(b'[');
            while scan.more_items(&mut first)? {
                if some {
                    out.push(b',');
                }
                some = true;
                write(bytes, scan, out, how)?;
            }
            out.push(b']');
            Ok(())
        }
        Some(b'"') => {
            write_string(bytes, scan.string()?, out, how);
            Ok(())
        }
        Some(b'-' | b'0'..=b'9') => {
            let text = scan.value()?.of(bytes);
            let text = std::str::from_utf8(text).unwrap_or("0");
            let canonical = number(text);
            if how.exact && canonical != text {
                match (decimal(text), decimal(&canonical)) {
                    (Some(given), Some(written)) if given == written => {}
                    // Written as nothing although it is something, or beyond the greatest double.
                    (Some(_), Some(written)) if !written.digits.is_empty() => {
                        out.extend_from_slice(text.as_bytes());
                        return Ok(());
                    }
                    _ => how.fault = Some(Inexact::Number),
                }
            }
            // What `number` cannot write keeps its spelling.
            if how.exact && !text.parse::<f64>().is_ok_and(f64::is_finite) {
                how.fault = Some(Inexact::Number);
            }
            out.extend_from_slice(canonical.as_bytes());
            Ok(())
        }
        _ => {
            out.extend_from_slice(scan.value()?.of(bytes));
            Ok(())
        }
    }
}

fn write_object(bytes: &[u8], scan: &mut Scanner<'_>, out: &mut Vec<u8>, how: &mut Form) -> Result<(), ScanError> {
    let mut first = true;
    let mut members = Vec::new();
    let mut values = Vec::new();
    scan.open(b'{')?;
    while let Some(key) = scan.next_key(&mut first)? {
        let start = values.len();
        write(bytes, scan, &mut values, how)?;
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
        write_string(bytes, key, out, how);
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

fn write_string(bytes: &[u8], tok: StrTok, out: &mut Vec<u8>, how: &mut Form) {
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
            how.fault = Some(Inexact::Surrogate);
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

/// What a decimal spelling is worth: its digits without zeros at both ends, and the power of
/// ten of the last one.
#[derive(PartialEq, Eq)]
struct Decimal {
    negative: bool,
    digits: String,
    power: i64,
}

/// `None` for an exponent that no number of this length needs.
fn decimal(text: &str) -> Option<Decimal> {
    let (negative, unsigned) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = [whole, fraction].concat();
    let kept = all.trim_end_matches('0');
    let digits = kept.trim_start_matches('0').to_owned();
    if digits.is_empty() {
        return Some(Decimal { negative: false, digits, power: 0 });
    }
    let exponent: i64 = exponent.strip_prefix('+').unwrap_or(exponent).parse().ok()?;
    let dropped = i64::try_from(all.len() - kept.len()).ok()?;
    let power = exponent.checked_sub(i64::try_from(fraction.len()).ok()?)?.checked_add(dropped)?;
    Some(Decimal { negative, digits, power })
}
