//! Changing objects: the would-be whole is compiled first, all problems are told at once, and
//! what is changed is on record before it counts (L10).

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;

use bartizan_config::objects::{self, Kind};
use bartizan_model::event::{AuditEvent, EventKind, Who};
use bartizan_model::{Clock, EventId, PrincipalKind};
use bartizan_store::repo::resource::{self, Answer, Change, CommitError, Expect, Revision, Secrets};
use serde::Serialize;
use serde_json::{Value, json};

use crate::difference::{self, Member};
use crate::overlay::{Base, Overlaid, overlay};
use crate::problem::{AdminError, Problem};
use crate::secrets::{self, SUMMARY};
use crate::state::{Object, Reader, State};

/// How often a change is tried again because another one came first.
const TRIES: usize = 5;
/// Longest text of a change in the record, bytes; beyond it only names are recorded.
const RECORDED: usize = 60 << 10;
/// Most objects named in one event.
const NAMED: usize = 500;
/// Members of answers that are no part of an object, and are ignored when they come back.
const READ_ONLY: [&str; 3] = [SUMMARY, "managed_by", "revision"];

/// Puts an event on record, durably.
pub type Record = Arc<dyn Fn(AuditEvent) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;
/// What the files say now.
pub type BaseSource = Arc<dyn Fn() -> Arc<Base> + Send + Sync>;
/// Told when this process changed something, so that it need not wait for the feed.
pub type Changed = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// Makes the answer that is kept with a change, of the objects after it and the revision.
pub type Keep<'a> = &'a (dyn Fn(&State, i64) -> Answer + Sync);

/// Who changes something, and why.
#[derive(Clone, Debug)]
pub struct About {
    /// Kind of caller.
    pub kind: PrincipalKind,
    /// Who.
    pub who: Who,
    /// `console`, `api`, `apply`.
    pub source: &'static str,
    /// What it is for.
    pub reason: Option<String>,
    /// Revision of the files that are applied.
    pub git_revision: Option<String>,
    /// The operator of the machine: may name local commands.
    pub operator: bool,
    /// An owner: may say that what a server offers needs no review.
    pub owner: bool,
}

/// What is to be done with one object.
pub struct Edit {
    /// Kind of object.
    pub kind: Kind,
    /// Which one.
    pub id: String,
    /// The version it must have; `None`: whatever it has.
    pub expect: Option<Expect>,
    /// What is to be done.
    pub what: What,
}

/// What is to be done.
pub enum What {
    /// It becomes this; blank secrets keep what they are.
    Put(Value),
    /// It becomes what it is with these members (RFC 7396).
    Patch(Value),
    /// It becomes what it was, secrets included.
    Restore(i64),
    /// It goes.
    Remove,
}

/// What one edit did.
#[derive(Clone, Debug, Serialize)]
pub struct Done {
    /// Kind of object.
    #[serde(serialize_with = "kind_word")]
    pub kind: Kind,
    /// Which one.
    pub id: String,
    /// `create`, `update` or `remove`.
    pub action: &'static str,
    /// What is different.
    pub difference: Vec<Member>,
}

fn kind_word<S: serde::Serializer>(kind: &Kind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.as_str())
}

/// What was changed.
pub struct Outcome {
    /// The revision; that of before when nothing was different.
    pub revision: i64,
    /// The objects that are different.
    pub done: Vec<Done>,
    /// All objects after it.
    pub state: State,
}

/// A change that was checked and not made.
pub(crate) struct Prepared {
    pub(crate) done: Vec<Done>,
    pub(crate) before: Overlaid,
    pub(crate) after: Overlaid,
    state: State,
    changes: Vec<Change>,
}

/// Changes objects. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    pub(crate) reader: Reader,
    pub(crate) base: BaseSource,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) record: Record,
    changed: Option<Changed>,
}

impl Engine {
    /// Over these parts.
    pub fn new(reader: Reader, base: BaseSource, clock: Arc<dyn Clock>, record: Record) -> Self {
        Self { reader, base, clock, record, changed: None }
    }

    /// Reads objects.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Tells somebody when something changed.
    #[must_use]
    pub fn with_changed(self, changed: Changed) -> Self {
        Self { changed: Some(changed), ..self }
    }

    /// Makes all edits or none. Another change in between is looked at again, unless it was
    /// of the same objects. `answer` is kept with the change, made of the revision.
    ///
    /// # Errors
    /// [`AdminError`]; then nothing changed.
    pub async fn change(&self, edits: &[Edit], about: &About, answer: Option<Keep<'_>>) -> Result<Outcome, AdminError> {
        for _ in 0..TRIES {
            let state = self.reader.state().await?;
            match self.commit(self.prepare(state, edits, about).await?, about, answer).await {
                Err(AdminError::Outdated) if edits.iter().any(|edit| edit.expect.is_some()) => {}
                other => return other,
            }
        }
        Err(AdminError::Outdated)
    }

    /// Checks edits against a state.
    pub(crate) async fn prepare(&self, state: State, edits: &[Edit], about: &About) -> Result<Prepared, AdminError> {
        let (base, now) = ((self.base)(), self.clock.now_ms());
        let mut next = state.clone();
        let (mut changes, mut done, mut problems) = (Vec::new(), Vec::new(), Vec::new());
        for edit in edits {
            if base.has(edit.kind, &edit.id) {
                if edits.len() == 1 {
                    return Err(AdminError::ManagedByFile);
                }
                let text = "a configuration file has an object with this id";
                problems.push(Problem::new("", "managed_by_file", text).of(edit.kind, &edit.id));
                continue;
            }
            let old = state.get(edit.kind, &edit.id);
            let expect = expected(edit, old)?;
            let mut wrong = Vec::new();
            let new = self.wanted(edit, old, about, &mut wrong).await?;
            if !wrong.is_empty() {
                let several = edits.len() > 1;
                problems.extend(wrong.into_iter().map(|one| if several { one.of(edit.kind, &edit.id) } else { one }));
                continue;
            }
            let Some((change, object)) = self.one(edit, old, new, expect, now)? else { continue };
            let (before, after) = (old.map(Object::public), object.as_ref().map(Object::public));
            done.push(Done {
                kind: edit.kind,
                id: edit.id.clone(),
                action: match (&before, &after) {
                    (None, _) => "create",
                    (_, Some(_)) => "update",
                    (_, None) => "remove",
                },
                difference: difference::members(before.as_ref(), after.as_ref()),
            });
            changes.push(change);
            match object {
                Some(object) => drop(next.objects.insert((edit.kind, edit.id.clone()), object)),
                None => drop(next.objects.remove(&(edit.kind, edit.id.clone()))),
            }
        }
        let broken = |found: Vec<bartizan_config::Diagnostic>| {
            AdminError::Invalid(found.into_iter().map(|one| Problem::found(one, 0)).collect())
        };
        let before = overlay(&base, &state.list(), now).map_err(broken)?;
        let after = overlay(&base, &next.list(), now).map_err(broken)?;
        judge(edits, &before, &after, &mut problems)?;
        Ok(Prepared { done, before, after, state: next, changes })
    }

    /// What an edit wants the object to be, with its secrets apart.
    pub(crate) async fn wanted(
        &self,
        edit: &Edit,
        old: Option<&Object>,
        about: &About,
        wrong: &mut Vec<Problem>,
    ) -> Result<Option<(Value, secrets::SecretSet)>, AdminError> {
        let mut body = match &edit.what {
            What::Remove => return Ok(None),
            What::Restore(revision) => {
                let (store, kind) = (self.reader.store(), edit.kind.as_str());
                let found = resource::at(store, kind, &edit.id, *revision).await?.ok_or(AdminError::NotFound)?;
                let was = self.reader.object(edit.kind, edit.id.clone(), *revision, &found.body, found.secret_id);
                let was = was.await?;
                // Former schemas may have been others; secrets go where they went then.
                wrong.extend(objects::check(edit.kind, &was.body).into_iter().map(|one| Problem::found(one, 0)));
                refuse_command(&was.body, about, wrong);
                refuse_trust(edit.kind, old, &was.body, about, wrong);
                return Ok(Some((was.body, (*was.secrets).clone())));
            }
            What::Put(body) => body.clone(),
            What::Patch(patch) => {
                let mut body = old.ok_or(AdminError::NotFound)?.body.clone();
                merge(&mut body, patch);
                keep_nulls(edit.kind, &mut body, patch);
                body
            }
        };
        if let Some(members) = body.as_object_mut() {
            READ_ONLY.iter().for_each(|name| drop(members.shift_remove(*name)));
            // The id stands in the path; in the body it may be left out.
            members.entry(edit.kind.id_key()).or_insert_with(|| edit.id.clone().into());
            if edit.kind == Kind::Server && !about.operator && matches!(edit.what, What::Put(_)) {
                // Whoever adds a server here does not speak for what it offers (P44).
                members.entry("trust").or_insert_with(|| "review".into());
            }
        }
        if !about.operator {
            let text = "`${…}` stands for nothing here: send the secret itself";
            let references = secrets::references(edit.kind, &body);
            wrong.extend(references.iter().map(|pointer| Problem::new(pointer, "secret_needed", text)));
        }
        let taken = secrets::take(edit.kind, &mut body, old.map(|old| (&old.body, &*old.secrets)), wrong);
        wrong.extend(objects::check(edit.kind, &body).into_iter().map(|one| Problem::found(one, 0)));
        let id = body.get(edit.kind.id_key()).and_then(Value::as_str);
        if id.is_some_and(|id| id != edit.id) {
            let pointer = format!("/{}", edit.kind.id_key());
            wrong.push(Problem::new(&pointer, "wrong_id", "the id cannot be changed; make a new object"));
        }
        if !is_id(&edit.id) {
            let pointer = format!("/{}", edit.kind.id_key());
            wrong.push(Problem::new(&pointer, "bad_id", "an id has 1 to 128 visible characters, none of them `/`"));
        }
        refuse_command(&body, about, wrong);
        if !wrong.is_empty() {
            return Ok(None);
        }
        match objects::canonical(edit.kind, body) {
            Ok(body) => {
                refuse_trust(edit.kind, old, &body, about, wrong);
                Ok(Some((body, taken)))
            }
            Err(error) => {
                wrong.push(Problem::new("", "invalid", error.to_string()));
                Ok(None)
            }
        }
    }

    /// The change of one object; `None` when it is as it was.
    fn one(
        &self,
        edit: &Edit,
        old: Option<&Object>,
        new: Option<(Value, secrets::SecretSet)>,
        expect: Expect,
        now: i64,
    ) -> Result<Option<(Change, Option<Object>)>, AdminError> {
        let Some((body, set)) = new else {
            let change = Change { kind: edit.kind.as_str().to_owned(), id: edit.id.clone(), expect, body: None };
            return Ok(Some((change, None)));
        };
        let kept = old.filter(|old| old.secrets.same(&set));
        if kept.is_some_and(|old| old.body == body) {
            return Ok(None);
        }
        let secrets = match kept.and_then(|old| old.secret_id.clone()) {
            _ if set.is_empty() => Secrets::None,
            Some(id) => Secrets::Kept(id),
            None => Secrets::New(self.reader.seal(&set, now)?),
        };
        let object = Object {
            kind: edit.kind,
            id: edit.id.clone(),
            revision: 0,
            body,
            secret_id: match &secrets {
                Secrets::None => None,
                Secrets::Kept(id) => Some(id.clone()),
                Secrets::New(record) => Some(record.key.id.clone()),
            },
            secrets: Arc::new(set),
            unreadable: false,
        };
        let change = Change {
            kind: edit.kind.as_str().to_owned(),
            id: edit.id.clone(),
            expect,
            body: Some((object.body.to_string(), secrets)),
        };
        Ok(Some((change, Some(object))))
    }

    /// Makes a prepared change.
    pub(crate) async fn commit(
        &self,
        prepared: Prepared,
        about: &About,
        answer: Option<Keep<'_>>,
    ) -> Result<Outcome, AdminError> {
        let Prepared { done, mut state, changes, after, .. } = prepared;
        if changes.is_empty() {
            return Ok(Outcome { revision: state.revision, done, state });
        }
        let (base, now) = (state.revision, self.clock.now_ms());
        let id = EventId::new(now);
        let revision = Revision {
            revision: base + 1,
            at_ms: now,
            by: about.who.principal.clone(),
            source: about.source.to_owned(),
            reason: about.reason.clone(),
            git_revision: about.git_revision.clone(),
            event_id: id.to_string(),
        };
        for one in &done {
            if let Some(object) = state.objects.get_mut(&(one.kind, one.id.clone())) {
                object.revision = base + 1;
            }
        }
        state.revision = base + 1;
        let event = event(id, now, about, &done, base + 1, after.snapshot.version);
        let kept = answer.map(|answer| answer(&state, base + 1));
        let last = || async { (self.record)(event).await };
        let committed = resource::commit(self.reader.store(), base, &revision, &changes, kept.as_ref(), last).await;
        match committed {
            Ok(revision) => {
                if let Some(changed) = &self.changed {
                    changed().await;
                }
                Ok(Outcome { revision, done, state })
            }
            Err(CommitError::Outdated | CommitError::Conflict { .. }) => Err(AdminError::Outdated),
            Err(CommitError::Refused(reason)) => {
                tracing::error!(reason, "a change of configuration is refused because it cannot be put on record");
                Err(AdminError::Record)
            }
            Err(CommitError::Store(error)) => Err(error.into()),
        }
    }
}

fn expected(edit: &Edit, old: Option<&Object>) -> Result<Expect, AdminError> {
    match (edit.expect, old) {
        (Some(Expect::Absent), Some(_)) => Err(AdminError::Exists),
        (Some(Expect::At(_)), None) => Err(AdminError::NotFound),
        (Some(Expect::At(wanted)), Some(old)) if wanted != old.revision => Err(AdminError::Outdated),
        (_, Some(old)) => Ok(Expect::At(old.revision)),
        (_, None) if matches!(edit.what, What::Remove | What::Patch(_)) => Err(AdminError::NotFound),
        (_, None) => Ok(Expect::Absent),
    }
}

/// A local server runs as bartizan: only whoever has the machine may say what.
fn refuse_command(body: &Value, about: &About, wrong: &mut Vec<Problem>) {
    if !about.operator && body.get("command").is_some_and(|command| !command.is_null()) {
        let text = "a local server stands in the operator's files, or comes with `bartizan apply` on the machine";
        wrong.push(Problem::new("/command", "operator_only", text));
    }
}

/// Who may add servers does not thereby speak for what they offer (P44): what skips its review
/// is for owners. What is so already may stay.
fn refuse_trust(kind: Kind, old: Option<&Object>, new: &Value, about: &About, wrong: &mut Vec<Problem>) {
    if kind != Kind::Server || about.operator || about.owner {
        return;
    }
    let skips = |body: &Value, (member, careful): (&str, &str)| {
        // Absent is the default, of which only that of `trust` skips something.
        body.get(member).and_then(Value::as_str).map_or(member == "trust", |value| value != careful)
    };
    for rule in [("trust", "review"), ("on_new", "hide")] {
        if skips(new, rule) && !old.is_some_and(|old| skips(&old.body, rule)) {
            let text = format!("only an owner sets another value than `{}`", rule.1);
            wrong.push(Problem::new(&format!("/{}", rule.0), "operator_only", text));
        }
    }
}

fn is_id(id: &str) -> bool {
    (1..=128).contains(&id.chars().count()) && !id.chars().any(|c| c.is_control() || c.is_whitespace() || c == '/')
}

/// What the edits break. What was broken before is no reason against them.
fn judge(edits: &[Edit], before: &Overlaid, after: &Overlaid, problems: &mut Vec<Problem>) -> Result<(), AdminError> {
    let edited: BTreeSet<(Kind, &str)> = edits.iter().map(|edit| (edit.kind, edit.id.as_str())).collect();
    let mut others = Vec::new();
    for refused in &after.refused {
        let name = (refused.kind, refused.id.as_str());
        if edited.contains(&name) {
            let about = |one: Problem| if edits.len() > 1 { one.of(refused.kind, &refused.id) } else { one };
            problems.extend(refused.problems.iter().cloned().map(about));
        } else if !before.refused.iter().any(|was| (was.kind, was.id.as_str()) == name) {
            others.extend(refused.problems.iter().cloned().map(|one| one.of(refused.kind, &refused.id)));
        }
    }
    match (problems.is_empty(), others.is_empty()) {
        (true, true) => Ok(()),
        (true, false) => Err(AdminError::InUse(others)),
        _ => {
            problems.append(&mut others);
            Err(AdminError::Invalid(std::mem::take(problems)))
        }
    }
}

/// RFC 7396.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(members) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let Value::Object(into) = target else { return };
    for (key, value) in members {
        if value.is_null() {
            into.shift_remove(key);
        } else {
            merge(into.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

/// A secret that is null in a patch is to go; as an absent one it would be kept.
fn keep_nulls(kind: Kind, body: &mut Value, patch: &Value) {
    for path in kind.secrets() {
        let pointer = format!("/{}", path.join("/"));
        if patch.pointer(&pointer).is_some_and(Value::is_null)
            && let Some((last, parents)) = path.split_last()
        {
            let parent = parents.iter().try_fold(&mut *body, |value, key| value.get_mut(*key));
            if let Some(Value::Object(members)) = parent {
                members.insert((*last).to_owned(), Value::Null);
            }
        }
    }
}

fn event(id: EventId, now: i64, about: &About, done: &[Done], revision: i64, version: u64) -> AuditEvent {
    let method = match done {
        [one] => format!("{}/{}", one.kind.as_str(), one.action),
        _ => format!("resources/{}", about.source),
    };
    let mut event = AuditEvent::new(id, now, EventKind::Admin, about.kind, about.who.clone(), method);
    event.policy_version = version;
    event.target = match done {
        [one] => Some(format!("{}/{}", one.kind.as_str(), one.id)),
        many => Some(format!("{} objects", many.len())),
    };
    event.note = about.reason.clone();
    let change = |objects: Value| {
        json!({"source": about.source, "reason": about.reason, "git_revision": about.git_revision,
            "revision": revision, "objects": objects})
        .to_string()
    };
    let whole = change(json!(done));
    event.change = Some(if whole.len() <= RECORDED {
        whole
    } else {
        // All versions stand in the store; the record names which.
        let names: Vec<String> = done
            .iter()
            .take(NAMED)
            .map(|one| format!("{} {}/{}", one.action, one.kind.as_str(), one.id).chars().take(100).collect())
            .collect();
        change(json!(names))
    });
    event
}
