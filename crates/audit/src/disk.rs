//! The few file operations that the writer needs, as a seam: tests put a disk there
//! that fills up, fails to sync or fails to truncate.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

/// Makes and opens files.
pub(crate) trait Disk: Send + 'static {
    /// A new, empty file; its folder is synced, so that the name survives a crash.
    fn create(&mut self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// An existing file, for appending.
    fn open(&mut self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Writes, syncs and removes a small file: can anything be written at all?
    fn probe(&mut self, path: &Path) -> io::Result<()>;
}

/// A file that only grows, but for a write that failed.
pub(crate) trait DiskFile: Send + 'static {
    /// Appends all bytes or fails; after a failure some of them may be there.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes everything appended so far durable.
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts the file to `length` bytes.
    fn truncate(&mut self, length: u64) -> io::Result<()>;
}

/// Bytes written by a probe: more than a typical batch of records.
const PROBE: usize = 64 << 10;

/// The machine's file system.
pub(crate) struct RealDisk;

impl Disk for RealDisk {
    fn create(&mut self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = private().create_new(true).append(true).open(path)?;
        if let Some(folder) = path.parent() {
            sync_folder(folder)?;
        }
        Ok(Box::new(file))
    }

    fn open(&mut self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(OpenOptions::new().append(true).open(path)?))
    }

    fn probe(&mut self, path: &Path) -> io::Result<()> {
        let written = private().create(true).truncate(true).write(true).open(path).and_then(|mut file| {
            file.write_all(&[b' '; PROBE])?;
            file.sync_data()
        });
        let removed = fs::remove_file(path);
        written.and(removed)
    }
}

impl DiskFile for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }
}

/// Readable by the owner only.
pub(crate) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    options
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
