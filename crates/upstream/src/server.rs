//! One upstream server: its verdict, sessions, breaker and watchers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bartizan_catalog::ServerSpec;
use bartizan_egress::Url;
use bartizan_model::Era;
use bartizan_wire::{ClientProfile, Revision};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::breaker::Breaker;
use crate::channel::sse::{self, Opened};
use crate::channel::stdio;
use crate::env::Env;
use crate::error::UpstreamError;
use crate::exchange::ladder::{self, Init, Probe};
use crate::notes::NoteSink;
use crate::peer::{Lease, LegacyHttp, ModernHttp, Peer};
use crate::plan::{Candidate, Plan};
use crate::slots::{Key, Pool};
use crate::spawn::Recipe;
use crate::types::{Discovered, ServerHealth};
use crate::watch::Watchers;

/// Age at which a verdict is checked again (protocol reference 4.2, trap 4).
const VERDICT_MS: i64 = 24 * 3_600_000;
/// Least time between two checks that something odd asked for.
const RECHECK_MS: i64 = 60_000;
/// Time for starting a local server, probe included.
const START: Duration = Duration::from_secs(60);
/// A restart that is due sooner than this is waited for.
const SHORT_WAIT: Duration = Duration::from_secs(2);
/// A process that lived this long was no failed start.
const LIVED: Duration = Duration::from_secs(60);
/// Wait for a process slot.
const SLOT_WAIT: Duration = Duration::from_secs(5);
/// A legacy session unused for this long is ended.
const SESSION_IDLE: Duration = Duration::from_secs(30 * 60);
/// A local process or event stream unused for this long is ended.
const CHANNEL_IDLE: Duration = Duration::from_secs(10 * 60);
/// Keys with sessions of their own.
const MAX_POOLS: usize = 4096;

/// Which era and transport a server speaks, and when that was found out.
pub(crate) struct Verdict {
    pub(crate) kind: Kind,
    at_ms: AtomicI64,
}

#[derive(Clone)]
pub(crate) enum Kind {
    Modern(Arc<ModernHttp>),
    Legacy(Url),
    Sse(Url),
    Stdio(Era),
}

/// One server at one version of its specification.
pub(crate) struct Server {
    pub(crate) spec: Arc<ServerSpec>,
    pub(crate) env: Arc<Env>,
    plan: Result<Plan, UpstreamError>,
    pub(crate) breaker: Breaker,
    verdict: ArcSwapOption<Verdict>,
    pools: Mutex<HashMap<Key, Arc<Pool>>>,
    restarts: Mutex<Backoff>,
    pub(crate) watchers: Watchers,
    pub(crate) ids: AtomicI64,
    /// A probe of a local server is under way; everybody waits for the first.
    probing: Arc<tokio::sync::Mutex<()>>,
    rechecking: AtomicBool,
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
            breaker: Breaker::default(),
            verdict: ArcSwapOption::empty(),
            pools: Mutex::default(),
            restarts: Mutex::new(Backoff::restarts()),
            watchers: Watchers::default(),
            ids: AtomicI64::new(1),
            probing: Arc::default(),
            rechecking: AtomicBool::new(false),
            this: this.clone(),
        })
    }

    fn pools(&self) -> MutexGuard<'_, HashMap<Key, Arc<Pool>>> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn restarts(&self) -> MutexGuard<'_, Backoff> {
        self.restarts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something to send to, for one call of this owner; the caller sets the time limit.
    pub(crate) async fn lease(
        self: &Arc<Self>,
        principal: &Arc<str>,
        profile: &Arc<ClientProfile>,
    ) -> Result<Lease, UpstreamError> {
        let plan = self.plan.as_ref().map_err(Clone::clone)?;
        let mut verdict = self.verdict.load_full();
        if verdict.is_none() && matches!(plan, Plan::Stdio(_)) {
            verdict = Some(self.stdio_verdict().await?);
        }
        if let Some(verdict) = &verdict {
            self.recheck_when_old(verdict);
            if let Kind::Modern(peer) = &verdict.kind {
                return Ok(Lease { peer: Peer::Modern(Arc::clone(peer)), busy: None });
            }
        }
        let modern = matches!(verdict.as_ref().map(|v| &v.kind), Some(Kind::Stdio(Era::Modern)));
        let digest = if modern { "".into() } else { self.env.digest(profile) };
        let key = Key { principal: Arc::clone(principal), digest };
        let alone = !modern && may_be_asked(profile);
        self.pool(&key)?.lease(self, &key, profile, alone).await
    }

    fn pool(&self, key: &Key) -> Result<Arc<Pool>, UpstreamError> {
        let mut pools = self.pools();
        if let Some(pool) = pools.get(key) {
            return Ok(Arc::clone(pool));
        }
        if pools.len() >= MAX_POOLS {
            pools.retain(|_, pool| !pool.is_empty() || Arc::strong_count(pool) > 1);
        }
        if pools.len() >= MAX_POOLS {
            return Err(UpstreamError::unavailable("too many sessions with this server"));
        }
        let pool = Arc::new(Pool::default());
        pools.insert(key.clone(), Arc::clone(&pool));
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

    /// Makes a session, or finds that none is needed. Runs in a task of its own.
    pub(crate) async fn establish(&self, key: &Key, profile: &ClientProfile) -> Result<Peer, UpstreamError> {
        let plan = self.plan.as_ref().map_err(Clone::clone)?;
        let made = match plan {
            Plan::Http { ladder, headers } => {
                let establishing = self.establish_http(ladder, headers, key, profile);
                tokio::time::timeout(self.env.list_time(), establishing).await
            }
            Plan::Stdio(recipe) => tokio::time::timeout(START, self.establish_stdio(recipe, key, profile)).await,
        };
        let made = made.unwrap_or(Err(UpstreamError::Timeout));
        match &made {
            Ok(_) => self.breaker.succeeded(),
            Err(error) => self.breaker.failed(error),
        }
        made
    }

    async fn establish_http(
        &self,
        ladder: &[Candidate],
        headers: &http::HeaderMap,
        key: &Key,
        profile: &ClientProfile,
    ) -> Result<Peer, UpstreamError> {
        let notes = self.sink(&key.principal);
        let verdict = self.verdict.load_full();
        match verdict.as_ref().map(|verdict| &verdict.kind) {
            Some(Kind::Modern(peer)) => return Ok(Peer::Modern(Arc::clone(peer))),
            Some(Kind::Legacy(url)) => match ladder::initialize(&self.env, url, headers, profile).await? {
                Init::Session(peer) => return Ok(Peer::Legacy(peer)),
                Init::Refused(refused) if !ladder::advances(&refused) && !refused.is_modern() => {
                    return Err(refused.to_upstream());
                }
                // It is not there any more, or has become modern: look again.
                Init::Refused(_) => self.verdict.store(None),
            },
            Some(Kind::Sse(url)) => match sse::open(&self.env, url, headers, Arc::clone(&notes)).await? {
                Opened::Channel(channel) => {
                    ladder::initialize_channel(&self.env, &channel, profile).await?;
                    return Ok(Peer::Channel(channel));
                }
                Opened::NotHere(_) => self.verdict.store(None),
            },
            Some(Kind::Stdio(_)) | None => {}
        }
        let (peer, url) = ladder::climb(&self.env, ladder, headers, profile, &notes).await?;
        let kind = match &peer {
            Peer::Modern(peer) => Kind::Modern(Arc::clone(peer)),
            Peer::Legacy(_) => Kind::Legacy(url),
            Peer::Channel(_) => Kind::Sse(url),
        };
        self.decide(kind);
        Ok(peer)
    }

    fn decide(&self, kind: Kind) -> Arc<Verdict> {
        let verdict = Arc::new(Verdict { kind, at_ms: AtomicI64::new(self.env.clock.now_ms()) });
        self.verdict.store(Some(Arc::clone(&verdict)));
        verdict
    }

    /// The era of a local server, probed once for all who wait. The probe goes on when the
    /// caller gives up: otherwise a slow program would never get a verdict.
    async fn stdio_verdict(self: &Arc<Self>) -> Result<Arc<Verdict>, UpstreamError> {
        let server = Arc::clone(self);
        let probe = tokio::spawn(async move {
            let _one = Arc::clone(&server.probing).lock_owned().await;
            if let Some(verdict) = server.verdict.load_full() {
                return Ok(verdict);
            }
            let Ok(Plan::Stdio(recipe)) = &server.plan else {
                return Err(UpstreamError::unavailable("not a local server"));
            };
            server.wait_for_restart().await?;
            let era = server.probe_stdio(recipe).await.inspect_err(|error| {
                server.restarts().failed();
                server.breaker.failed(error);
            })?;
            Ok(server.decide(Kind::Stdio(era)))
        });
        probe.await.map_err(|_| UpstreamError::unavailable("the probe was stopped"))?
    }

    async fn probe_stdio(&self, recipe: &Recipe) -> Result<Era, UpstreamError> {
        let permit = self.process_permit().await?;
        Ok(match stdio::probe(&self.env, recipe, permit).await? {
            stdio::Probe::Modern => Era::Modern,
            stdio::Probe::Legacy => Era::Legacy,
        })
    }

    async fn process_permit(&self) -> Result<tokio::sync::OwnedSemaphorePermit, UpstreamError> {
        let processes = &self.env.processes;
        if let Ok(permit) = Arc::clone(processes).try_acquire_owned() {
            return Ok(permit);
        }
        self.env.evict_idle_process();
        match tokio::time::timeout(SLOT_WAIT, Arc::clone(processes).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(UpstreamError::unavailable("too many local processes")),
        }
    }

    /// Local servers that ended by themselves are not started again at once.
    async fn wait_for_restart(&self) -> Result<(), UpstreamError> {
        let left = self.restarts().left();
        if left > SHORT_WAIT {
            let seconds = left.as_secs() + 1;
            let why = "the program ended several times; waiting before the next start".to_owned();
            return Err(UpstreamError::Unavailable { why, retry_after_s: Some(seconds) });
        }
        tokio::time::sleep(left).await;
        Ok(())
    }

    async fn establish_stdio(
        &self,
        recipe: &Recipe,
        key: &Key,
        profile: &ClientProfile,
    ) -> Result<Peer, UpstreamError> {
        self.wait_for_restart().await?;
        let era = match self.verdict.load_full().as_ref().map(|verdict| &verdict.kind) {
            Some(Kind::Stdio(era)) => *era,
            _ => return Err(UpstreamError::unavailable("the server's era is not known any more; try again")),
        };
        let permit = self.process_permit().await?;
        let started = stdio::start(&self.env, recipe, permit, era, self.sink(&key.principal)).await;
        let channel = started.inspect_err(|_| {
            self.restarts().failed();
        })?;
        self.watch_life(&channel);
        let stop = channel.stop.clone().drop_guard();
        match era {
            Era::Modern => channel.set_said(stdio::discover(&self.env, &channel).await?),
            Era::Legacy => ladder::initialize_channel(&self.env, &channel, profile).await?,
        }
        stop.disarm();
        Ok(Peer::Channel(channel))
    }

    /// Counts crashes for the back-off.
    fn watch_life(&self, channel: &Arc<crate::channel::Channel>) {
        let (server, channel) = (self.this.clone(), Arc::clone(channel));
        tokio::spawn(async move {
            channel.gone.cancelled().await;
            let Some(server) = server.upgrade() else { return };
            if channel.crashed.load(Ordering::Acquire) {
                let mut restarts = server.restarts();
                if channel.started.elapsed() >= LIVED {
                    restarts.succeeded();
                }
                restarts.failed();
            }
        });
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

    /// Checks a verdict of yesterday in the background; calls go on with it meanwhile.
    fn recheck_when_old(self: &Arc<Self>, verdict: &Verdict) {
        let age = self.env.clock.now_ms().saturating_sub(verdict.at_ms.load(Ordering::Relaxed));
        if age > VERDICT_MS {
            self.recheck();
        }
    }

    /// Something did not fit the verdict: checks it, at most once a minute.
    pub(crate) fn doubt(self: &Arc<Self>) {
        if let Some(verdict) = self.verdict.load_full() {
            let age = self.env.clock.now_ms().saturating_sub(verdict.at_ms.load(Ordering::Relaxed));
            if age > RECHECK_MS {
                self.recheck();
            }
        }
    }

    fn recheck(self: &Arc<Self>) {
        if self.rechecking.swap(true, Ordering::AcqRel) {
            return;
        }
        let server = Arc::clone(self);
        tokio::spawn(async move {
            let checking = server.recheck_now();
            let done = tokio::time::timeout(START, checking).await;
            if let Ok(Err(error)) = done {
                tracing::debug!(server = %server.spec.id, %error, "re-probe failed; the verdict stays");
            }
            server.rechecking.store(false, Ordering::Release);
        });
    }

    async fn recheck_now(&self) -> Result<(), UpstreamError> {
        let Some(verdict) = self.verdict.load_full() else { return Ok(()) };
        // Whatever comes of it, the next check is not before a minute has passed.
        let now = self.env.clock.now_ms();
        verdict.at_ms.store(now.saturating_sub(VERDICT_MS - RECHECK_MS), Ordering::Relaxed);
        let (Ok(plan), kind) = (&self.plan, &verdict.kind) else { return Ok(()) };
        let still = match (plan, kind) {
            (Plan::Stdio(recipe), Kind::Stdio(era)) => self.probe_stdio(recipe).await? == *era,
            (Plan::Http { headers, .. }, Kind::Legacy(url)) => match ladder::probe(&self.env, url, headers).await? {
                Probe::Legacy(_) => true,
                Probe::Modern(peer) => {
                    self.decide(Kind::Modern(peer));
                    self.retire();
                    return Ok(());
                }
            },
            (Plan::Http { headers, .. }, Kind::Modern(peer)) => {
                match ladder::probe(&self.env, &peer.url, headers).await? {
                    Probe::Legacy(_) => false,
                    Probe::Modern(peer) => {
                        self.decide(Kind::Modern(peer));
                        return Ok(());
                    }
                }
            }
            // The next session climbs the ladder again.
            (Plan::Http { ladder, .. }, Kind::Sse(_)) => ladder.len() == 1,
            _ => false,
        };
        if still {
            verdict.at_ms.store(self.env.clock.now_ms(), Ordering::Relaxed);
        } else {
            self.verdict.store(None);
            self.retire();
        }
        Ok(())
    }

    /// From now on a modern server is spoken to at this revision.
    pub(crate) fn speak(&self, revision: Revision) {
        let Some(verdict) = self.verdict.load_full() else { return };
        if let Kind::Modern(peer) = &verdict.kind
            && peer.said.revision != revision
        {
            let said = Arc::new(Discovered { revision, ..(*peer.said).clone() });
            let (url, headers) = (peer.url.clone(), peer.headers.clone());
            self.decide(Kind::Modern(Arc::new(ModernHttp { url, headers, said, said_at: peer.said_at })));
        }
    }

    /// The next session looks for the transport again.
    pub(crate) fn forget_verdict(&self) {
        self.verdict.store(None);
    }

    /// What a modern server says about itself now, when what it said before is too old.
    pub(crate) async fn refresh(&self, peer: &Arc<ModernHttp>) -> Result<Arc<Discovered>, UpstreamError> {
        if peer.is_fresh() {
            return Ok(Arc::clone(&peer.said));
        }
        match ladder::probe(&self.env, &peer.url, &peer.headers).await? {
            Probe::Modern(peer) => {
                self.decide(Kind::Modern(Arc::clone(&peer)));
                Ok(Arc::clone(&peer.said))
            }
            Probe::Legacy(_) => {
                self.forget_verdict();
                Err(UpstreamError::unavailable("the server changed its protocol; try again"))
            }
        }
    }

    /// Lets go of all sessions; calls under way keep theirs until they end.
    pub(crate) fn retire(&self) {
        let pools: Vec<_> = self.pools().drain().map(|(_, pool)| pool).collect();
        for peer in pools.iter().flat_map(|pool| pool.sweep(|_| false)) {
            self.end_when_unused(peer);
        }
    }

    fn end_when_unused(&self, peer: Peer) {
        let env = Arc::clone(&self.env);
        let ending = async move {
            match peer {
                Peer::Modern(_) => {}
                Peer::Legacy(peer) => ladder::end_session(&env, &peer).await,
                Peer::Channel(channel) => {
                    let last = Instant::now() + env.call_time();
                    while channel.idle_since().is_none() && channel.is_open() && Instant::now() < last {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                    channel.stop.cancel();
                }
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

    /// The idle local process that waits longest.
    pub(crate) fn idlest_process(&self) -> Option<(Instant, Arc<crate::channel::Channel>)> {
        let pools: Vec<_> = self.pools().values().cloned().collect();
        let channels = pools.iter().flat_map(|pool| pool.channels());
        let idle = channels.filter(|channel| channel.is_process() && !channel.busy.load(Ordering::Acquire));
        idle.filter_map(|channel| Some((channel.idle_since()?, channel))).min_by_key(|(since, _)| *since)
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
            probed_ms: verdict.map(|verdict| verdict.at_ms.load(Ordering::Relaxed)),
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
    peer.used().is_some_and(|used| now.saturating_duration_since(used) > limit)
}

/// Marks a session as ended by the server.
pub(crate) fn lost(peer: &LegacyHttp) {
    peer.dead.store(true, Ordering::Release);
}
