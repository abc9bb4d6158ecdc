//! Fork: Postgres can wake other replicas at commit; SQLite has one node and none to wake.
//! A wake-up only shortens the wait for the next poll, so nothing depends on it.

use crate::engine::Engine;
use crate::error::StoreError;
use crate::exec::{Arg, Statement, Tx};

/// The `LISTEN` channel.
pub(crate) const CHANNEL: &str = "bartizan_change";

const NOTIFY: Statement =
    Statement::write("change.notify", "SELECT 1::bigint FROM (SELECT pg_notify('bartizan_change', $1)) AS woken");

pub(super) fn statements(engine: Engine) -> Vec<Statement> {
    match engine {
        Engine::Sqlite => Vec::new(),
        Engine::Postgres => crate::repo::list![NOTIFY].into(),
    }
}

pub(super) async fn wake(tx: &mut Tx, topic: &str) -> Result<(), StoreError> {
    match tx {
        Tx::Sqlite(_) => Ok(()),
        Tx::Postgres(_) => tx.fetch_optional(&NOTIFY, &[Arg::Text(topic)]).await.map(drop),
    }
}
