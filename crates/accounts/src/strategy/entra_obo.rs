//! `entra_obo`: on behalf of a person, as Microsoft Entra does it: the JWT bearer grant
//! (RFC 7523) with `requested_token_use`.

use bartizan_catalog::{ServerSpec, TokenConfig};
use bartizan_model::Principal;
use bartizan_oauth::params::Builder;
use bartizan_oauth::token_answer::TokenAnswer;

use super::endpoint;
use super::id_jag::JWT_BEARER;
use crate::accounts::{AccountError, Inner};

pub(super) async fn obtain(
    inner: &Inner,
    spec: &ServerSpec,
    config: &TokenConfig,
    principal: &Principal,
) -> Result<TokenAnswer, AccountError> {
    let endpoint = endpoint::find(inner, spec, config).await?;
    let subject = inner.subject(config, principal, &endpoint.issuer).await?;
    let form = Builder::new()
        .add("grant_type", JWT_BEARER)
        .add("requested_token_use", "on_behalf_of")
        .add("assertion", subject.expose())
        .add("scope", &endpoint.scopes);
    endpoint::bearer(endpoint::ask(inner, &endpoint.url, &endpoint.client, form).await?)
}
