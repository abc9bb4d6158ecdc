//! Seals, opens and rotates secrets at rest (feature row P21), and seals the opaque
//! handles that bartizan gives to clients.
//!
//! No network, and no caller but `egress` and `sandbox` may use an opened secret.

mod aead;
mod handle;
mod key;
mod record;
mod records;

pub use handle::HandleSealer;
pub use key::{KeyError, KeyId, KeyRing};
pub use record::{Aad, Vault};
pub use records::{Records, RecordsError, Resealed};

/// Something could not be opened. Deliberately without a reason: wrong key, changed
/// bytes and another record's name look the same to whoever tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot be opened")]
pub struct OpenError;

/// The random generator or the cipher failed; nothing was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot be sealed")]
pub struct SealError;
