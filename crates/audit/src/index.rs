//! The index, built behind: a task reads what is durable and puts it into the store.

mod reader;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bartizan_store::Store;
use bartizan_store::repo::alert::Hit;
use bartizan_store::repo::audit_index::{self as repo, Batch, Position};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::audit::Watch;
use crate::error::AuditError;
use crate::folder::{Folder, writers};
use crate::writer::{Acked, Shared};
pub(crate) use reader::Reader;

/// Records of one transaction.
const BATCH: usize = 1_024;
/// How long the task collects before it reads, so that a busy record costs few transactions.
const COLLECT: Duration = Duration::from_millis(300);
/// Share of one core that building behind may take: after a batch the task rests this
/// many times as long. Calls come first; under a lasting peak the index falls behind and
/// catches up later. Whoever waits for the index is not slowed down.
const REST: u32 = 9;
/// Longest rest.
const MAX_REST: Duration = Duration::from_secs(1);
/// Time between attempts while the store does not answer.
const RETRY: Duration = Duration::from_secs(1);

/// Builds the index of one writer.
pub(crate) struct Indexer {
    core: Arc<Core>,
}

struct Core {
    dir: PathBuf,
    writer: String,
    store: Store,
    shared: Arc<Shared>,
    indexed: AtomicU64,
    /// One round at a time; also where the last one stopped.
    reader: Mutex<Option<Reader>>,
    watch: Option<Watch>,
}

/// Starts the task. It ends when the record is closed.
pub(crate) fn spawn(
    dir: PathBuf,
    writer: String,
    store: Store,
    shared: Arc<Shared>,
    watch: Option<Watch>,
) -> Result<Indexer, AuditError> {
    let runtime = tokio::runtime::Handle::try_current().map_err(|_| AuditError::NoRuntime)?;
    let core = Arc::new(Core { dir, writer, store, shared, indexed: 0.into(), reader: Mutex::new(None), watch });
    let weak = Arc::downgrade(&core);
    runtime.spawn(async move {
        // Writers whose processes are gone first: nobody else will finish their index.
        if let Some(core) = weak.upgrade() {
            core.finish_abandoned().await;
        }
        loop {
            let Some(core) = weak.upgrade() else { return };
            match core.step().await {
                Ok(Some(worked)) => {
                    drop(core);
                    tokio::time::sleep((worked * REST).min(MAX_REST)).await;
                }
                Ok(None) => {
                    let shared = Arc::clone(&core.shared);
                    drop(core);
                    shared.progress.notified().await;
                    tokio::time::sleep(COLLECT).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "the audit index is behind");
                    drop(core);
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    });
    Ok(Indexer { core })
}

impl Drop for Indexer {
    fn drop(&mut self) {
        // Wakes the task, which then finds nobody to work for.
        self.core.shared.progress.notify_one();
    }
}

impl Indexer {
    /// Sequence number of the last indexed record.
    pub(crate) fn indexed(&self) -> u64 {
        self.core.indexed.load(Ordering::Acquire)
    }

    pub(crate) fn store(&self) -> &Store {
        &self.core.store
    }

    /// Returns when everything durable is indexed.
    pub(crate) async fn catch_up(&self) -> Result<(), AuditError> {
        self.core.catch_up().await
    }
}

impl Core {
    async fn catch_up(&self) -> Result<(), AuditError> {
        while self.step().await?.is_some() {}
        Ok(())
    }

    /// One batch. Returns how long it took; `None` when there is nothing to do.
    async fn step(&self) -> Result<Option<Duration>, AuditError> {
        let mut kept = self.reader.lock().await;
        let start = Instant::now();
        let bound = self.shared.acked();
        // A reader is only kept after a step without errors.
        let reader = match kept.take() {
            Some(reader) => reader,
            None => Reader::new(&self.dir, &self.writer, repo::position(&self.store, &self.writer).await?),
        };
        let (reader, advanced) = step(&self.store, reader, Some(bound), self.watch.as_ref()).await?;
        self.indexed.store(reader.seq(), Ordering::Release);
        *kept = Some(reader);
        Ok(advanced.then(|| start.elapsed()))
    }

    async fn finish_abandoned(&self) {
        let others = writers(&self.dir).unwrap_or_default();
        for writer in others.iter().filter(|writer| **writer != self.writer) {
            if let Err(error) = finish(&self.dir, writer, &self.store, self.watch.as_ref()).await {
                tracing::warn!(%error, writer, "an abandoned audit writer is not fully indexed");
            }
        }
    }
}

/// Indexes an abandoned writer to its end.
async fn finish(dir: &Path, writer: &str, store: &Store, watch: Option<&Watch>) -> Result<(), AuditError> {
    let Some(folder) = Folder::try_hold(dir, writer)? else { return Ok(()) };
    let reader = Reader::new(dir, writer, repo::position(store, writer).await?);
    run(store, reader, None, watch).await?;
    drop(folder);
    Ok(())
}

/// Reads and indexes batch by batch up to the bound.
async fn run(store: &Store, mut reader: Reader, bound: Option<Acked>, watch: Option<&Watch>) -> Result<(), AuditError> {
    loop {
        let (next, advanced) = step(store, reader, bound, watch).await?;
        if !advanced {
            return Ok(());
        }
        reader = next;
    }
}

/// Reads and indexes one batch. Returns whether there was one.
async fn step(
    store: &Store,
    reader: Reader,
    bound: Option<Acked>,
    watch: Option<&Watch>,
) -> Result<(Reader, bool), AuditError> {
    let from = reader.position();
    let (mut reader, rows) = read(reader, bound).await?;
    let to = reader.position();
    let Some(to) = to.filter(|to| from.as_ref() != Some(to)) else { return Ok((reader, false)) };
    let hits: Vec<Hit> = watch.map_or_else(Vec::new, |watch| rows.iter().flat_map(|row| watch(row)).collect());
    let batch = Batch { writer: reader.writer(), from: from.as_ref(), to: &to, rows: &rows, hits: &hits };
    if !repo::index(store, &batch).await? {
        // Somebody else moved the position: go on from there.
        let position: Option<Position> = repo::position(store, reader.writer()).await?;
        reader.reset(position);
    }
    Ok((reader, true))
}

/// Reads a batch on a thread that may block.
async fn read(mut reader: Reader, bound: Option<Acked>) -> Result<(Reader, Vec<repo::IndexRow>), AuditError> {
    let task = tokio::task::spawn_blocking(move || {
        let rows = reader.read(bound, BATCH);
        (reader, rows)
    });
    match task.await {
        Ok((reader, rows)) => Ok((reader, rows?)),
        Err(_) => Err(AuditError::Closed),
    }
}

/// Throws the index of every writer in `dir` away and builds it again from the segments.
/// Returns the number of indexed records. A writer that is at work now is indexed as far
/// as its own process had come; that process does the rest.
///
/// # Errors
/// When a segment cannot be read or the store does not answer.
pub async fn rebuild_index(dir: &Path, store: &Store) -> Result<u64, AuditError> {
    let mut total = 0;
    for writer in writers(dir)? {
        let held = Folder::try_hold(dir, &writer)?;
        let bound = match held {
            Some(_) => None,
            None => match repo::position(store, &writer).await? {
                Some(position) => Some(acked(&position)),
                None => continue,
            },
        };
        repo::forget(store, &writer).await?;
        // Nothing is found twice: alerts are not part of what is built again.
        run(store, Reader::new(dir, &writer, None), bound, None).await?;
        total += u64::try_from(repo::count(store, &writer).await?).unwrap_or(0);
        drop(held);
    }
    Ok(total)
}

pub(crate) fn acked(position: &Position) -> Acked {
    Acked {
        segment: u32::try_from(position.segment).unwrap_or(0),
        length: u64::try_from(position.byte_offset).unwrap_or(0),
        seq: u64::try_from(position.seq).unwrap_or(0),
    }
}

/// Removes the identity of a principal from the side files of an abandoned writer.
pub(crate) fn erase_abandoned(dir: &Path, writer: &str, principal: &str) -> Result<u64, AuditError> {
    let Some(folder) = Folder::try_hold(dir, writer)? else { return Ok(0) };
    let mut removed = 0;
    for segment in crate::folder::segments(&folder.path)? {
        let path = crate::folder::who_path(&folder.path, segment);
        removed += crate::writer::rewrite(&path, principal).map_err(|error| AuditError::file(&path, error))?;
    }
    Ok(removed)
}
