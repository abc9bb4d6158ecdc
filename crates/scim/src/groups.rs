//! Groups.

use std::collections::BTreeSet;

use bartizan_store::repo::scim::group::{self, Changed, Group};
use serde_json::{Map, Value, json};

use crate::error::ScimError;
use crate::http::{Conditions, Scim, full, tag};
use crate::query::{BATCH, Found, MAX_LOOKED_AT, Query};
use crate::schema::GROUP;
use crate::{filter, patch, value};

/// Longest name, bytes; as long as a group of a claim may be.
const MAX_NAME: usize = 256;
/// Longest id of a member, bytes.
const MAX_ID: usize = 64;
/// Times a change is tried again when somebody else was faster.
const TRIES: usize = 5;

/// The group and its members out of a resource.
fn row(
    id: &str,
    mut content: Map<String, Value>,
    before: Option<&Group>,
) -> Result<(Group, BTreeSet<String>), ScimError> {
    let members = members(content.shift_remove("members"))?;
    let name = content.get("displayName").and_then(Value::as_str).unwrap_or_default().to_owned();
    // A policy compares names as they are, so what looks like another one is refused.
    if name.is_empty() || name.len() > MAX_NAME || name.trim() != name || name.chars().any(char::is_control) {
        return Err(ScimError::value("`displayName` has 1 to 256 bytes and no spaces around it"));
    }
    if name == bartizan_store::repo::person::LOCAL_GROUP {
        return Err(ScimError::value("this `displayName` is the group of the installation's own account"));
    }
    let text = serde_json::to_string(&content).map_err(|_| ScimError::syntax("the resource cannot be kept"))?;
    let group = Group {
        id: id.to_owned(),
        name,
        external_id: content.get("externalId").and_then(Value::as_str).map(str::to_owned),
        content: text,
        version: before.map_or(1, |before| before.version),
        created_ms: before.map_or(0, |before| before.created_ms),
        modified_ms: before.map_or(0, |before| before.modified_ms),
    };
    Ok((group, members))
}

fn members(list: Option<Value>) -> Result<BTreeSet<String>, ScimError> {
    let Some(Value::Array(list)) = list else { return Ok(BTreeSet::new()) };
    let one = |member: &Value| {
        if member.get("type").and_then(Value::as_str).is_some_and(|kind| !kind.eq_ignore_ascii_case("User")) {
            return Err(ScimError::value("only users are members of groups"));
        }
        let id = member.get("value").and_then(Value::as_str).filter(|id| !id.is_empty() && id.len() <= MAX_ID);
        id.map(str::to_owned).ok_or_else(|| ScimError::value("a member has the id of a user as its `value`"))
    };
    list.iter().map(one).collect()
}

fn stranger() -> ScimError {
    ScimError::value("a member is no user of this service")
}

impl Scim {
    async fn show_group(
        &self,
        row: &Group,
        members: Option<&BTreeSet<String>>,
    ) -> Result<Map<String, Value>, ScimError> {
        let mut content: Map<String, Value> = serde_json::from_str(&row.content).map_err(|_| {
            tracing::error!(id = row.id, "a provisioned group cannot be read");
            ScimError::busy()
        })?;
        if let Some(members) = members.filter(|members| !members.is_empty()) {
            let one = |id: &String| json!({"value": id, "$ref": format!("{}/Users/{id}", self.base), "type": "User"});
            content.insert("members".to_owned(), members.iter().map(one).collect());
        }
        Ok(full(&self.base, &GROUP, &row.id, row.version, (row.created_ms, row.modified_ms), content))
    }

    async fn members(&self, id: &str) -> Result<BTreeSet<String>, ScimError> {
        group::members(&self.deps.store, id).await.map_err(|e| ScimError::store(&e, "group"))
    }

    pub(crate) async fn read_group(&self, id: &str) -> Result<Group, ScimError> {
        let found = group::get(&self.deps.store, id).await.map_err(|e| ScimError::store(&e, "group"))?;
        found.ok_or_else(ScimError::not_found)
    }

    pub(crate) async fn get_group(&self, id: &str, members: bool) -> Result<Map<String, Value>, ScimError> {
        let row = self.read_group(id).await?;
        let members = if members { Some(self.members(id).await?) } else { None };
        self.show_group(&row, members.as_ref()).await
    }

    pub(crate) async fn create_group(&self, body: Map<String, Value>) -> Result<Map<String, Value>, ScimError> {
        let (row, members) = row(&crate::http::new_id()?, value::normalise(&GROUP, body)?, None)?;
        let made = group::create(&self.deps.store, &row, &members).await;
        match made.map_err(|e| ScimError::store(&e, "displayName"))? {
            Changed::Done => {}
            Changed::Stale => return Err(ScimError::busy()),
            Changed::NoUser(_) => return Err(stranger()),
        }
        self.tell_group(&row, "created by the directory");
        self.get_group(&row.id, true).await
    }

    pub(crate) async fn replace_group(
        &self,
        id: &str,
        body: Map<String, Value>,
        conditions: &Conditions,
    ) -> Result<Map<String, Value>, ScimError> {
        let content = value::normalise(&GROUP, body)?;
        self.change_group(id, conditions, |_| Ok(content.clone())).await
    }

    pub(crate) async fn patch_group(
        &self,
        id: &str,
        body: Map<String, Value>,
        conditions: &Conditions,
    ) -> Result<Map<String, Value>, ScimError> {
        let operations = patch::operations(body)?;
        let change = |mut content: Map<String, Value>| {
            patch::apply(&GROUP, &mut content, &operations)?;
            Ok(content)
        };
        self.change_group(id, conditions, change).await
    }

    /// Reads, changes and writes what was read; if somebody else was faster, once more.
    async fn change_group(
        &self,
        id: &str,
        conditions: &Conditions,
        change: impl Fn(Map<String, Value>) -> Result<Map<String, Value>, ScimError>,
    ) -> Result<Map<String, Value>, ScimError> {
        for _ in 0..TRIES {
            let before = self.read_group(id).await?;
            conditions.check(&tag(before.version))?;
            let mut content: Map<String, Value> =
                serde_json::from_str(&before.content).map_err(|_| ScimError::busy())?;
            let present = self.members(id).await?;
            if !present.is_empty() {
                content.insert("members".to_owned(), present.iter().map(|id| json!({"value": id})).collect());
            }
            let (after, members) = row(id, change(content)?, Some(&before))?;
            let done = group::update(&self.deps.store, &after, Some(&members)).await;
            match done.map_err(|e| ScimError::store(&e, "displayName"))? {
                Changed::Done => {
                    self.tell_group(&after, "changed by the directory");
                    return self.get_group(id, true).await;
                }
                Changed::Stale => {}
                Changed::NoUser(_) => return Err(stranger()),
            }
        }
        Err(ScimError::busy())
    }

    pub(crate) async fn delete_group(&self, id: &str, conditions: &Conditions) -> Result<(), ScimError> {
        for _ in 0..TRIES {
            let before = self.read_group(id).await?;
            conditions.check(&tag(before.version))?;
            let done = group::delete(&self.deps.store, id, before.version).await;
            if done.map_err(|e| ScimError::store(&e, "group"))? {
                self.tell_group(&before, "deleted by the directory");
                return Ok(());
            }
        }
        Err(ScimError::busy())
    }

    async fn show_with(&self, row: &Group, members: bool) -> Result<Map<String, Value>, ScimError> {
        let members = if members { Some(self.members(&row.id).await?) } else { None };
        self.show_group(row, members.as_ref()).await
    }

    pub(crate) async fn find_groups(&self, query: &Query) -> Result<Found, ScimError> {
        let failed = |e| ScimError::store(&e, "group");
        let store = &self.deps.store;
        let shown = query.selection.has("members");
        let Some(filter) = &query.filter else {
            let total = group::count(store).await.map_err(failed)?;
            let mut resources = Vec::new();
            let most = u32::try_from(query.count).unwrap_or(0);
            let skip = u64::try_from(query.skip).unwrap_or(u64::MAX);
            for row in group::page(store, skip, most).await.map_err(failed)? {
                resources.push(query.selection.apply(self.show_with(&row, shown).await?));
            }
            return Ok(Found { total: usize::try_from(total).unwrap_or(usize::MAX), resources });
        };
        let members = filter.looks_at("members");
        let mut found = Found::default();
        let few = if let Some(id) = filter.must_equal("id") {
            Some(group::get(store, id).await.map_err(failed)?.into_iter().collect::<Vec<_>>())
        } else if let Some(name) = filter.must_equal("displayName") {
            Some(group::by_name(store, name).await.map_err(failed)?.into_iter().collect())
        } else if let Some(external) = filter.must_equal("externalId") {
            Some(group::by_external(store, external).await.map_err(failed)?)
        } else {
            None
        };
        let (mut last, mut looked_at) = (String::new(), 0);
        loop {
            let rows = match &few {
                Some(rows) => rows.clone(),
                None => group::after(store, &last, BATCH).await.map_err(failed)?,
            };
            looked_at += rows.len();
            if looked_at > MAX_LOOKED_AT {
                return Err(ScimError::too_many());
            }
            for row in &rows {
                let resource = self.show_with(row, members).await?;
                if !filter::matches(filter, &resource) {
                    continue;
                }
                if found.total >= query.skip && found.resources.len() < query.count {
                    let resource = if shown && !members { self.show_with(row, true).await? } else { resource };
                    found.resources.push(query.selection.apply(resource));
                }
                found.total += 1;
            }
            match rows.last() {
                Some(newest) if few.is_none() => last.clone_from(&newest.id),
                _ => return Ok(found),
            }
        }
    }
}
