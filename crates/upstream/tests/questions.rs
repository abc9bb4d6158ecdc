//! P9: questions that a legacy server asks on the GET stream of the session.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::sync::{Arc, Mutex};

use bartizan_upstream::{UpstreamEvent, UpstreamReply};
use bartizan_wire::AskAnswer;
use common::*;
use serde_json::{Value, json};

/// A legacy server: its GET stream, and the calls that wait.
#[derive(Clone, Default)]
struct Held {
    stream: Arc<Mutex<Option<Sse>>>,
    calls: Arc<Mutex<Vec<(Sse, Seen)>>>,
    answers: Arc<Mutex<Vec<Value>>>,
}

impl Held {
    fn ask(&self, id: i64) {
        let question = json!({"jsonrpc": "2.0", "id": id, "method": "elicitation/create", "params": {"message": "Name?", "requestedSchema": {"type": "object"}}});
        self.stream.lock().unwrap().as_ref().unwrap().message(&question);
    }

    async fn answer(&self, id: i64) -> Value {
        let found = || self.answers.lock().unwrap().iter().find(|answer| answer["id"] == id).cloned();
        eventually(|| found().is_some()).await;
        found().unwrap()
    }

    fn finish(&self) {
        for (sse, seen) in self.calls.lock().unwrap().drain(..) {
            sse.result(&seen, json!({"content": []}));
        }
    }
}

async fn held() -> (Mock, Held) {
    let held = Held::default();
    let kept = held.clone();
    let mock = Mock::with(legacy, move |seen| {
        let (sse, reply) = Sse::new();
        if seen.http == "GET" {
            sse.raw(": hello\n\n");
            *kept.stream.lock().unwrap() = Some(sse);
            return Some(ready(reply));
        }
        if seen.method() == "tools/call" {
            sse.raw(": hello\n\n");
            kept.calls.lock().unwrap().push((sse, seen.clone()));
            return Some(ready(reply));
        }
        let is_answer = seen.json.get("result").is_some() || seen.json.get("error").is_some();
        is_answer.then(|| {
            kept.answers.lock().unwrap().push(seen.json.clone());
            ready(empty(202))
        })
    })
    .await;
    (mock, held)
}

#[tokio::test]
async fn p9_a_question_beside_the_call_belongs_to_the_only_call_in_flight() {
    let (mock, held) = held().await;
    let (upstreams, target) = (upstreams(), target(&mock.url("/mcp")));
    let profile = legacy_client(json!({"elicitation": {}}));
    let mut first = upstreams.call(&target, echo(&profile, json!({}))).await.unwrap();
    // After the call, so that both use its session.
    let _watcher = upstreams.watch(&target);
    eventually(|| held.stream.lock().unwrap().is_some()).await;

    held.ask(41);
    let UpstreamEvent::Ask(ask) = first.next().await else { panic!("no question") };
    assert_eq!(ask.method, "elicitation/create");
    first.answer(&ask.key, AskAnswer::Result(raw(&json!({"action": "accept"})))).await.unwrap();
    assert_eq!(held.answer(41).await["result"]["action"], "accept");

    // With two calls nobody knows whose it is.
    let mut second = upstreams.call(&target, echo(&profile, json!({}))).await.unwrap();
    held.ask(42);
    assert_eq!(held.answer(42).await["error"]["code"], -32601);
    held.finish();
    for call in [&mut first, &mut second] {
        assert!(matches!(finish(call).await.1, UpstreamReply::Result(_)));
    }

    // Nor with none.
    held.ask(43);
    assert_eq!(held.answer(43).await["error"]["code"], -32601);
}

#[tokio::test]
async fn p9_a_question_of_a_server_that_answers_in_one_piece_is_refused() {
    let held = Held::default();
    let kept = held.clone();
    let mock = Mock::with(legacy, move |seen| {
        if seen.http == "GET" {
            let (sse, reply) = Sse::new();
            sse.raw(": hello\n\n");
            *kept.stream.lock().unwrap() = Some(sse);
            return Some(ready(reply));
        }
        if seen.method() == "tools/call" {
            let (kept, seen) = (kept.clone(), seen.clone());
            return Some(Box::pin(async move {
                kept.ask(44);
                kept.answer(44).await;
                result(&seen, json!({"content": []}))
            }));
        }
        seen.json.get("error").is_some().then(|| {
            kept.answers.lock().unwrap().push(seen.json.clone());
            ready(empty(202))
        })
    })
    .await;
    let (upstreams, target) = (upstreams(), target(&mock.url("/mcp")));
    let profile = legacy_client(json!({"elicitation": {}}));
    // The session that the stream and the call share.
    call(&upstreams, &target, request("prompts/list", &profile, json!({}))).await;
    let _watcher = upstreams.watch(&target);
    eventually(|| held.stream.lock().unwrap().is_some()).await;
    let got = call(&upstreams, &target, echo(&profile, json!({}))).await;
    assert_eq!(got["content"], json!([]));
    assert_eq!(held.answer(44).await["error"]["code"], -32601);
}
