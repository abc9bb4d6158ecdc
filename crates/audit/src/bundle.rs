//! A part of the record that proves itself (feature rows L2, L5): records of a time range as
//! they stand in the segments, their identities, and the signed checkpoints that cover them.
//!
//! ```text
//! {"bundle":1,"since_ms":A,"until_ms":B}
//! {"checkpoint":"…signed document…"}
//! {"who":"…line of a side file…"}
//! {"record":"…line of a segment…"}
//! ```
//!
//! Each chain's records go on to the first checkpoint behind the range, so that the signature
//! covers every one of them.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, BufRead, Read as _, Write};
use std::path::Path;

use bartizan_store::Store;
use bartizan_store::repo::audit_checkpoint;
use serde::{Deserialize, Serialize};

use crate::checkpoint::{PublicKey, Signed};
use crate::error::AuditError;
use crate::folder::{log_path, segments, who_path, writers};
use crate::lines::{End, Lines, MAX_LINE};
use crate::record::{Indexed, Link, Parsed};
use crate::verify::{Checkpoint, Finding, FindingKind};
use crate::who::Entry;

/// Most findings of one bundle.
const MAX_FINDINGS: usize = 1_000;
/// Stored checkpoints read at once.
const PAGE: u32 = 500;

/// One line of a bundle.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Head { bundle: u8, since_ms: i64, until_ms: i64 },
    Checkpoint { checkpoint: String },
    Who { who: String },
    Record { record: String },
}

/// What a bundle holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BundleReport {
    /// Records.
    pub records: u64,
    /// Records with their identity.
    pub identities: u64,
    /// Good checkpoints.
    pub signed: u64,
    /// Per chain: the last record that a good checkpoint covers. What is behind it proves nothing.
    pub covered: BTreeMap<String, u64>,
    /// What is wrong; `line` counts the lines of the bundle.
    pub findings: Vec<Finding>,
}

impl BundleReport {
    /// True when nothing is wrong and every record is covered.
    pub fn is_whole(&self) -> bool {
        self.findings.is_empty()
    }
}

/// Where a chain's part begins and ends; sequence numbers.
struct Part {
    writer: String,
    first: u64,
    last: u64,
}

/// The record's lines of a writer, in order.
fn each(
    dir: &Path,
    writer: &str,
    mut see: impl FnMut(u32, &[u8], &Parsed<'_>) -> io::Result<bool>,
) -> Result<(), AuditError> {
    let folder = dir.join(writer);
    for number in segments(&folder)? {
        let path = log_path(&folder, number);
        let fail = |error| AuditError::file(&path, error);
        let mut lines = Lines::open(&path, 0).map_err(fail)?;
        while let Some(line) = lines.next().map_err(fail)? {
            let Some(parsed) = Parsed::new(line.bytes).filter(|_| line.end == End::Whole) else { continue };
            if !see(number, line.bytes, &parsed).map_err(fail)? {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn part(dir: &Path, writer: &str, since_ms: i64, until_ms: i64) -> Result<Option<Part>, AuditError> {
    let mut found: Option<Part> = None;
    each(dir, writer, |_, _, parsed| {
        let at = parsed.event_json().and_then(|json| serde_json::from_str::<Indexed>(&json).ok()).map(|it| it.at_ms);
        if at.is_some_and(|at| (since_ms..until_ms).contains(&at)) {
            let seq = parsed.seq;
            match &mut found {
                Some(part) => part.last = seq,
                None => found = Some(Part { writer: writer.to_owned(), first: seq, last: seq }),
            }
        }
        Ok(true)
    })?;
    Ok(found)
}

/// Writes the bundle of a time range (milliseconds since the epoch, the end not included).
/// Returns how many records it holds.
///
/// # Errors
/// When a segment cannot be read, the store does not answer, or `out` does not take it.
pub async fn export_bundle(
    dir: &Path,
    store: &Store,
    since_ms: i64,
    until_ms: i64,
    out: &mut (dyn Write + Send),
) -> Result<u64, AuditError> {
    let mut parts: Vec<Part> = Vec::new();
    for writer in writers(dir)? {
        parts.extend(part(dir, &writer, since_ms, until_ms)?);
    }
    let mut put = |line: &Line| -> Result<(), AuditError> {
        let text = serde_json::to_string(line).map_err(io::Error::from);
        text.and_then(|text| writeln!(out, "{text}")).map_err(|error| AuditError::file(Path::new("bundle"), error))
    };
    put(&Line::Head { bundle: 1, since_ms, until_ms })?;
    // The first checkpoint behind each part.
    let mut open: HashSet<String> = parts.iter().map(|part| part.writer.clone()).collect();
    let mut after = 0;
    while !open.is_empty() {
        let page = audit_checkpoint::after(store, after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.number;
        for stored in &page {
            let Ok(signed) = serde_json::from_str::<Signed>(&stored.body) else { continue };
            let mut useful = false;
            for part in &mut parts {
                if !open.contains(&part.writer) {
                    continue;
                }
                let head = signed.heads.iter().find(|head| head.writer == part.writer && head.seq >= part.last);
                if let Some(head) = head {
                    (part.last, useful) = (head.seq, true);
                    open.remove(&part.writer);
                }
            }
            if useful {
                put(&Line::Checkpoint { checkpoint: stored.body.clone() })?;
            }
        }
    }
    let mut count = 0;
    for part in &parts {
        let (mut segment, mut told) = (0, HashSet::<String>::new());
        let mut records: Vec<(u32, String)> = Vec::new();
        let mut failed = None;
        each(dir, &part.writer, |number, bytes, parsed| {
            if parsed.seq < part.first {
                return Ok(true);
            }
            if parsed.seq > part.last {
                return Ok(false);
            }
            records.push((number, String::from_utf8_lossy(bytes).into_owned()));
            // In portions, so that memory does not grow with the range.
            if records.len() >= 1_000 {
                for record in records.drain(..) {
                    if let Err(error) = write_record(dir, part, record, &mut segment, &mut told, &mut put) {
                        failed = Some(error);
                        return Ok(false);
                    }
                }
            }
            count += 1;
            Ok(true)
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        for record in records {
            write_record(dir, part, record, &mut segment, &mut told, &mut put)?;
        }
    }
    Ok(count)
}

/// A record, and before the first of a segment the identities that the segment names.
fn write_record(
    dir: &Path,
    part: &Part,
    (number, record): (u32, String),
    segment: &mut u32,
    told: &mut HashSet<String>,
    put: &mut dyn FnMut(&Line) -> Result<(), AuditError>,
) -> Result<(), AuditError> {
    if *segment != number {
        *segment = number;
        let path = who_path(&dir.join(&part.writer), number);
        let fail = |error| AuditError::file(&path, error);
        match Lines::open(&path, 0) {
            Ok(mut lines) => {
                while let Some(line) = lines.next().map_err(fail)? {
                    let entry = Entry::new(line.bytes).filter(|_| line.end == End::Whole);
                    if entry.is_some_and(|entry| told.insert(entry.commit.to_owned())) {
                        put(&Line::Who { who: String::from_utf8_lossy(line.bytes).into_owned() })?;
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(fail(error)),
        }
    }
    put(&Line::Record { record })
}

/// Checks a bundle against the public key alone: every record has the hash that it names and
/// follows the one before it, and a good checkpoint knows one at or behind it.
///
/// # Errors
/// [`AuditError::File`] when the bundle cannot be read.
pub fn verify_bundle(from: &mut dyn BufRead, key: &PublicKey) -> Result<BundleReport, AuditError> {
    let mut check = Check::default();
    let mut number = 0;
    loop {
        let mut line = Vec::new();
        // A checkpoint of many chains is longer than a record.
        let bound = u64::try_from(8 * MAX_LINE).unwrap_or(u64::MAX);
        let fail = |error| AuditError::file(Path::new("bundle"), error);
        let read = from.take(bound).read_until(b'\n', &mut line).map_err(fail)?;
        if read == 0 {
            break;
        }
        number += 1;
        match serde_json::from_slice::<Line>(&line) {
            Ok(Line::Head { bundle: 1, .. }) if number == 1 => {}
            Ok(Line::Checkpoint { checkpoint }) => check.checkpoint(number, &checkpoint, key),
            Ok(Line::Who { who }) => check.identity(number, &who),
            Ok(Line::Record { record }) => check.record(number, &record),
            _ => check.find("bundle", number, None, FindingKind::NotARecord),
        }
    }
    Ok(check.finish(number))
}

#[derive(Default)]
struct Check {
    report: BundleReport,
    heads: Vec<Checkpoint>,
    commitments: HashSet<String>,
    ends: BTreeMap<String, Link>,
}

impl Check {
    fn find(&mut self, writer: &str, line: u64, seq: Option<u64>, kind: FindingKind) {
        if self.report.findings.len() < MAX_FINDINGS {
            let writer: String = writer.chars().take(64).collect();
            let file = Some("bundle".to_owned());
            self.report.findings.push(Finding { writer, file, line, offset: 0, seq, kind });
        }
    }

    fn checkpoint(&mut self, line: u64, text: &str, key: &PublicKey) {
        match Signed::open(text, key) {
            Ok((signed, _)) => {
                self.report.signed += 1;
                self.heads.extend(signed.heads);
            }
            Err(error) => {
                self.find("checkpoint", line, None, FindingKind::BadCheckpoint { reason: error.to_string() });
            }
        }
    }

    fn identity(&mut self, line: u64, text: &str) {
        match Entry::new(text.as_bytes()).filter(Entry::is_intact) {
            Some(entry) => drop(self.commitments.insert(entry.commit.to_owned())),
            None => self.find("identity", line, None, FindingKind::IdentityAltered),
        }
    }

    fn record(&mut self, line: u64, text: &str) {
        let Some(parsed) = Parsed::new(text.as_bytes()) else {
            return self.find("record", line, None, FindingKind::NotARecord);
        };
        let (writer, seq) = (parsed.writer.to_owned(), parsed.seq);
        if !parsed.is_intact() {
            self.find(&writer, line, Some(seq), FindingKind::Altered);
        }
        if let Some(last) = self.ends.get(&writer).copied() {
            if seq > last.seq + 1 {
                self.find(&writer, line, Some(seq), FindingKind::Missing { from: last.seq + 1, to: seq - 1 });
            } else if seq != last.seq + 1 {
                self.find(&writer, line, Some(seq), FindingKind::OutOfOrder { expected: last.seq + 1 });
            } else if parsed.prev != last.hash {
                self.find(&writer, line, Some(seq), FindingKind::BrokenLink);
            }
        }
        let of_checkpoint = self.heads.iter().find(|head| head.writer == writer && head.seq == seq);
        match of_checkpoint.map(|head| head.hash == parsed.hash.as_str()) {
            Some(true) => drop(self.report.covered.insert(writer.clone(), seq)),
            Some(false) => self.find(&writer, line, Some(seq), FindingKind::NotTheCheckpoint),
            None => {}
        }
        let commitment = text.strip_suffix("\"}").and_then(|text| text.rsplit('"').next());
        if commitment.is_some_and(|commitment| self.commitments.contains(commitment)) {
            self.report.identities += 1;
        }
        self.report.records += 1;
        self.ends.insert(writer, parsed.link());
    }

    /// What no checkpoint covers proves nothing.
    fn finish(mut self, lines: u64) -> BundleReport {
        let ends: Vec<(String, u64)> = self.ends.iter().map(|(writer, link)| (writer.clone(), link.seq)).collect();
        for (writer, last) in ends {
            let covered = self.report.covered.get(&writer).copied().unwrap_or(0);
            if covered < last {
                let reason = format!("no good checkpoint covers records {} to {last}", covered + 1);
                self.find(&writer, lines, Some(last), FindingKind::BadCheckpoint { reason });
            }
        }
        if lines == 0 {
            self.find("bundle", 0, None, FindingKind::NotARecord);
        }
        self.report
    }
}
