//! Kill switches (feature row G24): what is stopped now, on every process. Memory is
//! believed as long as the change feed speaks; when it is silent for two seconds the store is
//! asked, and when that does not answer, everything is stopped.

mod feed;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use bartizan_model::{Clock, EventId, PortalId, Principal, PrincipalKind, ReasonCode, ServerId, fold_user_id};
use bartizan_store::feed::Freshness;
use bartizan_store::repo::kill_switch::{self, KillSwitch};
use bartizan_store::{Store, StoreError};
use futures_util::FutureExt as _;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::call::{Caller, Endpoint, Refusal};
use crate::revocation::{Ended, Revocation};
use crate::toggles::Unavailable;

/// Longest wait for the store.
const PATIENCE: Duration = Duration::from_secs(5);
/// Seconds after which a call may be tried again when the store did not answer.
pub(crate) const RETRY_S: u64 = 5;
/// Longest reason, characters.
pub(crate) const MAX_REASON: usize = 500;
/// Longest subject, characters.
const MAX_SUBJECT: usize = 512;
/// Longest time after which a switch may end by itself, milliseconds: a year.
const MAX_TIME_MS: i64 = 366 * 86_400_000;

/// Kinds of what can be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KillScope {
    /// Every call of everybody.
    Everything,
    /// One portal.
    Portal,
    /// One server.
    Server,
    /// One tool, `SERVER/TOOL` with its original name.
    Tool,
    /// One person, with the agents they answer for.
    User,
    /// Everybody in a group; agents only where the group is their own.
    Group,
    /// One client: by its OAuth id, or by the name it gives itself.
    Client,
    /// One agent (A27).
    Agent,
    /// One service token (A11).
    Service,
}

impl KillScope {
    /// All kinds.
    pub const ALL: [Self; 9] = [
        Self::Everything,
        Self::Portal,
        Self::Server,
        Self::Tool,
        Self::User,
        Self::Group,
        Self::Client,
        Self::Agent,
        Self::Service,
    ];

    /// The lower-case word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Everything => "everything",
            Self::Portal => "portal",
            Self::Server => "server",
            Self::Tool => "tool",
            Self::User => "user",
            Self::Group => "group",
            Self::Client => "client",
            Self::Agent => "agent",
            Self::Service => "service",
        }
    }

    /// The kind of a word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// Lifting takes two people.
    pub fn needs_two(self) -> bool {
        self == Self::Everything
    }
}

/// A switch that somebody wants to set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewKill {
    /// Kind of what is stopped.
    pub scope: KillScope,
    /// Which of that kind; empty for everything.
    #[serde(default)]
    pub subject: String,
    /// Why, at most 500 characters.
    pub reason: String,
    /// When it ends by itself, milliseconds since the epoch.
    #[serde(default)]
    pub until_ms: Option<i64>,
}

/// What became of a wish to lift a switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Lifted {
    /// It is lifted.
    Yes,
    /// A second person must say so too.
    AskedFirst,
}

/// Why a switch is not set or lifted.
#[derive(Debug, thiserror::Error)]
pub enum KillError {
    /// The text cannot be a subject or reason of this kind.
    #[error("{0}")]
    Invalid(&'static str),
    /// There is none of this id that is set.
    #[error("there is no such kill switch that is set")]
    Unknown,
    /// The same person cannot be the second one.
    #[error("a second person must confirm that this kill switch is lifted")]
    SamePerson,
    /// There are as many as can be.
    #[error("there are too many kill switches")]
    TooMany,
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// One switch that is set.
#[derive(Debug, PartialEq, Eq)]
struct Set {
    id: Arc<str>,
    until_ms: Option<i64>,
}

impl Set {
    fn holds(&self, now_ms: i64) -> bool {
        self.until_ms.is_none_or(|until| now_ms < until)
    }
}

/// All switches that are set.
#[derive(Debug, Default)]
pub(crate) struct Active {
    /// Grows with every change.
    generation: u64,
    /// By kind, then by subject. The word of the kind is the key of nothing else.
    sets: HashMap<KillScope, HashMap<Box<str>, Vec<Set>>>,
    /// When the first of them ends by itself.
    next_ms: Option<i64>,
}

impl Active {
    fn of(rows: Vec<KillSwitch>, generation: u64) -> Self {
        let mut active = Self { generation, ..Self::default() };
        for row in rows {
            // What this version does not know stops everything: somebody wanted something stopped.
            let (scope, subject) = match KillScope::parse(&row.scope) {
                Some(scope) => (scope, row.subject),
                None => (KillScope::Everything, String::new()),
            };
            active.next_ms = active.next_ms.into_iter().chain(row.until_ms).min();
            let set = Set { id: row.id.into(), until_ms: row.until_ms };
            active.sets.entry(scope).or_default().entry(subject.into()).or_default().push(set);
        }
        active
    }

    fn find(&self, scope: KillScope, subject: &str, now_ms: i64) -> Option<&Arc<str>> {
        let sets = self.sets.get(&scope)?.get(subject)?;
        sets.iter().find(|set| set.holds(now_ms)).map(|set| &set.id)
    }

    /// What stops this caller, whatever the target.
    fn stops_caller(&self, caller: &Stopped<'_>, now_ms: i64) -> Option<&Arc<str>> {
        if self.sets.is_empty() {
            return None;
        }
        let everything = self.find(KillScope::Everything, "", now_ms);
        let portal = || self.find(KillScope::Portal, caller.portal?.as_str(), now_ms);
        everything.or_else(portal).or_else(|| self.stops_somebody(caller, now_ms))
    }

    /// What stops this caller by who it is, wherever it goes.
    fn stops_somebody(&self, caller: &Stopped<'_>, now_ms: i64) -> Option<&Arc<str>> {
        let principal = caller.principal;
        let own = match principal.kind {
            PrincipalKind::User => Some(KillScope::User),
            PrincipalKind::Agent => Some(KillScope::Agent),
            PrincipalKind::Service => Some(KillScope::Service),
            PrincipalKind::Anonymous => None,
        };
        let named = || self.find(own?, &principal.id, now_ms);
        // Whoever answers for an agent takes it along.
        let owner = || self.find(KillScope::User, &fold_user_id(caller.owner?), now_ms);
        let group = || principal.groups.iter().find_map(|group| self.find(KillScope::Group, group, now_ms));
        let client = || {
            let ids = [caller.client_id, caller.client];
            ids.into_iter().flatten().find_map(|client| self.find(KillScope::Client, client, now_ms))
        };
        named().or_else(owner).or_else(group).or_else(client)
    }

    fn stops_target(&self, server: &ServerId, tool: Option<&str>, now_ms: i64) -> Option<&Arc<str>> {
        if self.sets.is_empty() {
            return None;
        }
        let by_server = self.find(KillScope::Server, server.as_str(), now_ms);
        by_server.or_else(|| {
            let tools = self.sets.get(&KillScope::Tool)?;
            let sets = tools.get(format!("{server}/{}", tool?).as_str())?;
            sets.iter().find(|set| set.holds(now_ms)).map(|set| &set.id)
        })
    }

    /// Servers and tools that are stopped make views different.
    pub(crate) fn hides(&self) -> bool {
        [KillScope::Server, KillScope::Tool].iter().any(|scope| self.sets.contains_key(scope))
    }

    /// Whether a server is stopped.
    pub(crate) fn hides_server(&self, server: &ServerId, now_ms: i64) -> bool {
        self.find(KillScope::Server, server.as_str(), now_ms).is_some()
    }

    /// Whether a tool is stopped, by its original name.
    pub(crate) fn hides_tool(&self, server: &ServerId, tool: &str, now_ms: i64) -> bool {
        self.stops_target(server, Some(tool), now_ms).is_some()
    }

    /// Part of the keys of views.
    pub(crate) fn view_key(&self) -> u64 {
        if self.hides() { self.generation } else { 0 }
    }
}

/// Whom a switch may stop.
struct Stopped<'a> {
    principal: &'a Principal,
    portal: Option<&'a PortalId>,
    client_id: Option<&'a str>,
    client: Option<&'a str>,
    /// Who answers for an agent.
    owner: Option<&'a str>,
}

impl<'a> Stopped<'a> {
    fn of(caller: &'a Caller, endpoint: &'a Endpoint) -> Self {
        Self {
            principal: &caller.principal,
            portal: endpoint.portal(),
            client_id: caller.circumstances.client_id.as_deref(),
            client: caller.client.as_deref(),
            owner: caller.circumstances.owner.as_deref(),
        }
    }
}

/// What a switch says about a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The caller, or where it calls: told openly.
    Caller(Arc<str>),
    /// The target, which is then not there.
    Target(Arc<str>),
    /// Nobody knows, because the store does not answer.
    Unknown,
}

impl Stop {
    /// For the record: the switch.
    pub(crate) fn rule(&self) -> Option<Arc<str>> {
        match self {
            Self::Caller(id) | Self::Target(id) => Some(format!("kill switch {id}").into()),
            Self::Unknown => Some("kill switches unknown".into()),
        }
    }
}

/// What somebody is told whom a switch stops.
pub(crate) fn refusal(stop: &Stop, event_id: EventId) -> Refusal {
    let retry_after_s = (*stop == Stop::Unknown).then_some(RETRY_S);
    let (rule, visible) = (stop.rule(), true);
    Refusal { code: ReasonCode::Killed, rule, event_id, retry_after_s, visible, message: None, url: None }
}

/// What a switch may be about in one call.
#[derive(Clone)]
struct Subject {
    caller: Caller,
    endpoint: Endpoint,
    target: Option<(ServerId, Option<Arc<str>>)>,
}

impl Subject {
    fn stop(&self, active: &Active, now_ms: i64) -> Option<Stop> {
        if let Some(id) = active.stops_caller(&Stopped::of(&self.caller, &self.endpoint), now_ms) {
            return Some(Stop::Caller(Arc::clone(id)));
        }
        let (server, tool) = self.target.as_ref()?;
        active.stops_target(server, tool.as_deref(), now_ms).map(|id| Stop::Target(Arc::clone(id)))
    }
}

/// All kill switches. Cheap to clone.
#[derive(Clone)]
pub struct Kills(Arc<Inner>);

struct Inner {
    /// Without one, nothing can be stopped here but by the configuration.
    store: Option<Store>,
    clock: Arc<dyn Clock>,
    active: ArcSwap<Active>,
    freshness: Freshness,
    /// One reader of the table at a time: an older answer must not replace a newer one.
    reading: tokio::sync::Mutex<()>,
    changed: watch::Sender<u64>,
    /// Who wants to know that lists are different now.
    listeners: Mutex<Option<Box<dyn Fn() + Send + Sync>>>,
}

impl Kills {
    /// Follows the feed of the store until it is dropped.
    pub fn new(store: Option<Store>, clock: Arc<dyn Clock>) -> Self {
        let inner = Arc::new(Inner {
            store,
            clock,
            active: ArcSwap::default(),
            freshness: Freshness::default(),
            reading: tokio::sync::Mutex::default(),
            changed: watch::Sender::new(0),
            listeners: Mutex::default(),
        });
        feed::spawn(&inner);
        Self(inner)
    }

    /// Calls this whenever something was stopped or goes on.
    pub(crate) fn on_change(&self, listener: impl Fn() + Send + Sync + 'static) {
        *self.0.listeners.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(listener));
    }

    /// What memory says, for lists: a stopped server that is still listed for a moment is
    /// refused when it is called.
    pub(crate) fn known(&self) -> Arc<Active> {
        self.0.active.load_full()
    }

    /// What holds now; the store is asked when the feed was silent.
    async fn now(&self) -> Result<Arc<Active>, ()> {
        if self.0.store.is_none() || self.0.freshness.is_fresh() {
            return Ok(self.0.active.load_full());
        }
        match tokio::time::timeout(PATIENCE, self.0.read()).await {
            Ok(Ok(active)) => Ok(active),
            Ok(Err(error)) => {
                tracing::warn!(%error, "kill switches could not be read; calls are refused");
                Err(())
            }
            Err(_) => Err(()),
        }
    }

    /// Whether a caller is stopped at an endpoint.
    pub(crate) async fn stops(&self, caller: &Caller, endpoint: &Endpoint) -> Option<Stop> {
        match self.now().await {
            Ok(active) => {
                let id = active.stops_caller(&Stopped::of(caller, endpoint), self.0.clock.now_ms());
                id.map(|id| Stop::Caller(Arc::clone(id)))
            }
            Err(()) => Some(Stop::Unknown),
        }
    }

    /// Whether somebody is stopped by who they are: a switch for them, a group of theirs or their
    /// client. What stops everything or a portal does not count: it could not be lifted by anybody
    /// then. For doors beside the gate, such as the administration.
    ///
    /// # Errors
    /// [`Unavailable`] when nobody knows, because the store does not answer.
    pub async fn stops_somebody(&self, principal: &Principal, client_id: Option<&str>) -> Result<bool, Unavailable> {
        let active = self.now().await.map_err(|()| Unavailable)?;
        let stopped = Stopped { principal, portal: None, client_id, client: None, owner: None };
        Ok(active.stops_somebody(&stopped, self.0.clock.now_ms()).is_some())
    }

    /// Whether a call is stopped.
    pub(crate) async fn stops_call(
        &self,
        caller: &Caller,
        endpoint: &Endpoint,
        target: Option<(&ServerId, Option<&str>)>,
    ) -> Option<Stop> {
        let Ok(active) = self.now().await else { return Some(Stop::Unknown) };
        let now_ms = self.0.clock.now_ms();
        if let Some(id) = active.stops_caller(&Stopped::of(caller, endpoint), now_ms) {
            return Some(Stop::Caller(Arc::clone(id)));
        }
        let (server, tool) = target?;
        active.stops_target(server, tool, now_ms).map(|id| Stop::Target(Arc::clone(id)))
    }

    /// What ends a call or a subscription that runs when a switch is set that would have
    /// stopped it.
    pub(crate) fn revocation(
        &self,
        caller: &Caller,
        endpoint: &Endpoint,
        target: Option<(ServerId, Option<Arc<str>>)>,
    ) -> Revocation {
        if self.0.store.is_none() {
            return Revocation::NEVER;
        }
        let inner = Arc::clone(&self.0);
        let subject = Subject { caller: caller.clone(), endpoint: endpoint.clone(), target };
        Revocation::new(move || {
            let (inner, subject) = (Arc::clone(&inner), subject.clone());
            let mut changed = inner.changed.subscribe();
            async move {
                loop {
                    if let Some(stop) = subject.stop(&inner.active.load(), inner.clock.now_ms()) {
                        return Ended {
                            code: ReasonCode::Killed,
                            rule: stop.rule(),
                            note: "stopped by a kill switch while it ran".into(),
                            message: None,
                        };
                    }
                    if changed.changed().await.is_err() {
                        std::future::pending::<()>().await;
                    }
                }
            }
            .boxed()
        })
    }

    /// Sets a switch: on this process at once, on the others when they hear of it.
    ///
    /// # Errors
    /// [`KillError`].
    pub async fn set(&self, new: NewKill, by: &str) -> Result<KillSwitch, KillError> {
        let now_ms = self.0.clock.now_ms();
        let row = checked(new, by, now_ms)?;
        let store = self.store()?;
        if !kill_switch::insert(store, &row).await? {
            return Err(KillError::TooMany);
        }
        self.0.read().await?;
        Ok(row)
    }

    /// Lifts a switch. Where that takes two people, the first one asks and another one
    /// confirms.
    ///
    /// # Errors
    /// [`KillError`].
    pub async fn lift(&self, id: &str, by: &str, reason: &str) -> Result<Lifted, KillError> {
        text(reason, MAX_REASON, "a reason is needed, of at most 500 characters and without control characters")?;
        let store = self.store()?;
        let now_ms = self.0.clock.now_ms();
        let row = kill_switch::get(store, id).await?.filter(|row| row.lifted_ms.is_none());
        let row = row.ok_or(KillError::Unknown)?;
        let two = KillScope::parse(&row.scope).is_none_or(KillScope::needs_two);
        if two && kill_switch::ask_to_lift(store, id, by).await? {
            return Ok(Lifted::AskedFirst);
        }
        if !kill_switch::lift(store, id, by, reason, now_ms, two).await? {
            let asked = kill_switch::get(store, id).await?.filter(|row| row.lifted_ms.is_none());
            return Err(if asked.is_some() { KillError::SamePerson } else { KillError::Unknown });
        }
        self.0.read().await?;
        Ok(Lifted::Yes)
    }

    /// The newest switches, also those that were lifted.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn list(&self, limit: u32) -> Result<Vec<KillSwitch>, KillError> {
        Ok(kill_switch::newest(self.store()?, limit).await?)
    }

    fn store(&self) -> Result<&Store, KillError> {
        self.0.store.as_ref().ok_or(KillError::Invalid("there is no store to keep kill switches in"))
    }
}

impl Inner {
    /// Reads all switches.
    async fn read(&self) -> Result<Arc<Active>, StoreError> {
        let Some(store) = &self.store else { return Ok(self.active.load_full()) };
        let _reading = self.reading.lock().await;
        let rows = kill_switch::active(store, self.clock.now_ms()).await?;
        Ok(self.take(rows))
    }

    fn take(&self, rows: Vec<KillSwitch>) -> Arc<Active> {
        let former = self.active.load();
        let next = Active::of(rows, former.generation + 1);
        if next.sets == former.sets {
            return Arc::clone(&former);
        }
        let next = Arc::new(next);
        self.active.store(Arc::clone(&next));
        self.changed.send_modify(|generation| *generation += 1);
        if let Some(listener) = &*self.listeners.lock().unwrap_or_else(PoisonError::into_inner) {
            listener();
        }
        next
    }

    /// Whether one ended by itself since they were read.
    fn is_over(&self) -> bool {
        self.active.load().next_ms.is_some_and(|next| next <= self.clock.now_ms())
    }
}

/// A row for what somebody wants stopped.
fn checked(new: NewKill, by: &str, now_ms: i64) -> Result<KillSwitch, KillError> {
    text(&new.reason, MAX_REASON, "a reason is needed, of at most 500 characters and without control characters")?;
    let bad = |why| Err(KillError::Invalid(why));
    let subject = match new.scope {
        KillScope::Everything if new.subject.is_empty() => String::new(),
        KillScope::Everything => return bad("everything has no subject"),
        KillScope::Portal if PortalId::parse(&new.subject).is_err() => return bad("this is no id of a portal"),
        KillScope::Server if ServerId::parse(&new.subject).is_err() => return bad("this is no id of a server"),
        KillScope::Tool => match new.subject.split_once('/') {
            Some((server, tool)) if ServerId::parse(server).is_ok() && !tool.is_empty() => new.subject,
            _ => return bad("a tool is written `SERVER/TOOL`, with its original name"),
        },
        KillScope::User => fold_user_id(&new.subject).into_owned(),
        _ => new.subject,
    };
    if new.scope != KillScope::Everything {
        text(&subject, MAX_SUBJECT, "a subject is needed, of at most 512 characters and without control characters")?;
    }
    if new.until_ms.is_some_and(|until| until <= now_ms || until > now_ms.saturating_add(MAX_TIME_MS)) {
        return bad("the end must be in the future, and within a year");
    }
    Ok(KillSwitch {
        id: EventId::new(now_ms).to_string(),
        scope: new.scope.as_str().to_owned(),
        subject,
        reason: new.reason,
        set_by: by.to_owned(),
        set_ms: now_ms,
        until_ms: new.until_ms,
        lift_asked_by: None,
        lifted_by: None,
        lifted_ms: None,
        lift_reason: None,
    })
}

fn text(text: &str, most: usize, why: &'static str) -> Result<(), KillError> {
    let good = !text.trim().is_empty() && text.chars().count() <= most && !text.chars().any(char::is_control);
    if good { Ok(()) } else { Err(KillError::Invalid(why)) }
}
