//! What was accepted once is asked about again: streams outlive the request that opened
//! them, and must not outlive its credential.

use std::sync::Arc;
use std::time::Duration;

use bartizan_model::Principal;
use tokio::time::Instant;

use super::{Identity, Inner, Known};
use crate::error::{AuthError, AuthErrorKind};

/// How long an answer is believed when the database cannot be asked (DESIGN rule 7).
const BELIEVED: Duration = Duration::from_secs(2);
/// A look-up that takes longer counts as failed.
const LOOKUP: Duration = Duration::from_secs(1);

/// The very credential that was accepted, for [`Identity::still_good`]. Opaque: it can
/// only be cloned, compared, and asked about. Two secrets of one token (before and after
/// a rotation) are two of these. It holds a hash at most, and shows nothing of it. That of a
/// grant is also no longer good when whoever it speaks for is called otherwise or is in
/// other groups: what was decided for the former must not go on.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Held(Kind);

/// One kind of credential each.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Kind {
    /// A development user: its token is as old as the process and ends with it.
    Fixed(Arc<str>),
    /// A service token's id, and the hash of the secret that was offered.
    Service { id: Arc<str>, hash: [u8; 32] },
    /// A grant's id, the access token's hash and end (milliseconds since the epoch), and who
    /// it spoke for.
    Grant { id: Arc<str>, hash: [u8; 32], until_ms: i64, who: Arc<Principal> },
}

impl Held {
    pub(super) fn fixed(name: &Arc<str>) -> Self {
        Self(Kind::Fixed(Arc::clone(name)))
    }

    pub(super) fn service(id: Arc<str>, hash: [u8; 32]) -> Self {
        Self(Kind::Service { id, hash })
    }

    pub(super) fn grant(id: Arc<str>, hash: [u8; 32], until_ms: i64, who: Arc<Principal>) -> Self {
        Self(Kind::Grant { id, hash, until_ms, who })
    }
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Kind::Fixed(name) => write!(f, "Held({name})"),
            Kind::Service { id, .. } | Kind::Grant { id, .. } => write!(f, "Held({id})"),
        }
    }
}

impl Identity {
    /// Whether a credential that was accepted earlier would be accepted now. Cheap while
    /// nothing changes: a look into memory; after a change, one look-up. False as soon as
    /// it is deleted, suspended, expired or rotated away, at most about a second after
    /// that was written anywhere; false too when it could not be checked for two seconds.
    /// Ask once per credential and not once per stream.
    pub async fn still_good(&self, held: &Held) -> bool {
        match &held.0 {
            Kind::Fixed(_) => true,
            Kind::Service { id, hash } => self.inner.still_good(id, hash).await,
            Kind::Grant { id, hash, until_ms, who } => self.inner.grant_still_good(id, hash, *until_ms, who).await,
        }
    }
}

impl Inner {
    async fn still_good(&self, id: &str, hash: &[u8; 32]) -> bool {
        let began = Instant::now();
        let known: Result<Arc<Known>, AuthError> = match self.cached(hash) {
            Ok(Some(known)) => Ok(known),
            // Not among the look-ups of new callers: a flood of unknown credentials must
            // not decide how long a revoked one lives.
            Ok(None) => match tokio::time::timeout(LOOKUP, self.read(id, hash)).await {
                Ok(read) => read,
                Err(_) => Err(AuthErrorKind::Unavailable.into()),
            },
            Err(error) => Err(error),
        };
        self.confirm(hash, began, known.and_then(|known| self.check(&known, hash)).map(drop))
    }

    /// A client exchanges its access token every few minutes and keeps its streams: while
    /// the token lasts it must not be revoked, after that its grant must run; and whoever it
    /// speaks for must be the same, with the same groups.
    async fn grant_still_good(&self, id: &Arc<str>, hash: &[u8; 32], until_ms: i64, who: &Principal) -> bool {
        let began = Instant::now();
        let look = async {
            if self.clock.now_ms() >= until_ms {
                return self.grant_runs(id).await.map(|now| *now == *who);
            }
            let known = match self.cached_access(hash)? {
                Some(known) => known,
                None => self.read_access(hash, None).await?,
            };
            self.check_access(&known).map(|now| *now.principal == *who)
        };
        let looked = tokio::time::timeout(LOOKUP, look).await;
        let answer = match looked.unwrap_or_else(|_| Err(AuthErrorKind::Unavailable.into())) {
            Ok(true) => Ok(()),
            Ok(false) => Err(AuthErrorKind::Expired.into()),
            Err(error) => Err(error),
        };
        self.confirm(hash, began, answer)
    }

    /// What an answer means, with what was known before while there is none.
    fn confirm(&self, hash: &[u8; 32], began: Instant, answer: Result<(), AuthError>) -> bool {
        match answer {
            Ok(()) => {
                self.confirmed.insert(*hash, began);
                true
            }
            Err(error) if error.kind == AuthErrorKind::Unavailable => {
                self.confirmed.get(hash).is_some_and(|last| last.elapsed() < BELIEVED)
            }
            Err(_) => false,
        }
    }
}
