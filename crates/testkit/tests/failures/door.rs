//! What clients do wrong: refused before there is a call, so nothing is forwarded and no call is recorded.

use http::Method;
use serde_json::json;

use super::shot::{Client, Shot};
use super::{Case, Stage, Want};

const TOOL: &str = "good_test_simple_text";

fn case(name: &str, era: &str, shot: Shot, want: Want) -> Case {
    Case { name: format!("{name} ({era})"), shot, want }
}

pub(crate) fn cases(stage: &Stage) -> Vec<Case> {
    let mut all = Vec::new();
    for (era, client) in stage.clients() {
        all.extend(bodies(era, &client));
        all.extend(headers(stage, era, &client));
        all.extend(credentials(stage, era, &client));
    }
    all.extend(modern(&stage.modern()));
    all.extend(sessions(stage));
    all
}

fn bodies(era: &str, client: &Client) -> Vec<Case> {
    let good = || client.tool(TOOL, json!({}));
    let nested = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let rows = [
        ("empty body", good().body(""), Want::door(400, -32700)),
        ("body that is no JSON", good().body("{oops"), Want::door(400, -32700)),
        ("half a body", good().body(r#"{"jsonrpc":"2.0","id":7,"#), Want::door(400, -32700)),
        ("two documents", good().body("{}{}"), Want::door(400, -32700)),
        ("invalid UTF-8", good().body(b"{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"\xff\"}"), Want::door(400, -32700)),
        ("a number", good().body("42"), Want::door(400, -32600)),
        ("no jsonrpc", good().replace(r#""jsonrpc":"2.0","#, ""), Want::door(400, -32600)),
        ("jsonrpc 1.0", good().replace(r#""2.0""#, r#""1.0""#), Want::door(400, -32600)),
        ("method is a number", good().replace(r#""tools/call""#, "5"), Want::door(400, -32600)),
        ("id is an object", good().replace(r#""id":7"#, r#""id":{}"#), Want::door(400, -32600)),
        ("id twice", good().replace(r#""id":7"#, r#""id":7,"id":8"#), Want::door(400, -32600)),
        ("too deep", good().replace(r#""arguments":{}"#, &format!(r#""arguments":{nested}"#)), Want::door(400, -32600)),
        (
            "arguments twice",
            good().replace(r#""arguments":{}"#, r#""arguments":{},"arguments":{}"#),
            Want::door(400, -32600),
        ),
        (
            "params is a list",
            good().body(r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":[]}"#),
            Want::door(400, -32602),
        ),
        ("over 4 MiB", client.tool(TOOL, json!({"x": "x".repeat(4 << 20)})), Want::door(413, 413).code("too_large")),
    ];
    rows.into_iter().map(|(name, shot, want)| case(name, era, shot, want)).collect()
}

fn headers(stage: &Stage, era: &str, client: &Client) -> Vec<Case> {
    let good = || client.tool(TOOL, json!({}));
    let base = stage.product.base();
    let rows = [
        ("text/plain", good().header("content-type", "text/plain"), Want::door(415, 415)),
        ("no content type", good().without("content-type"), Want::door(415, 415)),
        ("compressed body", good().more("content-encoding", "gzip"), Want::door(415, 415)),
        ("accepts HTML only", good().header("accept", "text/html"), Want::door(406, 406)),
        ("forged Host", good().header("host", "evil.example.com"), Want::door(403, 403)),
        ("foreign Origin", good().header("origin", "http://evil.example.com"), Want::door(403, 403)),
        ("PUT", good().verb(Method::PUT), Want::door(405, 405).header("allow", "POST")),
        ("unknown path", good().url(format!("{base}/servers/no%20id/mcp")), Want::door(404, 404)),
        ("unknown portal", good().url(stage.product.portal_url("nothing")), Want::door(404, 404)),
        ("unknown server", good().url(stage.product.server_url("nothing")), Want::door(404, 404)),
    ];
    rows.into_iter().map(|(name, shot, want)| case(name, era, shot, want)).collect()
}

fn credentials(stage: &Stage, era: &str, client: &Client) -> Vec<Case> {
    let good = || client.tool(TOOL, json!({}));
    let mut changed = stage.product.token("agent").to_owned();
    let last = if changed.pop() == Some('A') { 'B' } else { 'A' };
    changed.push(last);
    let token = |text: &str| good().header("authorization", text);
    let none = || Want::door(401, 401).code("unauthenticated").header("www-authenticate", "Bearer resource_metadata=");
    let bad = || none().header("www-authenticate", "error=\"invalid_token\"");
    let rows = [
        ("no token", good().without("authorization"), none()),
        ("a token of nobody", token(&format!("Bearer {changed}")), bad()),
        ("no token after Bearer", token("Bearer "), bad()),
        ("a password", token("Basic YTpi"), bad()),
        ("an unsigned token", token("Bearer eyJhbGciOiJub25lIn0.e30."), bad()),
        ("two tokens", good().more("authorization", "Bearer x"), bad()),
    ];
    rows.into_iter().map(|(name, shot, want)| case(name, era, shot, want)).collect()
}

fn modern(client: &Client) -> Vec<Case> {
    let good = || client.tool(TOOL, json!({}));
    let header = || Want::door(400, -32020);
    let asks = |method: &str| client.request(method, json!({}));
    let rows = [
        ("name of another tool in the header", good().header("mcp-name", "good_test_echo"), header()),
        ("no name in the headers", good().without("mcp-name"), header()),
        ("method of another request", good().header("mcp-method", "tools/list"), header()),
        ("no method in the headers", good().without("mcp-method"), header()),
        ("no version in the headers", good().without("mcp-protocol-version"), header()),
        ("broken base64", good().header("mcp-name", "=?base64?%%%?="), header()),
        (
            "a version nobody knows",
            good().header("mcp-protocol-version", "2099-01-01").replace("2026-07-28", "2099-01-01"),
            Want::door(400, -32022),
        ),
        (
            "no capabilities",
            good().replace(r#","io.modelcontextprotocol/clientCapabilities":{}"#, ""),
            Want::door(400, -32602),
        ),
        ("a method of the other era", asks("ping"), Want::door(404, -32601)),
        ("initialize", asks("initialize"), Want::door(404, -32601)),
        ("a method nobody knows", asks("no/such"), Want::error(404, -32601, "refused", None)),
        ("a batch", good().body("[]"), Want::door(400, -32600)),
    ];
    rows.into_iter().map(|(name, shot, want)| case(name, "modern", shot, want)).collect()
}

fn sessions(stage: &Stage) -> Vec<Case> {
    let client = stage.legacy();
    let good = || client.tool(TOOL, json!({}));
    let session = |id: &str| good().header("mcp-session-id", id);
    let other = format!("Bearer {}", stage.product.token("other"));
    let rows = [
        ("no session", good().without("mcp-session-id"), Want::door(400, -32600)),
        ("unknown session", session("00000000-0000-0000-0000-000000000000"), Want::door(404, -32600)),
        ("a session that cannot be one", session("../../etc/passwd"), Want::door(404, -32600)),
        ("a session of another", good().header("authorization", &other), Want::door(404, -32600)),
        ("a session of another endpoint", good().url(stage.product.server_url("good")), Want::door(404, -32600)),
        ("a version nobody knows", good().header("mcp-protocol-version", "nonsense"), Want::door(400, -32600)),
        ("a batch in a later revision", good().body("[]"), Want::door(400, -32600)),
        ("a method nobody knows", client.request("no/such", json!({})), Want::error(200, -32601, "refused", None)),
        ("initialize without a version", client.request("initialize", json!({})), Want::door(200, -32602)),
        ("GET without a session", good().without("mcp-session-id").verb(Method::GET).body(""), Want::door(405, 405)),
        (
            "DELETE without a session",
            good().without("mcp-session-id").verb(Method::DELETE).body(""),
            Want::door(405, 405),
        ),
    ];
    rows.into_iter().map(|(name, shot, want)| case(name, "legacy", shot, want)).collect()
}
