//! The tasks behind sinks: one per sink, each with its own cursor, so that a sink that is
//! down holds up nobody.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bartizan_audit::{Audit, AuditError, Feed};
use bartizan_config::export::{Checkpoints as CheckpointConfig, Sink};
use bartizan_egress::Egress;
use bartizan_model::event::{AuditEvent, EventKind, Who};
use bartizan_model::{Clock, EventId, PrincipalKind};
use bartizan_store::repo::{export_cursor, lease};
use bartizan_store::{Store, StoreError};
use tokio::time::Instant;

use crate::checkpoints::Checkpoints;
use crate::event::Event;
use crate::sink::{Batch, SinkError, Target};
use crate::stats::Stats;

/// How long events are collected, unless the configuration says otherwise.
const COLLECT: Duration = Duration::from_secs(1);
const COLLECT_S3: Duration = Duration::from_secs(60);
/// First and longest wait after a failure.
const BACKOFF: Duration = Duration::from_millis(500);
const MAX_BACKOFF: Duration = Duration::from_secs(30);
/// A lease outlives the longest attempt; it is renewed when a part of it is over.
const LEASE_MS: i64 = 60_000;
const RENEW: Duration = Duration::from_secs(15);
/// Records read at once, and bytes of one delivery: what a sink costs in memory.
const READ: usize = 100;
const BYTES: usize = 4 << 20;

/// Why a round ended.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Sink(#[from] SinkError),
    #[error(transparent)]
    Audit(#[from] AuditError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What the export needs.
#[derive(Clone)]
pub struct ExportsDeps {
    /// The record.
    pub audit: Audit,
    /// Where cursors are.
    pub store: Store,
    /// The way to sinks.
    pub egress: Egress,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// All sinks of a process.
pub struct Exports {
    deps: ExportsDeps,
    workers: Vec<Worker>,
    checkpoints: Vec<Checkpoints>,
    stats: Arc<Stats>,
}

impl Exports {
    /// Ready to run. Secrets are resolved. The error names the setting, for people.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub fn new(deps: ExportsDeps, sinks: &[Sink], checkpoints: &CheckpointConfig) -> Result<Self, String> {
        let stats = Arc::new(Stats::default());
        let mut workers: Vec<Worker> = Vec::new();
        for (at, sink) in sinks.iter().enumerate() {
            let target = Target::new(sink).map_err(|why| format!("audit.sinks[{at}]: {why}"))?;
            if workers.iter().any(|other| other.sink.id == sink.id) {
                return Err(format!("audit.sinks[{at}]: the id `{}` is used twice", sink.id));
            }
            stats.change(&sink.id, |_| {});
            workers.push(Worker {
                deps: deps.clone(),
                sink: sink.clone(),
                target,
                stats: Arc::clone(&stats),
                feeds: HashMap::new(),
                is_late: false,
            });
        }
        let checkpoints = Checkpoints::all(&deps, checkpoints).map_err(|why| format!("audit.checkpoints: {why}"))?;
        Ok(Self { deps, workers, checkpoints, stats })
    }

    /// How the sinks are doing.
    pub fn stats(&self) -> Arc<Stats> {
        Arc::clone(&self.stats)
    }

    /// Works without end; dropping the future ends it.
    pub async fn run(self) {
        let mut tasks = tokio::task::JoinSet::new();
        for worker in self.workers {
            tasks.spawn(worker.run());
        }
        for checkpoints in self.checkpoints {
            tasks.spawn(checkpoints.run());
        }
        while tasks.join_next().await.is_some() {}
        drop(self.deps);
    }
}

/// A writer's feed, and when this process took its lease.
struct Held {
    feed: Feed,
    leased: Option<Instant>,
}

struct Worker {
    deps: ExportsDeps,
    sink: Sink,
    target: Target,
    stats: Arc<Stats>,
    feeds: HashMap<String, Held>,
    /// The lag was put on record.
    is_late: bool,
}

impl Worker {
    async fn run(mut self) {
        let usual = if self.sink.s3.is_some() { COLLECT_S3 } else { COLLECT };
        let collect = self.sink.collect_ms.map_or(usual, |ms| Duration::from_millis(ms.into()));
        let mut backoff = BACKOFF;
        loop {
            match self.round().await {
                Ok(true) => backoff = BACKOFF,
                Ok(false) => {
                    backoff = BACKOFF;
                    tokio::time::sleep(collect).await;
                }
                Err(error) => {
                    // From the cursor again: what was read and not taken is not lost.
                    self.feeds.clear();
                    let (sink, text) = (self.sink.id.as_str(), error.to_string());
                    let mut known = false;
                    self.stats.change(sink, |stats| {
                        stats.failures += 1;
                        known = stats.error.as_deref() == Some(&text);
                        stats.error = Some(text.clone());
                    });
                    if !known {
                        tracing::warn!(%error, sink, "events wait for a sink");
                    }
                    self.judge_lag().await;
                    tokio::time::sleep(backoff).await;
                    backoff = (backoff * 2).min(MAX_BACKOFF);
                }
            }
        }
    }

    /// One delivery for each writer that has something. True when more waits already.
    async fn round(&mut self) -> Result<bool, Failed> {
        let mut more = false;
        let mut waits = false;
        for writer in self.deps.audit.writers_here()? {
            let (sent, full) = self.deliver(&writer).await?;
            waits |= full;
            more |= sent && full;
        }
        if !waits {
            self.stats.change(&self.sink.id, |stats| stats.lag_ms = 0);
        }
        self.judge_lag().await;
        Ok(more)
    }

    /// Returns whether something was sent, and whether more may wait.
    async fn deliver(&mut self, writer: &str) -> Result<(bool, bool), Failed> {
        let sink = self.sink.id.clone();
        let now = self.deps.clock.now_ms();
        let mut held = match self.feeds.remove(writer) {
            Some(held) => held,
            None => {
                let after = export_cursor::get(&self.deps.store, &sink, writer).await?;
                Held { feed: Feed::new(&self.deps.audit, writer, after), leased: None }
            }
        };
        let (mut events, mut bytes, mut read) = (Vec::new(), 0, 0);
        let most = usize::try_from(self.sink.batch).unwrap_or(usize::MAX);
        let mut full = true;
        while read < most && bytes < BYTES {
            let rows = held.feed.next(READ.min(most - read)).await?;
            if rows.is_empty() {
                full = false;
                break;
            }
            read += rows.len();
            bytes += rows.iter().map(|row| row.record.len() + row.who.as_ref().map_or(0, String::len)).sum::<usize>();
            let wanted = |kind: &str| self.sink.kinds.is_empty() || self.sink.kinds.iter().any(|known| known == kind);
            events.extend(rows.iter().filter(|row| wanted(&row.kind)).filter_map(Event::new));
        }
        if read == 0 {
            self.feeds.insert(writer.to_owned(), held);
            return Ok((false, false));
        }
        if held.leased.is_none_or(|since| since.elapsed() > RENEW) {
            let name = format!("export:{sink}:{writer}");
            let owner = self.deps.audit.writer();
            if lease::claim(&self.deps.store, &name, owner, "", LEASE_MS).await?.is_none() {
                // Another process serves it; its cursor is looked at again next time.
                return Ok((false, false));
            }
            if held.leased.is_none() {
                // What it had sent before this process took over is not read again.
                let after = export_cursor::get(&self.deps.store, &sink, writer).await?;
                held = Held { feed: Feed::new(&self.deps.audit, writer, after), leased: Some(Instant::now()) };
                self.feeds.insert(writer.to_owned(), held);
                return Ok((true, true));
            }
            held.leased = Some(Instant::now());
        }
        if let Some(first) = events.first() {
            let lag_ms = now.saturating_sub(first.at_ms).max(0);
            self.stats.change(&sink, |stats| stats.lag_ms = stats.lag_ms.max(lag_ms));
            let batch = Batch { writer, events: &events, format: self.sink.format, now_ms: now };
            self.target.send(&self.deps.egress, batch).await?;
        }
        if let Some(position) = held.feed.position() {
            export_cursor::put(&self.deps.store, &sink, writer, &position, now).await?;
        }
        let delivered = u64::try_from(events.len()).unwrap_or(0);
        let lag_ms = if full { events.last().map_or(0, |last| now.saturating_sub(last.at_ms).max(0)) } else { 0 };
        self.stats.change(&sink, |stats| {
            stats.delivered += delivered;
            stats.error = None;
            stats.lag_ms = lag_ms;
        });
        self.feeds.insert(writer.to_owned(), held);
        Ok((true, full))
    }

    /// Puts it on record when the sink falls behind, and when it has caught up. Alert rules see
    /// these events as any other.
    async fn judge_lag(&mut self) {
        let mut lag_ms = 0;
        let mut why = None;
        self.stats.change(&self.sink.id, |stats| (lag_ms, why) = (stats.lag_ms, stats.error.clone()));
        let late = lag_ms > i64::from(self.sink.lag_alert_s) * 1_000;
        if late == self.is_late {
            return;
        }
        let now = self.deps.clock.now_ms();
        let method = if late { "export/lag" } else { "export/caught_up" };
        let who = Who { principal: "service:bartizan".to_owned(), ..Who::default() };
        let mut event = AuditEvent::new(EventId::new(now), now, EventKind::System, PrincipalKind::Service, who, method);
        event.target = Some(self.sink.id.clone());
        event.note = late.then(|| format!("{} s behind: {}", lag_ms / 1_000, why.unwrap_or_default()));
        match self.deps.audit.append(event).await {
            Ok(_) => self.is_late = late,
            Err(error) => tracing::warn!(%error, sink = self.sink.id, "the lag of a sink is not on record"),
        }
    }
}
