//! Times of the week, at a fixed distance from UTC.

use bartizan_config::Diagnostic;
use bartizan_config::resources::{Day, TimeWindow};

const DAY: i64 = 24 * 60;
const MINUTE_MS: i64 = 60_000;

/// A window that comes back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// Bits of weekdays on which it begins, Monday first.
    days: u8,
    /// Minutes of the day; `to` over [`DAY`] is on the next one.
    from: i64,
    to: i64,
    /// Minutes that local time is ahead of UTC.
    offset: i64,
}

impl Window {
    /// Reads a window; what is wrong with it is reported, and then it matches at no time.
    pub(crate) fn compile(window: &TimeWindow, path: &str, findings: &mut Vec<Diagnostic>) -> Self {
        let mut wrong = |key: &str, message: String, suggestion: &str| {
            findings.push(Diagnostic::new(format!("{path}.time.{key}"), "invalid_window", message).suggest(suggestion));
        };
        let mut minute = |key: &str, text: &Option<String>, default: i64| match text.as_deref() {
            None => default,
            Some(text) => clock(text).unwrap_or_else(|| {
                wrong(key, format!("`{text}` is not a time of the day"), "write it like `08:30`");
                default
            }),
        };
        let from = minute("from", &window.from, 0);
        let to = minute("to", &window.to, DAY);
        let offset = match window.zone.as_deref() {
            None | Some("UTC" | "Z") => 0,
            Some(text) => offset(text).unwrap_or_else(|| {
                wrong("zone", format!("`{text}` is not a fixed zone"), "write `UTC` or an offset like `+02:00`");
                0
            }),
        };
        if from == to || from == DAY {
            let message = "the window has no minute in it".to_owned();
            wrong("from", message, "leave out `from` and `to` for whole days");
        }
        let listed = window.days.iter().fold(0, |bits, day| bits | 1 << *day as u8);
        let days = if window.days.is_empty() { u8::MAX } else { listed };
        Self { days, from, to: if to <= from { to + DAY } else { to }, offset }
    }

    /// Whether it is open.
    pub(crate) fn holds(&self, now_ms: i64) -> bool {
        let (day, minute) = self.local(now_ms);
        let open = |day: i64, minute: i64| self.on(day) && (self.from..self.to).contains(&minute);
        open(day, minute) || open(day - 1, minute + DAY)
    }

    /// The next moment at which it may open or close.
    pub(crate) fn next_change_ms(&self, now_ms: i64) -> i64 {
        let (day, minute) = self.local(now_ms);
        let edges = [0, self.from, self.to % DAY].map(|edge| if edge > minute { edge } else { edge + DAY });
        let next = edges.into_iter().min().unwrap_or(DAY);
        (day * DAY + next - self.offset).saturating_mul(MINUTE_MS)
    }

    /// Days since the epoch and minute of the day, in local time.
    fn local(&self, now_ms: i64) -> (i64, i64) {
        let minutes = now_ms.div_euclid(MINUTE_MS) + self.offset;
        (minutes.div_euclid(DAY), minutes.rem_euclid(DAY))
    }

    /// Whether it begins on a day. The epoch began on a Thursday.
    fn on(&self, day: i64) -> bool {
        self.days & (1 << (day + 3).rem_euclid(7)) != 0
    }
}

const _: () = assert!(Day::Mon as u8 == 0 && Day::Sun as u8 == 6);

/// `HH:MM`, and `24:00`, in minutes.
fn clock(text: &str) -> Option<i64> {
    let minutes = hours_minutes(text)?;
    (minutes <= DAY).then_some(minutes)
}

/// `+HH:MM`, in minutes; no place is further from UTC than 14 hours.
fn offset(text: &str) -> Option<i64> {
    let (sign, rest) = match text.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    hours_minutes(rest).filter(|minutes| *minutes <= 14 * 60).map(|minutes| sign * minutes)
}

fn hours_minutes(text: &str) -> Option<i64> {
    let number = |text: &str| {
        let digits = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<i64>().ok().filter(|_| digits)
    };
    let (hours, minutes) = text.split_once(':')?;
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    (hours <= 24 && minutes < 60).then_some(hours * 60 + minutes)
}

/// `90s`, `15m`, `8h`, `1d` in seconds; at least one second, at most a year.
pub(crate) fn seconds(text: &str) -> Option<u32> {
    let at = text.len().checked_sub(1)?;
    let (number, unit) = text.split_at_checked(at)?;
    let each = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    number.parse::<u32>().ok()?.checked_mul(each).filter(|seconds| (1..=366 * 86_400).contains(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::parse_rfc3339;

    fn window(days: &[Day], from: &str, to: &str, zone: &str) -> Window {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let window = TimeWindow { days: days.into(), from: some(from), to: some(to), zone: some(zone) };
        let mut findings = Vec::new();
        let compiled = Window::compile(&window, "p", &mut findings);
        assert!(findings.is_empty(), "{findings:?}");
        compiled
    }

    fn at(text: &str) -> i64 {
        parse_rfc3339(text).unwrap()
    }

    #[test]
    fn a3_windows_have_exact_edges() {
        use Day::{Fri, Mon, Sat, Sun};
        let office = || window(&[Mon, Fri], "08:00", "17:30", "+02:00");
        let night = || window(&[Fri], "22:00", "06:00", "UTC");
        // 2026-11-23 is a Monday.
        for (window, time, open) in [
            (office(), "2026-11-23T05:59:59.999Z", false),
            (office(), "2026-11-23T06:00:00Z", true),
            (office(), "2026-11-23T15:29:59.999Z", true),
            (office(), "2026-11-23T15:30:00Z", false),
            (office(), "2026-11-24T10:00:00Z", false),
            (night(), "2026-11-27T21:59:59Z", false),
            (night(), "2026-11-27T22:00:00Z", true),
            (night(), "2026-11-28T05:59:59Z", true),
            (night(), "2026-11-28T06:00:00Z", false),
            (night(), "2026-11-28T23:00:00Z", false),
            (night(), "2026-11-27T03:00:00Z", false),
            // Local days, not those of UTC.
            (window(&[Sun], "", "", "-05:00"), "2026-11-23T04:59:59Z", true),
            (window(&[Sun], "", "", "-05:00"), "2026-11-23T05:00:00Z", false),
            (window(&[Sat], "", "24:00", "+14:00"), "2026-11-27T10:00:00Z", true),
            (window(&[Sat], "00:00", "", "+14:00"), "2026-11-27T09:59:59Z", false),
            (window(&[], "12:00", "12:01", "+05:45"), "2026-11-23T06:15:30Z", true),
            // The week before the epoch.
            (window(&[Day::Wed], "", "", ""), "1969-12-31T23:59:59Z", true),
            (window(&[Day::Thu], "", "", ""), "1970-01-01T00:00:00Z", true),
        ] {
            assert_eq!(window.holds(at(time)), open, "{window:?} at {time}");
        }
    }

    #[test]
    fn a3_nothing_changes_between_the_changes_of_a_window() {
        let windows = [
            window(&[Day::Mon, Day::Fri], "08:00", "17:30", "+02:00"),
            window(&[Day::Fri], "22:00", "06:00", "-03:30"),
            window(&[Day::Sun], "", "", "+14:00"),
            window(&[], "23:59", "00:01", "UTC"),
        ];
        let start = at("2026-11-22T00:00:07Z");
        for window in windows {
            let mut changes = 0;
            let (mut now, mut next) = (start, window.next_change_ms(start));
            while now < start + 15 * DAY * MINUTE_MS {
                assert!(next > now && next <= now + DAY * MINUTE_MS);
                let later = now + MINUTE_MS;
                if window.holds(now) != window.holds(later) {
                    changes += 1;
                    assert!(now < next && next <= later, "{window:?}");
                    assert_ne!(window.holds(next - 1), window.holds(next));
                }
                now = later;
                if now >= next {
                    next = window.next_change_ms(now);
                }
            }
            assert!(changes >= 4);
        }
    }

    #[test]
    fn a3_wrong_windows_are_reported() {
        for (key, from, to, zone) in [
            ("from", "8:00", "", ""),
            ("from", "24:01", "", ""),
            ("to", "", "12:60", ""),
            ("to", "", "+1:00", ""),
            ("zone", "", "", "Europe/Vienna"),
            ("zone", "", "", "+14:01"),
            ("zone", "", "", "0200"),
            ("zone", "", "", "\u{2212}02:00"),
            ("from", "09:00", "09:00", ""),
        ] {
            let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            let window = TimeWindow { days: Vec::new(), from: some(from), to: some(to), zone: some(zone) };
            let mut findings = Vec::new();
            Window::compile(&window, "x", &mut findings);
            assert_eq!(findings[0].path, format!("x.time.{key}"), "{from} {to} {zone}");
        }
    }

    #[test]
    fn a17_ages_are_numbers_with_a_unit() {
        for (text, expected) in [("90s", 90), ("15m", 900), ("8h", 28_800), ("1d", 86_400), ("366d", 31_622_400)] {
            assert_eq!(seconds(text), Some(expected));
        }
        for bad in ["", "m", "15", "0s", "-1m", "+1m", "1.5h", "15 m", "15M", "367d", "4294967296s", "9999999d", "1é"]
        {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }
}
