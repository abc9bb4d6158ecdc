//! Rules, compiled; and what they find in a record.

use std::collections::HashMap;
use std::sync::Arc;

use bartizan_audit::{Hit, IndexRow, event_of};
use bartizan_config::alerts::{AlertRule, Alerts, Destination, EventField, EventMatch};
use bartizan_model::event::{AuditEvent, EventKind};

use crate::deliver::Target;

/// Longest text of one member in a cause, characters.
const MEMBER: usize = 256;
/// Longest window, seconds.
const MAX_WINDOW_S: u32 = 86_400;

/// Names of the built-in rules.
pub const BUILT_IN: [&str; 7] = [
    "replayed_token",
    "expired_credential",
    "break_glass",
    "kill_switch",
    "export_lag",
    "quarantine",
    "stale_catalogue",
];

/// Something in the configuration that cannot work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where: `alerts.rules[0].to[1]`.
    pub path: String,
    /// What is wrong, for people.
    pub message: String,
}

/// All rules and destinations of a configuration.
#[derive(Debug, Default)]
pub struct Rules {
    rules: Vec<Rule>,
    pub(crate) targets: HashMap<String, Target>,
}

/// One rule.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) id: Arc<str>,
    pub(crate) severity: &'static str,
    about: Match,
    resolve_on: Option<Match>,
    group_by: Vec<EventField>,
    pub(crate) count: i64,
    pub(crate) window_ms: i64,
    pub(crate) resolve_after_ms: i64,
    pub(crate) to: Vec<String>,
}

impl Rules {
    /// Compiles the rules; secrets are resolved. What cannot work is left out and told.
    pub fn compile(config: &Alerts) -> (Self, Vec<Problem>) {
        let mut problems = Vec::new();
        let mut targets = HashMap::new();
        for (at, destination) in config.destinations.iter().enumerate() {
            let path = format!("alerts.destinations[{at}]");
            let target = name(&destination.id).and_then(|()| Target::new(destination));
            match target {
                Ok(_) if targets.contains_key(&destination.id) => {
                    problems.push(Problem { path, message: format!("the id `{}` is used twice", destination.id) });
                }
                Ok(target) => drop(targets.insert(destination.id.clone(), target)),
                Err(message) => problems.push(Problem { path, message }),
            }
        }
        let all: Vec<String> = config.destinations.iter().map(|one: &Destination| one.id.clone()).collect();
        let mut known = |path: &str, to: &[String]| -> Vec<String> {
            for (at, id) in to.iter().enumerate().filter(|(_, id)| !all.contains(id)) {
                let message = format!("there is no destination `{id}`");
                problems.push(Problem { path: format!("{path}.to[{at}]"), message });
            }
            if to.is_empty() { all.clone() } else { to.iter().filter(|id| all.contains(id)).cloned().collect() }
        };
        let built_in_to = known("alerts.built_in", &config.built_in.to);
        let mut rules: Vec<Rule> = built_in(&built_in_to)
            .into_iter()
            .filter(|rule| !config.built_in.off.iter().any(|id| **id == *rule.id))
            .collect();
        let mut own = Vec::new();
        for (at, rule) in config.rules.iter().enumerate() {
            let path = format!("alerts.rules[{at}]");
            own.push((known(&path, &rule.to), path, rule));
        }
        for (to, path, rule) in own {
            match Rule::new(rule, to) {
                Ok(rule) if rules.iter().any(|other| other.id == rule.id) || BUILT_IN.contains(&&*rule.id) => {
                    problems.push(Problem { path, message: format!("the id `{}` is used twice", rule.id) });
                }
                Ok(rule) => rules.push(rule),
                Err(message) => problems.push(Problem { path, message }),
            }
        }
        for (at, off) in config.built_in.off.iter().enumerate().filter(|(_, off)| !BUILT_IN.contains(&off.as_str())) {
            let message = format!("there is no built-in rule `{off}`; there are {}", BUILT_IN.join(", "));
            problems.push(Problem { path: format!("alerts.built_in.off[{at}]"), message });
        }
        (Self { rules, targets }, problems)
    }

    /// The way for mail to people who are no destination: the first e-mail destination by id.
    pub(crate) fn relay(&self) -> Option<&Target> {
        let mails = self.targets.iter().filter(|(_, target)| target.is_mail());
        mails.min_by_key(|(id, _)| *id).map(|(_, target)| target)
    }

    /// Without a destination nothing is watched.
    pub(crate) fn is_idle(&self) -> bool {
        self.targets.is_empty()
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| *rule.id == *id)
    }

    /// What the rules find in a record that goes into the index.
    pub fn find(&self, row: &IndexRow) -> Vec<Hit> {
        if self.is_idle() || !self.rules.iter().any(|rule| rule.may_be(row)) {
            return Vec::new();
        }
        let Some(event) = event_of(row) else { return Vec::new() };
        let hits = self.rules.iter().filter_map(|rule| {
            let resolves = !rule.about.fits(&event);
            if resolves && !rule.resolve_on.as_ref().is_some_and(|end| end.fits(&event)) {
                return None;
            }
            Some(Hit {
                writer: row.writer.clone(),
                seq: row.seq,
                rule: rule.id.to_string(),
                at_ms: row.at_ms,
                cause: rule.cause(&event),
                resolves,
                event_id: row.id.clone(),
                summary: summary(&event),
            })
        });
        hits.collect()
    }
}

impl Rule {
    fn new(rule: &AlertRule, to: Vec<String>) -> Result<Self, String> {
        name(&rule.id)?;
        if rule.count == 0 {
            return Err("`count` must be at least 1".to_owned());
        }
        if rule.window_s == 0 || rule.window_s > MAX_WINDOW_S {
            return Err(format!("`window_s` must be from 1 to {MAX_WINDOW_S}"));
        }
        if rule.resolve_after_s == 0 {
            return Err("`resolve_after_s` must be at least 1".to_owned());
        }
        let about = Match::new(&rule.about)?;
        if about.is_empty() {
            return Err("`match` is empty, so every event would be an alert".to_owned());
        }
        Ok(Self {
            id: rule.id.as_str().into(),
            severity: "medium",
            about,
            resolve_on: rule.resolve_on.as_ref().map(Match::new).transpose()?,
            group_by: rule.group_by.clone(),
            count: i64::from(rule.count),
            window_ms: i64::from(rule.window_s) * 1_000,
            resolve_after_ms: i64::from(rule.resolve_after_s) * 1_000,
            to,
        })
    }

    /// A look at the columns alone, before the record is read.
    fn may_be(&self, row: &IndexRow) -> bool {
        self.about.may_be(row) || self.resolve_on.as_ref().is_some_and(|end| end.may_be(row))
    }

    /// The values of the members that tell causes apart, as a JSON object: the same text for
    /// the same cause.
    fn cause(&self, event: &AuditEvent) -> String {
        let members = self.group_by.iter().map(|field| {
            let value: String = value(event, *field).unwrap_or_default().chars().take(MEMBER).collect();
            (word(*field).to_owned(), serde_json::Value::String(value))
        });
        serde_json::Value::Object(members.collect()).to_string()
    }
}

fn built_in(to: &[String]) -> Vec<Rule> {
    let texts = |list: &[&str]| list.iter().map(|text| Pattern::new(text)).collect::<Vec<_>>();
    let auth = |method: &str| Match { kind: texts(&["auth"]), method: texts(&[method]), ..Match::default() };
    let admin = |method: &str| Match {
        kind: texts(&["admin"]),
        method: texts(&[method]),
        allow: Some(true),
        ..Match::default()
    };
    let rule = |id: &str, severity, about, resolve_on, group_by: &[EventField], quiet_s: i64| Rule {
        id: id.into(),
        severity,
        about,
        resolve_on,
        group_by: group_by.to_vec(),
        count: 1,
        window_ms: 300_000,
        resolve_after_ms: quiet_s * 1_000,
        to: to.to_vec(),
    };
    let who = &[EventField::Principal, EventField::Client];
    // With a remark the account is over; without one its owner took it back.
    let over = Match { note: vec![Pattern::new("*")], ..auth("auth/disconnect") };
    let system = |method: &str| Match { kind: texts(&["system"]), method: texts(&[method]), ..Match::default() };
    let (late, caught_up) = (system("export/lag"), system("export/caught_up"));
    let again = Match { allow: Some(true), ..auth("auth/connect") };
    let system = |methods: &[&str]| Match { method: texts(methods), ..Match::default() };
    // What is hidden until somebody decides (P44), or is shown although nobody did.
    let unreviewed = system(&["definition/new", "definition/changed", "definition/per_user"]);
    let decided = system(&["definition/approve*", "definition/reject", "definition/reverted"]);
    vec![
        rule("replayed_token", "high", auth("auth/replay"), None, who, 3_600),
        rule("expired_credential", "low", over, Some(again), who, 7 * 86_400),
        rule("kill_switch", "high", admin("kill/set"), Some(admin("kill/lift")), &[EventField::Target], 30 * 86_400),
        rule("export_lag", "medium", late, Some(caught_up), &[EventField::Target], 30 * 86_400),
        rule("quarantine", "high", unreviewed, Some(decided), &[EventField::Server, EventField::Target], 7 * 86_400),
        rule(
            "stale_catalogue",
            "medium",
            system(&["server/sync_failed"]),
            Some(system(&["server/sync"])),
            &[EventField::Server],
            7 * 86_400,
        ),
        rule("break_glass", "high", auth("auth/break_glass"), None, &[EventField::Principal], 3_600),
    ]
}

fn name(id: &str) -> Result<(), String> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    match (1..=64).contains(&id.len()) && id.chars().all(good) {
        true => Ok(()),
        false => Err("`id` must be 1–64 letters, digits, `-` or `_`".to_owned()),
    }
}

/// A text, or the beginning of one.
#[derive(Clone, Debug)]
struct Pattern {
    text: Box<str>,
    prefix: bool,
}

impl Pattern {
    fn new(text: &str) -> Self {
        match text.strip_suffix('*') {
            Some(text) => Self { text: text.into(), prefix: true },
            None => Self { text: text.into(), prefix: false },
        }
    }

    fn fits(&self, value: &str) -> bool {
        if self.prefix { value.starts_with(&*self.text) } else { *value == *self.text }
    }
}

/// What an event must be; empty members do not matter.
#[derive(Clone, Debug, Default)]
struct Match {
    kind: Vec<Pattern>,
    method: Vec<Pattern>,
    code: Vec<Pattern>,
    outcome: Vec<Pattern>,
    principal: Vec<Pattern>,
    portal: Vec<Pattern>,
    server: Vec<Pattern>,
    target: Vec<Pattern>,
    client: Vec<Pattern>,
    note: Vec<Pattern>,
    allow: Option<bool>,
}

/// A member that is absent fits no pattern, also not `*`.
fn any(patterns: &[Pattern], value: Option<&str>) -> bool {
    patterns.is_empty() || value.is_some_and(|value| patterns.iter().any(|pattern| pattern.fits(value)))
}

impl Match {
    fn new(from: &EventMatch) -> Result<Self, String> {
        let list = |texts: &[String]| texts.iter().map(|text| Pattern::new(text)).collect();
        for kind in &from.kind {
            let known = ["call", "intent", "list", "auth", "token", "admin", "system"];
            if !known.contains(&kind.as_str()) {
                return Err(format!("`{kind}` is no kind of event; there are {}", known.join(", ")));
            }
        }
        Ok(Self {
            kind: list(&from.kind),
            method: list(&from.method),
            code: list(&from.code),
            outcome: list(&from.outcome),
            principal: list(&from.principal),
            portal: list(&from.portal),
            server: list(&from.server),
            target: list(&from.target),
            client: list(&from.client),
            note: list(&from.note),
            allow: from.allow,
        })
    }

    fn is_empty(&self) -> bool {
        let lists = [
            &self.kind,
            &self.method,
            &self.code,
            &self.outcome,
            &self.principal,
            &self.portal,
            &self.server,
            &self.target,
            &self.client,
            &self.note,
        ];
        self.allow.is_none() && lists.iter().all(|list| list.is_empty())
    }

    fn may_be(&self, row: &IndexRow) -> bool {
        self.allow.is_none_or(|allow| allow == row.allow)
            && any(&self.kind, Some(&row.kind))
            && any(&self.code, row.code.as_deref())
            && any(&self.portal, row.portal.as_deref())
            && any(&self.server, row.server.as_deref())
            && any(&self.target, row.target.as_deref())
    }

    fn fits(&self, event: &AuditEvent) -> bool {
        let field = |field| value(event, field);
        self.allow.is_none_or(|allow| allow == event.verdict.allow)
            && any(&self.kind, field(EventField::Kind))
            && any(&self.method, field(EventField::Method))
            && any(&self.code, field(EventField::Code))
            && any(&self.outcome, Some(event.outcome.as_str()))
            && any(&self.principal, field(EventField::Principal))
            && any(&self.portal, field(EventField::Portal))
            && any(&self.server, field(EventField::Server))
            && any(&self.target, field(EventField::Target))
            && any(&self.client, field(EventField::Client))
            && any(&self.note, event.note.as_deref())
    }
}

fn word(field: EventField) -> &'static str {
    match field {
        EventField::Kind => "kind",
        EventField::Method => "method",
        EventField::Code => "code",
        EventField::Principal => "principal",
        EventField::Portal => "portal",
        EventField::Server => "server",
        EventField::Target => "target",
        EventField::Client => "client",
    }
}

fn value(event: &AuditEvent, field: EventField) -> Option<&str> {
    match field {
        EventField::Kind => Some(match event.kind {
            EventKind::Call => "call",
            EventKind::Intent => "intent",
            EventKind::List => "list",
            EventKind::Auth => "auth",
            EventKind::Token => "token",
            EventKind::Admin => "admin",
            EventKind::System => "system",
        }),
        EventField::Method => Some(&event.method),
        EventField::Code => event.verdict.code.map(|code| code.as_str()),
        EventField::Principal => Some(&event.who.principal),
        EventField::Portal => event.portal.as_ref().map(|id| id.as_str()),
        EventField::Server => event.server.as_ref().map(|id| id.as_str()),
        EventField::Target => event.target.as_deref(),
        EventField::Client => event.who.client.as_deref(),
    }
}

/// The event in a few words, for people; control characters left out.
fn summary(event: &AuditEvent) -> String {
    let mut text = format!("{} by {}", event.method, event.who.principal);
    for (word, value) in [
        ("client", event.who.client.as_deref()),
        ("server", event.server.as_ref().map(|id| id.as_str())),
        ("target", event.target.as_deref()),
        ("code", event.verdict.code.map(|code| code.as_str())),
        ("note", event.note.as_deref()),
    ] {
        if let Some(value) = value {
            text.push_str(", ");
            text.push_str(word);
            text.push(' ');
            text.push_str(value);
        }
    }
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

#[cfg(test)]
mod tests;
