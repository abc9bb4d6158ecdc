//! Reading the sealed stream. No byte leaves here that was not authenticated.

use std::io::{ErrorKind, Read};

use bartizan_vault::Vault;
use zeroize::Zeroizing;

use crate::error::BackupError;
use crate::header::{Header, shown};
use crate::seal::{CHUNK, LAST, MORE, OVERHEAD, name};

/// Opens a stream that a [`crate::seal::Sealer`] wrote.
pub(crate) struct Opener<'a, R> {
    from: R,
    vault: &'a Vault,
    header: &'a Header,
    place: i64,
    open: Zeroizing<Vec<u8>>,
    used: usize,
    last: bool,
}

impl<'a, R: Read> Opener<'a, R> {
    pub(crate) fn new(from: R, vault: &'a Vault, header: &'a Header) -> Result<Self, BackupError> {
        if !vault.key_ids().any(|id| id.to_string() == header.key_id) {
            let named = header.key.as_ref().map(|name| format!("{}, ", shown(name))).unwrap_or_default();
            return Err(BackupError::WrongKey(format!("{named}key id {}", shown(&header.key_id))));
        }
        Ok(Self { from, vault, header, place: 0, open: Zeroizing::default(), used: 0, last: false })
    }

    /// Fills the whole of `to`.
    pub(crate) fn read(&mut self, mut to: &mut [u8]) -> Result<(), BackupError> {
        while !to.is_empty() {
            let ready = self.open.get(self.used..).unwrap_or_default();
            if ready.is_empty() {
                if self.last {
                    return Err(BackupError::Content("it ends in the middle of a record"));
                }
                self.chunk()?;
                continue;
            }
            let count = ready.len().min(to.len());
            let (now, later) = to.split_at_mut(count);
            now.copy_from_slice(ready.get(..count).unwrap_or_default());
            self.used += count;
            to = later;
        }
        Ok(())
    }

    fn chunk(&mut self) -> Result<(), BackupError> {
        let mut head = [0u8; 5];
        self.bytes(&mut head)?;
        let [kind, length @ ..] = head;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        // Before anything is reserved for it.
        if !matches!(kind, MORE | LAST) || length > CHUNK + OVERHEAD {
            return Err(BackupError::Damaged);
        }
        let mut sealed = vec![0u8; length];
        self.bytes(&mut sealed)?;
        let aad = name(self.header, kind, self.place);
        self.open = self.vault.open(&aad, &sealed).map_err(|_| BackupError::Damaged)?;
        self.used = 0;
        self.place += 1;
        self.last = kind == LAST;
        Ok(())
    }

    fn bytes(&mut self, to: &mut [u8]) -> Result<(), BackupError> {
        self.from.read_exact(to).map_err(|source| match source.kind() {
            ErrorKind::UnexpectedEof => BackupError::Truncated,
            _ => BackupError::File { path: "the archive".to_owned(), source },
        })
    }

    /// The stream has to be at its end, and the file too.
    pub(crate) fn finish(mut self) -> Result<(), BackupError> {
        if self.used == self.open.len() && !self.last {
            self.chunk()?;
        }
        if self.used != self.open.len() || !self.last {
            return Err(BackupError::Content("something follows its end"));
        }
        let mut more = [0u8; 1];
        match self.from.read(&mut more) {
            Ok(0) => Ok(()),
            _ => Err(BackupError::Damaged),
        }
    }
}
