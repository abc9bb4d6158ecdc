//! The folders of an installation, and exchanging what is in them as one.

use std::collections::BTreeMap;
use std::fs::{self, File};
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

/// The writers' folders, held so that no process takes one of them.
#[derive(Default)]
pub(crate) struct Held(BTreeMap<String, File>);

impl Held {
    /// Takes hold of all that there are and that are not held yet: a second time it finds the processes that began
    /// in the meantime with folders of their own.
    ///
    /// # Errors
    /// [`BackupError::InUse`] when a process holds one, or when nobody can tell.
    pub(crate) fn take(&mut self, audit: &Path) -> Result<(), BackupError> {
        for writer in folders(audit)? {
            if self.0.contains_key(&writer) {
                continue;
            }
            let file = match File::open(audit.join(&writer).join("lock")) {
                Ok(file) => file,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(_) => return Err(BackupError::InUse),
            };
            file.try_lock().map_err(|_| BackupError::InUse)?;
            self.0.insert(writer, file);
        }
        Ok(())
    }
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
    /// Whether the marker is ours: one of an earlier exchange that stopped in the middle stays until one succeeds.
    fresh: bool,
    done: Vec<(PathBuf, PathBuf)>,
}

impl Exchange {
    /// Begins. If the machine stops in the middle, the marker stays, and nobody opens what is half there.
    pub(crate) fn begin(data: &Path) -> Result<Self, BackupError> {
        let marker = data.join(UNFINISHED);
        let fresh = !marker.exists();
        if fresh {
            private_file(&marker)?.sync_all().map_err(|source| BackupError::file(&marker, source))?;
        }
        sync(data)?;
        Ok(Self { marker, fresh, done: Vec::new() })
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
        if whole && self.fresh {
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
