//! P7: which era a server speaks, and translation in every cell.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bartizan_model::{Era, ManualClock};
use bartizan_upstream::{UpstreamError, UpstreamReply};
use common::*;
use serde_json::json;

#[tokio::test]
async fn p7_modern_server_gets_headers_and_meta_from_both_kinds_of_client() {
    let mock = Mock::modern().await;
    let (upstreams, target) = (upstreams(), target(&mock.url("/mcp")));
    for profile in [legacy_client(json!({"sampling": {}})), modern_client(json!({"sampling": {}}))] {
        let got = call(&upstreams, &target, echo(&profile, json!({"a": 1}))).await;
        assert_eq!(got["content"][0]["text"], "{\"a\":1}");
        assert_eq!(got.get("resultType").is_some(), profile.era == Era::Modern);
    }
    for seen in mock.seen("tools/call") {
        assert_eq!(seen.header("mcp-protocol-version"), Some("2026-07-28"));
        assert_eq!(seen.header("mcp-method"), Some("tools/call"));
        assert_eq!(seen.header("mcp-name"), Some("echo"));
        assert_eq!(seen.header("accept"), Some("application/json, text/event-stream"));
        assert_eq!(seen.header("mcp-session-id"), None);
        let meta = &seen.json["params"]["_meta"];
        assert_eq!(meta["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
        assert_eq!(meta["io.modelcontextprotocol/clientCapabilities"], json!({"sampling": {}}));
    }
    assert_eq!(mock.count("initialize"), 0);
    assert_eq!(mock.count("server/discover"), 1, "probed once");
}

#[tokio::test]
async fn p7_legacy_server_gets_a_session_from_both_kinds_of_client() {
    let mock = Mock::legacy().await;
    let (upstreams, target) = (upstreams(), target(&mock.url("/mcp")));
    for profile in [legacy_client(json!({})), modern_client(json!({}))] {
        let got = call(&upstreams, &target, echo(&profile, json!({"a": 1}))).await;
        assert_eq!(got["content"][0]["text"], "{\"a\":1}");
        match profile.era {
            Era::Legacy => assert_eq!(got.get("resultType"), None),
            Era::Modern => {
                assert_eq!(got["resultType"], "complete");
                assert_eq!(got["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "legacy");
            }
        }
    }
    for seen in mock.seen("tools/call") {
        assert_eq!(seen.header("mcp-session-id"), Some("session-2"));
        assert_eq!(seen.header("mcp-protocol-version"), Some("2025-11-25"));
        assert_eq!(seen.header("mcp-method"), None);
        assert!(seen.json["params"].get("_meta").is_none(), "{}", seen.json);
    }
    assert_eq!((mock.count("initialize"), mock.count("notifications/initialized")), (1, 1));
    assert_eq!(mock.seen("notifications/initialized")[0].header("mcp-session-id"), Some("session-2"));
}

#[tokio::test]
async fn p7_every_unmodern_answer_to_the_probe_means_initialize() {
    type Answer = fn(&Seen) -> Reply;
    let answers: [Answer; 9] = [
        |seen| error(200, seen, -32601, None),
        |seen| error(200, seen, -32602, None),
        |seen| error(400, seen, -32000, None),
        |seen| error(404, seen, -32601, None),
        |_| empty(406),
        |_| empty(404),
        |_| empty(405),
        |_| reply(400, "text/plain", "session required"),
        |seen| result(seen, json!({})),
    ];
    for (at, answer) in answers.into_iter().enumerate() {
        let mock =
            Mock::with(legacy, move |seen| (seen.method() == "server/discover").then(|| ready(answer(seen)))).await;
        let got = call(&upstreams(), &target(&mock.url("/mcp")), echo(&legacy_client(json!({})), json!({}))).await;
        assert_eq!(got["content"][0]["text"], "{}", "{at}");
        assert_eq!(mock.count("initialize"), 1, "{at}");
    }
}

#[tokio::test]
async fn p7_auth_errors_and_failures_are_no_evidence() {
    for status in [401_u16, 403, 429, 500, 502, 503] {
        let bad = Arc::new(AtomicUsize::new(1));
        let switch = Arc::clone(&bad);
        let mock =
            Mock::with(modern, move |_| (switch.load(Ordering::SeqCst) == 1).then(|| ready(empty(status)))).await;
        let (upstreams, target) = (upstreams(), target(&mock.url("/mcp")));
        let profile = legacy_client(json!({}));
        let failed = upstreams.call(&target, echo(&profile, json!({}))).await.err().unwrap();
        match status {
            401 | 403 => {
                assert!(matches!(failed, UpstreamError::Auth { status: got, .. } if got == status), "{failed}")
            }
            429 => assert!(matches!(failed, UpstreamError::Refused { .. }), "{failed}"),
            _ => assert!(matches!(failed, UpstreamError::Unavailable { .. }), "{failed}"),
        }
        assert_eq!(mock.count("initialize"), 0, "HTTP {status} must not lead to initialize");
        assert_eq!(upstreams.status()[0].era, None);
        bad.store(0, Ordering::SeqCst);
        call(&upstreams, &target, echo(&profile, json!({}))).await;
        assert_eq!(upstreams.status()[0].era, Some(Era::Modern), "HTTP {status} was stored as a verdict");
    }
}

#[tokio::test]
async fn p7_a_silent_server_is_no_evidence() {
    let mock = Mock::with(legacy, |seen| {
        (seen.method() == "server/discover").then(|| -> Replying { Box::pin(std::future::pending()) })
    })
    .await;
    let (upstreams, target) = (upstreams(), target(&mock.url("/mcp")));
    let failed = upstreams.call(&target, echo(&legacy_client(json!({})), json!({}))).await.err().unwrap();
    assert!(matches!(failed, UpstreamError::Timeout), "{failed}");
    assert_eq!(mock.count("initialize"), 0);
}

#[tokio::test]
async fn p7_the_challenge_of_a_401_is_kept() {
    let mock = Mock::new(|_| {
        let mut reply = empty(401);
        reply.headers_mut().insert("www-authenticate", "Bearer realm=\"x\", scope=\"a b\"".parse().unwrap());
        ready(reply)
    })
    .await;
    let failed = upstreams().call(&target(&mock.url("/mcp")), echo(&legacy_client(json!({})), json!({}))).await;
    let Err(UpstreamError::Auth { status: 401, challenge }) = failed.map(|_| ()) else { panic!("no 401") };
    assert_eq!(challenge.as_deref(), Some("Bearer realm=\"x\", scope=\"a b\""));
}

#[tokio::test]
async fn p7_unsupported_version_is_corrected_in_the_probe_and_in_calls() {
    // Refuses the first request of each method, whatever its version.
    let mock = Mock::with(modern, |seen| {
        let first = matches!(seen.number, 1 | 3);
        first.then(|| ready(error(400, seen, -32022, Some(json!({"supported": ["2026-07-28"], "requested": "x"})))))
    })
    .await;
    let (upstreams, target) = (upstreams(), target(&mock.url("/mcp")));
    call(&upstreams, &target, echo(&legacy_client(json!({})), json!({}))).await;
    assert_eq!((mock.count("server/discover"), mock.count("tools/call")), (2, 2));
}

#[tokio::test]
async fn p7_only_legacy_versions_supported_means_initialize() {
    let mock = Mock::with(legacy, |seen| {
        let data = json!({"supported": ["2025-11-25", "2025-06-18"], "requested": "2026-07-28"});
        (seen.method() == "server/discover").then(|| ready(error(400, seen, -32022, Some(data))))
    })
    .await;
    call(&upstreams(), &target(&mock.url("/mcp")), echo(&modern_client(json!({})), json!({}))).await;
    assert_eq!(mock.count("initialize"), 1);
}

#[tokio::test]
async fn p7_no_common_version_is_a_clear_error() {
    let mock =
        Mock::with(modern, |seen| Some(ready(error(400, seen, -32022, Some(json!({"supported": ["2031-01-01"]}))))))
            .await;
    let failed = upstreams().call(&target(&mock.url("/mcp")), echo(&modern_client(json!({})), json!({}))).await;
    assert!(matches!(failed.err(), Some(UpstreamError::Protocol { .. })));
    assert_eq!(mock.count("initialize"), 0);
}

#[tokio::test]
async fn p7_a_modern_verdict_makes_no_member_mandatory() {
    // Trap 7: discover is modern, all else comes from a legacy library.
    let mock = Mock::with(modern, |seen| match seen.method() {
        "server/discover" => {
            Some(ready(result(seen, json!({"capabilities": {"tools": {}}, "serverInfo": {"name": "odd"}}))))
        }
        "tools/list" => Some(ready(result(seen, json!({"tools": [{"name": "t", "inputSchema": {"type": "object"}}]})))),
        "tools/call" => Some(ready(result(seen, json!({"content": []})))),
        _ => None,
    })
    .await;
    let (upstreams, target) = (upstreams(), target(&mock.url("/mcp")));
    let profile = modern_client(json!({}));
    let list = upstreams.list(&target, bartizan_upstream::ListKind::Tools, &profile).await.unwrap();
    assert_eq!((list.items.len(), list.ttl_ms, list.private), (1, Some(0), true));
    assert_eq!(call(&upstreams, &target, echo(&profile, json!({}))).await["resultType"], "complete");
    let said = upstreams.discover(&target, &profile).await.unwrap();
    assert_eq!(said.server_info.as_ref().unwrap().as_str(), "{\"name\":\"odd\"}");
}

#[tokio::test]
async fn p7_a_legacy_verdict_is_checked_again_after_a_day() {
    let upgraded = Arc::new(AtomicUsize::new(0));
    let switch = Arc::clone(&upgraded);
    // A dual server after the upgrade: initialize still works, so only the probe tells.
    let mock = Mock::with(legacy, move |seen| {
        (switch.load(Ordering::SeqCst) == 1 && seen.header("mcp-session-id").is_none() && seen.method() != "initialize")
            .then(|| ready(modern(seen)))
    })
    .await;
    let clock = Arc::new(ManualClock::at(1_800_000_000_000));
    let upstreams = upstreams_with(limits(), Arc::clone(&clock) as _);
    let (target, profile) = (target(&mock.url("/mcp")), legacy_client(json!({})));
    call(&upstreams, &target, echo(&profile, json!({}))).await;
    upgraded.store(1, Ordering::SeqCst);
    clock.advance_ms(23 * 3_600_000);
    call(&upstreams, &target, echo(&profile, json!({}))).await;
    assert_eq!(upstreams.status()[0].era, Some(Era::Legacy));
    assert_eq!(mock.count("server/discover"), 1);
    clock.advance_ms(2 * 3_600_000);
    call(&upstreams, &target, echo(&profile, json!({}))).await;
    eventually(|| upstreams.status()[0].era == Some(Era::Modern)).await;
    call(&upstreams, &target, echo(&profile, json!({}))).await;
    assert!(mock.seen("tools/call").last().unwrap().header("mcp-session-id").is_none());
}

#[tokio::test]
async fn p7_a_downgraded_server_is_noticed() {
    let downgraded = Arc::new(AtomicUsize::new(0));
    let switch = Arc::clone(&downgraded);
    let mock = Mock::with(modern, move |seen| (switch.load(Ordering::SeqCst) == 1).then(|| ready(legacy(seen)))).await;
    let clock = Arc::new(ManualClock::at(1_800_000_000_000));
    let upstreams = upstreams_with(limits(), Arc::clone(&clock) as _);
    let (target, profile) = (target(&mock.url("/mcp")), legacy_client(json!({})));
    call(&upstreams, &target, echo(&profile, json!({}))).await;
    downgraded.store(1, Ordering::SeqCst);
    clock.advance_ms(120_000);
    let mut failed = upstreams.call(&target, echo(&profile, json!({}))).await.unwrap();
    assert!(matches!(finish(&mut failed).await.1, UpstreamReply::Error(_)));
    eventually(|| upstreams.status()[0].era.is_none()).await;
    call(&upstreams, &target, echo(&profile, json!({}))).await;
    assert_eq!(mock.count("initialize"), 1);
}

#[tokio::test]
async fn p7_batches_are_taken_from_a_2025_03_26_server() {
    let mock = Mock::with(legacy, |seen| match seen.method() {
        "initialize" => {
            let said = json!({"protocolVersion": "2025-03-26", "capabilities": {}, "serverInfo": {"name": "b", "version": "1"}});
            let mut reply = result(seen, said);
            reply.headers_mut().insert("mcp-session-id", "s".parse().unwrap());
            Some(ready(reply))
        }
        "tools/call" => Some(ready(json_reply(200, &json!([
            {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "x"}},
            {"jsonrpc": "2.0", "id": seen.id(), "result": {"content": []}},
        ])))),
        _ => None,
    })
    .await;
    let upstreams = upstreams();
    let mut call =
        upstreams.call(&target(&mock.url("/mcp")), echo(&legacy_client(json!({})), json!({}))).await.unwrap();
    let (notes, reply) = finish(&mut call).await;
    assert_eq!((notes.len(), value(reply)), (1, json!({"content": []})));
    assert_eq!(mock.seen("tools/call")[0].header("mcp-protocol-version"), None, "no such header at 2025-03-26");
}

#[tokio::test]
async fn p7_errors_are_translated() {
    let mock = Mock::with(modern, |seen| {
        (seen.method() == "resources/read").then(|| ready(error(200, seen, -32602, Some(json!({"uri": "x://y"})))))
    })
    .await;
    let upstreams = upstreams();
    let profile = legacy_client(json!({}));
    let mut call = upstreams
        .call(&target(&mock.url("/mcp")), request("resources/read", &profile, json!({"uri": "x://y"})))
        .await
        .unwrap();
    let UpstreamReply::Error(error) = finish(&mut call).await.1 else { panic!() };
    assert_eq!(error.code, -32002);
    let mock = Mock::with(legacy, |seen| {
        (seen.method() == "resources/read").then(|| ready(common::error(200, seen, -32002, None)))
    })
    .await;
    let profile = modern_client(json!({}));
    let mut call = upstreams
        .call(&target(&mock.url("/mcp")), request("resources/read", &profile, json!({"uri": "x://y"})))
        .await
        .unwrap();
    let UpstreamReply::Error(error) = finish(&mut call).await.1 else { panic!() };
    assert_eq!((error.code, error.data.unwrap().as_str()), (-32602, "{\"uri\":\"x://y\"}"));
}

#[tokio::test]
async fn p7_param_headers_follow_the_schema_and_are_refreshed_once() {
    let schema = json!({"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}});
    let listed = schema.clone();
    let mock = Mock::with(modern, move |seen| match seen.method() {
        "tools/list" => Some(ready(result(seen, json!({"tools": [{"name": "echo", "inputSchema": listed}]})))),
        "tools/call" if seen.header("mcp-param-region") != Some("eu") => Some(ready(error(400, seen, -32020, None))),
        _ => None,
    })
    .await;
    let (upstreams, target) = (upstreams(), target(&mock.url("/mcp")));
    for profile in [legacy_client(json!({})), modern_client(json!({}))] {
        let mut known = echo(&profile, json!({"region": "eu"}));
        known.input_schema = Some(raw(&schema));
        call(&upstreams, &target, known).await;
        assert_eq!(mock.count("tools/list"), 0);
    }
    // Without the schema the server refuses, the list is fetched and the call repeated.
    call(&upstreams, &target, echo(&legacy_client(json!({})), json!({"region": "eu"}))).await;
    assert_eq!((mock.count("tools/list"), mock.count("tools/call")), (1, 4));
}

#[tokio::test]
async fn p33_only_annotated_headers_go_on_and_say_what_the_body_says() {
    let schema = json!({"type": "object", "properties": {
        "region": {"type": "string", "x-mcp-header": "Region"},
        "n": {"type": "integer", "x-mcp-header": "N"},
        "absent": {"type": "string", "x-mcp-header": "Absent"},
        "plain": {"type": "string"},
    }});
    let bad = json!({"type": "object", "properties": {"region": {"type": "number", "x-mcp-header": "Region"}}});
    let mock = Mock::modern().await;
    let (upstreams, target) = (upstreams(), target(&mock.url("/mcp")));
    let profile = modern_client(json!({}));
    for (schema, want) in [(Some(schema), ["eu", "42"].map(Some)), (Some(bad), [None, None]), (None, [None, None])] {
        let mut smuggling = echo(&profile, json!({"region": "eu", "n": 42, "plain": "p"}));
        smuggling.input_schema = schema.as_ref().map(raw);
        smuggling.param_headers = [
            ("mcp-param-region", "us"),
            ("mcp-param-region", "eu"),
            ("mcp-param-n", "43"),
            ("mcp-param-absent", "here"),
            ("mcp-param-plain", "q"),
            ("mcp-param-tenant", "other"),
        ]
        .map(|(name, value)| (http::HeaderName::from_static(name), http::HeaderValue::from_static(value)))
        .into();
        call(&upstreams, &target, smuggling).await;
        let seen = mock.seen("tools/call").pop().unwrap();
        let all = |name| seen.headers.get_all(name).iter().count();
        assert_eq!(seen.header("mcp-param-region"), want[0], "{schema:?}");
        assert_eq!(seen.header("mcp-param-n"), want[1], "{schema:?}");
        assert!(all("mcp-param-region") <= 1 && all("mcp-param-n") <= 1);
        for name in ["mcp-param-absent", "mcp-param-plain", "mcp-param-tenant"] {
            assert_eq!(seen.header(name), None, "{schema:?}");
        }
    }
}

#[tokio::test]
async fn p4_credentials_reach_the_server_and_nothing_else_does() {
    for (credential, name, want) in
        [("tok", "authorization", "Bearer tok"), (r#"{"headers":{"X-Api-Key":"k1"}}"#, "x-api-key", "k1")]
    {
        let mock = Mock::legacy().await;
        let server = json!({"server_id": "m", "hostname": mock.url("/mcp"), "auth_type": "bearer", "auth_credentials": credential});
        call(&upstreams(), &target_of(server, "user:alice"), echo(&legacy_client(json!({})), json!({}))).await;
        for seen in mock.log() {
            assert_eq!(seen.header(name), Some(want), "{} {}", seen.http, seen.method());
        }
    }
    let mock = Mock::legacy().await;
    call(&upstreams(), &target(&mock.url("/mcp")), echo(&legacy_client(json!({})), json!({}))).await;
    assert!(mock.log().iter().all(|seen| seen.header("authorization").is_none()));
}

#[tokio::test]
async fn o9_unlisted_private_servers_are_blocked() {
    let mock = Mock::legacy().await;
    let url = mock.url("/mcp").replace("127.0.0.1", "127.0.0.2");
    let failed = upstreams().call(&target(&url), echo(&legacy_client(json!({})), json!({}))).await.err().unwrap();
    assert!(matches!(failed, UpstreamError::Blocked { .. }), "{failed}");
}
