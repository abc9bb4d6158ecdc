//! Names and definitions that are much like others (P46).

use std::collections::HashMap;
use std::sync::Arc;

use bartizan_store::Store;
use bartizan_store::repo::definition::{self, Definition};
use bartizan_wire::{RawJson, splice};
use unicode_security::skeleton;

/// From here on a new definition counts as an old one under another name.
pub const RENAMED: f64 = 0.85;

/// Most missing definitions that a new one is compared with.
const MOST: usize = 200;

/// The definition that is gone from the server's list and that a new one is much like, if there
/// is one: schema and description count, the name does not.
pub(crate) async fn renamed_from(store: &Store, gone: &[Arc<Definition>], body: &str) -> Option<String> {
    let own = content(body);
    let mut best: Option<(f64, String)> = None;
    for row in gone.iter().take(MOST) {
        let Some(pin) = &row.approved else { continue };
        let Ok(Some(other)) = definition::body(store, pin).await else { continue };
        let score = similarity(&own, &content(&other));
        if score >= RENAMED && best.as_ref().is_none_or(|(kept, _)| score > *kept) {
            best = Some((score, row.name.clone()));
        }
    }
    best.map(|(_, name)| name)
}

/// What a definition says beside its names.
fn content(body: &str) -> String {
    let Ok(raw) = RawJson::try_from(body) else { return String::new() };
    let parts = ["description", "inputSchema", "arguments"].map(|member| splice::get(&raw, member));
    parts.into_iter().flatten().map(|part| part.as_str().to_owned()).collect::<Vec<_>>().join(" ")
}

/// Whether two names could be taken for one another: equal after case folding and UTS #39
/// skeleton without separators, or one edit apart.
pub fn looks_like(one: &str, other: &str) -> bool {
    let form = |text: &str| {
        let shown: String = skeleton(&text.to_lowercase()).collect();
        skeleton(&shown.to_lowercase()).filter(|c| !matches!(c, '_' | '-' | '.' | ' ')).collect::<String>()
    };
    let (a, b) = (form(one), form(other));
    a == b || within_one(&a, &b)
}

/// Whether one edit (insert, remove, replace, swap of neighbours) is enough; short names are
/// always close, so they count only when they are equal.
fn within_one(one: &str, other: &str) -> bool {
    let (a, b): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    if a.len().min(b.len()) < 4 || a.len().abs_diff(b.len()) > 1 {
        return false;
    }
    let same = a.iter().zip(&b).take_while(|(x, y)| x == y).count();
    let tail = |list: &[char], from: usize| list.get(from..).map(<[char]>::to_vec).unwrap_or_default();
    let (x, y) = (tail(&a, same), tail(&b, same));
    let swapped = || match (x.as_slice(), y.as_slice()) {
        ([p, q, r @ ..], [s, t, u @ ..]) => p == t && q == s && r == u,
        _ => false,
    };
    tail(&x, 1) == tail(&y, 1) || tail(&x, 1) == y || x == tail(&y, 1) || swapped()
}

/// How much two texts share, 0 to 1: pairs of words, each counted as often as it occurs.
pub fn similarity(one: &str, other: &str) -> f64 {
    let count = |text: &str| {
        let words: Vec<String> =
            text.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).map(str::to_lowercase).collect();
        let mut all: HashMap<String, usize> = HashMap::new();
        for word in &words {
            *all.entry(word.clone()).or_default() += 1;
        }
        for pair in words.windows(2) {
            *all.entry(pair.join(" ")).or_default() += 1;
        }
        all
    };
    let (a, b) = (count(one), count(other));
    let sum = a.values().sum::<usize>() + b.values().sum::<usize>();
    if sum == 0 {
        return 1.0;
    }
    let shared: usize = a.iter().map(|(word, n)| b.get(word).map_or(0, |m| (*n).min(*m))).sum();
    let (shared, sum) = (u32::try_from(shared).unwrap_or(u32::MAX), u32::try_from(sum).unwrap_or(u32::MAX));
    2.0 * f64::from(shared) / f64::from(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p46_names_that_look_alike_are_flagged() {
        for (a, b) in [
            ("send_mail", "s\u{435}nd_mail"),
            ("send_mail", "Send-Mail"),
            ("send_mail", "sendmail"),
            ("send_mail", "send_mai1"),
            ("send_mail", "send_mails"),
            ("send_mail", "sned_mail"),
            ("list_files", "1ist_files"),
        ] {
            assert!(looks_like(a, b), "{a} {b}");
        }
        for (a, b) in [("send_mail", "read_mail"), ("get", "set"), ("list_files", "list_users"), ("a", "b")] {
            assert!(!looks_like(a, b), "{a} {b}");
        }
    }

    #[test]
    fn p46_similarity_is_of_words() {
        let text = "Sends a message to somebody by electronic mail, with subject, text and attachments of any size.";
        assert!((similarity(text, text) - 1.0).abs() < f64::EPSILON);
        assert!(similarity(text, &text.replace("any size", "all sizes")) >= RENAMED);
        assert!(similarity(text, "Reads the weather of a town") < 0.3);
    }
}
