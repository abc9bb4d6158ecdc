//! Assertions that were used.

use std::collections::{HashSet, VecDeque};

/// Bounded: when it is full of what is still good, nobody is let in.
pub(crate) struct Seen {
    most: usize,
    ids: HashSet<String>,
    order: VecDeque<(i64, String)>,
}

impl Seen {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, ids: HashSet::new(), order: VecDeque::new() }
    }

    /// Notes an id until `end`; false for one that was used. Arrival is nearly the order of expiry.
    pub(crate) fn first(&mut self, id: &str, end: i64, now: i64) -> bool {
        while self.order.front().is_some_and(|(end, _)| *end < now) {
            if let Some((_, old)) = self.order.pop_front() {
                self.ids.remove(&old);
            }
        }
        if self.ids.len() >= self.most || !self.ids.insert(id.to_owned()) {
            return false;
        }
        self.order.push_back((end, id.to_owned()));
        true
    }
}
