//! AES-256-GCM and HKDF-SHA-256, in the two shapes this crate needs.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf;
use zeroize::Zeroizing;

use crate::{OpenError, SealError};

/// Bytes of a key.
pub(crate) const KEY: usize = 32;
/// Bytes of a nonce.
pub(crate) const NONCE: usize = NONCE_LEN;
/// Bytes of an authentication tag.
pub(crate) const TAG: usize = 16;

/// A key ready for use. The library zeroes its copy on drop.
pub(crate) struct Cipher(LessSafeKey);

impl Cipher {
    pub(crate) fn new(key: &[u8; KEY]) -> Result<Self, SealError> {
        UnboundKey::new(&AES_256_GCM, key).map(|key| Self(LessSafeKey::new(key))).map_err(|_| SealError)
    }

    /// Appends nonce, ciphertext and tag to `out`. The nonce is random: fine up to 2^32
    /// messages per key (NIST SP 800-38D, section 8.3).
    pub(crate) fn seal_into(&self, aad: &[u8], plain: &[u8], out: &mut Vec<u8>) -> Result<(), SealError> {
        let mut nonce = [0u8; NONCE];
        aws_lc_rs::rand::fill(&mut nonce).map_err(|_| SealError)?;
        out.extend_from_slice(&nonce);
        let start = out.len();
        out.extend_from_slice(plain);
        let body = out.get_mut(start..).ok_or(SealError)?;
        let tag = self
            .0
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), body)
            .map_err(|_| SealError)?;
        out.extend_from_slice(tag.as_ref());
        Ok(())
    }

    /// Opens what [`Cipher::seal_into`] appended.
    pub(crate) fn open(&self, aad: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let (nonce, body) = sealed.split_at_checked(NONCE).ok_or(OpenError)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| OpenError)?;
        let mut body = Zeroizing::new(body.to_vec());
        let length = self.0.open_in_place(nonce, Aad::from(aad), &mut body).map_err(|_| OpenError)?.len();
        body.truncate(length);
        Ok(body)
    }
}

struct Length;

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        KEY
    }
}

/// A key for one use, derived from the master key (RFC 5869).
pub(crate) fn derive(master: &[u8], purpose: &str) -> Result<Zeroizing<[u8; KEY]>, SealError> {
    let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, b"bartizan").extract(master);
    let mut key = Zeroizing::new([0u8; KEY]);
    prk.expand(&[purpose.as_bytes()], Length).and_then(|okm| okm.fill(&mut *key)).map_err(|_| SealError)?;
    Ok(key)
}
