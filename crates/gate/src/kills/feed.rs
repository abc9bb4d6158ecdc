//! Keeps memory true: a change is read, silence makes it distrusted.

use std::sync::Arc;

use bartizan_store::feed::{Feed, News, POLL};
use bartizan_store::repo::kill_switch::TOPIC;
use tokio::time::Instant;

use super::Inner;

/// Follows the feed for as long as somebody holds the switches.
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
            let about_us = match &looked {
                Ok(News::Changes(changes)) => changes.iter().any(|change| change.topic == TOPIC),
                Ok(News::Everything) => true,
                Err(_) => false,
            };
            let read = match looked {
                Ok(_) if about_us || inner.is_over() => inner.read().await.map(drop),
                Ok(_) => Ok(()),
                Err(error) => Err(error),
            };
            match read {
                Ok(()) => inner.freshness.seen(began),
                // What was heard of must be read: from the beginning, since the reader has moved on.
                Err(error) if about_us => {
                    tracing::warn!(%error, "kill switches could not be read");
                    feed = None;
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
