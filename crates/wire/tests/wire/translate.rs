//! Params, results, errors and notifications between the eras (P7, P9, P10; protocol reference 5.2).

use bartizan_wire::translate::{
    Hop, Translated, capabilities_to_legacy, capabilities_to_modern, discover_to_initialize, error_to,
    initialize_params, initialize_to_discover, log_allowed, notification, notification_to_server, params, result_to,
};
use bartizan_wire::{ClientProfile, LogLevel, RawJson, Revision, RpcError};
use proptest::prelude::*;

use crate::support::{client, object, raw, same};

const LEGACY: Revision = Revision::V2025_11_25;
const MODERN: Revision = Revision::V2026_07_28;

fn to_legacy_client(method: &str, text: &str) -> RawJson {
    result_to(&Hop::new(&client(LEGACY, "{}"), MODERN), method, &raw(text))
}

fn to_modern_client(method: &str, text: &str) -> RawJson {
    let info = raw(r#"{"name":"s","version":"1.0"}"#);
    result_to(&Hop { server_info: Some(&info), ..Hop::new(&client(MODERN, "{}"), LEGACY) }, method, &raw(text))
}

#[test]
fn p7_params_of_a_legacy_client_for_a_modern_server() {
    let mut c = client(LEGACY, r#"{"roots":{"listChanged":true},"tasks":{},"x":1.0}"#);
    c.client_info = Some(raw(r#"{"name":"c","version":"1"}"#));
    let hop = Hop::new(&c, MODERN);
    same(
        &params(
            &hop,
            "tools/call",
            Some(&raw(r#"{"name":"t","task":{"ttl":1},"arguments":{"n":1.0},"_meta":{"progressToken":"p"}}"#)),
        )
        .expect("params"),
        r#"{"name":"t","arguments":{"n":1.0},"_meta":{"progressToken":"p","io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"roots":{},"x":1.0},"io.modelcontextprotocol/clientInfo":{"name":"c","version":"1"}}}"#,
    );
    let bare = r#"{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"roots":{},"x":1.0},"io.modelcontextprotocol/clientInfo":{"name":"c","version":"1"}}}"#;
    same(&params(&hop, "tools/list", None).expect("params"), bare);
    same(&params(&hop, "tools/list", Some(&raw("null"))).expect("params"), bare);
}

#[test]
fn p7_a_legacy_client_cannot_forge_modern_meta() {
    let c = client(LEGACY, "{}");
    let forged = raw(
        r#"{"_meta":{"io.modelcontextprotocol/clientCapabilities":{"sampling":{}},"io.modelcontextprotocol/clientInfo":{"name":"x"},"io.modelcontextprotocol/logLevel":"debug","io.modelcontextprotocol/protocolVersion":"x"}}"#,
    );
    same(
        &params(&Hop::new(&c, MODERN), "tools/list", Some(&forged)).expect("params"),
        r#"{"_meta":{"io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}"#,
    );
}

#[test]
fn p10_log_level_of_a_legacy_session_is_sent_per_request() {
    let level = |set: Option<LogLevel>, server: &str| {
        let mut c = client(LEGACY, "{}");
        c.log_level = set;
        let server = raw(server);
        let hop = Hop { capabilities: Some(&server), ..Hop::new(&c, MODERN) };
        let sent = params(&hop, "tools/call", None).expect("params");
        bartizan_wire::splice::get_path(&sent, &["_meta", "io.modelcontextprotocol/logLevel"])
            .map(|level| level.as_string().expect("text").into_owned())
    };
    assert_eq!(level(Some(LogLevel::Error), "{}").as_deref(), Some("error"));
    assert_eq!(level(None, r#"{"logging":{}}"#).as_deref(), Some("info"), "never set: the server would choose");
    assert_eq!(level(None, "{}"), None);
}

#[test]
fn p7_params_of_a_modern_client_for_a_legacy_server() {
    let c = client(MODERN, "{}");
    let hop = Hop::new(&c, LEGACY);
    let meta = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/clientInfo":{},"io.modelcontextprotocol/logLevel":"info""#;
    for (text, want) in [
        (format!(r#"{{"name":"t","_meta":{{{meta}}}}}"#), r#"{"name":"t"}"#),
        (
            format!(r#"{{"_meta":{{{meta},"progressToken":1.0,"x":2}},"name":"t"}}"#),
            r#"{"_meta":{"progressToken":1.0,"x":2},"name":"t"}"#,
        ),
        (
            format!(r#"{{"inputResponses":{{"a":{{}}}},"name":"t","requestState":"s","_meta":{{{meta}}}}}"#),
            r#"{"name":"t"}"#,
        ),
        (format!(r#"{{"name":"t","task":{{"ttl":5}},"_meta":{{{meta}}}}}"#), r#"{"name":"t"}"#),
        (r#"{"u":1.0}"#.to_owned(), r#"{"u":1.0}"#),
    ] {
        same(&params(&hop, "tools/call", Some(&raw(&text))).expect("params"), want);
    }
    assert_eq!(params(&hop, "tools/list", None), None);
}

#[test]
fn p30_same_era_is_byte_identical() {
    for (revision, upstream) in [(LEGACY, Revision::V2025_06_18), (Revision::V2024_11_05, LEGACY), (MODERN, MODERN)] {
        let c = client(revision, r#"{"sampling":{}}"#);
        let hop = Hop::new(&c, upstream);
        let p = raw(
            r#"{ "name":"t" , "_meta" : {"io.modelcontextprotocol/logLevel":"info"},"task":{},"requestState":"s"}"#,
        );
        assert_eq!(params(&hop, "tools/call", Some(&p)).as_ref(), Some(&p));
        let r = raw(
            r#"{ "resultType" : "complete","tools":[{"execution":{},"outputSchema":{"type":"array"}}],"ttlMs":1,"cacheScope":"public"}"#,
        );
        assert_eq!(result_to(&hop, "tools/list", &r), r);
        let e = RpcError::from_raw(&raw(r#"{"code":-32002,"message":"m","x":1.0}"#));
        let Translated::Error(out) = error_to(&hop, "resources/read", Some("u"), e.clone()) else { panic!("an error") };
        assert_eq!(out.to_raw(), e.to_raw());
        let n = raw(r#"{"progress":1.0 ,"_meta":{"io.modelcontextprotocol/subscriptionId":1}}"#);
        assert_eq!(notification(&hop, "notifications/progress", &n), Some(n));
    }
}

#[test]
fn p7_a_modern_server_that_forgets_modern_members() {
    // Reference 4.2, trap 7.
    let c = client(MODERN, "{}");
    let hop = Hop::new(&c, MODERN);
    same(
        &result_to(&hop, "tools/list", &raw(r#"{"tools":[]}"#)),
        r#"{"tools":[],"resultType":"complete","ttlMs":0,"cacheScope":"private"}"#,
    );
    same(
        &result_to(&hop, "tools/list", &raw(r#"{"tools":[],"ttlMs":5,"resultType":"complete"}"#)),
        r#"{"tools":[],"ttlMs":5,"resultType":"complete","cacheScope":"private"}"#,
    );
    same(&result_to(&hop, "tools/call", &raw(r#"{"content":[]}"#)), r#"{"content":[],"resultType":"complete"}"#);
    // Interim results carry no cache members.
    let interim = r#"{"resultType":"input_required","requestState":"s"}"#;
    same(&result_to(&hop, "resources/read", &raw(interim)), interim);
}

#[test]
fn p7_results_for_legacy_clients_lose_modern_members() {
    same(
        &to_legacy_client(
            "tools/call",
            r#"{"resultType":"complete","content":[],"x":1.0,"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s"}}}"#,
        ),
        r#"{"content":[],"x":1.0}"#,
    );
    same(
        &to_legacy_client(
            "resources/read",
            r#"{"contents":[],"ttlMs":1,"cacheScope":"public","_meta":{"k":1,"io.modelcontextprotocol/serverInfo":{}}}"#,
        ),
        r#"{"contents":[],"_meta":{"k":1}}"#,
    );
}

#[test]
fn p7_results_for_modern_clients_get_modern_members() {
    same(
        &to_modern_client("tools/call", r#"{"content":[],"x":1.0}"#),
        r#"{"content":[],"x":1.0,"resultType":"complete","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s","version":"1.0"}}}"#,
    );
    same(
        &to_modern_client("resources/read", r#"{"contents":[],"_meta":{"k":1.0}}"#),
        r#"{"contents":[],"_meta":{"k":1.0,"io.modelcontextprotocol/serverInfo":{"name":"s","version":"1.0"}},"resultType":"complete","ttlMs":0,"cacheScope":"private"}"#,
    );
    // A legacy server cannot pretend.
    let pretended =
        to_modern_client("tools/list", r#"{"resultType":"input_required","cacheScope":"public","ttlMs":9,"tools":[]}"#);
    for (key, want) in [("resultType", "\"complete\""), ("cacheScope", "\"private\""), ("ttlMs", "0")] {
        same(&pretended.get(key).expect(key), want);
    }
}

#[test]
fn p7_output_schemas_for_legacy_clients() {
    same(
        &to_legacy_client(
            "tools/list",
            r#"{"tools":[{"name":"a","outputSchema":{"type":"array"},"x":1.0},{"name":"b","outputSchema":{"type":"object","y":1.0}},{"name":"c","outputSchema":true},{"name":"d"},{"name":"e","outputSchema":{"type":["object","null"]}}],"nextCursor":"n"}"#,
        ),
        r#"{"tools":[{"name":"a","x":1.0},{"name":"b","outputSchema":{"type":"object","y":1.0}},{"name":"c"},{"name":"d"},{"name":"e"}],"nextCursor":"n"}"#,
    );
}

#[test]
fn p7_structured_content_for_legacy_clients() {
    for (text, want) in [
        (r#"{"content":[],"structuredContent":{"a":1.0}}"#, r#"{"content":[],"structuredContent":{"a":1.0}}"#),
        (r#"{"content":[],"structuredContent":[1.0, "x"]}"#, r#"{"content":[{"type":"text","text":"[1.0, \"x\"]"}]}"#),
        (r#"{"structuredContent":5}"#, r#"{"content":[{"type":"text","text":"5"}]}"#),
        (
            r#"{"content":[{"type":"image","data":""}],"structuredContent":null}"#,
            r#"{"content":[{"type":"image","data":""},{"type":"text","text":"null"}]}"#,
        ),
        (
            r#"{"content":[{"type":"text","text":"t"}],"structuredContent":"s"}"#,
            r#"{"content":[{"type":"text","text":"t"}]}"#,
        ),
    ] {
        same(&to_legacy_client("tools/call", text), want);
    }
}

#[test]
fn p7_core_tasks_are_hidden_from_modern_clients() {
    let got = to_modern_client(
        "tools/list",
        r#"{"tools":[{"name":"a","execution":{"taskSupport":"optional"},"n":1.0},{"name":"b","execution":{"taskSupport":"required"}},{"name":"c","execution":{"taskSupport":"forbidden"}},{"name":"d"}]}"#,
    );
    same(&got.get("tools").expect("tools"), r#"[{"name":"a","n":1.0},{"name":"c"},{"name":"d"}]"#);
}

#[test]
fn p7_capabilities_between_the_eras() {
    let legacy = raw(
        r#"{"roots":{"listChanged":true,"x":1},"sampling":{},"elicitation":{},"tasks":{"list":{}},"experimental":{"e":1.0},"extensions":{"io.modelcontextprotocol/tasks":{},"a/b":{}}}"#,
    );
    same(
        &capabilities_to_modern(&legacy),
        r#"{"roots":{"x":1},"sampling":{},"elicitation":{},"experimental":{"e":1.0},"extensions":{"a/b":{}}}"#,
    );
    same(&capabilities_to_modern(&raw(r#"{"roots":{"listChanged":true}}"#)), r#"{"roots":{}}"#);
    same(
        &capabilities_to_legacy(&raw(r#"{"sampling":{"tools":{}},"extensions":{"io.modelcontextprotocol/tasks":{}}}"#)),
        r#"{"sampling":{"tools":{}}}"#,
    );
}

#[test]
fn p7_discover_becomes_initialize() {
    let own = raw(r#"{"name":"bartizan","version":"0"}"#);
    same(
        &discover_to_initialize(
            &raw(
                r#"{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{"listChanged":true},"logging":{},"resources":{"subscribe":true},"x":1.0,"extensions":{"io.modelcontextprotocol/tasks":{},"a/b":{}}},"instructions":"i","ttlMs":1,"cacheScope":"public","y":2.0,"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s","version":"9"},"z":1}}"#,
            ),
            Revision::V2025_06_18,
            &own,
        ),
        r#"{"capabilities":{"tools":{"listChanged":true},"logging":{},"resources":{"subscribe":true},"x":1.0,"extensions":{"a/b":{}}},"instructions":"i","y":2.0,"_meta":{"z":1},"protocolVersion":"2025-06-18","serverInfo":{"name":"s","version":"9"}}"#,
    );
    // Nameless, or named in the body as a mock does.
    let nameless = discover_to_initialize(&raw(r#"{"supportedVersions":[]}"#), LEGACY, &own);
    same(
        &nameless,
        r#"{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"bartizan","version":"0"}}"#,
    );
    let body = discover_to_initialize(&raw(r#"{"capabilities":{},"serverInfo":{"name":"m"}}"#), LEGACY, &own);
    same(&body.get("serverInfo").expect("info"), r#"{"name":"m"}"#);
}

#[test]
fn p7_initialize_becomes_discover() {
    same(
        &initialize_to_discover(&raw(
            r#"{"protocolVersion":"2025-06-18","capabilities":{"tools":{},"tasks":{"list":{}},"x":1.0},"serverInfo":{"name":"s","version":"9","icons":[]},"instructions":"i","y":2.0}"#,
        )),
        r#"{"capabilities":{"tools":{},"x":1.0},"instructions":"i","y":2.0,"resultType":"complete","supportedVersions":["2026-07-28"],"ttlMs":0,"cacheScope":"private","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s","version":"9","icons":[]}}}"#,
    );
    same(
        &initialize_to_discover(&raw("{}")),
        r#"{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{},"ttlMs":0,"cacheScope":"private"}"#,
    );
}

#[test]
fn p7_initialize_params_for_either_client() {
    let own = raw(r#"{"name":"bartizan","version":"0"}"#);
    let modern = client(MODERN, r#"{"sampling":{},"extensions":{"io.modelcontextprotocol/tasks":{}}}"#);
    same(
        &initialize_params(&modern, LEGACY, &own),
        r#"{"protocolVersion":"2025-11-25","capabilities":{"sampling":{}},"clientInfo":{"name":"bartizan","version":"0"}}"#,
    );
    let mut legacy = client(LEGACY, r#"{"roots":{"listChanged":true},"tasks":{}}"#);
    legacy.client_info = Some(raw(r#"{"name":"c","version":"1.0"}"#));
    same(
        &initialize_params(&legacy, Revision::V2025_06_18, &own),
        r#"{"protocolVersion":"2025-06-18","capabilities":{"roots":{"listChanged":true},"tasks":{}},"clientInfo":{"name":"c","version":"1.0"}}"#,
    );
}

#[test]
fn p10_notifications_for_legacy_clients() {
    let c = client(LEGACY, "{}");
    let hop = Hop::new(&c, MODERN);
    let tagged = raw(r#"{"uri":"u","_meta":{"io.modelcontextprotocol/subscriptionId":7}}"#);
    same(&notification(&hop, "notifications/resources/updated", &tagged).expect("passes"), r#"{"uri":"u"}"#);
    for dropped in ["notifications/subscriptions/acknowledged", "notifications/tasks"] {
        assert_eq!(notification(&hop, dropped, &tagged), None, "{dropped}");
    }
    let vendor = raw(r#"{"n":1.0}"#);
    assert_eq!(notification(&hop, "notifications/vendor", &vendor), Some(vendor));
}

#[test]
fn p10_notifications_for_modern_clients() {
    let c = client(MODERN, "{}");
    let hop = Hop::new(&c, LEGACY);
    let p = raw(r#"{"progress":1.0}"#);
    for dropped in ["notifications/elicitation/complete", "notifications/tasks/status", "notifications/cancelled"] {
        assert_eq!(notification(&hop, dropped, &p), None, "{dropped}");
    }
    for passed in ["notifications/progress", "notifications/tools/list_changed", "notifications/vendor"] {
        assert_eq!(notification(&hop, passed, &p).as_ref(), Some(&p), "{passed}");
    }
}

#[test]
fn p10_log_messages_are_filtered_per_request() {
    let with = |revision, level| ClientProfile { log_level: level, ..client(revision, "{}") };
    let entry = |level: &str| raw(&format!(r#"{{"level":"{level}","data":1.0}}"#));
    for (profile, level, passes) in [
        (with(MODERN, None), "emergency", false),
        (with(MODERN, Some(LogLevel::Warning)), "warning", true),
        (with(MODERN, Some(LogLevel::Warning)), "info", false),
        (with(MODERN, Some(LogLevel::Debug)), "debug", true),
        (with(MODERN, Some(LogLevel::Notice)), "unknown", false),
        (with(LEGACY, None), "debug", true),
        (with(LEGACY, Some(LogLevel::Error)), "warning", false),
        (with(LEGACY, Some(LogLevel::Error)), "critical", true),
    ] {
        assert_eq!(log_allowed(&profile, &entry(level)), passes, "{profile:?} {level}");
        for upstream in [LEGACY, MODERN] {
            let hop = Hop::new(&profile, upstream);
            assert_eq!(notification(&hop, "notifications/message", &entry(level)).is_some(), passes);
        }
    }
}

#[test]
fn p10_client_notifications() {
    let (legacy, modern) = (client(LEGACY, "{}"), client(MODERN, "{}"));
    let to = |c: &ClientProfile, upstream, method: &str| {
        notification_to_server(&Hop::new(c, upstream), method, None).is_some()
    };
    for upstream in [LEGACY, MODERN] {
        assert!(!to(&legacy, upstream, "notifications/initialized"));
        assert!(!to(&legacy, upstream, "notifications/cancelled"));
        assert!(to(&legacy, upstream, "notifications/vendor"));
        assert!(to(&modern, upstream, "notifications/vendor"));
    }
    assert!(to(&legacy, LEGACY, "notifications/roots/list_changed"));
    assert!(!to(&legacy, MODERN, "notifications/roots/list_changed"));
}

proptest! {
    /// What one direction adds, the other takes away again, and nothing else.
    #[test]
    fn p30_params_and_results_survive_there_and_back(text in object(), meta in object(), method in prop::sample::select(vec!["tools/call", "resources/read", "prompts/get", "vendor/x"])) {
        let (legacy, modern) = (client(LEGACY, "{}"), client(MODERN, "{}"));
        let info = raw(r#"{"name":"s","version":"1"}"#);
        let plain = raw(&text);
        for given in [plain.clone(), bartizan_wire::splice::set(&plain, "_meta", &raw(&meta))] {
            let there = params(&Hop::new(&legacy, MODERN), method, Some(&given)).expect("params");
            // An empty `_meta` does not come back.
            let back = params(&Hop::new(&modern, LEGACY), method, Some(&there)).expect("params");
            let empty = given.get("_meta").is_some_and(|meta| bartizan_wire::splice::members(&meta).is_empty());
            if !empty {
                prop_assert_eq!(back.as_str(), given.as_str());
            }
            let hop = Hop { server_info: Some(&info), ..Hop::new(&modern, LEGACY) };
            let there = result_to(&hop, method, &given);
            let back = result_to(&Hop::new(&legacy, MODERN), method, &there);
            if !empty {
                prop_assert_eq!(back.as_str(), given.as_str());
            }
        }
    }
}
