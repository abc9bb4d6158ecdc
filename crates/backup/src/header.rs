//! The readable beginning of an archive: which key opens it.

use std::io::{BufRead, Read as _, Write};

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

use crate::error::BackupError;

const MAGIC: &[u8] = b"bartizan-backup 1\n";
/// Longest header, bytes.
const MOST: u64 = 4096;

/// What can be read without the key. Nobody can change it unnoticed: every chunk is bound to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Random name of the archive.
    pub archive: String,
    /// Name of the key in the configuration it was made with; none if a file was named.
    pub key: Option<String>,
    /// Identity of that key.
    pub key_id: String,
    /// When, milliseconds since the epoch.
    pub created_ms: i64,
    /// Version of bartizan that made it.
    pub version: String,
    /// What the chunks are bound to.
    #[serde(skip)]
    pub(crate) bound: String,
}

impl Header {
    /// Reads the beginning of a file.
    ///
    /// # Errors
    /// [`BackupError::NotAnArchive`] for any other file.
    pub fn read(from: &mut impl BufRead) -> Result<Self, BackupError> {
        let mut magic = [0u8; MAGIC.len()];
        from.read_exact(&mut magic).map_err(|_| BackupError::NotAnArchive)?;
        let mut line = Vec::new();
        from.take(MOST).read_until(b'\n', &mut line).map_err(|_| BackupError::NotAnArchive)?;
        if magic != MAGIC || line.last() != Some(&b'\n') {
            return Err(BackupError::NotAnArchive);
        }
        let header: Self = serde_json::from_slice(&line).map_err(|_| BackupError::NotAnArchive)?;
        Ok(Self { bound: bound(&line), ..header })
    }

    pub(crate) fn write(mut self, to: &mut impl Write) -> std::io::Result<Self> {
        let mut line = serde_json::to_vec(&self).map_err(std::io::Error::other)?;
        line.push(b'\n');
        to.write_all(MAGIC)?;
        to.write_all(&line)?;
        self.bound = bound(&line);
        Ok(self)
    }
}

fn bound(line: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, line).as_ref())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A text that nobody vouches for, as it may be printed: what would move the cursor or turn the direction is escaped.
pub fn shown(text: &str) -> String {
    text.chars()
        .take(100)
        .flat_map(|c| {
            let plain = c.is_alphanumeric() || c.is_ascii_graphic() || c == ' ';
            let escaped = (!plain).then(|| c.escape_unicode());
            escaped.into_iter().flatten().chain(plain.then_some(c))
        })
        .collect()
}
