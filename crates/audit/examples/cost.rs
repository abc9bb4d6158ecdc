//! What an event costs: time to append, processor time of the whole process per event,
//! with and without the index.
//!
//! `cargo run --release -p bartizan-audit --example cost -- [EVENTS]`
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a tool for measuring")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bartizan_audit::{Audit, Options, Query, search, verify};
use bartizan_config::settings::AuditMode;
use bartizan_model::event::{AuditEvent, EventKind, Who};
use bartizan_model::{Clock as _, Era, EventId, PortalId, PrincipalKind, ServerId, SystemClock, ToolClass};
use bartizan_store::{Store, StoreUrl};

fn event(n: usize) -> AuditEvent {
    let at_ms = SystemClock.now_ms();
    let who = Who {
        principal: format!("user:u{}@example.com", n % 50),
        groups: vec!["engineering".to_owned(), "everyone".to_owned()],
        ip: Some("192.0.2.7".to_owned()),
        client: Some("claude-code".to_owned()),
        purpose: None,
        client_version: Some("2.1.0".to_owned()),
        owner: None,
        ..Who::default()
    };
    let mut event =
        AuditEvent::new(EventId::new(at_ms), at_ms, EventKind::Call, PrincipalKind::User, who, "tools/call");
    event.portal = PortalId::parse("default").ok();
    event.server = ServerId::parse("tracker").ok();
    event.server_version = Some("9f86d081884c7d65".to_owned());
    event.target = Some("issue_search".to_owned());
    event.exposed = Some("tracker_issue_search".to_owned());
    event.class = Some(ToolClass::Read);
    event.pin = Some("ab".repeat(32));
    event.arguments_digest = Some("cd".repeat(32));
    event.policy_version = 0x1234_5678_9abc_def0;
    (event.request_bytes, event.response_bytes, event.total_us, event.upstream_us) = (180, 2_400, 812, 640);
    event.upstream_identity = Some("bearer:tracker".to_owned());
    event.era = Some(Era::Modern);
    event.trace_id = Some("0af7651916cd43dd8448eb211c80319c".to_owned());
    event
}

/// Processor time of this process so far (user and system, all threads).
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<u64>().ok()).sum();
    // Linux counts in hundredths of a second.
    Duration::from_millis(ticks * 10)
}

fn per(total: Duration, count: usize) -> f64 {
    total.as_secs_f64() * 1e6 / count as f64
}

async fn run(name: &str, mode: AuditMode, indexed: bool, tasks: usize, count: usize) {
    let dir = std::env::temp_dir().join(format!("bartizan-audit-cost-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    let clock = Arc::new(SystemClock);
    let store = match indexed {
        true => Some(Store::open(&StoreUrl::Sqlite(dir.join("store.db")), clock.clone()).await.unwrap()),
        false => None,
    };
    let options = Options { queue: 1 << 20, ..Options::default() };
    let audit = Audit::open_with(&dir.join("audit"), mode, store.clone(), clock, &options).unwrap();
    let making = cpu();
    let mut batches: Vec<Vec<AuditEvent>> = (0..tasks).map(|_| (0..count / tasks).map(event).collect()).collect();
    let making = per(cpu() - making, count);
    let (cpu_before, start) = (cpu(), Instant::now());
    let mut joins = Vec::new();
    for batch in batches.drain(..) {
        let audit = audit.clone();
        joins.push(tokio::spawn(async move {
            for event in batch {
                audit.append(event).await.unwrap();
            }
        }));
    }
    for join in joins {
        join.await.unwrap();
    }
    let appended = start.elapsed();
    audit.flush().await.unwrap();
    let (done, used) = (start.elapsed(), cpu() - cpu_before);
    let stats = audit.stats();
    println!(
        "{name:34} append {:7.2} us/event, all {:7.2} us/event, cpu {:6.2} us/event, {} events in {} rounds (making one: {making:.2} us)",
        per(appended, count),
        per(done, count),
        per(used, count),
        stats.written,
        stats.rounds,
    );
    if let Some(store) = &store {
        let start = Instant::now();
        let query = Query { principal: Some("user:u7@example.com".to_owned()), limit: 100, ..Query::default() };
        let page = search(store, &query).await.unwrap();
        println!("{:34} {} rows of a principal in {:?}", "", page.rows.len(), start.elapsed());
    }
    audit.close().await;
    if !indexed && mode == AuditMode::Fast {
        let start = Instant::now();
        let report = verify(&dir.join("audit"), &[]).unwrap();
        println!("{:34} verify {:.2} us/event, whole: {}", "", per(start.elapsed(), count), report.is_whole());
    }
    let _ = std::fs::remove_dir_all(&dir);
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let count = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(200_000);
    run("fast", AuditMode::Fast, false, 4, count).await;
    run("fast, indexed", AuditMode::Fast, true, 4, count).await;
    run("strict, 64 callers", AuditMode::Strict, false, 64, count / 4).await;
    run("strict, 1 caller", AuditMode::Strict, false, 1, (count / 100).min(2_000)).await;
}
