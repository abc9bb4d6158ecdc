//! Figures over the index (feature row L6), for the API and the pages.

use bartizan_store::Store;
use bartizan_store::repo::audit_index::{self as repo, About};
use serde::{Deserialize, Serialize};

use crate::error::AuditError;

const DAY_MS: i64 = 86_400_000;
/// Most days of one question.
const MAX_DAYS: u32 = 179;

/// Steps of a series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Granularity {
    /// One step per day.
    #[default]
    Daily,
    /// One step per month; its `day` is the first of the month.
    Monthly,
}

/// A question about calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ask {
    /// `daily` (default) or `monthly`.
    pub granularity: Granularity,
    /// Only the total: no series.
    pub aggregate: bool,
    /// `utc`, `Z` or an offset, `±HH:MM`, within ±14:00. Default `utc`.
    pub tz: Option<String>,
    /// Days until now, today among them, 1–179. Default 7.
    pub days: Option<u32>,
    /// Only this portal.
    pub portal: Option<String>,
    /// Only this server.
    pub server: Option<String>,
}

/// What cannot be answered.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// `tz` is no time zone.
    #[error("`tz` must be `utc`, `Z` or an offset like `+02:00`, at most 14 hours")]
    TimeZone,
    /// `days` is out of range.
    #[error("`days` must be from 1 to 179")]
    Days,
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] AuditError),
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// `2026-11-03` in the time zone that was asked for.
    pub day: String,
    /// Calls.
    pub count: i64,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Begin of the first day, milliseconds since the epoch.
    pub start: i64,
    /// Now, milliseconds since the epoch; not included.
    pub end: i64,
    /// Every step, also those without calls; empty when only the total was asked for.
    pub series: Vec<Step>,
    /// All calls.
    pub total: i64,
    /// Half of the allowed calls took at most so long, microseconds; `None` without any.
    pub p50_us: Option<i64>,
    /// 95 of 100.
    pub p95_us: Option<i64>,
    /// 99 of 100.
    pub p99_us: Option<i64>,
    /// Calls that ended with an error.
    pub errors: i64,
    /// Their share of the allowed calls, 0–1.
    pub error_rate: f64,
    /// Refused calls.
    pub denials: i64,
    /// Calls refused for want of an approval.
    pub approvals: i64,
}

/// Milliseconds east of UTC.
fn offset_ms(tz: Option<&str>) -> Result<i64, AskError> {
    let text = tz.unwrap_or("utc");
    if text == "Z" || text.eq_ignore_ascii_case("utc") {
        return Ok(0);
    }
    let (sign, rest) = match text.split_at_checked(1) {
        Some(("+", rest)) => (1, rest),
        Some(("-", rest)) => (-1, rest),
        _ => return Err(AskError::TimeZone),
    };
    let number = |text: &str| -> Option<i64> {
        (text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten()
    };
    let (hours, minutes) = rest.split_once(':').ok_or(AskError::TimeZone)?;
    let (hours, minutes) = number(hours).zip(number(minutes)).ok_or(AskError::TimeZone)?;
    let all = hours * 60 + minutes;
    if minutes > 59 || all > 14 * 60 {
        return Err(AskError::TimeZone);
    }
    Ok(sign * all * 60_000)
}

/// Calls per day or month of a time zone, and what became of them.
///
/// # Errors
/// [`AskError`].
pub async fn figures(store: &Store, ask: &Ask, now_ms: i64) -> Result<Figures, AskError> {
    let days = ask.days.unwrap_or(7);
    if !(1..=MAX_DAYS).contains(&days) {
        return Err(AskError::Days);
    }
    let offset = offset_ms(ask.tz.as_deref())?;
    let today = (now_ms + offset).div_euclid(DAY_MS);
    let first = today - i64::from(days) + 1;
    let start = first * DAY_MS - offset;
    let about =
        About { since_ms: start, until_ms: now_ms, portal: ask.portal.as_deref(), server: ask.server.as_deref() };
    let found = repo::days(store, &about, offset).await.map_err(AuditError::from)?;
    let sum = |of: fn(&repo::Day) -> i64| found.iter().map(of).sum::<i64>();
    let (total, denials, errors) = (sum(|day| day.count), sum(|day| day.denied), sum(|day| day.errors));
    let allowed = total - denials;
    let mut ranks = [None; 3];
    for (place, percent) in ranks.iter_mut().zip([50, 95, 99]) {
        if allowed > 0 {
            // The nearest rank.
            let rank = (allowed * percent + 99) / 100 - 1;
            *place = repo::nth_duration_us(store, &about, rank).await.map_err(AuditError::from)?;
        }
    }
    let [p50_us, p95_us, p99_us] = ranks;
    let mut series: Vec<Step> = Vec::new();
    if !ask.aggregate {
        for day in first..=today {
            let count = found.iter().find(|one| one.day == day).map_or(0, |one| one.count);
            // A date is the first ten characters.
            let date: String = bartizan_model::clock::rfc3339(day * DAY_MS).chars().take(10).collect();
            let name = match ask.granularity {
                Granularity::Daily => date,
                Granularity::Monthly => format!("{}-01", date.get(..7).unwrap_or_default()),
            };
            match series.last_mut().filter(|step| step.day == name) {
                Some(step) => step.count += count,
                None => series.push(Step { day: name, count }),
            }
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "a share needs no more digits")]
    let error_rate = if allowed > 0 { errors as f64 / allowed as f64 } else { 0.0 };
    Ok(Figures {
        start,
        end: now_ms,
        series,
        total,
        p50_us,
        p95_us,
        p99_us,
        errors,
        error_rate,
        denials,
        approvals: sum(|day| day.approvals),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l6_time_zones() {
        for (text, minutes) in [("utc", 0), ("UTC", 0), ("Z", 0), ("+14:00", 840), ("-12:00", -720), ("+05:45", 345)] {
            assert_eq!(offset_ms(Some(text)).unwrap(), minutes * 60_000, "{text}");
        }
        for bad in [
            "",
            "z",
            "+1:00",
            "+14:01",
            "-15:00",
            "+02:60",
            "02:00",
            "+02",
            "+0200",
            "+٠٢:٠٠",
            "+-1:00",
            "Europe/Berlin",
        ] {
            assert!(matches!(offset_ms(Some(bad)), Err(AskError::TimeZone)), "{bad}");
        }
    }
}
