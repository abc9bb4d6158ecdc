//! "Did you mean".

/// The candidate nearest to `given`, if it is near enough to be a slip of the keyboard.
pub fn nearest<'a>(given: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = given.chars().count();
    if !(1..=64).contains(&length) {
        return None;
    }
    let allowed = |candidate: &str| match length.max(candidate.chars().count()) {
        ..=3 => 1,
        4..=6 => 2,
        _ => 3,
    };
    let scored = candidates.into_iter().map(|candidate| (distance(given, candidate), candidate));
    scored.filter(|(score, word)| *score <= allowed(word)).min_by_key(|(score, _)| *score).map(|(_, word)| word)
}

/// Edits between two words, where swapping neighbours is one edit and letter case is none
/// (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.to_lowercase().chars().collect();
    let b: Vec<char> = b.to_lowercase().chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    let at = |row: &[usize], column: usize| row.get(column).copied().unwrap_or(usize::MAX / 2);
    for (i, from) in a.iter().enumerate() {
        let mut row = Vec::with_capacity(b.len() + 1);
        row.push(i + 1);
        for (j, to) in b.iter().enumerate() {
            let replaced = at(&last, j) + usize::from(from != to);
            let mut best = replaced.min(at(&last, j + 1) + 1).min(at(&row, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(to) && b.get(j - 1) == Some(from);
            if swapped {
                best = best.min(at(&before, j - 1) + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn u4_did_you_mean() {
        let keys = ["hostname", "server_id", "policies", "name", "status"];
        for (given, found) in [
            ("hostnam", Some("hostname")),
            ("hsotname", Some("hostname")),
            ("serverid", Some("server_id")),
            ("HOSTNAME", Some("hostname")),
            ("policy", Some("policies")),
            ("url", None),
            ("", None),
            ("nam", Some("name")),
        ] {
            assert_eq!(nearest(given, keys), found, "{given}");
        }
        assert_eq!(nearest(&"x".repeat(10_000), keys), None);
    }
}
