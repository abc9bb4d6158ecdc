//! Which servers of a portal a person was shown, so that new ones are told of once (P38).

use crate::engine::Store;
use crate::error::StoreError;
use crate::exec::{Arg, Statement};

const GET: Statement =
    Statement::read("portal_shown.get", "SELECT servers FROM portal_shown WHERE person = $1 AND portal = $2");
const PUT: Statement = Statement::write(
    "portal_shown.put",
    "INSERT INTO portal_shown (person, portal, servers, shown_ms) VALUES ($1, $2, $3, $4) \
     ON CONFLICT (person, portal) DO UPDATE SET servers = excluded.servers, shown_ms = excluded.shown_ms",
);

pub(crate) fn statements() -> Vec<Statement> {
    super::list![GET, PUT].into()
}

/// The servers as a JSON list; `None` when the person was shown none yet.
///
/// # Errors
/// When the database does not answer.
pub async fn get(store: &Store, person: &str, portal: &str) -> Result<Option<String>, StoreError> {
    let row = store.fetch_optional(&GET, &[Arg::Text(person), Arg::Text(portal)]).await?;
    row.map(|row| row.text(0, "portal_shown.servers")).transpose()
}

/// Notes what a person was shown.
///
/// # Errors
/// When the database does not answer.
pub async fn put(store: &Store, person: &str, portal: &str, servers: &str) -> Result<(), StoreError> {
    let args = [Arg::Text(person), Arg::Text(portal), Arg::Text(servers), Arg::Int(store.now_ms())];
    store.execute(&PUT, &args).await.map(drop)
}
