//! What a check found.

use std::fmt;

use serde::Serialize;

/// The end of a chain at some time. Keep it where whoever can change the segments cannot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Checkpoint {
    /// Chain.
    pub writer: String,
    /// Last record.
    pub seq: u64,
    /// Its hash, lower-case hex.
    pub hash: String,
}

/// What is wrong at a place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FindingKind {
    /// The line is not a record.
    NotARecord,
    /// The content does not have the hash that the line names.
    Altered,
    /// The record names another predecessor than the one before it.
    BrokenLink,
    /// Records are missing before this one.
    Missing {
        /// First missing sequence number.
        from: u64,
        /// Last missing one.
        to: u64,
    },
    /// The record stands after one with an equal or higher number: repeated or moved.
    OutOfOrder {
        /// The number that belongs here.
        expected: u64,
    },
    /// The record is of another chain.
    ForeignWriter {
        /// Whose.
        writer: String,
    },
    /// A whole segment file is missing.
    MissingSegment {
        /// Which.
        number: u32,
    },
    /// A segment ends in the middle of a line although another follows it.
    TornInside,
    /// The chain ends before a checkpoint.
    Truncated {
        /// Last record that the checkpoint knows.
        checkpoint: u64,
        /// Last record that is there.
        last: u64,
    },
    /// The record is not the one that the checkpoint knows.
    NotTheCheckpoint,
    /// A signed checkpoint is not of the installation's key, or was changed.
    BadCheckpoint {
        /// Reason.
        reason: String,
    },
    /// A checkpoint's writer has no folder.
    WriterMissing,
    /// Salt and identity do not give the commitment.
    IdentityAltered,
    /// The file cannot be read.
    Unreadable {
        /// Reason.
        reason: String,
    },
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Chain.
    pub writer: String,
    /// File name within the writer's folder.
    pub file: Option<String>,
    /// Line, from 1; 0 for the whole file.
    pub line: u64,
    /// Where the line begins, bytes.
    pub offset: u64,
    /// Sequence number that the line names, if it can be read.
    pub seq: Option<u64>,
    /// What.
    #[serde(flatten)]
    pub kind: FindingKind,
}

impl Finding {
    pub(super) fn of_writer(writer: &str, kind: FindingKind) -> Self {
        Self { writer: writer.to_owned(), file: None, line: 0, offset: 0, seq: None, kind }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.writer)?;
        if let Some(file) = &self.file {
            write!(f, "/{file}")?;
        }
        if self.line > 0 {
            write!(f, " line {} (byte {})", self.line, self.offset)?;
        }
        if let Some(seq) = self.seq {
            write!(f, " record {seq}")?;
        }
        match &self.kind {
            FindingKind::NotARecord => f.write_str(": not a record"),
            FindingKind::Altered => f.write_str(": altered, the content does not have its hash"),
            FindingKind::BrokenLink => f.write_str(": does not follow the record before it"),
            FindingKind::Missing { from, to } => write!(f, ": records {from} to {to} are missing before it"),
            FindingKind::OutOfOrder { expected } => write!(f, ": out of order, record {expected} belongs here"),
            FindingKind::ForeignWriter { writer } => write!(f, ": of another chain, {writer}"),
            FindingKind::MissingSegment { number } => write!(f, ": segment {number} is missing"),
            FindingKind::TornInside => f.write_str(": ends in the middle of a line"),
            FindingKind::Truncated { checkpoint, last } => {
                write!(f, ": ends at record {last}, but record {checkpoint} is known to have existed")
            }
            FindingKind::NotTheCheckpoint => f.write_str(": is not the record that the checkpoint knows"),
            FindingKind::BadCheckpoint { reason } => write!(f, ": a checkpoint that cannot be trusted: {reason}"),
            FindingKind::WriterMissing => f.write_str(": the whole chain is missing"),
            FindingKind::IdentityAltered => f.write_str(": the identity does not have its commitment"),
            FindingKind::Unreadable { reason } => write!(f, ": cannot be read: {reason}"),
        }
    }
}

/// An unfinished last line. A crash or a writer at work leaves one; it was never
/// acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TornTail {
    /// Chain.
    pub writer: String,
    /// File name within the writer's folder.
    pub file: String,
    /// Where it begins, bytes.
    pub offset: u64,
    /// How many bytes it has.
    pub bytes: u64,
}

/// What is known of one chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WriterReport {
    /// Chain.
    pub writer: String,
    /// Number of segment files.
    pub segments: usize,
    /// Number of records.
    pub records: u64,
    /// Number of records whose identity is no longer known: erased, or lost.
    pub without_identity: u64,
    /// The end of the chain: a checkpoint for the next time. `None` without records.
    pub head: Option<Checkpoint>,
}

/// Result of a check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Every chain.
    pub writers: Vec<WriterReport>,
    /// What is wrong, chain by chain in order of position.
    pub findings: Vec<Finding>,
    /// Unfinished last lines; not wrong by themselves.
    pub torn: Vec<TornTail>,
    /// Signed checkpoints that were compared with.
    pub signed: u64,
    /// Number and time (milliseconds since the epoch) of the newest of them.
    pub newest: Option<(i64, i64)>,
}

impl Report {
    /// True when nothing is wrong.
    pub fn is_whole(&self) -> bool {
        self.findings.is_empty()
    }

    /// The ends of all chains, to be kept elsewhere and given to the next check.
    pub fn checkpoints(&self) -> Vec<Checkpoint> {
        self.writers.iter().filter_map(|writer| writer.head.clone()).collect()
    }
}
