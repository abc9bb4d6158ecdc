//! Calls that wait upstream for an answer which a modern client sends with its next
//! request (protocol.md 5.3). A parked call lives on this node only, for a limited
//! time, and each round can be taken up once. A lost one is never run again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bartizan_model::EventId;
use bartizan_model::event::AuditEvent;
use bartizan_upstream::UpstreamCall;
use bartizan_wire::Ask;
use tokio::sync::Notify;

/// Parked calls of one principal at most.
pub(crate) const PER_PRINCIPAL: usize = 16;

/// A call that waits.
pub(crate) struct Parked {
    /// The upstream's side.
    pub(crate) call: UpstreamCall,
    /// Unanswered questions; their keys are what the client sees.
    pub(crate) asks: Vec<Ask>,
    /// Its name, with the round.
    pub(crate) park: ParkId,
    /// Event of the call that was forwarded.
    pub(crate) first: EventId,
    /// The event to write when nobody takes the call up again.
    pub(crate) abandoned: Box<AuditEvent>,
    /// Who waits.
    pub(crate) principal: Arc<str>,
}

/// Name of a parked call: random, with the round.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ParkId {
    id: Arc<str>,
    round: u32,
}

impl ParkId {
    /// A new parked call.
    pub(crate) fn new(id: impl Into<Arc<str>>) -> Self {
        Self { id: id.into(), round: 1 }
    }

    /// The next round of the same call.
    pub(crate) fn next(&self) -> Self {
        Self { id: Arc::clone(&self.id), round: self.round.saturating_add(1) }
    }

    /// As inside a request state.
    pub(crate) fn text(&self) -> String {
        format!("{}.{}", self.id, self.round)
    }
}

#[derive(Default)]
struct Table {
    calls: HashMap<String, (Parked, Arc<Notify>)>,
    per_principal: HashMap<Arc<str>, usize>,
}

/// All parked calls of this node.
#[derive(Default)]
pub(crate) struct Parks(Mutex<Table>);

impl Parks {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a call aside. The returned notice fires when it is taken up.
    ///
    /// # Errors
    /// The call itself, when its principal has too many parked already.
    pub(crate) fn put(&self, parked: Parked) -> Result<Arc<Notify>, Box<Parked>> {
        let mut table = self.lock();
        let count = table.per_principal.entry(Arc::clone(&parked.principal)).or_insert(0);
        if *count >= PER_PRINCIPAL {
            return Err(Box::new(parked));
        }
        *count += 1;
        let taken = Arc::new(Notify::new());
        table.calls.insert(parked.park.text(), (parked, Arc::clone(&taken)));
        Ok(taken)
    }

    /// Takes a call up again, or away.
    pub(crate) fn take(&self, id: &str) -> Option<Parked> {
        let mut table = self.lock();
        let (parked, taken) = table.calls.remove(id)?;
        if let Some(count) = table.per_principal.get_mut(&parked.principal) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                table.per_principal.remove(&parked.principal);
            }
        }
        drop(table);
        taken.notify_one();
        Some(parked)
    }

    /// How many calls are parked.
    pub(crate) fn len(&self) -> usize {
        self.lock().calls.len()
    }
}
