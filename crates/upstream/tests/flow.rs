//! P10, and the questions of P9: what goes on during a call.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bartizan_upstream::{ListKind, Resume, ServerNote, UpstreamError, UpstreamEvent, UpstreamReply};
use bartizan_wire::{AskAnswer, ClientProfile, LogLevel, RpcError};
use common::*;
use serde_json::{Value, json};

/// A server whose `tools/call` runs a script on an event stream.
async fn scripted<F, Fut>(era: fn(&Seen) -> Reply, script: F) -> Mock
where
    F: Fn(Sse, Seen) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    Mock::with(era, move |seen| {
        (seen.method() == "tools/call").then(|| {
            let (sse, reply) = Sse::new();
            tokio::spawn(script(sse, seen.clone()));
            ready(reply)
        })
    })
    .await
}

fn with_token(profile: &Arc<ClientProfile>, token: Value) -> bartizan_upstream::CallRequest {
    request("tools/call", profile, json!({"name": "echo", "arguments": {}, "_meta": {"progressToken": token}}))
}

#[tokio::test]
async fn p10_progress_tokens_are_ours_upstream_and_the_clients_downstream() {
    for era in [legacy as fn(&Seen) -> Reply, modern] {
        let mock = scripted(era, |sse, seen| async move {
            let token = seen.json["params"]["_meta"]["progressToken"].clone();
            sse.notify("notifications/progress", json!({"progressToken": "somebody else's", "progress": 0}));
            sse.notify("notifications/progress", json!({"progressToken": token, "progress": 1, "x": 1.50}));
            sse.result(&seen, json!({"content": []}));
        })
        .await;
        let (upstreams, target) = (upstreams(), target(&mock.url("/mcp")));
        for profile in [legacy_client(json!({})), modern_client(json!({}))] {
            for token in [json!("tok"), json!(7)] {
                let mut call = upstreams.call(&target, with_token(&profile, token.clone())).await.unwrap();
                let (notes, _) = finish(&mut call).await;
                assert_eq!(
                    notes,
                    [("notifications/progress".to_owned(), json!({"progressToken": token, "progress": 1, "x": 1.50}))]
                );
            }
        }
        let mut sent: Vec<Value> =
            mock.seen("tools/call").iter().map(|seen| seen.json["params"]["_meta"]["progressToken"].clone()).collect();
        assert!(sent.iter().all(Value::is_i64));
        sent.dedup();
        assert_eq!(sent.len(), 4, "unique over calls although clients use the same token");
    }
}

#[tokio::test]
async fn p10_without_a_token_none_is_sent_and_no_progress_comes_back() {
    let mock = scripted(legacy, |sse, seen| async move {
        assert!(seen.json["params"].get("_meta").is_none());
        sse.notify("notifications/progress", json!({"progressToken": seen.id(), "progress": 1}));
        sse.result(&seen, json!({}));
    })
    .await;
    let upstreams = upstreams();
    let mut call =
        upstreams.call(&target(&mock.url("/mcp")), echo(&legacy_client(json!({})), json!({}))).await.unwrap();
    assert_eq!(finish(&mut call).await.0, []);
}

#[tokio::test]
async fn p10_progress_restarts_the_timer_up_to_the_maximum() {
    let mock = scripted(legacy, |sse, seen| async move {
        let token = seen.json["params"]["_meta"]["progressToken"].clone();
        let rounds = seen.json["params"]["arguments"]["rounds"].as_u64().unwrap();
        for n in 0..rounds {
            tokio::time::sleep(Duration::from_millis(200)).await;
            sse.notify("notifications/progress", json!({"progressToken": token, "progress": n}));
        }
        sse.result(&seen, json!({"content": []}));
    })
    .await;
    let limits = bartizan_config::settings::WireLimits { call_ms: 500, call_max_ms: 2_000, ..limits() };
    let upstreams = upstreams_with(limits, Arc::new(bartizan_model::SystemClock));
    let profile = legacy_client(json!({}));
    let run = async |rounds: u64| {
        let request = request(
            "tools/call",
            &profile,
            json!({"name": "e", "arguments": {"rounds": rounds}, "_meta": {"progressToken": 1}}),
        );
        let mut call = upstreams.call(&target(&mock.url("/mcp")), request).await.unwrap();
        finish(&mut call).await.1
    };
    assert!(matches!(run(5).await, UpstreamReply::Result(_)), "1 s in steps of 0.2 s, limit 0.5 s");
    assert!(matches!(run(100).await, UpstreamReply::Failed(UpstreamError::Timeout)));
}

#[tokio::test]
async fn p10_dropping_a_call_cancels_it_within_a_second() {
    for (era, is_legacy) in [(legacy as fn(&Seen) -> Reply, true), (modern, false)] {
        let closed = Arc::new(Mutex::new(None));
        let note = Arc::clone(&closed);
        let mock = scripted(era, move |sse, _| {
            let note = Arc::clone(&note);
            async move {
                sse.raw(": open\n\n");
                sse.closed().await;
                *note.lock().unwrap() = Some(std::time::Instant::now());
            }
        })
        .await;
        let upstreams = upstreams();
        let call =
            upstreams.call(&target(&mock.url("/mcp")), echo(&legacy_client(json!({})), json!({}))).await.unwrap();
        let dropped = std::time::Instant::now();
        drop(call);
        eventually(|| closed.lock().unwrap().is_some()).await;
        assert!(closed.lock().unwrap().unwrap() - dropped < Duration::from_secs(1));
        if is_legacy {
            mock.until("notifications/cancelled", 1).await;
            assert!(dropped.elapsed() < Duration::from_secs(1));
            let cancel = &mock.seen("notifications/cancelled")[0];
            assert_eq!(cancel.json["params"]["requestId"], mock.seen("tools/call")[0].id());
            assert_eq!(cancel.header("mcp-session-id"), mock.seen("tools/call")[0].header("mcp-session-id"));
        } else {
            assert_eq!(mock.count("notifications/cancelled"), 0, "closing the stream is the signal");
        }
    }
}

#[tokio::test]
async fn p10_a_call_dropped_before_the_head_of_the_answer_is_cancelled_too() {
    let mock = Mock::with(legacy, |seen| {
        (seen.method() == "tools/call").then(|| -> Replying { Box::pin(std::future::pending()) })
    })
    .await;
    let (upstreams, target) = (upstreams(), target(&mock.url("/mcp")));
    let task =
        tokio::spawn(
            async move { upstreams.call(&target, echo(&legacy_client(json!({})), json!({}))).await.map(drop) },
        );
    mock.until("tools/call", 1).await;
    task.abort();
    mock.until("notifications/cancelled", 1).await;
    assert_eq!(mock.seen("notifications/cancelled")[0].json["params"]["requestId"], mock.seen("tools/call")[0].id());
}

#[tokio::test]
async fn p10_explicit_cancel_and_finished_calls() {
    let mock = scripted(legacy, |sse, seen| async move {
        if seen.json["params"]["arguments"]["end"] == true {
            sse.result(&seen, json!({}));
        }
        sse.closed().await;
    })
    .await;
    let (upstreams, target) = (upstreams(), target(&mock.url("/mcp")));
    let profile = legacy_client(json!({}));
    let call = upstreams.call(&target, echo(&profile, json!({}))).await.unwrap();
    call.cancel().await;
    assert_eq!(mock.count("notifications/cancelled"), 1, "told before cancel returns");
    let mut call = upstreams.call(&target, echo(&profile, json!({"end": true}))).await.unwrap();
    finish(&mut call).await;
    drop(call);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(mock.count("notifications/cancelled"), 1, "a finished call is not cancelled");
}

#[tokio::test]
async fn p10_log_level_becomes_set_level_once_and_messages_are_filtered() {
    let mock = scripted(legacy, |sse, seen| async move {
        for level in ["debug", "info", "warning", "error"] {
            sse.notify("notifications/message", json!({"level": level, "data": level}));
        }
        sse.result(&seen, json!({}));
    })
    .await;
    let (upstreams, target) = (upstreams(), target(&mock.url("/mcp")));
    let client = |base: Arc<ClientProfile>, level| Arc::new(ClientProfile { log_level: level, ..(*base).clone() });
    let heard = async |profile: Arc<ClientProfile>| {
        let mut call = upstreams.call(&target, echo(&profile, json!({}))).await.unwrap();
        finish(&mut call).await.0.len()
    };
    let (old, new) = (legacy_client(json!({})), modern_client(json!({})));
    assert_eq!(heard(client(Arc::clone(&new), None)).await, 0, "a modern request without level hears nothing");
    assert_eq!(mock.count("logging/setLevel"), 0);
    assert_eq!(heard(client(Arc::clone(&new), Some(LogLevel::Warning))).await, 2);
    assert_eq!(heard(client(Arc::clone(&new), Some(LogLevel::Error))).await, 1);
    assert_eq!(heard(client(Arc::clone(&old), Some(LogLevel::Debug))).await, 4);
    assert_eq!(heard(client(Arc::clone(&new), Some(LogLevel::Info))).await, 3);
    assert_eq!(heard(client(old, None)).await, 4);
    let levels: Vec<Value> =
        mock.seen("logging/setLevel").iter().map(|seen| seen.json["params"]["level"].clone()).collect();
    assert_eq!(levels, ["warning", "debug"], "only when it gets more verbose");
}

#[tokio::test]
async fn p10_ping_is_answered_here() {
    let mock = scripted(legacy, |sse, seen| async move {
        sse.message(&json!({"jsonrpc": "2.0", "id": "p-1", "method": "ping"}));
        tokio::time::sleep(Duration::from_millis(100)).await;
        sse.result(&seen, json!({}));
    })
    .await;
    let upstreams = upstreams();
    let mut call =
        upstreams.call(&target(&mock.url("/mcp")), echo(&legacy_client(json!({})), json!({}))).await.unwrap();
    finish(&mut call).await;
    eventually(|| mock.log().iter().any(|seen| seen.json == json!({"jsonrpc": "2.0", "id": "p-1", "result": {}})))
        .await;
}

#[tokio::test]
async fn p10_a_broken_stream_is_resumed_by_last_event_id_after_retry() {
    let posted: Arc<Mutex<Option<Seen>>> = Arc::default();
    let times: Arc<Mutex<Vec<std::time::Instant>>> = Arc::default();
    let (kept, at) = (Arc::clone(&posted), Arc::clone(&times));
    let mock = Mock::with(legacy, move |seen| {
        if seen.method() == "tools/call" {
            *kept.lock().unwrap() = Some(seen.clone());
            at.lock().unwrap().push(std::time::Instant::now());
            let (sse, reply) = Sse::new();
            sse.raw("id: e1\nretry: 300\ndata:\n\n");
            return Some(ready(reply));
        }
        if seen.http == "GET" {
            at.lock().unwrap().push(std::time::Instant::now());
            let post = kept.lock().unwrap().clone().unwrap();
            let (sse, reply) = Sse::new();
            if seen.header("last-event-id") == Some("e1") {
                // Breaks once more, now with a message.
                sse.raw("id: e2\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{\"level\":\"info\"}}\n\n");
            } else {
                sse.result(&post, json!({"content": [], "resumed": true}));
            }
            return Some(ready(reply));
        }
        None
    })
    .await;
    let upstreams = upstreams();
    let mut call =
        upstreams.call(&target(&mock.url("/mcp")), echo(&legacy_client(json!({})), json!({}))).await.unwrap();
    let (notes, reply) = finish(&mut call).await;
    assert_eq!((notes.len(), value(reply)["resumed"].clone()), (1, json!(true)));
    let gets: Vec<_> = mock.log().into_iter().filter(|seen| seen.http == "GET").collect();
    assert_eq!(gets.iter().map(|seen| seen.header("last-event-id").unwrap()).collect::<Vec<_>>(), ["e1", "e2"]);
    assert!(gets.iter().all(|seen| seen.header("mcp-session-id").is_some()));
    let times = times.lock().unwrap();
    assert!(times[1] - times[0] >= Duration::from_millis(300), "never early");
    assert_eq!(mock.count("tools/call"), 1, "resumed, not repeated");
}

#[tokio::test]
async fn p10_a_stream_that_breaks_without_ids_is_lost_and_not_repeated() {
    for era in [legacy as fn(&Seen) -> Reply, modern] {
        let mock = scripted(era, |sse, _| async move { drop(sse) }).await;
        let upstreams = upstreams();
        let mut call =
            upstreams.call(&target(&mock.url("/mcp")), echo(&legacy_client(json!({})), json!({}))).await.unwrap();
        assert!(matches!(finish(&mut call).await.1, UpstreamReply::Failed(UpstreamError::Unavailable { .. })));
        assert_eq!((mock.count("tools/call"), mock.http("GET")), (1, 0));
    }
}

#[tokio::test]
async fn p10_endless_resumption_ends() {
    let mock = Mock::with(legacy, |seen| {
        (seen.http == "GET" || seen.method() == "tools/call").then(|| {
            let (sse, reply) = Sse::new();
            sse.raw("id: same\nretry: 1\ndata:\n\n");
            ready(reply)
        })
    })
    .await;
    let upstreams = upstreams();
    let mut call =
        upstreams.call(&target(&mock.url("/mcp")), echo(&legacy_client(json!({})), json!({}))).await.unwrap();
    assert!(matches!(
        finish(&mut call).await.1,
        UpstreamReply::Failed(UpstreamError::Timeout | UpstreamError::Unavailable { .. })
    ));
}

#[tokio::test]
async fn p9_a_legacy_question_is_asked_and_the_answer_delivered() {
    let answers: Arc<Mutex<Option<Value>>> = Arc::default();
    let got = Arc::clone(&answers);
    let mock = Mock::with(legacy, move |seen| {
        if seen.method() == "tools/call" {
            let (sse, reply) = Sse::new();
            let (seen, got) = (seen.clone(), Arc::clone(&got));
            tokio::spawn(async move {
                sse.message(&json!({"jsonrpc": "2.0", "id": "user_name", "method": "elicitation/create", "params": {"message": "Name?", "requestedSchema": {"type": "object"}}}));
                while got.lock().unwrap().is_none() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                sse.result(&seen, json!({"content": [], "answer": got.lock().unwrap().clone()}));
            });
            return Some(ready(reply));
        }
        if seen.json.get("result").is_some() || seen.json.get("error").is_some() {
            *got.lock().unwrap() = Some(seen.json.clone());
            return Some(ready(empty(202)));
        }
        None
    })
    .await;
    let (upstreams, target) = (upstreams(), target(&mock.url("/mcp")));
    for profile in [legacy_client(json!({"elicitation": {}})), modern_client(json!({"elicitation": {}}))] {
        for answer in [
            AskAnswer::Result(raw(&json!({"action": "accept", "content": {"n": 1.0}}))),
            AskAnswer::Error(RpcError::new(-1, "no")),
        ] {
            *answers.lock().unwrap() = None;
            let mut call = upstreams.call(&target, echo(&profile, json!({}))).await.unwrap();
            let UpstreamEvent::Ask(ask) = call.next().await else { panic!("no question") };
            assert_eq!((ask.key.as_str(), ask.method.as_str()), ("user_name", "elicitation/create"));
            assert!(call.answer("other", answer.clone()).await.is_err());
            call.answer("user_name", answer.clone()).await.unwrap();
            assert!(call.answer("user_name", answer.clone()).await.is_err(), "only once");
            let end = value(finish(&mut call).await.1);
            assert_eq!(end["answer"]["id"], "user_name");
            assert_eq!(end["answer"].get("error").is_some(), matches!(answer, AskAnswer::Error(_)));
        }
    }
}

#[tokio::test]
async fn p9_an_undeclared_question_is_refused_upstream_and_ends_a_modern_call() {
    let mock = scripted(legacy, |sse, seen| async move {
        sse.message(&json!({"jsonrpc": "2.0", "id": 5, "method": "sampling/createMessage", "params": {}}));
        tokio::time::sleep(Duration::from_millis(100)).await;
        sse.result(&seen, json!({"content": []}));
    })
    .await;
    let (upstreams, target) = (upstreams(), target(&mock.url("/mcp")));
    let mut call = upstreams.call(&target, echo(&modern_client(json!({"elicitation": {}})), json!({}))).await.unwrap();
    let UpstreamReply::Failed(UpstreamError::MissingCapability { required }) = finish(&mut call).await.1 else {
        panic!()
    };
    assert_eq!(required.as_str(), "{\"sampling\":{}}");
    eventually(|| mock.log().iter().any(|seen| seen.json["id"] == 5 && seen.json["error"]["code"] == -32601)).await;
    let mut call = upstreams.call(&target, echo(&legacy_client(json!({})), json!({}))).await.unwrap();
    assert!(matches!(finish(&mut call).await.1, UpstreamReply::Result(_)), "a legacy client's call goes on");
}

#[tokio::test]
async fn p9_thinking_time_does_not_time_the_call_out() {
    let mock = scripted(legacy, |sse, seen| async move {
        sse.message(&json!({"jsonrpc": "2.0", "id": 1, "method": "roots/list"}));
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        sse.result(&seen, json!({"content": []}));
    })
    .await;
    let limits = bartizan_config::settings::WireLimits { call_ms: 500, ..limits() };
    let upstreams = upstreams_with(limits, Arc::new(bartizan_model::SystemClock));
    let mut call = upstreams
        .call(&target(&mock.url("/mcp")), echo(&legacy_client(json!({"roots": {}})), json!({})))
        .await
        .unwrap();
    let UpstreamEvent::Ask(ask) = call.next().await else { panic!() };
    assert_eq!(ask.key, "r1", "number ids are no keys");
    assert!(matches!(finish(&mut call).await.1, UpstreamReply::Result(_)));
}

#[tokio::test]
async fn p9_input_required_of_a_modern_server_and_its_retry() {
    let mock = Mock::with(modern, |seen| {
        (seen.method() == "tools/call").then(|| {
            let params = &seen.json["params"];
            if params.get("inputResponses").is_some() {
                return ready(result(seen, json!({"resultType": "complete", "content": [], "got": params["inputResponses"], "state": params["requestState"]})));
            }
            let asks = json!({"name": {"method": "elicitation/create", "params": {"message": "?"}}});
            ready(result(seen, json!({"resultType": "input_required", "inputRequests": asks, "requestState": "st\u{e4}te"})))
        })
    })
    .await;
    let (upstreams, target) = (upstreams(), target(&mock.url("/mcp")));
    for profile in [legacy_client(json!({"elicitation": {}})), modern_client(json!({"elicitation": {}}))] {
        let mut first = upstreams.call(&target, echo(&profile, json!({"a": 1}))).await.unwrap();
        let UpstreamReply::InputRequired { asks, request_state, raw: whole } = finish(&mut first).await.1 else {
            panic!()
        };
        assert_eq!((asks.len(), asks[0].key.as_str(), request_state.as_deref()), (1, "name", Some("st\u{e4}te")));
        assert!(whole.as_str().contains("input_required"));
        let answer = AskAnswer::Result(raw(&json!({"action": "accept"})));
        let mut retry = echo(&profile, json!({"a": 1}));
        retry.resume = Some(Resume { request_state, answers: vec![("name".to_owned(), answer)] });
        let got = call(&upstreams, &target, retry).await;
        assert_eq!(
            (got["got"].clone(), got["state"].clone()),
            (json!({"name": {"action": "accept"}}), json!("st\u{e4}te"))
        );
    }
    let ids: Vec<Value> = mock.seen("tools/call").iter().map(Seen::id).collect();
    assert_ne!(ids[0], ids[1], "a retry has a new id");
}

#[tokio::test]
async fn p9_url_elicitation_error_becomes_input_required() {
    let mock = Mock::with(legacy, |seen| {
        let data = json!({"elicitations": [{"mode": "url", "elicitationId": "e", "url": "https://x.example/", "message": "go"}]});
        (seen.method() == "tools/call").then(|| ready(error(200, seen, -32042, Some(data))))
    })
    .await;
    let (upstreams, target) = (upstreams(), target(&mock.url("/mcp")));
    let mut call =
        upstreams.call(&target, echo(&modern_client(json!({"elicitation": {"url": {}}})), json!({}))).await.unwrap();
    let UpstreamReply::InputRequired { asks, .. } = finish(&mut call).await.1 else { panic!() };
    assert!(asks[0].is_url_elicitation());
    let mut call =
        upstreams.call(&target, echo(&legacy_client(json!({"elicitation": {"url": {}}})), json!({}))).await.unwrap();
    let UpstreamReply::Error(error) = finish(&mut call).await.1 else { panic!() };
    assert_eq!(error.code, -32042, "legacy to legacy stays");
}

#[tokio::test]
async fn p10_list_changed_on_a_call_stream_reaches_watchers_not_the_call() {
    let mock = scripted(legacy, |sse, seen| async move {
        sse.notify("notifications/tools/list_changed", json!({}));
        sse.notify("notifications/custom", json!({"x": 1}));
        sse.result(&seen, json!({}));
    })
    .await;
    let (upstreams, target) = (upstreams(), target(&mock.url("/mcp")));
    let mut notes = upstreams.watch(&target);
    let mut call = upstreams.call(&target, echo(&legacy_client(json!({})), json!({}))).await.unwrap();
    let (during, _) = finish(&mut call).await;
    assert_eq!(during, [("notifications/custom".to_owned(), json!({"x": 1}))], "unknown ones pass");
    assert_eq!(notes.recv().await.unwrap(), ServerNote::ListChanged(ListKind::Tools));
}

#[tokio::test]
async fn traceparent_goes_into_meta_and_header() {
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for era in [legacy as fn(&Seen) -> Reply, modern] {
        let mock = Mock::with(era, |_| None).await;
        let upstreams = upstreams();
        let mut request = echo(&legacy_client(json!({})), json!({}));
        request.traceparent = Some(parent.to_owned());
        call(&upstreams, &target(&mock.url("/mcp")), request).await;
        let seen = &mock.seen("tools/call")[0];
        assert_eq!(seen.json["params"]["_meta"]["traceparent"], parent);
        assert_eq!(seen.header("traceparent"), Some(parent));
    }
}

#[tokio::test]
async fn p30_arguments_and_results_pass_byte_for_byte() {
    let odd = r#"{"z":1.50,"a":1e2,"z2":"\u00e9","n":12345678901234567890123,"nested":{"b":1,"a":2}}"#;
    let mock = Mock::with(legacy, |seen| {
        (seen.method() == "tools/call").then(|| {
            let body = format!("{{\"jsonrpc\":\"2.0\",\"id\":{},\"result\":{{ \"x\" : 1.0,\"b\":\"\\u0041\",\"a\":10000000000000000000000 }}}}", seen.id());
            ready(reply(200, "application/json", body))
        })
    })
    .await;
    let raw_params =
        bartizan_wire::RawJson::try_from(format!("{{\"name\":\"echo\",\"arguments\":{odd}}}").as_str()).unwrap();
    let request = bartizan_upstream::CallRequest::new("tools/call", Some(raw_params), legacy_client(json!({})));
    let upstreams = upstreams();
    let mut call = upstreams.call(&target(&mock.url("/mcp")), request).await.unwrap();
    let UpstreamReply::Result(result) = finish(&mut call).await.1 else { panic!() };
    assert_eq!(result.as_str(), "{ \"x\" : 1.0,\"b\":\"\\u0041\",\"a\":10000000000000000000000 }");
}

#[tokio::test]
async fn p10_list_changed_without_watchers_reaches_the_caller() {
    let mock = scripted(legacy, |sse, seen| async move {
        sse.notify("notifications/tools/list_changed", json!({}));
        sse.notify("notifications/resources/updated", json!({"uri": "x://nobody-subscribed"}));
        sse.result(&seen, json!({}));
    })
    .await;
    let upstreams = upstreams();
    let mut call =
        upstreams.call(&target(&mock.url("/mcp")), echo(&legacy_client(json!({})), json!({}))).await.unwrap();
    let (during, _) = finish(&mut call).await;
    assert_eq!(during, [("notifications/tools/list_changed".to_owned(), json!({}))]);
}

#[tokio::test]
async fn p10_next_can_be_dropped_at_any_moment() {
    let mock = scripted(legacy, |sse, seen| async move {
        let body = json!({"jsonrpc": "2.0", "id": seen.id(), "result": {"content": []}}).to_string();
        for piece in ["data: ", &body[..10], &body[10..], "\n\n"] {
            sse.raw(piece);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let upstreams = upstreams();
    let mut call =
        upstreams.call(&target(&mock.url("/mcp")), echo(&legacy_client(json!({})), json!({}))).await.unwrap();
    loop {
        // Polls for a millisecond and drops the future, again and again.
        if let Ok(event) = tokio::time::timeout(Duration::from_millis(1), call.next()).await {
            assert!(matches!(event, UpstreamEvent::Done(UpstreamReply::Result(_))));
            break;
        }
    }
}
