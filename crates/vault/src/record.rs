//! Envelope encryption of one record.
//!
//! ```text
//! 0x01 | key id (8) | nonce (12) data key (32) tag (16) | nonce (12) content tag (16)
//! ```
//!
//! The data key is random per record and sealed under a key derived from the master key
//! that the header names. Both layers authenticate the record's full name and version,
//! so bytes moved to another row, id or version do not open.

use std::sync::Arc;

use aws_lc_rs::rand;
use zeroize::Zeroizing;

use crate::aead::{Cipher, KEY, NONCE, TAG, derive};
use crate::key::{KeyId, KeyRing, MasterKey};
use crate::{HandleSealer, OpenError, SealError};

const FORMAT: u8 = 1;
const KEY_ID: usize = 8;
const WRAPPED: usize = NONCE + KEY + TAG;

/// Full name of a record; part of what is authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aad<'a> {
    /// Tenant; empty while there is one.
    pub tenant: &'a str,
    /// Kind of record.
    pub table: &'a str,
    /// Which one.
    pub id: &'a str,
    /// Version of its content.
    pub version: i64,
}

impl Aad<'_> {
    /// Lengths first, so that no two names give the same bytes.
    fn bytes(&self, layer: u8) -> Vec<u8> {
        let mut bytes = vec![FORMAT, layer];
        for part in [self.tenant, self.table, self.id] {
            bytes.extend_from_slice(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
        bytes.extend_from_slice(&self.version.to_be_bytes());
        bytes
    }
}

const LAYER_KEY: u8 = b'k';
const LAYER_CONTENT: u8 = b'c';

struct Wrapper {
    id: KeyId,
    cipher: Cipher,
}

impl Wrapper {
    fn new(key: &MasterKey) -> Result<Self, SealError> {
        let derived = derive(key.bytes.expose(), "record data keys v1")?;
        Ok(Self { id: key.id, cipher: Cipher::new(&derived)? })
    }
}

/// Seals and opens records. Cheap to clone.
#[derive(Clone)]
pub struct Vault {
    inner: Arc<Inner>,
}

struct Inner {
    /// The sealing key first.
    wrappers: Vec<Wrapper>,
    handles: HandleSealer,
}

impl Vault {
    /// Derives the working keys. The master keys are dropped and zeroed here.
    ///
    /// # Errors
    /// [`SealError`] when the cryptographic library refuses a key.
    #[expect(clippy::needless_pass_by_value, reason = "the ring ends here: its keys are zeroed on drop")]
    pub fn new(ring: KeyRing) -> Result<Self, SealError> {
        let keys = || std::iter::once(&ring.current).chain(&ring.previous);
        let wrappers = keys().map(Wrapper::new).collect::<Result<Vec<_>, _>>()?;
        let handles = HandleSealer::new(keys())?;
        Ok(Self { inner: Arc::new(Inner { wrappers, handles }) })
    }

    /// Name of the master key that seals.
    pub fn current_key(&self) -> Option<KeyId> {
        self.inner.wrappers.first().map(|wrapper| wrapper.id)
    }

    /// Names of all master keys, the sealing one first.
    pub fn key_ids(&self) -> impl Iterator<Item = KeyId> {
        self.inner.wrappers.iter().map(|wrapper| wrapper.id)
    }

    /// The sealer of handles, under the same master keys.
    pub fn handles(&self) -> HandleSealer {
        self.inner.handles.clone()
    }

    /// Seals `plain` under the current key for exactly the record that `aad` names.
    ///
    /// # Errors
    /// [`SealError`] without randomness.
    pub fn seal(&self, aad: &Aad<'_>, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let wrapper = self.inner.wrappers.first().ok_or(SealError)?;
        let mut data_key = Zeroizing::new([0u8; KEY]);
        rand::fill(&mut *data_key).map_err(|_| SealError)?;
        let mut sealed = Vec::with_capacity(1 + KEY_ID + WRAPPED + NONCE + plain.len() + TAG);
        sealed.push(FORMAT);
        sealed.extend_from_slice(wrapper.id.bytes());
        wrapper.cipher.seal_into(&aad.bytes(LAYER_KEY), &*data_key, &mut sealed)?;
        Cipher::new(&data_key)?.seal_into(&aad.bytes(LAYER_CONTENT), plain, &mut sealed)?;
        Ok(sealed)
    }

    /// Opens a record. The content is zeroed on drop.
    ///
    /// # Errors
    /// [`OpenError`] for changed bytes, another name or version, or an unknown key.
    pub fn open(&self, aad: &Aad<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let (id, rest) = header(sealed)?;
        let wrapper = self.inner.wrappers.iter().find(|wrapper| wrapper.id.bytes() == id).ok_or(OpenError)?;
        let (wrapped, content) = rest.split_at_checked(WRAPPED).ok_or(OpenError)?;
        let data_key = wrapper.cipher.open(&aad.bytes(LAYER_KEY), wrapped)?;
        let data_key: &[u8; KEY] = data_key.as_slice().try_into().map_err(|_| OpenError)?;
        Cipher::new(data_key).map_err(|_| OpenError)?.open(&aad.bytes(LAYER_CONTENT), content)
    }

    /// True when the record is not sealed under the current key.
    ///
    /// # Errors
    /// [`OpenError`] when the bytes are no sealed record.
    pub fn needs_reseal(&self, sealed: &[u8]) -> Result<bool, OpenError> {
        let (id, _) = header(sealed)?;
        Ok(self.current_key().is_none_or(|current| current.bytes() != id))
    }

    /// Seals the same content again under the current key, with a new data key.
    ///
    /// # Errors
    /// [`OpenError`] when it cannot be opened, or not be sealed.
    pub fn reseal(&self, aad: &Aad<'_>, sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
        let plain = self.open(aad, sealed)?;
        self.seal(aad, &plain).map_err(|_| OpenError)
    }
}

fn header(sealed: &[u8]) -> Result<(&[u8], &[u8]), OpenError> {
    let (format, rest) = sealed.split_first().ok_or(OpenError)?;
    if *format != FORMAT {
        return Err(OpenError);
    }
    rest.split_at_checked(KEY_ID).ok_or(OpenError)
}
