//! Formats: escapes, fields, and lines that stay lines.

use bartizan_audit::IndexRow;
use bartizan_config::export::Format;
use serde_json::{Value, json};

use crate::event::Event;
use crate::format::write;

const HOSTILE: &str = "a|b=c\\d\r\ne\u{0}f\u{1b}[31m\u{85}\u{2028}\"'<script>&é😀";
const FORMATS: [Format; 4] = [Format::Native, Format::Ocsf, Format::Ecs, Format::Cef];

fn row(kind: &str, text: &str) -> IndexRow {
    let record = json!({
        "id": "019abc", "at_ms": 1_790_000_000_123_i64, "kind": kind, "method": text, "server": "github",
        "server_version": "v1", "portal": "default", "target": text, "class": "write", "outcome": "refused",
        "principal_kind": "user", "note": text, "total_us": 1_500, "request_bytes": 10, "response_bytes": 20,
        "trace_id": "0af7651916cd43dd8448eb211c80319c", "session": "s1", "who": "commitment",
        "verdict": {"allow": false, "code": "policy_denied", "rule": text, "stage": "authorize"},
    });
    let who = json!({"principal": format!("user:{text}"), "groups": [text, "g2"], "ip": "192.0.2.7",
                     "client": text, "client_version": "1.0", "country": "DE"});
    IndexRow {
        at_ms: 1_790_000_000_123,
        writer: "00112233445566aa".to_owned(),
        seq: 7,
        kind: kind.to_owned(),
        principal: None,
        portal: None,
        server: None,
        target: None,
        allow: false,
        code: None,
        id: "019abc".to_owned(),
        who: Some(who.to_string()),
        record: record.to_string(),
        outcome: "refused".to_owned(),
        total_us: 1_500,
    }
}

fn event(kind: &str, text: &str) -> Event {
    Event::new(&row(kind, text)).unwrap()
}

#[test]
fn l5_hostile_values_stay_one_line_in_every_format() {
    for format in FORMATS {
        for kind in ["call", "auth", "admin", "list", "token", "system", "call|x\n"] {
            let line = write(format, &event(kind, HOSTILE));
            assert!(!line.chars().any(|c| c.is_control() && c != '\u{85}'), "{format:?}: {line:?}");
            assert!(!line.contains('\n') && !line.contains('\r'), "{format:?}");
            if format != Format::Cef {
                let value: Value = serde_json::from_str(&line).unwrap();
                assert!(value.to_string().contains("<script>"), "nothing is lost");
            }
        }
    }
}

/// A reader of CEF, written from the standard: header fields by unescaped pipes, pairs by
/// unescaped equals signs.
fn read_cef(line: &str) -> (Vec<String>, Vec<(String, String)>) {
    let mut header = vec![String::new()];
    let mut chars = line.chars();
    while header.len() < 8 {
        match chars.next().expect("seven pipes") {
            '\\' => header.last_mut().unwrap().push(chars.next().unwrap()),
            '|' => header.push(String::new()),
            c => header.last_mut().unwrap().push(c),
        }
    }
    header.pop();
    let (mut pairs, mut text): (Vec<(String, String)>, String) = (Vec::new(), String::new());
    while let Some(c) = chars.next() {
        match c {
            '\\' => text.push(match chars.next().unwrap() {
                'n' => '\n',
                'r' => '\r',
                c => c,
            }),
            '=' => {
                // The name is the last word before the sign.
                let at = text.rfind(' ').map_or(0, |at| at + 1);
                let name = text.split_off(at);
                if let Some((_, value)) = pairs.last_mut() {
                    *value = text.trim_end().to_owned();
                }
                pairs.push((name, String::new()));
                text = String::new();
            }
            c => text.push(c),
        }
    }
    pairs.last_mut().unwrap().1 = text;
    (header, pairs)
}

#[test]
fn l5_cef_is_read_back_and_nothing_can_be_put_in() {
    let (header, pairs) = read_cef(&write(Format::Cef, &event("call", HOSTILE)));
    assert_eq!(header[..4], ["CEF:0", "bartizan", "bartizan", env!("CARGO_PKG_VERSION")]);
    assert_eq!(header[4], "call");
    assert_eq!(header[5], "a|b=c\\d  e f [31m  \"'<script>&é😀");
    assert_eq!(header[6], "5");
    let get = |name: &str| {
        let found: Vec<&str> = pairs.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect();
        assert_eq!(found.len(), 1, "{name} once: {pairs:?}");
        found[0].to_owned()
    };
    assert_eq!(get("externalId"), "019abc");
    assert_eq!(get("rt"), "1790000000123");
    assert_eq!(get("suser"), "user:a|b=c\\d\r\ne f [31m  \"'<script>&é😀");
    assert_eq!((get("act"), get("reason"), get("src")), ("refused".into(), "policy_denied".into(), "192.0.2.7".into()));
    assert_eq!((get("cn1"), get("cs5")), ("7".into(), "00112233445566aa".into()));
    // A name that looks like fields is only a value.
    let (_, pairs) = read_cef(&write(Format::Cef, &event("call", "x src=10.0.0.1 act=allowed")));
    assert_eq!(pairs.iter().filter(|(name, _)| name == "act" || name == "src").count(), 2, "{pairs:?}");
    let (header, _) = read_cef(&write(Format::Cef, &event("call", "x|10|forged")));
    assert_eq!((header[5].as_str(), header[6].as_str()), ("x|10|forged", "5"));
}

#[test]
fn l5_ocsf_has_the_members_its_classes_require() {
    let value: Value = serde_json::from_str(&write(Format::Ocsf, &event("call", "tools/call"))).unwrap();
    for name in [
        "class_uid",
        "category_uid",
        "activity_id",
        "type_uid",
        "time",
        "severity_id",
        "metadata",
        "actor",
        "api",
        "src_endpoint",
    ] {
        assert!(!value[name].is_null(), "{name}");
    }
    assert_eq!((value["class_uid"].as_u64(), value["type_uid"].as_u64()), (Some(6003), Some(600_303)));
    assert_eq!(value["time"], 1_790_000_000_123_i64);
    assert_eq!(value["metadata"]["uid"], "019abc");
    assert_eq!(value["metadata"]["version"], "1.3.0");
    assert_eq!(value["actor"]["user"]["name"], "user:tools/call");
    assert_eq!(value["api"]["service"]["name"], "github");
    assert_eq!((&value["status_id"], &value["status_code"]), (&json!(2), &json!("policy_denied")));
    assert_eq!(value["src_endpoint"]["location"]["country"], "DE");
    let value: Value = serde_json::from_str(&write(Format::Ocsf, &event("auth", "auth/sign_in"))).unwrap();
    assert_eq!((value["class_uid"].as_u64(), value["activity_id"].as_u64()), (Some(3002), Some(1)));
    assert!(value["user"]["name"].is_string() && value["actor"].is_null());
}

#[test]
fn l5_ecs_has_its_names() {
    let value: Value = serde_json::from_str(&write(Format::Ecs, &event("call", "tools/call"))).unwrap();
    assert_eq!(value["@timestamp"], "2026-09-21T14:13:20.123Z");
    assert_eq!(value["ecs"]["version"], "8.11.0");
    assert_eq!(value["event"]["id"], "019abc");
    assert_eq!(value["event"]["category"], json!(["api"]));
    assert_eq!(value["event"]["type"], json!(["access", "denied"]));
    assert_eq!((&value["event"]["outcome"], &value["event"]["duration"]), (&json!("failure"), &json!(1_500_000)));
    assert_eq!(value["source"]["geo"]["country_iso_code"], "DE");
    assert_eq!(value["user_agent"]["version"], "1.0");
    assert_eq!(value["trace"]["id"], "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(value["bartizan"]["verdict"]["code"], "policy_denied");
}

#[test]
fn l5_native_is_the_record_with_its_identity() {
    let value: Value = serde_json::from_str(&write(Format::Native, &event("call", "x"))).unwrap();
    assert_eq!(
        (&value["writer"], &value["seq"], &value["id"]),
        (&json!("00112233445566aa"), &json!(7), &json!("019abc"))
    );
    assert_eq!(value["who"]["principal"], "user:x");
    let mut erased = row("call", "x");
    erased.who = None;
    let erased = Event::new(&erased).unwrap();
    for format in FORMATS {
        assert!(!write(format, &erased).contains("user:x"), "{format:?}");
        assert!(!write(format, &erased).contains("commitment"), "{format:?}");
    }
}

#[test]
fn l5_what_is_no_record_is_no_event() {
    let mut broken = row("call", "x");
    for text in ["", "[]", "{", "null", "7"] {
        broken.record = text.to_owned();
        assert_eq!(Event::new(&broken), None);
    }
}
