//! Keeps memory true: changes renew it, silence makes it distrusted.

use std::sync::Arc;

use bartizan_store::feed::{Feed, News, POLL};
use bartizan_store::repo::definition;
use tokio::time::Instant;

use crate::registry::Inner;

/// Follows the feed for as long as somebody holds the registry.
pub(crate) fn spawn(inner: &Arc<Inner>) {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    let (weak, store) = (Arc::downgrade(inner), inner.store.clone());
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
            let took = match looked {
                Ok(News::Changes(changes)) => {
                    let mut servers: Vec<String> = changes
                        .into_iter()
                        .filter(|each| each.topic == definition::TOPIC)
                        .map(|each| each.name)
                        .collect();
                    servers.sort_unstable();
                    servers.dedup();
                    inner.renew(servers).await
                }
                Ok(News::Everything) => inner.renew(inner.loaded()).await,
                Err(error) => Err(error),
            };
            match took {
                Ok(()) => inner.freshness.seen(began),
                // What was told once is not told again: begin anew.
                Err(_) => feed = None,
            }
            drop(inner);
            match &mut feed {
                Some(feed) => feed.wait().await,
                None => tokio::time::sleep(POLL).await,
            }
        }
    });
}
