//! Signed checkpoints over all chains (feature row L2).
//!
//! About once a minute one process signs where every writer's chain ends. Whoever keeps such
//! a checkpoint elsewhere can later tell whether any record up to it was changed, moved or
//! removed, also when the whole record and the database were rewritten to fit each other.
//!
//! ```text
//! {"heads":[{"writer":W,"seq":N,"hash":H}, …],"key":K,"signature":S,"statement":T}
//! ```
//!
//! T is JSON text: number, time, number of heads, Merkle root over the heads (RFC 9162,
//! section 2.1), digest of the checkpoint before. S is Ed25519 over [`DOMAIN`] and T.

mod key;
mod maker;
mod merkle;

use serde::{Deserialize, Serialize};

use crate::digest::Hex;
use crate::verify::Checkpoint;

pub use key::{CheckpointKey, PublicKey};
pub use maker::Checkpointer;

/// Goes before the signed text, so that a signature is good for nothing else.
pub const DOMAIN: &[u8] = b"bartizan audit checkpoint 1\0";
/// Method of the record that holds a checkpoint.
pub(crate) const METHOD: &str = "audit/checkpoint";
/// Longest document that is read, bytes.
const MAX_DOCUMENT: usize = 4 << 20;

/// A checkpoint that is not what it says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// Not such a document.
    #[error("not a checkpoint")]
    Form,
    /// Another key's, or changed.
    #[error("the signature is not of this key")]
    Signature,
    /// The list of heads is not the one that was signed.
    #[error("the heads do not have the signed root")]
    Root,
    /// Not an Ed25519 public key.
    #[error("not an Ed25519 public key, as PEM or as base64 of 32 bytes")]
    Key,
}

/// What is signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// When, milliseconds since the epoch.
    pub at_ms: i64,
    /// Number of heads.
    pub heads: u64,
    /// From 1.
    pub number: i64,
    /// SHA-256 of the document before, lower-case hex; zeros for the first.
    pub previous: String,
    /// Merkle root over the heads, lower-case hex.
    pub root: String,
    /// 1
    pub v: u8,
}

/// A signed checkpoint as it is stored and exported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed {
    /// Ends of all chains, in order of writer. In the record they are left out when they are many.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub heads: Vec<Checkpoint>,
    /// Public key, base64 of 32 bytes. Only good when it is known from elsewhere.
    pub key: String,
    /// Base64 of 64 bytes.
    pub signature: String,
    /// [`Statement`] as JSON, exactly as signed.
    pub statement: String,
}

impl Signed {
    /// Signs the ends of all chains.
    pub(crate) fn new(key: &CheckpointKey, number: i64, at_ms: i64, previous: Hex, mut heads: Vec<Checkpoint>) -> Self {
        heads.sort_by(|a, b| a.writer.cmp(&b.writer));
        let statement = Statement {
            at_ms,
            heads: u64::try_from(heads.len()).unwrap_or(u64::MAX),
            number,
            previous: previous.as_str().to_owned(),
            root: merkle::root(&heads).as_str().to_owned(),
            v: 1,
        };
        // Numbers and texts only: this cannot fail.
        let statement = serde_json::to_string(&statement).unwrap_or_default();
        let signature = key.sign(&statement);
        Self { heads, key: key.public().to_string(), signature, statement }
    }

    /// Reads a document and checks that `key` signed it. Without heads (as the record keeps it
    /// when there are many) only the signature is checked.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn open(text: &str, key: &PublicKey) -> Result<(Self, Statement), CheckpointError> {
        if text.len() > MAX_DOCUMENT {
            return Err(CheckpointError::Form);
        }
        let signed: Self = serde_json::from_str(text).map_err(|_| CheckpointError::Form)?;
        if !key.has_signed(&signed.statement, &signed.signature) {
            return Err(CheckpointError::Signature);
        }
        let statement: Statement = serde_json::from_str(&signed.statement).map_err(|_| CheckpointError::Form)?;
        let sorted = signed.heads.windows(2).all(|pair| match pair {
            [a, b] => a.writer < b.writer,
            _ => true,
        });
        let is_whole = sorted && merkle::root(&signed.heads).as_str() == statement.root;
        if !signed.heads.is_empty() && !is_whole || signed.heads.is_empty() && statement.heads == 0 && !is_whole {
            return Err(CheckpointError::Root);
        }
        Ok((signed, statement))
    }

    /// The document as one line of JSON.
    pub fn document(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The document without its heads.
    pub(crate) fn without_heads(&self) -> Self {
        Self { heads: Vec::new(), ..self.clone() }
    }
}

#[cfg(test)]
mod tests;
