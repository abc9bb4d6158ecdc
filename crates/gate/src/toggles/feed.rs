//! Keeps memory true: changes empty it, silence makes it distrusted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bartizan_store::feed::{Feed, News, POLL};
use bartizan_store::repo::portal_state::TOPIC;
use tokio::time::Instant;

use super::{Changed, Inner};

/// After this long without a look at the feed the store is asked instead.
const STALE: Duration = Duration::from_secs(2);

/// How far memory can be believed.
pub(super) struct Freshness {
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
    pub(super) fn is_fresh(&self) -> bool {
        match self.seen_ms.load(Ordering::Acquire) {
            0 => false,
            seen => self.start.elapsed() < Duration::from_millis(seen - 1) + STALE,
        }
    }

    /// Notes a look that began at `began`.
    fn seen(&self, began: Instant) {
        let ms = u64::try_from(began.duration_since(self.start).as_millis()).unwrap_or(u64::MAX - 1);
        self.seen_ms.fetch_max(ms + 1, Ordering::AcqRel);
    }
}

/// Follows the feed for as long as somebody holds the states.
pub(super) fn spawn(inner: &Arc<Inner>) {
    let (Ok(runtime), Some(store)) = (tokio::runtime::Handle::try_current(), inner.store.clone()) else { return };
    let weak = Arc::downgrade(inner);
    runtime.spawn(async move {
        let mut feed: Option<Feed> = None;
        loop {
            let began = Instant::now();
            let looked = match &mut feed {
                Some(feed) => feed.poll().await,
                // A new reader has missed what came before it.
                None => Feed::at_head(&store).await.map(|new| {
                    feed = Some(new);
                    News::Everything
                }),
            };
            let Some(inner) = weak.upgrade() else { return };
            match looked {
                Ok(News::Changes(changes)) => {
                    for change in changes.into_iter().filter(|change| change.topic == TOPIC) {
                        inner.heard(Changed::Row(change.name.into()));
                    }
                    inner.freshness.seen(began);
                }
                Ok(News::Everything) => {
                    inner.heard(Changed::Any);
                    inner.freshness.seen(began);
                }
                Err(_) => {}
            }
            drop(inner);
            match &mut feed {
                Some(feed) => feed.wait().await,
                None => tokio::time::sleep(POLL).await,
            }
        }
    });
}
