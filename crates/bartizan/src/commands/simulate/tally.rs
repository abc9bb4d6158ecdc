//! Counting changes, with a bound.

use std::collections::BTreeMap;

use bartizan_model::ReasonCode;
use bartizan_model::event::Who;

use super::question::Skip;
use crate::cli::SimulateBy;

/// Different changes that are told apart; more are only counted.
const MOST: usize = 10_000;

/// Kinds of differences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    NewlyAllowed,
    NewlyRefused,
    Depends,
}

/// What is counted together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) kind: Kind,
    pub(super) who: String,
    pub(super) portal: Option<String>,
    pub(super) server: Option<String>,
    pub(super) target: String,
    pub(super) code: Option<ReasonCode>,
    pub(super) rule: Option<String>,
    pub(super) on: Vec<&'static str>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) count: u64,
    /// Where the rule is written.
    pub(super) place: Option<String>,
}

/// Everything that is counted.
pub(super) struct Tally {
    by: SimulateBy,
    pub(super) events: u64,
    pub(super) compared: u64,
    pub(super) unchanged: u64,
    pub(super) not_listed: u64,
    skipped: BTreeMap<Skip, u64>,
    lines: BTreeMap<Key, Line>,
    changed: bool,
}

impl Tally {
    pub(super) fn new(by: SimulateBy) -> Self {
        Self {
            by,
            events: 0,
            compared: 0,
            unchanged: 0,
            not_listed: 0,
            skipped: BTreeMap::new(),
            lines: BTreeMap::new(),
            changed: false,
        }
    }

    pub(super) fn skipped(&mut self, why: Skip) {
        *self.skipped.entry(why).or_default() += 1;
    }

    /// Counts a change for the caller, or for each of the caller's groups.
    pub(super) fn add(&mut self, who: &Who, key: impl Fn(&str) -> Key, place: impl Fn() -> Option<String>) {
        let whom: Vec<String> = match self.by {
            SimulateBy::Principal => vec![who.principal.clone()],
            SimulateBy::Group if who.groups.is_empty() => vec!["(no group)".to_owned()],
            SimulateBy::Group => who.groups.iter().map(|group| format!("group:{group}")).collect(),
        };
        for who in whom {
            let key = key(&who);
            self.changed |= key.kind != Kind::Depends;
            if let Some(line) = self.lines.get_mut(&key) {
                line.count += 1;
            } else if self.lines.len() < MOST {
                self.lines.insert(key, Line { count: 1, place: place() });
            } else {
                self.not_listed += 1;
            }
        }
    }

    pub(super) fn lines(&self) -> impl Iterator<Item = (&Key, &Line)> {
        self.lines.iter()
    }

    /// Whether a decision changes for certain.
    pub(super) fn changed(&self) -> bool {
        self.changed
    }

    pub(super) fn not_compared(&self) -> BTreeMap<&'static str, u64> {
        self.skipped.iter().map(|(why, count)| (why.as_str(), *count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a22_many_different_changes_are_counted_in_bounded_memory() {
        let mut tally = Tally::new(SimulateBy::Principal);
        for at in 0..MOST + 7 {
            let who = Who { principal: format!("user:u{at}"), ..Who::default() };
            let key = |who: &str| Key {
                kind: Kind::NewlyRefused,
                who: who.to_owned(),
                portal: None,
                server: None,
                target: String::new(),
                code: None,
                rule: None,
                on: Vec::new(),
            };
            tally.add(&who, key, || None);
        }
        assert_eq!((tally.lines().count(), tally.not_listed), (MOST, 7));
        assert!(tally.changed());
    }
}
