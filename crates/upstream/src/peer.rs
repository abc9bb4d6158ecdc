//! What a call is sent to: a stateless server, a legacy session, or a channel.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bartizan_egress::Url;
use bartizan_wire::{LogLevel, RawJson, RequestId, Revision, RpcError, build};
use bytes::Bytes;
use http::HeaderMap;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::channel::Channel;
use crate::env::Env;
use crate::error::UpstreamError;
use crate::exchange::{self, Outcome};
use crate::questions::Questions;
use crate::slots::Busy;
use crate::types::Discovered;

/// Something calls can be sent to.
#[derive(Clone)]
pub(crate) enum Peer {
    /// Modern Streamable HTTP: no session.
    Modern(Arc<ModernHttp>),
    /// A session of legacy Streamable HTTP.
    Legacy(Arc<LegacyHttp>),
    /// One connection all messages go through: stdio or HTTP+SSE.
    Channel(Arc<Channel>),
}

/// A peer that was handed out, with the right to be alone on it where that is needed.
pub(crate) struct Lease {
    pub(crate) peer: Peer,
    pub(crate) busy: Option<Busy>,
    /// Keeps the session from being ended meanwhile.
    pub(crate) in_use: Option<Arc<()>>,
}

impl Lease {
    /// The right to use it beside others.
    pub(crate) fn open(peer: Peer) -> Self {
        Self { busy: None, in_use: peer.in_use(), peer }
    }
}

impl Peer {
    /// What the server said about itself.
    pub(crate) fn said(&self) -> Option<Arc<Discovered>> {
        match self {
            Self::Modern(peer) => Some(Arc::clone(&peer.said)),
            Self::Legacy(peer) => Some(Arc::clone(&peer.said)),
            Self::Channel(channel) => channel.said(),
        }
    }

    /// False once nothing can be sent to it any more.
    pub(crate) fn is_alive(&self) -> bool {
        match self {
            Self::Modern(_) => true,
            Self::Legacy(peer) => !peer.dead.load(Ordering::Acquire),
            Self::Channel(channel) => channel.is_open(),
        }
    }

    /// A token that says the session is in use.
    pub(crate) fn in_use(&self) -> Option<Arc<()>> {
        match self {
            Self::Legacy(peer) => Some(Arc::clone(&peer.calls)),
            Self::Channel(channel) => Some(Arc::clone(&channel.leases)),
            Self::Modern(_) => None,
        }
    }

    /// Since when nothing is under way; `None` while something is.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        match self {
            Self::Modern(_) => None,
            Self::Legacy(peer) => (Arc::strong_count(&peer.calls) == 1).then(|| peer.used.get()),
            Self::Channel(channel) => channel.idle_since(),
        }
    }

    /// The revision spoken.
    pub(crate) fn revision(&self) -> Revision {
        match self {
            Self::Modern(peer) => peer.said.revision,
            Self::Legacy(peer) => peer.said.revision,
            Self::Channel(channel) => channel.revision(),
        }
    }

    /// Most verbose log level asked for on the session so far; modern peers have none.
    pub(crate) fn log(&self) -> Option<&SessionLog> {
        match self {
            Self::Modern(_) => None,
            Self::Legacy(peer) => Some(&peer.log),
            Self::Channel(channel) => Some(&channel.log),
        }
    }
}

impl Peer {
    /// Sends a notification or an answer.
    pub(crate) async fn send(&self, env: &Env, message: Bytes) -> Result<(), UpstreamError> {
        match self {
            Self::Modern(_) => Err(UpstreamError::protocol("modern servers take no messages beside requests")),
            Self::Legacy(peer) => exchange::tell(env, &peer.url, peer.headers.clone(), message).await,
            Self::Channel(channel) => channel.send(message).await,
        }
    }

    /// The same in a task of its own; for cancellations, of which there is one per call.
    pub(crate) fn send_later(&self, env: &Arc<Env>, message: Bytes) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (peer, env) = (self.clone(), Arc::clone(env));
        runtime.spawn(async move {
            let _ = tokio::time::timeout(env.list_time(), peer.send(&env, message)).await;
        });
    }

    /// The same, dropped when the server makes too many of these necessary.
    pub(crate) fn send_aside(&self, env: &Arc<Env>, message: Bytes) {
        match self {
            Self::Modern(_) => {}
            Self::Channel(channel) => channel.send_aside(message),
            Self::Legacy(peer) => {
                let Ok(permit) = Arc::clone(&peer.asides).try_acquire_owned() else { return };
                let (peer, env) = (self.clone(), Arc::clone(env));
                tokio::spawn(async move {
                    let _permit = permit;
                    let _ = tokio::time::timeout(env.list_time(), peer.send(&env, message)).await;
                });
            }
        }
    }

    /// A request of bartizan's own within a legacy session or on a channel.
    pub(crate) async fn request(
        &self,
        env: &Env,
        id: i64,
        method: &str,
        params: &RawJson,
    ) -> Result<Result<RawJson, RpcError>, UpstreamError> {
        match self {
            Self::Modern(_) => Err(UpstreamError::protocol("no session to ask in")),
            Self::Channel(channel) => channel.request(method, Some(params)).await,
            Self::Legacy(peer) => {
                let id = RequestId::number(id);
                let body = build::request(&id, method, Some(params));
                let reply = exchange::request(env, &peer.url, peer.headers.clone(), &id, body).await?;
                match reply.outcome {
                    Outcome::Result(result) => Ok(Ok(result)),
                    Outcome::Error(error) => Ok(Err(error)),
                    Outcome::Moved(_) => Err(exchange::moved(307)),
                    Outcome::Refused(refused) => {
                        if refused.status == 404 && peer.stateful {
                            peer.dead.store(true, Ordering::Release);
                        }
                        refused.error().map(Err).ok_or_else(|| refused.to_upstream())
                    }
                }
            }
        }
    }

    /// Which connection this is, to notice that it was replaced.
    pub(crate) fn identity(&self) -> usize {
        match self {
            Self::Modern(peer) => Arc::as_ptr(peer).addr(),
            Self::Legacy(peer) => Arc::as_ptr(peer).addr(),
            Self::Channel(channel) => Arc::as_ptr(channel).addr(),
        }
    }
}

/// A modern server.
pub(crate) struct ModernHttp {
    pub(crate) url: Url,
    /// Of every request; version, method and name are added.
    pub(crate) headers: HeaderMap,
    pub(crate) said: Arc<Discovered>,
    pub(crate) said_at: Instant,
}

/// How long a DiscoverResult without `ttlMs` is believed.
const DISCOVER_TTL: Duration = Duration::from_secs(60);
/// Longest belief in one, whatever it says.
const MAX_DISCOVER_TTL: Duration = Duration::from_secs(3600);

impl ModernHttp {
    /// True while `ttlMs` of the DiscoverResult has not passed.
    pub(crate) fn is_fresh(&self) -> bool {
        let ttl = self.said.raw.get("ttlMs").and_then(|ttl| u64::try_from(ttl.as_i64()?).ok());
        self.said_at.elapsed() < ttl.map_or(DISCOVER_TTL, Duration::from_millis).min(MAX_DISCOVER_TTL)
    }
}

/// A legacy session.
pub(crate) struct LegacyHttp {
    pub(crate) url: Url,
    /// Of every request, session id and version included.
    pub(crate) headers: HeaderMap,
    /// The server gave a session id.
    pub(crate) stateful: bool,
    pub(crate) said: Arc<Discovered>,
    pub(crate) dead: AtomicBool,
    pub(crate) used: Used,
    /// Each call under way holds a clone.
    pub(crate) calls: Arc<()>,
    pub(crate) log: SessionLog,
    /// Calls that may be asked on the session's own stream.
    pub(crate) questions: Arc<Questions>,
    /// Answers to pings and refused questions under way at once.
    pub(crate) asides: Arc<Semaphore>,
}

/// See [`LegacyHttp::asides`].
pub(crate) const MAX_ASIDES: usize = 16;

/// Time of last use.
pub(crate) struct Used(Mutex<Instant>);

impl Used {
    pub(crate) fn now() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    pub(crate) fn touch(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    pub(crate) fn get(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The log level set on a legacy session: the most verbose one in use (protocol
/// reference 5.2); what a single request did not ask for is filtered per request.
pub(crate) struct SessionLog {
    level: AtomicU8,
    /// Held while `logging/setLevel` is under way.
    pub(crate) setting: tokio::sync::Mutex<()>,
}

impl SessionLog {
    pub(crate) fn new() -> Self {
        Self { level: AtomicU8::new(u8::MAX), setting: tokio::sync::Mutex::new(()) }
    }

    fn rank(level: LogLevel) -> u8 {
        LogLevel::ALL.iter().position(|l| *l == level).and_then(|at| u8::try_from(at).ok()).unwrap_or(u8::MAX)
    }

    /// True when `level` is more verbose than what the server was told.
    pub(crate) fn needs(&self, level: LogLevel) -> bool {
        Self::rank(level) < self.level.load(Ordering::Acquire)
    }

    pub(crate) fn set(&self, level: LogLevel) {
        self.level.fetch_min(Self::rank(level), Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p10_the_most_verbose_level_wins() {
        let log = SessionLog::new();
        assert!(log.needs(LogLevel::Emergency), "nothing was set yet");
        log.set(LogLevel::Warning);
        assert!(!log.needs(LogLevel::Error) && !log.needs(LogLevel::Warning));
        assert!(log.needs(LogLevel::Debug));
        log.set(LogLevel::Debug);
        log.set(LogLevel::Error);
        assert!(!log.needs(LogLevel::Debug));
    }
}
