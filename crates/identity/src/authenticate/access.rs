//! Access tokens of OAuth clients (A6, A18). Good for one resource; which one is in the
//! answer, and whoever serves a request compares.

use std::sync::Arc;

use bartizan_model::{Principal, PrincipalKind, SignInFacts};
use bartizan_oauth::scope::ScopeSet;
use bartizan_store::repo::oauth_grant::{self, Access, Grant};
use bartizan_store::repo::person::{self, Person};

use super::agent::AgentList;
use super::{Authenticated, Held, Inner};
use crate::error::{AuthError, AuthErrorKind};
use crate::server::GrantContent;

/// What a person lets a client do, and how the person signed in for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantInfo {
    /// Id of the grant.
    pub id: Arc<str>,
    /// The client.
    pub client_id: String,
    /// What the client calls itself.
    pub client_name: String,
    /// What the sign-in told.
    pub facts: Arc<SignInFacts>,
    /// E-mail address of the person who answers for it, when it is an agent's.
    pub owner: Option<Arc<str>>,
}

/// An access token's row, as long as nothing changed.
pub(super) struct KnownAccess {
    authenticated: Authenticated,
    spokesman: Spokesman,
    /// The configuration by which an agent's token was read.
    agents: Option<AgentList>,
    /// End of the token or of its grant, whichever comes first.
    expires_ms: i64,
    pub(super) generation: u64,
    /// What is sealed was opened. Without the token it may stay shut, which does not matter to
    /// whoever asks only whether the token is good.
    pub(super) is_open: bool,
}

/// A grant that runs, as long as nothing changed.
#[derive(Clone)]
pub(super) struct KnownGrant {
    principal: Arc<Principal>,
    spokesman: Spokesman,
    agents: Option<AgentList>,
    expires_ms: i64,
    generation: u64,
}

/// The provider somebody signed in with, and its issuer.
#[derive(Clone)]
struct Spokesman {
    provider: Arc<str>,
    issuer: Arc<str>,
}

impl Spokesman {
    fn of(content: &GrantContent, person: &Person) -> Self {
        Self { provider: content.provider.as_str().into(), issuer: person.issuer.as_str().into() }
    }
}

fn unavailable(error: &bartizan_store::StoreError) -> AuthError {
    tracing::warn!(%error, "an access token could not be checked");
    AuthErrorKind::Unavailable.into()
}

fn principal_of(person: &Person) -> Result<Principal, AuthError> {
    // What cannot be read must not become fewer groups: a rule may forbid by group.
    let groups: Vec<Arc<str>> =
        serde_json::from_str(&person.groups_json).map_err(|_| AuthError::from(AuthErrorKind::Unavailable))?;
    Ok(Principal::new(PrincipalKind::User, person.email.as_str(), groups))
}

impl Inner {
    /// The warm path.
    pub(super) fn cached_access(&self, hash: &[u8; 32]) -> Result<Option<Arc<KnownAccess>>, AuthError> {
        if !self.freshness.is_fresh() {
            return Ok(None);
        }
        let generation = self.freshness.generation();
        let same = |known: &Arc<KnownAccess>| known.generation == generation && self.is_current(known.agents.as_ref());
        if let Some(known) = self.access.get(hash).filter(same) {
            return Ok(Some(known));
        }
        if self.unknown.get(hash) == Some(generation) {
            return Err(AuthErrorKind::Unknown.into());
        }
        Ok(None)
    }

    pub(super) async fn look_up_access(&self, hash: &[u8; 32], token: &str) -> Result<Arc<KnownAccess>, AuthError> {
        let unavailable = |_| AuthError::from(AuthErrorKind::Unavailable);
        let _permit = self.lookups.acquire().await.map_err(unavailable)?;
        self.read_access(hash, Some(token)).await
    }

    /// Reads a token's row and keeps it. With the token itself what is sealed is opened.
    pub(super) async fn read_access(
        &self,
        hash: &[u8; 32],
        token: Option<&str>,
    ) -> Result<Arc<KnownAccess>, AuthError> {
        // A change between reading the row and keeping it makes what is kept worthless.
        let generation = self.freshness.generation();
        let found = oauth_grant::access(&self.store, hash).await.map_err(|error| unavailable(&error))?;
        let Some(access) = found else {
            self.unknown.insert(*hash, generation);
            return Err(AuthErrorKind::Unknown.into());
        };
        let (Ok(content), Ok(scopes)) =
            (serde_json::from_str::<GrantContent>(&access.grant.content), ScopeSet::parse(&access.scopes))
        else {
            return Err(AuthErrorKind::Unavailable.into());
        };
        let (principal, agents) = self.speaks_for(&content, &access.person)?;
        let refuse = |kind| Err(AuthError { kind, principal: Some(Arc::clone(principal.key())) });
        if access.person.deactivated_ms.is_some() {
            return refuse(AuthErrorKind::Suspended);
        }
        if access.grant.revoked_ms.is_some() {
            return refuse(AuthErrorKind::Expired);
        }
        let ends_ms = content.agent.as_deref().and_then(|id| agents.as_ref()?.get(id)?.expires_ms());
        let expires_ms = access.expires_ms.min(access.grant.expires_ms).min(ends_ms.unwrap_or(i64::MAX));
        let spokesman = Spokesman::of(&content, &access.person);
        let credential_id: Arc<str> = format!("grant:{}", access.grant.id).into();
        let facts = self.facts_of(&access, &content, token)?;
        let is_open = facts.is_some();
        let authenticated = Authenticated {
            held: Held::grant(access.grant.id.as_str().into(), *hash, access.expires_ms, Arc::clone(&principal)),
            principal,
            credential_id,
            resource: Some(content.resource.as_str().into()),
            scopes: Some(Arc::new(scopes)),
            grant: Some(Arc::new(info(&access.grant, content, &access.person, facts.unwrap_or_default()))),
        };
        let known = Arc::new(KnownAccess { authenticated, spokesman, agents, expires_ms, generation, is_open });
        self.access.insert(*hash, Arc::clone(&known));
        Ok(known)
    }

    /// What is sealed in a token's grant. `None` only without the token.
    fn facts_of(
        &self,
        access: &Access,
        content: &GrantContent,
        token: Option<&str>,
    ) -> Result<Option<Arc<SignInFacts>>, AuthError> {
        let id = &access.grant.id;
        let Some(token) = token else { return Ok(self.keys.facts(id, content)) };
        let unlocked = self.keys.unlock(id, token, &access.wrapped);
        let facts = unlocked.then(|| self.keys.facts(id, content)).flatten();
        // A token whose grant cannot be read must not count as one without facts.
        facts.map(Some).ok_or_else(|| {
            tracing::warn!(grant = %id, "a grant does not open with its token");
            AuthErrorKind::Unavailable.into()
        })
    }

    /// What time decides, on every request.
    pub(super) fn check_access(&self, known: &KnownAccess) -> Result<Authenticated, AuthError> {
        if self.clock.now_ms() >= known.expires_ms || !self.speaks(&known.spokesman) {
            let principal = Some(Arc::clone(known.authenticated.principal.key()));
            return Err(AuthError { kind: AuthErrorKind::Expired, principal });
        }
        Ok(known.authenticated.clone())
    }

    /// Who a grant of this person speaks for, and the configuration that says so of an agent.
    fn speaks_for(
        &self,
        content: &GrantContent,
        person: &Person,
    ) -> Result<(Arc<Principal>, Option<AgentList>), AuthError> {
        let person = principal_of(person)?;
        Ok(match &content.agent {
            None => (Arc::new(person), None),
            Some(id) => {
                let (principal, list) = self.agent(id, &person)?;
                (Arc::new(principal), Some(list))
            }
        })
    }

    /// Who a grant that runs speaks for now; for streams that were opened with a token which
    /// ended since.
    pub(super) async fn grant_runs(&self, id: &Arc<str>) -> Result<Arc<Principal>, AuthError> {
        let generation = self.freshness.generation();
        let fresh = self.freshness.is_fresh();
        let current = |known: &KnownGrant| known.generation == generation && self.is_current(known.agents.as_ref());
        let known = self.grants.get(id).filter(|known| fresh && current(known));
        let known = match known {
            Some(known) => known,
            None => {
                let known = self.read_grant(id, generation).await?;
                self.grants.insert(Arc::clone(id), known.clone());
                known
            }
        };
        let runs = self.clock.now_ms() < known.expires_ms && self.speaks(&known.spokesman);
        if runs { Ok(known.principal) } else { Err(AuthErrorKind::Expired.into()) }
    }

    fn speaks(&self, spokesman: &Spokesman) -> bool {
        self.known_provider.get().is_none_or(|known| known(&spokesman.provider, &spokesman.issuer))
    }

    async fn read_grant(&self, id: &str, generation: u64) -> Result<KnownGrant, AuthError> {
        let found = oauth_grant::by_id(&self.store, id).await.map_err(|error| unavailable(&error))?;
        let grant = found.filter(|grant| grant.revoked_ms.is_none()).ok_or(AuthErrorKind::Expired)?;
        let person = person::by_id(&self.store, &grant.person).await.map_err(|error| unavailable(&error))?;
        match person {
            Some(person) if person.deactivated_ms.is_none() => {
                let content: GrantContent =
                    serde_json::from_str(&grant.content).map_err(|_| AuthError::from(AuthErrorKind::Unavailable))?;
                let (principal, agents) = self.speaks_for(&content, &person)?;
                let spokesman = Spokesman::of(&content, &person);
                Ok(KnownGrant { principal, spokesman, agents, expires_ms: grant.expires_ms, generation })
            }
            _ => Err(AuthErrorKind::Suspended.into()),
        }
    }
}

fn info(grant: &Grant, content: GrantContent, person: &Person, facts: Arc<SignInFacts>) -> GrantInfo {
    let (id, client_id) = (grant.id.as_str().into(), grant.client_id.clone());
    let owner = content.agent.is_some().then(|| person.email.as_str().into());
    GrantInfo { id, client_id, client_name: content.client_name, facts, owner }
}
