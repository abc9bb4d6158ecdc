//! What clients declare (P9).

use bartizan_wire::ask::{self, Ask, keys_for};
use bartizan_wire::{ClientProfile, Era, LogLevel, RequestId, Revision, codes};

use crate::support::{client, params, raw};

#[test]
fn p9_declared_capabilities() {
    let c = client(
        Revision::V2025_11_25,
        r#"{"roots":{"listChanged":true},"sampling":{"tools":{}},"elicitation":{},"off":false,"none":null,"extensions":{"a.b/c":{}}}"#,
    );
    for path in ["roots", "roots.listChanged", "sampling", "sampling.tools", "elicitation", "elicitation.form"] {
        assert!(c.declares(path), "{path}");
    }
    for path in ["sampling.context", "elicitation.url", "off", "none", "tasks", "", "roots.x.y"] {
        assert!(!c.declares(path), "{path}");
    }
    assert!(c.declares_path(&["extensions", "a.b/c"]));
    let url_only = client(Revision::V2026_07_28, r#"{"elicitation":{"url":{}}}"#);
    assert!(url_only.declares("elicitation.url") && !url_only.declares("elicitation.form"));
    let both = client(Revision::V2026_07_28, r#"{"elicitation":{"form":{},"url":{}}}"#);
    assert!(both.declares("elicitation.url") && both.declares("elicitation.form"));
    assert!(!client(Revision::V2026_07_28, "{}").declares("elicitation.form"));
    assert!(!client(Revision::V2026_07_28, r#"{"elicitation":null}"#).declares("elicitation.form"));
}

#[test]
fn p9_capability_digest_is_of_the_value() {
    let digest = |text| client(Revision::V2025_11_25, text).capability_digest();
    assert_eq!(digest("{}"), "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a");
    assert_eq!(digest(r#"{"a":{},"b":1.0}"#), digest(" {\"b\":1, \"\\u0061\":{}}"));
    assert_ne!(digest(r#"{"sampling":{}}"#), digest(r#"{"roots":{}}"#));
}

#[test]
fn p7_profile_of_a_modern_request() {
    let p = params(
        r#"{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/logLevel":"warning",
        "io.modelcontextprotocol/clientCapabilities":{"sampling":{}},"io.modelcontextprotocol/clientInfo":{"name":"c","version":"1"}}}"#,
    );
    let profile = ClientProfile::modern(Revision::V2026_07_28, p.meta.as_ref().expect("meta")).expect("profile");
    assert_eq!(
        (profile.era, profile.log_level, &*profile.version),
        (Era::Modern, Some(LogLevel::Warning), "2026-07-28")
    );
    assert_eq!(profile.client_name(), (Some("c".into()), Some("1".into())));
    for (bad, what) in [
        (r#"{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}"#, "capabilities are required"),
        (
            r#"{"_meta":{"io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/logLevel":"loud"}}"#,
            "unknown level",
        ),
    ] {
        let meta = params(bad).meta.expect("meta");
        let error = ClientProfile::modern(Revision::V2026_07_28, &meta).expect_err(what);
        assert_eq!(error.code, codes::INVALID_PARAMS, "{what}");
    }
    // Client info is optional: such a request must be served.
    let meta = params(r#"{"_meta":{"io.modelcontextprotocol/clientCapabilities":{}}}"#).meta.expect("meta");
    assert!(ClientProfile::modern(Revision::V2026_07_28, &meta).is_ok());
}

#[test]
fn p7_profile_of_a_legacy_session() {
    let open = |text: &str| ClientProfile::legacy(&params(text));
    let profile = open(r#"{"protocolVersion":"2025-06-18","capabilities":{"roots":{}},"clientInfo":{"name":"c"}}"#)
        .expect("profile");
    assert_eq!((profile.era, profile.revision), (Era::Legacy, Revision::V2025_06_18));
    assert_eq!(open(r#"{"protocolVersion":"2026-07-28"}"#).expect("lenient").revision, Revision::V2025_11_25);
    for bad in ["{}", r#"{"protocolVersion":5}"#, r#"{"protocolVersion":"2025-06-18","capabilities":[]}"#] {
        assert_eq!(open(bad).expect_err(bad).code, codes::INVALID_PARAMS);
    }
}

#[test]
fn p10_log_levels_are_ordered() {
    assert!(LogLevel::ALL.is_sorted());
    assert_eq!(LogLevel::ALL.len(), 8);
    for level in LogLevel::ALL {
        assert_eq!(LogLevel::parse(level.as_str()), Some(*level));
    }
    assert!(LogLevel::parse("INFO").is_none() && LogLevel::Debug < LogLevel::Emergency);
}

fn question(method: &str, text: &str) -> Ask {
    Ask { key: "k".into(), method: method.into(), params: Some(raw(text)) }
}

#[test]
fn p9_missing_capability_is_an_object_shaped_like_the_declaration() {
    let form = question("elicitation/create", r#"{"message":"m","requestedSchema":{}}"#);
    let url = question("elicitation/create", r#"{"mode":"url","url":"https://x","message":"m"}"#);
    let sample = question("sampling/createMessage", r#"{"messages":[]}"#);
    let sample_tools = question("sampling/createMessage", r#"{"messages":[],"tools":[]}"#);
    let roots = Ask { params: None, ..question("roots/list", "{}") };
    let none = client(Revision::V2026_07_28, "{}");
    for (asks, want) in [
        (vec![sample.clone()], r#"{"sampling":{}}"#),
        (vec![sample_tools.clone()], r#"{"sampling":{"tools":{}}}"#),
        (vec![roots.clone()], r#"{"roots":{}}"#),
        (vec![form.clone()], r#"{"elicitation":{"form":{}}}"#),
        (vec![url.clone()], r#"{"elicitation":{"url":{}}}"#),
        (vec![form.clone(), url.clone(), roots.clone()], r#"{"elicitation":{"form":{},"url":{}},"roots":{}}"#),
    ] {
        let required = ask::missing_capabilities(&none, &asks).expect("missing");
        assert_eq!(required.as_str(), want);
        let error = ask::missing_capability_error(&required);
        assert_eq!(error.code, codes::MISSING_CLIENT_CAPABILITY);
        assert_eq!(error.data.expect("data").as_str(), format!("{{\"requiredCapabilities\":{want}}}"));
    }
    let error = ask::missing_capability_error(&raw(r#"{"elicitation":{"url":{}},"roots":{}}"#));
    assert!(error.message.contains("elicitation.url") && error.message.contains("roots"));
    let all =
        client(Revision::V2026_07_28, r#"{"sampling":{"tools":{}},"roots":{},"elicitation":{"form":{},"url":{}}}"#);
    assert_eq!(ask::missing_capabilities(&all, &[form.clone(), url.clone(), sample, sample_tools, roots]), None);
    let plain = client(Revision::V2025_06_18, r#"{"elicitation":{}}"#);
    assert!(form.fits(&plain) && !url.fits(&plain), "an empty elicitation means forms only");
    assert!(!question("vendor/ask", "{}").fits(&all), "nobody may ask what is no question");
}

#[test]
fn p9_keys_of_parked_questions() {
    let ids = |texts: &[&str]| -> Vec<RequestId> {
        texts.iter().map(|t| RequestId::from_raw(&raw(t)).expect("id")).collect()
    };
    assert_eq!(keys_for(&ids(&["\"user_name\"", "\"client.roots-1\""]), &[]), ["user_name", "client.roots-1"]);
    assert_eq!(keys_for(&ids(&["1", "2"]), &[]), ["r1", "r2"]);
    assert_eq!(keys_for(&ids(&["\"a b\"", "\"\"", "\"ü\"", "\"x/y\""]), &[]), ["r1", "r2", "r3", "r4"]);
    assert_eq!(keys_for(&ids(&["7", "\"r1\""]), &[]), ["r2", "r1"]);
    assert_eq!(keys_for(&ids(&["\"a\"", "\"\\u0061\""]), &[]), ["a", "r1"]);
    assert_eq!(keys_for(&ids(&["\"a\"", "3"]), &["a", "r1"]), ["r2", "r3"]);
    let long = format!("\"{}\"", "x".repeat(65));
    assert_eq!(keys_for(&ids(&[&long]), &[]), ["r1"]);
}
