//! A23: a request may give up rights by header and query, and gains none by them.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails")]

mod support;

use serde_json::{Value, json};
use support::{Client, World};

async fn echo(client: &Client) -> (u16, Value) {
    client.ask_modern("tools/call", json!({"name": "fix_test_simple_text", "arguments": {}})).await
}

#[tokio::test]
async fn a23_headers_and_query_narrow_and_never_widen() {
    let world = World::start().await;
    let at = |query: &str| Client::new(format!("{}{query}", world.url("mcp")), Some(support::stack::ALICE));
    let (status, whole) = echo(&at("")).await;
    assert_eq!(status, 200);
    assert!(whole["result"]["content"][0]["text"].is_string(), "{whole}");
    // What leaves the right to read at this server changes nothing.
    for query in ["?mode=read_only", "?scope=mcp:read", "?scope=mcp%3Aread+server%3Afix", "?other=1&mode=read_only"] {
        assert_eq!(echo(&at(query)).await.1["result"]["content"], whole["result"]["content"], "{query}");
    }
    // What takes it away refuses, whatever else is asked for in the same breath.
    for query in ["?scope=mcp:write", "?scope=mcp:read+server:other", "?scope=mcp:write&mode=read_only", "?scope=*"] {
        let (_, answer) = echo(&at(query)).await;
        let decision = &answer["result"]["_meta"]["bartizan/decision"];
        assert_eq!(
            (&answer["result"]["isError"], &decision["code"]),
            (&json!(true), &json!("read_only_mode")),
            "{query}"
        );
    }
    // Whoever narrows means it: what cannot be understood is no full right.
    for query in
        ["?mode=write", "?mode=READ_ONLY", "?mode=read_only&mode=all", "?scope=a&scope=b", "?scope=%22", "?mode=%ff"]
    {
        assert_eq!(echo(&at(query)).await.0, 400, "{query}");
    }
    for empty in ["?scope=", "?mode=", "?scope", "?mode", "?scope=+", "?scope=&mode=read_only", "?mode=&mode="] {
        assert_eq!(echo(&at(empty)).await.0, 400, "{empty}");
    }
    // What is hidden or needs a credential does so with every wish.
    let wish = "?scope=mcp:read+mcp:write+mcp:admin+server:hidden";
    let hidden = Client::new(format!("{}{wish}", world.url("servers/hidden/mcp")), Some(support::stack::ALICE));
    assert_eq!(echo(&hidden).await.0, 404);
    let nobody = Client::new(format!("{}{wish}", world.url("mcp")), None);
    assert_eq!(nobody.post(&[("bartizan-scope", "mcp:read")], "{}").await.status, 401);
}

#[tokio::test]
async fn a23_the_header_narrows_too() {
    let world = World::start().await;
    let client = Client::new(world.url("mcp"), Some(support::stack::ALICE));
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"}
    }}})
    .to_string();
    let send = |scope: &'static str| {
        let body = body.clone();
        let client = client.clone();
        async move {
            let headers =
                [("bartizan-scope", scope), ("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/list")];
            client.post(&headers, &body).await.status
        }
    };
    assert_eq!(send("mcp:read").await, 200);
    for bad in ["a\"b", "", " "] {
        assert_eq!(send(bad).await, 400, "{bad:?}");
    }
}
