//! Help pages of all stable codes, compiled in.

use bartizan_model::ReasonCode;

macro_rules! pages {
    ($($code:literal),+ $(,)?) => {
        &[$(($code, include_str!(concat!("codes/", $code, ".md")))),+]
    };
}

/// One page per refusal code, in the order of the contract.
const REFUSALS: &[(&str, &str)] = pages![
    "unauthenticated",
    "insufficient_scope",
    "login_required",
    "step_up_required",
    "purpose_required",
    "policy_denied",
    "write_not_granted",
    "read_only_mode",
    "killed",
    "approval_required",
    "approval_rejected",
    "approval_expired",
    "argument_refused",
    "dlp_blocked",
    "injection_blocked",
    "flow_blocked",
    "rate_limited",
    "budget_exceeded",
    "too_large",
    "upstream_unavailable",
    "upstream_timeout",
    "upstream_auth_failed",
    "sandbox_timeout",
    "sandbox_memory",
    "sandbox_calls",
    "sandbox_forbidden",
    "audit_unavailable",
];

/// Pages of findings in a configuration and of refusals to start; one file, a heading per code.
const FINDINGS: &str = include_str!("codes/findings.md");

/// A page.
pub(crate) struct Page {
    pub(crate) code: String,
    pub(crate) text: String,
    /// Refusals are on the wire and in the record, findings are not.
    pub(crate) refusal: bool,
}

/// All pages.
pub(crate) fn pages() -> Vec<Page> {
    let page =
        |refusal| move |(code, text): (&str, &str)| Page { code: code.to_owned(), text: text.to_owned(), refusal };
    REFUSALS.iter().copied().map(page(true)).chain(findings().map(page(false))).collect()
}

/// The page of a code.
pub(crate) fn find(code: &str) -> Option<Page> {
    pages().into_iter().find(|page| page.code == code)
}

/// Whether a text is a refusal code.
pub(crate) fn is_refusal(code: &str) -> bool {
    ReasonCode::parse(code).is_some()
}

/// Code and page of each section.
fn findings() -> impl Iterator<Item = (&'static str, &'static str)> {
    FINDINGS.split("\n# ").filter_map(|section| {
        let section = section.trim_start_matches("# ");
        let (code, text) = section.split_once('\n')?;
        Some((code.trim(), text.trim()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_code_has_a_page() {
        for code in ReasonCode::ALL {
            let page = find(code.as_str()).unwrap_or_else(|| panic!("no page for {}", code.as_str()));
            assert!(page.text.starts_with(&format!("# {}\n", code.as_str())), "{}", page.text);
            assert!(page.text.contains("## What to do"), "{}", page.code);
            assert!(page.refusal && is_refusal(&page.code));
        }
        assert_eq!(REFUSALS.len(), ReasonCode::ALL.len());
    }

    #[test]
    fn pages_are_unique_and_not_empty() {
        let mut codes: Vec<String> = pages().into_iter().map(|page| page.code).collect();
        assert!(pages().iter().all(|page| page.text.len() > 40), "a page is too short");
        let all = codes.len();
        codes.sort();
        codes.dedup();
        assert_eq!(codes.len(), all);
    }
}
