//! The registry of one process: what is approved, in memory and true within two seconds.

mod record;
mod show;
mod write;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bartizan_audit::Audit;
use bartizan_catalog::pin::PinKind;
use bartizan_catalog::{Kind, ServerLists, ServerSpec, ToolDef};
use bartizan_model::{Clock, ServerId};
use bartizan_store::feed::Freshness;
use bartizan_store::repo::definition::{self, Definition};
use bartizan_store::{Store, StoreError};
use bartizan_wire::RawJson;

use crate::feed;
use crate::judge::{Verdict, verdict};
use crate::known::Known;

/// What a registry is made of.
pub struct RegistryDeps {
    /// Where decisions are, shared by all processes.
    pub store: Store,
    /// The record.
    pub audit: Option<Audit>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// Why nothing can be said about definitions.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The store does not answer.
    #[error("the store does not answer: {0}")]
    Store(#[from] StoreError),
    /// Somebody else decided meanwhile.
    #[error("somebody else changed this meanwhile; look again")]
    Conflict,
    /// There is no such definition or server.
    #[error("there is no such entry")]
    Unknown,
    /// The decision is not for this person.
    #[error("{0}")]
    Forbidden(&'static str),
    /// The decision does not fit the state.
    #[error("{0}")]
    State(&'static str),
    /// The decision is not on record and did not happen.
    #[error("the audit record does not take events; nothing was changed")]
    Audit,
}

/// Whose list it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose<'a> {
    /// Of everybody.
    Shared,
    /// Of one principal, by its key: other lists may hold other things.
    Person(&'a str),
    /// Of everybody, asked for in order to know all that there is (P53).
    Sync,
}

/// A list as it may be offered.
#[derive(Clone, Debug)]
pub struct Judged {
    /// What is left.
    pub lists: Arc<ServerLists>,
    /// A number for the verdicts: 0 when everything is shown as it came.
    pub stamp: u64,
}

type Hook = Box<dyn Fn(&ServerId) + Send + Sync>;

pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) audit: Option<Audit>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) freshness: Freshness,
    /// How often what is known was read anew.
    epoch: AtomicU64,
    known: RwLock<HashMap<Box<str>, Arc<Known>>>,
    /// Approved texts that are shown in place of changed ones, by pin.
    bodies: Mutex<HashMap<Arc<str>, RawJson>>,
    hooks: Mutex<Vec<Hook>>,
    reading: tokio::sync::Mutex<()>,
    /// Changes that wait for the next commit.
    waiting: Mutex<Vec<write::Waiting>>,
    /// Whoever holds it commits for all.
    writing: tokio::sync::Mutex<()>,
}

/// What is approved. Cheap to clone.
#[derive(Clone)]
pub struct Registry(pub(crate) Arc<Inner>);

impl Registry {
    /// Follows the store for as long as it lives.
    pub fn new(deps: RegistryDeps) -> Self {
        let inner = Arc::new(Inner {
            store: deps.store,
            audit: deps.audit,
            clock: deps.clock,
            freshness: Freshness::default(),
            epoch: AtomicU64::new(1),
            known: RwLock::default(),
            bodies: Mutex::default(),
            hooks: Mutex::default(),
            reading: tokio::sync::Mutex::default(),
            waiting: Mutex::default(),
            writing: tokio::sync::Mutex::default(),
        });
        feed::spawn(&inner);
        Self(inner)
    }

    /// Grows whenever what is known changes: what was judged at the same number is judged still.
    pub fn epoch(&self) -> u64 {
        self.0.epoch.load(Ordering::Acquire)
    }

    /// Calls back when something about a server's definitions changed, here or elsewhere.
    pub fn on_change(&self, hook: impl Fn(&ServerId) + Send + Sync + 'static) {
        self.0.hooks.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(hook));
    }

    /// Judges a list that arrived: what is new or different is put on record, and what may not be
    /// shown is left out. The first list of a server decides once, for all processes, what is approved.
    ///
    /// # Errors
    /// [`RegistryError::Store`] when nothing is known about the server and the store does not answer.
    pub async fn judge(
        &self,
        spec: &ServerSpec,
        kind: Kind,
        lists: &Arc<ServerLists>,
        whose: Whose<'_>,
    ) -> Result<Judged, RegistryError> {
        let Some(kind) = pin_kind(kind) else { return Ok(Judged { lists: Arc::clone(lists), stamp: 0 }) };
        let known = self.0.note(spec, kind, &show::items(kind, lists), whose).await?;
        show::fetch_bodies(&self.0, spec, &known, kind, lists).await;
        Ok(show::judged(&self.0, spec, &known, kind, lists))
    }

    /// Judges a list again by what is known now, without asking or recording anything. Nothing
    /// when nothing is known about the server.
    pub fn rejudge(&self, spec: &ServerSpec, kind: Kind, lists: &Arc<ServerLists>) -> Option<Judged> {
        let Some(kind) = pin_kind(kind) else { return Some(Judged { lists: Arc::clone(lists), stamp: 0 }) };
        let known = self.0.in_memory(&spec.id)?;
        Some(show::judged(&self.0, spec, &known, kind, lists))
    }

    /// Whether what a server says about itself may be shown (`instructions` and its description).
    ///
    /// # Errors
    /// As [`Self::judge`].
    pub async fn judge_words(
        &self,
        spec: &ServerSpec,
        words: Option<&RawJson>,
        whose: Whose<'_>,
    ) -> Result<bool, RegistryError> {
        let Some(words) = words else { return Ok(true) };
        let Ok(pinned) = bartizan_catalog::pin::pinned(PinKind::Server, words) else { return Ok(false) };
        let pin = Arc::clone(&pinned.pin);
        let item =
            show::Item { name: "".into(), pin: Arc::clone(&pin), body: Box::new(move || Some(pinned.body.clone())) };
        let known = self.0.note(spec, PinKind::Server, &[item], whose).await?;
        let row = known.get(PinKind::Server, "").map(|row| &**row);
        Ok(verdict(&spec.judging, row, &pin, self.0.clock.now_ms()) == Verdict::Show)
    }

    /// Whether a call of a definition with this pin may go on. With memory that is true this takes
    /// no round trip; with a silent feed the store is asked.
    ///
    /// # Errors
    /// [`RegistryError::Store`] when nobody can say.
    pub async fn admits(
        &self,
        spec: &ServerSpec,
        kind: PinKind,
        name: &str,
        pin: &str,
    ) -> Result<Verdict, RegistryError> {
        let now_ms = self.0.clock.now_ms();
        if self.0.freshness.is_fresh()
            && let Some(known) = self.0.in_memory(&spec.id)
        {
            return Ok(verdict(&spec.judging, known.get(kind, name).map(|row| &**row), pin, now_ms));
        }
        let row = definition::get(&self.0.store, spec.id.as_str(), kind.as_str(), name).await?;
        Ok(verdict(&spec.judging, row.as_ref(), pin, now_ms))
    }
}

impl Inner {
    pub(crate) fn in_memory(&self, server: &ServerId) -> Option<Arc<Known>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(server.as_str()).cloned()
    }

    /// What is known of a server, read once.
    pub(crate) async fn known(&self, server: &ServerId) -> Result<Arc<Known>, StoreError> {
        match self.in_memory(server) {
            Some(known) => Ok(known),
            None => self.reload(server.as_str()).await,
        }
    }

    async fn reload(&self, server: &str) -> Result<Arc<Known>, StoreError> {
        // One at a time: what was read earlier must not replace what was read later.
        let _reading = self.reading.lock().await;
        let known = Arc::new(Known::load(&self.store, server).await?);
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(server.into(), Arc::clone(&known));
        self.epoch.fetch_add(1, Ordering::AcqRel);
        Ok(known)
    }

    /// Servers that are in memory.
    pub(crate) fn loaded(&self) -> Vec<String> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).keys().map(|id| id.to_string()).collect()
    }

    /// Reads these servers anew, if they are in memory, and tells who listens.
    pub(crate) async fn renew(&self, servers: Vec<String>) -> Result<(), StoreError> {
        for server in servers {
            if self.known.read().unwrap_or_else(PoisonError::into_inner).contains_key(server.as_str()) {
                self.reload(&server).await?;
                self.tell(&server);
            }
        }
        Ok(())
    }

    fn tell(&self, server: &str) {
        let Ok(id) = ServerId::parse(server) else { return };
        for hook in self.hooks.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            hook(&id);
        }
    }

    /// The row of a definition, from the store.
    pub(crate) async fn row(&self, server: &str, kind: PinKind, name: &str) -> Result<Definition, RegistryError> {
        definition::get(&self.store, server, kind.as_str(), name).await?.ok_or(RegistryError::Unknown)
    }
}

/// The kind of pins of a list; lists of resources stay live (P31).
pub(crate) fn pin_kind(kind: Kind) -> Option<PinKind> {
    match kind {
        Kind::Tools => Some(PinKind::Tool),
        Kind::Prompts => Some(PinKind::Prompt),
        Kind::Templates => Some(PinKind::Template),
        Kind::Resources => None,
    }
}

/// Whether two tool texts have the same arguments.
pub(crate) fn same_schema(one: &ToolDef, other: &ToolDef) -> bool {
    let form = |def: &ToolDef| def.input_schema.as_ref().map(|schema| bartizan_wire::canonical::exact(schema).ok());
    form(one) == form(other)
}
