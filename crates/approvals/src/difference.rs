//! What differs from the last call of the same person to the same tool that was approved.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::shown::brief;

/// Lines that are shown.
const LINES: usize = 40;
/// Characters of one value that are shown.
const VALUE: usize = 120;
/// Depth to which is compared; below it values are compared as text.
const DEPTH: usize = 16;

/// One line per member that was added, removed or changed. Empty when nothing was. Values keep
/// their spelling.
pub(crate) fn between(old: &str, new: &str) -> Vec<String> {
    let mut lines = Vec::new();
    compare("", Some(old), Some(new), 0, &mut lines);
    if lines.len() > LINES {
        let more = lines.len() - LINES;
        lines.truncate(LINES);
        lines.push(format!("and {more} more differences"));
    }
    lines
}

fn compare(path: &str, old: Option<&str>, new: Option<&str>, depth: usize, lines: &mut Vec<String>) {
    // Enough to say that there are more.
    if lines.len() > LINES * 10 {
        return;
    }
    let name = if path.is_empty() { "arguments" } else { path };
    match (old, new) {
        (Some(old), Some(new)) if old == new => {}
        (Some(old), Some(new)) => {
            if depth < DEPTH
                && let (Some(old), Some(new)) = (members(old), members(new))
            {
                for key in old.keys().chain(new.keys().filter(|key| !old.contains_key(*key))) {
                    let path =
                        if path.is_empty() { brief(key, VALUE) } else { format!("{path}.{}", brief(key, VALUE)) };
                    let text = |all: &BTreeMap<String, &'_ RawValue>| all.get(key).map(|raw| raw.get().to_owned());
                    let (old, new) = (text(&old), text(&new));
                    compare(&path, old.as_deref(), new.as_deref(), depth + 1, lines);
                }
            } else {
                lines.push(format!("{name}: {} → {}", brief(old, VALUE), brief(new, VALUE)));
            }
        }
        (None, Some(new)) => lines.push(format!("{name}: added {}", brief(new, VALUE))),
        (Some(old), None) => lines.push(format!("{name}: removed, was {}", brief(old, VALUE))),
        (None, None) => {}
    }
}

/// Members of an object; of a list, its entries by position.
fn members(text: &str) -> Option<BTreeMap<String, &RawValue>> {
    if text.trim_start().starts_with('[') {
        let list: Vec<&RawValue> = serde_json::from_str(text).ok()?;
        return Some(list.into_iter().enumerate().map(|(at, raw)| (format!("[{at:04}]"), raw)).collect());
    }
    serde_json::from_str(text).ok()
}

#[cfg(test)]
mod tests {
    use super::between;

    #[test]
    fn w12_the_difference_names_each_member() {
        let old = r#"{"to":"bob","amount":10,"note":"x","list":[1,2],"deep":{"a":{"b":1}}}"#;
        let new = r#"{"to":"mallory","amount":1e1,"list":[1,3],"deep":{"a":{"b":2}},"force":true}"#;
        let lines = between(old, new).join("\n");
        for line in [
            "to: \"bob\" → \"mallory\"",
            "amount: 10 → 1e1",
            "note: removed, was \"x\"",
            "list.[0001]: 2 → 3",
            "deep.a.b: 1 → 2",
            "force: added true",
        ] {
            assert!(lines.contains(line), "{line} in\n{lines}");
        }
        assert!(between(old, old).is_empty());
    }

    #[test]
    fn w12_a_huge_difference_is_bounded_and_hostile_names_are_visible() {
        let many: Vec<String> = (0..5_000).map(|n| format!("\"k{n}\":\"{}\"", "v".repeat(300))).collect();
        let lines = between("{}", &format!("{{{}}}", many.join(",")));
        assert!(lines.len() <= 41 && lines.iter().all(|line| line.len() < 500));
        assert!(lines.last().is_some_and(|line| line.starts_with("and ")));
        assert_eq!(between("{}", "{\"a\u{202e}\":1}"), ["a\\u{202e}: added 1"]);
        assert_eq!(between("not json", "{}").len(), 1);
    }
}
