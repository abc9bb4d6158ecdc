//! What servers tell outside of calls: one stream per owner and server, however many
//! listen; resource subscriptions counted (P10).

mod follow;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bartizan_wire::{ClientProfile, LATEST_LEGACY, RawJson};
use http::HeaderValue;
use tokio::sync::{Notify, broadcast};
use tokio::time::Instant;

use crate::backoff::{Backoff, jittered};
use crate::error::UpstreamError;
use crate::peer::Peer;
use crate::server::Server;
use crate::types::{ServerNote, Who};
use follow::End;

/// Notes a slow listener may lag behind.
const CAPACITY: usize = 256;
/// Largest note that is passed on, in bytes.
const MAX_NOTE: usize = 64 * 1024;
/// Resource subscriptions of one owner on one server.
const MAX_SUBSCRIPTIONS: usize = 10_000;
/// A stream that lived this long was a real one.
const LASTED: Duration = Duration::from_secs(5);
/// Owners with a stream of their own, per server.
const MAX_WATCHERS: usize = 4096;

/// The watchers of one server.
#[derive(Default)]
pub(crate) struct Watchers {
    map: Mutex<HashMap<Arc<str>, Arc<Watcher>>>,
}

/// One owner's interest in one server.
pub(crate) struct Watcher {
    principal: Arc<str>,
    sender: broadcast::Sender<ServerNote>,
    /// How often each URI is subscribed.
    wanted: Mutex<BTreeMap<String, usize>>,
    /// The peer used, and what it was told.
    applied: Mutex<Applied>,
    /// Subscriptions changed.
    changed: Notify,
    /// Subscribing and unsubscribing, one at a time.
    order: tokio::sync::Mutex<()>,
    /// Choosing the peer, one at a time: two that chose differently would both subscribe.
    choice: tokio::sync::Mutex<()>,
    running: AtomicBool,
}

#[derive(Default)]
struct Applied {
    peer: Option<Peer>,
    uris: HashSet<String>,
    /// Last event id of the session's GET stream.
    last_event: Option<HeaderValue>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watchers {
    /// Passes a note to whoever listens; false when nobody does.
    pub(crate) fn tell(&self, principal: &str, note: ServerNote) -> bool {
        let size = match &note {
            ServerNote::ListChanged(_) => 0,
            ServerNote::ResourceUpdated { uri, params } => uri.len() + params.len(),
            ServerNote::Message { method, params } => method.len() + params.as_ref().map_or(0, RawJson::len),
        };
        let watcher = lock(&self.map).get(principal).cloned();
        watcher.filter(|_| size <= MAX_NOTE).is_some_and(|watcher| watcher.sender.send(note).is_ok())
    }

    /// True while somebody listens: then the session is kept.
    pub(crate) fn is_watched(&self, principal: &str) -> bool {
        lock(&self.map).get(principal).is_some_and(|watcher| !watcher.unused())
    }

    /// True for the session whose notes are listened to: it must not be replaced.
    pub(crate) fn uses(&self, principal: &str, peer: &Peer) -> bool {
        lock(&self.map).get(principal).is_some_and(|watcher| !watcher.unused() && watcher.is_current(peer))
    }

    fn get(&self, principal: &Arc<str>) -> Result<Arc<Watcher>, UpstreamError> {
        let mut map = lock(&self.map);
        if let Some(watcher) = map.get(principal) {
            return Ok(Arc::clone(watcher));
        }
        if map.len() >= MAX_WATCHERS {
            // Who holds a clone may be about to subscribe, or runs it.
            map.retain(|_, watcher| !watcher.unused() || Arc::strong_count(watcher) > 1);
        }
        if map.len() >= MAX_WATCHERS {
            return Err(UpstreamError::unavailable("too many listeners on this server"));
        }
        let watcher = Arc::new(Watcher {
            principal: Arc::clone(principal),
            sender: broadcast::channel(CAPACITY).0,
            wanted: Mutex::default(),
            applied: Mutex::default(),
            changed: Notify::new(),
            order: tokio::sync::Mutex::new(()),
            choice: tokio::sync::Mutex::new(()),
            running: AtomicBool::new(false),
        });
        map.insert(Arc::clone(principal), Arc::clone(&watcher));
        Ok(watcher)
    }

    /// Listens; the stream upstream is opened when it is not there yet.
    pub(crate) fn watch(server: &Arc<Server>, principal: &Arc<str>) -> broadcast::Receiver<ServerNote> {
        match server.watchers.get(principal) {
            Ok(watcher) => {
                let receiver = watcher.sender.subscribe();
                watcher.start(server);
                receiver
            }
            // A receiver whose sender is gone: it ends at once.
            Err(_) => broadcast::channel(1).1,
        }
    }

    /// Counts a subscription; the first one goes upstream.
    pub(crate) async fn subscribe(server: &Arc<Server>, principal: &Arc<str>, uri: &str) -> Result<(), UpstreamError> {
        let watcher = server.watchers.get(principal)?;
        let mut claim = Claim {
            server: Arc::clone(server),
            watcher,
            uri: uri.into(),
            state: Arc::new(AtomicU8::new(ASKING)),
            taken: false,
        };
        let asked = tokio::spawn(claim.ask()).await;
        claim.taken = true;
        asked.unwrap_or_else(|_| Err(UpstreamError::unavailable("subscribing was stopped")))
    }

    /// Takes a subscription back; the last one goes upstream, also when the caller leaves.
    pub(crate) async fn unsubscribe(
        server: &Arc<Server>,
        principal: &Arc<str>,
        uri: &str,
    ) -> Result<(), UpstreamError> {
        let watcher = server.watchers.get(principal)?;
        let (server, uri) = (Arc::clone(server), uri.to_owned());
        let told = tokio::spawn(async move { watcher.remove(&server, &uri).await }).await;
        told.unwrap_or_else(|_| Err(UpstreamError::unavailable("unsubscribing was stopped")))
    }
}

const ASKING: u8 = 0;
const DONE: u8 = 1;
const LEFT: u8 = 2;

/// A subscription under way. It is never cut off in the middle, because then nobody knew what the
/// server was told; when its caller leaves, it is taken back.
struct Claim {
    server: Arc<Server>,
    watcher: Arc<Watcher>,
    uri: Arc<str>,
    state: Arc<AtomicU8>,
    /// The caller has the answer.
    taken: bool,
}

impl Claim {
    fn ask(&self) -> impl Future<Output = Result<(), UpstreamError>> + Send + 'static {
        let (server, watcher) = (Arc::clone(&self.server), Arc::clone(&self.watcher));
        let (uri, state) = (Arc::clone(&self.uri), Arc::clone(&self.state));
        async move {
            let asked = watcher.add(&server, &uri).await;
            if asked.is_ok() && state.swap(DONE, Ordering::AcqRel) == LEFT {
                let _ = watcher.remove(&server, &uri).await;
            }
            asked
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.taken || self.state.swap(LEFT, Ordering::AcqRel) != DONE {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (server, watcher, uri) = (Arc::clone(&self.server), Arc::clone(&self.watcher), Arc::clone(&self.uri));
        runtime.spawn(async move {
            let _ = watcher.remove(&server, &uri).await;
        });
    }
}

impl Watcher {
    fn unused(&self) -> bool {
        self.sender.receiver_count() == 0 && lock(&self.wanted).is_empty()
    }

    async fn until_unused(&self) {
        loop {
            self.sender.closed().await;
            if self.unused() {
                return;
            }
            // Only subscriptions are left; they end by a call.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    fn start(self: &Arc<Self>, server: &Arc<Server>) {
        if !self.running.swap(true, Ordering::AcqRel) {
            tokio::spawn(run(Arc::downgrade(server), server.stop.clone(), Arc::clone(self)));
        }
    }

    fn is_current(&self, peer: &Peer) -> bool {
        lock(&self.applied).peer.as_ref().map(Peer::identity) == Some(peer.identity())
    }

    async fn add(self: &Arc<Self>, server: &Arc<Server>, uri: &str) -> Result<(), UpstreamError> {
        let _one = self.order.lock().await;
        {
            let mut wanted = lock(&self.wanted);
            if let Some(count) = wanted.get_mut(uri) {
                *count += 1;
                return Ok(());
            }
            if wanted.len() >= MAX_SUBSCRIPTIONS {
                return Err(UpstreamError::Crowded { why: "too many resource subscriptions" });
            }
            // Counted before it is asked for, so that the stream task keeps it on a new session.
            wanted.insert(uri.to_owned(), 1);
        }
        let asked = self.apply(server, uri).await;
        if asked.is_err() {
            lock(&self.wanted).remove(uri);
        }
        self.changed.notify_one();
        self.start(server);
        asked
    }

    async fn remove(&self, server: &Server, uri: &str) -> Result<(), UpstreamError> {
        let _one = self.order.lock().await;
        {
            let mut wanted = lock(&self.wanted);
            match wanted.get_mut(uri) {
                Some(count) if *count > 1 => {
                    *count -= 1;
                    return Ok(());
                }
                Some(_) => wanted.remove(uri),
                None => return Ok(()),
            };
        }
        self.changed.notify_one();
        let told = {
            let mut applied = lock(&self.applied);
            applied.uris.remove(uri).then(|| applied.peer.clone()).flatten()
        };
        match told.filter(Peer::is_alive) {
            Some(peer) => request(server, &peer, "resources/unsubscribe", uri).await,
            None => Ok(()),
        }
    }

    fn uris(&self) -> Vec<String> {
        lock(&self.wanted).keys().cloned().collect()
    }

    /// The peer whose notes are heard: the one used so far, else any the owner has, else a new
    /// one that declares nothing.
    async fn peer(&self, server: &Arc<Server>) -> Result<Peer, UpstreamError> {
        let _one = self.choice.lock().await;
        let known = lock(&self.applied).peer.clone().filter(Peer::is_alive);
        let modern = matches!(known, Some(Peer::Modern(_)));
        if let Some(peer) = known.filter(|_| !modern) {
            return Ok(peer);
        }
        let peer = match server.any_peer(&self.principal) {
            Some(peer) => peer,
            None => {
                let plain = Arc::new(ClientProfile::plain(LATEST_LEGACY));
                let who = Who { owner: Arc::clone(&self.principal), caller: Arc::clone(&self.principal) };
                let lease = server.lease(&who, &plain, false);
                let leased = tokio::time::timeout(server.env.list_time() * 2, lease).await;
                leased.unwrap_or(Err(UpstreamError::Timeout))?.peer
            }
        };
        let mut applied = lock(&self.applied);
        if applied.peer.as_ref().map(Peer::identity) != Some(peer.identity()) {
            *applied = Applied { peer: Some(peer.clone()), uris: HashSet::new(), last_event: None };
        }
        Ok(peer)
    }

    /// Tells a legacy server about one subscription; modern servers learn it by listen.
    async fn apply(&self, server: &Arc<Server>, uri: &str) -> Result<(), UpstreamError> {
        let peer = self.peer(server).await?;
        match self.apply_on(server, &peer, uri).await {
            // The session had ended unnoticed: the next one has to be told anyway.
            Err(_) if !peer.is_alive() => {
                let peer = self.peer(server).await?;
                self.apply_on(server, &peer, uri).await
            }
            applied => applied,
        }
    }

    async fn apply_on(&self, server: &Arc<Server>, peer: &Peer, uri: &str) -> Result<(), UpstreamError> {
        let path = ["resources", "subscribe"];
        let able = peer.said().and_then(|said| bartizan_wire::splice::get_path(&said.capabilities, &path));
        if able.and_then(|able| able.as_bool()) != Some(true) {
            return Err(UpstreamError::protocol("the server offers no resource subscriptions"));
        }
        if peer.revision().era() == bartizan_model::Era::Modern || lock(&self.applied).uris.contains(uri) {
            return Ok(());
        }
        request(server, peer, "resources/subscribe", uri).await?;
        let mut applied = lock(&self.applied);
        if applied.peer.as_ref().map(Peer::identity) == Some(peer.identity()) {
            applied.uris.insert(uri.to_owned());
        }
        Ok(())
    }
}

async fn request(server: &Server, peer: &Peer, method: &str, uri: &str) -> Result<(), UpstreamError> {
    let params = RawJson::object([("uri", &RawJson::string(uri))]);
    let id = server.ids.fetch_add(1, Ordering::Relaxed);
    let asked = peer.request(&server.env, id, method, &params);
    match tokio::time::timeout(server.env.list_time(), asked).await {
        Ok(Ok(Ok(_))) => Ok(()),
        Ok(Ok(Err(error))) => Err(UpstreamError::protocol(format!("{method} failed with code {}", error.code))),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(UpstreamError::Timeout),
    }
}

/// Keeps the stream open while somebody listens.
async fn run(server: Weak<Server>, stop: tokio_util::sync::CancellationToken, watcher: Arc<Watcher>) {
    let mut pauses = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
    let mut short = Backoff::new(Duration::from_millis(100), Duration::from_secs(60));
    let mut broken = false;
    let mut seed = 0_u64;
    loop {
        if watcher.unused() {
            watcher.running.store(false, Ordering::Release);
            // Somebody may have come between the two lines above and found us running.
            if watcher.unused() || watcher.running.swap(true, Ordering::AcqRel) {
                return;
            }
        }
        let Some(server) = server.upgrade() else { return };
        seed = seed.wrapping_add(u64::try_from(server.env.clock.now_ms()).unwrap_or(1));
        let begun = Instant::now();
        let end = tokio::select! {
            end = follow::follow(&server, &watcher, broken) => end,
            () = watcher.until_unused() => continue,
            () = stop.cancelled() => return,
        };
        drop(server);
        let pause = match end {
            End::Changed => {
                pauses.succeeded();
                broken = false;
                continue;
            }
            End::Over(wait) => {
                pauses.succeeded();
                if begun.elapsed() >= LASTED {
                    short.succeeded();
                }
                broken = true;
                // A server that ends every stream at once and asks to be asked at once.
                jittered(wait.max(short.failed()), seed)
            }
            End::Failed => {
                broken = true;
                jittered(pauses.failed(), seed)
            }
            End::Silent(wait) => wait,
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = watcher.changed.notified() => {}
            () = watcher.until_unused() => {}
            () = stop.cancelled() => return,
        }
    }
}
