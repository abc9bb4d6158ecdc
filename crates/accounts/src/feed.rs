//! Keeps what is in memory true: changes elsewhere remove it, silence makes it distrusted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bartizan_store::feed::{Feed, News, POLL};
use bartizan_store::repo::{person, upstream_account::TOPIC};
use tokio::time::Instant;

use crate::accounts::Inner;

/// After this long without a look at the feed the database is asked instead.
const STALE: Duration = Duration::from_secs(2);

/// How far memory can be believed.
pub(crate) struct Freshness {
    start: Instant,
    /// Milliseconds after `start` of the beginning of the last good look, plus one; 0 for never.
    seen_ms: AtomicU64,
    /// Grows with every change of an account.
    generation: AtomicU64,
}

impl Default for Freshness {
    fn default() -> Self {
        Self { start: Instant::now(), seen_ms: 0.into(), generation: 0.into() }
    }
}

impl Freshness {
    pub(crate) fn is_fresh(&self) -> bool {
        match self.seen_ms.load(Ordering::Acquire) {
            0 => false,
            seen => self.start.elapsed() < Duration::from_millis(seen - 1) + STALE,
        }
    }

    fn has_looked(&self) -> bool {
        self.seen_ms.load(Ordering::Acquire) != 0
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    fn seen(&self, began: Instant) {
        let ms = u64::try_from(began.duration_since(self.start).as_millis()).unwrap_or(u64::MAX - 1);
        self.seen_ms.fetch_max(ms + 1, Ordering::AcqRel);
    }
}

impl Inner {
    fn take_in(&self, news: &News) {
        match news {
            News::Changes(changes) => {
                for change in changes.iter().filter(|change| change.topic == TOPIC) {
                    // First the generation: see `Inner::keep`.
                    self.freshness.generation.fetch_add(1, Ordering::AcqRel);
                    if let Some(held) = self.held.get(&change.name) {
                        held.expire();
                    }
                }
                // Groups or the right to be here may be others now. A person is named by an id,
                // which a person who is gone no longer leads to: all are asked for again.
                if changes.iter().any(|change| change.topic == person::TOPIC) {
                    self.strategies.people_changed();
                }
            }
            News::Everything => {
                self.freshness.generation.fetch_add(1, Ordering::AcqRel);
                self.held.invalidate_all();
                // The first look of a process misses nothing: what is held was exchanged for
                // somebody who was found in the database a moment ago.
                if self.freshness.has_looked() {
                    self.strategies.people_changed();
                }
            }
        }
    }
}

/// Follows the feed for as long as somebody holds the accounts.
pub(crate) fn spawn(inner: &Arc<Inner>) {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    let (weak, store) = (Arc::downgrade(inner), inner.deps.store.clone());
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
            if let Ok(news) = &looked {
                inner.take_in(news);
                inner.freshness.seen(began);
            }
            drop(inner);
            match &mut feed {
                Some(feed) => feed.wait().await,
                None => tokio::time::sleep(POLL).await,
            }
        }
    });
}
