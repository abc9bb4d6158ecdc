//! `bartizan simulate` (A22): what a draft would have decided about the requests that the
//! record holds, compared with what was decided. Nothing is guessed: what hangs on something
//! that the record does not hold is reported as that.

mod question;
mod tally;

use bartizan_audit::{Query, search};
use bartizan_catalog::Snapshot;
use bartizan_config::Loaded;
use bartizan_model::ReasonCode;
use bartizan_model::event::AuditEvent;
use bartizan_registry::diff::visible;
use serde_json::{Value, json};

use crate::cli::Simulate;
use crate::commands::check;
use crate::installation::{Places, clock, read_without_secrets};
use crate::output::{Done, FINDINGS, Failure, OK, Out, table};
use crate::time::rfc3339;
use question::{Now, Question, Skip};
use tally::{Key, Kind, Tally};

/// Records of one page; no more than these are in memory at once.
const PAGE: u32 = 1_000;
const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// What was decided, as far as policies go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Was {
    Allowed,
    Refused,
    /// Waited for somebody's yes, which did not come.
    Asked,
    /// Refused by something else: a limit, a switch, a server. It stays refused.
    Otherwise,
}

impl Was {
    fn of(event: &AuditEvent) -> Self {
        let verdict = &event.verdict;
        if verdict.allow {
            return Self::Allowed;
        }
        match verdict.code {
            // The caller's own wish, not a rule.
            Some(ReasonCode::ReadOnlyMode) if verdict.rule.as_deref() == Some("the request narrows itself") => {
                Self::Otherwise
            }
            Some(
                ReasonCode::PolicyDenied
                | ReasonCode::WriteNotGranted
                | ReasonCode::ReadOnlyMode
                | ReasonCode::ArgumentRefused
                | ReasonCode::StepUpRequired
                | ReasonCode::PurposeRequired
                | ReasonCode::Unauthenticated,
            ) => Self::Refused,
            Some(ReasonCode::ApprovalRequired | ReasonCode::ApprovalRejected | ReasonCode::ApprovalExpired) => {
                Self::Asked
            }
            _ => Self::Otherwise,
        }
    }
}

pub(crate) async fn run(arguments: &Simulate, out: Out) -> Done {
    let mut draft = read_without_secrets(&arguments.draft)?;
    let Some(snapshot) = check::compile(&mut draft) else {
        eprint!("{}", draft.report());
        return Err(Failure::cannot_run("invalid", "the draft has errors"));
    };
    let until_ms = clock().now_ms().saturating_add(1);
    let since_ms = until_ms.saturating_sub(i64::from(arguments.days).saturating_mul(DAY_MS));
    let store = Places::of_argument(&arguments.place)?.open().await?;
    let mut tally = Tally::new(arguments.by);
    for kind in ["call", "list"] {
        let mut query = Query {
            kind: Some(kind.to_owned()),
            since_ms: Some(since_ms),
            until_ms: Some(until_ms),
            limit: PAGE,
            ..Query::default()
        };
        loop {
            let page = search(&store, &query)
                .await
                .map_err(|error| Failure::cannot_run("store_unavailable", error.to_string()))?;
            for row in &page.rows {
                tally.events += 1;
                if row.erased {
                    tally.skipped(Skip::Erased);
                } else {
                    compare(&row.event, &snapshot, &draft, &mut tally);
                }
            }
            match page.next {
                Some(next) => query.after = Some(next),
                None => break,
            }
        }
    }
    let shown = Shown { since_ms, until_ms, tally: &tally };
    out.either(&shown.value(), || shown.text());
    Ok(if tally.changed() { FINDINGS } else { OK })
}

fn compare(event: &AuditEvent, snapshot: &Snapshot, draft: &Loaded, tally: &mut Tally) {
    let was = Was::of(event);
    if was == Was::Otherwise {
        tally.skipped(Skip::Otherwise);
        return;
    }
    let question = match Question::of(event, snapshot) {
        Ok(question) => question,
        Err(skip) => {
            tally.skipped(skip);
            return;
        }
    };
    tally.compared += 1;
    let (kind, code, rule, on) = match (was, question.ask(snapshot)) {
        (Was::Allowed, Now::Refused { code, rule }) => (Kind::NewlyRefused, code, rule, Vec::new()),
        (Was::Refused | Was::Asked, Now::Allowed { rule }) => (Kind::NewlyAllowed, None, rule, Vec::new()),
        (_, Now::Depends { on, rule }) => (Kind::Depends, None, rule, on),
        _ => {
            tally.unchanged += 1;
            return;
        }
    };
    let key = |who: &str| Key {
        kind,
        who: who.to_owned(),
        portal: event.portal.as_ref().map(ToString::to_string),
        server: question.server(),
        target: question.target().to_owned(),
        code,
        rule: rule.clone(),
        on: on.clone(),
    };
    let place = || {
        let rule = rule.as_deref()?;
        let (path, line) = question.place_of(rule, snapshot)?;
        draft.place_of(&path, line)
    };
    tally.add(&event.who, key, place);
}

/// The result, for people and programs.
struct Shown<'a> {
    since_ms: i64,
    until_ms: i64,
    tally: &'a Tally,
}

impl Shown<'_> {
    fn value(&self) -> Value {
        let tally = self.tally;
        let list = |kind: Kind| -> Vec<Value> {
            let of = tally.lines().filter(|(key, _)| key.kind == kind);
            of.map(|(key, line)| {
                json!({
                    "who": key.who, "portal": key.portal, "server": key.server, "target": key.target,
                    "count": line.count, "code": key.code, "rule": key.rule, "place": line.place, "depends_on": key.on,
                })
            })
            .collect()
        };
        json!({
            "since": rfc3339(self.since_ms), "until": rfc3339(self.until_ms),
            "events": tally.events, "compared": tally.compared, "unchanged": tally.unchanged,
            "newly_allowed": list(Kind::NewlyAllowed), "newly_refused": list(Kind::NewlyRefused),
            "depends": list(Kind::Depends), "not_compared": tally.not_compared(), "not_listed": tally.not_listed,
        })
    }

    fn text(&self) -> String {
        let tally = self.tally;
        let mut text = format!(
            "{} requests from {} to {}: {} compared, {} unchanged\n",
            tally.events,
            rfc3339(self.since_ms),
            rfc3339(self.until_ms),
            tally.compared,
            tally.unchanged
        );
        for (why, count) in tally.not_compared() {
            text.push_str(&format!("not compared: {count} ({})\n", why.replace('_', " ")));
        }
        let rows: Vec<Vec<String>> = tally
            .lines()
            .map(|(key, line)| {
                let what = match &key.server {
                    Some(server) => format!("{server}.{}", key.target),
                    None => key.target.clone(),
                };
                let change = match key.kind {
                    Kind::NewlyAllowed => "newly allowed".to_owned(),
                    Kind::NewlyRefused => format!("newly refused {}", key.code.map_or("", ReasonCode::as_str)),
                    Kind::Depends => format!("depends on {}", key.on.join(", ")),
                };
                vec![
                    change.trim_end().to_owned(),
                    line.count.to_string(),
                    printable(&key.who),
                    printable(&what),
                    key.rule.as_deref().map(printable).unwrap_or_default(),
                    line.place.as_deref().map(printable).unwrap_or_default(),
                ]
            })
            .collect();
        if !rows.is_empty() {
            text.push('\n');
            text.push_str(&table(&["change", "count", "who", "what", "rule", "place"], &rows));
        }
        if tally.not_listed > 0 {
            text.push_str(&format!("\n{} more changes are not listed one by one\n", tally.not_listed));
        }
        text.push_str(if tally.changed() { "\ndecisions change\n" } else { "\nno decision changes for certain\n" });
        text
    }
}

/// A text of a client or server on one line, which no terminal obeys.
fn printable(text: &str) -> String {
    let cut: String = text.chars().take(200).collect();
    visible(&cut).replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a22_what_the_record_holds_cannot_command_a_terminal() {
        let hostile = "a\u{1b}]0;x\u{7}\r\nb\u{202e}c";
        let shown = printable(hostile);
        assert!(shown.chars().all(|c| !c.is_control() && c != '\u{202e}'), "{shown:?}");
        assert!(printable(&"x".repeat(10_000)).len() <= 200);
    }
}
