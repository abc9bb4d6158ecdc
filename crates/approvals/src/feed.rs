//! Keeps what lasts in memory true, and wakes those who wait.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use bartizan_store::StoreError;
use bartizan_store::feed::{Feed, Freshness, News, POLL};
use bartizan_store::repo::approval::{self, TOPIC};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::desk::Inner;

/// Entries read at once.
const MOST: u32 = 50_000;

/// One entry: approvers as kept, and its end in milliseconds since the epoch.
type Entry = (String, i64);

/// Who may enter where, as far as it lasts.
pub(crate) struct Memory {
    entries: RwLock<HashMap<(String, String), Vec<Entry>>>,
    freshness: Freshness,
    /// One reader at a time, so that older answers never replace newer ones.
    reading: tokio::sync::Mutex<()>,
    /// Counts what was heard.
    pub(crate) heard: watch::Sender<u64>,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            entries: RwLock::default(),
            freshness: Freshness::default(),
            reading: tokio::sync::Mutex::default(),
            heard: watch::Sender::new(0),
        }
    }
}

impl Memory {
    /// The latest end of an entry by these approvers.
    fn until(&self, requester: &str, subject: &str, approvers: &str) -> Option<i64> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let found = entries.get(&(requester.to_owned(), subject.to_owned()))?;
        found.iter().filter(|(by, _)| by == approvers).map(|(_, until)| *until).max()
    }
}

impl Inner {
    /// When the entry of somebody ends, milliseconds since the epoch.
    pub(crate) async fn entered(
        &self,
        requester: &str,
        subject: &str,
        approvers: &str,
    ) -> Result<Option<i64>, StoreError> {
        if !self.memory.freshness.is_fresh() {
            self.read().await?;
        }
        let now_ms = self.clock.now_ms();
        Ok(self.memory.until(requester, subject, approvers).filter(|until| *until > now_ms))
    }

    /// Reads all entries anew.
    async fn read(&self) -> Result<(), StoreError> {
        let _alone = self.memory.reading.lock().await;
        let mut entries: HashMap<_, Vec<Entry>> = HashMap::new();
        for row in approval::entered(&self.store, self.clock.now_ms(), MOST).await? {
            let until = row.until_ms.unwrap_or(0);
            entries.entry((row.requester, row.subject)).or_default().push((row.approvers, until));
        }
        *self.memory.entries.write().unwrap_or_else(PoisonError::into_inner) = entries;
        Ok(())
    }
}

/// Follows the feed for as long as somebody holds the approvals.
pub(crate) fn spawn(inner: &Arc<Inner>) {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    let (weak, store) = (Arc::downgrade(inner), inner.store.clone());
    runtime.spawn(async move {
        let mut feed: Option<Feed> = None;
        loop {
            let began = Instant::now();
            let looked = match &mut feed {
                Some(feed) => feed.poll().await,
                None => Feed::at_head(&store).await.map(|new| {
                    feed = Some(new);
                    News::Everything
                }),
            };
            let Some(inner) = weak.upgrade() else { return };
            let ours = match &looked {
                Ok(News::Changes(changes)) => changes.iter().any(|change| change.topic == TOPIC),
                Ok(News::Everything) => true,
                Err(_) => false,
            };
            if looked.is_ok() && (!ours || inner.read().await.is_ok()) {
                inner.memory.freshness.seen(began);
            } else {
                // What was not read must be read later.
                feed = None;
            }
            if ours {
                inner.memory.heard.send_modify(|count| *count += 1);
            }
            drop(inner);
            match &mut feed {
                Some(feed) => feed.wait().await,
                None => tokio::time::sleep(POLL).await,
            }
        }
    });
}
