//! P16, P20: principals who go to a server with an authority of their own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::sync::{Arc, Mutex};

use bartizan_upstream::{Authority, ListKind, Target};
use common::*;
use http::HeaderValue;
use serde_json::json;

/// A token that can be replaced.
#[derive(Clone, Default)]
struct Token(Arc<Mutex<Option<String>>>);

impl Token {
    fn new(text: &str) -> Self {
        let token = Self::default();
        token.set(Some(text));
        token
    }

    fn set(&self, text: Option<&str>) {
        *self.0.lock().unwrap() = text.map(str::to_owned);
    }
}

impl Authority for Token {
    fn current(&self) -> Option<HeaderValue> {
        self.0.lock().unwrap().as_ref().map(|token| format!("Bearer {token}").parse().unwrap())
    }
}

fn of(mock: &Mock, who: &str, token: &Token) -> Target {
    let server = json!({"server_id": "mock", "hostname": mock.url("/mcp"), "auth_type": "oauth"});
    let authority: Arc<dyn Authority> = Arc::new(token.clone());
    Target { authority: Some(authority), ..target_of(server, who) }
}

#[tokio::test]
async fn p16_nothing_of_one_authority_is_used_for_another() {
    for mock in [Mock::modern().await, Mock::legacy().await] {
        let upstreams = upstreams();
        let (ana, bob) = (of(&mock, "user:ana", &Token::new("a")), of(&mock, "user:bob", &Token::new("b")));
        let client = modern_client(json!({}));
        for n in 0..20 {
            let (target, who) = if n % 2 == 0 { (&ana, "ana") } else { (&bob, "bob") };
            call(&upstreams, target, echo(&client, json!({"who": who}))).await;
            upstreams.list(target, ListKind::Tools, &client).await.unwrap();
        }
        let log = mock.log();
        assert!(log.iter().all(|seen| matches!(seen.header("authorization"), Some("Bearer a" | "Bearer b"))));
        for seen in mock.seen("tools/call") {
            let token = if seen.json["params"]["arguments"]["who"] == "ana" { "Bearer a" } else { "Bearer b" };
            assert_eq!(seen.header("authorization"), Some(token));
        }
        // What a server says is asked for by each of them, and a session is one token's.
        for token in ["Bearer a", "Bearer b"] {
            let introduced = log.iter().filter(|seen| {
                seen.header("authorization") == Some(token)
                    && ["initialize", "server/discover"].contains(&seen.method())
            });
            assert!(introduced.count() >= 1, "{token}");
        }
        let session = |token: &str| {
            let of_token = log.iter().filter(|seen| seen.header("authorization") == Some(token));
            of_token.filter_map(|seen| seen.header("mcp-session-id").map(str::to_owned)).collect::<Vec<_>>()
        };
        assert!(session("Bearer a").iter().all(|id| !session("Bearer b").contains(id)));
        // Status pages see one server.
        assert_eq!(upstreams.status().len(), 1);
    }
}

#[tokio::test]
async fn p20_a_new_token_goes_with_the_next_request_of_the_same_session() {
    let mock = Mock::legacy().await;
    let upstreams = upstreams();
    let token = Token::new("first");
    let ana = of(&mock, "user:ana", &token);
    let client = legacy_client(json!({}));
    call(&upstreams, &ana, echo(&client, json!({}))).await;
    for next in ["second", "third"] {
        token.set(Some(next));
        call(&upstreams, &ana, echo(&client, json!({}))).await;
        let expected = format!("Bearer {next}");
        assert_eq!(mock.seen("tools/call").last().unwrap().header("authorization"), Some(expected.as_str()));
    }
    assert_eq!(mock.count("initialize"), 1, "the session stays");
    // One that is gone is not sent any more.
    token.set(None);
    call(&upstreams, &ana, echo(&client, json!({}))).await;
    assert_eq!(mock.seen("tools/call").last().unwrap().header("authorization"), None);
}

#[tokio::test]
async fn p20_streams_are_opened_with_the_newest_token() {
    let mock = Mock::legacy().await;
    let upstreams = upstreams();
    let token = Token::new("first");
    let ana = of(&mock, "user:ana", &token);
    call(&upstreams, &ana, echo(&legacy_client(json!({})), json!({}))).await;
    token.set(Some("second"));
    let _notes = upstreams.watch(&ana);
    eventually(|| mock.http("GET") > 0).await;
    let log = mock.log();
    let opened = log.iter().find(|seen| seen.http == "GET").unwrap();
    assert_eq!(opened.header("authorization"), Some("Bearer second"));
}

#[tokio::test]
async fn p16_a_changed_server_lets_go_of_everybodys_sessions() {
    let mock = Mock::legacy().await;
    let upstreams = upstreams();
    let client = legacy_client(json!({}));
    for who in ["user:ana", "user:bob"] {
        call(&upstreams, &of(&mock, who, &Token::new("x")), echo(&client, json!({}))).await;
    }
    assert_eq!(mock.http("DELETE"), 0);
    let server = json!({
        "server_id": "mock", "hostname": mock.url("/mcp"), "auth_type": "oauth", "auth_config": {"client_id": "new"},
    });
    let authority: Arc<dyn Authority> = Arc::new(Token::new("y"));
    let changed = Target { authority: Some(authority), ..target_of(server, "user:ana") };
    call(&upstreams, &changed, echo(&client, json!({}))).await;
    eventually(|| mock.http("DELETE") == 2).await;
}

#[tokio::test]
async fn a13_who_a_principal_is_now_goes_with_each_request_of_the_same_session() {
    for mock in [Mock::modern().await, Mock::legacy().await] {
        let upstreams = upstreams();
        let client = modern_client(json!({}));
        for groups in ["eng", "eng,ops", "sales"] {
            let ana = of(&mock, "user:ana", &Token::new(groups));
            call(&upstreams, &ana, echo(&client, json!({}))).await;
            let expected = format!("Bearer {groups}");
            assert_eq!(mock.seen("tools/call").last().unwrap().header("authorization"), Some(expected.as_str()));
        }
        assert!(mock.count("initialize") <= 1, "the session stays");
        // Nobody else's changed.
        let bob = of(&mock, "user:bob", &Token::new("bob"));
        call(&upstreams, &bob, echo(&client, json!({}))).await;
        call(&upstreams, &of(&mock, "user:ana", &Token::new("eng")), echo(&client, json!({}))).await;
        call(&upstreams, &bob, echo(&client, json!({}))).await;
        assert_eq!(mock.seen("tools/call").last().unwrap().header("authorization"), Some("Bearer bob"));
    }
}
