//! Writing changes: those that come at the same time share a commit, because a thousand servers
//! that are seen for the first time must not wait for a thousand of them.

use std::sync::PoisonError;

use bartizan_store::StoreError;
use bartizan_store::repo::definition::{self, Change, Edit};
use tokio::sync::oneshot;

use super::Inner;

/// Changes of one commit at most.
const TOGETHER: usize = 128;

/// A change that waits.
pub(super) struct Waiting {
    server: String,
    first_of: Option<String>,
    who: String,
    edits: Vec<Edit>,
    done: oneshot::Sender<Result<bool, StoreError>>,
}

impl Waiting {
    fn change(&self) -> Change<'_> {
        Change {
            server: &self.server,
            first_of: self.first_of.as_deref(),
            who: &self.who,
            edits: &self.edits,
            seal: crate::proof::seal,
        }
    }
}

impl Inner {
    /// Applies changes, reads the server anew and tells who listens.
    pub(crate) async fn apply(&self, change: &Change<'_>) -> Result<bool, StoreError> {
        let (done, mut answer) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(Waiting {
            server: change.server.to_owned(),
            first_of: change.first_of.map(str::to_owned),
            who: change.who.to_owned(),
            edits: change.edits.to_vec(),
            done,
        });
        loop {
            let _writing = self.writing.lock().await;
            match answer.try_recv() {
                Ok(result) => return result,
                Err(oneshot::error::TryRecvError::Empty) => self.commit().await,
                // Whoever wrote for us was dropped on the way. What was written is found.
                Err(oneshot::error::TryRecvError::Closed) => return self.alone(change).await,
            }
        }
    }

    /// Commits what waits, as far as it goes together.
    async fn commit(&self) {
        let batch: Vec<Waiting> = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let most = waiting.len().min(TOGETHER);
            waiting.drain(..most).collect()
        };
        let changes: Vec<Change<'_>> = batch.iter().map(Waiting::change).collect();
        let together = match changes.as_slice() {
            [_, _, ..] => definition::apply_all(&self.store, &changes).await.unwrap_or(false),
            _ => false,
        };
        let mut results = Vec::with_capacity(batch.len());
        for change in &changes {
            let result = if together { self.applied(change.server, true).await } else { self.alone(change).await };
            results.push(result);
        }
        drop(changes);
        for (waiting, result) in batch.into_iter().zip(results) {
            // Whoever asked may be gone.
            let _ = waiting.done.send(result);
        }
    }

    async fn alone(&self, change: &Change<'_>) -> Result<bool, StoreError> {
        let done = definition::apply(&self.store, change).await?;
        self.applied(change.server, done).await
    }

    async fn applied(&self, server: &str, done: bool) -> Result<bool, StoreError> {
        self.reload(server).await?;
        if done {
            self.tell(server);
        }
        Ok(done)
    }
}
