//! Where tokens stay between two runs.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bartizan_model::Secret;

/// Name under which the key store files our entries.
const SERVICE: &str = "bartizan";

/// Keeps a text per server.
pub trait Keys: Send + Sync {
    /// What was kept, if it can be read.
    fn get(&self, server: &str) -> Option<Secret<String>>;
    /// Keeps a text. False when it could not be kept; then it is gone after this run.
    fn put(&self, server: &str, text: &Secret<String>) -> bool;
    /// Forgets it.
    fn forget(&self, server: &str);
}

/// The key store of the operating system. Nothing is ever written to a file of ours.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemKeys;

impl Keys for SystemKeys {
    fn get(&self, server: &str) -> Option<Secret<String>> {
        keyring::Entry::new(SERVICE, server).ok()?.get_password().ok().map(Secret::new)
    }

    fn put(&self, server: &str, text: &Secret<String>) -> bool {
        keyring::Entry::new(SERVICE, server).and_then(|entry| entry.set_password(text.expose())).is_ok()
    }

    fn forget(&self, server: &str) {
        // What is not there need not be forgotten.
        let _ = keyring::Entry::new(SERVICE, server).and_then(|entry| entry.delete_credential());
    }
}

/// Memory only: one sign-in per run.
#[derive(Debug, Default)]
pub struct MemoryKeys(Mutex<HashMap<String, String>>);

impl Keys for MemoryKeys {
    fn get(&self, server: &str) -> Option<Secret<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(server).cloned().map(Secret::new)
    }

    fn put(&self, server: &str, text: &Secret<String>) -> bool {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.insert(server.to_owned(), text.expose().clone());
        true
    }

    fn forget(&self, server: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(server);
    }
}
