//! Everything that can be wrong with resources, reported all at once.

mod curation;
mod hosting;
mod limits;

mod portals;
mod servers;
pub(crate) mod strategy;

use std::collections::HashMap;

use bartizan_config::Diagnostic;
use bartizan_config::resources::Resources;

use crate::credential::Credential;
use crate::snapshot::CompileOptions;

/// What the checks found, and what they read on the way.
#[derive(Default)]
pub(crate) struct Checked {
    /// Reasons to refuse the resources.
    pub(crate) errors: Vec<Diagnostic>,
    /// What works, but hardly as meant.
    pub(crate) warnings: Vec<Diagnostic>,
    /// One per server, in order.
    pub(crate) credentials: Vec<Credential>,
}

impl Checked {
    fn error(&mut self, path: impl Into<String>, code: &'static str, message: impl Into<String>) {
        self.errors.push(Diagnostic::new(path, code, message));
    }

    fn error_hint(
        &mut self,
        path: impl Into<String>,
        code: &'static str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.errors.push(Diagnostic::new(path, code, message).suggest(hint));
    }

    fn warn(
        &mut self,
        path: impl Into<String>,
        code: &'static str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.warnings.push(Diagnostic::new(path, code, message).suggest(hint));
    }
}

/// Checks everything but access rules and policies, which their own crate compiles.
pub(crate) fn run(resources: &Resources, options: &CompileOptions) -> Checked {
    let mut checked = Checked::default();
    servers::check(resources, options, &mut checked);
    portals::check(resources, &mut checked);
    curation::bundles(resources, &mut checked);
    limits::grants(resources, &mut checked);
    limits::policies(resources, &mut checked);
    limits::rate_limits(resources, &mut checked);
    checked
}

/// Reports every id that was used before.
fn unique<'a>(ids: impl Iterator<Item = &'a str>, path: impl Fn(usize) -> String, what: &str, checked: &mut Checked) {
    let mut first: HashMap<&str, usize> = HashMap::new();
    for (at, id) in ids.enumerate() {
        if id.is_empty() {
            checked.error(path(at), "missing_id", format!("{what} must not be empty"));
        } else if let Some(before) = first.insert(id, at) {
            first.insert(id, before);
            checked.error(path(at), "duplicate_id", format!("{what} `{id}` is used by {} already", path(before)));
        }
    }
}

/// A budget for results below which not even a remark fits (P52).
fn budget(tokens: Option<u32>, path: &str, checked: &mut Checked) {
    let least = crate::budget::LEAST;
    if tokens.is_some_and(|tokens| tokens < least) {
        checked.error(format!("{path}.max_result_tokens"), "out_of_range", format!("it must be at least {least}"));
    }
}

/// Reports a reference to a server that does not exist.
fn known_server(server: &str, path: String, resources: &Resources, checked: &mut Checked) {
    let ids = || resources.servers.iter().map(|each| each.server_id.as_str());
    if ids().any(|id| id == server) {
        return;
    }
    let mut finding = Diagnostic::new(path, "unknown_server", format!("there is no server `{server}`"));
    finding.suggestion = closest(server, ids()).map(|id| format!("did you mean `{id}`?"));
    checked.errors.push(finding);
}

/// The candidate with most of the letters in common, if it is nearly the same word.
fn closest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .map(|candidate| (edits(word, candidate), candidate))
        .filter(|(edits, candidate)| *edits <= 2 && *edits < candidate.len())
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance between short ASCII words.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut next = vec![i + 1];
        for (y, window) in b.bytes().zip(row.windows(2)) {
            let (diagonal, above) = (window.first().copied().unwrap_or(0), window.last().copied().unwrap_or(0));
            let left = next.last().copied().unwrap_or(0);
            next.push((diagonal + usize::from(x != y)).min(above + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

/// Host names: RFC 1123 labels, optionally with a port.
fn is_host(text: &str) -> bool {
    let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    host.len() <= 253 && host.split('.').all(label) && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|p| p > 0))
}
