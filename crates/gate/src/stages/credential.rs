//! `credential`: whose authority goes upstream, and whose upstream session is used.
//! A session belongs to one principal even where the credential is shared, so that
//! no state inside an upstream crosses between people.

use std::sync::Arc;

use bartizan_catalog::{Credential, ServerSpec, Transport};
use bartizan_model::Principal;
use bartizan_upstream::Target;

use crate::exchange::{Exchange, Reject};

/// Owner of what all principals share.
pub(crate) const SHARED: &str = "shared";

/// Chooses the target.
///
/// # Errors
/// None yet: every credential kind of today is stored with the server.
#[expect(clippy::unused_async, reason = "every stage is an async function over an exchange")]
pub(crate) async fn run(x: &mut Exchange) -> Result<(), Reject> {
    let Some(spec) = x.route.as_ref().and_then(|route| route.server()) else { return Ok(()) };
    let (target, identity) = (target(spec, &x.caller.principal), identity(spec));
    x.identity = Some(identity.to_owned());
    x.target = Some(target);
    Ok(())
}

/// The target of a principal's own requests.
pub(crate) fn target(spec: &Arc<ServerSpec>, principal: &Principal) -> Target {
    let owner = match &spec.transport {
        Transport::Stdio { shared: true, .. } => SHARED.into(),
        Transport::Stdio { .. } | Transport::Http { .. } => Arc::clone(principal.key()),
    };
    Target { spec: Arc::clone(spec), principal: owner, caller: Arc::clone(principal.key()) }
}

/// Who may share one cached list: everybody that the upstream cannot tell apart.
pub(crate) fn list_owner(spec: &ServerSpec, principal: &Principal) -> Arc<str> {
    match &spec.transport {
        // A process of one's own may answer with one's own state.
        Transport::Stdio { shared: false, .. } => Arc::clone(principal.key()),
        Transport::Stdio { .. } | Transport::Http { .. } => SHARED.into(),
    }
}

/// Whose authority goes upstream, for the record; never a secret.
pub(crate) fn identity(spec: &ServerSpec) -> &'static str {
    match &spec.credential {
        Credential::None => "none",
        Credential::Headers(_) => "bearer:server",
        Credential::OauthUser(_) => "oauth_user",
    }
}
