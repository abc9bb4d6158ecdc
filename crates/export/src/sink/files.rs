//! Files in a folder: `WRITER-DAY.jsonl` grows; of a former day, or too long, it becomes
//! `WRITER-DAY-N.jsonl.gz`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use bartizan_config::export::{Files as Config, Format};
use flate2::Compression;
use flate2::write::GzEncoder;

use super::{Batch, SinkError, day};

#[derive(Clone)]
pub(crate) struct Files {
    folder: PathBuf,
    rotate_bytes: u64,
    keep: usize,
    extension: &'static str,
}

impl Files {
    pub(super) fn new(config: &Config, format: Format) -> Self {
        Self {
            folder: config.folder.clone(),
            rotate_bytes: config.rotate_bytes.max(1),
            keep: usize::try_from(config.keep).unwrap_or(usize::MAX),
            extension: if format == Format::Cef { "cef" } else { "jsonl" },
        }
    }

    pub(super) async fn send(&self, batch: &Batch<'_>) -> Result<(), SinkError> {
        let (this, writer, lines, today) = (self.clone(), batch.writer.to_owned(), batch.lines(), day(batch.now_ms));
        let task = tokio::task::spawn_blocking(move || this.append(&writer, &lines, &today));
        task.await.map_err(SinkError::new)?.map_err(SinkError::new)
    }

    /// Appends and syncs.
    fn append(&self, writer: &str, lines: &str, today: &str) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let name = format!("{writer}-{today}.{}", self.extension);
        for (old, _) in self.matching(writer, &format!(".{}", self.extension))? {
            if old.file_name().is_some_and(|old| *old != *name) {
                self.rotate(writer, &old)?;
            }
        }
        let path = self.folder.join(&name);
        let mut file = open(&path)?;
        let length = cut_torn(&mut file)?;
        file.write_all(lines.as_bytes())?;
        file.sync_data()?;
        sync_folder(&self.folder)?;
        drop(file);
        if length + u64::try_from(lines.len()).unwrap_or(u64::MAX) >= self.rotate_bytes {
            self.rotate(writer, &path)?;
        }
        Ok(())
    }

    /// Files of a writer with this ending, by name, with their modification order by name.
    fn matching(&self, writer: &str, ending: &str) -> io::Result<Vec<(PathBuf, String)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(&format!("{writer}-")) && name.ends_with(ending) {
                found.push((entry.path(), name));
            }
        }
        found.sort();
        Ok(found)
    }

    /// Compresses a file under a new name; only then it goes. A crash between leaves both, and
    /// the events in them have equal ids.
    fn rotate(&self, writer: &str, path: &Path) -> io::Result<()> {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let ending = format!(".{}.gz", self.extension);
        let free =
            (1..u32::MAX).map(|n| self.folder.join(format!("{stem}-{n:04}{ending}"))).find(|path| !path.exists());
        let target = free.ok_or_else(|| io::Error::other("no name is free"))?;
        let temporary = self.folder.join(format!("{stem}.new"));
        let out = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        let mut encoder = GzEncoder::new(out, Compression::default());
        io::copy(&mut File::open(path)?, &mut encoder)?;
        encoder.finish()?.sync_all()?;
        fs::rename(&temporary, &target)?;
        sync_folder(&self.folder)?;
        fs::remove_file(path)?;
        if self.keep > 0 {
            let all = self.matching(writer, &ending)?;
            for (old, _) in all.iter().take(all.len().saturating_sub(self.keep)) {
                fs::remove_file(old)?;
            }
        }
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)
}

/// Cuts off what a crash left without a line end, and returns the length. Its event is sent again.
fn cut_torn(file: &mut File) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let mut end = length;
    let mut block = [0_u8; 4_096];
    while end > 0 {
        let size = end.min(4_096);
        let start = end - size;
        file.seek(SeekFrom::Start(start))?;
        let part = block.get_mut(..usize::try_from(size).unwrap_or(0)).unwrap_or_default();
        file.read_exact(part)?;
        if let Some(at) = part.iter().rposition(|byte| *byte == b'\n') {
            end = start + u64::try_from(at).unwrap_or(0) + 1;
            break;
        }
        end = start;
    }
    if end < length {
        file.set_len(end)?;
        file.sync_data()?;
    }
    Ok(end)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
