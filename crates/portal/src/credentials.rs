//! Streams and long calls must not outlive the credential that opened them. Everything
//! open with one credential shares one [`Watch`]'s question, asked twice a second.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bartizan_identity::{Held, Identity};
use futures_util::StreamExt as _;
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

/// The authority of one call: watched only when the call takes long, since most end
/// before a question could be asked.
pub(crate) struct Authority {
    credentials: Arc<Credentials>,
    held: Option<Held>,
    watch: Option<Watch>,
}

impl Authority {
    /// `held` is None for a caller without a credential: nothing can be revoked.
    pub(crate) fn new(credentials: &Arc<Credentials>, held: Option<&Held>) -> Self {
        Self { credentials: Arc::clone(credentials), held: held.cloned(), watch: None }
    }

    /// Watches from now on.
    pub(crate) fn settle(&mut self) {
        if self.watch.is_none() {
            self.watch = self.held.as_ref().map(|held| self.credentials.watch(held));
        }
    }

    /// Ends when the credential is not good any more, if it is watched.
    pub(crate) async fn revoked(&self) {
        match &self.watch {
            Some(watch) => watch.revoked().await,
            None => std::future::pending().await,
        }
    }
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
