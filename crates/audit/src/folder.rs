//! The folder of one writer: its lock, its segments, and what a crash left behind.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::rand;

use crate::digest::push_hex;
use crate::disk::{private, sync_folder};
use crate::error::AuditError;
use crate::lines::{End, Lines};
use crate::record::{Link, Parsed};

const LOCK: &str = "lock";
const LOG: &str = "log";
const WHO: &str = "who";

/// Length of a writer's name: 64 random bits in hex.
const NAME: usize = 16;

/// A writer's folder, exclusively held until dropped (also by the end of the process).
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
    pub(crate) writer: String,
    _lock: File,
}

/// Where a writer goes on.
#[derive(Debug)]
pub(crate) struct Tail {
    /// Present segment; 0 when there is none yet.
    pub(crate) segment: u32,
    /// Its length.
    pub(crate) log_len: u64,
    /// Length of its side file.
    pub(crate) who_len: u64,
    /// End of the chain.
    pub(crate) link: Link,
    /// Bytes of an unfinished line that were moved aside.
    pub(crate) torn: u64,
}

/// Path of a segment.
pub(crate) fn log_path(folder: &Path, segment: u32) -> PathBuf {
    folder.join(format!("{segment:08}.{LOG}"))
}

/// Path of the identities of a segment.
pub(crate) fn who_path(folder: &Path, segment: u32) -> PathBuf {
    folder.join(format!("{segment:08}.{WHO}"))
}

/// Writers with a folder in `dir`, in order of name. No folder at all: none.
pub(crate) fn writers(dir: &Path) -> Result<Vec<String>, AuditError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(AuditError::file(dir, error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| AuditError::file(dir, error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let good = name.len() == NAME && name.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if good && entry.path().is_dir() {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Segment numbers in a writer's folder, in order.
pub(crate) fn segments(folder: &Path) -> Result<Vec<u32>, AuditError> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| AuditError::file(folder, error))? {
        let entry = entry.map_err(|error| AuditError::file(folder, error))?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".log")).filter(|stem| stem.len() == 8);
        numbers.extend(number.and_then(|stem| stem.parse::<u32>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

impl Folder {
    /// Holds the folder of a writer whose process is gone, or a new one.
    pub(crate) fn acquire(dir: &Path) -> Result<Self, AuditError> {
        create_private(dir)?;
        for writer in writers(dir)? {
            if let Some(folder) = Self::try_hold(dir, &writer)? {
                return Ok(folder);
            }
        }
        let mut bytes = [0u8; NAME / 2];
        rand::fill(&mut bytes).map_err(|_| AuditError::Random)?;
        let mut name = Vec::new();
        push_hex(&mut name, &bytes);
        let name = String::from_utf8(name).unwrap_or_default();
        // Made under another name and locked before it can be seen: who looks for
        // abandoned folders must not find this one.
        let (hidden, path) = (dir.join(format!("new-{name}")), dir.join(&name));
        create_private(&hidden)?;
        let lock = hold(&hidden)?.ok_or_else(|| AuditError::file(dir, io::ErrorKind::WouldBlock.into()))?;
        fs::rename(&hidden, &path).map_err(|error| AuditError::file(&path, error))?;
        sync_folder(dir).map_err(|error| AuditError::file(dir, error))?;
        Ok(Self { path, writer: name, _lock: lock })
    }

    /// Holds this writer's folder, unless somebody else does.
    pub(crate) fn try_hold(dir: &Path, writer: &str) -> Result<Option<Self>, AuditError> {
        let path = dir.join(writer);
        let lock = hold(&path)?;
        Ok(lock.map(|lock| Self { path, writer: writer.to_owned(), _lock: lock }))
    }

    /// Finds the end of the chain and moves an unfinished line aside.
    pub(crate) fn recover(&self) -> Result<Tail, AuditError> {
        let segments = segments(&self.path)?;
        let Some(last) = segments.last().copied() else {
            return Ok(Tail { segment: 0, log_len: 0, who_len: 0, link: Link::START, torn: 0 });
        };
        let log = log_path(&self.path, last);
        let scan = scan(&log, &self.writer).map_err(|error| AuditError::file(&log, error))?;
        let torn = scan.length - scan.good;
        if torn > 0 {
            self.move_aside(last, &log, scan.good).map_err(|error| AuditError::file(&log, error))?;
        }
        let who = who_path(&self.path, last);
        let who_len = trim_side(&who).map_err(|error| AuditError::file(&who, error))?;
        let link = match scan.link {
            Some(link) => link,
            None => self.end_of(segments.iter().rev().skip(1).copied())?,
        };
        Ok(Tail { segment: last, log_len: scan.good, who_len, link, torn })
    }

    /// The end of the chain in the newest of these segments that has a record.
    fn end_of(&self, newest_first: impl Iterator<Item = u32>) -> Result<Link, AuditError> {
        for segment in newest_first {
            let log = log_path(&self.path, segment);
            let scan = scan(&log, &self.writer).map_err(|error| AuditError::file(&log, error))?;
            if let Some(link) = scan.link {
                return Ok(link);
            }
        }
        Ok(Link::START)
    }

    /// Copies the bytes from `good` on to a file beside, then cuts them off. Nothing that
    /// was ever acknowledged is in them, but they may tell what happened.
    fn move_aside(&self, segment: u32, log: &Path, good: u64) -> io::Result<()> {
        let bytes = fs::read(log)?;
        let tail = bytes.get(usize::try_from(good).unwrap_or(usize::MAX)..).unwrap_or_default();
        let aside = self.path.join(format!("{segment:08}.torn-{good}"));
        let mut file = private().create(true).append(true).open(aside)?;
        file.write_all(tail)?;
        file.sync_all()?;
        sync_folder(&self.path)?;
        let file = fs::OpenOptions::new().write(true).open(log)?;
        file.set_len(good)?;
        file.sync_all()
    }
}

/// Locks the file in a folder; `None` when somebody else has.
fn hold(folder: &Path) -> Result<Option<File>, AuditError> {
    let lock = folder.join(LOCK);
    let file = private().create(true).append(true).open(&lock).map_err(|error| AuditError::file(&lock, error))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(AuditError::file(&lock, error)),
    }
}

struct Scan {
    length: u64,
    /// Bytes up to the end of the last whole record.
    good: u64,
    link: Option<Link>,
}

/// Reads a segment to its end. A line that is no record in the middle is left for
/// `verify` to report; what follows the last record is torn. So is everything from a
/// zero byte on: after a power cut, blocks that never reached the disk read as zeros,
/// and nothing from there on was synced.
fn scan(log: &Path, writer: &str) -> io::Result<Scan> {
    let mut lines = Lines::open(log, 0)?;
    let (mut good, mut link) = (0, None);
    let length = fs::metadata(log)?.len();
    while let Some(line) = lines.next()? {
        if line.bytes.contains(&0) {
            break;
        }
        let record = Parsed::new(line.bytes).filter(|record| line.end == End::Whole && record.writer == writer);
        // Only the last record has to be whole; hashing all would slow the start.
        let found = record.map(|record| record.link());
        let end = lines.offset();
        if found.is_some() {
            (good, link) = (end, found);
        }
    }
    Ok(Scan { length, good, link })
}

/// Cuts an unfinished line off a side file; no record can name it.
fn trim_side(path: &Path) -> io::Result<u64> {
    if !path.exists() {
        private().create_new(true).append(true).open(path)?.sync_all()?;
        return Ok(0);
    }
    let mut lines = Lines::open(path, 0)?;
    let mut good = 0;
    while let Some(line) = lines.next()? {
        if line.end == End::Torn || line.bytes.contains(&0) {
            break;
        }
        good = lines.offset();
    }
    let file = fs::OpenOptions::new().write(true).open(path)?;
    if file.metadata()?.len() > good {
        file.set_len(good)?;
        file.sync_all()?;
    }
    Ok(good)
}

fn create_private(path: &Path) -> Result<(), AuditError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    builder.create(path).map_err(|error| AuditError::file(path, error))
}
