//! Who calls: from headers only, before a byte of the body is read (A18). The
//! credential ends here; nothing of it is handed on.

use std::sync::Arc;

use bartizan_gate::{Circumstances, Endpoint, Scopes};
use bartizan_identity::{AuthErrorKind, Held, Identity};
use bartizan_model::Principal;
use http::HeaderMap;

use crate::respond::{Challenge, ProblemKind};
use crate::route::WELL_KNOWN;
use crate::settings::Settings;

/// Who sent a request, and what its credential proves.
pub(crate) struct Recognised {
    pub(crate) principal: Arc<Principal>,
    /// To ask later whether the credential is good still; `None` for anonymous callers.
    pub(crate) held: Option<Held>,
    /// Which credential: a grant or a service token.
    pub(crate) credential: Option<Arc<str>>,
    /// What the credential lets its holder do at most.
    pub(crate) scopes: Scopes,
    pub(crate) circumstances: Circumstances,
}

/// A credential that was offered and is not good.
pub(crate) struct Refused {
    pub(crate) problem: ProblemKind,
    /// The kind of failure, for metrics and the record.
    pub(crate) kind: &'static str,
    /// Whose token it was, when the secret was right.
    pub(crate) principal: Option<Arc<str>>,
}

/// The caller, or why there is none. `anonymous` is used when no credential was sent;
/// whether it may come in is decided by what it asks for. A credential that was sent
/// and is not good never becomes anonymous. A token for another resource than `url` is as
/// bad as an unknown one (A18).
pub(crate) async fn authenticate(
    identity: &Identity,
    anonymous: &Arc<Principal>,
    headers: &HeaderMap,
    url: impl FnOnce() -> String,
    challenge: impl FnOnce(bool) -> Challenge,
) -> Result<Recognised, Refused> {
    let error = match identity.authenticate(headers).await {
        Ok(Some(known)) if known.resource.as_deref().is_none_or(|resource| is_for(resource, &url())) => {
            let scopes = known.scopes.as_deref().map_or(Scopes::ALL, |scopes| Scopes::granted(scopes.iter()));
            let circumstances = Circumstances {
                facts: known.grant.as_ref().map(|grant| Arc::clone(&grant.facts)),
                grant: known.grant.as_ref().map(|grant| Arc::clone(&grant.id)),
                client_id: known.grant.as_ref().map(|grant| grant.client_id.as_str().into()),
                owner: known.grant.as_ref().and_then(|grant| grant.owner.clone()),
                ..Circumstances::default()
            };
            let credential = Some(known.credential_id);
            let held = Some(known.held);
            return Ok(Recognised { principal: known.principal, held, credential, scopes, circumstances });
        }
        Ok(Some(known)) => {
            let principal = Some(Arc::clone(known.principal.key()));
            return Err(Refused {
                problem: ProblemKind::Unauthenticated(challenge(true)),
                kind: "audience",
                principal,
            });
        }
        Ok(None) => {
            return Ok(Recognised {
                principal: Arc::clone(anonymous),
                held: None,
                credential: None,
                scopes: Scopes::ALL,
                circumstances: Circumstances::default(),
            });
        }
        Err(error) => error,
    };
    let problem = match error.kind {
        AuthErrorKind::Unavailable => ProblemKind::AuthUnavailable,
        _ => ProblemKind::Unauthenticated(challenge(true)),
    };
    Err(Refused { problem, kind: error.kind.as_str(), principal: error.principal })
}

/// Whether a token for this canonical URL is good at an endpoint.
fn is_for(resource: &str, url: &str) -> bool {
    resource == url || bartizan_oauth::resource::canonical(url).is_some_and(|url| url == resource)
}

/// Where a client learns how to get a token for an endpoint (RFC 9728 section 3.1: the
/// path of the resource comes after the well-known part). `portal_host` is set when
/// the portal's own host name was used.
pub(crate) fn challenge(
    settings: &Settings,
    endpoint: &Endpoint,
    portal_host: Option<&str>,
    invalid: bool,
    scopes: &[&str],
) -> Challenge {
    let scope = scopes.join(" ");
    if let Some(host) = portal_host {
        return Challenge { resource_metadata: format!("https://{host}{WELL_KNOWN}/mcp"), invalid, scope };
    }
    let (base, path) = (&settings.base_path, endpoint_path(endpoint));
    let origin = settings.public_url.strip_suffix(base.as_str()).unwrap_or(&settings.public_url);
    Challenge { resource_metadata: format!("{origin}{WELL_KNOWN}{base}{path}"), invalid, scope }
}

/// The path of an endpoint under the public URL.
pub(crate) fn endpoint_path(endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::Portal(id) if id.as_str() == crate::route::DEFAULT_PORTAL => "/mcp".to_owned(),
        Endpoint::Portal(id) => format!("/portals/{id}/mcp"),
        Endpoint::Server(id) => format!("/servers/{id}/mcp"),
    }
}

#[cfg(test)]
mod tests {
    use bartizan_config::settings::File;
    use bartizan_model::{PortalId, ServerId};

    use super::*;

    fn metadata(url: &str, endpoint: &Endpoint, host: Option<&str>) -> String {
        let settings = Settings::new(&File::default(), url, ([127, 0, 0, 1], 1).into()).unwrap();
        challenge(&settings, endpoint, host, false, &[]).resource_metadata
    }

    #[test]
    fn a18_the_challenge_names_the_resource() {
        let portal = |id| Endpoint::Portal(PortalId::parse(id).unwrap());
        let server = Endpoint::Server(ServerId::parse("git").unwrap());
        let well_known = "https://h/.well-known/oauth-protected-resource";
        assert_eq!(metadata("https://h", &portal("default"), None), format!("{well_known}/mcp"));
        assert_eq!(metadata("https://h/", &portal("hr"), None), format!("{well_known}/portals/hr/mcp"));
        assert_eq!(metadata("https://h", &server, None), format!("{well_known}/servers/git/mcp"));
        assert_eq!(metadata("https://h/gw", &server, None), format!("{well_known}/gw/servers/git/mcp"));
        let own = metadata("https://h", &portal("hr"), Some("hr.example"));
        assert_eq!(own, "https://hr.example/.well-known/oauth-protected-resource/mcp");
    }
}
