//! One legacy session.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use aws_lc_rs::digest::{SHA256, digest};
use bartizan_gate::{Endpoint, Off, Selection, State as Row, SubscriptionControl};
use bartizan_model::Principal;
use bartizan_wire::{AskAnswer, ClientProfile, LogLevel, RequestId, Revision};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Offered;
use super::asks::{self, Asks, Batch};
use crate::portal::client_of;
use crate::streams::{Channel, Kept, StreamId};

/// Finished streams kept for clients that resume.
const KEPT_STREAMS: usize = 8;
/// Bytes finished streams of one session may hold together.
const KEPT_BYTES: usize = 1024 * 1024;
/// Sweeps (one a minute) a finished stream survives.
const KEPT_SWEEPS: u8 = 5;

/// What a session is made of.
pub(crate) struct Opening {
    pub(crate) id: Arc<str>,
    pub(crate) holder: Arc<str>,
    pub(crate) counted: Arc<str>,
    pub(crate) endpoint: Endpoint,
    pub(crate) about: About,
    pub(crate) transport: Transport,
    pub(crate) now_ms: i64,
    /// Number before that of the first stream: streams of several replicas must not have
    /// the same numbers.
    pub(crate) streams_from: StreamId,
    /// Name of this process, for the questions it asks.
    pub(crate) node: Arc<str>,
}

/// How messages travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// Streamable HTTP: the session is named by a header.
    Streamable,
    /// HTTP+SSE: everything to the client goes onto one stream, and the session ends
    /// with it.
    Sse,
}

impl Transport {
    /// As one byte.
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Streamable => 1,
            Self::Sse => 2,
        }
    }

    /// From [`Self::code`].
    pub(super) fn from_code(code: u8) -> Option<Self> {
        [Self::Streamable, Self::Sse].into_iter().find(|known| known.code() == code)
    }
}

/// What both sides said when the session began.
#[derive(Clone)]
pub(crate) struct About {
    /// What the client said about itself.
    pub(crate) profile: Arc<ClientProfile>,
    /// What it was told.
    pub(crate) offered: Offered,
    /// Name and version the client gave itself.
    client: (Option<Arc<str>>, Option<Arc<str>>),
}

impl About {
    pub(crate) fn new(profile: ClientProfile, offered: Offered) -> Self {
        Self { client: client_of(&profile), profile: Arc::new(profile), offered }
    }
}

/// What listens for a session at the gate.
pub(crate) struct Feed {
    pub(crate) control: SubscriptionControl,
    /// For whom it listens: their groups decide what there is to hear.
    pub(crate) who: Arc<Principal>,
    /// Cancelled, with the feed locked, when another one takes its place.
    pub(crate) over: CancellationToken,
}

/// One legacy session.
pub(crate) struct Session {
    pub(crate) id: Arc<str>,
    /// Name of its row in the store.
    pub(crate) holder: Arc<str>,
    /// Among whose sessions it is counted: the principal, or an anonymous caller's network.
    pub(super) counted: Arc<str>,
    pub(crate) endpoint: Endpoint,
    /// First 16 hex digits of SHA-256 over the id, for the record.
    pub(crate) hash: Arc<str>,
    pub(crate) transport: Transport,
    about: RwLock<About>,
    /// Servers that are switched off in it.
    off: RwLock<Off>,
    used_ms: AtomicI64,
    state: Mutex<State>,
    ended: CancellationToken,
    /// The subscription at the gate, while somebody listens.
    pub(crate) feed: tokio::sync::Mutex<Option<Feed>>,
}

#[derive(Default)]
struct State {
    next_stream: StreamId,
    next_call: u64,
    /// The stand-alone GET stream.
    get: Option<Arc<Channel>>,
    /// Streams of POSTed requests, oldest first.
    posts: VecDeque<Post>,
    asks: Asks,
    running: HashMap<RequestId, (u64, Arc<Notify>)>,
    /// URIs the client subscribed to.
    subscribed: Vec<Arc<str>>,
}

struct Post {
    channel: Arc<Channel>,
    sweeps: u8,
}

/// A request in progress; forgotten when dropped.
pub(crate) struct Running {
    session: Arc<Session>,
    id: RequestId,
    pub(crate) call: u64,
    cancel: Arc<Notify>,
}

impl Running {
    /// Ends when the client sends `notifications/cancelled` for this request.
    pub(crate) async fn cancelled(&self) {
        self.cancel.notified().await;
    }

    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Forgets the questions this request still asks; returns the ids of their requests.
    pub(crate) fn drop_asks(&self) -> Vec<RequestId> {
        self.session.lock().asks.drop_call(self.call)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut state = self.session.lock();
        // The same id may have been used again meanwhile.
        if state.running.get(&self.id).is_some_and(|(call, _)| *call == self.call) {
            state.running.remove(&self.id);
        }
        state.asks.drop_call(self.call);
    }
}

impl Session {
    pub(super) fn new(opening: Opening) -> Self {
        let hash = digest(&SHA256, opening.id.as_bytes());
        let hash: String = hash.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Self {
            id: opening.id,
            holder: opening.holder,
            counted: opening.counted,
            endpoint: opening.endpoint,
            hash: hash.into(),
            transport: opening.transport,
            about: RwLock::new(opening.about),
            off: RwLock::default(),
            used_ms: AtomicI64::new(opening.now_ms),
            state: Mutex::new(State {
                next_stream: opening.streams_from,
                asks: Asks::of(opening.node),
                ..State::default()
            }),
            ended: CancellationToken::new(),
            feed: tokio::sync::Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn about(&self) -> std::sync::RwLockReadGuard<'_, About> {
        self.about.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the client said about itself.
    pub(crate) fn profile(&self) -> Arc<ClientProfile> {
        Arc::clone(&self.about().profile)
    }

    /// The negotiated revision.
    pub(crate) fn revision(&self) -> Revision {
        self.about().profile.revision
    }

    /// What the client was told.
    pub(crate) fn offered(&self) -> Offered {
        self.about().offered
    }

    /// Name and version the client gave itself.
    pub(crate) fn client(&self) -> (Option<Arc<str>>, Option<Arc<str>>) {
        self.about().client.clone()
    }

    /// The handshake of a session whose stream was there first (HTTP+SSE).
    pub(crate) fn introduce(&self, about: About) {
        *self.about.write().unwrap_or_else(PoisonError::into_inner) = about;
    }

    /// `logging/setLevel`.
    pub(crate) fn set_log_level(&self, level: LogLevel) {
        let mut about = self.about.write().unwrap_or_else(PoisonError::into_inner);
        let mut changed = ClientProfile::clone(&about.profile);
        changed.log_level = Some(level);
        about.profile = Arc::new(changed);
    }

    /// Takes in what its row says now.
    pub(super) fn take(&self, row: &Row) {
        let known = Arc::clone(&self.off.read().unwrap_or_else(PoisonError::into_inner));
        if known != row.off {
            *self.off.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&row.off);
        }
        if let Some(level) = row.log_level
            && self.about().profile.log_level != Some(level)
        {
            self.set_log_level(level);
        }
    }

    /// What is switched off in it, and where that is kept.
    pub(crate) fn selection(&self) -> Selection {
        let off = Arc::clone(&self.off.read().unwrap_or_else(PoisonError::into_inner));
        Selection { holder: Some(Arc::clone(&self.holder)), off }
    }

    /// Nothing of it is only here: it can be forgotten and found again.
    pub(super) fn is_quiet(&self) -> bool {
        let listens = self.feed.try_lock().map_or(true, |feed| feed.is_some());
        let state = self.lock();
        let streams = state.get.is_some() || !state.posts.is_empty();
        !listens && !streams && state.running.is_empty() && state.subscribed.is_empty()
    }

    pub(super) fn touch(&self, now_ms: i64) {
        self.used_ms.store(now_ms, Ordering::Relaxed);
    }

    pub(super) fn used_ms(&self) -> i64 {
        self.used_ms.load(Ordering::Relaxed)
    }

    /// An open stream keeps a session alive: its client is there.
    pub(super) fn is_idle(&self, now_ms: i64, idle_ms: i64) -> bool {
        now_ms.saturating_sub(self.used_ms()) >= idle_ms && !self.is_streaming()
    }

    pub(super) fn is_streaming(&self) -> bool {
        let state = self.lock();
        state.get.as_ref().is_some_and(|channel| channel.is_attached())
            || state.posts.iter().any(|post| post.channel.is_attached())
    }

    /// Ends when the session does.
    pub(crate) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    pub(super) fn end(&self) {
        self.ended.cancel();
        let (get, posts, running) = {
            let mut state = self.lock();
            state.asks.clear();
            state.subscribed.clear();
            (state.get.take(), std::mem::take(&mut state.posts), std::mem::take(&mut state.running))
        };
        for channel in get.into_iter().chain(posts.into_iter().map(|post| post.channel)) {
            channel.close();
        }
        for (_, cancel) in running.into_values() {
            cancel.notify_one();
        }
    }

    pub(super) fn sweep(&self) {
        let mut state = self.lock();
        state.posts.retain_mut(|post| {
            let finished = post.channel.is_closed() && !post.channel.is_attached();
            post.sweeps = if finished { post.sweeps + 1 } else { 0 };
            post.sweeps < KEPT_SWEEPS
        });
        state.trim_posts();
    }

    /// A stream for the answer to a POST.
    pub(crate) fn open_post(&self) -> Arc<Channel> {
        let mut state = self.lock();
        let channel = state.new_channel();
        state.posts.push_back(Post { channel: Arc::clone(&channel), sweeps: 0 });
        state.trim_posts();
        channel
    }

    /// The stand-alone stream; made when there is none. One session has one.
    pub(crate) fn get_stream(&self) -> Arc<Channel> {
        let mut state = self.lock();
        if let Some(channel) = &state.get {
            return Arc::clone(channel);
        }
        let channel = state.new_channel();
        state.get = Some(Arc::clone(&channel));
        if self.ended.is_cancelled() {
            channel.close();
        }
        channel
    }

    /// Forgets the stand-alone stream and what it keeps.
    pub(crate) fn drop_get(&self) {
        self.lock().get = None;
    }

    /// The stream of this number, if it is still kept.
    pub(crate) fn stream(&self, id: StreamId) -> Option<Arc<Channel>> {
        let state = self.lock();
        let posts = state.posts.iter().map(|post| &post.channel);
        posts.chain(&state.get).find(|channel| channel.id() == Some(id)).cloned()
    }

    /// True while a request is in progress.
    pub(crate) fn is_busy(&self) -> bool {
        !self.lock().running.is_empty()
    }

    /// Registers a request in progress.
    pub(crate) fn running(self: &Arc<Self>, id: RequestId) -> Running {
        let cancel = Arc::new(Notify::new());
        let mut state = self.lock();
        state.next_call += 1;
        let call = state.next_call;
        state.running.insert(id.clone(), (call, Arc::clone(&cancel)));
        drop(state);
        Running { session: Arc::clone(self), id, call, cancel }
    }

    /// Whether a request runs in this process.
    pub(crate) fn runs(&self, id: &RequestId) -> bool {
        self.lock().running.contains_key(id)
    }

    /// `notifications/cancelled`. Unknown ids are late cancellations: nothing to do.
    pub(crate) fn cancel(&self, id: &RequestId) {
        let found = self.lock().running.remove(id);
        if let Some((_, cancel)) = found {
            cancel.notify_one();
        }
    }

    /// Registers a question of a call; returns the id of its request.
    pub(crate) fn ask(&self, call: u64, key: String, batch: Arc<Batch>) -> RequestId {
        self.lock().asks.add(call, key, batch)
    }

    /// The client answered. False when nobody asked.
    pub(crate) fn answer(&self, id: &RequestId, answer: AskAnswer) -> bool {
        let question = self.lock().asks.take(id);
        let known = question.is_some();
        if let Some(question) = question {
            asks::answer(question, answer);
        }
        known
    }

    /// Whether one more subscription is within `max`.
    pub(crate) fn may_subscribe(&self, uri: &str, max: usize) -> bool {
        let state = self.lock();
        state.subscribed.len() < max || state.subscribed.iter().any(|known| **known == *uri)
    }

    /// Remembers a subscription.
    pub(crate) fn subscribe(&self, uri: &str) {
        let mut state = self.lock();
        if !state.subscribed.iter().any(|known| **known == *uri) {
            state.subscribed.push(uri.into());
        }
    }

    /// Forgets a subscription. False when there was none.
    pub(crate) fn unsubscribe(&self, uri: &str) -> bool {
        let mut state = self.lock();
        let before = state.subscribed.len();
        state.subscribed.retain(|known| **known != *uri);
        state.subscribed.len() != before
    }

    /// URIs the client subscribed to.
    pub(crate) fn subscribed(&self) -> Vec<Arc<str>> {
        self.lock().subscribed.clone()
    }
}

impl State {
    /// Drops the oldest finished streams that are over the bounds.
    fn trim_posts(&mut self) {
        let finished = self.posts.iter().filter(|post| post.channel.is_closed());
        let (mut count, mut bytes) =
            finished.fold((0, 0), |(count, bytes), post| (count + 1, bytes + post.channel.held()));
        self.posts.retain(|post| {
            let over = count > KEPT_STREAMS || bytes > KEPT_BYTES;
            let drop_it = over && post.channel.is_closed() && !post.channel.is_attached();
            if drop_it {
                count -= 1;
                bytes -= post.channel.held().min(bytes);
            }
            !drop_it
        });
    }

    fn new_channel(&mut self) -> Arc<Channel> {
        self.next_stream += 1;
        Arc::new(Channel::new(Kept::Replay(self.next_stream)))
    }
}
