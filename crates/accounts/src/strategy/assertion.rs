//! `assertion`: who calls, signed by the gateway, for every request anew (A13).

use bartizan_assert::{Assertion, Signer, SignerError, derived_audience};
use bartizan_catalog::{AssertionConfig, ServerSpec};
use bartizan_model::{Principal, PrincipalKind, Secret};
use http::{HeaderName, HeaderValue};

use super::{Standing, nobody, sensitive};
use crate::accounts::{AccountError, Inner};

/// The header that helper libraries look for.
const HEADER: HeaderName = HeaderName::from_static("cf-access-jwt-assertion");

fn signer(inner: &Inner) -> Result<&Signer, AccountError> {
    let absent = || AccountError::Misconfigured("this process signs no assertions".to_owned());
    inner.strategies.signer.get().ok_or_else(absent)
}

pub(super) fn ready(inner: &Inner, principal: &Principal) -> Result<Standing, AccountError> {
    signer(inner)?;
    if principal.kind == PrincipalKind::Anonymous || !principal.is_proper() {
        return Err(nobody());
    }
    Ok(Standing { version: 0, identity: format!("assertion:{}", principal.id).into() })
}

/// The header of one request.
pub(super) async fn sign(
    inner: &Inner,
    spec: &ServerSpec,
    config: &AssertionConfig,
    principal: &Principal,
) -> Result<(HeaderName, HeaderValue), AccountError> {
    let derived;
    let audience = match &config.audience {
        Some(audience) => audience,
        None => {
            derived = derived_audience(&inner.deps.public_url, spec.id.as_str());
            &derived
        }
    };
    let signed = about(inner, principal, audience).await?;
    Ok((HEADER, sensitive(signed.expose())?))
}

/// An assertion about a principal for somebody.
pub(super) async fn about(
    inner: &Inner,
    principal: &Principal,
    audience: &str,
) -> Result<Secret<String>, AccountError> {
    // An agent is its own client, and somebody answers for it.
    let agent = (principal.kind == PrincipalKind::Agent).then_some(&*principal.id);
    let owner = agent.and_then(|agent| inner.strategies.owners.get()?(agent));
    let about = Assertion { principal, audience, client: agent, owner: owner.as_deref() };
    signer(inner)?.sign(&about).await.map_err(|error| match error {
        SignerError::Nobody => nobody(),
        other => AccountError::Unavailable(other.to_string()),
    })
}
