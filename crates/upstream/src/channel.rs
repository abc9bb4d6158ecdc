//! A connection that carries the messages of many calls: stdio, or HTTP+SSE of 2024-11-05.
//!
//! The reading task hands each message to the call it belongs to and never waits for a
//! call: queues are bounded, and what overflows is dropped or refused.

pub(crate) mod sse;
pub(crate) mod stdio;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bartizan_egress::Url;
use bartizan_model::Era;
use bartizan_wire::{Kind, LATEST_LEGACY, Message, RawJson, RequestId, Revision, RpcError, build, codes};
use bytes::Bytes;
use http::HeaderMap;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::env::Env;
use crate::error::UpstreamError;
use crate::exchange;
use crate::notes::{self, NoteSink};
use crate::peer::{SessionLog, Used};
use crate::spawn::StderrTail;
use crate::types::{Discovered, Who};

/// Calls in flight on one connection.
const MAX_CALLS: usize = 256;
/// Of one caller, where others share it.
const MAX_OF_CALLER: usize = 64;
/// Notifications kept for a call that does not read.
const MAX_QUEUE: usize = 1024;
/// Answers to server requests under way at once (HTTP+SSE).
const MAX_REPLIES: usize = 16;

/// Where messages go out.
pub(crate) enum Out {
    /// Lines to a process; its writing task is bounded.
    Lines(mpsc::Sender<Bytes>),
    /// POSTs to the endpoint of an event stream.
    Post { url: Url, headers: HeaderMap, replies: Arc<Semaphore> },
}

/// The connection.
pub(crate) struct Channel {
    env: Arc<Env>,
    era: Era,
    out: Out,
    slots: Mutex<Slots>,
    ids: AtomicI64,
    said: OnceLock<Arc<Discovered>>,
    notes: NoteSink,
    /// A call is alone on the connection (protocol reference 5.3, rule 8).
    pub(crate) busy: AtomicBool,
    pub(crate) log: SessionLog,
    used: Used,
    /// Each call that was given the connection holds a clone.
    pub(crate) leases: Arc<()>,
    /// Who had it opened, for a local process: it counts as theirs.
    pub(crate) opener: OnceLock<Arc<str>>,
    /// When the peer was last heard of.
    pub(crate) heard: Used,
    pub(crate) started: Instant,
    /// Cancel to end the connection in order.
    pub(crate) stop: CancellationToken,
    /// It ended by itself: the next start of its program has to wait.
    pub(crate) crashed: AtomicBool,
    /// Cancelled when the connection is over and its process gone.
    pub(crate) gone: CancellationToken,
    pub(crate) stderr: Option<StderrTail>,
}

#[derive(Default)]
struct Slots {
    calls: HashMap<i64, Arc<Slot>>,
    closed: Option<UpstreamError>,
}

impl Channel {
    pub(crate) fn new(env: &Arc<Env>, era: Era, out: Out, notes: NoteSink, stderr: Option<StderrTail>) -> Arc<Self> {
        Arc::new(Self {
            env: Arc::clone(env),
            era,
            out,
            slots: Mutex::default(),
            ids: AtomicI64::new(1),
            said: OnceLock::new(),
            notes,
            busy: AtomicBool::new(false),
            log: SessionLog::new(),
            used: Used::now(),
            leases: Arc::new(()),
            opener: OnceLock::new(),
            heard: Used::now(),
            started: Instant::now(),
            stop: env.stop.child_token(),
            crashed: AtomicBool::new(false),
            gone: CancellationToken::new(),
            stderr,
        })
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn era(&self) -> Era {
        self.era
    }

    pub(crate) fn is_process(&self) -> bool {
        matches!(self.out, Out::Lines(_))
    }

    pub(crate) fn said(&self) -> Option<Arc<Discovered>> {
        self.said.get().cloned()
    }

    pub(crate) fn set_said(&self, said: Arc<Discovered>) {
        let _ = self.said.set(said);
    }

    pub(crate) fn revision(&self) -> Revision {
        match self.said.get() {
            Some(said) => said.revision,
            None if self.era == Era::Modern => bartizan_wire::LATEST_MODERN,
            None => LATEST_LEGACY,
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        !self.stop.is_cancelled() && self.slots().closed.is_none()
    }

    /// Since when nothing is in flight; `None` while something is.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        let idle = Arc::strong_count(&self.leases) == 1;
        (idle && self.slots().calls.values().all(|slot| slot.background)).then(|| self.used.get())
    }

    /// A place for the messages of one new call.
    pub(crate) fn begin(self: &Arc<Self>, who: &Who) -> Result<InFlight, UpstreamError> {
        self.begin_as(Some(who))
    }

    /// A place for a request that is no call (a listen): what names no call is not for it, and
    /// it does not keep the connection from being idle.
    pub(crate) fn begin_background(self: &Arc<Self>) -> Result<InFlight, UpstreamError> {
        self.begin_as(None)
    }

    fn begin_as(self: &Arc<Self>, who: Option<&Who>) -> Result<InFlight, UpstreamError> {
        self.used.touch();
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let max = self.env.limits.upstream_body;
        let caller = who.map(|who| Arc::clone(&who.caller));
        let slot =
            Arc::new(Slot { inner: Mutex::default(), wake: Notify::new(), max, background: who.is_none(), caller });
        let mut slots = self.slots();
        if let Some(error) = &slots.closed {
            return Err(error.clone());
        }
        if slots.calls.len() >= MAX_CALLS {
            return Err(UpstreamError::Crowded { why: "too many calls in flight on one connection" });
        }
        let own = || slots.calls.values().filter(|other| other.caller == slot.caller).count();
        if who.is_some_and(Who::shares) && slots.calls.len() >= MAX_OF_CALLER && own() >= MAX_OF_CALLER {
            return Err(UpstreamError::Crowded {
                why: "too many calls of one caller in flight on a shared connection",
            });
        }
        slots.calls.insert(id, Arc::clone(&slot));
        Ok(InFlight { channel: Arc::clone(self), id, slot })
    }

    /// Sends a whole message. Waits while the peer does not read; the caller sets the limit.
    pub(crate) async fn send(&self, message: Bytes) -> Result<(), UpstreamError> {
        match &self.out {
            Out::Lines(lines) => {
                let line = bartizan_wire::raw::one_line(&message);
                lines.send(line).await.map_err(|_| self.why_closed())
            }
            Out::Post { url, headers, .. } => exchange::tell(&self.env, url, headers.clone(), message).await,
        }
    }

    /// Sends without waiting, for the reading task: what cannot go at once is dropped.
    pub(crate) fn send_aside(self: &Arc<Self>, message: Bytes) {
        match &self.out {
            Out::Lines(lines) => {
                if lines.try_send(bartizan_wire::raw::one_line(&message)).is_err() {
                    tracing::debug!("an upstream program does not read; an answer to it is dropped");
                }
            }
            Out::Post { replies, .. } => {
                let Ok(permit) = Arc::clone(replies).try_acquire_owned() else { return };
                let channel = Arc::clone(self);
                tokio::spawn(async move {
                    let _permit = permit;
                    let _ = tokio::time::timeout(channel.env.list_time(), channel.send(message)).await;
                });
            }
        }
    }

    fn why_closed(&self) -> UpstreamError {
        self.slots().closed.clone().unwrap_or_else(|| UpstreamError::unavailable("the connection is closed"))
    }

    /// A request of bartizan's own.
    pub(crate) async fn request(
        self: &Arc<Self>,
        method: &str,
        params: Option<&RawJson>,
    ) -> Result<Result<RawJson, RpcError>, UpstreamError> {
        let call = self.begin_background()?;
        self.send(build::request(&RequestId::number(call.id), method, params)).await?;
        loop {
            let message = call.next().await?;
            match message.kind() {
                Kind::Response | Kind::Error => return Ok(answer_of(&message)),
                Kind::Request => self.refuse(&message),
                Kind::Notification => {}
            }
        }
    }

    /// The connection is over: everybody who waits is told, once. True when calls were cut off.
    pub(crate) fn close(&self, error: UpstreamError) -> bool {
        let mut slots = self.slots();
        if slots.closed.is_some() {
            return false;
        }
        let calls: Vec<_> = slots.calls.drain().map(|(_, slot)| slot).collect();
        slots.closed = Some(error.clone());
        drop(slots);
        for slot in &calls {
            slot.end(Err(error.clone()));
        }
        calls.iter().any(|slot| !slot.background)
    }

    /// Hands one received text to whom it belongs. Texts that are no messages are skipped.
    pub(crate) fn receive(self: &Arc<Self>, text: Bytes) {
        self.heard.touch();
        if text.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        match exchange::parse(&self.env, text) {
            Ok(messages) => messages.into_iter().for_each(|message| self.dispatch(message)),
            Err(error) => tracing::debug!(%error, "skipped output that is no message"),
        }
    }

    fn dispatch(self: &Arc<Self>, message: Message) {
        match message.kind() {
            Kind::Response | Kind::Error => {
                // Answers to cancelled calls come late; others under unknown ids are lies.
                let slot = message.id().and_then(RequestId::as_i64).and_then(|id| self.slots().calls.remove(&id));
                if let Some(slot) = slot {
                    slot.end(Ok(message));
                }
            }
            Kind::Request if message.method() == Some("ping") => {
                if let Some(id) = message.id() {
                    self.send_aside(build::response(id, &RawJson::empty_object()));
                }
            }
            Kind::Request => match self.sole() {
                Some(slot) if self.era == Era::Legacy && slot.push(&message) => {}
                _ => self.refuse(&message),
            },
            Kind::Notification => self.notified(&message),
        }
    }

    fn notified(&self, message: &Message) {
        if message.method() == Some("notifications/progress") {
            let token = message.params().and_then(|params| params.get("progressToken")?.as_i64());
            let slot = token.and_then(|id| self.slots().calls.get(&id).cloned());
            if let Some(slot) = slot {
                slot.push(message);
            }
            return;
        }
        if let Some(note) = notes::of(message) {
            (self.notes)(note);
        } else if let Some(slot) = self.sole() {
            slot.push(message);
        } else if let Some(note) = notes::other(message) {
            (self.notes)(note);
        }
    }

    /// The only call in flight: then what names no call belongs to it.
    fn sole(&self) -> Option<Arc<Slot>> {
        let slots = self.slots();
        let mut calls = slots.calls.values().filter(|slot| !slot.background);
        match (calls.next(), calls.next()) {
            (Some(slot), None) => Some(Arc::clone(slot)),
            _ => None,
        }
    }

    /// A server request nobody can answer (protocol reference 5.2).
    pub(crate) fn refuse(self: &Arc<Self>, request: &Message) {
        let error = RpcError::new(codes::METHOD_NOT_FOUND, "not available here");
        self.send_aside(build::error(request.id(), &error));
    }
}

/// Result or error of a response.
pub(crate) fn answer_of(message: &Message) -> Result<RawJson, RpcError> {
    match message.result() {
        Some(result) => Ok(result),
        None => Err(message.error().unwrap_or_else(|| RpcError::new(codes::INTERNAL_ERROR, "no error object"))),
    }
}

/// What came for one call and was not read yet.
pub(crate) struct Slot {
    inner: Mutex<Inner>,
    wake: Notify,
    max: usize,
    background: bool,
    /// Whose call it is.
    caller: Option<Arc<str>>,
}

#[derive(Default)]
struct Inner {
    queue: VecDeque<Message>,
    bytes: usize,
    end: Option<Result<Message, UpstreamError>>,
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// False when there is no room.
    fn push(&self, message: &Message) -> bool {
        let mut inner = self.lock();
        let bytes = inner.bytes.saturating_add(message.raw().len());
        if inner.queue.len() >= MAX_QUEUE || bytes > self.max {
            return false;
        }
        inner.bytes = bytes;
        inner.queue.push_back(message.clone());
        drop(inner);
        self.wake.notify_one();
        true
    }

    fn end(&self, end: Result<Message, UpstreamError>) {
        self.lock().end = Some(end);
        self.wake.notify_one();
    }

    fn pop(&self) -> Option<Result<Message, UpstreamError>> {
        let mut inner = self.lock();
        if let Some(message) = inner.queue.pop_front() {
            inner.bytes = inner.bytes.saturating_sub(message.raw().len());
            return Some(Ok(message));
        }
        inner.end.take()
    }
}

/// A request in flight; dropping it forgets the request.
pub(crate) struct InFlight {
    pub(crate) channel: Arc<Channel>,
    pub(crate) id: i64,
    slot: Arc<Slot>,
}

impl InFlight {
    /// The next message of this request, its response last. Nothing is lost when the
    /// returned future is dropped.
    pub(crate) async fn next(&self) -> Result<Message, UpstreamError> {
        loop {
            if let Some(message) = self.slot.pop() {
                return message;
            }
            self.slot.wake.notified().await;
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.channel.slots().calls.remove(&self.id);
        self.channel.used.touch();
    }
}
