//! A disk that fills up, fails to sync or hangs.

use std::sync::Arc;
use std::time::Duration;

use bartizan_config::settings::AuditMode;
use bartizan_model::ManualClock;
use bartizan_model::event::EventKind;
use tempfile::TempDir;

use super::disk::{Control, FaultyDisk};
use super::{NOW, event};
use crate::{Audit, AuditError, Options, Receipt, verify};

struct Bench {
    dir: TempDir,
    control: Control,
    audit: Audit,
}

fn open(mode: AuditMode, options: &Options) -> Bench {
    let (dir, control) = (TempDir::new().unwrap(), Control::default());
    let disk = Box::new(FaultyDisk(control.clone()));
    let audit = Audit::open_on(disk, dir.path(), mode, None, &ManualClock::at(NOW), options).unwrap();
    Bench { dir, control, audit }
}

impl Bench {
    async fn until(&self, what: &str, check: impl Fn(&Audit) -> bool) {
        for _ in 0..2_000 {
            if check(&self.audit) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("never: {what}: {:?}", self.audit.stats());
    }

    /// Names of the principals on record, in order.
    async fn on_record(&self) -> Vec<String> {
        self.audit.close().await;
        let report = verify(self.dir.path(), &[]).unwrap();
        assert!(report.is_whole() && report.torn.is_empty(), "{report:?}");
        assert_eq!(report.writers[0].without_identity, 0);
        let folder = self.dir.path().join(self.audit.writer());
        let mut names = Vec::new();
        for segment in crate::folder::segments(&folder).unwrap() {
            let read = |path| std::fs::read_to_string(path).unwrap();
            let who = read(crate::folder::who_path(&folder, segment));
            for line in read(crate::folder::log_path(&folder, segment)).lines() {
                let commit = &line[line.len() - 66..line.len() - 2];
                let entry = who.lines().find(|entry| entry.contains(commit)).unwrap();
                let name = entry.split("user:").nth(1).unwrap();
                names.push(name[..name.find('"').unwrap()].to_owned());
            }
        }
        names
    }
}

async fn add(audit: &Audit, kind: EventKind, name: &str) -> Result<Receipt, AuditError> {
    audit.append(event(kind, name)).await
}

fn is_unavailable(result: &Result<Receipt, AuditError>) -> bool {
    matches!(result, Err(AuditError::Unavailable))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l9_a_full_disk_refuses_and_recovers_by_itself() {
    let bench = open(AuditMode::Strict, &Options::default());
    assert_eq!(add(&bench.audit, EventKind::Call, "before").await.unwrap(), Receipt::Durable { seq: 1 });
    assert!(bench.audit.ready());
    // Half of the next line fits.
    bench.control.set(|faults| faults.room = Some(500));
    assert!(is_unavailable(&add(&bench.audit, EventKind::Call, "kept").await));
    assert!(!bench.audit.healthy() && !bench.audit.ready());
    assert!(is_unavailable(&add(&bench.audit, EventKind::Intent, "refused-at-once").await));
    assert!(is_unavailable(&bench.audit.append_durable(event(EventKind::Intent, "x")).await));
    assert!(bench.audit.flush().await.is_err());
    let stats = bench.audit.stats();
    assert_eq!((stats.failures, stats.written, stats.refused, stats.healthy), (1, 1, 2, false));
    bench.control.set(|faults| faults.room = None);
    bench.until("healthy again", Audit::ready).await;
    assert_eq!(add(&bench.audit, EventKind::Intent, "after").await.unwrap(), Receipt::Durable { seq: 3 });
    assert_eq!(bench.on_record().await, ["before", "kept", "after"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l9_an_intent_that_failed_is_never_on_record() {
    let bench = open(AuditMode::Strict, &Options::default());
    add(&bench.audit, EventKind::Call, "before").await.unwrap();
    bench.control.set(|faults| faults.sync_fails = true);
    assert!(is_unavailable(&add(&bench.audit, EventKind::Intent, "never").await));
    bench.control.set(|faults| faults.sync_fails = false);
    bench.until("healthy again", Audit::ready).await;
    add(&bench.audit, EventKind::Call, "after").await.unwrap();
    assert_eq!(bench.on_record().await, ["before", "after"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l9_a_failed_sync_acknowledges_nothing() {
    let bench = open(AuditMode::Strict, &Options::default());
    bench.control.set(|faults| faults.sync_fails = true);
    let waits: Vec<_> = (0..20)
        .map(|n| {
            let audit = bench.audit.clone();
            tokio::spawn(async move { add(&audit, EventKind::Call, &format!("n{n}")).await })
        })
        .collect();
    for wait in waits {
        assert!(is_unavailable(&wait.await.unwrap()));
    }
    assert_eq!(bench.audit.stats().written, 0);
    bench.control.set(|faults| faults.sync_fails = false);
    bench.until("healthy again", Audit::ready).await;
    let mut names = bench.on_record().await;
    names.sort();
    names.dedup();
    assert!(names.len() <= 20, "none twice: {names:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l9_what_cannot_be_cut_off_keeps_it_refusing() {
    let bench = open(AuditMode::Strict, &Options::default());
    add(&bench.audit, EventKind::Call, "before").await.unwrap();
    bench.control.set(|faults| (faults.room, faults.truncate_fails) = (Some(300), true));
    assert!(is_unavailable(&add(&bench.audit, EventKind::Call, "kept").await));
    bench.control.set(|faults| faults.room = None);
    // Room alone does not do: a half-written line is still there.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!bench.audit.healthy());
    bench.control.set(|faults| faults.truncate_fails = false);
    bench.until("healthy again", Audit::ready).await;
    assert_eq!(bench.on_record().await, ["before", "kept"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l9_no_new_segment_no_record() {
    let bench = open(AuditMode::Strict, &Options { segment_bytes: 1, ..Options::default() });
    add(&bench.audit, EventKind::Call, "a").await.unwrap();
    bench.control.set(|faults| faults.create_fails = true);
    assert!(is_unavailable(&add(&bench.audit, EventKind::Call, "b").await));
    bench.control.set(|faults| faults.create_fails = false);
    bench.until("healthy again", Audit::ready).await;
    add(&bench.audit, EventKind::Call, "c").await.unwrap();
    assert_eq!(bench.on_record().await, ["a", "b", "c"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l9_a_full_queue_refuses_in_strict() {
    let bench = open(AuditMode::Strict, &Options { queue: 4, ..Options::default() });
    bench.control.set(|faults| faults.stalled = true);
    let mut waits = Vec::new();
    for n in 0..5 {
        let audit = bench.audit.clone();
        waits.push(tokio::spawn(async move { add(&audit, EventKind::Call, &format!("n{n}")).await }));
        // The first is with the writer, which hangs in its sync; the others fill the queue.
        bench.until("taken", |audit| bench.control.is_waited_for() && audit.stats().queued == n).await;
    }
    assert!(!bench.audit.ready(), "asked before forwarding");
    assert!(matches!(add(&bench.audit, EventKind::Call, "full").await, Err(AuditError::Full)));
    assert!(matches!(bench.audit.append_durable(event(EventKind::Intent, "x")).await, Err(AuditError::Full)));
    assert_eq!(bench.audit.stats().refused, 2);
    bench.control.set(|faults| faults.stalled = false);
    for wait in waits {
        wait.await.unwrap().unwrap();
    }
    assert!(bench.audit.ready());
    assert_eq!(bench.on_record().await, ["n0", "n1", "n2", "n3", "n4"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l9_all_that_wait_share_one_sync() {
    let bench = open(AuditMode::Strict, &Options::default());
    // The identity is known, so that a round is one sync.
    add(&bench.audit, EventKind::Call, "same").await.unwrap();
    bench.control.set(|faults| faults.stalled = true);
    let mut waits = Vec::new();
    for n in 0..101 {
        let audit = bench.audit.clone();
        waits.push(tokio::spawn(async move { add(&audit, EventKind::Call, "same").await.unwrap() }));
        bench.until("taken", |audit| bench.control.is_waited_for() && audit.stats().queued == n).await;
    }
    let before = bench.control.syncs();
    bench.control.set(|faults| faults.stalled = false);
    let mut seqs = Vec::new();
    for wait in waits {
        let Receipt::Durable { seq } = wait.await.unwrap() else { panic!("not durable") };
        seqs.push(seq);
    }
    seqs.sort_unstable();
    assert_eq!(seqs, (2..=102).collect::<Vec<u64>>());
    assert_eq!(bench.control.syncs() - before, 2, "one for the first, one for the other hundred");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l9_fast_mode_drops_and_counts_when_full() {
    let bench = open(AuditMode::Fast, &Options { queue: 3, linger: Duration::ZERO, ..Options::default() });
    bench.control.set(|faults| faults.stalled = true);
    assert_eq!(add(&bench.audit, EventKind::Call, "n0").await.unwrap(), Receipt::Queued);
    bench.until("taken", |_| bench.control.is_waited_for()).await;
    for n in 1..4 {
        assert_eq!(add(&bench.audit, EventKind::Call, &format!("n{n}")).await.unwrap(), Receipt::Queued);
    }
    for _ in 0..7 {
        assert_eq!(add(&bench.audit, EventKind::Call, "lost").await.unwrap(), Receipt::Dropped);
    }
    assert_eq!(bench.audit.stats().dropped, 7);
    assert!(bench.audit.ready(), "fast mode goes on");
    bench.control.set(|faults| faults.stalled = false);
    assert_eq!(bench.on_record().await, ["n0", "n1", "n2", "n3"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l9_fast_mode_keeps_events_over_an_outage_but_refuses_intents() {
    let bench = open(AuditMode::Fast, &Options { linger: Duration::from_millis(1), ..Options::default() });
    assert!(matches!(bench.audit.append_durable(event(EventKind::Intent, "i")).await, Ok(Receipt::Durable { seq: 1 })));
    bench.control.set(|faults| faults.room = Some(100));
    add(&bench.audit, EventKind::Call, "a").await.unwrap();
    bench.until("noticed", |audit| !audit.healthy()).await;
    assert!(is_unavailable(&bench.audit.append_durable(event(EventKind::Intent, "no")).await));
    for name in ["b", "c"] {
        assert_eq!(add(&bench.audit, EventKind::Call, name).await.unwrap(), Receipt::Queued);
    }
    bench.control.set(|faults| faults.room = None);
    bench.until("healthy again", Audit::healthy).await;
    assert!(bench.audit.append_durable(event(EventKind::Intent, "yes")).await.is_ok());
    assert_eq!(bench.on_record().await, ["i", "a", "b", "c", "yes"]);
    assert_eq!(bench.audit.stats().dropped, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l9_closing_during_an_outage_ends_and_counts() {
    let bench = open(AuditMode::Strict, &Options::default());
    add(&bench.audit, EventKind::Call, "before").await.unwrap();
    bench.control.set(|faults| faults.room = Some(10));
    assert!(is_unavailable(&add(&bench.audit, EventKind::Call, "lost").await));
    bench.audit.close().await;
    assert!(matches!(add(&bench.audit, EventKind::Call, "late").await, Err(AuditError::Unavailable)));
    assert_eq!(bench.audit.stats().dropped, 1);
    let report = verify(bench.dir.path(), &[]).unwrap();
    assert!(report.is_whole(), "{report:?}");
    assert_eq!(report.writers[0].records, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l9_closed_is_closed() {
    for mode in [AuditMode::Strict, AuditMode::Fast] {
        let bench = open(mode, &Options::default());
        add(&bench.audit, EventKind::Call, "a").await.unwrap();
        bench.audit.close().await;
        bench.audit.close().await;
        assert!(matches!(add(&bench.audit, EventKind::Call, "b").await, Err(AuditError::Closed)));
        assert_eq!(bench.on_record().await, ["a"]);
    }
}

#[tokio::test(start_paused = true)]
async fn l9_a_disk_that_hangs_is_not_waited_for() {
    let bench = Arc::new(open(AuditMode::Strict, &Options::default()));
    bench.control.set(|faults| faults.stalled = true);
    assert!(is_unavailable(&add(&bench.audit, EventKind::Call, "slow").await));
    bench.control.set(|faults| faults.stalled = false);
}
