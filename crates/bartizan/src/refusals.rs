//! Refusals that cost whoever causes them nothing must not fill the record: the first of a
//! kind is written at once, the number of further ones once a minute.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bartizan_identity::IdentityEvent;

/// How often further refusals are summed up.
pub(crate) const EVERY: Duration = Duration::from_secs(60);
/// Kinds told apart between two summaries; all others are counted together, by action.
const TOLD_APART: usize = 256;

/// What makes two refusals the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Kind {
    action: &'static str,
    /// None: many kinds together.
    note: Option<String>,
}

/// Refusals since the last summary: the last event of a kind, and how many are not on record.
#[derive(Default)]
pub(crate) struct Refusals(Mutex<HashMap<Kind, (IdentityEvent, u64)>>);

impl Refusals {
    /// Counts an event. True when it is to be recorded now: it is no refusal, it is about
    /// somebody who proved who they are, or it is the first of its kind.
    pub(crate) fn note(&self, event: &IdentityEvent) -> bool {
        if event.ok || event.person.is_some() {
            return true;
        }
        let action = event.action.as_str();
        let kind = Kind { action, note: Some(event.note.clone().unwrap_or_default()) };
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((last, more)) = seen.get_mut(&kind) {
            *more += 1;
            last.at_ms = event.at_ms;
            return false;
        }
        let first = seen.len() < TOLD_APART;
        let kind = if first { kind } else { Kind { action, note: None } };
        let kept = IdentityEvent { client: None, provider: None, ..event.clone() };
        seen.entry(kind).or_insert((kept, 0)).1 += u64::from(!first);
        first
    }

    /// What has come since the last summary and is not on record yet, one event per kind.
    pub(crate) fn summary(&self) -> Vec<IdentityEvent> {
        let seen = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let told = |(kind, (event, more)): (Kind, (IdentityEvent, u64))| {
            let what = kind.note.unwrap_or_else(|| "others".to_owned());
            let note = Some(format!("{what}: {more} more within {} s", EVERY.as_secs()));
            (more > 0).then_some(IdentityEvent { note, ..event })
        };
        seen.into_iter().filter_map(told).collect()
    }
}

#[cfg(test)]
mod tests {
    use bartizan_identity::Action;

    use super::*;

    fn refused(note: &str) -> IdentityEvent {
        IdentityEvent { note: Some(note.to_owned()), ..IdentityEvent::new(1, Action::Token, false) }
    }

    #[test]
    fn l1_refusals_that_cost_nothing_do_not_fill_the_record() {
        let refusals = Refusals::default();
        assert!(refusals.note(&refused("invalid_client")));
        for _ in 0..10_000 {
            assert!(!refusals.note(&refused("invalid_client")));
        }
        assert!(refusals.note(&refused("invalid_grant")), "another kind");
        let known = IdentityEvent { person: Some("ana@corp.example".to_owned()), ..refused("invalid_client") };
        assert!(refusals.note(&known), "somebody known");
        assert!(refusals.note(&IdentityEvent::new(1, Action::Token, true)), "no refusal");
        let summary = refusals.summary();
        assert_eq!(summary.len(), 1);
        assert_eq!(summary[0].note.as_deref(), Some("invalid_client: 10000 more within 60 s"));
        assert!(refusals.summary().is_empty());
        assert!(refusals.note(&refused("invalid_client")), "a new minute");
    }

    #[test]
    fn l1_a_flood_of_different_refusals_is_bounded() {
        let refusals = Refusals::default();
        let at_once = (0..100_000).filter(|n| refusals.note(&refused(&n.to_string()))).count();
        assert_eq!(at_once, TOLD_APART);
        let summary = refusals.summary();
        assert_eq!(summary.len(), 1);
        assert_eq!(summary[0].note.as_deref(), Some(&*format!("others: {} more within 60 s", 100_000 - TOLD_APART)));
    }
}
