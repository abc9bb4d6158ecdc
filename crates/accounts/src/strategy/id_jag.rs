//! `id_jag`: the company's provider asserts a person to the server's authorization server
//! (identity assertion authorization grant; protocol reference 9.4): first an exchange at the
//! provider, then the JWT bearer grant at the other end. No browser.

use bartizan_catalog::{ServerSpec, TokenConfig};
use bartizan_model::{Principal, Secret};
use bartizan_oauth::params::Builder;
use bartizan_oauth::token_answer::TokenAnswer;
use bartizan_oauth::token_request::ClientAuth;

use super::endpoint::{self, Endpoint};
use super::{token_exchange, token_type};
use crate::accounts::{AccountError, Inner};
use crate::client::{Client, Proof};

/// RFC 7523, section 2.1.
pub(super) const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const ID_JAG: &str = "urn:ietf:params:oauth:token-type:id-jag";

pub(super) async fn obtain(
    inner: &Inner,
    spec: &ServerSpec,
    config: &TokenConfig,
    principal: &Principal,
) -> Result<TokenAnswer, AccountError> {
    let endpoint = endpoint::find(inner, spec, config).await?;
    let assertion = assert(inner, &endpoint, config, principal).await?;
    let form = Builder::new()
        .add("grant_type", JWT_BEARER)
        .add("assertion", assertion.expose())
        .add_some("scope", Some(endpoint.scopes.as_str()).filter(|scopes| !scopes.is_empty()));
    endpoint::bearer(endpoint::ask(inner, &endpoint.url, &endpoint.client, form).await?)
}

/// The assertion of the provider, good for one authorization server and resource.
async fn assert(
    inner: &Inner,
    endpoint: &Endpoint,
    config: &TokenConfig,
    principal: &Principal,
) -> Result<Secret<String>, AccountError> {
    let wrong = |why: &str| AccountError::Misconfigured(why.to_owned());
    let provider = config.provider.as_ref().ok_or_else(|| wrong("no identity provider is configured"))?;
    let subject = inner.subject(config, principal, &provider.issuer).await?;
    let metadata = inner.directory.metadata(&provider.issuer).await?;
    let place = metadata.token_endpoint.as_ref();
    let place = place.ok_or_else(|| wrong("the identity provider has no token endpoint"))?;
    let secret = provider.client_secret.as_ref().map(|secret| Secret::new(secret.expose().clone()));
    let methods = metadata.token_endpoint_auth_methods_supported.as_deref();
    let auth = ClientAuth::choose(methods, secret.is_some());
    let auth =
        auth.ok_or_else(|| wrong("the identity provider takes no client secret in a way that bartizan knows"))?;
    let client = Client::configured(provider.client_id.clone(), Proof::of(secret, auth));
    let form = Builder::new()
        .add("grant_type", token_exchange::GRANT)
        .add("requested_token_type", ID_JAG)
        .add("audience", &endpoint.issuer)
        .add("resource", &endpoint.resource)
        .add("subject_token", subject.expose())
        .add("subject_token_type", token_type(config.subject))
        .add_some("scope", Some(endpoint.scopes.as_str()).filter(|scopes| !scopes.is_empty()));
    let answer = endpoint::ask(inner, place, &client, form).await?;
    // An access token instead would be handed to somebody it is not for.
    if answer.issued_token_type.as_deref() != Some(ID_JAG) {
        return Err(wrong("the identity provider issued something other than an ID-JAG"));
    }
    Ok(answer.access_token)
}
