//! JSON numbers to integers, exactly: never through a float.

/// The integer a JSON number stands for, however it is written (`1000`, `1e3`,
/// `1000.0`, `100000e-2`).
///
/// # Errors
/// What is wrong, for texts that are not a number, not an integer or outside 64 bits.
pub(super) fn integer(text: &str) -> Result<i64, &'static str> {
    const NOT_A_NUMBER: &str = "is not a number";
    const NOT_AN_INTEGER: &str = "is not an integer";
    const OUT_OF_RANGE: &str = "is outside the range of 64-bit integers";
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    if !rest.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(NOT_A_NUMBER);
    }
    let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, parse_exponent(exponent).ok_or(NOT_A_NUMBER)?),
        None => (rest, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return Err(NOT_A_NUMBER);
    }
    // value = digits × 10^scale
    let digits: String = [whole, fraction].concat();
    let scale = exponent.saturating_sub(i64::try_from(fraction.len()).unwrap_or(i64::MAX));
    let significant = digits.trim_end_matches('0');
    if significant.is_empty() {
        return Ok(0);
    }
    let trailing = i64::try_from(digits.len() - significant.len()).unwrap_or(i64::MAX);
    let scale = scale.saturating_add(trailing);
    if scale < 0 {
        return Err(NOT_AN_INTEGER);
    }
    let significant = significant.trim_start_matches('0');
    let scale = u32::try_from(scale).map_err(|_| OUT_OF_RANGE)?;
    if significant.len() > 19 || scale > 19 {
        return Err(OUT_OF_RANGE);
    }
    let value: i128 = significant.parse().map_err(|_| OUT_OF_RANGE)?;
    let value = 10_i128.checked_pow(scale).and_then(|factor| value.checked_mul(factor)).ok_or(OUT_OF_RANGE)?;
    i64::try_from(if negative { -value } else { value }).map_err(|_| OUT_OF_RANGE)
}

/// The exponent; hugely long ones saturate.
fn parse_exponent(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let value = digits.bytes().fold(0_i64, |sum, b| sum.saturating_mul(10).saturating_add(i64::from(b - b'0')));
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::integer;

    #[test]
    fn a20_numbers_with_an_integer_value_become_integers() {
        for (text, value) in [
            ("0", 0),
            ("-0", 0),
            ("0e999999999999999999999", 0),
            ("0.000", 0),
            ("1e3", 1_000),
            ("1E+3", 1_000),
            ("1000.0", 1_000),
            ("10.50e1", 105),
            ("100000e-2", 1_000),
            ("-12.5e1", -125),
            ("9223372036854775807", i64::MAX),
            ("-9223372036854775808", i64::MIN),
            ("9007199254740993", 9_007_199_254_740_993),
            ("0.000000000000000000001e21", 1),
            ("92233720368547758.07e2", i64::MAX),
        ] {
            assert_eq!(integer(text), Ok(value), "{text}");
        }
    }

    #[test]
    fn a20_other_numbers_are_refused() {
        for text in [
            "0.5",
            "1e-1",
            "1000.00000000000000000000001",
            "9223372036854775808",
            "-9223372036854775809",
            "1e19",
            "1e400",
            "1e99999999999999999999999",
            "1e-99999999999999999999999",
            "\"5\"",
            "null",
            "true",
            "[]",
            "",
            "-",
            "1e",
            "1.2.3",
            "1e1e1",
            "٣",
        ] {
            assert!(integer(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a20_long_digit_strings_cost_linear_time() {
        let long = format!("{}.{}", "9".repeat(1 << 20), "0".repeat(1 << 20));
        assert!(integer(&long).is_err());
        let zeros = format!("1.{}", "0".repeat(1 << 20));
        assert_eq!(integer(&zeros), Ok(1));
    }
}
