//! One module per noun; the only place with SQL.

pub mod alert;
pub mod approval;
pub mod audit_body;
pub mod audit_checkpoint;
pub mod audit_index;
pub mod browser_session;
pub mod change;
pub mod client_profile;
pub mod definition;
pub mod export_cursor;
pub mod kept_result;
pub mod kill_switch;
pub mod lease;
pub mod login_state;
pub mod meta;
pub mod oauth_client;
pub mod oauth_code;
pub mod oauth_consent;
pub mod oauth_grant;
pub mod oauth_refresh;
pub mod person;
pub mod portal_shown;
pub mod portal_state;
pub mod replay;
pub mod replica;
pub mod resource;
pub mod scim;
pub mod sealed;
pub mod server_life;
pub mod server_sync;
pub mod service_token;
pub mod upstream_account;
pub mod upstream_connect;
pub mod upstream_revocation;

use crate::engine::Engine;
use crate::exec::Statement;

/// Every statement of the given engine, for the test that prepares them all.
pub(crate) fn statements(engine: Engine) -> Vec<Statement> {
    let mut all = Vec::new();
    all.extend(meta::statements());
    all.extend(change::statements(engine));
    all.extend(kept_result::statements());
    all.extend(kill_switch::statements());
    all.extend(lease::statements());
    all.extend(service_token::statements());
    all.extend(sealed::statements());
    all.extend(client_profile::statements());
    all.extend(definition::statements());
    all.extend(server_life::statements());
    all.extend(server_sync::statements());
    all.extend(alert::statements());
    all.extend(approval::statements());
    all.extend(audit_body::statements());
    all.extend(audit_checkpoint::statements());
    all.extend(audit_index::statements());
    all.extend(export_cursor::statements());
    all.extend(person::statements());
    all.extend(browser_session::statements());
    all.extend(login_state::statements());
    all.extend(portal_shown::statements());
    all.extend(portal_state::statements());
    all.extend(replay::statements());
    all.extend(replica::statements());
    all.extend(resource::statements());
    all.extend(oauth_client::statements());
    all.extend(oauth_code::statements());
    all.extend(oauth_consent::statements());
    all.extend(oauth_grant::statements());
    all.extend(oauth_refresh::statements());
    all.extend(scim::statements());
    all.extend(upstream_account::statements());
    all.extend(upstream_revocation::statements());
    all.extend(upstream_connect::statements());
    all
}

/// Lists the statements of a module for [`statements`].
macro_rules! list {
    ($($name:ident),+ $(,)?) => {
        [$(crate::exec::Statement {
            name: $name.name,
            sql: match &$name.sql {
                crate::exec::Sql::Fixed(sql) => crate::exec::Sql::Fixed(sql),
                crate::exec::Sql::Built(sql) => crate::exec::Sql::Built(std::sync::Arc::clone(sql)),
            },
            writes: $name.writes,
        }),+]
    };
}
pub(crate) use list;
