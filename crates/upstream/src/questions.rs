//! Questions that a legacy server asks on the GET stream of its session instead of the stream of
//! the call they are about. Some servers ask nowhere else. A session is one owner's, so a
//! question can belong to the only call in flight, as on a shared connection; with several,
//! nobody knows whose it is.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bartizan_wire::{Kind, Message};
use tokio::sync::mpsc;

/// Messages kept for a call that does not read.
const MAX_KEPT: usize = 16;

/// The calls in flight on a session.
#[derive(Default)]
pub(crate) struct Questions(Mutex<HashMap<i64, mpsc::Sender<Message>>>);

impl Questions {
    fn lock(&self) -> MutexGuard<'_, HashMap<i64, mpsc::Sender<Message>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the call of this id counts as in flight.
    pub(crate) fn begin(self: &Arc<Self>, id: i64) -> Asked {
        let (sender, messages) = mpsc::channel(MAX_KEPT);
        self.lock().insert(id, sender);
        Asked { questions: Arc::clone(self), id, messages }
    }

    /// Hands a question to the call it belongs to. False when there is none, or no room.
    pub(crate) fn give(&self, message: &Message) -> bool {
        let calls = self.lock();
        let mut calls = calls.values();
        match (calls.next(), calls.next(), message.kind()) {
            (Some(call), None, Kind::Request) => call.try_send(message.clone()).is_ok(),
            _ => false,
        }
    }
}

/// What a call is asked; dropping it ends that.
pub(crate) struct Asked {
    questions: Arc<Questions>,
    id: i64,
    messages: mpsc::Receiver<Message>,
}

impl Asked {
    /// The next question; waits for ever while there is none. Nothing is lost when the returned
    /// future is dropped.
    pub(crate) async fn next(asked: Option<&mut Self>) -> Message {
        match asked {
            Some(asked) => match asked.messages.recv().await {
                Some(message) => message,
                None => std::future::pending().await,
            },
            None => std::future::pending().await,
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.questions.lock().remove(&self.id);
    }
}
