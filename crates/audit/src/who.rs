//! Identities beside the chain.
//!
//! A record holds SHA-256(salt ‖ canonical identity). The side file of its segment holds
//! salt and identity per commitment. One salt serves all records of the same identity in
//! one segment: after an erasure they can still be seen to belong together, as their
//! session already shows, but not to whom. Without the salt a commitment cannot be tried
//! against a list of names.

use std::collections::HashMap;

use aws_lc_rs::rand;
use bartizan_model::event::Who;
use serde::Deserialize;

use crate::canonical::push_who;
use crate::digest::{Hex, from_hex, push_hex};
use crate::error::AuditError;

/// Identities remembered at once; more begin anew with new salts.
const MAX: usize = 10_000;

/// Commitments of the present segment.
#[derive(Default)]
pub(crate) struct Commitments {
    known: HashMap<Box<[u8]>, Hex>,
    scratch: Vec<u8>,
}

impl Commitments {
    /// The commitment to an identity. A new one is also appended to `side` as a line of
    /// the side file, which must be durable before any record that names it.
    pub(crate) fn commit(&mut self, who: &Who, side: &mut Vec<u8>) -> Result<Hex, AuditError> {
        self.scratch.clear();
        push_who(&mut self.scratch, who);
        if let Some(hex) = self.known.get(self.scratch.as_slice()) {
            return Ok(*hex);
        }
        let mut salt = [0u8; 16];
        rand::fill(&mut salt).map_err(|_| AuditError::Random)?;
        let hex = Hex::of(&[&salt, &self.scratch]);
        side.extend_from_slice(b"{\"commit\":\"");
        side.extend_from_slice(hex.bytes());
        side.extend_from_slice(b"\",\"salt\":\"");
        push_hex(side, &salt);
        side.extend_from_slice(b"\",\"who\":");
        side.extend_from_slice(&self.scratch);
        side.extend_from_slice(b"}\n");
        if self.known.len() >= MAX {
            self.known.clear();
        }
        self.known.insert(self.scratch.as_slice().into(), hex);
        Ok(hex)
    }

    /// Forgets all, for a new segment or after a failed write.
    pub(crate) fn clear(&mut self) {
        self.known.clear();
    }
}

/// One line of a side file.
#[derive(Deserialize)]
pub(crate) struct Entry<'a> {
    #[serde(borrow)]
    pub(crate) commit: &'a str,
    #[serde(borrow)]
    salt: &'a str,
    #[serde(borrow)]
    pub(crate) who: &'a serde_json::value::RawValue,
}

impl<'a> Entry<'a> {
    /// `None` when the line has another form.
    pub(crate) fn new(line: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }

    /// True when salt and identity give the commitment.
    pub(crate) fn is_intact(&self) -> bool {
        from_hex(self.salt).is_some_and(|salt| Hex::of(&[&salt, self.who.get().as_bytes()]).as_str() == self.commit)
    }

    /// `user:alice`
    pub(crate) fn principal(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Name {
            principal: String,
        }
        serde_json::from_str::<Name>(self.who.get()).ok().map(|name| name.principal)
    }
}
