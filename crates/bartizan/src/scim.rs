//! Provisioning by a directory, put together (A14).

use axum::Router;
use bartizan_config::settings::{GroupsFrom, Scim, ScimMatch};
use bartizan_scim::ScimDeps;
use bartizan_store::Store;
use bartizan_store::repo::scim::{self, Match, Policy};

use crate::installation::store_failure;
use crate::output::Failure;

/// Makes the store judge people as the configuration says. A command or another process with
/// another configuration would judge otherwise; the last that starts wins, so a change is
/// told, for the record.
pub(crate) async fn apply(store: &Store, settings: Option<&Scim>, providers: usize) -> Result<Option<String>, Failure> {
    if providers > 1 && settings.is_some_and(|scim| scim.by == ScimMatch::ExternalId) {
        // The check of the file says so as well; whoever comes here without it must not pass.
        let message = "`sign_in.scim.match: external_id` needs one identity provider: two may use one subject";
        return Err(Failure::refused("bad_match", message.to_owned()));
    }
    let before = scim::policy_text(store).await.map_err(store_failure)?;
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
    let after = scim::policy_text(store).await.map_err(store_failure)?;
    if before == after {
        return Ok(None);
    }
    tracing::warn!(
        before,
        after,
        people = changed,
        "provisioning counts in another way now, in every process over this store; \
         all of them need the same `sign_in.scim`"
    );
    Ok(Some(format!("from `{before}` to `{after}`, {changed} people changed")))
}

/// The pages with the endpoints of provisioning beside them.
pub(crate) fn beside(pages: Router, deps: ScimDeps) -> Router {
    if deps.tokens.is_empty() {
        return pages;
    }
    Router::new().nest_service("/scim/v2", bartizan_scim::router(deps)).fallback_service(pages)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bartizan_model::ManualClock;
    use bartizan_store::StoreUrl;

    use super::*;

    fn settings(required: bool, by: ScimMatch) -> Scim {
        Scim { tokens: Vec::new(), required, by, groups_from: GroupsFrom::default() }
    }

    #[tokio::test]
    async fn a14_a_change_of_what_provisioning_means_is_told() {
        let store = Store::open(&StoreUrl::Memory, Arc::new(ManualClock::at(1))).await.unwrap();
        assert_eq!(apply(&store, None, 1).await.unwrap(), None);
        let required = settings(true, ScimMatch::UserName);
        assert!(apply(&store, Some(&required), 2).await.unwrap().unwrap().contains("from `off` to `required "));
        assert_eq!(apply(&store, Some(&required), 2).await.unwrap(), None, "as it was");
        // A process that was started without it switches it off for all: not in silence.
        let told = apply(&store, None, 1).await.unwrap().unwrap();
        assert!(told.contains("from `required user_name scim` to `off`"), "{told}");
    }

    #[tokio::test]
    async fn a14_subjects_of_two_providers_are_not_joined() {
        let store = Store::open(&StoreUrl::Memory, Arc::new(ManualClock::at(1))).await.unwrap();
        let by_subject = settings(false, ScimMatch::ExternalId);
        assert!(apply(&store, Some(&by_subject), 2).await.is_err());
        assert_eq!(scim::policy_text(&store).await.unwrap(), "off");
        assert!(apply(&store, Some(&by_subject), 1).await.unwrap().is_some());
    }
}
