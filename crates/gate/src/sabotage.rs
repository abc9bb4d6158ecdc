//! Switches for tests that prove what a stage is for: skip it, make it panic, stop
//! in front of it. Compiled only for tests and under the feature `sabotage`, which
//! the shipped binary never enables.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::stages::Stage;

/// The switches of one gate.
#[derive(Debug, Default)]
pub struct Sabotage(Mutex<Switches>);

#[derive(Debug, Default)]
struct Switches {
    skipped: HashSet<Stage>,
    panics: HashSet<Stage>,
    stops: HashMap<Stage, Stop>,
    forgets_facts: bool,
}

/// A place where calls wait.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// Notified when a call has arrived.
    pub reached: Arc<Notify>,
    /// Lets one call go on.
    pub go: Arc<Notify>,
}

impl Sabotage {
    fn with<T>(&self, f: impl FnOnce(&mut Switches) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Leaves a stage out from now on.
    pub fn skip(&self, stage: Stage) {
        self.with(|s| s.skipped.insert(stage));
    }

    /// Panics on entering a stage from now on.
    pub fn panic_at(&self, stage: Stage) {
        self.with(|s| s.panics.insert(stage));
    }

    /// Holds calls in front of a stage until told to go on.
    pub fn stop_at(&self, stage: Stage) -> Stop {
        self.with(|s| s.stops.entry(stage).or_default().clone())
    }

    /// Keeps views and answers without the facts of the session they were made for.
    pub fn forget_facts(&self) {
        self.with(|s| s.forgets_facts = true);
    }

    pub(crate) fn forgets_facts(&self) -> bool {
        self.with(|s| s.forgets_facts)
    }

    /// Undoes everything.
    pub fn clear(&self) {
        self.with(|s| *s = Switches::default());
    }

    pub(crate) fn is_skipped(&self, stage: Stage) -> bool {
        self.with(|s| s.skipped.contains(&stage))
    }

    /// Waits, panics, or says whether the stage runs.
    pub(crate) async fn enter(&self, stage: Stage) -> bool {
        let (skipped, panics, stop) =
            self.with(|s| (s.skipped.contains(&stage), s.panics.contains(&stage), s.stops.get(&stage).cloned()));
        if let Some(stop) = stop {
            stop.reached.notify_one();
            stop.go.notified().await;
        }
        assert!(!panics, "sabotaged stage {}", stage.as_str());
        // Without `route` there is no target at all; it looks at the switch itself.
        !skipped || stage == Stage::Route
    }
}
