//! What servers say outside of calls, for everybody who listens (feature row P10).
//! One upstream subscription serves all listeners that the upstream cannot tell
//! apart; a changed list is dropped from the cache before anybody hears of it.

mod hub;

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bartizan_catalog::{ServerSpec, uri};
use bartizan_model::{Era, ServerId, ToolClass};
use bartizan_policy::{Action, Approval, Asks, Query};
use bartizan_upstream::{ListKind, ServerNote};
use bartizan_wire::RawJson;
use bartizan_wire::listen::Filter;
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::Instant;

use crate::admit;
use crate::call::{CallReply, Caller, Endpoint, Unknown};
use crate::gate::{Access, Inner, access};
use crate::kills;
use crate::revocation::Lapse;
use crate::rewrite;
use crate::toggles::{Off, Watch, is_session};
pub(crate) use hub::{Hub, Hubs};

/// Notes a listener may be behind before the oldest are dropped.
const BEHIND: usize = 256;
/// Subscriptions asked for at once.
const AT_ONCE: usize = 32;
/// Time in which the subscriptions of a new listener are made; the rest is not accepted.
const PATIENCE: Duration = Duration::from_secs(5);
/// Commands of a listener under way.
const COMMANDS: usize = 8;

/// Something to tell a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// JSON-RPC method of the notification.
    pub method: Arc<str>,
    /// Its params, with the URIs of the endpoint.
    pub params: Option<RawJson>,
}

enum Command {
    /// A resource, whether to count it as a request, and who waits for the outcome.
    Add(String, bool, oneshot::Sender<Result<bool, CallReply>>),
    Remove(String),
}

/// One listener. Dropping it ends its part of every upstream subscription.
#[derive(Debug)]
pub struct Subscription {
    accepted: Filter,
    notes: mpsc::Receiver<Note>,
    commands: mpsc::Sender<Command>,
}

impl Subscription {
    /// What of the filter was accepted.
    pub fn accepted(&self) -> &Filter {
        &self.accepted
    }

    /// The next note; `None` when the endpoint or the caller's authority is gone or the gate closes. Safe to drop
    /// while waiting.
    pub async fn next(&mut self) -> Option<Note> {
        self.notes.recv().await
    }

    /// A way to change what is listened to, which can be kept elsewhere.
    pub fn control(&self) -> SubscriptionControl {
        SubscriptionControl(self.commands.clone())
    }
}

/// Changes the resources a [`Subscription`] listens to.
#[derive(Clone, Debug)]
pub struct SubscriptionControl(mpsc::Sender<Command>);

impl SubscriptionControl {
    /// Listens to one more resource. False when it is unknown, not for this caller, or
    /// its server has no subscriptions. Counts nothing: for what belongs to a request
    /// that was counted already.
    pub async fn add(&self, uri: &str) -> bool {
        self.ask(uri, false).await.unwrap_or(false)
    }

    /// `resources/subscribe`: like [`Self::add`], as a request that limits count (O11).
    ///
    /// # Errors
    /// [`CallReply::Refused`] with `rate_limited`; nothing has changed then.
    pub async fn subscribe(&self, uri: &str) -> Result<bool, CallReply> {
        self.ask(uri, true).await
    }

    async fn ask(&self, uri: &str, counted: bool) -> Result<bool, CallReply> {
        let (done, outcome) = oneshot::channel();
        // A subscription that is over accepts nothing.
        if self.0.send(Command::Add(uri.to_owned(), counted, done)).await.is_err() {
            return Ok(false);
        }
        outcome.await.unwrap_or(Ok(false))
    }

    /// Listens to one resource less.
    pub async fn remove(&self, uri: &str) {
        // A subscription that is over listens to nothing anyway.
        let _ = self.0.send(Command::Remove(uri.to_owned())).await;
    }
}

/// Opens a subscription for everything in the filter that the caller may hear.
///
/// # Errors
/// [`CallReply::NotFound`] when the endpoint is not for this caller,
/// [`CallReply::Refused`] over a limit.
pub(crate) async fn open(
    gate: &Arc<Inner>,
    endpoint: &Endpoint,
    caller: &Caller,
    filter: Filter,
) -> Result<Subscription, CallReply> {
    let now_ms = gate.clock.now_ms();
    let snapshot = gate.snapshot.load_full();
    if access(&snapshot, &caller.principal, endpoint, &caller.context(now_ms)) != Access::Allowed {
        let event_id = bartizan_model::EventId::new(now_ms);
        return Err(CallReply::NotFound { what: Unknown::Endpoint, event_id });
    }
    // A legacy session listens once, whatever its streams do; its requests are counted
    // one by one.
    if caller.profile.era == Era::Modern {
        admit::run(gate, endpoint, caller, "subscriptions/listen").await?;
    } else if let Some(stop) = gate.kills.stops(caller, endpoint).await {
        return Err(CallReply::Refused(kills::refusal(&stop, bartizan_model::EventId::new(now_ms))));
    }
    let (sender, notes) = mpsc::channel(BEHIND);
    let (commands, orders) = mpsc::channel(COMMANDS);
    let mut listener = Listener {
        gate: Arc::clone(gate),
        endpoint: endpoint.clone(),
        caller: caller.clone(),
        filter: Filter { uris: Vec::new(), task_ids: Vec::new(), ..filter.clone() },
        hubs: HashMap::new(),
        uris: HashMap::new(),
        sender,
    };
    let watch = caller.selection.holder.as_ref().map(|holder| gate.states.watch(holder));
    // What was switched while the caller came here.
    let _ = listener.switched().await;
    listener.attach();
    let uris = listener.add_all(filter.uris).await;
    let accepted = Filter { uris, ..listener.filter.clone() };
    let accepted = listener.within(accepted).await;
    let snapshots = gate.hubs.snapshots();
    let closing = gate.closing.clone();
    gate.tasks.spawn(async move {
        let mut lapse = Lapse::of(&listener.caller.revocation);
        lapse.add(&listener.gate.kills.revocation(&listener.caller, &listener.endpoint, None));
        tokio::select! {
            () = listener.run(orders, snapshots, watch) => {}
            _ = lapse.ended() => {}
            () = closing.cancelled() => {}
        }
        listener.detach().await;
    });
    Ok(Subscription { accepted, notes, commands })
}

/// The task behind a [`Subscription`].
struct Listener {
    gate: Arc<Inner>,
    endpoint: Endpoint,
    caller: Caller,
    filter: Filter,
    hubs: HashMap<ServerId, Arc<Hub>>,
    /// Exposed URI → server and original URI.
    uris: HashMap<String, (Arc<Hub>, String)>,
    sender: mpsc::Sender<Note>,
}

type Heard = (ServerId, Result<Arc<ServerNote>, broadcast::error::RecvError>, broadcast::Receiver<Arc<ServerNote>>);
type Ear = Pin<Box<dyn Future<Output = Heard> + Send>>;

fn ear(server: ServerId, mut receiver: broadcast::Receiver<Arc<ServerNote>>) -> Ear {
    Box::pin(async move {
        let heard = receiver.recv().await;
        (server, heard, receiver)
    })
}

async fn changed(watch: Option<&mut Watch>) {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

impl Listener {
    /// Joins the hubs of all servers the caller may use now, leaves the others.
    fn attach(&mut self) {
        let now_ms = self.gate.clock.now_ms();
        let snapshot = self.gate.snapshot.load_full();
        let servers = self.gate.servers_for(&snapshot, &self.endpoint, &self.caller, now_ms);
        let off = |spec: &ServerSpec| self.endpoint.portal().is_some() && self.caller.selection.off.contains(&spec.id);
        let enabled: Vec<&Arc<ServerSpec>> =
            servers.iter().filter(|spec| self.gate.is_on(spec, now_ms) && !off(spec)).collect();
        self.hubs.retain(|id, hub| enabled.iter().any(|spec| spec.id == *id && spec.version == hub.spec.version));
        for spec in enabled {
            if !self.hubs.contains_key(&spec.id) {
                let hub = self.gate.hubs.join(&self.gate, spec, &self.caller.principal);
                self.hubs.insert(spec.id.clone(), hub);
            }
        }
    }

    /// On a server endpoint nothing is promised that the server does not do. A portal
    /// changes by itself, so it can always tell of lists.
    async fn within(&self, filter: Filter) -> Filter {
        let Endpoint::Server(id) = &self.endpoint else { return filter };
        let Some(hub) = self.hubs.get(id) else { return Filter::default() };
        match self.gate.upstreams.discover(&hub.target, &self.caller.profile).await {
            Ok(discovered) => filter.within(&discovered.capabilities),
            Err(_) => filter,
        }
    }

    /// Exposed URI → server and original URI, when the caller may read it.
    async fn resolve(&self, exposed: &str) -> Option<(Arc<Hub>, String)> {
        let (server, original) = match &self.endpoint {
            Endpoint::Server(id) => (id.clone(), exposed.to_owned()),
            Endpoint::Portal(_) => uri::unwrap(exposed)?,
        };
        let hub = self.hubs.get(&server)?;
        let snapshot = self.gate.snapshot.load_full();
        let spec = snapshot.servers.get(&server)?;
        let portal = self.endpoint.portal().and_then(|id| snapshot.portals.get(id));
        if !spec.resources_for(portal.map(|portal| &**portal), &self.caller.principal) {
            return None;
        }
        let decide = |name: &str| {
            let decision = snapshot.policies.decide(&Query {
                principal: &self.caller.principal,
                action: Action::ReadResource,
                portal: self.endpoint.portal(),
                server: Some(&server),
                name,
                class: ToolClass::Read,
                context: &self.caller.context(self.gate.clock.now_ms()),
                args: None,
            });
            (decision.allow && spec.resource_enabled(name)).then_some(decision.approvals)
        };
        // As for a read: no other spelling passes a rule.
        let mut approvals = decide(&original)?;
        approvals.append(&mut decide(&uri::normal(&original))?);
        for approval in &approvals {
            if !self.is_let_in(approval).await {
                return None;
            }
        }
        Some((Arc::clone(hub), original))
    }

    /// Whether somebody let the caller in for a while, and that lasts. What wants each read approved is not
    /// subscribed to: nobody can approve what will be told later.
    async fn is_let_in(&self, approval: &Approval) -> bool {
        let (Asks::Entry { .. }, Some(approvals)) = (&approval.asks, self.gate.approvals.get()) else { return false };
        approvals.entered(&self.caller.principal, approval).await.is_ok_and(|until| until.is_some())
    }

    async fn add(&mut self, exposed: &str, counted: bool) -> Result<bool, CallReply> {
        if counted {
            admit::run(&self.gate, &self.endpoint, &self.caller, "resources/subscribe").await?;
        }
        if self.uris.contains_key(exposed) {
            return Ok(true);
        }
        let Some((hub, original)) = self.resolve(exposed).await else { return Ok(false) };
        if self.gate.upstreams.subscribe(&hub.target, &original).await.is_err() {
            return Ok(false);
        }
        self.uris.insert(exposed.to_owned(), (hub, original));
        Ok(true)
    }

    /// Adds as many as the servers accept in time; the client is told which.
    async fn add_all(&mut self, wanted: Vec<String>) -> Vec<String> {
        let until = Instant::now() + PATIENCE;
        let mut accepted = Vec::new();
        for some in wanted.chunks(AT_ONCE) {
            if Instant::now() >= until {
                break;
            }
            let (upstreams, this) = (&self.gate.upstreams, &*self);
            let adding = some.iter().map(|exposed| async move {
                let (hub, original) = this.resolve(exposed).await?;
                let added = upstreams.subscribe(&hub.target, &original).await.is_ok();
                added.then(|| (exposed.clone(), (hub, original)))
            });
            let added: Vec<_> = join_all(adding).await.into_iter().flatten().collect();
            for (exposed, target) in added {
                if let Some((hub, original)) = self.uris.insert(exposed.clone(), target) {
                    // Named twice: counted once.
                    let _ = self.gate.upstreams.unsubscribe(&hub.target, &original).await;
                } else {
                    accepted.push(exposed);
                }
            }
        }
        accepted
    }

    async fn remove(&mut self, exposed: &str) {
        if let Some((hub, original)) = self.uris.remove(exposed) {
            // Nobody waits for it, and the upstream forgets it with the session.
            let _ = self.gate.upstreams.unsubscribe(&hub.target, &original).await;
        }
    }

    async fn detach(&mut self) {
        for exposed in self.uris.keys().cloned().collect::<Vec<_>>() {
            self.remove(&exposed).await;
        }
        self.hubs.clear();
    }

    async fn run(
        &mut self,
        mut orders: mpsc::Receiver<Command>,
        mut snapshots: tokio::sync::watch::Receiver<u64>,
        mut watch: Option<Watch>,
    ) {
        let mut ears: FuturesUnordered<Ear> = self.hubs.iter().map(|(id, hub)| ear(id.clone(), hub.listen())).collect();
        loop {
            tokio::select! {
                heard = ears.next(), if !ears.is_empty() => {
                    let Some((server, heard, receiver)) = heard else { continue };
                    match heard {
                        Ok(note) => self.hear(&server, &note).await,
                        Err(broadcast::error::RecvError::Lagged(_)) => {}
                        Err(broadcast::error::RecvError::Closed) => continue,
                    }
                    if self.hubs.contains_key(&server) {
                        ears.push(ear(server, receiver));
                    }
                }
                order = orders.recv() => match order {
                    Some(Command::Add(uri, counted, done)) => {
                        let _ = done.send(self.add(&uri, counted).await);
                    }
                    Some(Command::Remove(uri)) => self.remove(&uri).await,
                    None => return,
                },
                changed = snapshots.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.look_again(&mut ears).await;
                }
                () = changed(watch.as_mut()) => match self.switched().await {
                    Some(true) => self.look_again(&mut ears).await,
                    Some(false) => {}
                    None => return,
                },
                () = self.sender.closed() => return,
            }
        }
    }

    /// Takes in what is switched off now; true when that changed. None when the session
    /// it belongs to has ended. What the store cannot tell stays as it was: it decides
    /// nothing here but which notes are heard.
    async fn switched(&mut self) -> Option<bool> {
        let Some(holder) = &self.caller.selection.holder else { return Some(false) };
        let off = match self.gate.states.get(holder).await {
            Ok(Some(state)) => Arc::clone(&state.off),
            Ok(None) if is_session(holder) => return None,
            Ok(None) => Off::default(),
            Err(_) => return Some(false),
        };
        let changed = off != self.caller.selection.off;
        self.caller.selection.off = off;
        Some(changed)
    }

    /// The servers, what they list, or who may use them changed.
    async fn look_again(&mut self, ears: &mut FuturesUnordered<Ear>) {
        let before: Vec<ServerId> = self.hubs.keys().cloned().collect();
        self.attach();
        for (id, hub) in self.hubs.iter().filter(|(id, _)| !before.contains(id)) {
            ears.push(ear(id.clone(), hub.listen()));
        }
        // What the new rules forbid or switched off is not heard any longer.
        for uri in self.uris.keys().cloned().collect::<Vec<_>>() {
            if self.resolve(&uri).await.is_none() {
                self.remove(&uri).await;
            }
        }
        for kind in [ListKind::Tools, ListKind::Prompts, ListKind::Resources] {
            self.list_changed(kind);
        }
    }

    async fn hear(&mut self, server: &ServerId, note: &ServerNote) {
        match note {
            ServerNote::ListChanged(kind) => self.list_changed(*kind),
            ServerNote::ResourceUpdated { uri: original, params } => {
                let exposed = match &self.endpoint {
                    Endpoint::Server(_) => original.clone(),
                    Endpoint::Portal(_) => uri::wrap(server, original),
                };
                if self.uris.contains_key(&exposed) {
                    // Being let in may have ended since, which no new snapshot tells.
                    if self.resolve(&exposed).await.is_none() {
                        self.remove(&exposed).await;
                        return;
                    }
                    let params = match &self.endpoint {
                        Endpoint::Server(_) => params.clone(),
                        Endpoint::Portal(_) => rewrite::updated(server, params),
                    };
                    self.tell("notifications/resources/updated", Some(params));
                }
            }
            // Log messages belong to a session, so only to the one who has it.
            ServerNote::Message { method, params } => {
                let own = self.hubs.get(server).is_some_and(|hub| hub.is_of(&self.caller.principal));
                if own && self.caller.profile.era == Era::Legacy {
                    self.tell(method, params.clone());
                }
            }
        }
    }

    fn list_changed(&self, kind: ListKind) {
        let (wanted, method) = match kind {
            ListKind::Tools => (self.filter.tools, "notifications/tools/list_changed"),
            ListKind::Prompts => (self.filter.prompts, "notifications/prompts/list_changed"),
            ListKind::Resources | ListKind::Templates => {
                (self.filter.resources, "notifications/resources/list_changed")
            }
        };
        if wanted {
            self.tell(method, None);
        }
    }

    /// A listener that does not read misses notes; it never holds up the others.
    fn tell(&self, method: &str, params: Option<RawJson>) {
        if self.sender.try_send(Note { method: method.into(), params }).is_err() {
            tracing::debug!("a listener does not keep up; a note was dropped");
        }
    }
}
