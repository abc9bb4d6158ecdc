//! Ways to upstream MCP servers (feature rows P4, P7, P8, P10, P31, P32, P35).
//!
//! Responsible for: Streamable HTTP in both eras, HTTP+SSE, local stdio processes; which
//! era and transport a server speaks; pooled sessions, deadlines, circuit breaker, whole
//! lists, streams outside of calls. Must never: open a session per call, let one server
//! harm another, repeat a call whose outcome is unknown, or look into what it carries
//! beyond the protocol's own members.

mod backoff;
mod breaker;
mod call;
mod channel;
mod env;
mod error;
mod exchange;
mod handshake;
mod lines;
mod list;
mod notes;
mod peer;
mod plan;
mod processes;
mod questions;
mod server;
mod slots;
mod spawn;
mod types;
mod watch;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bartizan_model::ServerId;
use bartizan_wire::ClientProfile;
use tokio::sync::broadcast;
use tokio::time::Instant;

pub use call::UpstreamCall;
pub use env::UpstreamDeps;
pub use error::UpstreamError;
pub use types::{
    Authority, CallRequest, Discovered, ListKind, ListResult, Outgoing, Resume, ServerHealth, ServerNote, Shown,
    Target, UpstreamEvent, UpstreamReply,
};

use channel::Channel;
use env::Env;
use peer::Peer;
use server::Server;

/// How often unused sessions and processes are looked for.
const SWEEP: Duration = Duration::from_secs(30);
/// What was kept for the authority of one principal goes after this long without use.
const PERSONAL_IDLE: Duration = Duration::from_secs(35 * 60);
/// Longest orderly end of everything.
const SHUTDOWN: Duration = Duration::from_secs(10);

/// All upstream servers. Cheap to clone; the last clone to go ends every process.
#[derive(Clone)]
pub struct Upstreams {
    inner: Arc<Inner>,
}

struct Inner {
    env: Arc<Env>,
    servers: Mutex<HashMap<ServerId, OfServer>>,
    sweeping: std::sync::Once,
}

/// One for all who show the server's own credential, and one for each principal with an
/// authority of its own.
type OfServer = HashMap<Option<Arc<str>>, Arc<Server>>;

impl Inner {
    fn servers(&self) -> MutexGuard<'_, HashMap<ServerId, OfServer>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self) -> Vec<Arc<Server>> {
        self.servers().values().flat_map(HashMap::values).cloned().collect()
    }
}

impl Inner {
    /// Lets go of what was kept for principals who have not come for long.
    fn forget_idle(&self, now: Instant) {
        let idle = |whose: &Option<Arc<str>>, server: &Arc<Server>| {
            let since = now.saturating_duration_since(server.used());
            let unused = Arc::strong_count(server) == 1 && since > PERSONAL_IDLE;
            whose.as_ref().is_some_and(|whose| unused && !server.watchers.is_watched(whose))
        };
        let mut servers = self.servers();
        let mut gone = Vec::new();
        for of in servers.values_mut() {
            gone.extend(of.extract_if(|whose, server| idle(whose, server)).map(|(_, server)| server));
        }
        drop(servers);
        for server in gone {
            server.stop.cancel();
            server.retire();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.env.stop.cancel();
    }
}

impl Upstreams {
    /// Nothing is contacted until it is needed.
    pub fn new(deps: UpstreamDeps) -> Self {
        let inner = Arc::new_cyclic(|this: &Weak<Inner>| {
            let env = Arc::new(Env::new(deps));
            let this = this.clone();
            let _ = env.processes.evict.set(Box::new(move |caller| {
                if let Some(inner) = this.upgrade() {
                    evict_idlest(&inner, caller);
                }
            }));
            Inner { env, servers: Mutex::default(), sweeping: std::sync::Once::new() }
        });
        Self { inner }
    }

    /// The state of a server; a changed specification begins anew.
    fn server(&self, target: &Target) -> Arc<Server> {
        self.inner.sweeping.call_once(|| {
            tokio::spawn(sweep(Arc::downgrade(&self.inner)));
        });
        let personal = target.authority.as_ref().filter(|authority| !authority.is_shared());
        let whose = personal.map(|_| Arc::clone(&target.principal));
        let mut servers = self.inner.servers();
        if let Some(server) = servers.get(&target.spec.id).and_then(|of| of.get(&whose))
            && server.spec.version == target.spec.version
        {
            server.touch();
            if let Some(authority) = personal {
                server.env.replace_authority(authority);
            }
            return Arc::clone(server);
        }
        let env = match &target.authority {
            Some(authority) => Arc::new(self.inner.env.in_the_name_of(authority)),
            None => Arc::clone(&self.inner.env),
        };
        let server = Server::new(Arc::clone(&target.spec), env);
        let of = servers.entry(target.spec.id.clone()).or_default();
        let old: Vec<_> = of.extract_if(|_, known| known.spec.version != target.spec.version).collect();
        of.insert(whose, Arc::clone(&server));
        drop(servers);
        for (_, old) in old {
            old.stop.cancel();
            old.retire();
        }
        server
    }

    /// Sends a request; the call is under way when this returns.
    ///
    /// # Errors
    /// [`UpstreamError`] when nothing was sent or the head of the answer refuses it.
    pub async fn call(&self, target: &Target, request: CallRequest) -> Result<UpstreamCall, UpstreamError> {
        let server = self.server(target);
        let pass = server.breaker.admit()?;
        let env = &server.env;
        let options = call::Options { raw: false, time: env.call_time(), limit: env.call_max(), refresh: true };
        let call = call::open(&server, &target.who(), request, options).await?;
        Ok(call.with(pass))
    }

    /// What the server says about itself.
    ///
    /// # Errors
    /// [`UpstreamError`] when it cannot be asked.
    pub async fn discover(
        &self,
        target: &Target,
        profile: &Arc<ClientProfile>,
    ) -> Result<Arc<Discovered>, UpstreamError> {
        let server = self.server(target);
        let _pass = server.breaker.admit()?;
        let asking = async {
            match server.lease(&target.who(), profile, false).await?.peer {
                Peer::Modern(peer) => server.refresh(&peer).await,
                peer => peer.said().ok_or_else(|| UpstreamError::protocol("the server said nothing about itself")),
            }
        };
        tokio::time::timeout(server.env.list_time(), asking).await.unwrap_or(Err(UpstreamError::Timeout))
    }

    /// A whole list, all pages, within the list time (P31, P32).
    ///
    /// # Errors
    /// [`UpstreamError`]; a list is whole or not there at all.
    pub async fn list(
        &self,
        target: &Target,
        kind: ListKind,
        profile: &Arc<ClientProfile>,
    ) -> Result<ListResult, UpstreamError> {
        list::list(&self.server(target), &target.who(), kind, profile).await
    }

    /// Notes outside of calls. The stream upstream is shared and stays while there are receivers;
    /// the receiver ends when the server's specification changes.
    pub fn watch(&self, target: &Target) -> broadcast::Receiver<ServerNote> {
        watch::Watchers::watch(&self.server(target), &target.principal)
    }

    /// Subscribes to a resource; counted, so each needs its own [`Self::unsubscribe`].
    ///
    /// # Errors
    /// [`UpstreamError`] when the server offers no subscriptions or refuses this one.
    pub async fn subscribe(&self, target: &Target, uri: &str) -> Result<(), UpstreamError> {
        watch::Watchers::subscribe(&self.server(target), &target.principal, uri).await
    }

    /// Takes a subscription back; unknown ones are ignored.
    ///
    /// # Errors
    /// [`UpstreamError`] when the server could not be told.
    pub async fn unsubscribe(&self, target: &Target, uri: &str) -> Result<(), UpstreamError> {
        watch::Watchers::unsubscribe(&self.server(target), &target.principal, uri).await
    }

    /// Forgets a server: its sessions and processes end when the calls on them have.
    pub fn forget(&self, server: &ServerId) {
        let gone = self.inner.servers().remove(server);
        for server in gone.iter().flat_map(HashMap::values) {
            server.stop.cancel();
            server.retire();
        }
    }

    /// The state of every server contacted so far, by id.
    pub fn status(&self) -> Vec<ServerHealth> {
        let mut used = self.inner.all();
        used.sort_by_key(|server| (server.spec.id.clone(), Reverse(server.used())));
        let mut all: Vec<ServerHealth> = Vec::new();
        for health in used.iter().map(|server| server.health()) {
            match all.last_mut() {
                // Many principals with authorities of their own are one line: the latest.
                Some(last) if last.server == health.server => last.sessions += health.sessions,
                _ => all.push(health),
            }
        }
        all
    }

    /// Ends all sessions and processes; at most ten seconds.
    pub async fn shutdown(&self) {
        let servers: Vec<_> = self.inner.servers().drain().flat_map(|(_, of)| of.into_values()).collect();
        let endings = servers.iter().map(|server| async {
            server.stop.cancel();
            server.close().await;
        });
        let _ = tokio::time::timeout(SHUTDOWN, futures_util::future::join_all(endings)).await;
        self.inner.env.stop.cancel();
    }
}

async fn sweep(inner: Weak<Inner>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let Some(inner) = inner.upgrade() else { return };
        let now = Instant::now();
        for server in inner.all() {
            server.sweep(now);
        }
        inner.forget_idle(now);
    }
}

/// Ends the process that is idle longest: of this caller, or of those who have most.
fn evict_idlest(inner: &Inner, caller: Option<&str>) {
    let all: Vec<_> = inner.all().iter().flat_map(|server| server.processes()).collect();
    let opener = |channel: &Channel| channel.opener.get().cloned().unwrap_or_default();
    let mut count: HashMap<Arc<str>, usize> = HashMap::new();
    for channel in &all {
        *count.entry(opener(channel)).or_insert(0) += 1;
    }
    let idle = all.iter().filter_map(|channel| {
        let whose = opener(channel);
        let wanted = caller.is_none_or(|caller| *caller == *whose) && !channel.busy.load(Ordering::Acquire);
        let since = channel.idle_since().filter(|_| wanted)?;
        Some(((Reverse(count.get(&whose).copied()), since), channel))
    });
    if let Some((_, channel)) = idle.min_by_key(|(order, _)| *order) {
        channel.stop.cancel();
    }
}
