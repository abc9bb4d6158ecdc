//! Single use of request states: first in this process, then, where another replica
//! could forward the same state, in the store (feature row P9).

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bartizan_store::Store;
use bartizan_store::repo::replay;

use crate::gate::Inner;
use crate::request_state::{Kind, State, StateError};

/// Used states remembered per principal at most.
const USED_MAX: usize = 5_000;
/// Principals without living states are forgotten when there are this many.
const SWEEP_AT: usize = 10_000;
/// Longest wait for the store.
const PATIENCE: Duration = Duration::from_secs(5);
/// Markers of expired states are removed this often, milliseconds.
const PRUNE_EVERY_MS: i64 = 600_000;

/// Which states were used.
pub(crate) struct Replays {
    used: Used,
    store: Option<Store>,
    prune_at_ms: AtomicI64,
}

impl Replays {
    /// None yet; those of other replicas are in the store.
    pub(crate) fn new(store: Option<Store>) -> Self {
        Self { used: Used::default(), store, prune_at_ms: AtomicI64::new(i64::MIN) }
    }

    /// Uses up a state. A parked call is only ever held by one process, so its state
    /// needs no marker, and one that lands elsewhere is not used up.
    ///
    /// # Errors
    /// [`StateError::Used`] the second time, here or on another replica;
    /// [`StateError::Unchecked`] when the store does not answer.
    pub(crate) async fn consume(&self, gate: &Inner, state: &State) -> Result<(), StateError> {
        let now_ms = gate.clock.now_ms();
        self.used.consume(state, now_ms)?;
        let store = match (&self.store, state.kind) {
            (Some(store), Kind::Wrap | Kind::Again) => store,
            (None, _) | (_, Kind::Park) => return Ok(()),
        };
        let marker = format!("request-state/{}", state.id);
        match tokio::time::timeout(PATIENCE, replay::consume(store, &marker, state.expires_ms)).await {
            Ok(Ok(true)) => {
                self.prune(gate, store, now_ms);
                Ok(())
            }
            Ok(Ok(false)) => Err(StateError::Used),
            unknown => {
                // If the marker was written after all, the next try finds it.
                self.used.give_back(state);
                let error = unknown.ok().and_then(Result::err).map(|error| error.to_string());
                tracing::error!(error = error.as_deref().unwrap_or("timeout"), "replay markers cannot be reached");
                Err(StateError::Unchecked)
            }
        }
    }

    /// Removes old markers, now and then.
    fn prune(&self, gate: &Inner, store: &Store, now_ms: i64) {
        let due = self.prune_at_ms.load(Ordering::Relaxed);
        let next = now_ms.saturating_add(PRUNE_EVERY_MS);
        if now_ms < due || self.prune_at_ms.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return;
        }
        let store = store.clone();
        gate.tasks.spawn(async move {
            if let Err(error) = replay::prune(&store, now_ms).await {
                tracing::warn!(%error, "old replay markers cannot be removed");
            }
        });
    }
}

/// The states used in this process, until they would have expired anyway.
#[derive(Debug, Default)]
struct Used(Mutex<HashMap<String, HashMap<String, i64>>>);

impl Used {
    /// Marks a state as used. A principal with too many living states is refused, because
    /// single use could not be kept otherwise; others are not affected.
    ///
    /// # Errors
    /// [`StateError::Used`] the second time.
    fn consume(&self, state: &State, now_ms: i64) -> Result<(), StateError> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= SWEEP_AT && !all.contains_key(&state.principal) {
            all.retain(|_, used| used.values().any(|expires| *expires > now_ms));
        }
        let used = all.entry(state.principal.clone()).or_default();
        if used.len() >= USED_MAX {
            used.retain(|_, expires| *expires > now_ms);
        }
        if used.len() >= USED_MAX || used.contains_key(&state.id) {
            return Err(StateError::Used);
        }
        used.insert(state.id.clone(), state.expires_ms);
        Ok(())
    }

    /// Undoes [`Self::consume`].
    fn give_back(&self, state: &State) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(used) = all.get_mut(&state.principal) {
            used.remove(&state.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use bartizan_model::ServerId;

    use super::*;
    use crate::call::Endpoint;
    use crate::request_state::Binding;

    fn state(principal: &str, id: usize) -> State {
        let endpoint = Endpoint::Server(ServerId::parse("s").unwrap());
        let server = ServerId::parse("s").unwrap();
        let binding = Binding { endpoint: &endpoint, server: &server, principal, method: "m", digest: "d" };
        State::new(Kind::Wrap, &binding, id.to_string(), "n", 1_000, "e".into())
    }

    #[test]
    fn p9_a_state_is_used_once() {
        let used = Used::default();
        used.consume(&state("a", 1), 0).unwrap();
        assert_eq!(used.consume(&state("a", 1), 0), Err(StateError::Used));
        used.consume(&state("b", 1), 0).unwrap();
    }

    #[test]
    fn p9_many_states_of_one_principal_do_not_shut_out_others() {
        let used = Used::default();
        for id in 0..USED_MAX {
            used.consume(&state("a", id), 0).unwrap();
        }
        assert_eq!(used.consume(&state("a", USED_MAX), 0), Err(StateError::Used));
        used.consume(&state("b", 0), 0).unwrap();
        used.consume(&state("a", USED_MAX), 1_000).expect("the old ones have expired");
    }
}
