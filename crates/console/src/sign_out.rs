//! Signing out of everything: what ends, in which order (P39).

use std::time::Duration;

use bartizan_identity::{PageProblem, ProviderSignOut};
use tokio::time::{Instant, timeout_at};

use crate::backend::{Real, unavailable};
use crate::upstream::{Visit, principal};

/// How long servers' authorization servers are asked to revoke, all in all. What they were
/// not asked by then is forgotten here all the same.
const REVOKING: Duration = Duration::from_secs(15);
/// How long the provider may take to say where one signs out there.
const LOOKING: Duration = Duration::from_secs(3);

/// What was ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    /// Grants of clients.
    pub(crate) clients: usize,
    /// Browser sessions, this one among them.
    pub(crate) browsers: usize,
    /// Accounts at servers.
    pub(crate) accounts: usize,
    /// Where one signs out at the provider as well.
    pub(crate) provider: Option<ProviderSignOut>,
}

impl Real {
    /// Clients and browsers first: nothing that takes time may keep them alive.
    pub(crate) async fn leave(&self, visit: Visit<'_>, accounts: bool) -> Result<Left, PageProblem> {
        let person = &visit.session.person;
        let ended = self.server.sign_out_everywhere(&person.id).await.map_err(unavailable)?;
        let mut left = Left { clients: ended.grants, browsers: ended.browsers, accounts: 0, provider: None };
        if accounts {
            left.accounts = self.forget_accounts(visit).await?;
        }
        let asked = tokio::time::timeout(LOOKING, self.login.provider_sign_out(visit.session)).await;
        left.provider = asked.unwrap_or_default();
        Ok(left)
    }

    async fn forget_accounts(&self, visit: Visit<'_>) -> Result<usize, PageProblem> {
        let mut gone = 0;
        if let Some(upstream) = &self.upstream {
            let principal = principal(visit.session);
            let own = upstream.accounts.list(&principal).await.map_err(unavailable)?;
            let end = Instant::now() + REVOKING;
            for account in &own {
                let Ok(server) = bartizan_model::ServerId::parse(&account.server) else { continue };
                match timeout_at(end, upstream.accounts.disconnect(&principal, &server)).await {
                    Ok(Ok(true)) => gone += 1,
                    Ok(Ok(false)) => {}
                    Ok(Err(error)) => tracing::warn!(%error, "an account could not be revoked on the way out"),
                    Err(_) => break,
                }
            }
        }
        // Whatever is left, and connections under way.
        let rest = self.server.forget_accounts(&visit.session.person.id).await.map_err(unavailable)?;
        Ok(gone + rest)
    }
}
