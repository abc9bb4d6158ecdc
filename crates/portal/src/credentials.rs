//! Streams and long calls must not outlive the credential that opened them. Everything
//! open with one credential shares one [`Watch`]'s question, asked twice a second.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bartizan_gate::{Ended, Revocation};
use bartizan_identity::{Held, Identity};
use futures_util::StreamExt as _;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// The credentials of everything that is open at the moment.
#[derive(Default)]
pub(crate) struct Credentials(Mutex<State>);

#[derive(Default)]
struct State {
    next: u64,
    held: HashMap<Held, Entry>,
}

struct Entry {
    number: u64,
    watches: usize,
    revoked: CancellationToken,
}

/// Says when a credential is no longer good. Dropped with the stream it belongs to.
pub(crate) struct Watch {
    credentials: Arc<Credentials>,
    held: Held,
    number: u64,
    revoked: CancellationToken,
}

impl Credentials {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches a credential from now on.
    pub(crate) fn watch(self: &Arc<Self>, held: &Held) -> Watch {
        let mut state = self.lock();
        state.next += 1;
        let number = state.next;
        let entry = state.held.entry(held.clone()).or_insert_with(|| Entry {
            number,
            watches: 0,
            revoked: CancellationToken::new(),
        });
        entry.watches += 1;
        let (number, revoked) = (entry.number, entry.revoked.clone());
        Watch { credentials: Arc::clone(self), held: held.clone(), number, revoked }
    }

    /// Asks about every credential once, all at the same time, so that a database that
    /// does not answer delays none of them more than another.
    pub(crate) async fn check(&self, identity: &Identity) {
        let all: Vec<Held> = self.lock().held.keys().cloned().collect();
        let asked = all.into_iter().map(|held| async move {
            if !identity.still_good(&held).await {
                self.end(&held);
            }
        });
        futures_util::stream::iter(asked).for_each_concurrent(None, |asked| asked).await;
    }

    fn end(&self, held: &Held) {
        if let Some(entry) = self.lock().held.remove(held) {
            entry.revoked.cancel();
        }
    }
}

impl Watch {
    /// Ends when the credential is not good any more.
    pub(crate) fn revoked(&self) -> WaitForCancellationFutureOwned {
        self.revoked.clone().cancelled_owned()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut state = self.credentials.lock();
        // A newer entry of the same credential is somebody else's.
        let Some(entry) = state.held.get_mut(&self.held).filter(|entry| entry.number == self.number) else { return };
        entry.watches -= 1;
        if entry.watches == 0 {
            state.held.remove(&self.held);
        }
    }
}

/// A call that takes longer is watched: most end before a question could be asked. With the
/// time between two questions, less than two seconds in all.
const SETTLED: Duration = Duration::from_secs(1);

/// What the calls made with a credential depend on. `held` is None for a caller without one:
/// nothing can be revoked.
pub(crate) fn revocation(credentials: &Arc<Credentials>, identity: &Arc<Identity>, held: Option<&Held>) -> Revocation {
    let Some(held) = held.cloned() else { return Revocation::NEVER };
    let (credentials, identity) = (Arc::clone(credentials), Arc::clone(identity));
    Revocation::new(move || {
        let (credentials, identity, held) = (Arc::clone(&credentials), Arc::clone(&identity), held.clone());
        let settled = Instant::now() + SETTLED;
        Box::pin(async move {
            tokio::time::sleep_until(settled).await;
            let watch = credentials.watch(&held);
            // Once at once: the call may have waited for longer than a question takes.
            if identity.still_good(&held).await {
                watch.revoked().await;
            }
            Ended::credential()
        })
    })
}

#[cfg(test)]
mod tests {
    use bartizan_model::{ManualClock, Principal, PrincipalKind, Secret};
    use bartizan_store::{Store, StoreUrl};
    use http::HeaderMap;

    use super::*;

    async fn identity() -> Identity {
        let clock = Arc::new(ManualClock::at(1_000));
        let store = Store::open(&StoreUrl::Memory, clock.clone()).await.unwrap();
        let alice = Principal::new(PrincipalKind::User, "alice", []);
        Identity::new(store, clock).with_dev_users(vec![(alice, Secret::new("alice-token".to_owned()))])
    }

    async fn held(identity: &Identity, token: &str) -> Held {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", format!("Bearer {token}").parse().unwrap());
        identity.authenticate(&headers).await.unwrap().unwrap().held
    }

    #[tokio::test]
    async fn a11_everything_open_with_one_credential_ends_together() {
        let identity = identity().await;
        let (_, secret) = identity.tokens().create("ci", None).await.unwrap();
        let (ci, alice) = (held(&identity, secret.expose()).await, held(&identity, "alice-token").await);
        let credentials = Arc::new(Credentials::default());
        let (first, second, other) = (credentials.watch(&ci), credentials.watch(&ci), credentials.watch(&alice));
        credentials.check(&identity).await;
        assert!(!first.revoked.is_cancelled());
        identity.tokens().delete("ci").await.unwrap();
        identity.refresh().await.unwrap();
        credentials.check(&identity).await;
        first.revoked().await;
        second.revoked().await;
        assert!(!other.revoked.is_cancelled());
        // What comes late starts anew, and what ended does not take it away.
        let late = credentials.watch(&ci);
        drop((first, second));
        assert!(!late.revoked.is_cancelled());
        credentials.check(&identity).await;
        late.revoked().await;
    }

    #[tokio::test]
    async fn a11_nothing_is_asked_for_what_is_closed() {
        let identity = identity().await;
        let alice = held(&identity, "alice-token").await;
        let credentials = Arc::new(Credentials::default());
        let watches = [credentials.watch(&alice), credentials.watch(&alice)];
        assert_eq!(credentials.lock().held.len(), 1);
        drop(watches);
        assert!(credentials.lock().held.is_empty());
    }
}
