//! What was accepted once is asked about again: streams outlive the request that opened
//! them, and must not outlive its credential.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Identity, Inner, Known};
use crate::error::{AuthError, AuthErrorKind};

/// How long an answer is believed when the database cannot be asked (DESIGN rule 7).
const BELIEVED: Duration = Duration::from_secs(2);
/// A look-up that takes longer counts as failed.
const LOOKUP: Duration = Duration::from_secs(1);

/// The very credential that was accepted, for [`Identity::still_good`]. Opaque: it can
/// only be cloned, compared, and asked about. Two secrets of one token (before and after
/// a rotation) are two of these. It holds a hash at most, and shows nothing of it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Held(Kind);

/// One kind of credential each; an OAuth access token will be another.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Kind {
    /// A development user: its token is as old as the process and ends with it.
    Fixed(Arc<str>),
    /// A service token's id, and the hash of the secret that was offered.
    Service { id: Arc<str>, hash: [u8; 32] },
}

impl Held {
    pub(super) fn fixed(name: &Arc<str>) -> Self {
        Self(Kind::Fixed(Arc::clone(name)))
    }

    pub(super) fn service(id: Arc<str>, hash: [u8; 32]) -> Self {
        Self(Kind::Service { id, hash })
    }
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Kind::Fixed(name) => write!(f, "Held({name})"),
            Kind::Service { id, .. } => write!(f, "Held({id})"),
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
        match known.and_then(|known| self.check(&known, hash)) {
            Ok(_) => {
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
