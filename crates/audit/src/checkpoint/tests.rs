//! L2: signed checkpoints, and what they find that the chain alone does not.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use bartizan_config::settings::AuditMode;
use bartizan_model::event::{AuditEvent, EventKind, Who};
use bartizan_model::{Clock, EventId, ManualClock, PrincipalKind};
use bartizan_store::repo::audit_checkpoint as repo;
use bartizan_store::{Store, StoreUrl};
use bartizan_vault::{KeyRing, Vault};
use proptest::prelude::*;
use tempfile::TempDir;

use super::merkle;
use super::*;
use crate::record::Parsed;
use crate::verify::{Evidence, FindingKind, Report, verify, verify_evidence};
use crate::{Audit, Options};

const NOW: i64 = 1_767_225_600_000;
const EVENTS: usize = 24;

type Files = BTreeMap<PathBuf, Vec<u8>>;

/// Two writers with a checkpoint in the middle and one at the end, all in files.
struct Whole {
    dir: TempDir,
    files: Files,
    writers: Vec<String>,
    key: PublicKey,
    outside: String,
    database: PathBuf,
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

static WHOLE: LazyLock<Whole> = LazyLock::new(|| runtime().block_on(make()));

fn event(n: usize) -> AuditEvent {
    let who = Who { principal: format!("user:u{}", n % 3), ..Who::default() };
    let (id, at_ms) = (EventId::new(NOW), NOW + n as i64);
    let mut event = AuditEvent::new(id, at_ms, EventKind::Call, PrincipalKind::User, who, "tools/call");
    event.target = Some(format!("tool-{n}"));
    event
}

async fn store(path: &Path, clock: &Arc<ManualClock>) -> Store {
    let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(clock);
    Store::open(&StoreUrl::Sqlite(path.to_owned()), clock).await.unwrap()
}

async fn make() -> Whole {
    let dir = TempDir::new().unwrap();
    let (audit_dir, database) = (dir.path().join("audit"), dir.path().join("db.sqlite"));
    let clock = Arc::new(ManualClock::at(NOW));
    let store = store(&database, &clock).await;
    let vault = Vault::new(KeyRing::ephemeral().unwrap()).unwrap();
    let options = Options { segment_bytes: 4_000, ..Options::default() };
    let open = || {
        let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
        let audit = Audit::open_with(&audit_dir, AuditMode::Strict, None, Arc::clone(&clock), &options).unwrap();
        let maker = Checkpointer::new(audit.clone(), store.clone(), vault.clone(), clock);
        (audit, maker)
    };
    let ((one, signs), (two, helps)) = (open(), open());
    let mut outside = String::new();
    for half in 0..2 {
        for n in 0..EVENTS / 2 {
            one.append(event(half * EVENTS / 2 + n)).await.unwrap();
            two.append(event(100 + half * EVENTS / 2 + n)).await.unwrap();
        }
        // The lease is the first one's; the second only says where it stands.
        if half == 0 {
            assert!(signs.round().await.unwrap().is_some());
        }
        assert!(helps.round().await.unwrap().is_none());
        clock.advance_ms(60_000);
        let signed = signs.round().await.unwrap().expect("something new");
        outside.push_str(&signed.document());
        outside.push('\n');
        assert!(signs.round().await.unwrap().is_none(), "nothing new but the checkpoint itself");
    }
    let key = CheckpointKey::existing(&vault, &store).await.unwrap().unwrap().public();
    let writers = vec![one.writer().to_owned(), two.writer().to_owned()];
    one.close().await;
    two.close().await;
    let mut files = Files::new();
    for writer in &writers {
        for entry in fs::read_dir(audit_dir.join(writer)).unwrap() {
            let entry = entry.unwrap();
            files.insert(Path::new(writer).join(entry.file_name()), fs::read(entry.path()).unwrap());
        }
    }
    store.close().await;
    Whole { dir, files, writers, key, outside, database }
}

fn write(files: &Files) -> TempDir {
    let dir = TempDir::new().unwrap();
    for (path, bytes) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    dir
}

fn check(files: &Files, key: Option<PublicKey>, outside: Option<&str>) -> Report {
    let dir = write(files);
    let outside = outside.map(|text| ("kept.jsonl", text));
    runtime().block_on(verify_evidence(dir.path(), &Evidence { key, outside, ..Evidence::default() })).unwrap()
}

fn logs(writer: &str) -> Vec<PathBuf> {
    let is_log = |path: &&PathBuf| path.starts_with(writer) && path.extension().is_some_and(|ext| ext == "log");
    WHOLE.files.keys().filter(is_log).cloned().collect()
}

/// All lines of a writer.
fn lines(files: &Files, writer: &str) -> Vec<String> {
    let all = logs(writer).iter().map(|path| String::from_utf8(files[path].clone()).unwrap()).collect::<String>();
    all.lines().map(str::to_owned).collect()
}

/// The attacker who knows the form: every record gets the number and hash that fit.
fn rechained(lines: &[String]) -> Vec<String> {
    let (mut prev, mut out) = ("0".repeat(64), Vec::new());
    for (seq, line) in (1..).zip(lines) {
        let rest = line.split_once(",\"_v\":1").unwrap().1;
        let body = format!("\"_prev\":\"{prev}\",\"_seq\":{seq},\"_v\":1{rest}");
        let hash = Hex::of(&[b"{", body.as_bytes()]);
        out.push(format!("{{\"_hash\":\"{}\",{body}", hash.as_str()));
        prev = hash.as_str().to_owned();
    }
    out
}

/// The files with one writer's records replaced by these, in one segment.
fn replaced(writer: &str, lines: &[String]) -> Files {
    let mut files = WHOLE.files.clone();
    for path in logs(writer) {
        files.remove(&path);
        files.remove(&path.with_extension("who"));
    }
    files.insert(Path::new(writer).join("00000001.log"), lines.join("\n").into_bytes());
    files.get_mut(&Path::new(writer).join("00000001.log")).unwrap().push(b'\n');
    files
}

#[test]
fn l2_the_whole_record_fits_its_checkpoints() {
    let report = check(&WHOLE.files, Some(WHOLE.key), Some(&WHOLE.outside));
    assert!(report.is_whole(), "{report:?}");
    // Two kept outside; three in the record of the first writer.
    assert_eq!(report.signed, 5);
    assert_eq!(report.newest.unwrap().0, 3);
}

#[test]
fn l2_a_checkpoint_joins_the_chains_of_all_writers() {
    let last = WHOLE.outside.lines().last().unwrap();
    let (signed, statement) = Signed::open(last, &WHOLE.key).unwrap();
    let mut writers = WHOLE.writers.clone();
    writers.sort();
    assert_eq!(signed.heads.iter().map(|head| head.writer.clone()).collect::<Vec<_>>(), writers);
    assert_eq!(signed.heads.iter().map(|head| head.seq).sum::<u64>(), 2 * EVENTS as u64 + 2);
    assert_eq!((statement.number, statement.heads), (3, 2));
    let before = WHOLE.outside.lines().next().unwrap();
    assert_eq!(statement.previous, Hex::of(&[before.as_bytes()]).as_str());
}

#[test]
fn l2_checkpoints_are_in_the_store_and_in_the_record() {
    let clock = Arc::new(ManualClock::at(NOW));
    let whole = &*WHOLE;
    let stored = runtime().block_on(async {
        let store = store(&whole.database, &clock).await;
        repo::after(&store, 0, 10).await.unwrap()
    });
    assert_eq!(stored.iter().map(|one| one.number).collect::<Vec<_>>(), [1, 2, 3]);
    let kept: Vec<&str> = WHOLE.outside.lines().collect();
    assert_eq!([stored[1].body.as_str(), stored[2].body.as_str()], kept[..]);
    let record = lines(&WHOLE.files, &WHOLE.writers[0]);
    assert_eq!(record.iter().filter(|line| line.contains("\"method\":\"audit/checkpoint\"")).count(), 3);
    assert!(WHOLE.dir.path().exists());
}

#[test]
fn l2_a_tail_cut_off_together_with_all_local_checkpoints_is_found_with_the_outside_one_only() {
    let mut record = lines(&WHOLE.files, &WHOLE.writers[0]);
    // Back to before the first checkpoint.
    record.truncate(EVENTS / 2 - 2);
    let files = replaced(&WHOLE.writers[0], &record);
    // Without the outside checkpoint nothing is missed: this is what the file is for.
    assert!(check(&files, Some(WHOLE.key), None).is_whole());
    let report = check(&files, Some(WHOLE.key), Some(&WHOLE.outside));
    let (_, statement) = Signed::open(WHOLE.outside.lines().last().unwrap(), &WHOLE.key).unwrap();
    let cut = report.findings.iter().find(|finding| finding.writer == WHOLE.writers[0]).unwrap();
    let FindingKind::Truncated { checkpoint, last } = cut.kind else { panic!("{report:?}") };
    assert_eq!((checkpoint, last), (EVENTS as u64 + 2, EVENTS as u64 / 2 - 2));
    assert_eq!(report.newest, Some((statement.number, statement.at_ms)));
}

#[test]
fn l2_a_chain_that_is_gone_as_a_whole_is_found() {
    let gone = &WHOLE.writers[1];
    let mut files = WHOLE.files.clone();
    files.retain(|path, _| !path.starts_with(gone));
    let report = check(&files, Some(WHOLE.key), Some(&WHOLE.outside));
    assert!(report.findings.iter().any(|f| f.writer == *gone && f.kind == FindingKind::WriterMissing), "{report:?}");
    // Unless it is said to be on another machine.
    let dir = write(&files);
    let elsewhere = [gone.clone()];
    let outside = Some(("kept", WHOLE.outside.as_str()));
    let evidence = Evidence { key: Some(WHOLE.key), outside, elsewhere: &elsewhere, store: None };
    assert!(runtime().block_on(verify_evidence(dir.path(), &evidence)).unwrap().is_whole());
}

#[test]
fn l2_forged_and_broken_checkpoints_are_named_by_line() {
    let good: Vec<&str> = WHOLE.outside.lines().collect();
    let forger = CheckpointKey::generate().unwrap();
    let heads = vec![Checkpoint { writer: WHOLE.writers[0].clone(), seq: 1, hash: "0".repeat(64) }];
    let forged = Signed::new(&forger, 9, NOW, Hex::ZERO, heads).document();
    let (mut other, _) = Signed::open(good[1], &WHOLE.key).unwrap();
    other.heads[0].seq -= 1;
    let mut without = Signed::open(good[1], &WHOLE.key).unwrap().0;
    without.heads.remove(0);
    let mut time: Signed = serde_json::from_str(good[1]).unwrap();
    time.statement = time.statement.replace("\"number\":3", "\"number\":4");
    for (bad, reason) in [
        (forged, CheckpointError::Signature),
        (other.document(), CheckpointError::Root),
        (without.document(), CheckpointError::Root),
        (time.document(), CheckpointError::Signature),
        ("{}".to_owned(), CheckpointError::Form),
        ("\u{0}".to_owned(), CheckpointError::Form),
        ("[".repeat(100_000), CheckpointError::Form),
    ] {
        let report = check(&WHOLE.files, Some(WHOLE.key), Some(&format!("{}\n{bad}\n", good[0])));
        assert_eq!(report.findings.len(), 1, "{report:?}");
        assert_eq!((report.findings[0].file.as_deref(), report.findings[0].line), (Some("kept.jsonl"), 2));
        assert_eq!(report.findings[0].kind, FindingKind::BadCheckpoint { reason: reason.to_string() });
    }
    assert!(!check(&WHOLE.files, Some(WHOLE.key), Some(" \n")).is_whole(), "an empty file proves nothing");
    assert!(!check(&WHOLE.files, Some(forger.public()), None).is_whole(), "the record's own are of another key");
}

#[test]
fn l2_keys_have_two_spellings() {
    let key = WHOLE.key;
    assert_eq!(PublicKey::parse(&key.pem()), Ok(key));
    assert_eq!(PublicKey::parse(&format!("{key}\n")), Ok(key));
    for bad in ["", "x", "AAAA", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"] {
        assert_eq!(PublicKey::parse(bad), Err(CheckpointError::Key));
    }
}

#[test]
fn l2_the_root_is_that_of_rfc_9162() {
    let head = |n: u64| Checkpoint { writer: format!("w{n}"), seq: n, hash: "ab".to_owned() };
    let leaf = |n: u64| crate::digest::sha256(&[&[0], format!("w{n}:{n}:ab").as_bytes()]);
    let node = |l: &[u8; 32], r: &[u8; 32]| crate::digest::sha256(&[&[1], l, r]);
    assert_eq!(merkle::root(&[]), Hex::of(&[]));
    assert_eq!(merkle::root(&[head(1)]), Hex::from_digest(&leaf(1)));
    let five: Vec<_> = (1..=5).map(head).collect();
    let left = node(&node(&leaf(1), &leaf(2)), &node(&leaf(3), &leaf(4)));
    assert_eq!(merkle::root(&five), Hex::from_digest(&node(&left, &leaf(5))));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]

    /// Whoever rewrites the whole chain so that it fits itself is found out, and where.
    #[test]
    fn l2_a_rewritten_chain_is_found_at_the_first_checkpoint_after_the_change(
        attack in 0..4usize, at in 0..EVENTS, other in 0..EVENTS, chain in 0..2usize,
    ) {
        let writer = &WHOLE.writers[chain];
        let mut record = lines(&WHOLE.files, writer);
        let at = at.min(record.len() - 1);
        match attack {
            0 => record[at] = record[at].replace("\"at_ms\":", "\"at_ms\":1"),
            1 => drop(record.remove(at)),
            2 => {
                prop_assume!(at != other && other < record.len());
                record.swap(at, other);
            }
            _ => {
                let foreign = lines(&WHOLE.files, &WHOLE.writers[1 - chain])[other].clone();
                record.insert(at, foreign.replace(&WHOLE.writers[1 - chain], writer));
            }
        }
        let record = rechained(&record);
        let files = replaced(writer, &record);
        let dir = write(&files);
        // The chain alone has no complaint: this is what checkpoints are for.
        let alone = verify(dir.path(), &[]).unwrap();
        prop_assert!(alone.is_whole(), "{:?}", alone);
        let report = check(&files, Some(WHOLE.key), Some(&WHOLE.outside));
        let found = report.findings.iter().find(|f| f.writer == *writer);
        prop_assert!(found.is_some(), "{:?}", report);
        let found = found.unwrap();
        let place = match found.kind {
            FindingKind::NotTheCheckpoint => found.seq.unwrap(),
            FindingKind::Truncated { checkpoint, .. } => checkpoint,
            // The own word of a forged record: its checkpoint is not signed.
            FindingKind::BadCheckpoint { .. } => found.line,
            ref other => panic!("{other:?}"),
        };
        prop_assert!(place as usize >= at.min(other) || attack == 2, "{:?}", found);
        prop_assert!(report.findings.iter().all(|f| f.writer == *writer), "only there: {:?}", report);
    }

    /// Any damage that is not made to fit is reported at the record itself, also with checkpoints.
    #[test]
    fn l2_a_flipped_bit_is_reported_with_its_position(chain in 0..2usize, which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let logs = logs(&WHOLE.writers[chain]);
        let path = which.get(&logs);
        let mut files = WHOLE.files.clone();
        let bytes = files.get_mut(path).unwrap();
        let at = at.index(bytes.len());
        let line = 1 + bytes[..at].iter().filter(|byte| **byte == b'\n').count() as u64;
        bytes[at] ^= 1u8 << bit;
        let report = check(&files, Some(WHOLE.key), Some(&WHOLE.outside));
        let name = path.file_name().unwrap().to_str().unwrap();
        let there = |f: &crate::Finding| f.writer == WHOLE.writers[chain] && f.file.as_deref() == Some(name) && f.line == line;
        let torn = report.torn.iter().any(|torn| torn.file == name);
        prop_assert!(report.findings.iter().any(there) || torn, "{:?}", report);
        prop_assert!(!report.is_whole() || torn);
    }

    /// Hostile text.
    #[test]
    fn l2_any_text_is_refused_without_a_panic(text in any::<String>()) {
        prop_assert!(Signed::open(&text, &WHOLE.key).is_err());
        let _ = PublicKey::parse(&text);
    }
}

#[test]
fn l2_the_helper_of_these_tests_makes_chains_that_fit() {
    let record = lines(&WHOLE.files, &WHOLE.writers[0]);
    assert_eq!(rechained(&record), record);
    assert!(record.iter().all(|line| Parsed::new(line.as_bytes()).unwrap().is_intact()));
}

/// The bundle of the events 4 to 9 of the first writer.
fn bundle() -> String {
    let whole = &*WHOLE;
    runtime().block_on(async {
        let clock = Arc::new(ManualClock::at(NOW));
        let store = store(&whole.database, &clock).await;
        let mut out = Vec::new();
        let audit = whole.dir.path().join("audit");
        let count = crate::export_bundle(&audit, &store, NOW + 4, NOW + 10, &mut out).await.unwrap();
        store.close().await;
        // Up to the first checkpoint behind them.
        assert_eq!(count, (EVENTS / 2 - 4) as u64);
        String::from_utf8(out).unwrap()
    })
}

fn checked(text: &str, key: &PublicKey) -> crate::BundleReport {
    crate::verify_bundle(&mut text.as_bytes(), key).unwrap()
}

#[test]
fn l2_a_bundle_proves_itself_with_the_public_key_alone() {
    let text = bundle();
    let report = checked(&text, &WHOLE.key);
    assert!(report.is_whole(), "{report:?}");
    assert_eq!((report.records, report.identities, report.signed), (8, 8, 1));
    assert_eq!(report.covered.values().copied().collect::<Vec<_>>(), [EVENTS as u64 / 2]);
    assert!(!checked(&text, &CheckpointKey::generate().unwrap().public()).is_whole());
    let lines: Vec<&str> = text.lines().collect();
    let first = lines.iter().position(|line| line.starts_with("{\"record\"")).unwrap();
    let joined = |lines: &[&str]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    // Each line of it matters, but identities, which may have been erased.
    for at in 0..lines.len() {
        let mut less = lines.clone();
        less.remove(at);
        let good = checked(&joined(&less), &WHOLE.key).is_whole();
        let expendable = lines[at].starts_with("{\"who\"") || lines[at].starts_with("{\"bundle\"") || at == first;
        assert!(good == expendable || (lines[at].starts_with("{\"bundle\"") && good), "{at}: {}", lines[at]);
    }
    for at in first + 1..lines.len() {
        if [at, at - 1].iter().any(|at| lines[*at].starts_with("{\"who\"")) {
            continue;
        }
        let mut moved = lines.clone();
        moved.swap(at, at - 1);
        assert!(!checked(&joined(&moved), &WHOLE.key).is_whole(), "{at}");
    }
    let altered = text.replacen("tool-6", "tool-7", 1);
    assert!(checked(&altered, &WHOLE.key).findings.iter().any(|f| f.kind == FindingKind::Altered));
    for bad in ["", "{}", "x\n", "\u{0}", "[[[["] {
        assert!(!checked(bad, &WHOLE.key).is_whole(), "{bad}");
    }
}
