//! Taking a copy while the process serves.

use std::fs::{self, File};
use std::io::{Read as _, Write};
use std::path::{Path, PathBuf};

use aws_lc_rs::rand;
use bartizan_store::StoreUrl;
use bartizan_store::dump::Snapshot;
use bartizan_vault::Vault;

use crate::Summary;
use crate::error::BackupError;
use crate::header::{Header, hex};
use crate::place::{audit_path, folders};
use crate::record::{FileHead, Manifest, PIECE, Record, TableHead};
use crate::seal::Sealer;

/// What is copied.
pub struct Source<'a> {
    /// The database.
    pub url: &'a StoreUrl,
    /// Folder of the audit segments.
    pub audit: &'a Path,
    /// Name of the master key.
    pub master_key: String,
    /// Names of the older master keys that are configured beside it.
    pub older_keys: Vec<String>,
}

/// Writes an archive that the first key of `vault` seals; `name` is what the configuration calls it.
///
/// The rows are those of one moment. The record is copied after it, so that it holds at least what the rows know of;
/// it ends with its last whole line.
///
/// # Errors
/// [`BackupError`]; what was written so far is of no use.
pub async fn take<W: Write>(
    source: &Source<'_>,
    vault: &Vault,
    name: Option<String>,
    now_ms: i64,
    mut to: W,
) -> Result<(Header, Summary), BackupError> {
    let mut id = [0u8; 16];
    rand::fill(&mut id).map_err(|_| BackupError::Seal)?;
    let header = Header {
        archive: hex(&id),
        key: name,
        key_id: vault.current_key().ok_or(BackupError::Seal)?.to_string(),
        created_ms: now_ms,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        bound: String::new(),
    };
    let header = header.write(&mut to).map_err(|source| BackupError::file(Path::new("the archive"), source))?;
    let mut sealer = Sealer::new(to, vault, &header);
    let mut summary = Summary::default();
    let mut snapshot = Snapshot::open(source.url).await?;
    let engine = if matches!(source.url, StoreUrl::Postgres(_)) { "postgres" } else { "sqlite" };
    let manifest = Manifest {
        versions: snapshot.versions().await?,
        master_key: source.master_key.clone(),
        older_keys: source.older_keys.clone(),
        engine: engine.into(),
    };
    Record::Manifest(manifest).write(&mut sealer)?;
    for table in snapshot.tables().await? {
        summary.tables += 1;
        let head = TableHead { name: table.name.clone(), columns: table.columns.clone() };
        Record::Table(head).write(&mut sealer)?;
        snapshot
            .rows(&table, |values| {
                summary.rows += 1;
                Record::Row(values).write(&mut sealer)
            })
            .await?;
    }
    snapshot.close().await?;
    for file in files(source.audit)? {
        copy(source.audit, &file, &mut sealer, &mut summary)?;
    }
    Record::End(summary).write(&mut sealer)?;
    let mut to = sealer.finish()?;
    to.flush().map_err(|source| BackupError::file(Path::new("the archive"), source))?;
    Ok((header, summary))
}

/// Files of the record, relative, in the order of copying: the segments first, so that what they point to is
/// copied later than they are and therefore there.
fn files(audit: &Path) -> Result<Vec<PathBuf>, BackupError> {
    let mut all = Vec::new();
    for writer in folders(audit)? {
        let folder = audit.join(&writer);
        for entry in fs::read_dir(&folder).map_err(|source| BackupError::file(&folder, source))? {
            let entry = entry.map_err(|source| BackupError::file(&folder, source))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{writer}/{name}");
            // The lock is of a process.
            let file = entry.file_type().is_ok_and(|kind| kind.is_file());
            if file && name != "lock" && audit_path(&path).is_some() {
                all.push(PathBuf::from(path));
            }
        }
    }
    let is_log = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "log");
    all.sort_by_key(|path| (!is_log(path), path.clone()));
    Ok(all)
}

/// Copies as much as there is now; of lines only whole ones, because a writer is at work.
fn copy<W: Write>(audit: &Path, path: &Path, to: &mut Sealer<'_, W>, summary: &mut Summary) -> Result<(), BackupError> {
    let full = audit.join(path);
    let fail = |source| BackupError::file(&full, source);
    let mut file = File::open(&full).map_err(fail)?;
    let lines = path.extension().is_some_and(|ending| ending == "log" || ending == "who");
    let length = file.metadata().map_err(fail)?.len();
    let length = if lines { whole_lines(&mut file, length).map_err(fail)? } else { length };
    let head = FileHead { path: path.display().to_string() };
    Record::File(head).write(to)?;
    summary.files += 1;
    let mut rest = file.take(length);
    loop {
        let mut piece = vec![0u8; PIECE];
        let mut filled = 0;
        while let Some(free) = piece.get_mut(filled..).filter(|free| !free.is_empty()) {
            match rest.read(free).map_err(fail)? {
                0 => break,
                count => filled += count,
            }
        }
        piece.truncate(filled);
        if piece.is_empty() {
            return Ok(());
        }
        summary.bytes += filled as u64;
        Record::Data(piece).write(to)?;
    }
}

/// Where the last whole line of the first `length` bytes ends. The file is at its beginning afterwards.
fn whole_lines(file: &mut File, length: u64) -> std::io::Result<u64> {
    use std::io::{Seek as _, SeekFrom};
    let mut end = length;
    let mut piece = vec![0u8; PIECE];
    let found = loop {
        if end == 0 {
            break 0;
        }
        let begin = end.saturating_sub(PIECE as u64);
        file.seek(SeekFrom::Start(begin))?;
        let part = piece.get_mut(..usize::try_from(end - begin).unwrap_or(0)).unwrap_or_default();
        file.read_exact(part)?;
        if let Some(at) = part.iter().rposition(|byte| *byte == b'\n') {
            break begin + at as u64 + 1;
        }
        end = begin;
    };
    file.seek(SeekFrom::Start(0))?;
    Ok(found)
}
