//! What a caller with a good token may not do.

use bartizan_testkit::fixture::{Era, Fixture, Options};
use bartizan_testkit::product::{Config, http_server};
use serde_json::json;

use super::shot::Client;
use super::{Case, Stage, Want};

/// Servers with everything that can be refused, all before one fixture.
pub(crate) async fn config() -> (Config, Fixture) {
    let fixture = Fixture::start(Options::of(Era::Both)).await.unwrap();
    let read = ["test_simple_text", "test_slow", "test_header_echo"].map(str::to_owned);
    let mut mixed = http_server("mixed", &fixture.url(), &read);
    mixed["updated_tools"] = json!([{"name": "test_simple_text", "enabled": false}]);
    let mut killed = http_server("killed", &fixture.url(), &read);
    killed["status"] = json!("killed");
    let mut theirs = http_server("theirs", &fixture.url(), &read);
    theirs["policies"] = json!([{"action": "service_auth", "include": [{"service_token": ["other"]}]}]);
    let few = http_server("few", &fixture.url(), &read);
    let forbid = r#"forbid(principal, action == Action::"call_tool", resource)
        when { context.args has ms && context.args.ms > 10 };"#;
    let config = Config::new()
        .server(mixed)
        .server(killed)
        .server(theirs)
        .server(few)
        .with("policies", json!({"id": "short", "cedar": forbid}))
        .with("rate_limits", json!({"id": "one", "per": ["user"], "server": "few", "per_minute": 1}));
    (config, fixture)
}

/// Makes the one call that the limit allows.
pub(crate) async fn use_up(stage: &Stage) {
    let seen = stage.modern().tool("few_test_simple_text", json!({})).send(&stage.product.http).await.unwrap();
    assert_eq!((seen.status, seen.rpc(), seen.code()), (200, None, None), "{}", seen.message);
}

pub(crate) fn cases(stage: &Stage) -> Vec<Case> {
    let mut all = Vec::new();
    for (era, client) in stage.clients() {
        all.extend(of(era, &client));
    }
    let modern = stage.modern();
    let spoiled = modern.tool("mixed_test_header_echo", json!({"region": "eu"}));
    let name = |what: &str| format!("{what} (modern)");
    all.push(Case {
        name: name("a header that is not the argument"),
        shot: spoiled.more("mcp-param-region", "us"),
        want: Want::error(400, -32020, "refused", None),
    });
    // As if it did not exist.
    let elsewhere = modern.at(&stage.product.server_url("theirs")).tool("test_simple_text", json!({}));
    all.push(Case { name: name("the endpoint of a server of others"), shot: elsewhere, want: Want::door(404, 404) });
    all
}

fn of(era: &str, client: &Client) -> Vec<Case> {
    let missing = if era == "modern" { -32602 } else { -32002 };
    let flood = Want::error(429, 429, "refused", Some("rate_limited")).code("rate_limited").retry();
    let hidden = |code| Want::error(200, -32602, "refused", code);
    let rows = [
        ("an unknown tool", client.tool("good_nothing", json!({})), hidden(None)),
        ("a tool of no server", client.tool("nothing", json!({})), hidden(None)),
        (
            "a write without a grant",
            client.tool("mixed_test_write_note", json!({"text": "x"})),
            hidden(Some("write_not_granted")),
        ),
        ("a tool that is off", client.tool("mixed_test_simple_text", json!({})), hidden(None)),
        ("a tool of a killed server", client.tool("killed_test_simple_text", json!({})), hidden(Some("killed"))),
        (
            "a tool of a server of others",
            client.tool("theirs_test_simple_text", json!({})),
            hidden(Some("policy_denied")),
        ),
        (
            "an argument that policy forbids",
            client.tool("mixed_test_slow", json!({"ms": 11})),
            Want::refused("refused", "policy_denied"),
        ),
        (
            "one call too many",
            client.tool("few_test_simple_text", json!({})),
            Want::refused("refused", "rate_limited").retry(),
        ),
        ("one prompt too many", client.request("prompts/get", json!({"name": "few_test_simple_prompt"})), flood),
        (
            "an unknown resource",
            client.request("resources/read", json!({"uri": "test://nothing"})),
            Want::error(200, missing, "refused", None),
        ),
        ("an unknown prompt", client.request("prompts/get", json!({"name": "good_nothing"})), hidden(None)),
    ];
    rows.into_iter().map(|(name, shot, want)| Case { name: format!("{name} ({era})"), shot, want }).collect()
}
