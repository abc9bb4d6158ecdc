//! The folders of an installation, and exchanging what is in them as one.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use crate::error::BackupError;

/// Present while things are being exchanged. Whoever opens the installation looks for it.
pub const UNFINISHED: &str = "restore.unfinished";

/// Length of a writer's name.
const WRITER: usize = 16;

fn is_writer(name: &str) -> bool {
    name.len() == WRITER && name.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// Writer and file of a path in the record: exactly two parts of harmless characters. Everything else, such as `..`,
/// an absolute path or a lock, is none.
pub(crate) fn audit_path(path: &str) -> Option<(&str, &str)> {
    let (writer, name) = path.split_once('/')?;
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_');
    let named = !name.is_empty() && name.len() <= 64 && !name.starts_with('.') && name.bytes().all(good);
    (is_writer(writer) && named && name != "lock").then_some((writer, name))
}

/// Writers of a record; none without a folder.
pub(crate) fn folders(audit: &Path) -> Result<Vec<String>, BackupError> {
    let entries = match fs::read_dir(audit) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(BackupError::file(audit, error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|source| BackupError::file(audit, source))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_writer(&name) && entry.path().is_dir() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Whether a process holds one of the writers' folders.
pub(crate) fn in_use(audit: &Path) -> Result<bool, BackupError> {
    for writer in folders(audit)? {
        let path = audit.join(writer).join("lock");
        let Ok(file) = File::open(&path) else { continue };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(true),
            Err(TryLockError::Error(source)) => return Err(BackupError::file(&path, source)),
        }
    }
    Ok(false)
}

/// A folder only its owner can enter.
pub(crate) fn private_folder(path: &Path) -> Result<(), BackupError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    builder.create(path).map_err(|source| BackupError::file(path, source))
}

/// A new file only its owner can read.
pub(crate) fn private_file(path: &Path) -> Result<File, BackupError> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    options.open(path).map_err(|source| BackupError::file(path, source))
}

fn sync(folder: &Path) -> Result<(), BackupError> {
    File::open(folder).and_then(|file| file.sync_all()).map_err(|source| BackupError::file(folder, source))
}

/// Moves that are made all or none.
pub(crate) struct Exchange {
    marker: PathBuf,
    done: Vec<(PathBuf, PathBuf)>,
}

impl Exchange {
    /// Begins. If the machine stops in the middle, the marker stays, and nobody opens what is half there.
    pub(crate) fn begin(data: &Path) -> Result<Self, BackupError> {
        let marker = data.join(UNFINISHED);
        if !marker.exists() {
            private_file(&marker)?.sync_all().map_err(|source| BackupError::file(&marker, source))?;
        }
        sync(data)?;
        Ok(Self { marker, done: Vec::new() })
    }

    /// Moves one thing. On an error everything that was moved so far is moved back.
    pub(crate) fn shift(&mut self, from: &Path, to: &Path) -> Result<(), BackupError> {
        if let Err(source) = fs::rename(from, to) {
            self.undo();
            return Err(BackupError::file(from, source));
        }
        self.done.push((from.to_owned(), to.to_owned()));
        Ok(())
    }

    /// Everything as it was.
    pub(crate) fn undo(&mut self) {
        let mut whole = true;
        for (from, to) in self.done.drain(..).rev() {
            whole &= fs::rename(&to, &from).is_ok();
        }
        if whole {
            let _ = fs::remove_file(&self.marker);
        }
    }

    /// The moves are durable and final.
    pub(crate) fn end(self) -> Result<(), BackupError> {
        for folder in self.done.iter().flat_map(|(from, to)| [from.parent(), to.parent()]).flatten() {
            if folder.is_dir() {
                sync(folder)?;
            }
        }
        fs::remove_file(&self.marker).map_err(|source| BackupError::file(&self.marker, source))
    }
}
