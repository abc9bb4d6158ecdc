//! Keeps the cache true: changes empty it, silence makes it distrusted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bartizan_store::StoreError;
use bartizan_store::feed::{Feed, News};
use bartizan_store::repo::{change, oauth_grant, person, service_token};
use tokio::time::Instant;

use super::Inner;

/// After this long without a look at the feed the database is asked instead.
const STALE: Duration = Duration::from_secs(2);

/// Changes that may end what is in memory.
const TOPICS: [&str; 3] = [service_token::TOPIC, oauth_grant::TOPIC, person::TOPIC];

/// How far memory can be believed.
pub(super) struct Freshness {
    start: Instant,
    /// Milliseconds after `start` of the beginning of the last good look, plus one; 0 for never.
    seen_ms: AtomicU64,
    /// Position of the last change taken in, plus one; 0 for never.
    seq: AtomicU64,
    /// Grows whenever the cache was emptied.
    generation: AtomicU64,
}

impl Default for Freshness {
    fn default() -> Self {
        Self { start: Instant::now(), seen_ms: 0.into(), seq: 0.into(), generation: 0.into() }
    }
}

impl Freshness {
    pub(super) fn is_fresh(&self) -> bool {
        match self.seen_ms.load(Ordering::Acquire) {
            0 => false,
            seen => self.start.elapsed() < Duration::from_millis(seen - 1) + STALE,
        }
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Notes a look that began at `began`.
    fn seen(&self, began: Instant) {
        let ms = u64::try_from(began.duration_since(self.start).as_millis()).unwrap_or(u64::MAX - 1);
        self.seen_ms.fetch_max(ms + 1, Ordering::AcqRel);
    }
}

impl Inner {
    /// See [`super::Identity::refresh`].
    pub(super) async fn refresh(&self) -> Result<(), StoreError> {
        let began = Instant::now();
        let head = u64::try_from(change::head(&self.store).await?).unwrap_or(0) + 1;
        if self.freshness.seq.swap(head, Ordering::AcqRel) != head {
            self.forget();
        }
        self.freshness.seen(began);
        Ok(())
    }

    /// Forgets every credential; the next request of each asks the database.
    fn forget(&self) {
        // The generation is what counts; the rest only frees memory.
        self.freshness.generation.fetch_add(1, Ordering::AcqRel);
        self.known.invalidate_all();
        self.unknown.invalidate_all();
        self.access.invalidate_all();
        self.grants.invalidate_all();
    }
}

/// Follows the feed for as long as somebody holds the identity.
pub(super) fn spawn(inner: &Arc<Inner>) {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    let (weak, store) = (Arc::downgrade(inner), inner.store.clone());
    runtime.spawn(async move {
        let mut feed: Option<Feed> = None;
        let mut failing = false;
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
            // Once per outage, not once per look.
            if let (Err(error), false) = (&looked, failing) {
                tracing::warn!(%error, "the change feed does not answer");
            }
            failing = looked.is_err();
            match looked {
                Ok(News::Changes(changes)) => {
                    if changes.iter().any(|change| TOPICS.contains(&change.topic.as_str())) {
                        inner.forget();
                    }
                    inner.freshness.seen(began);
                }
                Ok(News::Everything) => {
                    inner.forget();
                    inner.freshness.seen(began);
                }
                Err(_) => {}
            }
            drop(inner);
            match &mut feed {
                Some(feed) => feed.wait().await,
                None => tokio::time::sleep(bartizan_store::feed::POLL).await,
            }
        }
    });
}
