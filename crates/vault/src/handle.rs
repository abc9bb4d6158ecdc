//! Handles: state that a client carries for us, as opaque text it can neither read nor
//! change, such as a session id or a `requestState`.
//!
//! ```text
//! base64url( 0x01 | key id (8) | nonce (12) | content | tag (16) )
//! ```

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::aead::{Cipher, derive};
use crate::key::{KeyId, MasterKey};
use crate::{OpenError, SealError};

const FORMAT: u8 = 1;
const KEY_ID: usize = 8;

/// Longest handle that is looked at, bytes of text.
const MAX_TEXT: usize = 1 << 20;

/// Seals and opens handles. The keys are derived once; cheap to clone.
#[derive(Clone)]
pub struct HandleSealer {
    /// The sealing key first.
    keys: Arc<[(KeyId, Cipher)]>,
}

impl HandleSealer {
    pub(crate) fn new<'a>(keys: impl Iterator<Item = &'a MasterKey>) -> Result<Self, SealError> {
        let keys = keys
            .map(|key| Ok((key.id, Cipher::new(&*derive(key.bytes.expose(), "handles v1")?)?)))
            .collect::<Result<Vec<_>, SealError>>()?;
        Ok(Self { keys: keys.into() })
    }

    /// Seals `payload` for one purpose; a handle opens for that purpose only. The caller
    /// puts the expiry and the owner into the payload.
    ///
    /// # Errors
    /// [`SealError`] without randomness.
    pub fn seal(&self, purpose: &str, payload: &[u8]) -> Result<String, SealError> {
        let (id, cipher) = self.keys.first().ok_or(SealError)?;
        let mut sealed = Vec::with_capacity(payload.len() + 40);
        sealed.push(FORMAT);
        sealed.extend_from_slice(id.bytes());
        cipher.seal_into(purpose.as_bytes(), payload, &mut sealed)?;
        Ok(URL_SAFE_NO_PAD.encode(sealed))
    }

    /// Opens a handle that was sealed for the same purpose, under the current or a
    /// previous key.
    ///
    /// # Errors
    /// [`OpenError`] for anything else; never a panic, whatever the text.
    pub fn open(&self, purpose: &str, handle: &str) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        if handle.len() > MAX_TEXT {
            return Err(OpenError);
        }
        let sealed = URL_SAFE_NO_PAD.decode(handle).map_err(|_| OpenError)?;
        let (format, rest) = sealed.split_first().ok_or(OpenError)?;
        let (id, body) = rest.split_at_checked(KEY_ID).ok_or(OpenError)?;
        let key = self.keys.iter().find(|(known, _)| known.bytes() == id);
        match (format, key) {
            (&FORMAT, Some((_, cipher))) => cipher.open(purpose.as_bytes(), body),
            _ => Err(OpenError),
        }
    }
}
