//! The key that signs checkpoints: made once per installation, sealed in the store.

use std::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use bartizan_store::Store;
use bartizan_store::repo::sealed::Key as Name;
use bartizan_vault::{Records, RecordsError, Vault};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::{CheckpointError, DOMAIN};
use crate::error::AuditError;

/// What stands before the 32 bytes of a public key (RFC 8410, section 10.1).
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// A public key. Its text is base64 of its 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Reads PEM (`BEGIN PUBLIC KEY`) or base64.
    ///
    /// # Errors
    /// [`CheckpointError::Key`].
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let bad = |_| CheckpointError::Key;
        let inner: String = text.lines().filter(|line| !line.starts_with("-----")).map(str::trim).collect();
        let bytes = STANDARD.decode(inner).map_err(bad)?;
        let raw = bytes.strip_prefix(&SPKI).unwrap_or(&bytes);
        raw.try_into().map(Self).map_err(|_| CheckpointError::Key)
    }

    /// As PEM.
    pub fn pem(&self) -> String {
        let der = [SPKI.as_slice(), &self.0].concat();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der))
    }

    pub(super) fn has_signed(&self, statement: &str, signature: &str) -> bool {
        let Ok(signature) = STANDARD.decode(signature) else { return false };
        let message = [DOMAIN, statement.as_bytes()].concat();
        UnparsedPublicKey::new(&ED25519, &self.0).verify(&message, &signature).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The key pair.
pub struct CheckpointKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl CheckpointKey {
    /// A new one, for tests and tools; nothing keeps it.
    ///
    /// # Errors
    /// [`AuditError::Random`].
    pub fn generate() -> Result<Self, AuditError> {
        Self::of(Ed25519KeyPair::generate().map_err(|_| AuditError::Random)?)
    }

    fn of(pair: Ed25519KeyPair) -> Result<Self, AuditError> {
        let public = pair.public_key().as_ref().try_into().map_err(|_| AuditError::Random)?;
        Ok(Self { pair, public: PublicKey(public) })
    }

    /// The installation's key; made when there is none.
    ///
    /// # Errors
    /// When the store does not answer, or the record does not open.
    pub async fn of_installation(vault: &Vault, store: &Store) -> Result<Self, AuditError> {
        if let Some(key) = Self::existing(vault, store).await? {
            return Ok(key);
        }
        let new = Ed25519KeyPair::generate().map_err(|_| AuditError::Random)?;
        let plain = new.to_pkcs8v1().map_err(|_| AuditError::Random)?;
        match Records::new(vault.clone(), store.clone()).put(&name(), 0, plain.as_ref()).await {
            Ok(_) => Self::of(new),
            // Another process was quicker: its key is the one.
            Err(RecordsError::Conflict) => Self::existing(vault, store).await?.ok_or(AuditError::Key),
            Err(error) => Err(error.into()),
        }
    }

    /// The installation's key, if it has one.
    ///
    /// # Errors
    /// As [`CheckpointKey::of_installation`].
    pub async fn existing(vault: &Vault, store: &Store) -> Result<Option<Self>, AuditError> {
        let found = Records::new(vault.clone(), store.clone()).get(&name()).await?;
        let Some((_, plain)): Option<(i64, Zeroizing<Vec<u8>>)> = found else { return Ok(None) };
        Ed25519KeyPair::from_pkcs8(&plain).map_err(|_| AuditError::Key).and_then(Self::of).map(Some)
    }

    /// Its public half.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    pub(super) fn sign(&self, statement: &str) -> String {
        STANDARD.encode(self.pair.sign(&[DOMAIN, statement.as_bytes()].concat()).as_ref())
    }
}

fn name() -> Name {
    Name { tenant: String::new(), kind: "audit_key".to_owned(), id: "checkpoint".to_owned() }
}
