//! Numbers as text: what value a spelling has, without floating point.

use std::borrow::Cow;

/// Longest integer, in digits, that is worked with.
const MAX_DIGITS: usize = 64;

/// The plain decimal digits of a JSON number that is a whole number, however it is
/// spelled: `1.0`, `10e-1` and `1` are all `1`; `-0` is `0`. Nothing for fractions
/// and for numbers of more than 64 digits.
pub(crate) fn integer(text: &str) -> Option<Cow<'_, str>> {
    let (negative, unsigned) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    if unsigned.bytes().all(|b| b.is_ascii_digit()) {
        return (unsigned.len() <= MAX_DIGITS).then_some(if unsigned == "0" {
            Cow::Borrowed("0")
        } else {
            Cow::Borrowed(text)
        });
    }
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.strip_prefix('+').unwrap_or(exponent)),
        None => (unsigned, "0"),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{}", fraction.trim_end_matches('0'));
    let significant = digits.trim_start_matches('0');
    if significant.is_empty() {
        return Some(Cow::Borrowed("0"));
    }
    // An exponent too large for i32 cannot belong to a number of 64 digits.
    let exponent: i32 = exponent.parse().ok()?;
    let fraction_len = i32::try_from(digits.len().checked_sub(whole.len())?).ok()?;
    let shift = exponent.checked_sub(fraction_len)?;
    let body = if shift >= 0 {
        let zeros = usize::try_from(shift).ok().filter(|zeros| *zeros <= MAX_DIGITS)?;
        format!("{significant}{}", "0".repeat(zeros))
    } else {
        let cut = usize::try_from(shift.unsigned_abs()).ok()?;
        let kept = significant.len().checked_sub(cut)?;
        let (kept, lost) = significant.split_at_checked(kept)?;
        if kept.is_empty() || lost.bytes().any(|b| b != b'0') {
            return None;
        }
        kept.to_owned()
    };
    (body.len() <= MAX_DIGITS).then(|| Cow::Owned(if negative { format!("-{body}") } else { body }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p30_whole_numbers_in_every_spelling() {
        for (text, want) in [
            ("0", Some("0")),
            ("-0", Some("0")),
            ("-0.0", Some("0")),
            ("0e99999999999", Some("0")),
            ("1", Some("1")),
            ("1.0", Some("1")),
            ("1.000", Some("1")),
            ("-1.0", Some("-1")),
            ("10e-1", Some("1")),
            ("1e3", Some("1000")),
            ("1E+3", Some("1000")),
            ("1.5e1", Some("15")),
            ("0.5e1", Some("5")),
            ("120e-1", Some("12")),
            ("12.50", None),
            ("1.5", None),
            ("1e-1", None),
            ("0.1", None),
            ("123e-2", None),
            ("1e-400", None),
            ("1e400", None),
            ("1e99999999999999999999", None),
            ("9007199254740993", Some("9007199254740993")),
            ("99999999999999999999999999999999", Some("99999999999999999999999999999999")),
        ] {
            assert_eq!(integer(text).as_deref(), want, "{text}");
        }
        assert_eq!(integer(&"9".repeat(65)), None);
        assert_eq!(integer("1e64"), None);
    }
}
