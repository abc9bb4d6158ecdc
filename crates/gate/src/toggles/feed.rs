//! Keeps memory true: changes empty it, silence makes it distrusted.

use std::sync::Arc;

use bartizan_store::feed::{Feed, News, POLL};
use bartizan_store::repo::portal_state::TOPIC;
use tokio::time::Instant;

use super::{Changed, Inner};

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
