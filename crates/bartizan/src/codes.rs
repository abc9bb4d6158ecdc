//! Help pages of all stable codes, compiled in.

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
    use bartizan_model::ReasonCode;

    use super::*;

    #[test]
    fn every_refusal_code_has_a_page() {
        for code in ReasonCode::ALL {
            let page = find(code.as_str()).unwrap_or_else(|| panic!("no page for {}", code.as_str()));
            assert!(page.text.starts_with(&format!("# {}\n", code.as_str())), "{}", page.text);
            assert!(page.text.contains("## What to do"), "{}", page.code);
            assert!(page.refusal);
        }
        assert_eq!(REFUSALS.len(), ReasonCode::ALL.len());
    }

    #[test]
    fn pages_are_unique_and_not_empty() {
        let mut codes: Vec<String> = pages().into_iter().map(|page| page.code).collect();
        assert!(pages().iter().all(|page| page.text.len() > 15), "a page is too short");
        let all = codes.len();
        codes.sort();
        codes.dedup();
        assert_eq!(codes.len(), all);
    }

    #[test]
    fn p54_every_code_of_the_administration_has_a_page() {
        for code in bartizan_admin::CODES {
            assert!(find(code).is_some(), "no page for `{code}`");
        }
    }

    /// Codes that stand in the source as the argument of whatever makes a finding or a failure.
    fn codes_in_source() -> Vec<(String, String)> {
        const MAKERS: [&str; 9] = [
            "Diagnostic::new(",
            "Problem::error(",
            "checked.error(",
            "checked.error_hint(",
            "checked.warn(",
            ".report(",
            "Failure::cannot_run(",
            "Failure::refused(",
            "cannot(",
        ];
        // Paths, which stand where some makers have their code.
        const PATHS: [&str; 12] = [
            "public_url",
            "egress",
            "key",
            "args",
            "policies",
            "place",
            "error",
            "servers",
            "id",
            "portals",
            "client_ca",
            "cluster",
        ];
        let mut found = Vec::new();
        let mut folders: Vec<_> = ["catalog", "policy", "config", "bartizan"]
            .iter()
            .map(|name| std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name).join("src"))
            .collect();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|end| end == "rs") {
                    let text = std::fs::read_to_string(&path).unwrap();
                    let code = text.split("#[cfg(test)]").next().unwrap();
                    for maker in MAKERS {
                        for after in code.split(maker).skip(1) {
                            let near: String = after.chars().take(240).collect();
                            let is_code = |word: &&str| {
                                word.len() > 2
                                    && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
                                    && !PATHS.contains(word)
                            };
                            if let Some(word) = near.split('"').skip(1).step_by(2).find(is_code) {
                                found.push((word.to_owned(), path.display().to_string()));
                            }
                        }
                    }
                }
            }
        }
        found
    }

    #[test]
    fn u4_every_code_of_a_finding_has_a_page() {
        let codes = codes_in_source();
        assert!(codes.len() > 60, "the search found only {} codes", codes.len());
        for (code, file) in codes {
            assert!(find(&code).is_some(), "no page for `{code}` of {file}");
        }
    }
}
