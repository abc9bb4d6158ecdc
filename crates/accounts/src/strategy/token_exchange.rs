//! `token_exchange`: one token for another (RFC 8693).

use bartizan_catalog::{ServerSpec, TokenConfig};
use bartizan_model::Principal;
use bartizan_oauth::params::Builder;
use bartizan_oauth::token_answer::TokenAnswer;

use super::{endpoint, token_type};
use crate::accounts::{AccountError, Inner};

/// RFC 8693, section 2.1.
pub(super) const GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

pub(super) async fn obtain(
    inner: &Inner,
    spec: &ServerSpec,
    config: &TokenConfig,
    principal: &Principal,
) -> Result<TokenAnswer, AccountError> {
    let endpoint = endpoint::find(inner, spec, config).await?;
    let subject = inner.subject(config, principal, &endpoint.issuer).await?;
    let form = Builder::new()
        .add("grant_type", GRANT)
        .add("subject_token", subject.expose())
        .add("subject_token_type", token_type(config.subject))
        .add("resource", &endpoint.resource)
        .add_some("audience", config.audience.as_deref())
        .add_some("requested_token_type", config.requested_token_type.as_deref())
        .add_some("scope", Some(endpoint.scopes.as_str()).filter(|scopes| !scopes.is_empty()));
    let answer = endpoint::ask(inner, &endpoint.url, &endpoint.client, form).await?;
    // `N_A` says that the token is not for resources (RFC 8693, section 2.2.1).
    endpoint::bearer(answer)
}
