//! L9: a process that is killed, a disk that fills up, and what a crash leaves behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bartizan_audit::{Audit, AuditError, Options, Receipt, verify};
use bartizan_config::settings::AuditMode;
use bartizan_model::event::{AuditEvent, EventKind};
use bartizan_model::{EventId, ManualClock, SystemClock};
use tempfile::TempDir;

/// Tells a test that it is the child of another one, and where to write.
const CHILD: &str = "BARTIZAN_AUDIT_TEST_CHILD";

fn child_dir() -> Option<PathBuf> {
    std::env::var_os(CHILD).map(PathBuf::from)
}

/// This very program, running one test only.
fn this_test(name: &str, dir: &Path) -> Vec<String> {
    let me = std::env::current_exe().unwrap();
    let _ = dir;
    [me.to_str().unwrap(), "--exact", name, "--nocapture", "--test-threads=1"].map(str::to_owned).to_vec()
}

fn start(arguments: &[String], dir: &Path) -> Child {
    Command::new(&arguments[0])
        .args(&arguments[1..])
        .env(CHILD, dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap()
}

fn say(line: &str) {
    // One write per line, so that a kill leaves whole lines or a cut last one.
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

fn named(kind: EventKind, n: i64) -> AuditEvent {
    let mut event = common::event(n);
    event.id = EventId::new(common::NOW + n);
    event.kind = kind;
    event
}

/// As a child: writes intents and calls as fast as it can and says what it did.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn l9_kill_9_loses_nothing_that_was_answered() {
    if let Some(dir) = child_dir() {
        return write_until_killed(&dir).await;
    }
    let dir = TempDir::new().unwrap();
    let (mut answered, mut forwarded) = (HashSet::new(), HashSet::new());
    for generation in 1..=4 {
        let mut child = start(&this_test("l9_kill_9_loses_nothing_that_was_answered", dir.path()), dir.path());
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut count = 0;
        let mut line = String::new();
        while out.read_line(&mut line).unwrap() > 0 {
            if let Some(id) = line.strip_suffix('\n').and_then(|line| line.strip_prefix("answered ")) {
                answered.insert(id.to_owned());
                count += 1;
                if count == 150 * generation {
                    // SIGKILL, in the middle of it.
                    child.kill().unwrap();
                }
            }
            if let Some(id) = line.strip_suffix('\n').and_then(|line| line.strip_prefix("forwarded ")) {
                forwarded.insert(id.to_owned());
            }
            line.clear();
        }
        child.wait().unwrap();
        assert!(count >= 150 * generation, "the child wrote {count}");
    }
    // Before anybody repairs anything.
    let report = verify(dir.path(), &[]).unwrap();
    assert!(report.is_whole(), "{:?}", report.findings);
    assert_eq!(report.writers.len(), 1, "each generation went on with the chain");
    let lines = common::lines(dir.path(), &report.writers[0].writer);
    let ids = |kind: &str| -> HashSet<String> {
        lines
            .iter()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .filter(|record| record["kind"] == kind)
            .map(|record| record["id"].as_str().unwrap().to_owned())
            .collect()
    };
    let (calls, intents) = (ids("call"), ids("intent"));
    assert!(answered.len() >= 1_500 && answered.is_subset(&calls), "an answered call is missing");
    assert!(!forwarded.is_empty() && forwarded.is_subset(&intents), "a forwarded write has no intent");
    assert_eq!(report.writers[0].without_identity, 0);
}

async fn write_until_killed(dir: &Path) {
    let options = Options { segment_bytes: 200_000, ..Options::default() };
    let audit =
        Audit::open_with(dir, AuditMode::Strict, None, Arc::new(SystemClock), &options).expect("opens after a kill");
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let audit = audit.clone();
            tokio::spawn(async move {
                for n in 0..1_000_000i64 {
                    let intent = named(EventKind::Intent, n * 8 + task);
                    let id = intent.id;
                    audit.append_durable(intent).await.expect("the disk is fine");
                    say(&format!("forwarded {id}"));
                    let call = named(EventKind::Call, n * 8 + task);
                    let id = call.id;
                    audit.append(call).await.expect("the disk is fine");
                    say(&format!("answered {id}"));
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

/// As a child, on a disk of its own that is nearly full.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l9_a_full_file_system_refuses_and_recovers() {
    if let Some(dir) = child_dir() {
        return fill_the_disk(&dir).await;
    }
    let dir = TempDir::new().unwrap();
    let test = this_test("l9_a_full_file_system_refuses_and_recovers", dir.path());
    // A mount of our own, seen by nobody else; gone with the child.
    let script = "mount -t tmpfs -o size=1m tmpfs \"$0\" || exit 99; exec \"$@\"";
    let mut arguments = vec!["unshare".to_owned(), "--mount".to_owned()];
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    if !status.lines().any(|line| line.starts_with("Uid:\t0\t")) {
        arguments.extend(["--user".to_owned(), "--map-root-user".to_owned()]);
    }
    arguments.extend(["sh".to_owned(), "-c".to_owned(), script.to_owned(), dir.path().to_str().unwrap().to_owned()]);
    arguments.extend(test);
    let output = Command::new(&arguments[0]).args(&arguments[1..]).env(CHILD, dir.path()).output();
    let Ok(output) = output else {
        eprintln!("SKIPPED: no `unshare` here");
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !text.contains("running 1 test") {
        eprintln!("SKIPPED: no mounts here: {}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    assert!(output.status.success() && text.contains("recovered"), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

async fn fill_the_disk(dir: &Path) {
    let record = dir.join("audit");
    let open = || Audit::open(&record, AuditMode::Strict, None, Arc::new(ManualClock::at(common::NOW)));
    let audit = open().unwrap();
    assert_eq!(audit.append(common::event(0)).await.unwrap(), Receipt::Durable { seq: 1 });
    let ballast = dir.join("ballast");
    let mut file = fs::File::create(&ballast).unwrap();
    while file.write_all(&[0; 1024]).is_ok() {}
    drop(file);
    // The segment's last page has some room left; then it is over.
    let mut seq = 1;
    let refused = loop {
        match audit.append(common::event(i64::try_from(seq).unwrap())).await {
            Ok(Receipt::Durable { seq: next }) => seq = next,
            other => break other,
        }
        assert!(seq < 1_000, "the disk was never full");
    };
    assert!(matches!(refused, Err(AuditError::Unavailable)), "{refused:?}");
    assert!(!audit.ready());
    assert!(matches!(audit.append_durable(common::event(1)).await, Err(AuditError::Unavailable)));
    fs::remove_file(&ballast).unwrap();
    for _ in 0..1_000 {
        if audit.ready() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    audit.append(common::event(2)).await.expect("recovered by itself");
    audit.close().await;
    let report = verify(&record, &[]).unwrap();
    assert!(report.is_whole() && report.torn.is_empty(), "{report:?}");
    assert!(report.writers[0].records > seq);
    say("recovered");
}

/// As a child, with a limit on the size of files that the parent lifts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l9_a_file_size_limit_refuses_and_recovers() {
    if let Some(dir) = child_dir() {
        return reach_the_limit(&dir).await;
    }
    if Command::new("prlimit").arg("--version").stdout(Stdio::null()).status().is_err() {
        eprintln!("SKIPPED: no `prlimit` here");
        return;
    }
    let dir = TempDir::new().unwrap();
    // Ignored signals stay ignored over exec; without that SIGXFSZ ends the process.
    let script = "trap '' XFSZ; ulimit -S -f 160; exec \"$@\"";
    let mut arguments = ["sh", "-c", script, "sh"].map(str::to_owned).to_vec();
    arguments.extend(this_test("l9_a_file_size_limit_refuses_and_recovers", dir.path()));
    let mut child = start(&arguments, dir.path());
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    let mut recovered = false;
    while out.read_line(&mut line).unwrap() > 0 {
        if line.trim().ends_with("refused") {
            let lifted = Command::new("prlimit")
                .args(["--pid", &child.id().to_string(), "--fsize=unlimited:"])
                .status()
                .unwrap();
            assert!(lifted.success());
        }
        recovered |= line.trim().ends_with("recovered");
        line.clear();
    }
    assert!(child.wait().unwrap().success() && recovered);
    let report = verify(dir.path(), &[]).unwrap();
    assert!(report.is_whole() && report.torn.is_empty(), "{report:?}");
}

async fn reach_the_limit(dir: &Path) {
    let audit = Audit::open(dir, AuditMode::Strict, None, Arc::new(ManualClock::at(common::NOW))).unwrap();
    let mut n = 0;
    while audit.append(common::event(n)).await.is_ok() {
        n += 1;
        assert!(n < 10_000, "the limit was never reached");
    }
    assert!(n > 10 && !audit.ready());
    say("refused");
    for _ in 0..3_000 {
        if audit.ready() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    audit.append(common::event(n)).await.expect("recovered by itself");
    audit.close().await;
    say("recovered");
}

fn open(dir: &Path) -> Audit {
    Audit::open(dir, AuditMode::Strict, None, Arc::new(ManualClock::at(common::NOW))).unwrap()
}

/// A closed record of ten events; its log's path.
async fn ten(dir: &Path) -> PathBuf {
    let audit = open(dir);
    for n in 0..10 {
        audit.append(common::event(n)).await.unwrap();
    }
    audit.close().await;
    dir.join(audit.writer()).join("00000001.log")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l9_a_torn_line_is_moved_aside_and_reported() {
    // Cut anywhere in the last line, also so that only its newline is missing.
    for cut in [1, 2, 50, 300] {
        let dir = TempDir::new().unwrap();
        let log = ten(dir.path()).await;
        let bytes = fs::read(&log).unwrap();
        let kept = bytes.len() - cut;
        fs::write(&log, &bytes[..kept]).unwrap();
        let before = verify(dir.path(), &[]).unwrap();
        assert!(before.is_whole(), "a torn tail alone is no forgery");
        assert_eq!(before.torn.len(), 1);
        let audit = open(dir.path());
        assert_eq!(audit.append(common::event(99)).await.unwrap(), Receipt::Durable { seq: 11 });
        audit.close().await;
        let report = verify(dir.path(), &[]).unwrap();
        assert!(report.is_whole() && report.torn.is_empty(), "{report:?}");
        let lines = common::lines(dir.path(), audit.writer());
        assert_eq!(lines.len(), 11);
        let put_on_record: serde_json::Value = serde_json::from_str(&lines[9]).unwrap();
        assert_eq!(
            (put_on_record["kind"].as_str(), put_on_record["method"].as_str()),
            (Some("system"), Some("audit/recover"))
        );
        let offset = before.torn[0].offset as usize;
        let aside = log.with_file_name(format!("00000001.torn-{offset}"));
        assert_eq!(fs::read(aside).unwrap(), bytes[offset..kept], "not a byte is lost");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l9_zeros_after_a_power_cut_are_moved_aside() {
    let dir = TempDir::new().unwrap();
    let log = ten(dir.path()).await;
    let mut bytes = fs::read(&log).unwrap();
    let good = bytes.len();
    // A hole that never reached the disk, and a block after it that did.
    let last = bytes[..good].to_vec();
    bytes.extend([0; 5_000]);
    bytes.push(b'\n');
    bytes.extend(last.split_inclusive(|byte| *byte == b'\n').next_back().unwrap());
    fs::write(&log, &bytes).unwrap();
    let audit = open(dir.path());
    assert_eq!(audit.append(common::event(99)).await.unwrap(), Receipt::Durable { seq: 12 });
    audit.close().await;
    let report = verify(dir.path(), &[]).unwrap();
    assert!(report.is_whole() && report.torn.is_empty(), "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l9_a_change_in_the_middle_is_not_repaired_away() {
    let dir = TempDir::new().unwrap();
    let log = ten(dir.path()).await;
    let text = fs::read_to_string(&log).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    lines[4] = "what somebody put here";
    fs::write(&log, lines.join("\n") + "\n").unwrap();
    let audit = open(dir.path());
    assert_eq!(audit.append(common::event(99)).await.unwrap(), Receipt::Durable { seq: 11 });
    audit.close().await;
    let report = verify(dir.path(), &[]).unwrap();
    assert!(report.findings.iter().any(|finding| finding.line == 5), "{report:?}");
    assert!(fs::read_to_string(&log).unwrap().contains("what somebody put here"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l9_the_chain_goes_on_over_segments_and_restarts() {
    let dir = TempDir::new().unwrap();
    let options = Options { segment_bytes: 3_000, ..Options::default() };
    let clock = Arc::new(ManualClock::at(common::NOW));
    for start in 0..5 {
        let audit = Audit::open_with(dir.path(), AuditMode::Strict, None, clock.clone(), &options).unwrap();
        for n in 0..7 {
            let receipt = audit.append(common::event(n)).await.unwrap();
            assert_eq!(receipt, Receipt::Durable { seq: start * 7 + n as u64 + 1 });
        }
        audit.close().await;
    }
    let report = verify(dir.path(), &[]).unwrap();
    assert!(report.is_whole(), "{report:?}");
    let writer = &report.writers[0];
    assert_eq!((report.writers.len(), writer.records, writer.without_identity), (1, 35, 0));
    assert!(writer.segments > 5, "{writer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l9_an_empty_last_segment_does_not_restart_the_chain() {
    let dir = TempDir::new().unwrap();
    let log = ten(dir.path()).await;
    // Killed between making the files of a segment and the first record, in any order.
    for made in [vec!["00000002.who"], vec!["00000002.who", "00000002.log"]] {
        for name in made {
            fs::write(log.with_file_name(name), b"").unwrap();
        }
        let audit = open(dir.path());
        audit.append(common::event(1)).await.unwrap();
        audit.close().await;
        let report = verify(dir.path(), &[]).unwrap();
        assert!(report.is_whole(), "{report:?}");
    }
    assert_eq!(verify(dir.path(), &[]).unwrap().writers[0].records, 12);
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l9_only_the_owner_can_read_the_record() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = TempDir::new().unwrap();
    let record = dir.path().join("audit");
    let audit = open(&record);
    audit.append(common::event(0)).await.unwrap();
    audit.close().await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let folder = record.join(audit.writer());
    assert_eq!((mode(&record), mode(&folder)), (0o700, 0o700));
    for entry in fs::read_dir(folder).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l9_names_are_not_in_the_chain() {
    let dir = TempDir::new().unwrap();
    let log = ten(dir.path()).await;
    let text = fs::read_to_string(&log).unwrap();
    for hidden in ["user:u1", "192.0.2.7", "some \\\"client\\\"", "\"g0\""] {
        assert!(!text.contains(hidden), "{hidden}");
        assert!(fs::read_to_string(log.with_extension("who")).unwrap().contains(hidden), "{hidden}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l9_fast_mode_is_on_disk_within_its_window() {
    let dir = TempDir::new().unwrap();
    let clock = Arc::new(ManualClock::at(common::NOW));
    let audit = Audit::open(dir.path(), AuditMode::Fast, None, clock).unwrap();
    for n in 0..100 {
        assert_eq!(audit.append(common::event(n)).await.unwrap(), Receipt::Queued);
    }
    // Nobody asks for it: it happens by itself.
    for _ in 0..1_000 {
        if audit.stats().seq == 100 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(audit.stats().seq, 100);
    assert!(audit.stats().rounds < 20, "collected, not one by one: {:?}", audit.stats());
    assert!(matches!(audit.append_durable(common::event(100)).await, Ok(Receipt::Durable { seq: 101 })));
    audit.close().await;
}

#[tokio::test]
async fn l9_a_folder_that_cannot_be_used_is_named() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    let error = Audit::open(&file.join("audit"), AuditMode::Strict, None, Arc::new(ManualClock::at(0))).err().unwrap();
    assert!(error.to_string().contains("file/audit"), "{error}");
}
