//! The fuzz target of filters over its corpus and noise (rows O15, A14). The name of a file
//! says what comes of it: `fits`, `fails` or `refused`.
#![allow(unreachable_pub, reason = "shared with the fuzzer")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails")]

#[path = "targets/mod.rs"]
mod targets;

use std::path::Path;

use proptest::prelude::*;

/// Name and content of every file.
fn corpus() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/filters");
    let mut files: Vec<(String, String)> = std::fs::read_dir(folder)
        .expect("the corpus")
        .map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name().into_string().unwrap(), std::fs::read_to_string(entry.path()).unwrap())
        })
        .collect();
    files.sort();
    assert!(files.len() > 20, "{}", files.len());
    files
}

#[test]
fn o15_scim_filters_of_the_corpus_mean_what_their_names_say() {
    for (name, text) in corpus() {
        let (filter, user) = text.split_once('\n').unwrap_or((&text, ""));
        let user = if user.trim().is_empty() { targets::USER } else { user };
        let wanted = match name.split('-').next() {
            Some("fits") => Some(true),
            Some("fails") => Some(false),
            Some("refused") => None,
            _ => panic!("{name} says nothing"),
        };
        assert_eq!(bartizan_scim::fuzz(filter, user), wanted, "{name}");
    }
}

#[test]
fn o15_the_target_of_scim_filters_holds_over_the_corpus() {
    for (_, text) in corpus() {
        // Cut anywhere, as a broken connection leaves it.
        let step = 1 + text.len() / 100;
        for end in (0..text.len()).step_by(step).chain([text.len()]) {
            targets::filters(&text.as_bytes()[..end]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn o15_the_target_of_scim_filters_holds_for_noise(
        seed in any::<proptest::sample::Index>(),
        cut in any::<proptest::sample::Index>(),
        noise in prop::collection::vec(any::<u8>(), 0..24),
        splice in "[ -~]{0,12}|( and | or |not |\\(|\\)|\\[|\\]|\"|title pr|emails|active eq true){0,6}",
        words in "(title|emails\\[type|active| eq | co | pr|\"Dr\"|\"work\"|true|\\]|\\(|\\)| and | or |not ){0,12}",
    ) {
        let files = corpus();
        let filter = seed.get(&files).1.lines().next().unwrap_or_default().as_bytes();
        let cut = cut.index(filter.len() + 1);
        for input in [
            noise.clone(),
            [&filter[..cut], &noise, &filter[cut..]].concat(),
            [&filter[..cut], splice.as_bytes(), &filter[cut..]].concat(),
            splice.into_bytes(),
            words.into_bytes(),
        ] {
            targets::filters(&input);
        }
    }
}
