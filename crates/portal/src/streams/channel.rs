//! The buffer behind one stream.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::sync::Notify;

use super::event_id;

/// Number of a stream within its session.
pub(crate) type StreamId = u64;

/// Bytes a stream buffers before its producer waits (reader attached) or its oldest
/// events are dropped (nobody attached). One event may be larger: it is then alone.
const BUFFER: usize = 256 * 1024;
/// Events a stream keeps for a client that resumes.
const KEPT_EVENTS: usize = 1024;

/// Whether events stay after they were written to the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// Legacy: numbered, kept for `Last-Event-ID`.
    Replay(StreamId),
    /// Modern: gone once written.
    No,
}

/// The other end went away and will not come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone;

/// One stream's buffer. Producers push, one [`super::Reader`] at a time takes.
#[derive(Debug)]
pub(crate) struct Channel {
    kept: Kept,
    state: Mutex<State>,
    /// Wakes producers: there is room, or the reader came or went.
    moved: Notify,
}

#[derive(Debug, Default)]
pub(super) struct State {
    frames: VecDeque<Bytes>,
    bytes: usize,
    /// Bytes of frames the reader has not taken yet.
    unread_bytes: usize,
    /// Sequence number of the front frame.
    front: u64,
    /// Sequence number the reader takes next.
    next_read: u64,
    closed: bool,
    /// Counts readers, so that an older one notices it was replaced.
    generation: u64,
    attached: bool,
    /// A modern reader left: nobody will ever read again.
    abandoned: bool,
    waker: Option<Waker>,
}

/// What a reader gets when it asks for the next frame.
pub(super) enum Take {
    Frame(Bytes),
    End,
    Wait,
}

impl Channel {
    pub(crate) fn new(kept: Kept) -> Self {
        Self { kept, state: Mutex::default(), moved: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stream's number, when it has one.
    pub(crate) fn id(&self) -> Option<StreamId> {
        match self.kept {
            Kept::Replay(id) => Some(id),
            Kept::No => None,
        }
    }

    /// Appends one JSON message. Waits while an attached reader is behind.
    pub(crate) async fn message(&self, data: &[u8]) -> Result<(), Gone> {
        loop {
            self.room().await?;
            // Room and append under one lock: of many producers that were woken at once,
            // each with a large message, only one may go on.
            let waker = {
                let mut state = self.lock();
                if state.abandoned || state.closed {
                    return Err(Gone);
                }
                if !self.has_room(&state) {
                    continue;
                }
                self.put(&mut state, false, |out, id| frame(out, id, data))
            };
            wake(waker);
            return Ok(());
        }
    }

    /// Appends one JSON message without waiting; for producers that must not stall.
    /// A reader that is too far behind loses the oldest events of a kept stream, and
    /// a stream that is not kept refuses.
    pub(crate) fn try_message(&self, data: &[u8]) -> Result<(), Gone> {
        let full = {
            let state = self.lock();
            if state.abandoned || state.closed {
                return Err(Gone);
            }
            state.unread_bytes > BUFFER
        };
        if full && self.kept == Kept::No {
            return Err(Gone);
        }
        self.append(true, |out, id| frame(out, id, data));
        Ok(())
    }

    /// The event with an id and empty data that starts a 2025-11-25 stream, so that a
    /// client can resume before the first message.
    pub(crate) fn prime(&self) {
        self.append(true, |out, id| frame(out, id, b""));
    }

    /// Appends an event of another type than `message`, which is not for replay.
    pub(crate) fn named(&self, event: &str, data: &str) {
        self.append(true, |out, _| out.put_slice(format!("event: {event}\ndata: {data}\n\n").as_bytes()));
    }

    /// Tells the client how long to wait before it comes back, milliseconds.
    pub(crate) fn retry(&self, ms: u64) {
        self.append(true, |out, id| {
            out.put_slice(format!("retry: {ms}\n").as_bytes());
            frame(out, id, b"");
        });
    }

    /// Nothing more will come. What is buffered is still delivered.
    pub(crate) fn close(&self) {
        let waker = {
            let mut state = self.lock();
            state.closed = true;
            state.waker.take()
        };
        wake(waker);
        self.moved.notify_waiters();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// True while a response body reads from this stream.
    pub(crate) fn is_attached(&self) -> bool {
        self.lock().attached
    }

    /// Bytes held at the moment.
    pub(crate) fn held(&self) -> usize {
        self.lock().bytes
    }

    /// Ends when the reader of a stream that is not kept went away. A kept stream is
    /// never gone: its client may come back.
    pub(crate) async fn gone(&self) {
        self.until(|state| state.abandoned).await;
    }

    /// Ends when no reader is attached.
    pub(crate) async fn detached(&self) {
        self.until(|state| !state.attached).await;
    }

    async fn until(&self, done: impl Fn(&State) -> bool) {
        loop {
            let moved = self.moved.notified();
            tokio::pin!(moved);
            // Registered before the look, so that a change in between is not missed.
            moved.as_mut().enable();
            if done(&self.lock()) {
                return;
            }
            moved.await;
        }
    }

    async fn room(&self) -> Result<(), Gone> {
        self.until(|state| state.abandoned || state.closed || self.has_room(state)).await;
        let state = self.lock();
        if state.abandoned || state.closed { Err(Gone) } else { Ok(()) }
    }

    fn has_room(&self, state: &State) -> bool {
        state.unread_bytes <= BUFFER || (self.id().is_some() && !state.attached)
    }

    fn append(&self, lossy: bool, write: impl FnOnce(&mut BytesMut, Option<(StreamId, u64)>)) {
        let waker = {
            let mut state = self.lock();
            if state.closed || state.abandoned {
                return;
            }
            self.put(&mut state, lossy, write)
        };
        wake(waker);
    }

    /// Returns who is to be woken, once the lock is released.
    fn put(
        &self,
        state: &mut State,
        lossy: bool,
        write: impl FnOnce(&mut BytesMut, Option<(StreamId, u64)>),
    ) -> Option<Waker> {
        let seq = state.front + state.frames.len() as u64;
        let mut out = BytesMut::new();
        write(&mut out, self.id().map(|id| (id, seq)));
        let bytes = out.freeze();
        state.bytes += bytes.len();
        state.unread_bytes += bytes.len();
        state.frames.push_back(bytes);
        state.trim(lossy);
        state.waker.take()
    }

    /// Attaches a reader that begins with the next event nobody has read.
    pub(super) fn attach(&self) -> u64 {
        self.attach_at(None)
    }

    /// Attaches a reader behind event `after`, or at the oldest event still kept.
    pub(super) fn attach_after(&self, after: u64) -> u64 {
        self.attach_at(Some(after.saturating_add(1)))
    }

    fn attach_at(&self, from: Option<u64>) -> u64 {
        let (generation, waker) = {
            let mut state = self.lock();
            state.generation += 1;
            state.attached = true;
            if let Some(from) = from {
                let end = state.front + state.frames.len() as u64;
                let read = from.clamp(state.front, end);
                state.next_read = read;
                let skip = usize::try_from(read - state.front).unwrap_or(usize::MAX);
                state.unread_bytes = state.frames.iter().skip(skip).map(Bytes::len).sum();
            }
            (state.generation, state.waker.take())
        };
        wake(waker);
        self.moved.notify_waiters();
        generation
    }

    pub(super) fn take(&self, generation: u64, waker: &Waker) -> Take {
        let frame = {
            let mut state = self.lock();
            if state.generation != generation {
                return Take::End;
            }
            let at = usize::try_from(state.next_read - state.front).unwrap_or(usize::MAX);
            let Some(frame) = state.frames.get(at).cloned() else {
                if state.closed {
                    return Take::End;
                }
                match &mut state.waker {
                    Some(old) => old.clone_from(waker),
                    none => *none = Some(waker.clone()),
                }
                return Take::Wait;
            };
            state.next_read += 1;
            state.unread_bytes = state.unread_bytes.saturating_sub(frame.len());
            if self.kept == Kept::No {
                state.frames.pop_front();
                state.front += 1;
                state.bytes = state.bytes.saturating_sub(frame.len());
            }
            frame
        };
        self.moved.notify_waiters();
        Take::Frame(frame)
    }

    pub(super) fn detach(&self, generation: u64) {
        {
            let mut state = self.lock();
            if state.generation != generation {
                return;
            }
            state.attached = false;
            state.waker = None;
            if self.kept == Kept::No {
                state.abandoned = true;
                state.frames.clear();
                state.bytes = 0;
                state.unread_bytes = 0;
            }
        }
        self.moved.notify_waiters();
    }
}

impl State {
    /// Drops the oldest events of a stream that is over its bounds; the newest stays.
    /// What an attached reader has not taken yet is only dropped when `lossy`: then
    /// the producer cannot be made to wait.
    fn trim(&mut self, lossy: bool) {
        while self.frames.len() > 1 && (self.bytes > BUFFER || self.frames.len() > KEPT_EVENTS) {
            let unread = self.next_read <= self.front;
            if unread && self.attached && !lossy {
                return;
            }
            let Some(oldest) = self.frames.pop_front() else { return };
            self.front += 1;
            self.bytes = self.bytes.saturating_sub(oldest.len());
            if unread {
                self.next_read = self.front;
                self.unread_bytes = self.unread_bytes.saturating_sub(oldest.len());
            }
        }
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// One event. JSON has no raw line breaks inside strings, but may have them between
/// tokens: each line becomes a `data` line of its own, which joins to the same JSON.
fn frame(out: &mut BytesMut, id: Option<(StreamId, u64)>, data: &[u8]) {
    out.reserve(data.len() + 40);
    if let Some((stream, seq)) = id {
        out.put_slice(b"id: ");
        out.put_slice(event_id(stream, seq).as_bytes());
        out.put_u8(b'\n');
    }
    if data.is_empty() {
        out.put_slice(b"data:\n");
    } else {
        for line in data.split(|byte| matches!(byte, b'\n' | b'\r')) {
            out.put_slice(b"data: ");
            out.put_slice(line);
            out.put_u8(b'\n');
        }
    }
    out.put_u8(b'\n');
}

#[cfg(test)]
mod tests;
