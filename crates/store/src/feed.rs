//! Follows the change feed: a poll every second is the truth, a notification only
//! shortens the wait.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sqlx::postgres::PgListener;
use tokio::time::Instant;

use crate::engine::{Pools, Store};
use crate::error::StoreError;
use crate::repo::change::{self, CHANNEL, Change};

/// Time between polls. Well below the two seconds after which a reader counts as stale.
pub const POLL: Duration = Duration::from_millis(700);

/// Most changes taken at once.
const BATCH: u32 = 1_000;

/// A reader of the feed.
pub struct Feed {
    store: Store,
    seq: i64,
    /// Postgres only; without it the poll alone does the work.
    listener: Option<PgListener>,
}

/// What one look at the feed gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// These changes, in commit order; possibly none.
    Changes(Vec<Change>),
    /// The reader was away for longer than changes are kept: read everything anew.
    Everything,
}

impl Feed {
    /// A reader that stands at the newest change.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn at_head(store: &Store) -> Result<Self, StoreError> {
        let listener = listen(store).await;
        Ok(Self { store: store.clone(), seq: change::head(store).await?, listener })
    }

    /// Waits until a look is due: [`POLL`], or less when somebody announced a change.
    pub async fn wait(&mut self) {
        let Some(listener) = &mut self.listener else {
            tokio::time::sleep(POLL).await;
            self.listener = listen(&self.store).await;
            return;
        };
        if let Ok(Err(error)) = tokio::time::timeout(POLL, listener.recv()).await {
            tracing::debug!(%error, "no notifications from the database");
            // Dropped, because it would keep its connection and a closing pool waiting.
            self.listener = None;
            tokio::time::sleep(POLL).await;
        }
    }

    /// What came since the last look. One small query when nothing did.
    ///
    /// # Errors
    /// When the database does not answer; the reader stays where it was.
    pub async fn poll(&mut self) -> Result<News, StoreError> {
        let head = change::head(&self.store).await?;
        if head == self.seq {
            return Ok(News::Changes(Vec::new()));
        }
        let changes = change::since(&self.store, self.seq, BATCH).await?;
        let next = changes.first().map(|change| change.seq);
        // A head below ours: the database was replaced by an older copy.
        if head < self.seq || next != Some(self.seq + 1) {
            self.seq = head;
            return Ok(News::Everything);
        }
        self.seq = changes.last().map_or(head, |change| change.seq);
        Ok(News::Changes(changes))
    }
}

/// `None` on SQLite, and while the connection cannot be made.
async fn listen(store: &Store) -> Option<PgListener> {
    let Pools::Postgres(pool) = store.pools() else { return None };
    let mut listener = PgListener::connect_with(pool).await.ok()?;
    listener.listen(CHANNEL).await.ok()?;
    Some(listener)
}

/// After this long without a look at the feed the store is to be asked instead.
const STALE: Duration = Duration::from_secs(2);

/// How far memory of what the store holds can be believed.
pub struct Freshness {
    start: Instant,
    /// Milliseconds after `start` of the beginning of the last good look, plus one; 0 for never.
    seen_ms: AtomicU64,
}

impl Default for Freshness {
    fn default() -> Self {
        Self { start: Instant::now(), seen_ms: 0.into() }
    }
}

impl Freshness {
    /// Whether somebody looked at the feed lately.
    pub fn is_fresh(&self) -> bool {
        match self.seen_ms.load(Ordering::Acquire) {
            0 => false,
            seen => self.start.elapsed() < Duration::from_millis(seen - 1) + STALE,
        }
    }

    /// Notes a look that began at `began`.
    pub fn seen(&self, began: Instant) {
        let ms = u64::try_from(began.duration_since(self.start).as_millis()).unwrap_or(u64::MAX - 1);
        self.seen_ms.fetch_max(ms + 1, Ordering::AcqRel);
    }
}
