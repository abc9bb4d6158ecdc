//! Follows the change feed, and the calendar.

use std::sync::Arc;

use bartizan_store::feed::{Feed, News, POLL};

use crate::signer::{Inner, TOPIC};

/// Runs for as long as somebody holds the signer.
pub(crate) fn spawn(inner: &Arc<Inner>) {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    let (weak, store) = (Arc::downgrade(inner), inner.store.clone());
    runtime.spawn(async move {
        let mut feed: Option<Feed> = None;
        // What could not be read is tried again at the next look.
        let mut unread = true;
        let mut failing = false;
        loop {
            match &mut feed {
                Some(reader) => match reader.poll().await {
                    Ok(News::Changes(changes)) => unread |= changes.iter().any(|change| change.topic == TOPIC),
                    Ok(News::Everything) => unread = true,
                    Err(_) => {}
                },
                // A new reader has missed what came before it.
                None => {
                    feed = Feed::at_head(&store).await.ok();
                    unread = true;
                }
            }
            let Some(inner) = weak.upgrade() else { return };
            if unread || inner.is_due() {
                let read = inner.refresh().await;
                // Once per outage, not once per look.
                if let (Err(error), false) = (&read, failing) {
                    tracing::warn!(%error, "the keys of assertions could not be read");
                }
                failing = read.is_err();
                unread = failing;
            }
            drop(inner);
            match &mut feed {
                Some(feed) => feed.wait().await,
                None => tokio::time::sleep(POLL).await,
            }
        }
    });
}
