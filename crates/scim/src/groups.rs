//! Groups.

use std::collections::BTreeSet;

use bartizan_store::repo::scim::group::{self, Changed, Group};
use bartizan_store::{Store, StoreError};
use serde_json::{Map, Value, json};

use crate::error::ScimError;
use crate::http::{Conditions, Scim, full, tag};
use crate::schema::GROUP;
use crate::search::Kind;
use crate::{patch, value};

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
}

impl Kind for Group {
    const WHAT: &'static str = "group";
    const NAME: &'static str = "displayName";
    const RELATED: &'static str = "members";

    fn id(&self) -> &str {
        &self.id
    }

    async fn count(store: &Store) -> Result<u64, StoreError> {
        group::count(store).await
    }

    async fn page(store: &Store, skip: u64, most: u32) -> Result<Vec<Self>, StoreError> {
        group::page(store, skip, most).await
    }

    async fn after(store: &Store, last: &str, most: u32) -> Result<Vec<Self>, StoreError> {
        group::after(store, last, most).await
    }

    async fn get(store: &Store, id: &str) -> Result<Option<Self>, StoreError> {
        group::get(store, id).await
    }

    async fn named(store: &Store, name: &str) -> Result<Vec<Self>, StoreError> {
        Ok(group::by_name(store, name).await?.into_iter().collect())
    }

    async fn by_external(store: &Store, external: &str) -> Result<Vec<Self>, StoreError> {
        group::by_external(store, external).await
    }

    async fn show(&self, scim: &Scim, related: bool) -> Result<Map<String, Value>, ScimError> {
        let members = if related { Some(scim.members(&self.id).await?) } else { None };
        scim.show_group(self, members.as_ref()).await
    }
}
