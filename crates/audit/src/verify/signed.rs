//! Comparing with signed checkpoints: those kept outside, those in the store and those in the
//! record itself.

use std::path::Path;

use bartizan_model::event::EventKind;
use bartizan_store::Store;
use bartizan_store::repo::{audit_checkpoint, audit_index};

use super::report::{Checkpoint, Finding, FindingKind, Report};
use crate::checkpoint::{METHOD, PublicKey, Signed, Statement};
use crate::error::AuditError;
use crate::folder::{log_path, segments, writers};
use crate::lines::{End, Lines};
use crate::record;

/// Stored checkpoints read at once.
const PAGE: u32 = 500;
/// Most findings about checkpoints; a file of anything else need not fill the memory.
const MAX_BAD: usize = 1_000;

/// What the record is compared with.
#[derive(Default)]
pub struct Evidence<'a> {
    /// The public key, from where an attacker of this machine cannot change it. Without one,
    /// signed checkpoints are not looked at.
    pub key: Option<PublicKey>,
    /// Name and text of a file kept outside: one signed checkpoint per line.
    pub outside: Option<(&'a str, &'a str)>,
    /// Writers whose segments are on other machines.
    pub elsewhere: &'a [String],
    /// The store, whose index and checkpoints are compared with as well.
    pub store: Option<&'a Store>,
}

/// Collects what checkpoints say.
#[derive(Default)]
struct Collected {
    heads: Vec<Checkpoint>,
    findings: Vec<Finding>,
    signed: u64,
    newest: Option<(i64, i64)>,
}

impl Collected {
    fn take(&mut self, signed: Signed, statement: &Statement) {
        self.signed += 1;
        self.newest = self.newest.max(Some((statement.number, statement.at_ms)));
        self.heads.extend(signed.heads);
    }

    fn bad(&mut self, finding: Finding) {
        if self.findings.len() < MAX_BAD {
            self.findings.push(finding);
        }
    }

    /// A file kept outside.
    fn outside(&mut self, name: &str, text: &str, key: &PublicKey) {
        let mut any = false;
        for (line, text) in (1..).zip(text.lines()).filter(|(_, text)| !text.trim().is_empty()) {
            any = true;
            match Signed::open(text.trim(), key) {
                Ok((signed, statement)) => self.take(signed, &statement),
                Err(error) => self.bad(at(name, line, error.to_string())),
            }
        }
        if !any {
            self.bad(at(name, 0, "the file holds no checkpoint".to_owned()));
        }
    }

    async fn stored(&mut self, store: &Store, key: &PublicKey) -> Result<(), AuditError> {
        let mut after = 0;
        loop {
            let page = audit_checkpoint::after(store, after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.number;
            for stored in &page {
                match Signed::open(&stored.body, key) {
                    Ok((signed, statement)) => self.take(signed, &statement),
                    Err(error) => self.bad(at("stored checkpoint", line(stored.number), error.to_string())),
                }
            }
        }
    }

    /// Those in the record. A rewritten chain cannot hold one that fits it.
    fn embedded(&mut self, dir: &Path, writer: &str, key: &PublicKey) -> Result<(), AuditError> {
        let folder = dir.join(writer);
        let needle = format!("\"method\":\"{METHOD}\"");
        for number in segments(&folder)? {
            let path = log_path(&folder, number);
            // What cannot be read is a finding of the chain's own check.
            let Ok(mut lines) = Lines::open(&path, 0) else { continue };
            let mut count = 0;
            while let Ok(Some(found)) = lines.next() {
                count += 1;
                let text = std::str::from_utf8(found.bytes).ok().filter(|_| found.end == End::Whole);
                let Some(text) = text.filter(|text| text.contains(&needle)) else { continue };
                let Some(event) = record::event(text, None) else { continue };
                if event.kind != EventKind::System || event.method != METHOD {
                    continue;
                }
                match Signed::open(event.note.as_deref().unwrap_or_default(), key) {
                    Ok((signed, statement)) => self.take(signed, &statement),
                    Err(error) => {
                        let mut finding = at(&format!("{number:08}.log"), count, error.to_string());
                        (finding.writer, finding.offset) = (writer.to_owned(), found.offset);
                        self.bad(finding);
                    }
                }
            }
        }
        Ok(())
    }
}

fn line(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn at(file: &str, line: u64, reason: String) -> Finding {
    let kind = FindingKind::BadCheckpoint { reason };
    Finding { writer: "checkpoint".to_owned(), file: Some(file.to_owned()), line, offset: 0, seq: None, kind }
}

/// [`super::verify`] against everything that is known: signed checkpoints kept outside, in the
/// store and in the record, and how far the index had come. What an attacker of this machine
/// can rewrite proves nothing alone; a file kept outside does.
///
/// # Errors
/// When the folder cannot be read, or the store does not answer.
pub async fn verify_evidence(dir: &Path, evidence: &Evidence<'_>) -> Result<Report, AuditError> {
    let mut all = Collected::default();
    let here = writers(dir)?;
    if let Some(key) = &evidence.key {
        if let Some((name, text)) = evidence.outside {
            all.outside(name, text, key);
        }
        let outside = all.heads.len();
        if let Some(store) = evidence.store {
            all.stored(store, key).await?;
        }
        let (path, names, key) = (dir.to_owned(), here.clone(), *key);
        let mut moved = std::mem::take(&mut all);
        let read = tokio::task::spawn_blocking(move || {
            names.iter().try_for_each(|writer| moved.embedded(&path, writer, &key)).map(|()| moved)
        });
        all = read.await.unwrap_or(Err(AuditError::Closed))?;
        // Other replicas have their segments elsewhere; only a checkpoint that somebody brings
        // says which chains belong here.
        let mut index = 0;
        all.heads.retain(|head| {
            index += 1;
            here.contains(&head.writer) || (index <= outside && !evidence.elsewhere.contains(&head.writer))
        });
    }
    if let Some(store) = evidence.store {
        for writer in audit_index::writers(store).await?.into_iter().filter(|writer| here.contains(writer)) {
            if let Some(position) = audit_index::position(store, &writer).await?.filter(|at| at.seq > 0) {
                all.heads.push(Checkpoint { writer, seq: line(position.seq), hash: position.hash });
            }
        }
    }
    let Collected { heads, findings, signed, newest } = all;
    let dir = dir.to_owned();
    let task = tokio::task::spawn_blocking(move || super::verify(&dir, &heads));
    let mut report = task.await.unwrap_or(Err(AuditError::Closed))?;
    report.findings.splice(0..0, findings);
    (report.signed, report.newest) = (signed, newest);
    Ok(report)
}
