//! Questions to a legacy client: real requests on its stream, answered while the
//! call goes on.

use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use bartizan_wire::{Ask, AskAnswer, RpcError, codes};
use tokio::sync::oneshot;

use crate::call::CallOutput;
use crate::exchange::Exchange;

type Answers = oneshot::Receiver<Vec<(String, AskAnswer)>>;

/// Answers on the way, by the upstream's key of the question.
#[derive(Default)]
pub(crate) struct Pending(Vec<(String, Answers)>);

impl Pending {
    /// True when no question is open.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Asks the client one question.
    pub(crate) async fn ask(&mut self, x: &Exchange, ask: Ask) {
        let key = ask.key.clone();
        let (answers, receiver) = oneshot::channel();
        // When the client is gone the receiver reports it.
        x.say(CallOutput::Ask { asks: vec![ask], answers }).await;
        self.0.push((key, receiver));
    }

    /// The next answer; waits for ever when no question is open. Safe to drop while
    /// waiting.
    pub(crate) async fn next(&mut self) -> (String, AskAnswer) {
        poll_fn(|cx| {
            for index in 0..self.0.len() {
                let Some((_, receiver)) = self.0.get_mut(index) else { break };
                if let Poll::Ready(answers) = Pin::new(receiver).poll(cx) {
                    let (key, _) = self.0.swap_remove(index);
                    let answer = answers.ok().and_then(|answers| answers.into_iter().next());
                    return Poll::Ready((key, answer.map_or_else(no_answer, |(_, answer)| answer)));
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// All questions at once (a modern upstream's round); `None` when the client will
/// not answer.
pub(crate) async fn ask_all(x: &Exchange, asks: Vec<Ask>) -> Option<Vec<(String, AskAnswer)>> {
    let (answers, receiver) = oneshot::channel();
    x.say(CallOutput::Ask { asks, answers }).await;
    receiver.await.ok()
}

/// What the upstream hears when the client does not answer.
pub(crate) fn no_answer() -> AskAnswer {
    AskAnswer::Error(RpcError::new(codes::INTERNAL_ERROR, "the client did not answer"))
}

/// What the upstream hears when it asks for what the client did not declare.
pub(crate) fn not_declared() -> AskAnswer {
    AskAnswer::Error(RpcError::new(codes::METHOD_NOT_FOUND, "the client did not declare this capability"))
}
