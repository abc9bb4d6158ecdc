//! Pooled sessions: one per key, made once however many ask (P35).

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bartizan_wire::ClientProfile;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::channel::Channel;
use crate::error::UpstreamError;
use crate::peer::{Lease, Peer};
use crate::server::Server;
use crate::types::Who;

/// Connections of one key when each carries one call at a time.
const MAX_CHANNELS: usize = 4;
/// Of these, on a server whose sessions all share, for one caller: a call may wait long for
/// a person, and meanwhile its connection is nobody else's.
const MAX_OF_CALLER: usize = 2;
/// Connections of one key of such a server. Beyond [`MAX_CHANNELS`] they are only for callers
/// who have none.
const MAX_SHARED: usize = 16;

/// Whose session: the owner, and for legacy servers what the client declared, because
/// that is fixed when the session opens. Server, version and credential are the server's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) principal: Arc<str>,
    /// Capability digest; empty for modern servers.
    pub(crate) digest: Arc<str>,
}

type Made = Option<Result<Peer, UpstreamError>>;

/// The sessions of one key.
pub(crate) struct Pool {
    inner: Mutex<Inner>,
    /// A channel became free.
    freed: Notify,
}

struct Inner {
    peers: Vec<Peer>,
    creating: Option<watch::Receiver<Made>>,
    /// Who used it last, and when: the session counts as theirs.
    user: Arc<str>,
    used: Instant,
    /// Channels held alone, by caller.
    alone: HashMap<Arc<str>, usize>,
}

impl Inner {
    fn alone(&self, who: &Who) -> usize {
        self.alone.get(&who.caller).copied().unwrap_or(0)
    }

    fn is_full_for(&self, who: &Who) -> bool {
        who.shares() && self.alone(who) >= MAX_OF_CALLER
    }

    /// Room for one more connection.
    fn has_room(&self, who: &Who) -> bool {
        self.peers.len() < MAX_CHANNELS || who.shares() && self.alone(who) == 0 && self.peers.len() < MAX_SHARED
    }
}

/// What a caller without a session does next.
enum Next {
    Take(Lease),
    Wait(watch::Receiver<Made>),
    Free,
}

impl Pool {
    pub(crate) fn new(user: &Arc<str>) -> Self {
        let (user, used) = (Arc::clone(user), Instant::now());
        let inner = Inner { peers: Vec::new(), creating: None, user, used, alone: HashMap::new() };
        Self { inner: Mutex::new(inner), freed: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session for one call; the caller sets the time limit. `alone` asks for a channel that
    /// nobody else uses meanwhile.
    pub(crate) async fn lease(
        self: &Arc<Self>,
        server: &Arc<Server>,
        key: &Key,
        profile: &Arc<ClientProfile>,
        (who, alone): (&Who, bool),
    ) -> Result<Lease, UpstreamError> {
        if let Some(lease) = self.ready(&mut self.lock(), who, alone) {
            return Ok(lease);
        }
        loop {
            let freed = self.freed.notified();
            let mut freed = std::pin::pin!(freed);
            freed.as_mut().enable();
            match self.next(server, key, profile, (who, alone)) {
                Next::Take(lease) => return Ok(lease),
                Next::Free => freed.await,
                Next::Wait(mut made) => {
                    let result = made.wait_for(Option::is_some).await.map(|made| made.clone());
                    match result {
                        Ok(Some(Ok(peer @ Peer::Modern(_)))) => return Ok(Lease::open(peer)),
                        Ok(Some(Ok(_))) => {}
                        Ok(Some(Err(error))) => return Err(error),
                        Ok(None) | Err(_) => return Err(UpstreamError::unavailable("opening the session failed")),
                    }
                }
            }
        }
    }

    /// A session that can be used now.
    fn ready(self: &Arc<Self>, inner: &mut Inner, who: &Who, alone: bool) -> Option<Lease> {
        inner.peers.retain(Peer::is_alive);
        if alone && inner.is_full_for(who) {
            return None;
        }
        let lease = inner.peers.iter().find_map(|peer| match peer {
            Peer::Channel(channel) if alone => {
                let busy = Busy::claim(channel, self, &who.caller)?;
                Some(Lease { busy: Some(busy), ..Lease::open(peer.clone()) })
            }
            _ => Some(Lease::open(peer.clone())),
        })?;
        if lease.busy.is_some() {
            *inner.alone.entry(Arc::clone(&who.caller)).or_insert(0) += 1;
        }
        inner.used = Instant::now();
        if inner.user != who.caller {
            inner.user = Arc::clone(&who.caller);
        }
        Some(lease)
    }

    fn next(
        self: &Arc<Self>,
        server: &Arc<Server>,
        key: &Key,
        profile: &Arc<ClientProfile>,
        (who, alone): (&Who, bool),
    ) -> Next {
        let mut inner = self.lock();
        if let Some(lease) = self.ready(&mut inner, who, alone) {
            return Next::Take(lease);
        }
        if alone && inner.is_full_for(who) {
            return Next::Free;
        }
        if let Some(made) = &inner.creating {
            return Next::Wait(made.clone());
        }
        if !inner.has_room(who) {
            return Next::Free;
        }
        let (sender, made) = watch::channel(None);
        inner.creating = Some(made.clone());
        let creation = Creation { pool: Arc::clone(self), sender };
        let (server, key, profile) = (Arc::clone(server), key.clone(), Arc::clone(profile));
        let caller = Arc::clone(&who.caller);
        // A task of its own: a caller that gives up must not take the session of the others along.
        tokio::spawn(async move {
            let made = server.establish(&key, &caller, &profile).await;
            let pool = Arc::clone(&creation.pool);
            creation.finish(made);
            if server.stop.is_cancelled() {
                // The server was retired meanwhile, perhaps without this session.
                pool.sweep(|_| false).into_iter().for_each(|peer| server.end_when_unused(peer));
            }
        });
        Next::Wait(made)
    }

    /// Any live session, without making one.
    pub(crate) fn any(&self) -> Option<Peer> {
        self.lock().peers.iter().find(|peer| peer.is_alive()).cloned()
    }

    /// Whose it is.
    pub(crate) fn user(&self) -> Arc<str> {
        Arc::clone(&self.lock().user)
    }

    /// Since when nobody uses it; `None` while somebody does, or `keep` wants one of its sessions.
    pub(crate) fn idle_since(&self, keep: impl Fn(&Peer) -> bool) -> Option<Instant> {
        let inner = self.lock();
        let unused = |peer: &Peer| !peer.is_alive() || (peer.idle_since().is_some() && !keep(peer));
        (inner.creating.is_none() && inner.alone.is_empty() && inner.peers.iter().all(unused)).then_some(inner.used)
    }

    /// Live sessions.
    pub(crate) fn len(&self) -> usize {
        self.lock().peers.iter().filter(|peer| peer.is_alive()).count()
    }

    /// Takes out what `keep` does not want, and what is dead.
    pub(crate) fn sweep(&self, mut keep: impl FnMut(&Peer) -> bool) -> Vec<Peer> {
        let mut out = Vec::new();
        let mut inner = self.lock();
        inner.peers.retain(|peer| {
            let stays = peer.is_alive() && keep(peer);
            if !stays {
                out.push(peer.clone());
            }
            stays
        });
        out
    }

    /// True when nothing is kept and nothing is being made.
    pub(crate) fn is_empty(&self) -> bool {
        let inner = self.lock();
        inner.peers.is_empty() && inner.creating.is_none()
    }

    pub(crate) fn channels(&self) -> Vec<Arc<Channel>> {
        let channel = |peer: &Peer| match peer {
            Peer::Channel(channel) => Some(Arc::clone(channel)),
            _ => None,
        };
        self.lock().peers.iter().filter_map(channel).collect()
    }
}

/// A session being made. Dropping it (a panic, the end of the runtime) releases the waiters.
struct Creation {
    pool: Arc<Pool>,
    sender: watch::Sender<Made>,
}

impl Creation {
    fn finish(self, made: Result<Peer, UpstreamError>) {
        let mut inner = self.pool.lock();
        if let Ok(peer @ (Peer::Legacy(_) | Peer::Channel(_))) = &made {
            inner.peers.push(peer.clone());
        }
        inner.creating = None;
        drop(inner);
        let _ = self.sender.send(Some(made));
        self.pool.freed.notify_waiters();
    }
}

impl Drop for Creation {
    fn drop(&mut self) {
        let mut inner = self.pool.lock();
        // `finish` has made room already, and perhaps somebody else has begun anew.
        if self.sender.borrow().is_none() {
            inner.creating = None;
        }
    }
}

/// The right to be alone on a channel.
pub(crate) struct Busy {
    channel: Arc<Channel>,
    pool: Arc<Pool>,
    caller: Arc<str>,
}

impl Busy {
    fn claim(channel: &Arc<Channel>, pool: &Arc<Pool>, caller: &Arc<str>) -> Option<Self> {
        channel.busy.compare_exchange(false, true, Ordering::AcqRel, Ordering::Acquire).ok()?;
        Some(Self { channel: Arc::clone(channel), pool: Arc::clone(pool), caller: Arc::clone(caller) })
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut inner = self.pool.lock();
        if let Some(count) = inner.alone.get_mut(&self.caller) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                inner.alone.remove(&self.caller);
            }
        }
        self.channel.busy.store(false, Ordering::Release);
        drop(inner);
        // All look again: the first to wait may be one who holds as many as it may.
        self.pool.freed.notify_waiters();
    }
}
