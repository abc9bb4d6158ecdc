//! Writing the sealed stream: chunks of bounded size, each under a key of its own, each bound to the header, its
//! place and whether it is the last, so that nothing can be changed, moved, cut off or added.

use std::io::Write;

use bartizan_vault::{Aad, Vault};
use zeroize::Zeroizing;

use crate::error::BackupError;
use crate::header::Header;

/// Readable bytes of a chunk.
pub(crate) const CHUNK: usize = 256 * 1024;
/// Most bytes that sealing adds to a chunk.
pub(crate) const OVERHEAD: usize = 256;
/// A chunk that others follow.
pub(crate) const MORE: u8 = 0;
/// The last chunk.
pub(crate) const LAST: u8 = 1;

/// What a chunk is bound to.
pub(crate) fn name<'a>(header: &'a Header, kind: u8, place: i64) -> Aad<'a> {
    let table = if kind == LAST { "backup last chunk" } else { "backup chunk" };
    Aad { tenant: "", table, id: &header.bound, version: place }
}

/// Seals what is written to it.
pub(crate) struct Sealer<'a, W> {
    to: W,
    vault: &'a Vault,
    header: &'a Header,
    place: i64,
    waiting: Zeroizing<Vec<u8>>,
}

impl<'a, W: Write> Sealer<'a, W> {
    pub(crate) fn new(to: W, vault: &'a Vault, header: &'a Header) -> Self {
        Self { to, vault, header, place: 0, waiting: Zeroizing::new(Vec::with_capacity(CHUNK)) }
    }

    pub(crate) fn write(&mut self, mut bytes: &[u8]) -> Result<(), BackupError> {
        while !bytes.is_empty() {
            if self.waiting.len() == CHUNK {
                self.chunk(MORE)?;
            }
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK - self.waiting.len()));
            self.waiting.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    fn chunk(&mut self, kind: u8) -> Result<(), BackupError> {
        let aad = name(self.header, kind, self.place);
        let sealed = self.vault.seal(&aad, &self.waiting).map_err(|_| BackupError::Seal)?;
        let length = u32::try_from(sealed.len()).map_err(|_| BackupError::Seal)?;
        let written = self
            .to
            .write_all(&[kind])
            .and_then(|()| self.to.write_all(&length.to_be_bytes()))
            .and_then(|()| self.to.write_all(&sealed));
        written.map_err(|source| BackupError::File { path: "the archive".to_owned(), source })?;
        self.waiting.clear();
        self.place += 1;
        Ok(())
    }

    /// Writes the last chunk.
    pub(crate) fn finish(mut self) -> Result<W, BackupError> {
        self.chunk(LAST)?;
        Ok(self.to)
    }
}
