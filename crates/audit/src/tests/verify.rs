//! L2/L9: whatever is done to the files is reported with its place.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use bartizan_config::settings::AuditMode;
use bartizan_model::ManualClock;
use bartizan_model::event::EventKind;
use proptest::prelude::*;
use tempfile::TempDir;

use super::{NOW, event};
use crate::digest::Hex;
use crate::verify::{Checkpoint, FindingKind, Report, verify};
use crate::{Audit, Options, verify as public_verify};

/// A whole record: 40 events in several segments, as file contents.
struct Whole {
    writer: String,
    files: BTreeMap<String, Vec<u8>>,
    checkpoints: Vec<Checkpoint>,
    /// A line of another chain.
    foreign: Vec<u8>,
}

const EVENTS: u64 = 40;

static WHOLE: LazyLock<Whole> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (writer, files, checkpoints) = runtime.block_on(make());
    let (_, other, _) = runtime.block_on(make());
    let foreign = lines(&other["00000001.log"])[2].clone();
    Whole { writer, files, checkpoints, foreign }
});

async fn make() -> (String, BTreeMap<String, Vec<u8>>, Vec<Checkpoint>) {
    let dir = TempDir::new().unwrap();
    let options = Options { segment_bytes: 4_000, ..Options::default() };
    let clock = std::sync::Arc::new(ManualClock::at(NOW));
    let audit = Audit::open_with(dir.path(), AuditMode::Strict, None, clock, &options).unwrap();
    for n in 0..EVENTS {
        let mut event = event(EventKind::Call, &format!("u{}", n % 3));
        event.target = Some(format!("tool-{n}"));
        audit.append(event).await.unwrap();
    }
    audit.close().await;
    let report = public_verify(dir.path(), &[]).unwrap();
    assert!(report.is_whole() && report.torn.is_empty(), "{report:?}");
    assert_eq!(report.writers[0].records, EVENTS);
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir.path().join(audit.writer())).unwrap() {
        let entry = entry.unwrap();
        files.insert(entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap());
    }
    assert!(files.len() > 6, "several segments: {:?}", files.keys());
    (audit.writer().to_owned(), files, report.checkpoints())
}

/// Lines with their newlines.
fn lines(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

fn logs() -> Vec<String> {
    WHOLE.files.keys().filter(|name| name.ends_with(".log")).cloned().collect()
}

/// Names of files and numbers of lines (from 1) of all records, in order.
fn places() -> Vec<(String, u64)> {
    logs()
        .into_iter()
        .flat_map(|name| (1..=lines(&WHOLE.files[&name]).len() as u64).map(move |n| (name.clone(), n)))
        .collect()
}

fn check(files: &BTreeMap<String, Vec<u8>>, checkpoints: &[Checkpoint]) -> Report {
    let dir = TempDir::new().unwrap();
    write(dir.path(), files);
    verify(dir.path(), checkpoints).unwrap()
}

fn write(dir: &Path, files: &BTreeMap<String, Vec<u8>>) {
    let folder = dir.join(&WHOLE.writer);
    fs::create_dir(&folder).unwrap();
    for (name, bytes) in files {
        fs::write(folder.join(name), bytes).unwrap();
    }
}

/// Checks the files with one log's lines changed, against the checkpoint.
fn with_lines(name: &str, change: impl FnOnce(&mut Vec<Vec<u8>>)) -> Report {
    let mut files = WHOLE.files.clone();
    let mut all = lines(&files[name]);
    change(&mut all);
    files.insert(name.to_owned(), all.concat());
    check(&files, &WHOLE.checkpoints)
}

fn has(report: &Report, name: &str, line: u64, kind: impl Fn(&FindingKind) -> bool) -> bool {
    report.findings.iter().any(|f| f.file.as_deref() == Some(name) && f.line == line && kind(&f.kind))
}

fn any_kind(_: &FindingKind) -> bool {
    true
}

/// Where the record after one stands; `None` for the last.
fn after(places: &[(String, u64)], index: usize) -> Option<&(String, u64)> {
    places.get(index + 1)
}

#[test]
fn l9_the_whole_record_is_whole() {
    let report = check(&WHOLE.files, &WHOLE.checkpoints);
    assert!(report.is_whole(), "{report:?}");
    assert_eq!(report.checkpoints(), WHOLE.checkpoints);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Any bit of any record.
    #[test]
    fn l9_a_flipped_bit_is_reported_at_its_record(index in 0..EVENTS as usize, at in any::<proptest::sample::Index>(), bit in 0..8u8) {
        let places = places();
        let (name, line) = &places[index];
        let report = with_lines(name, |all| {
            let record = &mut all[*line as usize - 1];
            let at = at.index(record.len());
            record[at] ^= 1u8 << bit;
        });
        prop_assert!(!report.is_whole());
        // A flipped newline joins two lines, which are then one that is no record.
        prop_assert!(has(&report, name, *line, any_kind) || report.torn.iter().any(|torn| &torn.file == name), "{:?}", report);
    }

    #[test]
    fn l9_deleted_records_are_named(index in 0..EVENTS as usize, count in 1..5usize) {
        let places = places();
        let (name, line) = &places[index];
        let mut gone = 0;
        let report = with_lines(name, |all| {
            let start = *line as usize - 1;
            let end = (start + count).min(all.len());
            gone = end - start;
            all.drain(start..end);
        });
        let (from, to) = (index as u64 + 1, (index + gone) as u64);
        let named = match after(&places, index + gone - 1) {
            None => report.findings.iter().any(|f| f.kind == FindingKind::Truncated { checkpoint: EVENTS, last: from - 1 }),
            Some((next, number)) => {
                let number = if next == name { number - gone as u64 } else { *number };
                has(&report, next, number, |kind| *kind == FindingKind::Missing { from, to })
            }
        };
        prop_assert!(named, "{:?}", report);
    }

    #[test]
    fn l9_exchanged_records_are_reported(a in 0..EVENTS as usize, b in 0..EVENTS as usize) {
        prop_assume!(a < b);
        let places = places();
        let ((first, first_line), (second, second_line)) = (&places[a], &places[b]);
        let mut files = WHOLE.files.clone();
        let (mut one, mut two) = (lines(&files[first]), lines(&files[second]));
        let (x, y) = (one[*first_line as usize - 1].clone(), two[*second_line as usize - 1].clone());
        one[*first_line as usize - 1] = y.clone();
        if first == second {
            one[*second_line as usize - 1] = x;
        } else {
            two[*second_line as usize - 1] = x;
            files.insert(second.clone(), two.concat());
        }
        files.insert(first.clone(), one.concat());
        let report = check(&files, &WHOLE.checkpoints);
        prop_assert!(has(&report, first, *first_line, |kind| matches!(kind, FindingKind::Missing { .. })), "{:?}", report);
        prop_assert!(has(&report, second, *second_line, |kind| matches!(kind, FindingKind::OutOfOrder { .. })), "{:?}", report);
    }

    /// At any byte of any segment.
    #[test]
    fn l9_a_truncated_segment_is_reported(which in any::<proptest::sample::Index>(), at in any::<proptest::sample::Index>()) {
        let logs = logs();
        let name = &logs[which.index(logs.len())];
        let mut files = WHOLE.files.clone();
        let bytes = &files[name];
        let cut = at.index(bytes.len());
        let kept = bytes[..cut].to_vec();
        let whole_lines = kept.iter().filter(|byte| **byte == b'\n').count();
        let before: usize = logs.iter().take_while(|log| *log < name).map(|log| lines(&files[log]).len()).sum();
        let last = (before + whole_lines) as u64;
        let torn = kept.last().is_some_and(|byte| *byte != b'\n');
        files.insert(name.clone(), kept);
        let report = check(&files, &WHOLE.checkpoints);
        if Some(name) == logs.last() {
            prop_assert!(report.findings.iter().any(|f| f.kind == FindingKind::Truncated { checkpoint: EVENTS, last }), "{:?}", report);
            prop_assert_eq!(report.torn.len(), usize::from(torn));
        } else {
            let next = &logs[logs.iter().position(|log| log == name).unwrap() + 1];
            prop_assert!(has(&report, next, 1, |kind| matches!(kind, FindingKind::Missing { from, .. } if *from == last + 1)), "{:?}", report);
            prop_assert_eq!(torn, has(&report, name, whole_lines as u64 + 1, |kind| *kind == FindingKind::TornInside));
        }
    }

    /// A record repeated, or one of another chain, anywhere.
    #[test]
    fn l9_a_spliced_record_is_reported(index in 0..EVENTS as usize, source in 0..=EVENTS as usize) {
        let places = places();
        let (name, line) = &places[index];
        let inserted = places.get(source).map_or_else(
            || WHOLE.foreign.clone(),
            |(file, number)| lines(&WHOLE.files[file])[*number as usize - 1].clone(),
        );
        // Before itself it stands where it belongs, and what it repeats is the next line.
        let at = if source == index { line + 1 } else { *line };
        let report = with_lines(name, |all| all.insert(*line as usize - 1, inserted));
        prop_assert!(has(&report, name, at, any_kind), "{:?}", report);
        if source == EVENTS as usize {
            prop_assert!(has(&report, name, *line, |kind| matches!(kind, FindingKind::ForeignWriter { .. })), "{:?}", report);
        }
    }

    /// Somebody who changes a record and computes its hash anew.
    #[test]
    fn l9_a_forged_record_does_not_fit_its_successor(index in 0..EVENTS as usize) {
        let places = places();
        let (name, line) = &places[index];
        let report = with_lines(name, |all| {
            let record = &mut all[*line as usize - 1];
            let text = String::from_utf8(record.clone()).unwrap().replace("\"allow\":true", "\"allow\":null");
            let body = text.trim_end().strip_prefix("{\"_hash\":\"").unwrap()[66..].to_owned();
            let hash = Hex::of(&[b"{", body.as_bytes()]);
            *record = format!("{{\"_hash\":\"{}\",{body}\n", hash.as_str()).into_bytes();
        });
        prop_assert!(!has(&report, name, *line, |kind| *kind == FindingKind::Altered), "the test forges well");
        let named = match after(&places, index) {
            Some((next, number)) => has(&report, next, *number, |kind| *kind == FindingKind::BrokenLink),
            None => has(&report, name, *line, |kind| *kind == FindingKind::NotTheCheckpoint),
        };
        prop_assert!(named, "{:?}", report);
    }

    #[test]
    fn l9_an_altered_identity_is_reported(which in any::<proptest::sample::Index>(), at in any::<proptest::sample::Index>(), bit in 0..8u8) {
        let names: Vec<&String> = WHOLE.files.keys().filter(|name| name.ends_with(".who")).collect();
        let name = names[which.index(names.len())];
        let mut files = WHOLE.files.clone();
        let bytes = files.get_mut(name).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1u8 << bit;
        let report = check(&files, &WHOLE.checkpoints);
        let lost: u64 = report.writers.iter().map(|writer| writer.without_identity).sum();
        prop_assert!(lost > 0 || report.findings.iter().any(|f| f.file.as_ref() == Some(name)), "{:?}", report);
    }

    /// Files of any content are no panic and no endless loop.
    #[test]
    fn l9_any_file_is_checked(log in proptest::collection::vec(any::<u8>(), 0..2_000), who in proptest::collection::vec(any::<u8>(), 0..500)) {
        let files = BTreeMap::from([("00000001.log".to_owned(), log.clone()), ("00000001.who".to_owned(), who.clone())]);
        let report = check(&files, &[]);
        prop_assert_eq!(report.writers[0].records, 0);
        let clean = report.is_whole() && report.torn.is_empty();
        // Noise among the identities alone may be a finding too.
        prop_assert!(clean || !log.is_empty() || !who.is_empty());
        prop_assert!(!clean || log.is_empty());
    }
}

#[test]
fn l9_missing_segments_and_chains_are_reported() {
    let logs = logs();
    for (index, name) in logs.iter().enumerate() {
        let mut files = WHOLE.files.clone();
        files.remove(name);
        let report = check(&files, &WHOLE.checkpoints);
        let number = index as u32 + 1;
        let missing = report.findings.iter().any(|f| f.kind == FindingKind::MissingSegment { number });
        let truncated = report.findings.iter().any(|f| matches!(f.kind, FindingKind::Truncated { .. }));
        assert_eq!((missing, truncated), (number < logs.len() as u32, number == logs.len() as u32), "{report:?}");
    }
    let dir = TempDir::new().unwrap();
    let report = verify(dir.path(), &WHOLE.checkpoints).unwrap();
    assert_eq!(report.findings[0].kind, FindingKind::WriterMissing);
    assert!(verify(&dir.path().join("absent"), &[]).unwrap().is_whole());
}

#[test]
fn l9_a_rewritten_end_is_caught_by_the_checkpoint() {
    // The last ten records replaced by ten of a chain that forks off: each link fits.
    let places = places();
    let (name, _) = &places[EVENTS as usize - 1];
    let report = with_lines(name, |all| {
        let text = String::from_utf8(all.concat()).unwrap();
        let mut prev: Option<String> = None;
        *all = text
            .lines()
            .map(|line| {
                let body = line.strip_prefix("{\"_hash\":\"").unwrap()[66..].replace("tool-", "TOOL-");
                let body = match &prev {
                    Some(prev) => format!("\"_prev\":\"{prev}{}", &body[73..]),
                    None => body,
                };
                let hash = Hex::of(&[b"{", body.as_bytes()]);
                prev = Some(hash.as_str().to_owned());
                format!("{{\"_hash\":\"{}\",{body}\n", hash.as_str()).into_bytes()
            })
            .collect();
    });
    let kinds: Vec<_> = report.findings.iter().map(|finding| &finding.kind).collect();
    assert_eq!(kinds, [&FindingKind::NotTheCheckpoint], "{report:?}");
}

#[test]
fn l9_findings_are_readable() {
    let report = with_lines("00000001.log", |all| drop(all.remove(1)));
    let text = report.findings[0].to_string();
    assert!(text.contains("/00000001.log line 2 (byte "), "{text}");
    assert!(text.contains("record 3: records 2 to 2 are missing before it"), "{text}");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["findings"][0]["kind"], "missing");
    assert_eq!(json["findings"][0]["from"], 2);
}
