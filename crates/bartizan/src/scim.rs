//! Provisioning by a directory, put together (A14).

use axum::Router;
use bartizan_config::settings::{GroupsFrom, Scim, ScimMatch};
use bartizan_scim::ScimDeps;
use bartizan_store::Store;
use bartizan_store::repo::scim::{self, Match, Policy};

use crate::installation::store_failure;
use crate::output::Failure;

/// Makes the store judge people as the configuration says. A command or another process with
/// another configuration would judge otherwise; the last that starts wins.
pub(crate) async fn apply(store: &Store, settings: Option<&Scim>) -> Result<(), Failure> {
    let policy = settings.map(|scim| Policy {
        required: scim.required,
        by: match scim.by {
            ScimMatch::UserName => Match::UserName,
            ScimMatch::Email => Match::Email,
            ScimMatch::ExternalId => Match::ExternalId,
        },
        groups: match scim.groups_from {
            GroupsFrom::Scim => scim::GroupsFrom::Scim,
            GroupsFrom::Claims => scim::GroupsFrom::Claims,
            GroupsFrom::Both => scim::GroupsFrom::Both,
        },
    });
    let changed = scim::set_policy(store, policy.as_ref()).await.map_err(store_failure)?;
    if changed > 0 {
        tracing::warn!(people = changed, "provisioning counts in another way now, which changed people");
    }
    Ok(())
}

/// The pages with the endpoints of provisioning beside them.
pub(crate) fn beside(pages: Router, deps: ScimDeps) -> Router {
    if deps.tokens.is_empty() {
        return pages;
    }
    Router::new().nest_service("/scim/v2", bartizan_scim::router(deps)).fallback_service(pages)
}
