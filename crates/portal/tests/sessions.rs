//! Legacy sessions from outside (protocol section 2; rows P7, P26).
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails")]

mod support;

use serde_json::json;
use support::stack::{ALICE, BOB, Setup};
use support::{Client, LEGACY, World};

#[tokio::test]
async fn p26_the_session_of_one_with_the_token_of_another_is_404() {
    let world = World::start().await;
    let alice = Client::opened(world.url("servers/fix/mcp"), Some(ALICE)).await;
    let thief = Client { token: Some(BOB), ..alice.clone() };
    assert_eq!(thief.legacy(&json!(1), "tools/list", &json!({})).await.status, 404);
    assert_eq!(thief.legacy(&json!(1), "ping", &json!({})).await.status, 404);
    assert_eq!(thief.stream(&[]).await.status, 404);
    assert_eq!(thief.send(http::Method::DELETE, &[], "").await.status, 404);
    let nobody = Client { token: None, ..alice.clone() };
    assert_eq!(nobody.legacy(&json!(1), "ping", &json!({})).await.status, 401);
    // Elsewhere it is nobody's either.
    let elsewhere = Client { url: world.url("mcp"), ..alice.clone() };
    assert_eq!(elsewhere.legacy(&json!(1), "ping", &json!({})).await.status, 404);
    // And none of that ended it.
    assert_eq!(alice.ask("ping", json!({})).await.0, 200);
}

#[tokio::test]
async fn p26_delete_ends_a_session() {
    let world = World::start().await;
    let client = Client::opened(world.url("servers/fix/mcp"), Some(ALICE)).await;
    let mut stream = client.stream(&[]).await.events();
    assert_eq!(world.portal.session_count(), 1);
    assert_eq!(client.send(http::Method::DELETE, &[], "").await.status, 204);
    assert_eq!(world.portal.session_count(), 0);
    while stream.next().await.unwrap().is_some() {}
    assert_eq!(client.legacy(&json!(1), "ping", &json!({})).await.status, 404);
    assert_eq!(client.send(http::Method::DELETE, &[], "").await.status, 404);
}

#[tokio::test]
async fn p26_sessions_end_after_their_idle_time() {
    let world = World::with(Setup { session_idle_ms: 1_000, ..Setup::default() }).await;
    let client = Client::opened(world.url("servers/fix/mcp"), Some(ALICE)).await;
    world.clock.advance_ms(900);
    assert_eq!(client.ask("ping", json!({})).await.0, 200);
    world.clock.advance_ms(900);
    assert_eq!(client.ask("ping", json!({})).await.0, 200);
    world.clock.advance_ms(1_000);
    assert_eq!(client.legacy(&json!(1), "ping", &json!({})).await.status, 404);
}

#[tokio::test]
async fn p7_ids_come_back_as_they_were() {
    let world = World::start().await;
    let client = Client::opened(world.url("servers/fix/mcp"), Some(ALICE)).await;
    for id in [json!(7), json!("seven"), json!(0), json!(-1), json!(9_007_199_254_740_993_i64), json!("")] {
        let answer = client.legacy(&id, "ping", &json!({})).await.json().await.unwrap();
        assert_eq!(answer["id"], id);
        let params = json!({"name": "test_simple_text", "arguments": {}});
        let answer = client.legacy(&id, "tools/call", &params).await.json().await.unwrap();
        assert_eq!(answer["id"], id);
        let answer = world.client("servers/fix/mcp").modern(&id, "tools/call", &params).await.json().await.unwrap();
        assert_eq!(answer["id"], id);
    }
}

#[tokio::test]
async fn p10_ping_is_answered_here() {
    let world = World::start().await;
    let client = Client::opened(world.url("servers/fix/mcp"), Some(ALICE)).await;
    assert_eq!(client.ask("ping", json!({})).await.1["result"], json!({}));
    assert_eq!(world.fixture.stats().of("ping"), 0);
}

#[tokio::test]
async fn p7_all_sessions_share_one_upstream_session_per_principal() {
    let world = World::start().await;
    let params = json!({"name": "test_simple_text", "arguments": {}});
    for _ in 0..3 {
        let client = Client::opened(world.url("servers/fix/mcp"), Some(ALICE)).await;
        for _ in 0..5 {
            assert_eq!(client.ask("tools/call", params.clone()).await.0, 200);
        }
    }
    assert_eq!(world.fixture.stats().of("tool:test_simple_text"), 15);
    assert!(world.fixture.stats().of("initialize") <= 2, "{}", world.fixture.stats().to_json());
}

#[tokio::test]
async fn p7_notifications_and_stray_answers_are_accepted() {
    let world = World::start().await;
    let client = Client::opened(world.url("servers/fix/mcp"), Some(ALICE)).await;
    for method in ["notifications/roots/list_changed", "notifications/cancelled", "notifications/whatever"] {
        assert_eq!(client.notify(method, &json!({"requestId": 99})).await, 202, "{method}");
    }
    assert_eq!(client.answer(&json!(12345), &json!({})).await, 202);
    assert_eq!(client.answer(&json!("x"), &json!({})).await, 202);
    let _ = LEGACY;
}
