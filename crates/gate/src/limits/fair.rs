//! Places for calls in flight, by key, with a queue in front that serves principals in
//! turn: however many calls one principal has waiting, it gets one place per round, so
//! the first waiting call of anybody is called after at most one call of each other
//! principal that waits.
//!
//! What makes it provable: everything happens under one lock; a place that comes free
//! while somebody waits is handed over and never becomes free (so nobody overtakes the
//! queue, and the count cannot rise above the limit); and both a held place and a
//! waiting one are values whose drop gives them back.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Waiting calls of one key at most. When there are more, the principal with the most
/// of them loses its newest.
pub(super) const MAX_WAITING: usize = 256;

/// The places of one limit.
#[derive(Debug)]
pub(super) struct Places {
    /// The most at once for one key.
    max: u32,
    lanes: Mutex<Lanes>,
}

#[derive(Debug, Default)]
struct Lanes {
    by_key: HashMap<Box<str>, Lane>,
    tickets: u64,
}

/// One key: calls in flight, and those that wait. Nobody waits while there is room.
#[derive(Debug, Default)]
struct Lane {
    running: u32,
    waiting: usize,
    /// Principals with waiting calls, the next to be served first, each once.
    turns: VecDeque<Arc<str>>,
    /// Their calls, oldest first; never an empty queue.
    calls: HashMap<Arc<str>, VecDeque<Ticket>>,
}

#[derive(Debug)]
struct Ticket {
    id: u64,
    call: oneshot::Sender<()>,
}

/// A place held by one call; dropping it gives it to the next or back.
#[derive(Debug)]
pub(super) struct Slot {
    places: Arc<Places>,
    key: Box<str>,
}

/// A place in the queue; dropping it leaves the queue.
#[derive(Debug)]
pub(super) struct Waiting {
    places: Arc<Places>,
    key: Box<str>,
    principal: Arc<str>,
    id: u64,
    called: oneshot::Receiver<()>,
    /// The outcome is known and taken over: nothing is left to give back.
    settled: bool,
}

/// What a call gets on arrival.
#[derive(Debug)]
pub(super) enum Entry {
    /// There was room.
    Held(Slot),
    /// It has to wait for its turn.
    Queued(Waiting),
    /// There is no room to wait either.
    Full,
}

impl Places {
    pub(super) fn new(max: u32) -> Arc<Self> {
        Arc::new(Self { max, lanes: Mutex::default() })
    }

    pub(super) fn max(&self) -> u32 {
        self.max
    }

    fn lock(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place, if there is one now. Never overtakes the queue: while somebody waits
    /// there is no room.
    pub(super) fn hold(self: &Arc<Self>, key: &str) -> Option<Slot> {
        if self.max == 0 {
            return None;
        }
        let mut lanes = self.lock();
        if !lanes.by_key.contains_key(key) {
            lanes.by_key.insert(key.into(), Lane::default());
        }
        let lane = lanes.by_key.get_mut(key)?;
        if lane.running >= self.max {
            return None;
        }
        lane.running += 1;
        Some(Slot { places: Arc::clone(self), key: key.into() })
    }

    /// A place now, or one in the queue.
    pub(super) fn enter(self: &Arc<Self>, key: &str, principal: &Arc<str>) -> Entry {
        if self.max == 0 {
            return Entry::Full;
        }
        let mut lanes = self.lock();
        lanes.tickets += 1;
        let id = lanes.tickets;
        if !lanes.by_key.contains_key(key) {
            lanes.by_key.insert(key.into(), Lane::default());
        }
        let Some(lane) = lanes.by_key.get_mut(key) else { return Entry::Full };
        if lane.running < self.max {
            lane.running += 1;
            return Entry::Held(Slot { places: Arc::clone(self), key: key.into() });
        }
        if lane.waiting >= MAX_WAITING && !lane.displace_for(principal) {
            return Entry::Full;
        }
        let (call, called) = oneshot::channel();
        lane.push(principal, Ticket { id, call });
        Entry::Queued(Waiting {
            places: Arc::clone(self),
            key: key.into(),
            principal: Arc::clone(principal),
            id,
            called,
            settled: false,
        })
    }

    /// Whether a call would get a place, now or (if it may wait) later. Counts nothing.
    pub(super) fn has_room(&self, key: &str, waits: Option<&str>) -> bool {
        let lanes = self.lock();
        let Some(lane) = lanes.by_key.get(key) else { return self.max > 0 };
        lane.running < self.max
            || waits.is_some_and(|principal| lane.waiting < MAX_WAITING || lane.longest_beside(principal).is_some())
    }

    /// Gives a place to the next in turn; if nobody waits, back.
    fn release(&self, key: &str) {
        let mut lanes = self.lock();
        let Some(lane) = lanes.by_key.get_mut(key) else { return };
        if !lane.hand_over() {
            lane.running = lane.running.saturating_sub(1);
            if lane.running == 0 {
                lanes.by_key.remove(key);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn keys(&self) -> usize {
        self.lock().by_key.len()
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.lock().by_key.values().map(|lane| lane.waiting).sum()
    }

    /// Calls in flight and calls that wait under a key.
    #[cfg(test)]
    pub(super) fn counts(&self, key: &str) -> (u32, usize) {
        self.lock().by_key.get(key).map_or((0, 0), |lane| {
            let queued: usize = lane.calls.values().map(VecDeque::len).sum();
            assert_eq!((lane.waiting, lane.turns.len()), (queued, lane.calls.len()), "the books agree");
            assert!(queued == 0 || lane.running == self.max, "nobody waits while there is room");
            (lane.running, queued)
        })
    }
}

impl Lane {
    fn push(&mut self, principal: &Arc<str>, ticket: Ticket) {
        let calls = self.calls.entry(Arc::clone(principal)).or_default();
        if calls.is_empty() {
            self.turns.push_back(Arc::clone(principal));
        }
        calls.push_back(ticket);
        self.waiting += 1;
    }

    /// Calls the next one. False when nobody waits.
    fn hand_over(&mut self) -> bool {
        while let Some(principal) = self.turns.pop_front() {
            let Some(calls) = self.calls.get_mut(&principal) else { continue };
            let ticket = calls.pop_front();
            if calls.is_empty() {
                self.calls.remove(&principal);
            } else {
                self.turns.push_back(principal);
            }
            let Some(ticket) = ticket else { continue };
            self.waiting = self.waiting.saturating_sub(1);
            // One that is gone has left the queue before its receiver went.
            if ticket.call.send(()).is_ok() {
                return true;
            }
        }
        false
    }

    /// The principal that has at least two calls more waiting than another one has, so
    /// that giving one of them up makes the queue fairer.
    fn longest_beside(&self, principal: &str) -> Option<Arc<str>> {
        let own = self.calls.get(principal).map_or(0, VecDeque::len);
        let (name, calls) = self.calls.iter().max_by_key(|(_, calls)| calls.len())?;
        (calls.len() >= own + 2).then(|| Arc::clone(name))
    }

    /// Makes room in a full queue; the call that loses its place is refused.
    fn displace_for(&mut self, principal: &str) -> bool {
        let Some(longest) = self.longest_beside(principal) else { return false };
        let Some(newest) = self.calls.get_mut(&longest).and_then(VecDeque::pop_back) else { return false };
        self.waiting = self.waiting.saturating_sub(1);
        drop(newest);
        true
    }

    /// Takes a call out of the queue. False when it is not in it any more.
    fn leave(&mut self, principal: &Arc<str>, id: u64) -> bool {
        let Some(calls) = self.calls.get_mut(principal) else { return false };
        let Some(at) = calls.iter().position(|ticket| ticket.id == id) else { return false };
        calls.remove(at);
        self.waiting = self.waiting.saturating_sub(1);
        if calls.is_empty() {
            self.calls.remove(principal);
            self.turns.retain(|known| known != principal);
        }
        true
    }
}

impl Waiting {
    /// Waits to be called. `None` when the place in the queue was lost to somebody who
    /// has fewer calls waiting.
    pub(super) async fn turn(mut self) -> Option<Slot> {
        let called = (&mut self.called).await.is_ok();
        self.settled = true;
        called.then(|| Slot { places: Arc::clone(&self.places), key: self.key.clone() })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        let still_waits = {
            let mut lanes = self.places.lock();
            lanes.by_key.get_mut(&self.key).is_some_and(|lane| lane.leave(&self.principal, self.id))
        };
        // Calling happens under the lock, so now it either happened or never will.
        if !still_waits && self.called.try_recv().is_ok() {
            self.places.release(&self.key);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.places.release(&self.key);
    }
}

#[cfg(test)]
mod tests;
