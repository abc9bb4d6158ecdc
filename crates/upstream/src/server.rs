//! One upstream server: its verdict, sessions, breaker and watchers.

mod establish;
mod verdict;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bartizan_catalog::ServerSpec;
use bartizan_model::Era;
use bartizan_wire::ClientProfile;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::breaker::Breaker;
use crate::channel::Channel;
use crate::env::Env;
use crate::error::UpstreamError;
use crate::exchange::ladder;
use crate::notes::NoteSink;
use crate::peer::{Lease, LegacyHttp, Peer};
use crate::plan::Plan;
use crate::slots::{Key, Pool};
use crate::types::{ServerHealth, Who};
use crate::watch::Watchers;
use establish::LIVED;
use verdict::{Kind, Verdict};

/// A legacy session unused for this long is ended.
const SESSION_IDLE: Duration = Duration::from_secs(30 * 60);
/// A local process or event stream unused for this long is ended.
const CHANNEL_IDLE: Duration = Duration::from_secs(10 * 60);
/// Keys with sessions of their own.
const MAX_POOLS: usize = 4096;
/// Of these, for one caller: a client declares few different things, an attacker as many as it likes.
const MAX_OF_CALLER: usize = 8;
/// Owners whose crashes are remembered.
const MAX_RESTARTS: usize = 1024;

/// One server at one version of its specification.
pub(crate) struct Server {
    pub(crate) spec: Arc<ServerSpec>,
    pub(crate) env: Arc<Env>,
    plan: Result<Plan, UpstreamError>,
    pub(crate) breaker: Arc<Breaker>,
    verdict: ArcSwapOption<Verdict>,
    pools: Mutex<HashMap<Key, Arc<Pool>>>,
    /// By owner of the process, so that who crashes their own keeps nobody else waiting.
    restarts: Mutex<HashMap<Arc<str>, Backoff>>,
    pub(crate) watchers: Watchers,
    pub(crate) ids: AtomicI64,
    /// A probe of a local server is under way; everybody waits for the first.
    probing: Arc<tokio::sync::Mutex<()>>,
    rechecking: AtomicBool,
    used: Mutex<Instant>,
    /// Cancelled when this server is replaced or removed.
    pub(crate) stop: CancellationToken,
    this: Weak<Self>,
}

impl Server {
    pub(crate) fn new(spec: Arc<ServerSpec>, env: Arc<Env>) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            plan: Plan::of(&spec, &env),
            stop: env.stop.child_token(),
            spec,
            env,
            breaker: Arc::default(),
            verdict: ArcSwapOption::empty(),
            pools: Mutex::default(),
            restarts: Mutex::default(),
            watchers: Watchers::default(),
            ids: AtomicI64::new(1),
            probing: Arc::default(),
            rechecking: AtomicBool::new(false),
            used: Mutex::new(Instant::now()),
            this: this.clone(),
        })
    }

    /// Notes a use.
    pub(crate) fn touch(&self) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// The last use.
    pub(crate) fn used(&self) -> Instant {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pools(&self) -> MutexGuard<'_, HashMap<Key, Arc<Pool>>> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn restarts(&self) -> MutexGuard<'_, HashMap<Arc<str>, Backoff>> {
        self.restarts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is left of the pause before a program is started again for this owner.
    fn restart_pause(&self, owner: &str) -> Duration {
        self.restarts().get(owner).map_or(Duration::ZERO, Backoff::left)
    }

    /// A program ended by itself, after it had run for `lived`.
    fn crashed(&self, owner: &Arc<str>, lived: Duration) {
        let mut restarts = self.restarts();
        if restarts.len() >= MAX_RESTARTS && !restarts.contains_key(owner) {
            restarts.retain(|_, backoff| !backoff.left().is_zero());
        }
        if restarts.len() >= MAX_RESTARTS && !restarts.contains_key(owner) {
            return;
        }
        let backoff = restarts.entry(Arc::clone(owner)).or_insert_with(Backoff::restarts);
        if lived >= LIVED {
            backoff.succeeded();
        }
        backoff.failed();
    }

    /// A request to `peer` failed. What one connection carried fails together and says one thing,
    /// which is counted where the connection ends.
    pub(crate) fn failed_on(&self, peer: &Peer, error: &UpstreamError) {
        match peer {
            Peer::Channel(channel) if channel.is_process() || !channel.is_open() => {}
            _ => self.breaker.failed(error),
        }
    }

    /// A list was not there in time. A process of one's own that hangs is no sign of others' doing so.
    pub(crate) fn late(&self, who: &Who) {
        if who.shares() || !matches!(self.plan, Ok(Plan::Stdio(_))) {
            self.breaker.failed(&UpstreamError::Timeout);
        }
    }

    /// Something to send to, for one request of this owner; the caller sets the time limit.
    /// A `call` is a request during which the server may ask the client.
    pub(crate) async fn lease(
        self: &Arc<Self>,
        who: &Who,
        profile: &Arc<ClientProfile>,
        call: bool,
    ) -> Result<Lease, UpstreamError> {
        let plan = self.plan.as_ref().map_err(Clone::clone)?;
        let mut verdict = self.verdict.load_full();
        if verdict.is_none() && matches!(plan, Plan::Stdio(_)) {
            verdict = Some(self.stdio_verdict().await?);
        }
        if let Some(verdict) = &verdict {
            self.recheck_when_old(verdict);
            if let Kind::Modern(peer) = &verdict.kind {
                return Ok(Lease::open(Peer::Modern(Arc::clone(peer))));
            }
        }
        let modern = matches!(verdict.as_ref().map(|v| &v.kind), Some(Kind::Stdio(Era::Modern)));
        let digest = if modern { "".into() } else { self.env.digest(profile) };
        let key = Key { principal: Arc::clone(&who.owner), digest };
        let alone = call && !modern && may_be_asked(profile);
        self.pool(&key, &who.caller)?.lease(self, &key, profile, (who, alone)).await
    }

    /// The pool of a key. A new one takes the place of the caller's own oldest when the caller has
    /// as many as it may; when all places are taken, of one of those who have most.
    fn pool(&self, key: &Key, caller: &Arc<str>) -> Result<Arc<Pool>, UpstreamError> {
        let mut pools = self.pools();
        if let Some(pool) = pools.get(key) {
            return Ok(Arc::clone(pool));
        }
        pools.retain(|_, pool| !pool.is_empty() || Arc::strong_count(pool) > 1);
        let mut held: HashMap<Arc<str>, usize> = HashMap::new();
        for pool in pools.values() {
            *held.entry(pool.user()).or_insert(0) += 1;
        }
        let own = held.get(caller).copied().unwrap_or(0);
        let full = pools.len() >= MAX_POOLS;
        let gone = if own >= MAX_OF_CALLER || full {
            let may_go =
                |whose: &Arc<str>, count: usize| whose == caller || (own < MAX_OF_CALLER && full && count > own + 1);
            let idle = pools.iter().filter_map(|(key, pool)| {
                let whose = pool.user();
                let count = held.get(&whose).copied().unwrap_or(0);
                let unused = Arc::strong_count(pool) == 1 && may_go(&whose, count);
                let since = pool.idle_since(|peer| self.watchers.uses(&key.principal, peer)).filter(|_| unused)?;
                Some(((Reverse(count), since), key.clone()))
            });
            let oldest = idle.min_by_key(|(order, _)| *order).map(|(_, key)| key);
            let why = "too many different client capabilities in use at once";
            pools.remove(&oldest.ok_or(UpstreamError::Crowded { why })?)
        } else {
            None
        };
        let pool = Arc::new(Pool::new(caller));
        pools.insert(key.clone(), Arc::clone(&pool));
        drop(pools);
        for peer in gone.iter().flat_map(|gone| gone.sweep(|_| false)) {
            self.end_when_unused(peer);
        }
        Ok(pool)
    }

    /// A live session of an owner, if there is one, whatever was declared on it.
    pub(crate) fn any_peer(&self, principal: &str) -> Option<Peer> {
        if let Some(verdict) = self.verdict.load_full()
            && let Kind::Modern(peer) = &verdict.kind
        {
            return Some(Peer::Modern(Arc::clone(peer)));
        }
        let pools: Vec<_> = {
            let pools = self.pools();
            pools.iter().filter(|(key, _)| &*key.principal == principal).map(|(_, pool)| Arc::clone(pool)).collect()
        };
        pools.iter().find_map(|pool| pool.any())
    }

    /// Where notes outside of calls go.
    pub(crate) fn sink(&self, principal: &Arc<str>) -> NoteSink {
        let (server, principal) = (self.this.clone(), Arc::clone(principal));
        Arc::new(move |note| {
            if let Some(server) = server.upgrade() {
                server.watchers.tell(&principal, note);
            }
        })
    }

    /// Lets go of all sessions; calls under way keep theirs until they end.
    pub(crate) fn retire(&self) {
        let pools: Vec<_> = self.pools().drain().map(|(_, pool)| pool).collect();
        for peer in pools.iter().flat_map(|pool| pool.sweep(|_| false)) {
            self.end_when_unused(peer);
        }
    }

    pub(crate) fn end_when_unused(&self, peer: Peer) {
        if matches!(peer, Peer::Modern(_)) {
            return;
        }
        let env = Arc::clone(&self.env);
        let ending = async move {
            let last = Instant::now() + env.call_max();
            while peer.idle_since().is_none() && peer.is_alive() && Instant::now() < last {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            match peer {
                Peer::Modern(_) => {}
                Peer::Legacy(peer) => ladder::end_session(&env, &peer).await,
                Peer::Channel(channel) => channel.stop.cancel(),
            }
        };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(ending);
        }
    }

    /// Ends sessions nobody used for long.
    pub(crate) fn sweep(&self, now: Instant) {
        let pools: Vec<_> = self.pools().iter().map(|(key, pool)| (key.clone(), Arc::clone(pool))).collect();
        for (key, pool) in pools {
            if self.watchers.is_watched(&key.principal) {
                continue;
            }
            for peer in pool.sweep(|peer| !is_idle(peer, now)) {
                self.end_when_unused(peer);
            }
        }
        self.pools().retain(|_, pool| !pool.is_empty() || Arc::strong_count(pool) > 1);
    }

    /// The local processes that run.
    pub(crate) fn processes(&self) -> Vec<Arc<Channel>> {
        let pools: Vec<_> = self.pools().values().cloned().collect();
        let channels = pools.iter().flat_map(|pool| pool.channels());
        channels.filter(|channel| channel.is_process() && channel.is_open()).collect()
    }

    /// Ends everything; returns when the processes are gone.
    pub(crate) async fn close(&self) {
        let pools: Vec<_> = self.pools().drain().map(|(_, pool)| pool).collect();
        let peers: Vec<_> = pools.iter().flat_map(|pool| pool.sweep(|_| false)).collect();
        let endings = peers.into_iter().map(|peer| async move {
            match peer {
                Peer::Modern(_) => {}
                Peer::Legacy(peer) => ladder::end_session(&self.env, &peer).await,
                Peer::Channel(channel) => {
                    channel.stop.cancel();
                    channel.gone.cancelled().await;
                }
            }
        });
        futures_util::future::join_all(endings).await;
    }

    /// For status pages.
    pub(crate) fn health(&self) -> ServerHealth {
        let verdict = self.verdict.load_full();
        let channels: Vec<_> = self.pools().values().flat_map(|pool| pool.channels()).collect();
        let peers = self.pools().values().map(|pool| pool.len()).sum();
        let first = self.pools().values().find_map(|pool| pool.any());
        let (transport, era) = match verdict.as_ref().map(|verdict| &verdict.kind) {
            None => ("unknown", None),
            Some(Kind::Modern(_)) => ("streamable_http", Some(Era::Modern)),
            Some(Kind::Legacy(_)) => ("streamable_http", Some(Era::Legacy)),
            Some(Kind::Sse(_)) => ("http_sse", Some(Era::Legacy)),
            Some(Kind::Stdio(era)) => ("stdio", Some(*era)),
        };
        let revision = match verdict.as_ref().map(|verdict| &verdict.kind) {
            Some(Kind::Modern(peer)) => Some(peer.said.revision),
            _ => first.map(|peer| peer.revision()),
        };
        ServerHealth {
            server: self.spec.id.clone(),
            transport,
            era,
            revision,
            probed_ms: verdict.map(|verdict| verdict.at_ms()),
            circuit: self.breaker.state(),
            last_error: self.breaker.last_error(),
            sessions: peers,
            processes: channels.iter().filter(|channel| channel.is_process()).count(),
            stderr: channels.iter().find_map(|channel| channel.stderr.as_ref()).map(|tail| tail.text()),
        }
    }
}

/// Sampling, elicitation or roots declared: the server may ask, and on a shared connection
/// nobody could tell which call it asks for (protocol reference 5.3, rule 8).
fn may_be_asked(profile: &ClientProfile) -> bool {
    ["roots", "sampling", "elicitation"].iter().any(|name| profile.declares_path(&[name]))
}

fn is_idle(peer: &Peer, now: Instant) -> bool {
    let limit = match peer {
        Peer::Modern(_) => return false,
        Peer::Legacy(_) => SESSION_IDLE,
        Peer::Channel(_) => CHANNEL_IDLE,
    };
    peer.idle_since().is_some_and(|used| now.saturating_duration_since(used) > limit)
}

/// Marks a session as ended by the server.
pub(crate) fn lost(peer: &LegacyHttp) {
    peer.dead.store(true, Ordering::Release);
}
