//! What people agreed to (A19).

use super::{change, oauth_code, oauth_grant};
use crate::engine::Store;
use crate::error::StoreError;
use crate::exec::{Arg, Row, Statement};

const PUT: Statement = Statement::write(
    "oauth_consent.put",
    "INSERT INTO oauth_consent (person, client_id, redirect_host, resource, client_name, client_kind, scopes, granted_ms) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
     ON CONFLICT (person, client_id, redirect_host, resource) DO UPDATE SET client_name = excluded.client_name, \
       client_kind = excluded.client_kind, scopes = excluded.scopes, granted_ms = excluded.granted_ms",
);
const GET: Statement = Statement::read(
    "oauth_consent.get",
    "SELECT person, client_id, redirect_host, resource, client_name, client_kind, scopes, granted_ms FROM oauth_consent \
     WHERE person = $1 AND client_id = $2 AND redirect_host = $3 AND resource = $4",
);
const LIST: Statement = Statement::read(
    "oauth_consent.list",
    "SELECT person, client_id, redirect_host, resource, client_name, client_kind, scopes, granted_ms FROM oauth_consent \
     WHERE person = $1 ORDER BY granted_ms DESC LIMIT 1000",
);
const DELETE: Statement =
    Statement::write("oauth_consent.delete", "DELETE FROM oauth_consent WHERE person = $1 AND client_id = $2");
pub(crate) fn statements() -> Vec<Statement> {
    super::list![PUT, GET, LIST, DELETE].into()
}

/// One agreement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consent {
    /// Person's id.
    pub person: String,
    /// The client.
    pub client_id: String,
    /// Where its codes go.
    pub redirect_host: String,
    /// Where its tokens are good.
    pub resource: String,
    /// Its name when it was agreed to.
    pub client_name: String,
    /// How it is known.
    pub client_kind: String,
    /// Scopes, separated by spaces.
    pub scopes: String,
    /// When, milliseconds since the epoch.
    pub granted_ms: i64,
}

fn consent(row: &Row) -> Result<Consent, StoreError> {
    Ok(Consent {
        person: row.text(0, "oauth_consent.person")?,
        client_id: row.text(1, "oauth_consent.client_id")?,
        redirect_host: row.text(2, "oauth_consent.redirect_host")?,
        resource: row.text(3, "oauth_consent.resource")?,
        client_name: row.text(4, "oauth_consent.client_name")?,
        client_kind: row.text(5, "oauth_consent.client_kind")?,
        scopes: row.text(6, "oauth_consent.scopes")?,
        granted_ms: row.int(7, "oauth_consent.granted_ms")?,
    })
}

/// Notes an agreement, in place of an earlier one with this client, redirect host and resource.
///
/// # Errors
/// When the database does not answer.
pub async fn put(store: &Store, new: &Consent) -> Result<(), StoreError> {
    let args = [
        Arg::Text(&new.person),
        Arg::Text(&new.client_id),
        Arg::Text(&new.redirect_host),
        Arg::Text(&new.resource),
        Arg::Text(&new.client_name),
        Arg::Text(&new.client_kind),
        Arg::Text(&new.scopes),
        Arg::Int(new.granted_ms),
    ];
    store.execute(&PUT, &args).await.map(drop)
}

/// What a person agreed to with a client at a redirect host for a resource.
///
/// # Errors
/// When the database does not answer.
pub async fn get(
    store: &Store,
    person: &str,
    client: &str,
    redirect_host: &str,
    resource: &str,
) -> Result<Option<Consent>, StoreError> {
    let args = [Arg::Text(person), Arg::Text(client), Arg::Text(redirect_host), Arg::Text(resource)];
    store.fetch_optional(&GET, &args).await?.as_ref().map(consent).transpose()
}

/// All of a person, the newest first, at most 1,000.
///
/// # Errors
/// When the database does not answer.
pub async fn list(store: &Store, person: &str) -> Result<Vec<Consent>, StoreError> {
    store.fetch_all(&LIST, &[Arg::Text(person)]).await?.iter().map(consent).collect()
}

/// Takes an agreement back: the consent, codes on their way, and all grants. Returns how
/// many grants ended.
///
/// # Errors
/// When the database does not answer; then nothing changed.
pub async fn withdraw(store: &Store, person: &str, client_id: &str) -> Result<u64, StoreError> {
    let (now, args) = (store.now_ms(), [Arg::Text(person), Arg::Text(client_id)]);
    let mut tx = store.begin().await?;
    tx.execute(&DELETE, &args).await?;
    // First the codes: one that is being redeemed is waited for, and its grant then seen.
    tx.execute(&oauth_code::DELETE_OF_CLIENT, &args).await?;
    let ended =
        tx.execute(&oauth_grant::REVOKE_OF_CLIENT, &[args[0], args[1], Arg::Int(now), Arg::Text("withdrawn")]).await?;
    change::append_in(&mut tx, oauth_grant::TOPIC, person, now).await?;
    tx.commit().await?;
    Ok(ended)
}
