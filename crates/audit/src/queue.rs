//! The bounded queue between callers and the writer thread. A push is a lock, a pointer
//! and, at most once per round of the writer, a wake-up.

use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Most items of one round: what the writer holds in memory until it is durable.
const ROUND: usize = 4_096;

/// Why an item was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Full,
    Closed,
}

struct State<T> {
    items: Vec<T>,
    /// Somebody waits for an item in the queue.
    urgent: bool,
    closed: bool,
    /// The writer waits for a first item.
    idle: bool,
    /// The writer collects; only urgency ends that early.
    lingers: bool,
}

pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    wake: Condvar,
    capacity: usize,
}

impl<T> Queue<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        let state = State { items: Vec::new(), urgent: false, closed: false, idle: false, lingers: false };
        Self { state: Mutex::new(state), wake: Condvar::new(), capacity }
    }

    /// No code that can panic runs under the lock, so a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an item; `urgent` when somebody waits for it.
    pub(crate) fn push(&self, item: T, urgent: bool) -> Result<(), (T, Refused)> {
        let mut state = self.lock();
        if state.closed {
            return Err((item, Refused::Closed));
        }
        if state.items.len() >= self.capacity {
            return Err((item, Refused::Full));
        }
        state.items.push(item);
        state.urgent |= urgent || state.items.len() >= ROUND;
        let wake = state.idle || (state.lingers && state.urgent);
        if wake {
            (state.idle, state.lingers) = (false, false);
        }
        drop(state);
        if wake {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Waits for items, then for more of them while nobody is in a hurry, at most
    /// `linger`. Returns false when the queue is closed and empty.
    pub(crate) fn take(&self, into: &mut Vec<T>, linger: Duration) -> bool {
        let mut state = self.lock();
        while state.items.is_empty() {
            if state.closed {
                return false;
            }
            state.idle = true;
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.idle = false;
        let until = Instant::now() + linger;
        while !state.urgent && !state.closed {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state.lingers = true;
            state = self.wake.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.lingers = false;
        Self::drain(&mut state, into);
        true
    }

    /// What is there now, without waiting. Returns false when the queue is closed.
    pub(crate) fn poll(&self, into: &mut Vec<T>) -> bool {
        let mut state = self.lock();
        Self::drain(&mut state, into);
        !state.closed
    }

    /// Waits until closed, at most `timeout`. Returns true when closed.
    pub(crate) fn wait_closed(&self, timeout: Duration) -> bool {
        let state = self.lock();
        let wait = self.wake.wait_timeout_while(state, timeout, |state| !state.closed);
        wait.unwrap_or_else(PoisonError::into_inner).0.closed
    }

    fn drain(state: &mut State<T>, into: &mut Vec<T>) {
        into.clear();
        if state.items.len() <= ROUND {
            mem::swap(&mut state.items, into);
            state.urgent = false;
        } else {
            // The rest is more than a round and stays urgent.
            into.extend(state.items.drain(..ROUND));
        }
    }

    /// Takes no more items; what is in the queue is still handed out.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_all();
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().items.len()
    }
}
