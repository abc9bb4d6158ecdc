//! A configuration that can be exchanged while it is in use (O4).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};

/// Why the last reload was not taken.
#[derive(Debug)]
pub struct ReloadError {
    /// When, milliseconds since the epoch.
    pub at_ms: i64,
    /// What is wrong, as shown to people.
    pub text: String,
    /// Number of errors.
    pub errors: usize,
}

/// The value in use, and what went wrong since. Requests take a handle to the value once
/// and keep it to their end; a bad reload leaves the last good value in use.
#[derive(Debug)]
pub struct Live<T> {
    current: Arc<ArcSwap<T>>,
    error: ArcSwapOption<ReloadError>,
    generation: AtomicU64,
}

impl<T> Live<T> {
    /// Starts with a good value, as generation 1.
    pub fn new(value: Arc<T>) -> Self {
        Self { current: Arc::new(ArcSwap::new(value)), error: ArcSwapOption::empty(), generation: AtomicU64::new(1) }
    }

    /// The value in use.
    pub fn load(&self) -> Arc<T> {
        self.current.load_full()
    }

    /// The cell itself, for crates that read it on every request.
    pub fn cell(&self) -> Arc<ArcSwap<T>> {
        self.current.clone()
    }

    /// Takes a new value into use and forgets the last error.
    pub fn replace(&self, value: Arc<T>) -> u64 {
        self.current.store(value);
        self.error.store(None);
        self.generation.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Takes a new value into use that came from elsewhere than the file: what is wrong with
    /// the file still is.
    pub fn update(&self, value: Arc<T>) -> u64 {
        self.current.store(value);
        self.generation.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Keeps the value and remembers why a new one was refused.
    pub fn refuse(&self, error: ReloadError) {
        self.error.store(Some(Arc::new(error)));
    }

    /// Why the last reload was refused, if it was.
    pub fn last_error(&self) -> Option<Arc<ReloadError>> {
        self.error.load_full()
    }

    /// Number of values that were in use, counting from 1.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o4_a_bad_reload_keeps_the_last_good_value_and_is_visible() {
        let live = Live::new(Arc::new(1));
        let kept = live.load();
        live.refuse(ReloadError { at_ms: 5, text: "bad".to_owned(), errors: 1 });
        assert_eq!((*live.load(), live.generation()), (1, 1));
        assert_eq!(live.last_error().unwrap().text, "bad");
        live.replace(Arc::new(2));
        assert_eq!((*live.load(), *kept, live.generation()), (2, 1, 2));
        assert!(live.last_error().is_none());
    }
}
