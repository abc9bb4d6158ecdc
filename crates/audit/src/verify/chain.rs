//! One writer's chain, segment by segment.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::PathBuf;

use super::report::{Checkpoint, Finding, FindingKind, Report, TornTail, WriterReport};
use crate::digest::Hex;
use crate::error::AuditError;
use crate::folder::{log_path, segments, who_path};
use crate::lines::{End, Lines};
use crate::record::{Link, Parsed};
use crate::who::Entry;

/// Most findings of one chain; a destroyed file need not fill the memory.
const MAX_FINDINGS: usize = 10_000;

pub(super) struct Chain<'a> {
    folder: PathBuf,
    writer: &'a str,
    /// Hashes by sequence number.
    checkpoints: BTreeMap<u64, Vec<&'a str>>,
    /// The last record that could be read, whatever is wrong with it.
    last: Link,
    highest: u64,
    records: u64,
    segments: usize,
    without_identity: u64,
    findings: Vec<Finding>,
    torn: Option<TornTail>,
}

/// Where in the files something is.
struct Place {
    file: String,
    line: u64,
    offset: u64,
}

impl<'a> Chain<'a> {
    pub(super) fn new(dir: &std::path::Path, writer: &'a str, checkpoints: &'a [Checkpoint]) -> Self {
        let mut known: BTreeMap<u64, Vec<&str>> = BTreeMap::new();
        for checkpoint in checkpoints.iter().filter(|checkpoint| checkpoint.writer == writer) {
            let hashes = known.entry(checkpoint.seq).or_default();
            if !hashes.contains(&checkpoint.hash.as_str()) {
                hashes.push(&checkpoint.hash);
            }
        }
        Self {
            folder: dir.join(writer),
            writer,
            checkpoints: known,
            last: Link::START,
            highest: 0,
            records: 0,
            segments: 0,
            without_identity: 0,
            findings: Vec::new(),
            torn: None,
        }
    }

    pub(super) fn check(&mut self) -> Result<(), AuditError> {
        let numbers = segments(&self.folder)?;
        self.segments = numbers.len();
        let mut expected = 1;
        for number in &numbers {
            for missing in expected..*number {
                self.find(None, None, FindingKind::MissingSegment { number: missing });
            }
            expected = number + 1;
            let is_last = numbers.last() == Some(number);
            let commitments = self.side(*number);
            if let Err(error) = self.log(*number, is_last, &commitments) {
                let place = Place { file: log_name(*number), line: 0, offset: 0 };
                self.find(Some(place), None, FindingKind::Unreadable { reason: error.to_string() });
            }
        }
        Ok(())
    }

    pub(super) fn finish(mut self, report: &mut Report) {
        // One finding says it: the furthest.
        let cut = self.checkpoints.keys().next_back().copied().filter(|seq| *seq > self.highest);
        if let Some(checkpoint) = cut {
            let kind = FindingKind::Truncated { checkpoint, last: self.highest };
            self.find(None, None, kind);
        }
        let hash = self.last.hash.as_str().to_owned();
        let head = (self.records > 0).then(|| Checkpoint { writer: self.writer.to_owned(), seq: self.last.seq, hash });
        report.writers.push(WriterReport {
            writer: self.writer.to_owned(),
            segments: self.segments,
            records: self.records,
            without_identity: self.without_identity,
            head,
        });
        report.findings.append(&mut self.findings);
        report.torn.extend(self.torn);
    }

    fn find(&mut self, place: Option<Place>, seq: Option<u64>, kind: FindingKind) {
        if self.findings.len() >= MAX_FINDINGS {
            return;
        }
        let (file, line, offset) = match place {
            Some(place) => (Some(place.file), place.line, place.offset),
            None => (None, 0, 0),
        };
        self.findings.push(Finding { writer: self.writer.to_owned(), file, line, offset, seq, kind });
    }

    /// Checks a side file; returns the commitments that it explains. A missing file
    /// explains none: every identity of the segment may have been erased.
    fn side(&mut self, number: u32) -> HashSet<Hex> {
        let mut commitments = HashSet::new();
        let path = who_path(&self.folder, number);
        let name = format!("{number:08}.who");
        let mut read = || -> io::Result<Vec<(u64, u64)>> {
            let mut bad = Vec::new();
            let mut lines = Lines::open(&path, 0)?;
            let mut count = 0;
            while let Some(line) = lines.next()? {
                count += 1;
                if line.end == End::Torn {
                    break;
                }
                match Entry::new(line.bytes).filter(Entry::is_intact).and_then(|e| Hex::parse(e.commit.as_bytes())) {
                    Some(commitment) => drop(commitments.insert(commitment)),
                    None => bad.push((count, line.offset)),
                }
            }
            Ok(bad)
        };
        match read() {
            Ok(bad) => {
                for (line, offset) in bad {
                    let place = Place { file: name.clone(), line, offset };
                    self.find(Some(place), None, FindingKind::IdentityAltered);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let place = Place { file: name, line: 0, offset: 0 };
                self.find(Some(place), None, FindingKind::Unreadable { reason: error.to_string() });
            }
        }
        commitments
    }

    fn log(&mut self, number: u32, is_last: bool, commitments: &HashSet<Hex>) -> io::Result<()> {
        let file = log_name(number);
        let mut lines = Lines::open(&log_path(&self.folder, number), 0)?;
        let mut count = 0;
        while let Some(line) = lines.next()? {
            count += 1;
            let place = Place { file: file.clone(), line: count, offset: line.offset };
            match line.end {
                End::Torn if is_last => {
                    let bytes = u64::try_from(line.bytes.len()).unwrap_or(u64::MAX);
                    self.torn = Some(TornTail { writer: self.writer.to_owned(), file, offset: line.offset, bytes });
                    break;
                }
                End::Torn => self.find(Some(place), None, FindingKind::TornInside),
                End::TooLong => self.find(Some(place), None, FindingKind::NotARecord),
                End::Whole => match Parsed::new(line.bytes) {
                    None => self.find(Some(place), None, FindingKind::NotARecord),
                    Some(record) => {
                        self.record(&place, &record);
                        let commitment = commitment(line.bytes);
                        if !commitment.is_some_and(|commitment| commitments.contains(&commitment)) {
                            self.without_identity += 1;
                        }
                    }
                },
            }
        }
        Ok(())
    }

    fn record(&mut self, place: &Place, record: &Parsed<'_>) {
        let mut kinds = Vec::new();
        let expected = self.last.seq + 1;
        if record.writer != self.writer {
            kinds.push(FindingKind::ForeignWriter { writer: record.writer.chars().take(32).collect() });
        }
        if !record.is_intact() {
            kinds.push(FindingKind::Altered);
        }
        if record.seq > expected {
            kinds.push(FindingKind::Missing { from: expected, to: record.seq - 1 });
        } else if record.seq < expected {
            kinds.push(FindingKind::OutOfOrder { expected });
        } else if record.prev != self.last.hash {
            kinds.push(FindingKind::BrokenLink);
        }
        let known = self.checkpoints.get(&record.seq);
        if known.is_some_and(|hashes| hashes.iter().any(|hash| *hash != record.hash.as_str())) {
            kinds.push(FindingKind::NotTheCheckpoint);
        }
        for kind in kinds {
            let place = Place { file: place.file.clone(), line: place.line, offset: place.offset };
            self.find(Some(place), Some(record.seq), kind);
        }
        self.last = record.link();
        self.highest = self.highest.max(record.seq);
        self.records += 1;
    }
}

/// The last member of a line.
fn commitment(line: &[u8]) -> Option<Hex> {
    let (start, hex) = line.strip_suffix(b"\"}")?.split_last_chunk::<64>()?;
    start.ends_with(b"\"who\":\"").then(|| Hex::parse(hex)).flatten()
}

fn log_name(number: u32) -> String {
    format!("{number:08}.log")
}
