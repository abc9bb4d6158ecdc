//! Times on the command line: `90d`, `12h`, `30m`, `45s`.

use std::time::Duration;

/// Parses a whole number and a unit.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || "write a number and a unit, e.g. `90d`, `12h`, `30m` or `45s`".to_owned();
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    // A century is long enough and stays far from every overflow.
    match number.checked_mul(seconds) {
        Some(total) if (1..=100 * 366 * 86_400).contains(&total) => Ok(Duration::from_secs(total)),
        _ => Err("the time must be between one second and a hundred years".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(parse("90d"), Ok(Duration::from_secs(90 * 86_400)));
        assert_eq!(parse("1s"), Ok(Duration::from_secs(1)));
        for bad in ["", "d", "5", "5w", "-5d", "0s", "99999999999999999999d", "99999999999d", "1.5h", "5 d"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
