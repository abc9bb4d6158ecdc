//! The handle that everybody appends through.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bartizan_config::settings::AuditMode;
use bartizan_model::event::{AuditEvent, EventKind, Who};
use bartizan_model::{Clock, EventId, PrincipalKind};
use bartizan_store::Store;
use bartizan_store::repo::alert::Hit;
use bartizan_store::repo::audit_index::IndexRow;
use tokio::sync::oneshot;

use crate::disk::{Disk, RealDisk};
use crate::error::AuditError;
use crate::folder::{Folder, Tail, writers};
use crate::index::{self, Indexer};
use crate::queue::Refused;
use crate::verify::Checkpoint;
use crate::writer::{Ack, Item, Shared, Writer};

/// Longest wait for one sync. A disk that hangs is as bad as one that fails.
const ACK_TIMEOUT: Duration = Duration::from_secs(10);

/// Sizes and times; the defaults are what `serve` uses.
#[derive(Clone)]
pub struct Options {
    /// A segment of this many bytes is followed by a new one. Default 64 MiB.
    pub segment_bytes: u64,
    /// Events that may wait to be written. Default 16,384.
    pub queue: usize,
    /// In fast mode, how long events are collected before they are written and synced
    /// together. Default 25 ms; with the sync itself it stays below the 100 ms of L9.
    pub linger: Duration,
    /// Looks at every record on its way into the index. None by default.
    pub watch: Option<Watch>,
}

/// Looks at a record on its way into the index, and says what alert rules find in it. Each
/// record is shown once, also after a crash: what is found is stored together with the index
/// row. Must not block.
pub type Watch = Arc<dyn Fn(&IndexRow) -> Vec<Hit> + Send + Sync>;

impl Default for Options {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, queue: 16_384, linger: Duration::from_millis(25), watch: None }
    }
}

/// What became of an event that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// On disk, with this sequence number of this writer.
    Durable {
        /// Position in the chain.
        seq: u64,
    },
    /// In the queue (fast mode): on disk within 100 ms.
    Queued,
    /// The queue is full and the event is lost (fast mode only); counted in [`Stats::dropped`].
    Dropped,
}

/// Counters since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Events written and synced.
    pub written: u64,
    /// Syncs that they took.
    pub rounds: u64,
    /// Events lost in fast mode; anything above zero is an alarm.
    pub dropped: u64,
    /// Events refused because the queue was full or the disk failed.
    pub refused: u64,
    /// Outages of the disk.
    pub failures: u64,
    /// Events that wait now.
    pub queued: usize,
    /// False during an outage.
    pub healthy: bool,
    /// Sequence number of the last durable event.
    pub seq: u64,
    /// Sequence number of the last indexed event; equal to `seq` without an index.
    pub indexed: u64,
}

/// The audit record of this process. Cheap to clone.
#[derive(Clone)]
pub struct Audit {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    mode: AuditMode,
    dir: PathBuf,
    writer: String,
    thread: Mutex<Option<JoinHandle<()>>>,
    indexer: Option<Indexer>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The thread still writes what is queued; `close` waits for it.
        self.shared.queue.close();
    }
}

impl Audit {
    /// Opens the record in `dir`, which is created when absent. Goes on with the chain of
    /// a writer whose process is gone; an unfinished line that it left is moved aside and
    /// that is put on record. With `index`, a task of the present Tokio runtime indexes
    /// behind.
    ///
    /// # Errors
    /// [`AuditError::File`] when the folder cannot be used, [`AuditError::NoRuntime`].
    pub fn open(dir: &Path, mode: AuditMode, index: Option<Store>, clock: Arc<dyn Clock>) -> Result<Self, AuditError> {
        Self::open_with(dir, mode, index, clock, &Options::default())
    }

    /// [`Audit::open`] with other sizes and times.
    ///
    /// # Errors
    /// As [`Audit::open`].
    pub fn open_with(
        dir: &Path,
        mode: AuditMode,
        index: Option<Store>,
        clock: Arc<dyn Clock>,
        options: &Options,
    ) -> Result<Self, AuditError> {
        Self::open_on(Box::new(RealDisk), dir, mode, index, &*clock, options)
    }

    pub(crate) fn open_on(
        disk: Box<dyn Disk>,
        dir: &Path,
        mode: AuditMode,
        index: Option<Store>,
        clock: &dyn Clock,
        options: &Options,
    ) -> Result<Self, AuditError> {
        let folder = Folder::acquire(dir)?;
        let tail = folder.recover()?;
        let name = folder.writer.clone();
        let shared = Arc::new(Shared::new(options.queue, &tail));
        let linger = match mode {
            AuditMode::Strict => Duration::ZERO,
            AuditMode::Fast => options.linger,
        };
        let writer = Writer::new(Arc::clone(&shared), disk, folder, &tail, options.segment_bytes, linger)?;
        let indexer = index
            .map(|store| index::spawn(dir.to_owned(), name.clone(), store, Arc::clone(&shared), options.watch.clone()))
            .transpose()?;
        let thread = thread::Builder::new()
            .name("audit-writer".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| AuditError::file(dir, error))?;
        let thread = Mutex::new(Some(thread));
        let inner = Inner { shared, mode, dir: dir.to_owned(), writer: name, thread, indexer };
        let audit = Self { inner: Arc::new(inner) };
        audit.report_torn(&tail, clock.now_ms());
        Ok(audit)
    }

    fn report_torn(&self, tail: &Tail, now_ms: i64) {
        if tail.torn == 0 {
            return;
        }
        tracing::warn!(bytes = tail.torn, segment = tail.segment, "moved an unfinished audit line aside");
        let who = Who { principal: "service:bartizan".to_owned(), ..Who::default() };
        let id = EventId::new(now_ms);
        let mut event = AuditEvent::new(id, now_ms, EventKind::System, PrincipalKind::Service, who, "audit/recover");
        event.note = Some(format!("{} bytes of an unfinished line moved aside", tail.torn));
        // The queue is new, so there is room.
        let _ = self.inner.shared.queue.push(Item::Event { event: Box::new(event), ack: None }, true);
    }

    /// Puts an event on record. Strict mode: returns when it is durable. Fast mode:
    /// returns at once.
    ///
    /// # Errors
    /// [`AuditError::Full`] or [`AuditError::Unavailable`] (strict mode), and
    /// [`AuditError::Closed`].
    pub async fn append(&self, event: AuditEvent) -> Result<Receipt, AuditError> {
        match self.inner.mode {
            AuditMode::Strict => self.append_durable(event).await,
            AuditMode::Fast => self.append_queued(event),
        }
    }

    /// Puts an event on record and returns when it is durable, in either mode. For
    /// intents: no intent, no forward.
    ///
    /// # Errors
    /// [`AuditError::Full`], [`AuditError::Unavailable`], [`AuditError::Closed`].
    pub async fn append_durable(&self, event: AuditEvent) -> Result<Receipt, AuditError> {
        let shared = &self.inner.shared;
        if !self.healthy() {
            shared.refused.fetch_add(1, Ordering::Relaxed);
            return Err(AuditError::Unavailable);
        }
        let seq = self.ask(|ack| Item::Event { event: Box::new(event), ack: Some(ack) }).await?;
        Ok(Receipt::Durable { seq })
    }

    fn append_queued(&self, event: AuditEvent) -> Result<Receipt, AuditError> {
        let shared = &self.inner.shared;
        match shared.queue.push(Item::Event { event: Box::new(event), ack: None }, false) {
            Ok(()) => Ok(Receipt::Queued),
            Err((_, Refused::Closed)) => Err(AuditError::Closed),
            Err((_, Refused::Full)) => {
                // Once per doubling, so that the log does not drown.
                let dropped = shared.dropped.fetch_add(1, Ordering::Relaxed) + 1;
                if dropped.is_power_of_two() {
                    tracing::error!(dropped, "the audit queue is full: events are lost");
                }
                Ok(Receipt::Dropped)
            }
        }
    }

    async fn ask(&self, item: impl FnOnce(Ack) -> Item) -> Result<u64, AuditError> {
        let shared = &self.inner.shared;
        let (ack, answer) = oneshot::channel();
        shared.queue.push(item(ack), true).map_err(|(_, refused)| match refused {
            Refused::Full => {
                shared.refused.fetch_add(1, Ordering::Relaxed);
                AuditError::Full
            }
            Refused::Closed => AuditError::Closed,
        })?;
        match tokio::time::timeout(ACK_TIMEOUT, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(AuditError::Closed),
            Err(_) => Err(AuditError::Unavailable),
        }
    }

    /// False from the first failed write or sync until the disk works again.
    pub fn healthy(&self) -> bool {
        self.inner.shared.healthy.load(Ordering::Acquire)
    }

    /// True when a call may be forwarded: in fast mode always, in strict mode when its
    /// event can be written. Ask before forwarding.
    pub fn ready(&self) -> bool {
        let shared = &self.inner.shared;
        self.inner.mode == AuditMode::Fast || (self.healthy() && shared.queue.len() < shared.capacity)
    }

    /// The mode it was opened with.
    pub fn mode(&self) -> AuditMode {
        self.inner.mode
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.inner.dir
    }

    pub(crate) fn store(&self) -> Option<&Store> {
        self.inner.indexer.as_ref().map(Indexer::store)
    }

    /// How far the segments of a writer are durable, if it is this process's.
    pub(crate) fn acked(&self, writer: &str) -> Option<crate::writer::Acked> {
        (writer == self.inner.writer).then(|| self.inner.shared.acked())
    }

    /// Name of this process's chain.
    pub fn writer(&self) -> &str {
        &self.inner.writer
    }

    /// Where this process's chain ends, as far as it is durable; `None` before its first record.
    pub fn head(&self) -> Option<Checkpoint> {
        let link = self.inner.shared.link();
        let hash = link.hash.as_str().to_owned();
        (link.seq > 0).then(|| Checkpoint { writer: self.inner.writer.clone(), seq: link.seq, hash })
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        let shared = &self.inner.shared;
        let seq = shared.acked().seq;
        Stats {
            written: shared.written.load(Ordering::Relaxed),
            rounds: shared.rounds.load(Ordering::Relaxed),
            dropped: shared.dropped.load(Ordering::Relaxed),
            refused: shared.refused.load(Ordering::Relaxed),
            failures: shared.failures.load(Ordering::Relaxed),
            queued: shared.queue.len(),
            healthy: self.healthy(),
            seq,
            indexed: self.inner.indexer.as_ref().map_or(seq, Indexer::indexed),
        }
    }

    /// Returns when everything appended before is durable and, with an index, indexed.
    ///
    /// # Errors
    /// [`AuditError::Unavailable`] during an outage, or the index's error.
    pub async fn flush(&self) -> Result<(), AuditError> {
        self.ask(Item::Barrier).await?;
        match &self.inner.indexer {
            Some(indexer) => indexer.catch_up().await,
            None => Ok(()),
        }
    }

    /// Removes the identity of a principal (`user:alice`) from the side files of this
    /// writer and of those whose processes are gone, and from the index. The chain still
    /// verifies. Returns the number of removed identities.
    ///
    /// # Errors
    /// When a file or the index cannot be written; then ask again.
    pub async fn erase(&self, principal: &str) -> Result<u64, AuditError> {
        let name = principal.to_owned();
        let mut removed = self.ask(|ack| Item::Erase { principal: name, ack }).await?;
        for writer in writers(&self.inner.dir)? {
            if writer != self.inner.writer {
                removed += index::erase_abandoned(&self.inner.dir, &writer, principal)?;
            }
        }
        if let Some(indexer) = &self.inner.indexer {
            indexer.catch_up().await?;
            bartizan_store::repo::audit_index::erase(indexer.store(), principal).await?;
        }
        Ok(removed)
    }

    /// Takes no more events, and returns when those taken are durable and indexed, or
    /// cannot be written.
    pub async fn close(&self) {
        self.inner.shared.queue.close();
        let thread = self.inner.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // Joining blocks; the thread has a bounded rest of work.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
        if let Some(indexer) = &self.inner.indexer
            && let Err(error) = indexer.catch_up().await
        {
            tracing::warn!(%error, "the audit index is behind; it goes on at the next start");
        }
    }
}
