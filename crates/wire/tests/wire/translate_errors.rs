//! Errors between the eras (P7, P9).

use bartizan_wire::translate::{Hop, Translated, error_to};
use bartizan_wire::{ClientProfile, Revision, RpcError, codes};

use crate::support::{client, raw, same};

const LEGACY: Revision = Revision::V2025_11_25;
const MODERN: Revision = Revision::V2026_07_28;

fn error_for(c: &ClientProfile, upstream: Revision, method: &str, uri: Option<&str>, text: &str) -> Translated {
    error_to(&Hop::new(c, upstream), method, uri, RpcError::from_raw(&raw(text)))
}

#[track_caller]
fn error_is(got: Translated, want: &str) {
    match got {
        Translated::Error(error) => same(&error.to_raw(), want),
        Translated::InputRequired(_) => panic!("an error was expected"),
    }
}

#[test]
fn p7_resource_not_found_between_the_eras() {
    let (legacy, modern) = (client(LEGACY, "{}"), client(MODERN, "{}"));
    error_is(
        error_for(
            &legacy,
            MODERN,
            "resources/read",
            Some("u"),
            r#"{"code":-32602,"message":"no","data":{"uri":"u","x":1.0}}"#,
        ),
        r#"{"code":-32002,"message":"no","data":{"uri":"u","x":1.0}}"#,
    );
    // Other invalid params, and other methods, stay what they are.
    let plain = r#"{"code":-32602,"message":"no"}"#;
    error_is(error_for(&legacy, MODERN, "resources/read", Some("u"), plain), plain);
    let tool = r#"{"code":-32602,"message":"no","data":{"uri":"u"}}"#;
    error_is(error_for(&legacy, MODERN, "tools/call", None, tool), tool);
    error_is(
        error_for(&modern, LEGACY, "resources/read", Some("a://b"), r#"{"code":-32002,"message":"no","q":1.0}"#),
        r#"{"code":-32602,"message":"no","q":1.0,"data":{"uri":"a://b"}}"#,
    );
    error_is(
        error_for(
            &modern,
            LEGACY,
            "resources/read",
            Some("a://b"),
            r#"{"code":-32002,"message":"no","data":{"uri":"its own","y":1.0}}"#,
        ),
        r#"{"code":-32602,"message":"no","data":{"uri":"its own","y":1.0}}"#,
    );
}

#[test]
fn p7_modern_protocol_errors_for_legacy_clients() {
    let legacy = client(LEGACY, "{}");
    for code in [-32020, -32022] {
        let got = error_for(&legacy, MODERN, "tools/call", None, &format!(r#"{{"code":{code},"message":"m"}}"#));
        error_is(got, r#"{"code":-32603,"message":"m"}"#);
    }
    let Translated::Error(error) = error_for(
        &legacy,
        MODERN,
        "tools/call",
        None,
        r#"{"code":-32021,"message":"no","data":{"requiredCapabilities":{"sampling":{}}}}"#,
    ) else {
        panic!("an error")
    };
    assert_eq!(error.code, codes::INTERNAL_ERROR);
    assert!(error.message.contains("sampling"), "names what is missing: {}", error.message);
}

#[test]
fn p7_reserved_codes_do_not_reach_modern_clients() {
    let modern = client(MODERN, "{}");
    for code in [-32020, -32021, -32022, -32050, -32099] {
        let Translated::Error(error) = error_for(
            &modern,
            LEGACY,
            "tools/call",
            None,
            &format!(r#"{{"code":{code},"message":"m","data":{{"k":1.0}}}}"#),
        ) else {
            panic!("an error")
        };
        assert_eq!((error.code, error.message.as_str()), (codes::INTERNAL_ERROR, "m"));
        assert_eq!(error.data.expect("data").as_str(), format!(r#"{{"k":1.0,"bartizan/upstreamCode":{code}}}"#));
    }
    for code in [-32000, -32019, -32100, -32601, -32602, 1, 42] {
        let text = format!(r#"{{"code":{code},"message":"m","data":"d"}}"#);
        error_is(error_for(&modern, LEGACY, "tools/call", None, &text), &text);
    }
}

#[test]
fn p9_url_elicitation_error_becomes_questions() {
    let can = client(MODERN, r#"{"elicitation":{"url":{}}}"#);
    let text = r#"{"code":-32042,"message":"m","data":{"elicitations":[{"mode":"url","elicitationId":"e1","url":"https://a","message":"A","x":1.0},{"elicitationId":"e2","url":"https://b","message":"B"}]}}"#;
    let Translated::InputRequired(asks) = error_for(&can, LEGACY, "tools/call", None, text) else {
        panic!("questions")
    };
    assert_eq!(
        asks.iter().map(|ask| (ask.key.as_str(), ask.method.as_str())).collect::<Vec<_>>(),
        [("r1", "elicitation/create"), ("r2", "elicitation/create")]
    );
    same(asks[0].params.as_ref().expect("params"), r#"{"mode":"url","url":"https://a","message":"A","x":1.0}"#);
    same(asks[1].params.as_ref().expect("params"), r#"{"url":"https://b","message":"B","mode":"url"}"#);

    let cannot = client(MODERN, r#"{"elicitation":{}}"#);
    let Translated::Error(error) = error_for(&cannot, LEGACY, "tools/call", None, text) else { panic!("an error") };
    assert_eq!(error.code, codes::MISSING_CLIENT_CAPABILITY);
    assert_eq!(error.data.expect("data").as_str(), r#"{"requiredCapabilities":{"elicitation":{"url":{}}}}"#);
    // Methods that may not ask, and entries nobody can follow.
    for (method, text) in [
        ("tools/list", text),
        ("tools/call", r#"{"code":-32042,"message":"m"}"#),
        ("tools/call", r#"{"code":-32042,"message":"m","data":{"elicitations":[{"message":"no url"}]}}"#),
        ("tools/call", r#"{"code":-32042,"message":"m","data":{"elicitations":{}}}"#),
    ] {
        let Translated::Error(error) = error_for(&can, LEGACY, method, None, text) else { panic!("an error") };
        assert_eq!(error.code, codes::INTERNAL_ERROR, "{method} {text}");
    }
}
