//! Who may do what, seen from outside: rows G3, G7, A11, A18, A20, A21, P6, P12, P41 and section 1.2.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use bartizan_testkit::client::{Identity, LegacyClient, ModernClient, Problem};
use bartizan_testkit::fixture::{Era, Fixture, Options};
use bartizan_testkit::product::{Config, Product, all_services, http_server};
use bartizan_testkit::tools::{self, Part};
use http::Method;
use serde_json::{Value, json};

fn ready(test: &str) -> bool {
    tools::ready(test, &[Part::Product])
}

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|name| (*name).to_owned()).collect()
}

async fn fixture() -> Fixture {
    Fixture::start(Options::of(Era::Both).recorded()).await.unwrap()
}

fn modern(product: &Product, token: &str) -> ModernClient {
    ModernClient::new(&product.url(), Identity::bearer(product.token(token)))
}

#[tokio::test(flavor = "multi_thread")]
async fn g3_only_reviewed_reads_and_granted_writes_are_listed_and_callable() {
    if !ready("g3_only_reviewed_reads_and_granted_writes_are_listed_and_callable") {
        return;
    }
    let fixture = fixture().await;
    let mut server = http_server("fx", &fixture.url(), &names(&["test_simple_text"]));
    // `test_delete_notes` says readOnlyHint:true; `test_echo` says nothing; `test_write_note` says false.
    server["classes"]["write"] = json!(["test_write_note"]);
    let grant = json!({"id": "w", "principals": ["service:writer"], "server": "fx", "classes": ["write"]});
    let config = Config::new().server(server).token("writer").with("grants", grant);
    let product = Product::serve(config).await.unwrap();
    let (agent, writer) = (modern(&product, "agent"), modern(&product, "writer"));
    let is = |names: &[String], name: &str| names.iter().any(|listed| listed == name);
    let (for_agent, for_writer) = (agent.tools().await.unwrap(), writer.tools().await.unwrap());
    for hidden in ["fx_test_delete_notes", "fx_test_echo", "fx_test_write_note"] {
        assert!(!is(&for_agent, hidden), "{hidden} is listed");
        assert_eq!(agent.call(hidden, json!({"text": "x"})).await.unwrap_err().code, -32602, "{hidden}");
    }
    assert!(is(&for_agent, "fx_test_simple_text") && is(&for_writer, "fx_test_simple_text"));
    assert!(is(&for_writer, "fx_test_write_note") && !is(&for_writer, "fx_test_echo"));
    let done = writer.call("fx_test_write_note", json!({"text": "kept"})).await.unwrap();
    assert_eq!(done.text(), "stored: kept");
    assert_eq!(fixture.stats().of("tool:test_write_note"), 1);
    assert_eq!(fixture.stats().of("tool:test_delete_notes"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn g3_an_expired_grant_is_void_and_a_running_one_expires() {
    if !ready("g3_an_expired_grant_is_void_and_a_running_one_expires") {
        return;
    }
    let fixture = fixture().await;
    let server = http_server("fx", &fixture.url(), &names(&["test_simple_text"]));
    let old = json!({
        "id": "old", "principals": ["everyone"], "server": "fx",
        "tools": ["test_write_note"], "expires": "2020-01-01T00:00:00Z",
    });
    let product = Product::serve(Config::new().server(server).with("grants", old)).await.unwrap();
    let agent = modern(&product, "agent");
    assert_eq!(agent.call("fx_test_write_note", json!({"text": "x"})).await.unwrap_err().code, -32602);
    assert_eq!(fixture.stats().of("tool:test_write_note"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn g3_show_ungranted_lists_and_refuses_with_a_reason() {
    if !ready("g3_show_ungranted_lists_and_refuses_with_a_reason") {
        return;
    }
    let fixture = fixture().await;
    let mut config = Config::new().server(http_server("fx", &fixture.url(), &names(&["test_simple_text"])));
    config.file["portals"][0]["show_ungranted"] = json!(true);
    let product = Product::serve(config).await.unwrap();
    let agent = modern(&product, "agent");
    assert!(agent.tools().await.unwrap().contains(&"fx_test_write_note".to_owned()));
    for done in [
        agent.call("fx_test_write_note", json!({"text": "x"})).await.unwrap(),
        LegacyClient::connect(&product.url(), Identity::bearer(product.token("agent")))
            .await
            .unwrap()
            .call("fx_test_write_note", json!({"text": "x"}))
            .await
            .unwrap(),
    ] {
        assert!(done.is_error());
        assert_eq!(done.decision()["code"], "write_not_granted", "{:#}", done.result);
        assert_eq!(done.decision()["event_id"].as_str().map(str::len), Some(36), "{:#}", done.result);
        assert_eq!(done.result["content"].as_array().map(Vec::len), Some(1));
    }
    assert_eq!(fixture.stats().of("tool:test_write_note"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn g7_public_and_private_servers_in_one_process() {
    if !ready("g7_public_and_private_servers_in_one_process") {
        return;
    }
    let fixture = fixture().await;
    let open = json!({
        "server_id": "open", "hostname": fixture.url(), "visibility": "public",
        "classes": {"read": ["test_simple_text"], "write": ["test_write_note"]},
    });
    let closed = http_server("closed", &fixture.url(), &names(&["test_simple_text"]));
    let product = Product::serve(Config::new().server(open).server(closed)).await.unwrap();
    let anonymous = |id: &str| ModernClient::new(&product.server_url(id), Identity::default());
    let done = anonymous("open").call("test_simple_text", json!({})).await.unwrap();
    assert_eq!(done.text(), "This is a simple text response for testing.");
    // Anonymous never writes.
    let problem = anonymous("open").call("test_write_note", json!({"text": "x"})).await;
    assert!(problem.is_err() || problem.unwrap().is_error());
    assert_eq!(fixture.stats().of("tool:test_write_note"), 0);
    let problem = anonymous("closed").call("test_simple_text", json!({})).await.unwrap_err();
    assert_eq!(problem.status, 401, "{problem}");
    let problem = ModernClient::new(&product.url(), Identity::default()).tools().await.unwrap_err();
    assert_eq!(problem.status, 401, "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a18_no_wrong_or_foreign_token_gets_401_with_a_challenge_and_no_cookie() {
    if !ready("a18_no_wrong_or_foreign_token_gets_401_with_a_challenge_and_no_cookie") {
        return;
    }
    let fixture = fixture().await;
    let server = http_server("fx", &fixture.url(), &names(&["test_simple_text"]));
    let product = Product::serve(Config::new().server(server)).await.unwrap();
    let good = product.token("agent").to_owned();
    let mut changed = good.clone();
    let last = if changed.pop() == Some('A') { 'B' } else { 'A' };
    changed.push(last);
    let bodies = [
        json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}}),
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}),
    ];
    let tokens =
        ["", "Bearer ", "Bearer x", "Basic YTpi", "Bearer eyJhbGciOiJub25lIn0.e30.", &format!("Bearer {changed}")];
    for body in &bodies {
        for token in tokens {
            let mut headers =
                vec![("content-type", "application/json"), ("accept", "application/json, text/event-stream")];
            if !token.is_empty() {
                headers.push(("authorization", token));
            }
            let reply = product.http.send(Method::POST, &product.url(), &headers, body.to_string()).await.unwrap();
            assert_eq!(reply.status, 401, "{token:?}");
            let challenge = reply.header("www-authenticate").unwrap_or_default().to_owned();
            assert!(challenge.starts_with("Bearer"), "{token:?}: {challenge:?}");
            assert!(reply.header("set-cookie").is_none() && reply.header("location").is_none(), "{token:?}");
        }
    }
    // In the query a token counts for nothing.
    let url = format!("{}?access_token={good}", product.url());
    let headers = [("content-type", "application/json"), ("accept", "application/json, text/event-stream")];
    let reply = product.http.send(Method::POST, &url, &headers, bodies[0].to_string()).await.unwrap();
    assert_eq!(reply.status, 401);
    assert_eq!(fixture.stats().of("initialize"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a18_the_inbound_token_never_goes_upstream_nor_into_any_file() {
    if !ready("a18_the_inbound_token_never_goes_upstream_nor_into_any_file") {
        return;
    }
    for era in [Era::Legacy, Era::Modern] {
        let fixture =
            Fixture::start(Options { bearer: Some("upstream-secret-7".to_owned()), ..Options::of(era).recorded() });
        let fixture = fixture.await.unwrap();
        let mut server = http_server("fx", &fixture.url(), &names(&["test_simple_text", "test_elicitation"]));
        server["auth_type"] = json!("bearer");
        server["auth_credentials"] = json!("upstream-secret-7");
        let product = Product::serve(Config::new().server(server)).await.unwrap();
        let token = product.token("agent").to_owned();
        let modern = modern(&product, "agent");
        let legacy = LegacyClient::connect(&product.url(), Identity::bearer(&token)).await.unwrap();
        let mut answers = Vec::new();
        for (name, args) in [("fx_test_simple_text", json!({})), ("fx_test_elicitation", json!({"message": "m"}))] {
            answers.push(modern.call(name, args.clone()).await.unwrap().result);
            answers.push(legacy.call(name, args).await.unwrap().result);
        }
        let recorded = fixture.stats().recorded();
        assert!(!recorded.is_empty());
        for request in &recorded {
            assert!(!request.contains(&token), "{era:?}: {request:?}");
            assert_eq!(request.header("authorization"), Some("Bearer upstream-secret-7"));
            assert!(request.header("cookie").is_none());
        }
        // Nor does the upstream's token reach the client, a log or a file.
        assert!(!json!(answers).to_string().contains("upstream-secret-7"));
        for secret in [token.as_str(), "upstream-secret-7"] {
            assert_eq!(product.leaks(secret).unwrap(), None, "{era:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p4_bearer_and_header_credentials_reach_the_server() {
    if !ready("p4_bearer_and_header_credentials_reach_the_server") {
        return;
    }
    let fixture = fixture().await;
    let mut headers = http_server("keyed", &fixture.url(), &names(&["test_simple_text"]));
    headers["auth_type"] = json!("bearer");
    headers["auth_credentials"] = json!(r#"{"headers":{"X-Api-Key":"k-1","X-Tenant":"blue"}}"#);
    let plain = http_server("plain", &fixture.url(), &names(&["test_simple_text"]));
    let product = Product::serve(Config::new().server(headers).server(plain)).await.unwrap();
    let agent = modern(&product, "agent");
    agent.call("keyed_test_simple_text", json!({})).await.unwrap();
    let keyed = fixture.stats().recorded();
    assert!(keyed.iter().all(|request| request.header("authorization").is_none()), "{keyed:?}");
    let calls: Vec<_> = keyed.iter().filter(|request| request.json()["method"] == "tools/call").collect();
    assert_eq!(calls.len(), 1);
    assert_eq!((calls[0].header("x-api-key"), calls[0].header("x-tenant")), (Some("k-1"), Some("blue")));
    fixture.stats().reset();
    agent.call("plain_test_simple_text", json!({})).await.unwrap();
    let plain = fixture.stats().recorded();
    assert!(plain.iter().all(|request| request.header("x-api-key").is_none()), "{plain:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn p4_header_injection_by_newline_is_refused() {
    if !ready("p4_header_injection_by_newline_is_refused") {
        return;
    }
    for credentials in
        ["good\r\nX-Evil: 1", r#"{"headers":{"X-Key":"a\nX-Evil: 1"}}"#, r#"{"headers":{"X-Ke\ny":"a"}}"#]
    {
        let fixture = fixture().await;
        let mut server = http_server("fx", &fixture.url(), &names(&["test_simple_text"]));
        server["auth_type"] = json!("bearer");
        server["auth_credentials"] = json!(credentials);
        if let Ok(product) = Product::serve(Config::new().server(server)).await {
            // Started: then the server must not be reached at all.
            let _listed = modern(&product, "agent").tools().await;
            assert_eq!(fixture.stats().recorded().len(), 0, "{credentials:?} was sent");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a11_a_bot_sees_only_servers_with_a_matching_policy() {
    if !ready("a11_a_bot_sees_only_servers_with_a_matching_policy") {
        return;
    }
    let fixture = fixture().await;
    let rule = |name: &str| json!([{"action": "service_auth", "include": [{"service_token": [name]}]}]);
    let mut first = http_server("first", &fixture.url(), &names(&["test_simple_text"]));
    first["policies"] = rule("one");
    let mut second = http_server("second", &fixture.url(), &names(&["test_simple_text"]));
    second["policies"] = rule("two");
    let config = Config::new().server(first).server(second).token("one").token("two");
    let product = Product::serve(config).await.unwrap();
    for (token, own, other) in [("one", "first", "second"), ("two", "second", "first")] {
        let client = modern(&product, token);
        let listed = client.tools().await.unwrap();
        assert!(listed.contains(&format!("{own}_test_simple_text")), "{token}: {listed:?}");
        assert!(!listed.iter().any(|name| name.starts_with(other)), "{token}: {listed:?}");
        assert!(client.call(&format!("{own}_test_simple_text"), json!({})).await.is_ok());
        let problem = client.call(&format!("{other}_test_simple_text"), json!({})).await.unwrap_err();
        assert_eq!(problem.code, -32602);
        // The other server's own endpoint does not reveal that it exists.
        let own_endpoint = ModernClient::new(&product.server_url(other), Identity::bearer(product.token(token)));
        let no_endpoint = ModernClient::new(&product.server_url("nowhere"), Identity::bearer(product.token(token)));
        let (one, two) = (own_endpoint.tools().await.unwrap_err(), no_endpoint.tools().await.unwrap_err());
        assert_eq!((one.status, one.code), (two.status, two.code));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a11_client_id_and_secret_headers_work_and_are_never_forwarded() {
    if !ready("a11_client_id_and_secret_headers_work_and_are_never_forwarded") {
        return;
    }
    let fixture = fixture().await;
    let server = http_server("fx", &fixture.url(), &names(&["test_simple_text"]));
    let product = Product::serve(Config::new().server(server)).await.unwrap();
    let made = product.command(&["token", "create", "bot", "--json"]).await.unwrap();
    let made: Value = serde_json::from_str(made.stdout.trim()).unwrap();
    let (Some(id), Some(secret)) = (made["client_id"].as_str(), made["client_secret"].as_str()) else {
        unreachable!("token create --json has no client_id and client_secret: {made}");
    };
    for (id_header, secret_header) in
        [("cf-access-client-id", "cf-access-client-secret"), ("bartizan-client-id", "bartizan-client-secret")]
    {
        let identity = |secret: &str| Identity {
            headers: vec![(id_header.to_owned(), id.to_owned()), (secret_header.to_owned(), secret.to_owned())],
            ..Identity::default()
        };
        let client = ModernClient::new(&product.url(), identity(secret));
        assert!(client.call("fx_test_simple_text", json!({})).await.is_ok(), "{id_header}");
        let wrong = ModernClient::new(&product.url(), identity("wrong")).tools().await.unwrap_err();
        assert_eq!(wrong.status, 401, "{id_header}");
    }
    assert!(fixture.stats().recorded().iter().all(|request| !request.contains(secret)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a20_a_rule_on_an_argument_refuses_only_those_calls() {
    if !ready("a20_a_rule_on_an_argument_refuses_only_those_calls") {
        return;
    }
    let fixture = fixture().await;
    let server = http_server("fx", &fixture.url(), &names(&["test_echo", "test_slow"]));
    let cedar = r#"forbid(principal, action == Action::"call_tool", resource)
        when { context.args has ms && context.args.ms > 1000 };"#;
    let policy = json!({"id": "not-too-slow", "description": "short waits only", "cedar": cedar});
    let product = Product::serve(Config::new().server(server).with("policies", policy)).await.unwrap();
    let agent = modern(&product, "agent");
    assert!(agent.tools().await.unwrap().contains(&"fx_test_slow".to_owned()));
    assert_eq!(agent.call("fx_test_slow", json!({"ms": 5})).await.unwrap().text(), "waited 5 ms");
    let refused = agent.call("fx_test_slow", json!({"ms": 1001})).await.unwrap();
    assert!(refused.is_error());
    assert_eq!(refused.decision()["code"], "policy_denied", "{:#}", refused.result);
    assert!(agent.call("fx_test_echo", json!({"value": 5})).await.is_ok());
    assert_eq!(fixture.stats().of("tool:test_slow"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a21_denied_and_unknown_tools_answer_the_same_bytes() {
    if !ready("a21_denied_and_unknown_tools_answer_the_same_bytes") {
        return;
    }
    let fixture = fixture().await;
    let mut server = http_server("fx", &fixture.url(), &names(&["test_simple_text", "test_echo"]));
    server["updated_tools"] = json!([{"name": "test_echo", "enabled": false}]);
    let product = Product::serve(Config::new().server(server)).await.unwrap();
    let identity = Identity::bearer(product.token("agent"));
    let legacy = LegacyClient::connect(&product.url(), identity.clone()).await.unwrap();
    let modern = ModernClient::new(&product.url(), identity);
    // Unreviewed, switched off, of no server, of no tool: all the same.
    let candidates = ["fx_test_write_note", "fx_test_echo", "zz_test_simple_text", "fx_test_nothing"];
    let mut seen: Vec<(String, Problem, Problem)> = Vec::new();
    for name in candidates {
        let one = legacy.call(name, json!({})).await.unwrap_err();
        let two = modern.call(name, json!({})).await.unwrap_err();
        seen.push((name.to_owned(), one, two));
    }
    let plain = |problem: &Problem, name: &str| {
        let text = format!("{problem}").replace(name, "NAME");
        // Event ids differ by nature.
        let is_id = |word: &str| word.len() == 36 && word.matches('-').count() == 4;
        text.split(['"', ' ']).filter(|word| !is_id(word)).collect::<Vec<_>>().join(" ")
    };
    let (first, ..) = &seen[0];
    for (name, one, two) in &seen {
        assert_eq!((one.status, one.code), (200, -32602), "{name}");
        assert!(one.message.contains(&format!("Unknown tool: {name}")), "{one}");
        assert_eq!(plain(one, name), plain(&seen[0].1, first), "{name}");
        assert_eq!(plain(two, name), plain(&seen[0].2, first), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_original_names_and_uris_and_a_policy_deny_still_works() {
    if !ready("p6_original_names_and_uris_and_a_policy_deny_still_works") {
        return;
    }
    let fixture = fixture().await;
    let server = http_server("fx", &fixture.url(), &names(&["test_simple_text"]));
    let product = Product::serve(Config::new().server(server)).await.unwrap();
    let client = ModernClient::new(&product.server_url("fx"), Identity::bearer(product.token("agent")));
    assert_eq!(client.tools().await.unwrap(), ["test_simple_text"]);
    let read = client.request("resources/read", json!({"uri": "test://static-text"})).await.unwrap();
    assert_eq!(read.result["contents"][0]["uri"], "test://static-text");
    assert_eq!(client.call("test_write_note", json!({"text": "x"})).await.unwrap_err().code, -32602);
    assert_eq!(fixture.stats().of("tool:test_write_note"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn p12_names_that_look_alike_reach_the_right_server() {
    if !ready("p12_names_that_look_alike_reach_the_right_server") {
        return;
    }
    let (one, two) = (fixture().await, fixture().await);
    let config = Config::new().server(http_server("test", &one.url(), &names(&["test_echo"]))).server(http_server(
        "test_test",
        &two.url(),
        &names(&["test_echo"]),
    ));
    let product = Product::serve(config).await.unwrap();
    let agent = modern(&product, "agent");
    let listed = agent.tools().await.unwrap();
    for (name, reached, other) in [("test_test_echo", &one, &two), ("test_test_test_echo", &two, &one)] {
        assert!(listed.contains(&name.to_owned()), "{listed:?}");
        one.stats().reset();
        two.stats().reset();
        agent.call(name, json!({"value": name})).await.unwrap();
        assert_eq!((reached.stats().of("tool:test_echo"), other.stats().of("tool:test_echo")), (1, 0), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p41_a_hidden_tool_is_refused_and_recorded_and_new_ones_stay_hidden() {
    if !ready("p41_a_hidden_tool_is_refused_and_recorded_and_new_ones_stay_hidden") {
        return;
    }
    let fixture = fixture().await;
    let mut server = http_server("fx", &fixture.url(), &names(&["test_simple_text", "test_echo", "test_dynamic_tool"]));
    server["default_disabled"] = json!(true);
    server["updated_tools"] = json!([{"name": "test_simple_text", "enabled": true}]);
    let product = Product::serve(Config::new().server(server)).await.unwrap();
    let agent = modern(&product, "agent");
    let own = async || {
        let listed = agent.tools().await.unwrap();
        listed.into_iter().filter(|name| name.starts_with("fx_")).collect::<Vec<_>>()
    };
    assert_eq!(own().await, ["fx_test_simple_text"]);
    assert_eq!(agent.call("fx_test_echo", json!({})).await.unwrap_err().code, -32602);
    fixture.change_tools();
    assert_eq!(own().await, ["fx_test_simple_text"], "the new tool showed up by itself");
    assert_eq!(agent.call("fx_test_dynamic_tool", json!({})).await.unwrap_err().code, -32602);
    let refused = product.audit().unwrap().into_iter().any(|record| {
        let text = record.to_string();
        text.contains("test_echo") && text.contains("\"allow\":false")
    });
    assert!(refused, "no record of the refusal");
}

#[tokio::test(flavor = "multi_thread")]
async fn p14_portal_list_servers_in_both_eras() {
    if !ready("p14_portal_list_servers_in_both_eras") {
        return;
    }
    let fixture = fixture().await;
    let mut off = http_server("off", &fixture.url(), &names(&["test_simple_text"]));
    off["status"] = json!("disabled");
    let mut foreign = http_server("foreign", &fixture.url(), &names(&["test_simple_text"]));
    foreign["policies"] = json!([{"action": "service_auth", "include": [{"service_token": ["somebody-else"]}]}]);
    let config = Config::new()
        .server(http_server("fx", &fixture.url(), &names(&["test_simple_text"])))
        .server(off)
        .server(foreign);
    let product = Product::serve(config).await.unwrap();
    let identity = Identity::bearer(product.token("agent"));
    let legacy = LegacyClient::connect(&product.url(), identity.clone()).await.unwrap();
    let modern = ModernClient::new(&product.url(), identity);
    for done in [
        legacy.call("portal_list_servers", json!({})).await.unwrap(),
        modern.call("portal_list_servers", json!({})).await.unwrap(),
    ] {
        let said = done.text() + &done.result["structuredContent"].to_string();
        assert!(said.contains("fx"), "{said}");
        assert!(!said.contains("foreign"), "a server of somebody else is shown: {said}");
    }
    assert!(modern.tools().await.unwrap().contains(&"portal_list_servers".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn p28_an_unlisted_private_upstream_is_refused() {
    if !ready("p28_an_unlisted_private_upstream_is_refused") {
        return;
    }
    let fixture = fixture().await;
    let server = http_server("fx", &fixture.url(), &names(&["test_simple_text"]));
    let config = Config::new().server(server).set("egress", json!({"private_allow": []}));
    let product = Product::serve(config).await.unwrap();
    let agent = modern(&product, "agent");
    let listed = agent.tools().await.unwrap();
    assert!(!listed.iter().any(|name| name.starts_with("fx_")), "{listed:?}");
    assert!(agent.call("fx_test_simple_text", json!({})).await.is_err());
    assert_eq!(fixture.stats().recorded().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a21_another_portal_is_401_without_and_404_without_access() {
    if !ready("a21_another_portal_is_401_without_and_404_without_access") {
        return;
    }
    let fixture = fixture().await;
    let nobody = json!([{"action": "service_auth", "include": [{"service_token": ["somebody-else"]}]}]);
    let config = Config::new()
        .server(http_server("fx", &fixture.url(), &names(&["test_simple_text"])))
        .with("portals", json!({"id": "closed", "policies": nobody}))
        .with("portals", json!({"id": "open", "policies": all_services()}));
    let product = Product::serve(config).await.unwrap();
    let at = |id: &str, identity: Identity| ModernClient::new(&product.portal_url(id), identity);
    let agent = Identity::bearer(product.token("agent"));
    assert!(at("open", agent.clone()).tools().await.is_ok());
    let closed = at("closed", agent.clone()).tools().await.unwrap_err();
    let unknown = at("unknown", agent).tools().await.unwrap_err();
    assert_eq!((closed.status, closed.code), (unknown.status, unknown.code), "{closed} / {unknown}");
    for id in ["open", "closed", "unknown"] {
        assert_eq!(at(id, Identity::default()).tools().await.unwrap_err().status, 401, "{id}");
    }
}
