//! Finds objects with two members of one name, at every depth.
//!
//! Two parsers that disagree on which of the two counts would let a caller show
//! one value to the policy and another to the server.

use super::{Keys, ScanError, StrTok, decode};

/// Up to this many keys are compared pair by pair; more are sorted.
const FEW: usize = 8;

/// Collects the keys of all open objects.
#[derive(Default)]
pub(crate) struct UniqueKeys {
    keys: Vec<StrTok>,
    bases: Vec<usize>,
}

impl Keys for UniqueKeys {
    fn open(&mut self) {
        self.bases.push(self.keys.len());
    }

    fn key(&mut self, key: StrTok) {
        self.keys.push(key);
    }

    fn close(&mut self, bytes: &[u8]) -> Result<(), ScanError> {
        let base = self.bases.pop().unwrap_or(0);
        let result = unique(bytes, self.keys.get(base..).unwrap_or_default());
        self.keys.truncate(base);
        result
    }
}

/// Checks that no two keys have the same name, however they are spelled.
pub(crate) fn unique(bytes: &[u8], keys: &[StrTok]) -> Result<(), ScanError> {
    if !keys.iter().any(|key| key.escaped) {
        return unique_plain(bytes, keys);
    }
    let mut names = Vec::with_capacity(keys.len());
    for key in keys {
        names.push((decode(bytes, *key).ok_or(ScanError::Surrogate(key.span.start))?, key.span.start));
    }
    names.sort_unstable();
    let twin = names.iter().zip(names.iter().skip(1)).find(|(a, b)| a.0 == b.0);
    twin.map_or(Ok(()), |(_, second)| Err(ScanError::Duplicate(second.1)))
}

/// Without escapes, equal names are equal bytes.
fn unique_plain(bytes: &[u8], keys: &[StrTok]) -> Result<(), ScanError> {
    if keys.len() <= FEW {
        for (i, key) in keys.iter().enumerate() {
            if keys.iter().take(i).any(|other| other.inner(bytes) == key.inner(bytes)) {
                return Err(ScanError::Duplicate(key.span.start));
            }
        }
        return Ok(());
    }
    let mut names: Vec<_> = keys.iter().map(|key| (key.inner(bytes), key.span.start)).collect();
    names.sort_unstable();
    let twin = names.iter().zip(names.iter().skip(1)).find(|(a, b)| a.0 == b.0);
    twin.map_or(Ok(()), |(_, second)| Err(ScanError::Duplicate(second.1)))
}
