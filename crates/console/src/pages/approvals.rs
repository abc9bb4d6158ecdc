//! Pages of approvals (W12, A16). What clients and servers wrote was made visible by `approvals`
//! and stands apart as data.

use askama::Template;
use bartizan_approvals::Record;
use bartizan_policy::Asks;

use super::Chrome;
use crate::approvals::Seen;
use crate::when::utc;

/// Arguments that are read among others, characters; longer ones are read alone.
const TOGETHER: usize = 4_000;
/// Times for which somebody is let in, seconds.
const TIMES_S: [i64; 6] = [900, 1_800, 3_600, 7_200, 14_400, 28_800];

fn csrf(chrome: &Chrome) -> String {
    chrome.person.as_ref().map(|person| person.csrf.clone()).unwrap_or_default()
}

fn span(seconds: i64) -> String {
    match seconds {
        0..=119 => format!("{seconds} seconds"),
        120..=5_399 => format!("{} minutes", seconds / 60),
        _ if seconds % 3_600 == 0 => format!("{} hours", seconds / 3_600),
        _ => format!("{} hours and {} minutes", seconds / 3_600, seconds % 3_600 / 60),
    }
}

/// One line of the list.
pub(crate) struct Line {
    pub(crate) id: String,
    pub(crate) headline: String,
    pub(crate) facts: Vec<(&'static str, String)>,
    pub(crate) arguments: Option<String>,
    /// May be answered with others.
    pub(crate) together: bool,
    pub(crate) state: String,
    pub(crate) asked: String,
    pub(crate) waits_for: String,
}

impl Line {
    fn new(record: &Record) -> Self {
        let arguments = record.details.shown_arguments();
        let short = arguments.as_ref().is_none_or(|text| text.chars().count() <= TOGETHER);
        Self {
            id: record.row.id.clone(),
            headline: record.details.headline(),
            facts: record.details.facts(),
            together: short && !record.is_entry(),
            arguments: arguments.filter(|_| short),
            state: record.row.state.clone(),
            asked: utc(record.row.asked_ms),
            waits_for: record.waits_for(),
        }
    }
}

#[derive(Template)]
#[template(path = "approvals.html")]
pub(crate) struct Approvals {
    pub(crate) chrome: Chrome,
    pub(crate) csrf: String,
    pub(crate) waiting: Vec<Line>,
    pub(crate) several: bool,
    pub(crate) own: Vec<Line>,
}

impl Approvals {
    pub(crate) fn new(chrome: Chrome, waiting: &[Record], own: &[Record]) -> Self {
        let waiting: Vec<Line> = waiting.iter().map(Line::new).collect();
        Self {
            csrf: csrf(&chrome),
            several: waiting.iter().any(|line| line.together),
            waiting,
            own: own.iter().map(Line::new).collect(),
            chrome,
        }
    }
}

#[derive(Template)]
#[template(path = "approval.html")]
pub(crate) struct Approval {
    pub(crate) chrome: Chrome,
    pub(crate) csrf: String,
    pub(crate) id: String,
    pub(crate) link: String,
    pub(crate) headline: String,
    pub(crate) facts: Vec<(&'static str, String)>,
    pub(crate) arguments: Option<String>,
    pub(crate) difference: Vec<String>,
    /// What the difference is to.
    pub(crate) compared: &'static str,
    pub(crate) state: String,
    pub(crate) open: bool,
    pub(crate) answers: bool,
    pub(crate) own: bool,
    pub(crate) entry: bool,
    pub(crate) waits_for: String,
    pub(crate) decided: Option<String>,
    pub(crate) until: Option<String>,
    pub(crate) reason: Option<String>,
    /// Seconds and words.
    pub(crate) tool: Option<(i64, String)>,
    pub(crate) times: Vec<(i64, String)>,
}

impl Approval {
    pub(crate) fn new(chrome: Chrome, record: &Record, seen: Seen, link: &str) -> Self {
        let (row, details) = (&record.row, &record.details);
        let (compared, difference) = match &details.difference {
            None => ("No call of this tool was approved for this person before.", Vec::new()),
            Some(lines) if lines.is_empty() => ("The same arguments were approved before.", Vec::new()),
            Some(lines) => ("Different from the last approved call:", lines.clone()),
        };
        let least = details.least_s.map_or(0, i64::from);
        let in_range = |seconds: &i64| (least..=row.longest_s).contains(seconds);
        let mut times: Vec<i64> = TIMES_S.into_iter().filter(in_range).collect();
        if !times.contains(&row.longest_s) {
            times.push(row.longest_s);
        }
        let entry = record.is_entry();
        Self {
            csrf: csrf(&chrome),
            chrome,
            id: row.id.clone(),
            link: link.to_owned(),
            headline: details.headline(),
            facts: details.facts(),
            arguments: details.shown_arguments(),
            difference,
            compared,
            open: row.state == "open",
            state: row.state.clone(),
            answers: seen.answers,
            own: seen.own,
            entry,
            waits_for: record.waits_for(),
            decided: row.decided_ms.map(|at| {
                let by = row.decided_by.as_deref().unwrap_or_default();
                format!("{}, by {}", utc(at), bartizan_approvals::brief(by, 200))
            }),
            until: row.until_ms.map(utc),
            reason: row.reason.as_deref().map(|reason| bartizan_approvals::brief(reason, 1_000)),
            tool: (!entry && row.longest_s > 0).then(|| (row.longest_s, span(row.longest_s))),
            times: if entry { times.into_iter().map(|time| (time, span(time))).collect() } else { Vec::new() },
        }
    }
}

#[derive(Template)]
#[template(path = "request_access.html")]
pub(crate) struct RequestAccess {
    pub(crate) chrome: Chrome,
    pub(crate) csrf: String,
    pub(crate) name: String,
    /// `portal` or `server`, and its id.
    pub(crate) kind: String,
    pub(crate) id: String,
    pub(crate) waits_for: String,
    pub(crate) longest: String,
}

impl RequestAccess {
    pub(crate) fn new(chrome: Chrome, approval: &bartizan_policy::Approval, name: &str) -> Self {
        let (subject, longest_s) = match &approval.asks {
            Asks::Entry { subject, longest_s, .. } => (&**subject, *longest_s),
            Asks::Call { .. } => ("", 0),
        };
        let (kind, id) = subject.split_once(':').unwrap_or_default();
        Self {
            csrf: csrf(&chrome),
            chrome,
            name: crate::text::name(name, id),
            kind: kind.to_owned(),
            id: id.to_owned(),
            waits_for: approval.who().join(" or "),
            longest: span(i64::from(longest_s)),
        }
    }
}
