//! L9: the index is built behind, exactly once, and can be built again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use bartizan_audit::{Audit, Options, Query, Row, rebuild_index, verify, verify_against};
use bartizan_config::settings::AuditMode;
use bartizan_model::event::AuditEvent;
use bartizan_model::{Clock, ManualClock};
use bartizan_store::Store;
use common::stores;
use tempfile::TempDir;

fn clock() -> Arc<dyn Clock> {
    Arc::new(ManualClock::at(common::NOW))
}

fn open(dir: &Path, store: Option<&Store>) -> Audit {
    let options = Options { segment_bytes: 20_000, ..Options::default() };
    Audit::open_with(dir, AuditMode::Strict, store.cloned(), clock(), &options).unwrap()
}

async fn append(audit: &Audit, numbers: std::ops::Range<i64>) -> Vec<AuditEvent> {
    let mut events = Vec::new();
    for n in numbers {
        let event = common::event(n);
        events.push(event.clone());
        audit.append(event).await.unwrap();
    }
    events
}

/// Newest first, as a search gives them.
fn newest_first(mut events: Vec<AuditEvent>) -> Vec<AuditEvent> {
    events.reverse();
    events
}

fn events(rows: &[Row]) -> Vec<AuditEvent> {
    rows.iter().map(|row| row.event.clone()).collect()
}

async fn case_every_field_of_every_kind_is_found_again(store: Store) {
    let dir = TempDir::new().unwrap();
    let audit = open(dir.path(), Some(&store));
    let written = newest_first(append(&audit, 0..150).await);
    audit.flush().await.unwrap();
    let stats = audit.stats();
    assert_eq!((stats.seq, stats.indexed, stats.written), (150, 150, 150));
    assert_eq!(events(&common::all(&store, Query::default()).await), written);
    let count = |query| async { common::all(&store, query).await.len() };
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(count(Query { principal: text("user:u1"), ..Query::default() }).await, 30);
    assert_eq!(count(Query { server: text("s2"), ..Query::default() }).await, 50);
    assert_eq!(count(Query { target: text("tool_3"), ..Query::default() }).await, 37);
    assert_eq!(count(Query { code: text("policy_denied"), ..Query::default() }).await, 15);
    assert_eq!(count(Query { kind: text("admin"), ..Query::default() }).await, 21);
    assert_eq!(count(Query { allow: Some(false), ..Query::default() }).await, 15);
    assert_eq!(count(Query { id: Some(written[7].id.to_string()), ..Query::default() }).await, 1);
    let from = common::NOW + 10;
    assert_eq!(count(Query { since_ms: Some(from), until_ms: Some(from + 5), ..Query::default() }).await, 5);
    audit.close().await;
}

async fn case_an_event_is_found_by_its_id_whenever_it_began(store: Store) {
    let dir = TempDir::new().unwrap();
    let audit = open(dir.path(), Some(&store));
    let mut ids = Vec::new();
    for late_ms in [0, 60_000, 7_200_000] {
        let mut event = common::event(1);
        event.id = bartizan_model::EventId::new(event.at_ms + late_ms);
        ids.push(event.id.to_string());
        audit.append(event).await.unwrap();
    }
    audit.flush().await.unwrap();
    for id in ids {
        let rows = common::all(&store, Query { id: Some(id.clone()), ..Query::default() }).await;
        assert_eq!(rows.iter().map(|row| row.event.id.to_string()).collect::<Vec<_>>(), [id]);
    }
    for nothing in ["", "no-id", "0190f0c0-0000-7000-8000-000000000000"] {
        assert!(common::all(&store, Query { id: Some(nothing.to_owned()), ..Query::default() }).await.is_empty());
    }
    audit.close().await;
}

async fn case_a_rebuilt_index_is_equal(store: Store) {
    let dir = TempDir::new().unwrap();
    for start in [0, 60] {
        let audit = open(dir.path(), Some(&store));
        append(&audit, start..start + 60).await;
        audit.close().await;
    }
    let before = common::all(&store, Query::default()).await;
    assert_eq!(before.len(), 120);
    assert_eq!(rebuild_index(dir.path(), &store).await.unwrap(), 120);
    assert_eq!(common::all(&store, Query::default()).await, before);
    assert!(verify_against(dir.path(), &store).await.unwrap().is_whole());
}

async fn case_a_late_index_catches_up(store: Store) {
    let dir = TempDir::new().unwrap();
    let audit = open(dir.path(), None);
    append(&audit, 0..100).await;
    audit.close().await;
    let audit = open(dir.path(), Some(&store));
    append(&audit, 100..110).await;
    audit.flush().await.unwrap();
    assert_eq!(common::all(&store, Query::default()).await.len(), 110);
    audit.close().await;
}

async fn case_a_live_index_may_be_rebuilt(store: Store) {
    let dir = TempDir::new().unwrap();
    let audit = open(dir.path(), Some(&store));
    append(&audit, 0..100).await;
    audit.flush().await.unwrap();
    let appending = tokio::spawn({
        let audit = audit.clone();
        async move { append(&audit, 100..200).await.len() }
    });
    rebuild_index(dir.path(), &store).await.unwrap();
    rebuild_index(dir.path(), &store).await.unwrap();
    appending.await.unwrap();
    audit.flush().await.unwrap();
    let rows = common::all(&store, Query::default()).await;
    let seqs: BTreeSet<u64> = rows.iter().map(|row| row.seq).collect();
    assert_eq!((rows.len(), seqs.len()), (200, 200), "each once");
    audit.close().await;
}

async fn case_several_writers_keep_apart(store: Store) {
    let dir = TempDir::new().unwrap();
    let audits: Vec<Audit> = (0..3).map(|_| open(dir.path(), Some(&store))).collect();
    let names: BTreeSet<&str> = audits.iter().map(Audit::writer).collect();
    assert_eq!(names.len(), 3);
    for (n, audit) in audits.iter().enumerate() {
        append(audit, n as i64 * 50..n as i64 * 50 + 50).await;
        audit.flush().await.unwrap();
    }
    let rows = common::all(&store, Query::default()).await;
    assert_eq!(rows.len(), 150);
    let report = verify(dir.path(), &[]).unwrap();
    assert!(report.is_whole());
    assert_eq!(report.writers.iter().map(|writer| writer.records).collect::<Vec<_>>(), [50, 50, 50]);
    for audit in &audits {
        audit.close().await;
    }
    // One that starts later goes on with a chain, and finishes the index of the others.
    drop(audits);
    let audit = open(dir.path(), None);
    append(&audit, 150..151).await;
    audit.close().await;
    assert_eq!(verify(dir.path(), &[]).unwrap().writers.len(), 3);
    drop(audit);
    rebuild_index(dir.path(), &store).await.unwrap();
    assert_eq!(common::all(&store, Query::default()).await.len(), 151);
}

async fn case_an_abandoned_writer_is_indexed_by_the_next(store: Store) {
    let dir = TempDir::new().unwrap();
    let (a, b) = (open(dir.path(), None), open(dir.path(), None));
    append(&a, 0..20).await;
    append(&b, 20..40).await;
    a.close().await;
    b.close().await;
    drop((a, b));
    let next = open(dir.path(), Some(&store));
    next.flush().await.unwrap();
    for _ in 0..500 {
        if common::all(&store, Query::default()).await.len() == 40 {
            next.close().await;
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("never finished");
}

async fn case_erasing_a_person_keeps_the_chain(store: Store) {
    let dir = TempDir::new().unwrap();
    let abandoned = open(dir.path(), Some(&store));
    let audit = open(dir.path(), Some(&store));
    append(&abandoned, 0..30).await;
    abandoned.close().await;
    drop(abandoned);
    append(&audit, 30..130).await;
    audit.flush().await.unwrap();
    let checkpoints = verify(dir.path(), &[]).unwrap().checkpoints();
    assert!(audit.erase("user:u3").await.unwrap() > 0);
    assert_eq!(audit.erase("user:u3").await.unwrap(), 0);
    append(&audit, 130..135).await;
    audit.flush().await.unwrap();
    // Nowhere in the folder, nor in the index; everybody else is.
    let report = verify(dir.path(), &checkpoints).unwrap();
    assert!(report.is_whole(), "{report:?}");
    assert_eq!(report.writers.iter().map(|writer| writer.without_identity).sum::<u64>(), 26);
    let rows = common::all(&store, Query::default()).await;
    assert_eq!(rows.len(), 135);
    assert_eq!(rows.iter().filter(|row| row.erased).count(), 26);
    assert_eq!(rows.iter().filter(|row| row.event.who.principal == "user:u3").count(), 1, "only what came after");
    assert_eq!(rows.iter().filter(|row| row.event.who.principal == "user:u2").count(), 27);
    audit.close().await;
    drop(audit);
    rebuild_index(dir.path(), &store).await.unwrap();
    assert_eq!(common::all(&store, Query::default()).await, rows, "rebuilt equal, also without a name");
}

async fn case_a_dead_index_does_not_stop_the_record(store: Store) {
    let dir = TempDir::new().unwrap();
    let audit = open(dir.path(), Some(&store));
    append(&audit, 0..5).await;
    store.close().await;
    append(&audit, 5..10).await;
    assert!(audit.ready());
    assert!(audit.flush().await.is_err());
    audit.close().await;
    assert_eq!(verify(dir.path(), &[]).unwrap().writers[0].records, 10);
}

macro_rules! cases {
    ($($case:ident => $sqlite:ident),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $sqlite() {
                let (_dir, store) = stores::sqlite(clock()).await;
                $case(store).await;
            }
        )+

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn o1_the_index_on_postgres() {
            let Some(postgres) = stores::Postgres::start().await else { return };
            $(
                let store = postgres.store(clock()).await;
                let done = tokio::spawn($case(store)).await;
                assert!(done.is_ok(), "{} failed on Postgres: {done:?}", stringify!($case));
            )+
        }
    };
}

cases! {
    case_every_field_of_every_kind_is_found_again => l1_every_field_of_every_kind_is_found_again,
    case_an_event_is_found_by_its_id_whenever_it_began => l1_an_event_is_found_by_its_id_whenever_it_began,
    case_a_rebuilt_index_is_equal => l9_a_rebuilt_index_is_equal,
    case_a_late_index_catches_up => l9_a_late_index_catches_up,
    case_a_live_index_may_be_rebuilt => l9_a_live_index_may_be_rebuilt,
    case_several_writers_keep_apart => l9_several_writers_keep_apart,
    case_an_abandoned_writer_is_indexed_by_the_next => l9_an_abandoned_writer_is_indexed_by_the_next,
    case_erasing_a_person_keeps_the_chain => l9_erasing_a_person_keeps_the_chain,
    case_a_dead_index_does_not_stop_the_record => l9_a_dead_index_does_not_stop_the_record,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l9_a_deleted_database_is_rebuilt_equal() {
    let dir = TempDir::new().unwrap();
    let (first_dir, first) = stores::sqlite(clock()).await;
    let audit = open(dir.path(), Some(&first));
    append(&audit, 0..150).await;
    audit.close().await;
    drop(audit);
    let before = common::all(&first, Query::default()).await;
    first.close().await;
    drop(first_dir);
    let (_second_dir, second) = stores::sqlite(clock()).await;
    assert!(common::all(&second, Query::default()).await.is_empty());
    // Nothing special is needed: a start finds an empty index and fills it.
    let audit = open(dir.path(), Some(&second));
    audit.flush().await.unwrap();
    audit.close().await;
    assert_eq!(common::all(&second, Query::default()).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l9_the_index_knows_what_was_cut_off() {
    let dir = TempDir::new().unwrap();
    let (_store_dir, store) = stores::sqlite(clock()).await;
    let audit = open(dir.path(), Some(&store));
    append(&audit, 0..10).await;
    audit.close().await;
    let log = dir.path().join(audit.writer()).join("00000001.log");
    let text = std::fs::read_to_string(&log).unwrap();
    let cut: String = text.lines().take(8).map(|line| format!("{line}\n")).collect();
    std::fs::write(&log, cut).unwrap();
    assert!(verify(dir.path(), &[]).unwrap().is_whole(), "without a checkpoint it cannot be seen");
    let report = verify_against(dir.path(), &store).await.unwrap();
    assert_eq!(report.findings.len(), 1, "{report:?}");
    assert!(report.findings[0].to_string().contains("ends at record 8, but record 10"), "{report:?}");
}

#[test]
fn l9_an_index_needs_a_runtime() {
    let dir = TempDir::new().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (_store_dir, store) = runtime.block_on(stores::sqlite(clock()));
    assert!(Audit::open(dir.path(), AuditMode::Strict, Some(store), clock()).is_err());
}
