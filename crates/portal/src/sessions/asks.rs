//! Questions to a legacy client: real JSON-RPC requests with ids of our own. The
//! answers come by POST and are handed back together.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::{Mutex, PoisonError};

use bartizan_wire::{AskAnswer, RequestId};
use tokio::sync::oneshot;

/// Answers in the order they came, each under the key of its question.
pub(crate) type Answers = Vec<(String, AskAnswer)>;

/// Questions asked together.
#[derive(Debug)]
pub(crate) struct Batch(Mutex<Waiting>);

#[derive(Debug)]
struct Waiting {
    got: Answers,
    missing: usize,
    sender: Option<oneshot::Sender<Answers>>,
}

impl Batch {
    /// Waits for `missing` answers; those in `got` are already there.
    pub(crate) fn new(got: Answers, missing: usize, sender: oneshot::Sender<Answers>) -> Arc<Self> {
        let batch = Arc::new(Self(Mutex::new(Waiting { got, missing, sender: Some(sender) })));
        batch.deliver_if_complete();
        batch
    }

    fn put(&self, key: String, answer: AskAnswer) {
        {
            let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.got.push((key, answer));
            waiting.missing = waiting.missing.saturating_sub(1);
        }
        self.deliver_if_complete();
    }

    fn deliver_if_complete(&self) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.missing == 0
            && let Some(sender) = waiting.sender.take()
        {
            // The call may have ended meanwhile; then nobody wants the answers.
            let _ = sender.send(std::mem::take(&mut waiting.got));
        }
    }
}

#[derive(Debug)]
struct Open {
    key: String,
    batch: Arc<Batch>,
    /// The call that asked, so that its questions go with it.
    call: u64,
}

/// The questions of one session that wait for an answer. Their ids begin with the name of
/// this process: the answer may come to another one, which asks its own.
#[derive(Debug, Default)]
pub(crate) struct Asks {
    node: Arc<str>,
    next: u64,
    open: HashMap<RequestId, Open>,
}

/// Between the name of the process and the number of the question.
const MARK: char = '/';

/// Name of the process that asked, as the id of an answer has it.
pub(crate) fn node_of(id: &RequestId) -> Option<String> {
    let raw = id.to_raw();
    let text = raw.as_string()?;
    Some(text.split_once(MARK)?.0.to_owned())
}

impl Asks {
    /// None yet, of this process.
    pub(super) fn of(node: Arc<str>) -> Self {
        Self { node, ..Self::default() }
    }

    /// Registers a question and returns the id of its request.
    pub(crate) fn add(&mut self, call: u64, key: String, batch: Arc<Batch>) -> RequestId {
        self.next += 1;
        let id = RequestId::string(&format!("{}{MARK}{}", self.node, self.next));
        self.open.insert(id.clone(), Open { key, batch, call });
        id
    }

    /// Takes the question an answer belongs to.
    pub(crate) fn take(&mut self, id: &RequestId) -> Option<(String, Arc<Batch>)> {
        self.open.remove(id).map(|open| (open.key, open.batch))
    }

    /// Forgets the questions of a call; returns their ids.
    pub(crate) fn drop_call(&mut self, call: u64) -> Vec<RequestId> {
        if self.open.is_empty() {
            return Vec::new();
        }
        let ids: Vec<_> = self.open.iter().filter(|(_, open)| open.call == call).map(|(id, _)| id.clone()).collect();
        for id in &ids {
            self.open.remove(id);
        }
        ids
    }

    pub(crate) fn clear(&mut self) {
        self.open.clear();
    }
}

/// Hands an answer to its question.
pub(crate) fn answer(question: (String, Arc<Batch>), answer: AskAnswer) {
    let (key, batch) = question;
    batch.put(key, answer);
}

#[cfg(test)]
mod tests {
    use bartizan_wire::RawJson;

    use super::*;

    fn yes() -> AskAnswer {
        AskAnswer::Result(RawJson::empty_object())
    }

    #[tokio::test]
    async fn p9_answers_are_handed_over_together() {
        let (sender, mut receiver) = oneshot::channel();
        let mut asks = Asks::of("node".into());
        let batch = Batch::new(Vec::new(), 2, sender);
        let a = asks.add(1, "name".into(), Arc::clone(&batch));
        let b = asks.add(1, "roots".into(), batch);
        assert_ne!(a, b);
        assert_eq!((node_of(&a).as_deref(), node_of(&RequestId::number(1))), (Some("node"), None));
        answer(asks.take(&b).unwrap(), yes());
        assert!(receiver.try_recv().is_err());
        assert!(asks.take(&b).is_none());
        answer(asks.take(&a).unwrap(), yes());
        let got = receiver.await.unwrap();
        assert_eq!(got.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["roots", "name"]);
    }

    #[tokio::test]
    async fn p9_nothing_to_ask_is_answered_at_once() {
        let (sender, receiver) = oneshot::channel();
        Batch::new(vec![("k".into(), yes())], 0, sender);
        assert_eq!(receiver.await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn p9_questions_go_with_their_call() {
        let mut asks = Asks::default();
        let (sender, receiver) = oneshot::channel();
        let id = asks.add(1, "k".into(), Batch::new(Vec::new(), 1, sender));
        let (other, _kept) = oneshot::channel();
        let stays = asks.add(2, "k".into(), Batch::new(Vec::new(), 1, other));
        assert_eq!(asks.drop_call(1), std::slice::from_ref(&id));
        assert!(asks.take(&id).is_none());
        assert!(asks.take(&stays).is_some());
        assert!(receiver.await.is_err());
    }
}
