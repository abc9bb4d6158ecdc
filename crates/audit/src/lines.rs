//! Lines of a file with their offsets, in bounded memory.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::Path;

/// Longest line that is read, bytes. A record is far below: its texts are cut.
pub(crate) const MAX_LINE: usize = 1 << 20;

/// How a line ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With a newline.
    Whole,
    /// With the end of the file.
    Torn,
    /// Not within the bound; the rest up to the newline was skipped.
    TooLong,
}

/// One line, without its newline.
#[derive(Debug)]
pub(crate) struct Line<'a> {
    /// Where it begins in the file.
    pub(crate) offset: u64,
    pub(crate) bytes: &'a [u8],
    pub(crate) end: End,
}

/// Reads a file from an offset on.
pub(crate) struct Lines {
    file: BufReader<File>,
    offset: u64,
    line: Vec<u8>,
}

impl Lines {
    pub(crate) fn open(path: &Path, offset: u64) -> io::Result<Self> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Self { file: BufReader::with_capacity(1 << 16, file), offset, line: Vec::new() })
    }

    /// Where the next line begins.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next line; `None` at the end of the file.
    pub(crate) fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        let offset = self.offset;
        self.line.clear();
        let bound = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
        let read = (&mut self.file).take(bound).read_until(b'\n', &mut self.line)?;
        if read == 0 {
            return Ok(None);
        }
        self.offset += u64::try_from(read).unwrap_or(0);
        let end = if self.line.last() == Some(&b'\n') {
            self.line.pop();
            End::Whole
        } else if read == MAX_LINE {
            self.offset += skip_line(&mut self.file)?;
            End::TooLong
        } else {
            End::Torn
        };
        Ok(Some(Line { offset, bytes: &self.line, end }))
    }
}

fn skip_line(file: &mut BufReader<File>) -> io::Result<u64> {
    let mut skipped = 0;
    loop {
        let buffer = file.fill_buf()?;
        let (used, found) = match buffer.iter().position(|b| *b == b'\n') {
            Some(at) => (at + 1, true),
            None => (buffer.len(), buffer.is_empty()),
        };
        file.consume(used);
        skipped += u64::try_from(used).unwrap_or(0);
        if found {
            return Ok(skipped);
        }
    }
}
