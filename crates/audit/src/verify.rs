//! Checks that the record is whole: every line has the hash it names, follows the one
//! before, and is of this writer.

mod chain;
mod report;
mod signed;

use std::collections::BTreeSet;
use std::path::Path;

use bartizan_store::Store;

use crate::error::AuditError;
use crate::folder::writers;
use chain::Chain;

pub use signed::{Evidence, verify_evidence};

pub use report::{Checkpoint, Finding, FindingKind, Report, TornTail, WriterReport};

/// Checks every writer's segments in `dir`. Compares against `checkpoints`, ends of
/// chains that were noted earlier and kept elsewhere: without one, records that were cut
/// off the end at a line's border cannot be missed.
///
/// # Errors
/// When the folder cannot be read; a file that cannot is a finding.
pub fn verify(dir: &Path, checkpoints: &[Checkpoint]) -> Result<Report, AuditError> {
    let mut report = Report::default();
    let present = writers(dir)?;
    for writer in &present {
        let mut chain = Chain::new(dir, writer, checkpoints);
        chain.check()?;
        chain.finish(&mut report);
    }
    let absent: BTreeSet<&str> = checkpoints.iter().map(|checkpoint| checkpoint.writer.as_str()).collect();
    for writer in absent.into_iter().filter(|writer| !present.iter().any(|known| known == writer)) {
        report.findings.push(Finding::of_writer(writer, FindingKind::WriterMissing));
    }
    Ok(report)
}

/// [`verify`] with the positions of the index as checkpoints: the index knows how far
/// each chain had come.
///
/// # Errors
/// As [`verify`], and when the store does not answer.
pub async fn verify_against(dir: &Path, store: &Store) -> Result<Report, AuditError> {
    verify_evidence(dir, &Evidence { store: Some(store), ..Evidence::default() }).await
}
