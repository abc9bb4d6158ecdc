//! L6: figures are what the log says, in every time zone and on both engines.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use bartizan_audit::{Ask, AskError, Audit, Figures, Granularity, Query, figures};
use bartizan_config::settings::AuditMode;
use bartizan_model::event::{AuditEvent, EventKind, Outcome, Verdict, Who};
use bartizan_model::{Clock, EventId, ManualClock, PortalId, PrincipalKind, ReasonCode, ServerId};
use bartizan_store::Store;
use common::stores;
use tempfile::TempDir;

const DAY_MS: i64 = 86_400_000;
/// 2026-07-15T10:30:00Z
const NOW: i64 = 1_784_111_400_000;

fn clock() -> Arc<dyn Clock> {
    Arc::new(ManualClock::at(NOW))
}

/// Calls around every border that a time zone can have, and other events between.
fn events() -> Vec<AuditEvent> {
    let mut all = Vec::new();
    let mut n = 0_i64;
    for day in 0..40 {
        for hour in [0, 2, 9, 10, 11, 12, 13, 14, 22, 23] {
            for slip in [-1, 0, 1] {
                let midnight = NOW.div_euclid(DAY_MS) * DAY_MS - day * DAY_MS;
                let at_ms = midnight + hour * 3_600_000 + slip;
                if at_ms >= NOW + DAY_MS {
                    continue;
                }
                n += 1;
                let kind = if n % 11 == 0 { EventKind::List } else { EventKind::Call };
                let who = Who { principal: "user:a".to_owned(), ..Who::default() };
                let mut event =
                    AuditEvent::new(EventId::new(at_ms), at_ms, kind, PrincipalKind::User, who, "tools/call");
                event.portal = PortalId::parse(["default", "team"][usize::from(n % 3 == 0)]).ok();
                event.server = ServerId::parse(["wiki", "tracker"][usize::from(n % 4 == 0)]).ok();
                event.total_us = (n as u64 * 7_919) % 10_007;
                if n % 13 == 0 {
                    event.verdict = Verdict::refused("approve", ReasonCode::ApprovalRequired, None);
                    event.outcome = Outcome::Refused;
                } else if n % 7 == 0 {
                    event.verdict = Verdict::refused("authorize", ReasonCode::PolicyDenied, None);
                    event.outcome = Outcome::Refused;
                } else if n % 5 == 0 {
                    event.outcome = Outcome::ToolError;
                }
                all.push(event);
            }
        }
    }
    all
}

/// The same by the long way, over the log.
fn expected<'a>(
    log: &'a [AuditEvent],
    ask: &Ask,
    offset_ms: i64,
) -> (i64, i64, BTreeMap<i64, i64>, Vec<&'a AuditEvent>) {
    let local = |ms: i64| (ms + offset_ms).div_euclid(DAY_MS);
    let first = local(NOW) - i64::from(ask.days.unwrap_or(7)) + 1;
    let fits = |event: &&AuditEvent| {
        event.kind == EventKind::Call
            && event.at_ms < NOW
            && local(event.at_ms) >= first
            && ask.portal.as_deref().is_none_or(|id| event.portal.as_ref().unwrap().as_str() == id)
            && ask.server.as_deref().is_none_or(|id| event.server.as_ref().unwrap().as_str() == id)
    };
    let found: Vec<&AuditEvent> = log.iter().filter(fits).collect();
    let mut days = BTreeMap::new();
    for event in &found {
        *days.entry(local(event.at_ms)).or_default() += 1;
    }
    (first * DAY_MS - offset_ms, i64::try_from(found.len()).unwrap(), days, found)
}

fn date(day: i64) -> String {
    bartizan_model::clock::rfc3339(day * DAY_MS)[..10].to_owned()
}

fn compare(answer: &Figures, log: &[AuditEvent], ask: &Ask, offset_ms: i64) {
    let (start, total, days, found) = expected(log, ask, offset_ms);
    assert_eq!((answer.start, answer.end, answer.total), (start, NOW, total), "{ask:?}");
    assert_eq!(answer.series.len(), ask.days.unwrap_or(7) as usize, "days without calls are there too");
    assert_eq!(answer.series.iter().map(|step| step.count).sum::<i64>(), total, "sums equal the log");
    for (day, count) in days {
        let step = answer.series.iter().find(|step| step.day == date(day)).unwrap();
        assert_eq!(step.count, count, "{} {ask:?}", step.day);
    }
    let count = |so: &dyn Fn(&AuditEvent) -> bool| i64::try_from(found.iter().filter(|e| so(e)).count()).unwrap();
    assert_eq!(answer.denials, count(&|e| !e.verdict.allow));
    assert_eq!(answer.approvals, count(&|e| e.verdict.code == Some(ReasonCode::ApprovalRequired)));
    assert_eq!(answer.errors, count(&|e| e.outcome == Outcome::ToolError));
    let mut durations: Vec<u64> = found.iter().filter(|e| e.verdict.allow).map(|e| e.total_us).collect();
    durations.sort_unstable();
    for (percent, got) in [(50, answer.p50_us), (95, answer.p95_us), (99, answer.p99_us)] {
        let expected = (!durations.is_empty()).then(|| durations[(durations.len() * percent).div_ceil(100) - 1] as i64);
        assert_eq!(got, expected, "p{percent}");
    }
    if !durations.is_empty() {
        assert!((answer.error_rate - answer.errors as f64 / durations.len() as f64).abs() < 1e-12);
    }
}

async fn case_figures_are_those_of_the_log_in_every_time_zone(store: Store) {
    let dir = TempDir::new().unwrap();
    let audit = Audit::open(dir.path(), AuditMode::Strict, Some(store.clone()), clock()).unwrap();
    let log = events();
    // Together, so that they share syncs.
    let mut waiting = tokio::task::JoinSet::new();
    for event in log.clone() {
        let audit = audit.clone();
        waiting.spawn(async move { audit.append(event).await.map(drop) });
    }
    waiting.join_all().await.into_iter().for_each(|done| done.unwrap());
    audit.flush().await.unwrap();
    let zones =
        [("utc", 0), ("Z", 0), ("+14:00", 840), ("-12:00", -720), ("+05:45", 345), ("-03:30", -210), ("+00:01", 1)];
    for (tz, minutes) in zones {
        for days in [1, 2, 7, 31, 179] {
            for (portal, server) in
                [(None, None), (Some("team"), None), (None, Some("tracker")), (Some("team"), Some("wiki"))]
            {
                let ask = Ask {
                    tz: Some(tz.to_owned()),
                    days: Some(days),
                    portal: portal.map(str::to_owned),
                    server: server.map(str::to_owned),
                    ..Ask::default()
                };
                compare(&figures(&store, &ask, NOW).await.unwrap(), &log, &ask, minutes * 60_000);
            }
        }
    }
    let week = figures(&store, &Ask::default(), NOW).await.unwrap();
    assert_eq!(week.series.len(), 7, "seven days unless asked otherwise");
    let monthly = Ask { granularity: Granularity::Monthly, days: Some(40), ..Ask::default() };
    let monthly = figures(&store, &monthly, NOW).await.unwrap();
    let names: Vec<&str> = monthly.series.iter().map(|step| step.day.as_str()).collect();
    assert_eq!(names, ["2026-06-01", "2026-07-01"]);
    assert_eq!(monthly.series.iter().map(|step| step.count).sum::<i64>(), monthly.total);
    let aggregate = Ask { aggregate: true, days: Some(40), ..Ask::default() };
    let aggregate = figures(&store, &aggregate, NOW).await.unwrap();
    assert_eq!((aggregate.series.len(), aggregate.total), (0, monthly.total));
    for days in [0, 180, u32::MAX] {
        let ask = Ask { days: Some(days), ..Ask::default() };
        assert!(matches!(figures(&store, &ask, NOW).await, Err(AskError::Days)));
    }
    let nobody = Ask { server: Some("'; DROP TABLE audit_index; --".to_owned()), ..Ask::default() };
    let nobody = figures(&store, &nobody, NOW).await.unwrap();
    assert_eq!((nobody.total, nobody.p50_us, nobody.error_rate), (0, None, 0.0));
    assert_eq!(common::all(&store, Query::default()).await.len(), log.len());
    audit.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l6_figures_are_those_of_the_log_in_every_time_zone() {
    let (_dir, store) = stores::sqlite(clock()).await;
    case_figures_are_those_of_the_log_in_every_time_zone(store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l6_figures_on_postgres() {
    let Some(postgres) = stores::Postgres::start().await else { return };
    case_figures_are_those_of_the_log_in_every_time_zone(postgres.store(clock()).await).await;
}

/// The questions are answered from one index alone; the texts are those of `repo::audit_index::figures`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l6_no_question_reads_the_whole_table() {
    let (dir, store) = stores::sqlite(clock()).await;
    store.close().await;
    let url = format!("sqlite://{}", dir.path().join("store.db").display());
    let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
    for statement in bartizan_store::repo::audit_index::figure_texts() {
        let explain = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}"));
        let rows: Vec<(i64, i64, i64, String)> = sqlx::query_as(explain).fetch_all(&pool).await.unwrap();
        let plan: String = rows.into_iter().map(|row| row.3 + "\n").collect();
        assert!(
            plan.contains(
                "SEARCH audit_index USING COVERING INDEX audit_index_figures (kind=? AND at_ms>? AND at_ms<?)"
            ),
            "{plan}"
        );
        assert!(!plan.contains("SCAN"), "{plan}");
    }
}
