//! Checks that the record is whole: every line has the hash it names, follows the one
//! before, and is of this writer.

mod chain;
mod report;

use std::path::Path;

use bartizan_store::Store;
use bartizan_store::repo::audit_index as repo;

use crate::error::AuditError;
use crate::folder::writers;
use chain::Chain;

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
    for checkpoint in checkpoints.iter().filter(|checkpoint| !present.contains(&checkpoint.writer)) {
        report.findings.push(Finding::of_writer(&checkpoint.writer, FindingKind::WriterMissing));
    }
    Ok(report)
}

/// [`verify`] with the positions of the index as checkpoints: the index knows how far
/// each chain had come.
///
/// # Errors
/// As [`verify`], and when the store does not answer.
pub async fn verify_against(dir: &Path, store: &Store) -> Result<Report, AuditError> {
    let mut checkpoints = Vec::new();
    for writer in repo::writers(store).await? {
        if let Some(position) = repo::position(store, &writer).await? {
            let seq = u64::try_from(position.seq).unwrap_or(0);
            checkpoints.push(Checkpoint { writer, seq, hash: position.hash });
        }
    }
    // Other replicas have their segments elsewhere.
    let here = writers(dir)?;
    checkpoints.retain(|checkpoint| checkpoint.seq > 0 && here.contains(&checkpoint.writer));
    let dir = dir.to_owned();
    tokio::task::spawn_blocking(move || verify(&dir, &checkpoints)).await.unwrap_or(Err(AuditError::Closed))
}
