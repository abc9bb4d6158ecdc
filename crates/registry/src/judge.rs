//! The one rule about a definition: what is approved, what the server's settings say, and what it
//! says now decide whether it is shown (P44).

use bartizan_catalog::Judging;
use bartizan_config::resources::{OnChange, OnNew};
use bartizan_store::repo::definition::Definition;

/// How long a definition that the server does not list any more keeps its approval, milliseconds.
pub(crate) const MISSING_MS: i64 = 7 * 86_400_000;

/// What becomes of a definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is offered.
    Show,
    /// The approved text is offered in its place, if only texts changed.
    ShowApproved,
    /// It is neither listed nor callable.
    Hide(Why),
}

/// Why a definition is hidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// Nobody approved it.
    New,
    /// It says something else than what was approved.
    Changed,
    /// Somebody refused it.
    Rejected,
    /// It has no pin.
    Unfit,
}

impl Why {
    /// The word in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Changed => "changed",
            Self::Rejected => "rejected",
            Self::Unfit => "unfit",
        }
    }
}

/// Whether an approval has lapsed because the server has not listed the definition for long.
pub(crate) fn is_lapsed(row: &Definition, now_ms: i64) -> bool {
    row.missing_ms.is_some_and(|since| now_ms.saturating_sub(since) > MISSING_MS)
}

/// Judges one definition by its pin.
pub fn verdict(judging: &Judging, row: Option<&Definition>, pin: &str, now_ms: i64) -> Verdict {
    let unknown = || if judging.on_new == OnNew::Allow { Verdict::Show } else { Verdict::Hide(Why::New) };
    let Some(row) = row else { return unknown() };
    let is = |kept: &Option<String>| kept.as_deref() == Some(pin);
    if is(&row.rejected) {
        return Verdict::Hide(Why::Rejected);
    }
    let lapsed = is_lapsed(row, now_ms);
    if is(&row.approved) && !lapsed {
        return Verdict::Show;
    }
    if is(&row.once_pin) && row.once_ms.is_some_and(|until| now_ms < until) {
        return Verdict::Show;
    }
    if row.approved.is_none() || lapsed {
        // What was refused under this name does not come back by saying something else.
        return if row.rejected.is_some() { Verdict::Hide(Why::Rejected) } else { unknown() };
    }
    match judging.on_change {
        OnChange::Quarantine => Verdict::Hide(Why::Changed),
        OnChange::ServePinned => Verdict::ShowApproved,
        OnChange::Alert => Verdict::Show,
    }
}

#[cfg(test)]
mod tests {
    use bartizan_config::resources::Trust;

    use super::*;

    fn judging(on_new: OnNew, on_change: OnChange) -> Judging {
        Judging { trust: Trust::FirstSync, on_new, on_change }
    }

    fn row(approved: Option<&str>, rejected: Option<&str>) -> Definition {
        let own = |text: Option<&str>| text.map(str::to_owned);
        Definition { approved: own(approved), rejected: own(rejected), ..Definition::default() }
    }

    #[test]
    fn p44_what_is_not_approved_is_hidden_by_default() {
        let strict = Judging::default();
        assert_eq!(verdict(&strict, None, "a", 0), Verdict::Hide(Why::New));
        assert_eq!(verdict(&strict, Some(&row(None, None)), "a", 0), Verdict::Hide(Why::New));
        assert_eq!(verdict(&strict, Some(&row(Some("a"), None)), "a", 0), Verdict::Show);
        assert_eq!(verdict(&strict, Some(&row(Some("a"), None)), "b", 0), Verdict::Hide(Why::Changed));
        assert_eq!(verdict(&strict, Some(&row(Some("a"), Some("b"))), "b", 0), Verdict::Hide(Why::Rejected));
    }

    #[test]
    fn p44_settings_weaken_and_a_rejection_does_not_yield() {
        let open = judging(OnNew::Allow, OnChange::Alert);
        assert_eq!(verdict(&open, None, "a", 0), Verdict::Show);
        assert_eq!(verdict(&open, Some(&row(Some("a"), None)), "b", 0), Verdict::Show);
        assert_eq!(verdict(&open, Some(&row(Some("a"), Some("b"))), "b", 0), Verdict::Hide(Why::Rejected));
        assert_eq!(verdict(&open, Some(&row(None, Some("b"))), "c", 0), Verdict::Hide(Why::Rejected));
        let pinned = judging(OnNew::Hide, OnChange::ServePinned);
        assert_eq!(verdict(&pinned, Some(&row(Some("a"), None)), "b", 0), Verdict::ShowApproved);
        assert_eq!(verdict(&pinned, None, "b", 0), Verdict::Hide(Why::New));
    }

    #[test]
    fn p45_approved_once_ends_by_itself() {
        let once = Definition { once_pin: Some("b".into()), once_ms: Some(10), ..row(Some("a"), None) };
        assert_eq!(verdict(&Judging::default(), Some(&once), "b", 9), Verdict::Show);
        assert_eq!(verdict(&Judging::default(), Some(&once), "b", 10), Verdict::Hide(Why::Changed));
        assert_eq!(verdict(&Judging::default(), Some(&once), "a", 10), Verdict::Show);
    }

    #[test]
    fn p44_an_approval_lapses_after_seven_days_missing() {
        let missing = Definition { missing_ms: Some(0), ..row(Some("a"), None) };
        assert_eq!(verdict(&Judging::default(), Some(&missing), "a", MISSING_MS), Verdict::Show);
        assert_eq!(verdict(&Judging::default(), Some(&missing), "a", MISSING_MS + 1), Verdict::Hide(Why::New));
    }
}
