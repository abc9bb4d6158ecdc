//! What servers do wrong, seen by clients of both eras at once, each with a server of its own.

use std::time::Duration;

use bartizan_testkit::faulty::{Fault, Faulty};
use bartizan_testkit::fixture::{Era, Fixture, Options};
use bartizan_testkit::product::{Config, http_server, stdio_server};
use bartizan_testkit::wait::until;
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{Case, Record, Stage, Want, check};

fn timeout() -> Want {
    Want::refused("unknown", "upstream_timeout")
}

fn unavailable() -> Want {
    Want::refused("unknown", "upstream_unavailable")
}

fn turned_away() -> Want {
    Want::refused("refused", "upstream_auth_failed")
}

/// The server's own words reach the client.
fn passed(code: i64) -> Want {
    Want::error(200, code, "rpc_error", None)
}

const FAILED: &str = r#"{"content":[{"type":"text","text":"no such page"}],"isError":true}"#;

fn faults() -> Vec<(&'static str, Fault, Want)> {
    let failed = Want { code: None, record: Record::Call("tool_error", None), ..unavailable() };
    let large = || Want::refused("unknown", "too_large");
    let metadata = "http://169.254.169.254/latest/meta-data".to_owned();
    vec![
        ("silence", Fault::Silence, timeout()),
        ("stalled body", Fault::Stall, timeout()),
        ("dripping body", Fault::Drip(100), timeout()),
        ("comments for ever", Fault::CommentsForever, timeout()),
        ("reset in the body", Fault::Reset, unavailable()),
        ("half a body", Fault::Truncate, unavailable()),
        ("stream without an answer", Fault::EmptyStream, unavailable()),
        ("500", Fault::Status(500), unavailable()),
        ("502", Fault::Status(502), unavailable()),
        ("503", Fault::Status(503), unavailable()),
        ("503 with a time", Fault::Later(503, 17), unavailable().retry()),
        ("429 with a time", Fault::Later(429, 17), unavailable().retry()),
        ("429", Fault::Status(429), unavailable()),
        ("400", Fault::Status(400), unavailable()),
        ("418", Fault::Status(418), unavailable()),
        ("204", Fault::Status(204), unavailable()),
        ("404: its session ended", Fault::Status(404), unavailable()),
        ("401 with a challenge", Fault::Challenge, turned_away()),
        ("401", Fault::Status(401), turned_away()),
        ("403", Fault::Status(403), turned_away()),
        ("answer to another question", Fault::WrongId, unavailable()),
        ("invalid JSON", Fault::Garbage, unavailable()),
        ("members twice", Fault::Duplicate, unavailable()),
        ("too deep", Fault::Deep(500), unavailable()),
        ("HTML", Fault::Html, unavailable()),
        ("too large", Fault::Huge(17 << 20), large()),
        ("redirect to metadata", Fault::Redirect(metadata), unavailable()),
        ("its own error", Fault::RpcError(-32603), passed(-32603)),
        ("its own error of its own range", Fault::RpcError(-32000), passed(-32000)),
        ("its tool failed", Fault::Result(FAILED.to_owned()), failed),
    ]
}

fn id(number: usize) -> String {
    format!("s{number:02}")
}

pub(crate) async fn run() {
    let faults = faults();
    let ping = ["ping_tool".to_owned()];
    let limits =
        json!({"connect_ms": 5_000, "list_ms": 10_000, "call_ms": 6_000, "call_max_ms": 9_000, "drain_wait_ms": 100});
    let mut config = Config::new().set("limits", limits);
    let mut servers = Vec::new();
    for number in 0..faults.len() {
        let server = Faulty::start().await.unwrap();
        config = config.server(http_server(&id(number), &server.url(), &ping));
        servers.push(server);
    }
    let (gone, often) = (Faulty::start().await.unwrap(), Faulty::start().await.unwrap());
    let mute = Faulty::start().await.unwrap();
    mute.fail("tools/list", Fault::Status(500));
    let forgetful = Fixture::start(Options::of(Era::Legacy)).await.unwrap();
    let argv = json!(["sh", "-c", MORTAL]);
    config = config
        .server(http_server("gone", &gone.url(), &ping))
        .server(http_server("mute", &mute.url(), &ping))
        .server(http_server("often", &often.url(), &ping))
        .server(http_server("forgetful", &forgetful.url(), &["test_simple_text".to_owned()]))
        .server(stdio_server("child", argv, &["act"]));
    let stage = Stage::new(config).await;
    let mut wrong: Vec<String> = Vec::new();
    // All at once: each has its own server, and waiting for time-outs is most of it.
    let all = faults.iter().enumerate().map(|(number, (name, fault, want))| {
        let (stage, server) = (&stage, &servers[number]);
        async move {
            let tool = format!("{}_ping_tool", id(number));
            let mut wrong = good(stage, &tool, json!({}), &format!("{name}: before")).await;
            server.fail("tools/call", fault.clone());
            let cases = both(stage, name, &tool, json!({}), want);
            wrong.extend(join_all(cases.iter().map(|case| check(&stage.product, case))).await.concat());
            server.heal();
            wrong.extend(good(stage, &tool, json!({}), &format!("{name}: after")).await);
            let sent = server.seen("tools/call");
            if sent != 2 + 2 + 2 {
                wrong.push(format!("{name}: {sent} calls were sent for 6"));
            }
            wrong
        }
    });
    wrong.extend(join_all(all).await.concat());
    wrong.extend(refused_connection(&stage, gone).await);
    wrong.extend(open_circuit(&stage, &often).await);
    wrong.extend(lost_session(&stage, &forgetful).await);
    wrong.extend(dead_child(&stage).await);
    wrong.extend(no_empty_list(&stage, &mute).await);
    wrong.extend(stage.works("all of them").await);
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

fn both(stage: &Stage, name: &str, tool: &str, arguments: Value, want: &Want) -> Vec<Case> {
    let case = |(era, client): (&str, super::Client)| Case {
        name: format!("{name} ({era})"),
        shot: client.tool(tool, arguments.clone()),
        want: want.clone(),
    };
    stage.clients().map(case).into()
}

/// A good call of a tool by clients of both eras.
async fn good(stage: &Stage, tool: &str, arguments: Value, what: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for (era, client) in stage.clients() {
        let seen = client.tool(tool, arguments.clone()).send(&stage.product.http).await.unwrap();
        if seen.status != 200 || seen.rpc().is_some() || seen.message["result"]["isError"] == true {
            wrong.push(format!("{what} ({era}): {}", seen.message));
        }
    }
    wrong
}

async fn sequence(stage: &Stage, cases: &[Case]) -> Vec<String> {
    let mut wrong = Vec::new();
    for case in cases {
        wrong.extend(check(&stage.product, case).await);
    }
    wrong
}

async fn refused_connection(stage: &Stage, server: Faulty) -> Vec<String> {
    let mut wrong = good(stage, "gone_ping_tool", json!({}), "refused connection: before").await;
    let port = server.port();
    drop(server);
    let dead = async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err();
    until("the port is closed", Duration::from_secs(10), dead).await.unwrap();
    wrong
        .extend(sequence(stage, &both(stage, "refused connection", "gone_ping_tool", json!({}), &unavailable())).await);
    let _again = Faulty::start_on(port).await.unwrap();
    wrong.extend(good(stage, "gone_ping_tool", json!({}), "refused connection: after").await);
    wrong
}

async fn open_circuit(stage: &Stage, server: &Faulty) -> Vec<String> {
    let mut wrong = good(stage, "often_ping_tool", json!({}), "open circuit: before").await;
    server.fail("tools/call", Fault::Status(500));
    for _ in 0..5 {
        let _failed = stage.modern().tool("often_ping_tool", json!({})).send(&stage.product.http).await;
    }
    let sent = server.seen("tools/call");
    let want = Want { record: Record::Call("refused", Some("upstream_unavailable")), ..unavailable() }.retry();
    wrong.extend(sequence(stage, &both(stage, "open circuit", "often_ping_tool", json!({}), &want)).await);
    if server.seen("tools/call") != sent {
        wrong.push("open circuit: a call was sent".to_owned());
    }
    wrong
}

/// The endpoint of a server whose list cannot be had says so.
async fn no_empty_list(stage: &Stage, server: &Faulty) -> Vec<String> {
    let client = stage.modern().at(&stage.product.server_url("mute"));
    let shot = client.request("tools/list", json!({}));
    let want = Want::door(200, -32603).code("upstream_unavailable");
    let case = Case { name: "the list of a failed server".to_owned(), shot: shot.clone(), want };
    let mut wrong = check(&stage.product, &case).await;
    server.heal();
    let back = async || {
        let seen = shot.send(&stage.product.http).await.unwrap();
        seen.message["result"]["tools"][0]["name"] == "ping_tool"
    };
    // That it failed is remembered for a moment.
    if until("the list is back", Duration::from_secs(40), back).await.is_err() {
        wrong.push("the list of a failed server: it does not come back".to_owned());
    }
    wrong
}

async fn lost_session(stage: &Stage, server: &Fixture) -> Vec<String> {
    let tool = "forgetful_test_simple_text";
    let mut wrong = good(stage, tool, json!({}), "lost session: before").await;
    // Each era has a session of its own upstream, and both are gone.
    server.forget_sessions();
    let before = server.stats().of("tool:test_simple_text");
    wrong.extend(sequence(stage, &both(stage, "lost session", tool, json!({}), &unavailable())).await);
    if server.stats().of("tool:test_simple_text") != before {
        wrong.push("lost session: a call was sent again".to_owned());
    }
    wrong.extend(good(stage, tool, json!({}), "lost session: after").await);
    wrong
}

/// A local server that dies when it is told to in a call.
const MORTAL: &str = r#"
answer() { printf '{"jsonrpc":"2.0","id":%s,%s}\n' "$id" "$1"; }
while read -r line; do
  id=$(printf '%s' "$line" | sed -n 's/.*"id":\([^,}]*\).*/\1/p')
  case "$line" in
    *'"initialize"'*) answer '"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"mortal","version":"1"}}' ;;
    *'"tools/list"'*) answer '"result":{"tools":[{"name":"act","inputSchema":{"type":"object"}}]}' ;;
    *'"tools/call"'*'"die"'*) exit 3 ;;
    *'"tools/call"'*) answer '"result":{"content":[{"type":"text","text":"alive"}]}' ;;
    *'"id"'*) answer '"error":{"code":-32601,"message":"Method not found"}' ;;
  esac
done
"#;

async fn dead_child(stage: &Stage) -> Vec<String> {
    let tool = "child_act";
    let mut wrong = good(stage, tool, json!({}), "dead child: before").await;
    for case in both(stage, "dead child", tool, json!({"die": true}), &unavailable()) {
        wrong.extend(check(&stage.product, &case).await);
        // A dead child is started again after a second, and then after longer.
        let back = async || good(stage, tool, json!({}), "").await.is_empty();
        if until("the child is back", Duration::from_secs(20), back).await.is_err() {
            wrong.push(format!("{}: it is not started again", case.name));
        }
    }
    wrong
}
