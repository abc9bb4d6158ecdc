//! All objects of the store as one set: plan, apply, export (U9).

use std::collections::BTreeSet;

use bartizan_config::objects::{self, Kind};
use bartizan_store::repo::resource::{self, Expect};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::change::{About, Done, Edit, Engine, Outcome, What};
use crate::permissions::{self, Permission};
use crate::problem::{AdminError, Problem};
use crate::state::State;

/// An object as it is wanted.
pub type Wanted = (Kind, String, Value);

/// What applying a set would do.
#[derive(Debug, Serialize)]
pub struct Plan {
    /// The revision it was made for.
    pub revision: i64,
    /// What would be added, changed, removed.
    pub changes: Vec<Done>,
    /// Of these, what was changed by others than `apply`.
    pub drift: Vec<Drift>,
    /// Who may do more or less.
    pub permissions: Vec<Permission>,
}

/// An object that somebody changed beside the files.
#[derive(Debug, Serialize)]
pub struct Drift {
    /// `server/wiki`.
    pub object: String,
    /// Who changed it last.
    pub by: String,
    /// `console` or `api`.
    pub source: String,
    /// When, milliseconds since the epoch.
    pub at_ms: i64,
}

/// What applying `wanted` would change.
///
/// # Errors
/// [`AdminError`]; all problems of all objects at once.
pub async fn plan(engine: &Engine, wanted: Vec<Wanted>, about: &About) -> Result<Plan, AdminError> {
    let state = engine.reader.state().await?;
    let revision = state.revision;
    let edits = edits(&state, wanted)?;
    let prepared = engine.prepare(state, &edits, about).await?;
    let permissions = permissions::difference(&prepared.before, &prepared.after, engine.clock.now_ms());
    let mut drift = Vec::new();
    for one in &prepared.done {
        drift.extend(drifted(engine, one).await?);
    }
    Ok(Plan { revision, changes: prepared.done, drift, permissions })
}

/// Makes the store hold exactly `wanted`, or leaves it as it is. Whoever changes something at
/// the same time makes it [`AdminError::Outdated`]; so does another revision than `at`.
///
/// # Errors
/// [`AdminError`]; then nothing changed.
pub async fn apply(
    engine: &Engine,
    wanted: Vec<Wanted>,
    about: &About,
    at: Option<i64>,
) -> Result<Outcome, AdminError> {
    let state = engine.reader.state().await?;
    if at.is_some_and(|at| at != state.revision) {
        return Err(AdminError::Outdated);
    }
    let edits = edits(&state, wanted)?;
    let prepared = engine.prepare(state, &edits, about).await?;
    engine.commit(prepared, about, None).await
}

fn edits(state: &State, wanted: Vec<Wanted>) -> Result<Vec<Edit>, AdminError> {
    let mut names = BTreeSet::new();
    let mut problems = Vec::new();
    let mut edits = Vec::with_capacity(wanted.len());
    for (kind, id, body) in wanted {
        if !names.insert((kind, id.clone())) {
            problems.push(Problem::new("", "duplicate_id", "there are two with this id").of(kind, &id));
        }
        let expect = state.get(kind, &id).map_or(Expect::Absent, |object| Expect::At(object.revision));
        edits.push(Edit { kind, id, expect: Some(expect), what: What::Put(body) });
    }
    for ((kind, id), object) in &state.objects {
        if !names.contains(&(*kind, id.clone())) {
            let expect = Some(Expect::At(object.revision));
            edits.push(Edit { kind: *kind, id: id.clone(), expect, what: What::Remove });
        }
    }
    if problems.is_empty() { Ok(edits) } else { Err(AdminError::Invalid(problems)) }
}

async fn drifted(engine: &Engine, one: &Done) -> Result<Option<Drift>, AdminError> {
    let store = engine.reader.store();
    let versions = resource::history(store, one.kind.as_str(), &one.id, 1).await?;
    let Some(last) = versions.first().map(|version| version.until_rev.unwrap_or(version.since_rev)) else {
        return Ok(None);
    };
    let made = resource::revisions(store, last, 1).await?;
    let outside = made.into_iter().next().filter(|made| made.source != "apply");
    Ok(outside.map(|made| Drift {
        object: format!("{}/{}", one.kind.as_str(), one.id),
        by: made.by,
        source: made.source,
        at_ms: made.at_ms,
    }))
}

/// All objects, in lists as files have them. An empty text stands where a secret is: applied
/// again, it keeps what is there.
pub fn export(state: &State) -> Value {
    let mut lists = Map::new();
    for kind in Kind::ALL {
        let of_kind = state.objects.values().filter(|object| object.kind == kind);
        let list: Vec<Value> = of_kind.map(|object| without_nothing(object.body.clone())).collect();
        if !list.is_empty() {
            lists.insert(kind.plural().to_owned(), list.into());
        }
    }
    json!({"revision": state.revision, "objects": lists})
}

/// Without members that are null: files leave them out.
fn without_nothing(mut body: Value) -> Value {
    if let Some(members) = body.as_object_mut() {
        members.retain(|_, value| !value.is_null());
    }
    body
}

/// The set in a request: `{"objects": {"servers": […], …}}`.
fn wanted(request: &Value) -> Result<Vec<Wanted>, AdminError> {
    let mut problems = Vec::new();
    for name in request.as_object().into_iter().flat_map(Map::keys) {
        if !["objects", "revision", "git_revision", "reason"].contains(&name.as_str()) {
            problems.push(Problem::new(&format!("/{name}"), "unknown_key", "unknown member"));
        }
    }
    let Some(Value::Object(lists)) = request.get("objects") else {
        return Err(AdminError::Invalid(vec![Problem::new(
            "/objects",
            "missing_key",
            "a mapping of lists is missing",
        )]));
    };
    let mut all = Vec::new();
    for (name, list) in lists {
        let pointer = format!("/objects/{name}");
        let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.plural() == name) else {
            let known = Kind::ALL.map(Kind::plural);
            let near = bartizan_config::suggest::nearest(name, known).map(|near| format!("did you mean `{near}`?"));
            problems.push(Problem { suggestion: near, ..Problem::new(&pointer, "unknown_key", "no kind of object") });
            continue;
        };
        let Value::Array(items) = list else {
            problems.push(Problem::new(&pointer, "wrong_type", "expected a list"));
            continue;
        };
        for (at, item) in items.iter().enumerate() {
            match item.get(kind.id_key()).and_then(Value::as_str) {
                Some(id) => all.push((kind, id.to_owned(), item.clone())),
                None => {
                    let text = format!("`{}` is missing", kind.id_key());
                    problems.push(Problem::new(&format!("{pointer}/{at}"), "missing_key", text));
                }
            }
        }
    }
    if problems.is_empty() { Ok(all) } else { Err(AdminError::Invalid(problems)) }
}

pub(crate) async fn plan_request(engine: &Engine, request: Value, about: &About) -> Result<Value, AdminError> {
    Ok(json!(plan(engine, wanted(&request)?, about).await?))
}

pub(crate) async fn apply_request(engine: &Engine, request: Value, about: &About) -> Result<Value, AdminError> {
    let text = |name: &str, longest: usize| {
        let given = request.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        given.map(|text| text.chars().filter(|c| !c.is_control()).take(longest).collect::<String>())
    };
    let about = About {
        source: "apply",
        git_revision: text("git_revision", 100),
        reason: text("reason", 500).or_else(|| about.reason.clone()),
        ..about.clone()
    };
    let at = request.get("revision").and_then(Value::as_i64);
    let outcome = apply(engine, wanted(&request)?, &about, at).await?;
    Ok(json!({"revision": outcome.revision, "changes": outcome.done}))
}

/// The objects of resources that were read from files, with their secrets.
pub fn of_resources(resources: &bartizan_config::resources::Resources) -> Vec<Wanted> {
    objects::split(resources)
}
