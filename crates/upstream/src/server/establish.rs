//! Opening sessions.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bartizan_model::Era;
use bartizan_wire::ClientProfile;
use http::HeaderMap;

use super::Server;
use super::verdict::Kind;
use crate::channel::sse::{self, Opened};
use crate::channel::{Channel, stdio};
use crate::error::UpstreamError;
use crate::exchange::ladder::{self, Init};
use crate::peer::Peer;
use crate::plan::{Candidate, Plan};
use crate::slots::Key;
use crate::spawn::Recipe;

/// Time for starting a local server, probe included.
pub(super) const START: Duration = Duration::from_secs(60);
/// A restart that is due sooner than this is waited for.
const SHORT_WAIT: Duration = Duration::from_secs(2);
/// A process that lived this long was no failed start.
pub(super) const LIVED: Duration = Duration::from_secs(60);

impl Server {
    /// Makes a session, or finds that none is needed. Runs in a task of its own.
    pub(crate) async fn establish(
        &self,
        key: &Key,
        caller: &Arc<str>,
        profile: &ClientProfile,
    ) -> Result<Peer, UpstreamError> {
        let plan = self.plan.as_ref().map_err(Clone::clone)?;
        if self.stop.is_cancelled() {
            return Err(UpstreamError::unavailable("the server's configuration changed; try again"));
        }
        let made = match plan {
            Plan::Http { ladder, headers } => {
                let establishing = self.establish_http(ladder, headers, key, profile);
                tokio::time::timeout(self.env.list_time(), establishing).await
            }
            Plan::Stdio(recipe) => {
                tokio::time::timeout(START, self.establish_stdio(recipe, key, caller, profile)).await
            }
        };
        let made = made.unwrap_or(Err(UpstreamError::Timeout));
        match &made {
            Ok(_) => self.breaker.succeeded(),
            // What a process of one's own does shows nothing about others: see `establish_stdio`.
            Err(error) if matches!(plan, Plan::Http { .. }) => self.breaker.failed(error),
            Err(_) => {}
        }
        made
    }

    async fn establish_http(
        &self,
        ladder: &[Candidate],
        headers: &HeaderMap,
        key: &Key,
        profile: &ClientProfile,
    ) -> Result<Peer, UpstreamError> {
        let notes = self.sink(&key.principal);
        // While nothing is known one session finds out for all.
        let mut finding = match self.verdict.load().is_none() {
            true => Some(self.probing.lock().await),
            false => None,
        };
        let verdict = self.verdict.load_full();
        if verdict.is_some() {
            finding = None;
        }
        match verdict.as_ref().map(|verdict| &verdict.kind) {
            Some(Kind::Modern(peer)) => return Ok(Peer::Modern(Arc::clone(peer))),
            Some(Kind::Legacy(url)) => match ladder::introduce(&self.env, url, headers, profile).await? {
                Init::Session(peer) => return Ok(Peer::Legacy(peer)),
                Init::NotThisClient(refused) => return Err(refused.to_upstream()),
                Init::Refused(refused) if !ladder::advances(&refused) && !refused.is_modern() => {
                    return Err(refused.to_upstream());
                }
                // It is not there any more, or has become modern: look again.
                Init::Refused(_) => self.verdict.store(None),
            },
            Some(Kind::Sse(url)) => match sse::open(&self.env, url, headers, Arc::clone(&notes)).await? {
                Opened::Channel(channel) => {
                    ladder::initialize_channel(&self.env, &channel, profile).await?;
                    self.watch_stream(&channel);
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
            Peer::Channel(channel) => {
                self.watch_stream(channel);
                Kind::Sse(url)
            }
        };
        self.decide(kind);
        drop(finding);
        Ok(peer)
    }

    /// Local servers that ended by themselves are not started again at once.
    pub(super) async fn wait_for_restart(&self, owner: &str) -> Result<(), UpstreamError> {
        let left = self.restart_pause(owner);
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
        caller: &Arc<str>,
        profile: &ClientProfile,
    ) -> Result<Peer, UpstreamError> {
        self.wait_for_restart(&key.principal).await?;
        let era = match self.verdict.load_full().as_ref().map(|verdict| &verdict.kind) {
            Some(Kind::Stdio(era)) => *era,
            _ => return Err(UpstreamError::unavailable("the server's era is not known any more; try again")),
        };
        let permit = self.env.processes.permit(Some(caller)).await?;
        let started = stdio::start(&self.env, recipe, permit, era, self.sink(&key.principal)).await;
        let channel = started.inspect_err(|error| {
            self.crashed(&key.principal, Duration::ZERO);
            self.breaker.failed(error);
        })?;
        let _ = channel.opener.set(Arc::clone(caller));
        self.watch_life(&channel, key, *caller != key.principal);
        let stop = channel.stop.clone().drop_guard();
        match era {
            Era::Modern => channel.set_said(stdio::discover(&self.env, &channel).await?),
            Era::Legacy => ladder::initialize_channel(&self.env, &channel, profile).await?,
        }
        stop.disarm();
        Ok(Peer::Channel(channel))
    }

    /// Counts crashes, each once however many calls it cuts off: for the back-off, and where all
    /// share the process for the circuit too.
    fn watch_life(&self, channel: &Arc<Channel>, key: &Key, shared: bool) {
        let (server, channel, owner) = (self.this.clone(), Arc::clone(channel), Arc::clone(&key.principal));
        tokio::spawn(async move {
            channel.gone.cancelled().await;
            let Some(server) = server.upgrade() else { return };
            if channel.crashed.load(Ordering::Acquire) {
                server.crashed(&owner, channel.started.elapsed());
                if shared {
                    server.breaker.failed(&UpstreamError::unavailable("the program ended"));
                }
            }
        });
    }

    /// The same for an event stream that broke under its calls.
    fn watch_stream(&self, channel: &Arc<Channel>) {
        let (server, channel) = (self.this.clone(), Arc::clone(channel));
        tokio::spawn(async move {
            channel.gone.cancelled().await;
            if let Some(server) = server.upgrade()
                && channel.crashed.load(Ordering::Acquire)
            {
                server.breaker.failed(&UpstreamError::unavailable("the event stream broke"));
            }
        });
    }
}
