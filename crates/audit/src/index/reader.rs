//! Reads segments into index rows, in order and in bounded memory.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use bartizan_store::repo::audit_index::{IndexRow, Position};

use crate::digest::Hex;
use crate::error::AuditError;
use crate::folder::{log_path, segments, who_path};
use crate::lines::{End, Lines};
use crate::record::{Indexed, Link, Parsed};
use crate::who::Entry;
use crate::writer::Acked;

/// Stands somewhere in a writer's segments.
pub(crate) struct Reader {
    folder: PathBuf,
    writer: String,
    /// 0: before the first segment.
    segment: u32,
    offset: u64,
    link: Link,
    side: Side,
}

/// Identities of one segment, read as far as needed.
#[derive(Default)]
struct Side {
    segment: u32,
    offset: u64,
    by_commitment: HashMap<String, (Option<String>, String)>,
    /// Looked for in the whole file and not there: erased.
    erased: HashSet<String>,
}

impl Reader {
    pub(crate) fn new(dir: &Path, writer: &str, position: Option<Position>) -> Self {
        let mut reader = Self {
            folder: dir.join(writer),
            writer: writer.to_owned(),
            segment: 0,
            offset: 0,
            link: Link::START,
            side: Side::default(),
        };
        reader.reset(position);
        reader
    }

    /// Goes to a stored position.
    pub(crate) fn reset(&mut self, position: Option<Position>) {
        (self.segment, self.offset, self.link) = match position {
            None => (0, 0, Link::START),
            Some(position) => (
                u32::try_from(position.segment).unwrap_or(0),
                u64::try_from(position.byte_offset).unwrap_or(0),
                Link {
                    seq: u64::try_from(position.seq).unwrap_or(0),
                    hash: Hex::parse(position.hash.as_bytes()).unwrap_or(Hex::ZERO),
                },
            ),
        };
    }

    pub(crate) fn writer(&self) -> &str {
        &self.writer
    }

    pub(crate) fn seq(&self) -> u64 {
        self.link.seq
    }

    /// Where it stands, in the form of the store; `None` before the first segment.
    pub(crate) fn position(&self) -> Option<Position> {
        (self.segment > 0).then(|| Position {
            segment: i64::from(self.segment),
            byte_offset: i64::try_from(self.offset).unwrap_or(i64::MAX),
            seq: i64::try_from(self.link.seq).unwrap_or(i64::MAX),
            hash: self.link.hash.as_str().to_owned(),
        })
    }

    /// Reads at most `max` records, never beyond `bound`. Lines that are no records are
    /// skipped; `verify` reports them.
    pub(crate) fn read(&mut self, bound: Option<Acked>, max: usize) -> Result<Vec<IndexRow>, AuditError> {
        let mut rows = Vec::new();
        if bound.is_some_and(|bound| bound.segment == 0) {
            return Ok(rows);
        }
        while rows.len() < max {
            if self.segment > 0 {
                let path = log_path(&self.folder, self.segment);
                match self.read_segment(&path, bound, max, &mut rows) {
                    Ok(()) => {}
                    // Removed by retention: go on with the next one.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(AuditError::file(&path, error)),
                }
            }
            if rows.len() >= max || bound.is_some_and(|bound| self.segment >= bound.segment) {
                break;
            }
            let next = segments(&self.folder)?.into_iter().find(|number| *number > self.segment);
            let Some(next) = next else { break };
            (self.segment, self.offset) = (next, 0);
        }
        Ok(rows)
    }

    fn read_segment(
        &mut self,
        path: &Path,
        bound: Option<Acked>,
        max: usize,
        rows: &mut Vec<IndexRow>,
    ) -> io::Result<()> {
        let mut lines = Lines::open(path, self.offset)?;
        let limit = bound.filter(|bound| bound.segment == self.segment).map(|bound| bound.length);
        while rows.len() < max {
            if limit.is_some_and(|limit| self.offset >= limit) {
                break;
            }
            let Some(line) = lines.next()? else { break };
            if line.end == End::Torn {
                break;
            }
            if let Some((link, row)) = self.row(line.bytes) {
                self.link = link;
                rows.push(row);
            }
            self.offset = lines.offset();
        }
        Ok(())
    }

    fn row(&mut self, line: &[u8]) -> Option<(Link, IndexRow)> {
        let parsed = Parsed::new(line)?;
        let (link, record) = (parsed.link(), parsed.event_json()?);
        let fields: Indexed = serde_json::from_str(&record).ok()?;
        let (principal, who) = match self.side.find(&self.folder, self.segment, &fields.who) {
            Some((principal, who)) => (principal.clone(), Some(who.clone())),
            None => (None, None),
        };
        let row = IndexRow {
            at_ms: fields.at_ms,
            writer: self.writer.clone(),
            seq: i64::try_from(link.seq).ok()?,
            kind: fields.kind,
            principal,
            portal: fields.portal,
            server: fields.server,
            target: fields.target,
            allow: fields.verdict.allow,
            code: fields.verdict.code,
            id: fields.id,
            who,
            outcome: fields.outcome,
            total_us: i64::try_from(fields.total_us).unwrap_or(i64::MAX),
            record,
        };
        Some((link, row))
    }
}

impl Side {
    /// Salt and identity precede the record that names them, so a look at the rest of the
    /// file finds them, unless they were erased.
    fn find(&mut self, folder: &Path, segment: u32, commitment: &str) -> Option<&(Option<String>, String)> {
        if self.segment != segment {
            *self = Self { segment, ..Self::default() };
        }
        // An unreadable side file costs the names, not the index.
        if let Err(error) = self.look_for(folder, commitment) {
            tracing::warn!(%error, segment, "identities of an audit segment cannot be read");
        }
        self.by_commitment.get(commitment)
    }

    fn look_for(&mut self, folder: &Path, commitment: &str) -> io::Result<()> {
        let is_there = |side: &Self| side.by_commitment.contains_key(commitment);
        if is_there(self) || self.erased.contains(commitment) {
            return Ok(());
        }
        self.read_on(folder)?;
        if !is_there(self) {
            // An erasure replaced the file, and the offset means nothing any more.
            self.offset = 0;
            self.by_commitment.clear();
            self.read_on(folder)?;
        }
        if !is_there(self) {
            self.erased.insert(commitment.to_owned());
        }
        Ok(())
    }

    fn read_on(&mut self, folder: &Path) -> io::Result<()> {
        let path = who_path(folder, self.segment);
        let mut lines = Lines::open(&path, self.offset)?;
        while let Some(line) = lines.next()? {
            if line.end == End::Torn {
                break;
            }
            if let Some(entry) = Entry::new(line.bytes) {
                let value = (entry.principal(), entry.who.get().to_owned());
                self.by_commitment.insert(entry.commit.to_owned(), value);
            }
            self.offset = lines.offset();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use bartizan_model::event::{AuditEvent, EventKind, Who};
    use bartizan_model::{EventId, PrincipalKind};
    use tempfile::TempDir;

    use super::*;
    use crate::record::push_line;

    const WRITER: &str = "0123456789abcdef";

    /// Segments with these numbers of records, and where each record ends.
    fn make(dir: &TempDir, counts: &[usize]) -> Vec<Vec<u64>> {
        let folder = dir.path().join(WRITER);
        fs::create_dir(&folder).unwrap();
        let (mut link, mut number, mut ends) = (Link::START, 0, Vec::new());
        for count in counts {
            number += 1;
            let (mut log, mut here) = (Vec::new(), Vec::new());
            for n in 0..*count {
                let (id, at_ms) = (EventId::new(1), i64::try_from(n).unwrap());
                let (kind, who) = (EventKind::Call, Who::default());
                let event = AuditEvent::new(id, at_ms, kind, PrincipalKind::User, who, "m");
                link = push_line(&mut log, WRITER, &link, &event, &"c".repeat(64));
                here.push(log.len() as u64);
            }
            fs::write(log_path(&folder, number), log).unwrap();
            ends.push(here);
        }
        ends
    }

    fn seqs(rows: &[IndexRow]) -> Vec<i64> {
        rows.iter().map(|row| row.seq).collect()
    }

    fn bound(segment: u32, length: u64) -> Option<Acked> {
        Some(Acked { segment, length, seq: 0 })
    }

    #[test]
    fn l9_nothing_beyond_what_is_durable_is_indexed() {
        let dir = TempDir::new().unwrap();
        let ends = make(&dir, &[3, 4]);
        let mut reader = Reader::new(dir.path(), WRITER, None);
        assert!(reader.read(bound(0, 0), 100).unwrap().is_empty());
        assert_eq!(reader.position(), None);
        assert_eq!(seqs(&reader.read(bound(1, ends[0][1]), 100).unwrap()), [1, 2]);
        assert!(reader.read(bound(1, ends[0][1]), 100).unwrap().is_empty());
        assert_eq!(seqs(&reader.read(bound(2, ends[1][0]), 100).unwrap()), [3, 4]);
        assert_eq!(seqs(&reader.read(bound(2, ends[1][3]), 2).unwrap()), [5, 6]);
        // Another reader goes on from the stored position.
        let mut next = Reader::new(dir.path(), WRITER, reader.position());
        assert_eq!(seqs(&next.read(None, 100).unwrap()), [7]);
        assert!(next.read(None, 100).unwrap().is_empty());
        assert_eq!(next.seq(), 7);
    }

    #[test]
    fn l9_lines_that_are_no_records_are_skipped_and_a_torn_one_is_waited_for() {
        let dir = TempDir::new().unwrap();
        make(&dir, &[2]);
        let log = log_path(&dir.path().join(WRITER), 1);
        let good = fs::read_to_string(&log).unwrap();
        let (first, second) = good.trim_end().split_once('\n').unwrap();
        fs::write(&log, format!("{first}\nnonsense\n{}\n{second}", "x".repeat(3 << 20))).unwrap();
        let mut reader = Reader::new(dir.path(), WRITER, None);
        assert_eq!(seqs(&reader.read(None, 100).unwrap()), [1]);
        let torn = reader.position();
        assert!(reader.read(None, 100).unwrap().is_empty());
        assert_eq!(reader.position(), torn);
        fs::write(&log, format!("{first}\nnonsense\n{}\n{second}\n", "x".repeat(3 << 20))).unwrap();
        assert_eq!(seqs(&reader.read(None, 100).unwrap()), [2]);
    }

    #[test]
    fn l9_a_removed_segment_is_passed_over() {
        let dir = TempDir::new().unwrap();
        make(&dir, &[2, 2, 2]);
        fs::remove_file(log_path(&dir.path().join(WRITER), 2)).unwrap();
        let mut reader = Reader::new(dir.path(), WRITER, None);
        assert_eq!(seqs(&reader.read(None, 100).unwrap()), [1, 2, 5, 6]);
    }
}
