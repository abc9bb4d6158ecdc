//! What is asked again at each refresh (A5): the provider about the person, and the policy
//! about the person as they are now.

use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use bartizan_model::{Principal, PrincipalKind, SignInFacts};
use bartizan_oauth::{OAuthCode, OAuthError};
use bartizan_store::repo::oauth_grant::{self, Grant};
use bartizan_store::repo::person;

use super::grant::{GrantContent, invalid_grant};
use super::{Inner, ms, unavailable};
use crate::event::Action;
use crate::sealing::GrantKey;

/// What asking a provider about a person again came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// The person is known to be as stored, as of now.
    Current,
    /// The provider, or what we make of its answer, does not let the person in any more.
    Ended(&'static str),
    /// It cannot be asked now.
    Unknown {
        /// When the person was last heard of, milliseconds since the epoch.
        since_ms: i64,
    },
}

/// What follows from [`Again`].
pub(super) enum Confirmed {
    Yes,
    TooLongAgo,
    /// By now nothing of the person's is good any more.
    Ended,
}

/// Asks the provider about a person, by id.
pub type AskAgain = Arc<dyn Fn(String) -> Pin<Box<dyn Future<Output = Again> + Send>> + Send + Sync>;

/// Who wants to go on using a resource.
#[derive(Clone, Debug)]
pub struct Entrance<'a> {
    /// The person, with the groups of now.
    pub principal: &'a Arc<Principal>,
    /// The client of the grant.
    pub client_id: &'a str,
    /// The facts of the sign-in behind the grant.
    pub facts: &'a Arc<SignInFacts>,
    /// Id of the grant.
    pub grant: &'a str,
    /// Canonical URL of the resource.
    pub resource: &'a str,
    /// Where the client is.
    pub peer: IpAddr,
}

/// Whether the policy lets somebody use a resource at all.
pub type MayEnter = Arc<dyn Fn(&Entrance<'_>) -> bool + Send + Sync>;

/// What is asked at each refresh.
#[derive(Clone)]
pub struct AtRefresh {
    /// The provider.
    pub again: AskAgain,
    /// The policy.
    pub may_enter: MayEnter,
}

impl fmt::Debug for AtRefresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AtRefresh").finish_non_exhaustive()
    }
}

impl Inner {
    /// Asks the provider about a person, for a client of theirs. When it ended the sign-in,
    /// everything ends that came of it: all grants and browser sessions.
    pub(super) async fn confirm(&self, person: &str, client: &str, peer: IpAddr) -> Result<Confirmed, OAuthError> {
        let Some(at_refresh) = self.at_refresh.get() else { return Ok(Confirmed::Yes) };
        let longest = ms(self.deps.settings.lifetimes.person_max_age_s);
        match (at_refresh.again)(person.to_owned()).await {
            Again::Current => Ok(Confirmed::Yes),
            // A person nobody can vouch for must sign in again, but only after a while: a
            // provider that is down for an hour must not stop everybody's work.
            Again::Unknown { since_ms } if self.now().saturating_sub(since_ms) <= longest => Ok(Confirmed::Yes),
            Again::Unknown { .. } => Ok(Confirmed::TooLongAgo),
            Again::Ended(why) => {
                let ended = oauth_grant::revoke_of_person(&self.deps.store, person, why).await;
                ended.map_err(|error| unavailable(&error))?;
                let mut event = self.event_of(Action::Revoke, true, person, client, why).await;
                event.ip = Some(peer);
                self.record(event);
                Ok(Confirmed::Ended)
            }
        }
    }

    /// Refuses new tokens for somebody who would not get in now. Ends all that a person has
    /// when the provider says so; what only the policy refuses may be allowed again later.
    pub(super) async fn judge(
        &self,
        grant: &Grant,
        content: &GrantContent,
        key: &GrantKey,
        peer: IpAddr,
    ) -> Result<(), OAuthError> {
        let Some(at_refresh) = self.at_refresh.get() else { return Ok(()) };
        match self.confirm(&grant.person, &grant.client_id, peer).await? {
            Confirmed::Yes => {}
            Confirmed::TooLongAgo => return Err(self.refuse_refresh(grant, peer, "not confirmed for too long").await),
            Confirmed::Ended => return Err(invalid_grant()),
        }
        let found = person::by_id(&self.deps.store, &grant.person).await.map_err(|error| unavailable(&error))?;
        let person = found.filter(|person| person.deactivated_ms.is_none()).ok_or_else(invalid_grant)?;
        // What cannot be read must not become fewer groups: a rule may forbid by group.
        let groups: Vec<Arc<str>> = serde_json::from_str(&person.groups_json)
            .map_err(|_| OAuthError::new(OAuthCode::TemporarilyUnavailable, "the person cannot be read"))?;
        let principal = Arc::new(Principal::new(PrincipalKind::User, person.email.as_str(), groups));
        // A token that does not open its own grant is none.
        let facts = Arc::new(content.facts(&grant.id, key).ok_or_else(invalid_grant)?);
        let entrance = Entrance {
            principal: &principal,
            client_id: &grant.client_id,
            facts: &facts,
            grant: &grant.id,
            resource: &content.resource,
            peer,
        };
        if (at_refresh.may_enter)(&entrance) {
            return Ok(());
        }
        Err(self.refuse_refresh(grant, peer, "the policy does not let them in any more").await)
    }

    async fn refuse_refresh(&self, grant: &Grant, peer: IpAddr, why: &str) -> OAuthError {
        let mut event = self.event_of(Action::Token, false, &grant.person, &grant.client_id, why).await;
        event.ip = Some(peer);
        self.record(event);
        invalid_grant()
    }
}
