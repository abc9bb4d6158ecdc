//! The one thread that writes a segment: serialises, hashes, appends, syncs, and only
//! then acknowledges. Everything that waits shares one sync.

mod erase;

pub(crate) use erase::rewrite;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bartizan_model::event::{AuditEvent, EventKind};
use tokio::sync::{Notify, oneshot};

use crate::disk::{Disk, DiskFile};
use crate::error::AuditError;
use crate::folder::{Folder, Tail, log_path, who_path};
use crate::queue::Queue;
use crate::record::{Link, push_line};
use crate::who::Commitments;

/// Time between attempts while the disk refuses.
const RETRY: Duration = Duration::from_millis(200);
/// A side file that is longer than this ends its segment, so that a reader can hold it.
const SIDE_BYTES: u64 = 8 << 20;

/// Answer to somebody who waits.
pub(crate) type Ack = oneshot::Sender<Result<u64, AuditError>>;

/// What callers ask of the writer.
pub(crate) enum Item {
    /// Write an event; the answer is its sequence number.
    Event { event: Box<AuditEvent>, ack: Option<Ack> },
    /// Answer when everything before is durable; the answer is the last sequence number.
    Barrier(Ack),
    /// Remove the identity of a principal; the answer is the number of removed entries.
    Erase { principal: String, ack: Ack },
}

/// How far the segment is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Acked {
    pub(crate) segment: u32,
    pub(crate) length: u64,
    pub(crate) seq: u64,
}

/// What the writer and the callers share.
pub(crate) struct Shared {
    pub(crate) queue: Queue<Item>,
    pub(crate) capacity: usize,
    pub(crate) healthy: AtomicBool,
    pub(crate) acked: Mutex<Acked>,
    /// The end of the chain, as far as it is durable.
    link: Mutex<Link>,
    /// Something became durable.
    pub(crate) progress: Notify,
    pub(crate) written: AtomicU64,
    pub(crate) rounds: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) failures: AtomicU64,
}

impl Shared {
    pub(crate) fn new(capacity: usize, tail: &Tail) -> Self {
        let acked = Acked { segment: tail.segment, length: tail.log_len, seq: tail.link.seq };
        Self {
            queue: Queue::new(capacity),
            capacity,
            healthy: AtomicBool::new(true),
            acked: Mutex::new(acked),
            link: Mutex::new(tail.link),
            progress: Notify::new(),
            written: 0.into(),
            rounds: 0.into(),
            dropped: 0.into(),
            refused: 0.into(),
            failures: 0.into(),
        }
    }

    pub(crate) fn acked(&self) -> Acked {
        *self.acked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn link(&self) -> Link {
        *self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn drop_events(&self, count: usize) {
        self.dropped.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

struct Pending {
    event: Box<AuditEvent>,
    ack: Option<Ack>,
}

/// The open segment and the end of the chain, as far as they are durable.
pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    disk: Box<dyn Disk>,
    folder: Folder,
    segment_bytes: u64,
    linger: Duration,
    segment: u32,
    log: Option<Box<dyn DiskFile>>,
    log_len: u64,
    side: Option<Box<dyn DiskFile>>,
    side_len: u64,
    link: Link,
    commitments: Commitments,
    log_buffer: Vec<u8>,
    side_buffer: Vec<u8>,
}

impl Writer {
    /// Goes on where `tail` says.
    pub(crate) fn new(
        shared: Arc<Shared>,
        mut disk: Box<dyn Disk>,
        folder: Folder,
        tail: &Tail,
        segment_bytes: u64,
        linger: Duration,
    ) -> Result<Self, AuditError> {
        let (mut log, mut side) = (None, None);
        if tail.segment > 0 {
            let path = log_path(&folder.path, tail.segment);
            log = Some(disk.open(&path).map_err(|error| AuditError::file(&path, error))?);
            let path = who_path(&folder.path, tail.segment);
            side = Some(disk.open(&path).map_err(|error| AuditError::file(&path, error))?);
        }
        Ok(Self {
            shared,
            disk,
            folder,
            segment_bytes,
            linger,
            segment: tail.segment,
            log,
            log_len: tail.log_len,
            side,
            side_len: tail.who_len,
            link: tail.link,
            commitments: Commitments::default(),
            log_buffer: Vec::new(),
            side_buffer: Vec::new(),
        })
    }

    /// Works until the queue is closed and empty.
    pub(crate) fn run(mut self) {
        let mut items = Vec::new();
        let shared = Arc::clone(&self.shared);
        while shared.queue.take(&mut items, self.linger) {
            self.round(&mut items);
        }
    }

    fn round(&mut self, items: &mut Vec<Item>) {
        let (events, others) = split(items);
        match self.write(&events) {
            Ok(first) => acknowledge(events, first),
            Err(error) => self.outage(events, &error),
        }
        for other in others {
            let (ack, answer) = match other {
                Item::Barrier(ack) => (ack, Ok(self.link.seq)),
                Item::Erase { principal, ack } => (ack, self.erase(&principal)),
                Item::Event { .. } => continue,
            };
            let healthy = self.shared.healthy.load(Ordering::Acquire);
            // Who no longer waits does not need the answer.
            let _ = ack.send(if healthy { answer } else { Err(AuditError::Unavailable) });
        }
    }

    /// Writes and syncs events as one; all or none. Returns the first sequence number.
    fn write(&mut self, events: &[Pending]) -> io::Result<u64> {
        let first = self.link.seq + 1;
        if events.is_empty() {
            return Ok(first);
        }
        if self.log_len >= self.segment_bytes || self.side_len >= SIDE_BYTES {
            (self.log, self.side) = (None, None);
        }
        if self.log.is_none() || self.side.is_none() {
            self.next_segment()?;
        }
        self.log_buffer.clear();
        self.side_buffer.clear();
        let mut link = self.link;
        for pending in events {
            let who = &pending.event.who;
            let commitment = self.commitments.commit(who, &mut self.side_buffer).map_err(io::Error::other)?;
            link = push_line(&mut self.log_buffer, &self.folder.writer, &link, &pending.event, commitment.as_str());
        }
        let (Some(log), Some(side)) = (&mut self.log, &mut self.side) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        if !self.side_buffer.is_empty() {
            side.append(&self.side_buffer)?;
            side.sync()?;
        }
        log.append(&self.log_buffer)?;
        log.sync()?;
        self.link = link;
        self.log_len += length(&self.log_buffer);
        self.side_len += length(&self.side_buffer);
        self.publish(events.len());
        Ok(first)
    }

    fn publish(&self, events: usize) {
        let acked = Acked { segment: self.segment, length: self.log_len, seq: self.link.seq };
        *self.shared.acked.lock().unwrap_or_else(PoisonError::into_inner) = acked;
        *self.shared.link.lock().unwrap_or_else(PoisonError::into_inner) = self.link;
        self.shared.written.fetch_add(u64::try_from(events).unwrap_or(0), Ordering::Relaxed);
        self.shared.rounds.fetch_add(1, Ordering::Relaxed);
        self.shared.progress.notify_one();
    }

    fn next_segment(&mut self) -> io::Result<()> {
        let next = self.segment + 1;
        let side = self.disk.create(&who_path(&self.folder.path, next))?;
        let log = self.disk.create(&log_path(&self.folder.path, next))?;
        (self.segment, self.log, self.side) = (next, Some(log), Some(side));
        (self.log_len, self.side_len) = (0, 0);
        self.commitments.clear();
        Ok(())
    }

    /// The disk refuses: tells those who wait, keeps what may still be written, and tries
    /// until it works again.
    fn outage(&mut self, events: Vec<Pending>, error: &io::Error) {
        tracing::error!(%error, folder = %self.folder.path.display(), "the audit record cannot be written");
        self.shared.failures.fetch_add(1, Ordering::Relaxed);
        self.shared.healthy.store(false, Ordering::Release);
        let mut kept = Vec::new();
        self.keep(&mut kept, events);
        let mut items = Vec::new();
        loop {
            let closed = self.shared.queue.wait_closed(RETRY);
            self.shared.queue.poll(&mut items);
            let (events, others) = split(&mut items);
            self.keep(&mut kept, events);
            refuse(others);
            match self.try_again(&mut kept) {
                Ok(()) => {
                    tracing::info!("the audit record can be written again");
                    self.shared.healthy.store(true, Ordering::Release);
                    return;
                }
                Err(error) if closed => {
                    tracing::error!(%error, lost = kept.len(), "closing although the audit record cannot be written");
                    self.shared.drop_events(kept.len());
                    return;
                }
                Err(_) => {}
            }
        }
    }

    /// An intent whose append failed must not be on record later: its call was refused.
    fn keep(&self, kept: &mut Vec<Pending>, events: Vec<Pending>) {
        let mut dropped = 0;
        for Pending { event, ack } in events {
            let waited = ack.is_some();
            if let Some(ack) = ack {
                let _ = ack.send(Err(AuditError::Unavailable));
            }
            if waited && event.kind == EventKind::Intent {
                continue;
            }
            if kept.len() < self.shared.capacity {
                kept.push(Pending { event, ack: None });
            } else {
                dropped += 1;
            }
        }
        self.shared.drop_events(dropped);
    }

    fn try_again(&mut self, kept: &mut Vec<Pending>) -> io::Result<()> {
        // What the failed write left behind was never acknowledged. After a failed sync
        // the kernel may have given up on it, so it is written anew, not only synced.
        self.commitments.clear();
        if let Some(log) = &mut self.log {
            log.truncate(self.log_len)?;
            log.sync()?;
        }
        if let Some(side) = &mut self.side {
            side.truncate(self.side_len)?;
            side.sync()?;
        }
        self.disk.probe(&self.folder.path.join("probe"))?;
        self.write(kept)?;
        kept.clear();
        Ok(())
    }
}

fn split(items: &mut Vec<Item>) -> (Vec<Pending>, Vec<Item>) {
    let (mut events, mut others) = (Vec::with_capacity(items.len()), Vec::new());
    for item in items.drain(..) {
        match item {
            Item::Event { event, ack } => events.push(Pending { event, ack }),
            other => others.push(other),
        }
    }
    (events, others)
}

fn acknowledge(events: Vec<Pending>, first: u64) {
    for (seq, pending) in (first..).zip(events) {
        if let Some(ack) = pending.ack {
            let _ = ack.send(Ok(seq));
        }
    }
}

fn refuse(items: Vec<Item>) {
    for item in items {
        if let Item::Barrier(ack) | Item::Erase { ack, .. } = item {
            let _ = ack.send(Err(AuditError::Unavailable));
        }
    }
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
