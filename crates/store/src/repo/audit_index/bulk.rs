//! Fork by shape, not by engine: many rows per statement, exactly once.

use std::sync::LazyLock;

use super::{COLUMNS, IndexRow, Position};
use crate::engine::Store;
use crate::error::StoreError;
use crate::exec::{Arg, Statement, Tx};
use crate::repo::alert::{self, Hit};

/// Rows per statement. Two fixed sizes, so that the driver's statement cache hits.
/// Small, because SQLite looks for a parameter by its name among all of a statement.
const CHUNK: usize = 8;
const COLUMN_COUNT: usize = 15;

static INSERT_MANY: LazyLock<Statement> = LazyLock::new(|| insert("audit_index.insert_many", CHUNK));
static INSERT_ONE: LazyLock<Statement> = LazyLock::new(|| insert("audit_index.insert_one", 1));

const START: Statement = Statement::write(
    "audit_position.start",
    "INSERT INTO audit_position (writer, segment, byte_offset, seq, hash) VALUES ($1, $2, $3, $4, $5) \
     ON CONFLICT (writer) DO NOTHING",
);
const ADVANCE: Statement = Statement::write(
    "audit_position.advance",
    "UPDATE audit_position SET segment = $4, byte_offset = $5, seq = $6, hash = $7 \
     WHERE writer = $1 AND segment = $2 AND byte_offset = $3",
);

pub(super) fn statements() -> Vec<Statement> {
    let mut all: Vec<Statement> = crate::repo::list![START, ADVANCE].into();
    all.push(insert("audit_index.insert_many", CHUNK));
    all.push(insert("audit_index.insert_one", 1));
    all
}

fn insert(name: &'static str, rows: usize) -> Statement {
    let mut sql = format!("INSERT INTO audit_index ({COLUMNS}) VALUES ");
    for row in 0..rows {
        sql.push_str(if row == 0 { "(" } else { ", (" });
        for column in 0..COLUMN_COUNT {
            if column > 0 {
                sql.push_str(", ");
            }
            sql.push('$');
            sql.push_str(&(row * COLUMN_COUNT + column + 1).to_string());
        }
        sql.push(')');
    }
    sql.push_str(" ON CONFLICT (at_ms, writer, seq) DO NOTHING");
    Statement::built(name, sql, true)
}

/// Records of one writer that follow each other.
#[derive(Clone, Debug)]
pub struct Batch<'a> {
    /// Writer of the segment.
    pub writer: &'a str,
    /// Where the index stood when the batch was read; `None` before the first.
    pub from: Option<&'a Position>,
    /// Where it stands after.
    pub to: &'a Position,
    /// The records between.
    pub rows: &'a [IndexRow],
    /// What alert rules find in them.
    pub hits: &'a [Hit],
}

/// Indexes a batch and moves the position, both or none. Returns false, without a
/// change, when the index stands elsewhere by now: somebody else was quicker.
///
/// # Errors
/// When the database does not answer.
pub async fn index(store: &Store, batch: &Batch<'_>) -> Result<bool, StoreError> {
    let mut tx = store.begin_bulk().await?;
    // The position first: its row lock keeps a second indexer waiting, which then sees it moved.
    if !advance(&mut tx, batch).await? {
        return Ok(false);
    }
    let mut args = Vec::with_capacity(CHUNK * COLUMN_COUNT);
    let chunks = batch.rows.chunks_exact(CHUNK);
    let rest = chunks.remainder();
    for chunk in chunks {
        args.clear();
        for row in chunk {
            push(&mut args, row);
        }
        tx.execute(&INSERT_MANY, &args).await?;
    }
    for row in rest {
        args.clear();
        push(&mut args, row);
        tx.execute(&INSERT_ONE, &args).await?;
    }
    alert::insert_hits(&mut tx, batch.hits).await?;
    tx.commit().await?;
    Ok(true)
}

async fn advance(tx: &mut Tx, batch: &Batch<'_>) -> Result<bool, StoreError> {
    let (writer, to) = (Arg::Text(batch.writer), batch.to);
    let (segment, offset) = (Arg::Int(to.segment), Arg::Int(to.byte_offset));
    let (seq, hash) = (Arg::Int(to.seq), Arg::Text(&to.hash));
    let changed = match batch.from {
        None => tx.execute(&START, &[writer, segment, offset, seq, hash]).await?,
        Some(from) => {
            let (old_segment, old_offset) = (Arg::Int(from.segment), Arg::Int(from.byte_offset));
            tx.execute(&ADVANCE, &[writer, old_segment, old_offset, segment, offset, seq, hash]).await?
        }
    };
    Ok(changed == 1)
}

fn push<'a>(args: &mut Vec<Arg<'a>>, row: &'a IndexRow) {
    args.extend([
        Arg::Int(row.at_ms),
        Arg::Text(&row.writer),
        Arg::Int(row.seq),
        Arg::Text(&row.kind),
        Arg::OptText(row.principal.as_deref()),
        Arg::OptText(row.portal.as_deref()),
        Arg::OptText(row.server.as_deref()),
        Arg::OptText(row.target.as_deref()),
        Arg::Int(i64::from(row.allow)),
        Arg::OptText(row.code.as_deref()),
        Arg::Text(&row.id),
        Arg::OptText(row.who.as_deref()),
        Arg::Text(&row.record),
        Arg::Text(&row.outcome),
        Arg::Int(row.total_us),
    ]);
}
