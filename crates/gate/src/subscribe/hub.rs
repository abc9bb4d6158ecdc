//! One upstream's notes for all who listen.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bartizan_catalog::ServerSpec;
use bartizan_model::{Principal, ServerId};
use bartizan_upstream::{ServerNote, Target};
use tokio::sync::{broadcast, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::gate::Inner;
use crate::stages::credential;

/// Notes a slow listener may be behind.
const BEHIND: usize = 256;

type Key = (ServerId, Arc<str>, Arc<str>);

/// Listens to one upstream.
pub(crate) struct Hub {
    pub(crate) spec: Arc<ServerSpec>,
    /// Session that is listened on: of whoever came first.
    pub(crate) target: Target,
    notes: broadcast::Sender<Arc<ServerNote>>,
    _stop: DropGuard,
}

impl Hub {
    /// A receiver of what is said from now on.
    pub(crate) fn listen(&self) -> broadcast::Receiver<Arc<ServerNote>> {
        self.notes.subscribe()
    }

    /// Whether the session listened on is the principal's own.
    pub(crate) fn is_of(&self, principal: &Principal) -> bool {
        self.target.principal == *principal.key()
    }
}

/// All hubs.
pub(crate) struct Hubs {
    hubs: Mutex<HashMap<Key, Weak<Hub>>>,
    snapshots: watch::Sender<u64>,
}

impl Hubs {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self { hubs: Mutex::default(), snapshots: watch::Sender::new(0) }
    }

    /// Fires whenever the snapshot was swapped.
    pub(crate) fn snapshots(&self) -> watch::Receiver<u64> {
        self.snapshots.subscribe()
    }

    /// The snapshot was swapped.
    pub(crate) fn snapshot_changed(&self) {
        self.snapshots.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// The hub for a server, shared with all who may share it.
    pub(crate) fn join(&self, gate: &Arc<Inner>, spec: &Arc<ServerSpec>, principal: &Principal) -> Arc<Hub> {
        let key = (spec.id.clone(), Arc::clone(&spec.version), credential::list_owner(spec, principal));
        let mut hubs = self.hubs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hub) = hubs.get(&key).and_then(Weak::upgrade) {
            return hub;
        }
        hubs.retain(|_, hub| hub.strong_count() > 0);
        let target = gate.personal.target(spec, principal);
        let stop = CancellationToken::new();
        let (notes, _) = broadcast::channel(BEHIND);
        let mut upstream = gate.upstreams.watch(&target);
        let (lists, server, out, stopped) = (Arc::clone(&gate.lists), spec.id.clone(), notes.clone(), stop.clone());
        gate.tasks.spawn(async move {
            loop {
                let note = tokio::select! {
                    note = upstream.recv() => note,
                    () = stopped.cancelled() => return,
                };
                match note {
                    Ok(note) => {
                        if let ServerNote::ListChanged(kind) = &note {
                            lists.changed(&server, *kind);
                        }
                        // Without listeners there is nobody to tell.
                        let _ = out.send(Arc::new(note));
                    }
                    Err(broadcast::error::RecvError::Lagged(_)) => lists.all_changed(&server),
                    Err(broadcast::error::RecvError::Closed) => return,
                }
            }
        });
        let hub = Arc::new(Hub { spec: Arc::clone(spec), target, notes, _stop: stop.drop_guard() });
        hubs.insert(key, Arc::downgrade(&hub));
        hub
    }
}
