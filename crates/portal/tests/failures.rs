//! L1, A11: failed authentications are on record, and cannot fill it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails")]

mod support;

use serde_json::{Value, json};
use support::{Client, World};

const FIX: &str = "servers/fix/mcp";

async fn events(world: &World, count: usize) -> Vec<Value> {
    for _ in 0..1_000 {
        let events = world.events_of("auth").await;
        if events.len() >= count {
            return events;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("never {count}: {:?}", world.events_of("auth").await);
}

#[tokio::test]
async fn l1_a_failed_authentication_is_on_record_once_and_then_counted() {
    let world = World::start().await;
    let wrong = Client::new(world.url(FIX), Some("wrong-token-value"));
    let first = wrong.modern(&json!(1), "tools/list", &json!({})).await;
    assert_eq!(first.status, 401);
    for _ in 0..49 {
        assert_eq!(wrong.modern(&json!(1), "tools/list", &json!({})).await.status, 401);
    }
    let malformed = Client::new(world.url("mcp"), None);
    assert_eq!(malformed.post(&[("authorization", "Basic YTpi")], "{}").await.status, 401);
    // No credential is no failed one: it is how every client begins.
    assert_eq!(malformed.post(&[], "{}").await.status, 401);
    let recorded = events(&world, 2).await;
    assert_eq!(recorded.len(), 2, "{recorded:#?}");
    let unknown = recorded.iter().find(|event| event["note"] == "unknown").unwrap();
    assert_eq!(unknown["id"], first.header("x-request-id").unwrap());
    assert_eq!(unknown["verdict"], json!({"allow": false, "code": "unauthenticated", "stage": "authenticate"}));
    assert_eq!((&unknown["outcome"], &unknown["method"]), (&json!("refused"), &json!("authenticate")));
    assert_eq!((&unknown["server"], &unknown["principal_kind"]), (&json!("fix"), &json!("anonymous")));
    let other = recorded.iter().find(|event| event["note"] == "malformed").unwrap();
    assert_eq!(other["portal"], "default");
    // The end of the process is the last moment to tell the rest.
    world.portal.drain().await;
    let recorded = events(&world, 3).await;
    assert_eq!(recorded.len(), 3, "{recorded:#?}");
    assert!(recorded.iter().any(|event| event["note"] == "unknown: 49 more within 60 s"), "{recorded:#?}");
    assert!(!format!("{recorded:?}").contains("wrong-token"));
}

#[tokio::test]
async fn l1_the_record_names_the_token_whose_secret_was_right() {
    let world = World::start().await;
    let client = world.service("ci", FIX).await;
    world.identity.tokens().suspend("ci").await.unwrap();
    world.identity.refresh().await.unwrap();
    assert_eq!(client.modern(&json!(1), "tools/list", &json!({})).await.status, 401);
    let recorded = events(&world, 1).await;
    assert_eq!((&recorded[0]["note"], &recorded[0]["principal_kind"]), (&json!("suspended"), &json!("service")));
}
