//! Erasing an identity: the chain keeps its commitments, the side files lose what they
//! stand for.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use super::Writer;
use crate::disk::{private, sync_folder};
use crate::error::AuditError;
use crate::folder::{segments, who_path};
use crate::lines::{End, Lines};
use crate::who::Entry;

impl Writer {
    /// Removes every identity of a principal from this writer's side files.
    pub(super) fn erase(&mut self, principal: &str) -> Result<u64, AuditError> {
        let mut removed = 0;
        for segment in segments(&self.folder.path)? {
            let path = who_path(&self.folder.path, segment);
            let fail = |error| AuditError::file(&path, error);
            let here = rewrite(&path, principal).map_err(fail)?;
            removed += here;
            if here > 0 && segment == self.segment {
                self.side = Some(self.disk.open(&path).map_err(fail)?);
                self.side_len = fs::metadata(&path).map_err(fail)?.len();
                self.commitments.clear();
            }
        }
        Ok(removed)
    }
}

/// Removes the entries of a principal from one side file; the new file replaces the old
/// one as a whole. Returns how many went.
pub(crate) fn rewrite(path: &Path, principal: &str) -> io::Result<u64> {
    if !path.exists() {
        return Ok(0);
    }
    let (mut kept, mut removed) = (Vec::new(), 0);
    let mut lines = Lines::open(path, 0)?;
    while let Some(line) = lines.next()? {
        let is_theirs = Entry::new(line.bytes).and_then(|entry| entry.principal()).as_deref() == Some(principal);
        if is_theirs {
            removed += 1;
        } else if line.end == End::Whole {
            kept.extend_from_slice(line.bytes);
            kept.push(b'\n');
        }
    }
    if removed == 0 {
        return Ok(0);
    }
    let new = path.with_extension("who-new");
    let mut file = private().create(true).truncate(true).write(true).open(&new)?;
    file.write_all(&kept)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    if let Some(folder) = path.parent() {
        sync_folder(folder)?;
    }
    Ok(removed)
}
