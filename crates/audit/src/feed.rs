//! Reading the record in order, from where a reader left off: what sinks are fed with.

use bartizan_store::repo::audit_index::{self as repo, IndexRow, Position};

use crate::audit::Audit;
use crate::error::AuditError;
use crate::folder::writers;
use crate::index::Reader;

/// One writer's records, in order. What it has not returned yet is not in memory.
pub struct Feed {
    audit: Audit,
    reader: Option<Reader>,
    writer: String,
}

impl Feed {
    /// The records of a writer in this process's folder, after a position (`None`: from the first).
    pub fn new(audit: &Audit, writer: &str, after: Option<Position>) -> Self {
        let reader = Reader::new(audit.dir(), writer, after);
        Self { audit: audit.clone(), reader: Some(reader), writer: writer.to_owned() }
    }

    /// At most so many further records; only durable ones. After an error begin anew.
    ///
    /// # Errors
    /// When a segment cannot be read, or the store does not answer.
    pub async fn next(&mut self, max: usize) -> Result<Vec<IndexRow>, AuditError> {
        let Some(mut reader) = self.reader.take() else { return Err(AuditError::Closed) };
        let bound = match self.audit.acked(&self.writer) {
            Some(own) => Some(own),
            // Another process's: as far as the index has come is durable.
            None => match repo::position(self.audit.store().ok_or(AuditError::NoRuntime)?, &self.writer).await? {
                Some(position) => Some(crate::index::acked(&position)),
                None => {
                    self.reader = Some(reader);
                    return Ok(Vec::new());
                }
            },
        };
        let task = tokio::task::spawn_blocking(move || {
            let rows = reader.read(bound, max);
            (reader, rows)
        });
        let (reader, rows) = task.await.map_err(|_| AuditError::Closed)?;
        let rows = rows?;
        self.reader = Some(reader);
        Ok(rows)
    }

    /// Where it stands: behind the last returned record.
    pub fn position(&self) -> Option<Position> {
        self.reader.as_ref().and_then(Reader::position)
    }
}

impl Audit {
    /// Writers with segments in this process's folder, its own among them.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn writers_here(&self) -> Result<Vec<String>, AuditError> {
        writers(self.dir())
    }
}
