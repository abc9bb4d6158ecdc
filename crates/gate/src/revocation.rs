//! What ends a call from outside while it runs: its credential is taken away, or somebody
//! pulls the kill switch. The call's own task listens, so a call ends the same way whether
//! its client waits, has left, or will come back for a parked one (A14, A25, G24).

use std::sync::Arc;

use bartizan_model::ReasonCode;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared, select};

/// Why a call may not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Stable code, for the client and the record.
    pub code: ReasonCode,
    /// What decided, e.g. the id of a kill switch.
    pub rule: Option<Arc<str>>,
    /// For the record.
    pub note: Arc<str>,
    /// What the client is told; `None` for the sentence of the code.
    pub message: Option<Arc<str>>,
}

impl Ended {
    /// The credential of the call is not good any more.
    pub fn credential() -> Self {
        Self {
            code: ReasonCode::Unauthenticated,
            rule: None,
            note: "the credential was revoked".into(),
            message: Some(
                "The credential of this call is not good any more. The call was ended; whether it had an effect \
                 is not known."
                    .into(),
            ),
        }
    }
}

/// Something a call depends on. Cheap to clone and to make: what it takes to notice the end
/// is set up by the future, which each call asks for once and keeps until it ends.
#[derive(Clone, Default)]
pub struct Revocation(Option<Arc<dyn Fn() -> BoxFuture<'static, Ended> + Send + Sync>>);

impl Revocation {
    /// Nothing ends it.
    pub const NEVER: Self = Self(None);

    /// Ends when the future does. The function is called when a call begins; whatever the
    /// future holds is let go with the call.
    pub fn new(ended: impl Fn() -> BoxFuture<'static, Ended> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(ended)))
    }
}

impl std::fmt::Debug for Revocation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Revocation(..)" } else { "Revocation(never)" })
    }
}

/// Everything one call depends on. Clones wait for the same end.
#[derive(Clone, Default)]
pub(crate) struct Lapse(Option<Shared<BoxFuture<'static, Ended>>>);

impl Lapse {
    /// From now on.
    pub(crate) fn of(source: &Revocation) -> Self {
        Self(source.0.as_ref().map(|watch| watch().shared()))
    }

    /// One thing more; what comes first counts.
    pub(crate) fn add(&mut self, source: &Revocation) {
        let Some(new) = source.0.as_ref().map(|watch| watch()) else { return };
        self.0 = Some(match self.0.take() {
            Some(old) => select(old, new).map(|first| first.factor_first().0).boxed().shared(),
            None => new.shared(),
        });
    }

    /// Resolves when the call may not go on. Safe to drop while waiting.
    pub(crate) async fn ended(&self) -> Ended {
        match &self.0 {
            Some(ended) => ended.clone().await,
            None => std::future::pending().await,
        }
    }

    /// Whether it has ended, asked now.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended().now_or_never().is_some()
    }

    /// Why, once somebody has waited for it to the end.
    pub(crate) fn why(&self) -> Option<Ended> {
        self.0.as_ref()?.peek().cloned()
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;

    fn source(token: &CancellationToken, code: ReasonCode) -> Revocation {
        let token = token.clone();
        Revocation::new(move || {
            let ended = token.clone().cancelled_owned();
            async move {
                ended.await;
                Ended { code, rule: None, note: code.as_str().into(), message: None }
            }
            .boxed()
        })
    }

    #[tokio::test]
    async fn a25_what_ends_first_counts_and_every_clone_hears_it() {
        let (credential, kill) = (CancellationToken::new(), CancellationToken::new());
        let mut lapse = Lapse::of(&source(&credential, ReasonCode::Unauthenticated));
        lapse.add(&Revocation::NEVER);
        lapse.add(&source(&kill, ReasonCode::Killed));
        let parked = lapse.clone();
        assert!(!lapse.has_ended());
        kill.cancel();
        assert_eq!(parked.ended().await.code, ReasonCode::Killed);
        credential.cancel();
        assert_eq!(lapse.ended().await.code, ReasonCode::Killed);
        assert_eq!(lapse.why(), parked.why());
    }

    #[tokio::test]
    async fn a25_without_a_source_nothing_ends() {
        let mut lapse = Lapse::of(&Revocation::NEVER);
        assert!(!lapse.has_ended());
        let kill = CancellationToken::new();
        lapse.add(&source(&kill, ReasonCode::Killed));
        kill.cancel();
        assert!(lapse.has_ended());
    }
}
