//! From a list as it came to a list as it may be offered.

use std::sync::{Arc, PoisonError};

use aws_lc_rs::digest::{Context, SHA256};
use bartizan_catalog::pin::{PinKind, Pinned, Unfit};
use bartizan_catalog::{PromptDef, ServerLists, ServerSpec, TemplateDef, ToolDef};
use bartizan_store::repo::definition;
use bartizan_wire::{RawJson, canonical, splice};

use super::{Inner, Judged, same_schema};
use crate::judge::{Verdict, verdict};
use crate::known::Known;

/// Approved texts that are kept.
const KEPT: usize = 4_096;

/// A definition as a judge sees it.
pub(crate) struct Item {
    pub(crate) name: Arc<str>,
    pub(crate) pin: Arc<str>,
    /// The canonical text, worked out when it is to be kept.
    pub(crate) body: Box<dyn Fn() -> Option<String> + Send + Sync>,
}

/// The definitions of a list that have a pin.
pub(crate) fn items(kind: PinKind, lists: &ServerLists) -> Vec<Item> {
    fn item<D: Send + Sync + 'static>(
        def: &Arc<D>,
        key: impl Fn(&D) -> &Arc<str>,
        pin: impl Fn(&D) -> Result<&Arc<str>, Unfit>,
        pinned: impl Fn(&D) -> Result<Pinned, Unfit> + Send + Sync + 'static,
    ) -> Option<Item> {
        let (name, pin) = (Arc::clone(key(def)), Arc::clone(pin(def).ok()?));
        let def = Arc::clone(def);
        Some(Item { name, pin, body: Box::new(move || pinned(&def).ok().map(|pinned| pinned.body)) })
    }
    match kind {
        PinKind::Tool => {
            lists.tools.iter().filter_map(|def| item(def, ToolDef::key, ToolDef::fit, ToolDef::pinned)).collect()
        }
        PinKind::Prompt => lists
            .prompts
            .iter()
            .filter_map(|def| item(def, PromptDef::key, PromptDef::fit, PromptDef::pinned))
            .collect(),
        PinKind::Template => lists
            .templates
            .iter()
            .filter_map(|def| item(def, TemplateDef::key, TemplateDef::fit, TemplateDef::pinned))
            .collect(),
        PinKind::Server | PinKind::Resource => Vec::new(),
    }
}

/// Reads the approved texts that stand in for changed ones.
pub(super) async fn fetch_bodies(inner: &Inner, spec: &ServerSpec, known: &Known, kind: PinKind, lists: &ServerLists) {
    let now_ms = inner.clock.now_ms();
    let mut wanted: Vec<Arc<str>> = Vec::new();
    for item in items(kind, lists) {
        let Some(row) = known.get(kind, &item.name) else { continue };
        if verdict(&spec.judging, Some(row), &item.pin, now_ms) == Verdict::ShowApproved
            && let Some(pin) = &row.approved
        {
            wanted.push(pin.as_str().into());
        }
    }
    for pin in wanted {
        if inner.bodies.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&pin) {
            continue;
        }
        // Without the text the definition stays hidden.
        let Ok(Some(body)) = definition::body(&inner.store, &pin).await else { continue };
        let Ok(body) = RawJson::try_from(body.as_str()) else { continue };
        let mut bodies = inner.bodies.lock().unwrap_or_else(PoisonError::into_inner);
        if bodies.len() >= KEPT {
            bodies.clear();
        }
        bodies.insert(pin, body);
    }
}

/// What one definition becomes.
enum Shown<D> {
    AsIs,
    Instead(Arc<D>),
    Not,
}

/// What a kind of definition can tell a judge.
trait Definable: Sized {
    fn of(raw: RawJson) -> Option<Self>;
    fn name(&self) -> &Arc<str>;
    fn fitting(&self) -> Result<&Arc<str>, Unfit>;
    fn same_input(&self, other: &Self) -> bool;
}

impl Definable for ToolDef {
    fn of(raw: RawJson) -> Option<Self> {
        Self::parse(raw)
    }
    fn name(&self) -> &Arc<str> {
        self.key()
    }
    fn fitting(&self) -> Result<&Arc<str>, Unfit> {
        self.fit()
    }
    fn same_input(&self, other: &Self) -> bool {
        same_schema(self, other)
    }
}

impl Definable for PromptDef {
    fn of(raw: RawJson) -> Option<Self> {
        Self::parse(raw)
    }
    fn name(&self) -> &Arc<str> {
        self.key()
    }
    fn fitting(&self) -> Result<&Arc<str>, Unfit> {
        self.fit()
    }
    fn same_input(&self, other: &Self) -> bool {
        let form = |def: &Self| splice::get(def.raw(), "arguments").map(|list| canonical::exact(&list).ok());
        form(self) == form(other)
    }
}

impl Definable for TemplateDef {
    fn of(raw: RawJson) -> Option<Self> {
        Self::parse(raw)
    }
    fn name(&self) -> &Arc<str> {
        self.key()
    }
    fn fitting(&self) -> Result<&Arc<str>, Unfit> {
        self.fit()
    }
    // The template is the name, so that the input is the same.
    fn same_input(&self, _: &Self) -> bool {
        true
    }
}

struct Judge<'a> {
    inner: &'a Inner,
    spec: &'a ServerSpec,
    known: &'a Known,
    kind: PinKind,
    now_ms: i64,
    stamp: Context,
    changed: bool,
}

impl Judge<'_> {
    fn one<D: Definable>(&self, def: &Arc<D>) -> Shown<D> {
        let Ok(pin) = def.fitting() else { return Shown::Not };
        let row = self.known.get(self.kind, def.name()).map(|row| &**row);
        match verdict(&self.spec.judging, row, pin, self.now_ms) {
            Verdict::Show => Shown::AsIs,
            Verdict::Hide(_) => Shown::Not,
            Verdict::ShowApproved => {
                let approved = row.and_then(|row| row.approved.as_deref());
                let bodies = self.inner.bodies.lock().unwrap_or_else(PoisonError::into_inner);
                let body = approved.and_then(|pin| bodies.get(pin)).cloned();
                drop(bodies);
                let approved = body.and_then(D::of).filter(|approved| approved.same_input(def));
                approved.map_or(Shown::Not, |approved| Shown::Instead(Arc::new(approved)))
            }
        }
    }

    fn all<D: Definable>(&mut self, defs: &[Arc<D>]) -> Vec<Arc<D>> {
        let mut kept = Vec::with_capacity(defs.len());
        for (at, def) in defs.iter().enumerate() {
            let mark = match self.one(def) {
                Shown::AsIs => {
                    kept.push(Arc::clone(def));
                    continue;
                }
                Shown::Instead(approved) => {
                    let mark = approved.fitting().map_or_else(|_| "?".into(), |pin| pin.to_string());
                    kept.push(approved);
                    mark
                }
                Shown::Not => String::new(),
            };
            self.changed = true;
            self.stamp.update(&at.to_be_bytes());
            self.stamp.update(mark.as_bytes());
        }
        kept
    }
}

/// The list as it may be offered.
pub(super) fn judged(
    inner: &Inner,
    spec: &ServerSpec,
    known: &Known,
    kind: PinKind,
    lists: &Arc<ServerLists>,
) -> Judged {
    let now_ms = inner.clock.now_ms();
    let mut judge = Judge { inner, spec, known, kind, now_ms, stamp: Context::new(&SHA256), changed: false };
    let mut left = ServerLists { unreadable: lists.unreadable, ..ServerLists::default() };
    match kind {
        PinKind::Tool => left.tools = judge.all(&lists.tools),
        PinKind::Prompt => left.prompts = judge.all(&lists.prompts),
        PinKind::Template => left.templates = judge.all(&lists.templates),
        PinKind::Server | PinKind::Resource => {}
    }
    if !judge.changed {
        return Judged { lists: Arc::clone(lists), stamp: 0 };
    }
    let stamp = judge.stamp.finish();
    let stamp = stamp.as_ref().first_chunk().map_or(1, |bytes| u64::from_be_bytes(*bytes));
    Judged { lists: Arc::new(left), stamp }
}
