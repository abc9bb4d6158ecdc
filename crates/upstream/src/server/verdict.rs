//! Which era and transport a server speaks, when that was found out, and finding it out again.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bartizan_egress::Url;
use bartizan_model::Era;
use bartizan_wire::Revision;

use super::Server;
use super::establish::START;
use crate::channel::stdio;
use crate::error::UpstreamError;
use crate::exchange::ladder::{self, Probe};
use crate::peer::ModernHttp;
use crate::plan::Plan;
use crate::spawn::Recipe;
use crate::types::Discovered;

/// Age at which a verdict is checked again (protocol reference 4.2, trap 4).
const VERDICT_MS: i64 = 24 * 3_600_000;
/// Least time between two checks that something odd asked for.
const RECHECK_MS: i64 = 60_000;

/// Owner of the processes that are only probed.
const PROBE: &str = "";

/// Which era and transport a server speaks, and when that was found out.
pub(crate) struct Verdict {
    pub(crate) kind: Kind,
    /// When it was confirmed.
    at_ms: AtomicI64,
    /// When it was last tried to confirm it.
    tried_ms: AtomicI64,
}

#[derive(Clone)]
pub(crate) enum Kind {
    Modern(Arc<ModernHttp>),
    Legacy(Url),
    Sse(Url),
    Stdio(Era),
}

impl Verdict {
    /// When it was confirmed last, Unix milliseconds.
    pub(crate) fn at_ms(&self) -> i64 {
        self.at_ms.load(Ordering::Relaxed)
    }
}

impl Server {
    pub(super) fn decide(&self, kind: Kind) -> Arc<Verdict> {
        let now = self.env.clock.now_ms();
        let verdict = Arc::new(Verdict { kind, at_ms: AtomicI64::new(now), tried_ms: AtomicI64::new(now) });
        self.verdict.store(Some(Arc::clone(&verdict)));
        verdict
    }

    /// The era of a local server, probed once for all who wait. The probe goes on when the
    /// caller gives up: otherwise a slow program would never get a verdict.
    pub(super) async fn stdio_verdict(self: &Arc<Self>) -> Result<Arc<Verdict>, UpstreamError> {
        let server = Arc::clone(self);
        let probe = tokio::spawn(async move {
            let _one = Arc::clone(&server.probing).lock_owned().await;
            if let Some(verdict) = server.verdict.load_full() {
                return Ok(verdict);
            }
            let Ok(Plan::Stdio(recipe)) = &server.plan else {
                return Err(UpstreamError::unavailable("not a local server"));
            };
            server.wait_for_restart(PROBE).await?;
            let era = server.probe_stdio(recipe).await.inspect_err(|error| {
                if error.counts_as_failure() {
                    server.crashed(&PROBE.into(), Duration::ZERO);
                    server.breaker.failed(error);
                }
            })?;
            Ok(server.decide(Kind::Stdio(era)))
        });
        probe.await.map_err(|_| UpstreamError::unavailable("the probe was stopped"))?
    }

    async fn probe_stdio(&self, recipe: &Recipe) -> Result<Era, UpstreamError> {
        let permit = self.env.processes.permit(None).await?;
        Ok(match stdio::probe(&self.env, recipe, permit).await? {
            stdio::Probe::Modern => Era::Modern,
            stdio::Probe::Legacy => Era::Legacy,
        })
    }

    /// Checks a verdict of yesterday in the background; calls go on with it meanwhile.
    pub(super) fn recheck_when_old(self: &Arc<Self>, verdict: &Verdict) {
        let now = self.env.clock.now_ms();
        if now.saturating_sub(verdict.at_ms()) > VERDICT_MS {
            self.recheck_unless_tried(verdict, now);
        }
    }

    /// Something did not fit the verdict: checks it, at most once a minute.
    pub(crate) fn doubt(self: &Arc<Self>) {
        if let Some(verdict) = self.verdict.load_full() {
            self.recheck_unless_tried(&verdict, self.env.clock.now_ms());
        }
    }

    fn recheck_unless_tried(self: &Arc<Self>, verdict: &Verdict, now: i64) {
        if now.saturating_sub(verdict.tried_ms.load(Ordering::Relaxed)) > RECHECK_MS {
            verdict.tried_ms.store(now, Ordering::Relaxed);
            self.recheck();
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
}
