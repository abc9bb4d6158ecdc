//! Users.

use bartizan_identity::Action;
use bartizan_model::check_user_id;
use bartizan_store::repo::scim::user::{self, User};
use bartizan_store::{Store, StoreError};
use serde_json::{Map, Value, json};

use crate::error::ScimError;
use crate::http::{Conditions, Scim, full, tag};
use crate::schema::USER;
use crate::search::Kind;
use crate::{patch, value};

/// Longest `userName`, characters.
const MAX_NAME: usize = 256;
/// Times a change is tried again when somebody else was faster.
const TRIES: usize = 5;

/// The parts of a user that mean something to us. `before`: what it was.
fn row(id: &str, content: &Map<String, Value>, before: Option<&User>) -> Result<User, ScimError> {
    let name = content.get("userName").and_then(Value::as_str).map(str::trim).unwrap_or_default();
    if name.is_empty() || name.chars().count() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(ScimError::value("`userName` has 1 to 256 characters"));
    }
    let text = serde_json::to_string(content).map_err(|_| ScimError::syntax("the resource cannot be kept"))?;
    // Who is not said to be active again stays inactive.
    let active = content.get("active").and_then(Value::as_bool);
    Ok(User {
        id: id.to_owned(),
        user_name: name.to_lowercase(),
        // As it was sent: two texts that only fold to the same are not the same person.
        name_id: check_user_id(name).ok().map(|id| id.into_owned()),
        email_id: email(content),
        external_id: content.get("externalId").and_then(Value::as_str).map(str::to_owned),
        active: active.unwrap_or_else(|| before.is_none_or(|before| before.active)),
        person: before.and_then(|before| before.person.clone()),
        content: text,
        version: before.map_or(1, |before| before.version),
        created_ms: before.map_or(0, |before| before.created_ms),
        modified_ms: before.map_or(0, |before| before.modified_ms),
    })
}

/// The primary address, or the only one.
fn email(content: &Map<String, Value>) -> Option<String> {
    let all = content.get("emails")?.as_array()?;
    let primary = all.iter().find(|email| email.get("primary") == Some(&Value::Bool(true)));
    let one = primary.or(match all.as_slice() {
        [one] => Some(one),
        _ => None,
    });
    let text = one?.get("value")?.as_str()?;
    check_user_id(text).ok().filter(|id| id.contains('@')).map(|id| id.into_owned())
}

fn content(row: &User) -> Result<Map<String, Value>, ScimError> {
    serde_json::from_str(&row.content).map_err(|_| {
        tracing::error!(id = row.id, "a provisioned user cannot be read");
        ScimError::busy()
    })
}

impl Scim {
    /// A user in the form of an answer.
    async fn show_user(&self, row: &User, groups: bool) -> Result<Map<String, Value>, ScimError> {
        let mut content = content(row)?;
        if groups {
            let groups = user::groups(&self.deps.store, &row.id).await.map_err(|e| ScimError::store(&e, "user"))?;
            if !groups.is_empty() {
                let one = |(id, name): (String, String)| {
                    let at = format!("{}/Groups/{id}", self.base);
                    json!({"value": id, "$ref": at, "display": name, "type": "direct"})
                };
                content.insert("groups".to_owned(), groups.into_iter().map(one).collect());
            }
        }
        Ok(full(&self.base, &USER, &row.id, row.version, (row.created_ms, row.modified_ms), content))
    }

    pub(crate) async fn read_user(&self, id: &str) -> Result<User, ScimError> {
        let found = user::get(&self.deps.store, id).await.map_err(|e| ScimError::store(&e, "user"))?;
        found.ok_or_else(ScimError::not_found)
    }

    pub(crate) async fn get_user(&self, id: &str) -> Result<Map<String, Value>, ScimError> {
        self.show_user(&self.read_user(id).await?, true).await
    }

    pub(crate) async fn create_user(&self, body: Map<String, Value>) -> Result<Map<String, Value>, ScimError> {
        let content = value::normalise(&USER, body)?;
        let row = row(&crate::http::new_id()?, &content, None)?;
        user::create(&self.deps.store, &row).await.map_err(|e| ScimError::store(&e, "userName"))?;
        self.tell(Action::Provision, &row, "created by the directory");
        self.get_user(&row.id).await
    }

    pub(crate) async fn replace_user(
        &self,
        id: &str,
        body: Map<String, Value>,
        conditions: &Conditions,
    ) -> Result<Map<String, Value>, ScimError> {
        let content = value::normalise(&USER, body)?;
        self.change_user(id, conditions, |_| Ok(content.clone())).await
    }

    pub(crate) async fn patch_user(
        &self,
        id: &str,
        body: Map<String, Value>,
        conditions: &Conditions,
    ) -> Result<Map<String, Value>, ScimError> {
        let operations = patch::operations(body)?;
        let change = |before: &User| {
            let mut content = content(before)?;
            patch::apply(&USER, &mut content, &operations)?;
            Ok(content)
        };
        self.change_user(id, conditions, change).await
    }

    /// Reads, changes and writes what was read; if somebody else was faster, once more.
    async fn change_user(
        &self,
        id: &str,
        conditions: &Conditions,
        change: impl Fn(&User) -> Result<Map<String, Value>, ScimError>,
    ) -> Result<Map<String, Value>, ScimError> {
        for _ in 0..TRIES {
            let before = self.read_user(id).await?;
            conditions.check(&tag(before.version))?;
            let after = row(id, &change(&before)?, Some(&before))?;
            if user::update(&self.deps.store, &after).await.map_err(|e| ScimError::store(&e, "userName"))? {
                let (action, what) = match (before.active, after.active) {
                    (true, false) => (Action::Deactivate, "deactivated by the directory"),
                    (false, true) => (Action::Reactivate, "reactivated by the directory"),
                    _ => (Action::Provision, "changed by the directory"),
                };
                self.tell(action, &after, what);
                return self.get_user(id).await;
            }
        }
        Err(ScimError::busy())
    }

    pub(crate) async fn delete_user(&self, id: &str, conditions: &Conditions) -> Result<(), ScimError> {
        for _ in 0..TRIES {
            let before = self.read_user(id).await?;
            conditions.check(&tag(before.version))?;
            let done = user::delete(&self.deps.store, id, before.version).await;
            if done.map_err(|e| ScimError::store(&e, "user"))? {
                self.tell(Action::Delete, &before, "deleted by the directory");
                return Ok(());
            }
        }
        Err(ScimError::busy())
    }
}

impl Kind for User {
    const WHAT: &'static str = "user";
    const NAME: &'static str = "userName";
    const RELATED: &'static str = "groups";

    fn id(&self) -> &str {
        &self.id
    }

    async fn count(store: &Store) -> Result<u64, StoreError> {
        user::count(store).await
    }

    async fn page(store: &Store, skip: u64, most: u32) -> Result<Vec<Self>, StoreError> {
        user::page(store, skip, most).await
    }

    async fn after(store: &Store, last: &str, most: u32) -> Result<Vec<Self>, StoreError> {
        user::after(store, last, most).await
    }

    async fn get(store: &Store, id: &str) -> Result<Option<Self>, StoreError> {
        user::get(store, id).await
    }

    async fn named(store: &Store, name: &str) -> Result<Vec<Self>, StoreError> {
        Ok(user::by_name(store, &name.trim().to_lowercase()).await?.into_iter().collect())
    }

    async fn by_external(store: &Store, external: &str) -> Result<Vec<Self>, StoreError> {
        user::by_external(store, external).await
    }

    async fn show(&self, scim: &Scim, related: bool) -> Result<Map<String, Value>, ScimError> {
        scim.show_user(self, related).await
    }
}
