//! What a person sees of the clients they let in, and how they take it back (A19, A25).

use std::collections::BTreeMap;

use bartizan_store::StoreError;
use bartizan_store::repo::{browser_session, oauth_consent, oauth_grant};

use super::{AuthorizationServer, ClientKind};
use crate::event::Action;

/// A client that a person let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApprovedClient {
    /// For [`AuthorizationServer::withdraw`].
    pub client_id: String,
    /// What it called itself; plain text.
    pub name: String,
    /// How it is known.
    pub kind: ClientKind,
    /// Where its codes go.
    pub redirect_hosts: Vec<String>,
    /// Scopes, separated by spaces.
    pub scopes: String,
    /// When it was last agreed to, milliseconds since the epoch.
    pub granted_ms: i64,
    /// When it last got tokens, as long as a grant runs.
    pub last_used_ms: Option<i64>,
    /// Running grants.
    pub grants: usize,
}

/// What ended when somebody signed out everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedOut {
    /// Grants of clients.
    pub grants: usize,
    /// Browser sessions.
    pub browsers: usize,
}

impl AuthorizationServer {
    /// The clients a person (by id) let in, by name.
    ///
    /// # Errors
    /// The store's.
    pub async fn clients_of(&self, person: &str) -> Result<Vec<ApprovedClient>, StoreError> {
        let store = &self.inner.deps.store;
        let mut clients: BTreeMap<String, ApprovedClient> = BTreeMap::new();
        for consent in oauth_consent::list(store, person).await? {
            let client = clients.entry(consent.client_id.clone()).or_insert_with(|| ApprovedClient {
                client_id: consent.client_id,
                name: consent.client_name,
                kind: ClientKind::parse(&consent.client_kind),
                redirect_hosts: Vec::new(),
                scopes: consent.scopes,
                granted_ms: consent.granted_ms,
                last_used_ms: None,
                grants: 0,
            });
            // One host may have been agreed to for several resources.
            if !client.redirect_hosts.contains(&consent.redirect_host) {
                client.redirect_hosts.push(consent.redirect_host);
            }
        }
        for grant in oauth_grant::of_person(store, person).await? {
            if let Some(client) = clients.get_mut(&grant.client_id) {
                client.grants += 1;
                client.last_used_ms = client.last_used_ms.max(Some(grant.used_ms));
            }
        }
        let mut clients: Vec<ApprovedClient> = clients.into_values().collect();
        clients.sort_by(|a, b| (&a.name, &a.client_id).cmp(&(&b.name, &b.client_id)));
        Ok(clients)
    }

    /// A person takes back what a client was let in for: its grants end, and it is asked
    /// about again.
    ///
    /// # Errors
    /// The store's; then nothing changed.
    pub async fn withdraw(&self, person: &str, client_id: &str) -> Result<(), StoreError> {
        oauth_consent::withdraw(&self.inner.deps.store, person, client_id).await?;
        let event = self.inner.event_of(Action::Revoke, true, person, client_id, "withdrawn by the person").await;
        self.inner.record(event);
        Ok(())
    }

    /// Ends all browser sessions and grants of a person. What was agreed to stays agreed to.
    ///
    /// # Errors
    /// The store's; then nothing changed.
    pub async fn sign_out_everywhere(&self, person: &str) -> Result<SignedOut, StoreError> {
        let store = &self.inner.deps.store;
        let browsers = browser_session::count(store, person).await?;
        let grants = oauth_grant::revoke_of_person(store, person, "signed out everywhere").await?;
        let event = self.inner.event_of(Action::Revoke, true, person, "", "signed out everywhere").await;
        self.inner.record(event);
        let number = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        Ok(SignedOut { grants: number(grants), browsers: number(browsers) })
    }

    /// Forgets the accounts of a person at upstream servers, and connections under way.
    /// Returns how many accounts there were.
    ///
    /// # Errors
    /// The store's; then nothing changed.
    pub async fn forget_accounts(&self, person: &str) -> Result<usize, StoreError> {
        let gone = bartizan_store::repo::person::forget_accounts(&self.inner.deps.store, person).await?;
        Ok(usize::try_from(gone).unwrap_or(usize::MAX))
    }
}
