//! Resources of files and objects of the store become one snapshot, on every process the same.
//!
//! An object of the store that no longer fits what the files say is left out by itself, never
//! the rest with it, and in a way that lets nobody do more: a portal stays as one that nobody
//! may use, because without any portal there would be one for everybody; a Cedar policy becomes
//! one that forbids everything, because it may have been there to forbid.

use std::collections::{BTreeMap, BTreeSet};

use bartizan_alerts::Rules;
use bartizan_catalog::{CompileOptions, Snapshot};
use bartizan_config::objects::{self, Kind};
use bartizan_config::resources::Resources;
use bartizan_config::settings::File;
use bartizan_config::{Diagnostic, checks};
use serde_json::{Value, json};

use crate::problem::Problem;
use crate::state::Object;

/// What the files say.
pub struct Base {
    /// The settings.
    pub settings: File,
    /// The resources, with their secrets.
    pub resources: Resources,
    /// How they are compiled.
    pub options: CompileOptions,
    names: BTreeSet<(Kind, String)>,
}

impl Base {
    /// Of files that were read and checked.
    pub fn new(settings: File, resources: Resources, options: CompileOptions) -> Self {
        let names = objects::split(&resources).into_iter().map(|(kind, id, _)| (kind, id)).collect();
        Self { settings, resources, options, names }
    }

    /// Whether a file says what this object is.
    pub fn has(&self, kind: Kind, id: &str) -> bool {
        self.names.contains(&(kind, id.to_owned()))
    }
}

/// An object of the store that is not in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Kind of object.
    pub kind: Kind,
    /// Which one.
    pub id: String,
    /// Why.
    pub problems: Vec<Problem>,
}

/// Files and store together.
pub struct Overlaid {
    /// All resources, with their secrets: compiled at once and written nowhere.
    pub resources: Resources,
    /// The same, compiled.
    pub snapshot: Snapshot,
    /// Objects that are not in use.
    pub refused: Vec<Refused>,
}

struct Placed<'a> {
    object: &'a Object,
    path: String,
}

/// Puts both together.
///
/// # Errors
/// What is wrong with the files themselves.
pub fn overlay(base: &Base, stored: &[Object], now_ms: i64) -> Result<Overlaid, Vec<Diagnostic>> {
    let mut refused: BTreeMap<(Kind, &str), Vec<Problem>> = BTreeMap::new();
    for object in stored.iter().filter(|object| base.has(object.kind, &object.id)) {
        let problem = Problem::new("", "managed_by_file", "a configuration file has an object with this id");
        refused.insert((object.kind, &object.id), vec![problem]);
    }
    for object in stored.iter().filter(|object| object.unreadable) {
        let problem = Problem::new("", "secret_unreadable", "its secrets do not open with the keys of this process");
        refused.entry((object.kind, &object.id)).or_default().push(problem);
    }
    loop {
        let (resources, placed) = merge(base, stored, &mut refused);
        let (snapshot, found) = examine(base, &resources, now_ms);
        if let (Some(snapshot), true) = (snapshot, found.is_empty()) {
            let refused = refused
                .into_iter()
                .map(|((kind, id), problems)| Refused { kind, id: id.to_owned(), problems })
                .collect();
            return Ok(Overlaid { resources, snapshot, refused });
        }
        let before = refused.len();
        for diagnostic in &found {
            let owner = placed.iter().find(|placed| is_below(&diagnostic.path, &placed.path));
            if let Some(owner) = owner {
                let problem = Problem::found(diagnostic.clone(), owner.path.len());
                refused.entry((owner.object.kind, &owner.object.id)).or_default().push(problem);
            }
        }
        if refused.len() == before {
            // Nobody is named: whoever came last goes first.
            let Some(newest) = placed.iter().map(|placed| placed.object).max_by_key(|object| object.revision) else {
                return Err(found);
            };
            let problems = found.into_iter().map(|one| Problem::found(one, 0)).collect();
            refused.insert((newest.kind, &newest.id), problems);
        }
    }
}

fn is_below(path: &str, of: &str) -> bool {
    path.strip_prefix(of).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// The resources of the files, and behind them the objects that are not refused.
fn merge<'a>(
    base: &Base,
    stored: &'a [Object],
    refused: &mut BTreeMap<(Kind, &'a str), Vec<Problem>>,
) -> (Resources, Vec<Placed<'a>>) {
    let mut resources = base.resources.clone();
    let mut placed = Vec::with_capacity(stored.len());
    for object in stored {
        let reasons = refused.get(&(object.kind, object.id.as_str()));
        let body = match reasons {
            None => object.filled(),
            Some(_) if base.has(object.kind, &object.id) => continue,
            Some(reasons) => match stand_in(object, reasons) {
                Some(body) => body,
                None => continue,
            },
        };
        let at = length(&resources, object.kind);
        if let Err(error) = objects::push(&mut resources, object.kind, body) {
            let problem = Problem::new("", "invalid", error.to_string());
            refused.entry((object.kind, &object.id)).or_default().push(problem);
        } else if !refused.contains_key(&(object.kind, object.id.as_str())) {
            placed.push(Placed { object, path: object.kind.path(at, &object.id) });
        }
    }
    (resources, placed)
}

/// What takes the place of a refused object, where leaving it out would allow more.
fn stand_in(object: &Object, reasons: &[Problem]) -> Option<Value> {
    // What is only about things that are not there allows nothing and forbids nothing, unless it
    // forbids other things too.
    let harmless = reasons.iter().all(|reason| matches!(reason.code, "unknown_server" | "unknown_portal"))
        && object.body.get("cedar").and_then(Value::as_str).is_some_and(bartizan_policy::only_permits);
    match object.kind {
        Kind::Portal => Some(json!({"id": object.id, "servers": [], "policies": []})),
        // Portals that include it lose what it names, and nothing else.
        Kind::Bundle => Some(json!({"id": object.id})),
        Kind::Policy if !harmless => Some(json!({"id": object.id, "cedar": "forbid(principal, action, resource);"})),
        _ => None,
    }
}

fn length(resources: &Resources, kind: Kind) -> usize {
    match kind {
        Kind::Server => resources.servers.len(),
        Kind::Portal => resources.portals.len(),
        Kind::Bundle => resources.bundles.len(),
        Kind::IdentityProvider => resources.identity_providers.len(),
        Kind::Client => resources.clients.len(),
        Kind::Agent => resources.agents.len(),
        Kind::Policy => resources.policies.len(),
        Kind::Grant => resources.grants.len(),
        Kind::RateLimit => resources.rate_limits.len(),
        Kind::AlertDestination => resources.alerts.destinations.len(),
        Kind::AlertRule => resources.alerts.rules.len(),
        Kind::Role => 0,
    }
}

/// Compiles, and checks what only the files' own check looks at otherwise.
fn examine(base: &Base, resources: &Resources, now_ms: i64) -> (Option<Snapshot>, Vec<Diagnostic>) {
    let (snapshot, mut found) = match Snapshot::compile(resources, &base.options, now_ms) {
        Ok(snapshot) => (Some(snapshot), Vec::new()),
        Err(found) => (None, found),
    };
    let lists = ["identity_providers", "clients", "agents"];
    let settings = checks::settings(&base.settings.with_resources(resources));
    found.extend(settings.into_iter().filter(|one| lists.iter().any(|list| is_below(&one.path, list))));
    let (_, problems) = Rules::compile(&resources.alerts);
    found.extend(problems.into_iter().map(|problem| Diagnostic::new(problem.path, "bad_alert", problem.message)));
    (snapshot, found)
}
