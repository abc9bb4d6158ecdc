//! `credential`: whose authority goes upstream, and whose upstream session is used.
//! A session belongs to one principal even where the credential is shared, so that
//! no state inside an upstream crosses between people.

mod login;

use std::sync::Arc;

use bartizan_accounts::AccountError;
use bartizan_catalog::{Credential, ServerSpec, Transport};
use bartizan_model::Principal;
use bartizan_upstream::Target;

use super::{Stage, added};
use crate::exchange::{Exchange, Reject};
use crate::personal;

pub(crate) use login::refused;

/// Owner of what all principals share.
pub(crate) const SHARED: &str = "shared";

/// Chooses the target, and makes a person's own token ready where one is needed.
///
/// # Errors
/// When there is none.
pub(crate) async fn run(x: &mut Exchange) -> Result<(), Reject> {
    let Some(spec) = x.route.as_ref().and_then(|route| route.server()).cloned() else { return Ok(()) };
    x.identity = Some(identity(&spec).to_owned());
    // Explaining asks nobody.
    if !x.dry {
        added::prompt(x).await?;
        let account = match x.gate.personal.ready(&spec, &x.caller.principal).await {
            Err(AccountError::LoginNeeded) => login::login(x, &spec).await?,
            account => account.map_err(|error| unusable(&error))?,
        };
        login::take(x, account);
    }
    x.target = Some(x.gate.personal.target(&spec, &x.caller.principal));
    Ok(())
}

fn unusable(error: &AccountError) -> Reject {
    let (code, retry_after_s) = personal::code(error);
    Reject { retry_after_s, ..Reject::refused(Stage::Credential, code, None) }.noted(error.to_string())
}

/// The target of a principal's own requests, without the authority of a person; see
/// [`crate::personal::Personal::target`].
pub(crate) fn target(spec: &Arc<ServerSpec>, principal: &Principal) -> Target {
    let owner = match &spec.transport {
        Transport::Stdio { shared: true, .. } => SHARED.into(),
        Transport::Stdio { .. } | Transport::Http { .. } => Arc::clone(principal.key()),
    };
    Target { spec: Arc::clone(spec), principal: owner, caller: Arc::clone(principal.key()), authority: None }
}

/// Who may share one cached list: everybody that the upstream cannot tell apart.
pub(crate) fn list_owner(spec: &ServerSpec, principal: &Principal) -> Arc<str> {
    match &spec.transport {
        // A process of one's own may answer with one's own state.
        Transport::Stdio { shared: false, .. } => Arc::clone(principal.key()),
        // The upstream sees who it is.
        Transport::Http { .. } if personal::is_personal(spec) => Arc::clone(principal.key()),
        Transport::Stdio { .. } | Transport::Http { .. } => SHARED.into(),
    }
}

/// Whose authority goes upstream, for the record; never a secret.
pub(crate) fn identity(spec: &ServerSpec) -> &'static str {
    match &spec.credential {
        Credential::Headers(_) => "bearer:server",
        other => other.strategy(),
    }
}
