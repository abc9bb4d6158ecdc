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

/// The entry of a server.
fn entry(server: &str) -> keyring::Result<keyring::Entry> {
    // A process outside of a login session has no session keyring yet, and the kernel's store is
    // reached through it.
    #[cfg(target_os = "linux")]
    let _ = linux_keyutils::KeyRing::from_special_id(linux_keyutils::KeyRingIdentifier::Session, true);
    keyring::Entry::new(SERVICE, server)
}

impl Keys for SystemKeys {
    fn get(&self, server: &str) -> Option<Secret<String>> {
        entry(server).ok()?.get_password().ok().map(Secret::new)
    }

    fn put(&self, server: &str, text: &Secret<String>) -> bool {
        entry(server).and_then(|entry| entry.set_password(text.expose())).is_ok()
    }

    fn forget(&self, server: &str) {
        // What is not there need not be forgotten.
        let _ = entry(server).and_then(|entry| entry.delete_credential());
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A server of this test run alone.
    const SERVER: &str = "https://key-store.test.invalid/mcp";

    #[cfg(target_os = "linux")]
    #[test]
    fn u14_the_key_store_of_the_system_keeps_tokens_for_the_next_process() {
        let name = format!("{SERVER}/{}", std::process::id());
        #[expect(clippy::disallowed_methods, reason = "how the second process learns its name")]
        if let Ok(wanted) = std::env::var("BARTIZAN_TEST_KEYS") {
            // The second process.
            assert_eq!(SystemKeys.get(&wanted).map(|text| text.expose().clone()).as_deref(), Some("kept"));
            return;
        }
        assert!(SystemKeys.get(&name).is_none());
        assert!(SystemKeys.put(&name, &Secret::new("kept".to_owned())), "the kernel has no key store for this process");
        let program = std::env::current_exe().unwrap();
        let second = std::process::Command::new(program)
            .args(["--exact", "keys::tests::u14_the_key_store_of_the_system_keeps_tokens_for_the_next_process"])
            .env("BARTIZAN_TEST_KEYS", &name)
            .output()
            .unwrap();
        SystemKeys.forget(&name);
        assert!(second.status.success(), "{}", String::from_utf8_lossy(&second.stdout));
        assert!(SystemKeys.get(&name).is_none());
    }
}
