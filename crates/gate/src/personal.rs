//! As whom the gate goes to servers (feature rows P16, P17, P19): people's own accounts, and
//! every other credential that is not the same text for ever.

use std::sync::{Arc, OnceLock};

use bartizan_accounts::{AccountError, Accounts, After, Request, Standing};
use bartizan_catalog::{Credential, ServerSpec};
use bartizan_model::{Principal, ReasonCode};
use bartizan_upstream::{Authority, Outgoing, Shown, Target, UpstreamError};
use http::HeaderValue;

use crate::stages::credential;

/// Seconds after which a failed authorization server may be there again.
const RETRY_S: u64 = 5;

/// The accounts, once the gate was given them.
#[derive(Clone, Default)]
pub(crate) struct Personal(Arc<OnceLock<Accounts>>);

/// What is shown to one server in the name of one principal.
struct Own {
    accounts: Accounts,
    spec: Arc<ServerSpec>,
    principal: Principal,
}

impl Authority for Own {
    fn current(&self) -> Option<HeaderValue> {
        self.accounts.current(&self.spec, &self.principal).map(|authorization| authorization.header)
    }

    fn show<'a>(&'a self, request: Outgoing<'a>) -> Shown<'a> {
        let Outgoing { url, method, headers, body } = request;
        Box::pin(async move {
            let request = Request { url, method, headers, body };
            self.accounts.show(&self.spec, &self.principal, request).await.map_err(|error| error.to_string())
        })
    }

    fn is_shared(&self) -> bool {
        !is_personal(&self.spec)
    }
}

/// Whether people go to a server as themselves.
pub(crate) fn is_personal(spec: &ServerSpec) -> bool {
    spec.credential.is_personal()
}

/// Whether what a server is shown is not simply in the configuration.
fn has_authority(spec: &ServerSpec) -> bool {
    !matches!(spec.credential, Credential::None | Credential::Headers(_))
}

fn absent() -> AccountError {
    AccountError::Misconfigured("this process has no accounts".to_owned())
}

impl Personal {
    pub(crate) fn set(&self, accounts: Accounts) {
        let _ = self.0.set(accounts);
    }

    /// The target of a principal's own requests. Before anything is sent to it,
    /// [`Self::ready`] must have said that it may be.
    pub(crate) fn target(&self, spec: &Arc<ServerSpec>, principal: &Principal) -> Target {
        let mut target = credential::target(spec, principal);
        if has_authority(spec)
            && let Some(accounts) = self.0.get()
        {
            let (accounts, spec, principal) = (accounts.clone(), Arc::clone(spec), principal.clone());
            target.authority = Some(Arc::new(Own { accounts, spec, principal }));
        }
        target
    }

    /// What to go with is ready in memory; `None` where the configuration has it.
    ///
    /// # Errors
    /// [`AccountError`]; then nothing may be sent.
    pub(crate) async fn ready(
        &self,
        spec: &ServerSpec,
        principal: &Principal,
    ) -> Result<Option<Standing>, AccountError> {
        if !has_authority(spec) {
            return Ok(None);
        }
        let accounts = self.0.get().ok_or_else(absent)?;
        accounts.ready(spec, principal).await.map(Some)
    }

    /// After a server answered 401 to the token of `version`: another one.
    ///
    /// # Errors
    /// [`AccountError`].
    pub(crate) async fn refused(
        &self,
        spec: &ServerSpec,
        principal: &Principal,
        version: i64,
        challenge: Option<&str>,
    ) -> Result<Option<Standing>, AccountError> {
        let accounts = self.0.get().ok_or_else(absent)?;
        match accounts.declined(spec, principal, version, challenge).await {
            After::Retry => self.ready(spec, principal).await,
            After::LoginNeeded => Err(AccountError::LoginNeeded),
            After::Failed(error) => Err(error),
        }
    }

    /// Page on which the person connects the account.
    pub(crate) fn login_url(&self, spec: &ServerSpec) -> Option<String> {
        self.0.get().map(|accounts| accounts.login_url(&spec.id))
    }
}

/// The challenge of a 401, or of a 403 that wants more scopes, if that is what an error is. Then
/// nothing was executed.
pub(crate) fn unauthorized(error: &UpstreamError) -> Option<Option<&str>> {
    match error {
        UpstreamError::Auth { status: 401, challenge } => Some(challenge.as_deref()),
        UpstreamError::Auth { status: 403, challenge: Some(challenge) } if challenge.contains("insufficient_scope") => {
            Some(Some(challenge))
        }
        _ => None,
    }
}

/// The refusal code of an account that cannot be used, and when it may be.
pub(crate) fn code(error: &AccountError) -> (ReasonCode, Option<u64>) {
    match error {
        AccountError::LoginNeeded => (ReasonCode::LoginRequired, None),
        AccountError::Unavailable(_) => (ReasonCode::UpstreamUnavailable, Some(RETRY_S)),
        AccountError::Misconfigured(_) => (ReasonCode::UpstreamAuthFailed, None),
    }
}
