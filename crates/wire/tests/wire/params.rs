//! The narrow second parse (P30, P33).

use bartizan_wire::{Params, ParamsError, Reference, codes, meta_key, method};

use crate::support::{message, params, raw};

fn refused(text: &str) -> ParamsError {
    Params::parse(&raw(text)).expect_err(text)
}

#[test]
fn p30_members_that_are_looked_at() {
    let p = params(
        r#"{"x":1.0,"name":"t\u006fol","uri":"a://b","taskId":"t","cursor":"c","level":"info","arguments":{"n": 1.0},
        "requestState":"s","inputResponses":{"k":{"action":"accept"},"j":1},"ref":{"type":"ref/prompt","name":"p"},
        "task":{"ttl":1},"notifications":{},"requestId":7,"_meta":{"progressToken":1.0,"traceparent":"tp",
        "tracestate":"ts","io.modelcontextprotocol/subscriptionId":"sub","other":1}}"#,
    );
    assert_eq!(p.name.as_deref(), Some("tool"));
    assert_eq!(p.uri.as_deref(), Some("a://b"));
    assert_eq!(p.task_id.as_deref(), Some("t"));
    assert_eq!(p.cursor.as_deref(), Some("c"));
    assert_eq!(p.level.as_deref(), Some("info"));
    assert_eq!(p.arguments.expect("arguments").as_str(), "{\"n\": 1.0}");
    assert_eq!(p.request_state.as_deref(), Some("s"));
    let responses = p.input_responses.expect("responses");
    assert_eq!(
        responses.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect::<Vec<_>>(),
        [("k", "{\"action\":\"accept\"}"), ("j", "1")]
    );
    assert_eq!(p.reference, Some(Reference::Prompt("p".into())));
    assert!(p.task.is_some() && p.notifications.is_some() && p.request_id.is_some());
    let meta = p.meta.expect("meta");
    assert_eq!(meta.progress_token.expect("token").as_str(), "1.0");
    assert_eq!((meta.traceparent.as_deref(), meta.tracestate.as_deref()), (Some("tp"), Some("ts")));
    assert_eq!(meta.subscription_id.expect("id").as_str(), "\"sub\"");
}

#[test]
fn p30_duplicates_in_params_meta_and_arguments_are_refused() {
    for text in [
        r#"{"name":"a","name":"b"}"#,
        r#"{"name":"a","n\u0061me":"b"}"#,
        r#"{"unknown":1,"unknown":2}"#,
        r#"{"arguments":{},"arguments":{"x":1}}"#,
        r#"{"arguments":{"path":"/ok","path":"/etc"}}"#,
        r#"{"arguments":{"path":"/ok","pa\u0074h":"/etc"}}"#,
        r#"{"arguments":{"a":{"b":[{"c":1,"c":2}]}}}"#,
        r#"{"arguments":{"\ud83d\ude00":1,"😀":2}}"#,
        r#"{"_meta":{"io.modelcontextprotocol/protocolVersion":"a","io.modelcontextprotocol/protocolVersion":"b"}}"#,
        r#"{"_meta":{"io.modelcontextprotocol/clientCapabilities":{"sampling":{},"sampling":null}}}"#,
        r#"{"inputResponses":{"k":{"action":"accept","action":"decline"}}}"#,
        r#"{"arguments":{"\ud800":1}}"#,
    ] {
        let error = refused(text);
        assert_eq!(error, ParamsError::Ambiguous, "{text}");
        assert_eq!(error.code(), codes::INVALID_REQUEST);
    }
    let many: String = (0..100).map(|i| format!("\"k{i}\":0,")).collect();
    assert!(Params::parse(&raw(&format!("{{\"arguments\":{{{many}\"z\":0}}}}"))).is_ok());
    refused(&format!("{{\"arguments\":{{{many}\"k99\":0}}}}"));
    // Equal names in different objects are no duplicates.
    params(r#"{"a":{"x":1},"b":[{"x":1},{"x":1}],"x":{"a":{},"b":{}}}"#);
}

#[test]
fn p30_names_that_differ_in_case_only_are_refused() {
    for text in [
        r#"{"name":"safe","Name":"evil"}"#,
        r#"{"Arguments":{}}"#,
        r#"{"URI":"x"}"#,
        r#"{"argument\u017f":{}}"#,
        r#"{"ta\u017f\u212aId":"x"}"#,
        r#"{"_META":{}}"#,
        r#"{"requeststate":"x"}"#,
        r#"{"_meta":{"io.modelcontextprotocol/ProtocolVersion":"2026-07-28"}}"#,
    ] {
        assert_eq!(refused(text), ParamsError::Ambiguous, "{text}");
    }
    // What a tool calls its arguments is its own business.
    params(r#"{"arguments":{"name":1,"Name":2},"title":1,"Title":2}"#);
}

#[test]
fn p30_not_an_object() {
    for text in ["[]", "1", "\"x\"", "true"] {
        assert_eq!(refused(text), ParamsError::NotAnObject);
    }
    assert_eq!(refused("{\"_meta\":null}"), ParamsError::Type("_meta"));
    assert_eq!(refused("{\"_meta\":[]}").code(), codes::INVALID_PARAMS);
    assert_eq!(params("null").raw.as_str(), "{}");
    assert_eq!(Params::of(&message(r#"{"jsonrpc":"2.0","method":"m"}"#)).expect("empty").raw.as_str(), "{}");
}

#[test]
fn p7_meta_members_of_the_wrong_type_are_refused() {
    for (key, bad) in [
        (meta_key::PROTOCOL_VERSION, "5"),
        (meta_key::PROTOCOL_VERSION, "null"),
        (meta_key::PROTOCOL_VERSION, "\"\\ud800\""),
        (meta_key::CLIENT_CAPABILITIES, "[]"),
        (meta_key::CLIENT_CAPABILITIES, "null"),
        (meta_key::CLIENT_INFO, "\"x\""),
        (meta_key::LOG_LEVEL, "3"),
        (meta_key::PROGRESS_TOKEN, "{}"),
        (meta_key::PROGRESS_TOKEN, "null"),
    ] {
        let error = refused(&format!("{{\"_meta\":{{\"{key}\":{bad}}}}}"));
        assert!(matches!(error, ParamsError::Type(_)), "{key} {bad}");
        assert_eq!(error.code(), codes::INVALID_PARAMS);
    }
    // A broken trace never breaks a call.
    let p = params(r#"{"_meta":{"traceparent":5,"tracestate":{}}}"#);
    assert!(p.meta.expect("meta").traceparent.is_none());
}

#[test]
fn p33_what_each_method_requires() {
    for (method, good, bad) in [
        ("tools/call", r#"{"name":"x"}"#, r#"{"arguments":{}}"#),
        ("tools/call", r#"{"name":"x","arguments":{}}"#, r#"{"name":"x","arguments":[]}"#),
        ("tools/call", r#"{"name":"x"}"#, r#"{"name":7}"#),
        ("tools/call", r#"{"name":""}"#, r#"{"name":null}"#),
        ("prompts/get", r#"{"name":"x"}"#, "{}"),
        ("resources/read", r#"{"uri":"x"}"#, r#"{"name":"x"}"#),
        ("resources/subscribe", r#"{"uri":"x"}"#, "{}"),
        ("resources/unsubscribe", r#"{"uri":"x"}"#, r#"{"uri":1}"#),
        ("tasks/get", r#"{"taskId":"x"}"#, "{}"),
        ("tasks/update", r#"{"taskId":"x"}"#, r#"{"taskId":[]}"#),
        ("tools/list", r#"{"cursor":"c"}"#, r#"{"cursor":5}"#),
        ("logging/setLevel", r#"{"level":"warning"}"#, r#"{"level":"loud"}"#),
        ("logging/setLevel", r#"{"level":"debug"}"#, "{}"),
        ("completion/complete", r#"{"ref":{"type":"ref/resource","uri":"x"}}"#, r#"{"ref":{"type":"ref/tool"}}"#),
        ("completion/complete", r#"{"ref":{"type":"ref/prompt","name":"x"}}"#, "{}"),
        ("subscriptions/listen", r#"{"notifications":{}}"#, r#"{"notifications":[]}"#),
        ("subscriptions/listen", r#"{"notifications":{}}"#, "{}"),
        ("tools/call", r#"{"name":"x","requestState":"s"}"#, r#"{"name":"x","requestState":{}}"#),
        ("tools/call", r#"{"name":"x","inputResponses":{}}"#, r#"{"name":"x","inputResponses":[1]}"#),
    ] {
        assert_eq!(params(good).check(method), Ok(()), "{method} {good}");
        let error = params(bad).check(method).expect_err(bad);
        assert_eq!(error.code(), codes::INVALID_PARAMS, "{method} {bad}");
    }
    // Methods nobody here knows are forwarded as they are.
    assert_eq!(params(r#"{"name":7,"cursor":{},"arguments":1}"#).check("vendor/method"), Ok(()));
}

#[test]
fn p7_methods_of_each_era() {
    let eras = |name: &str| method::lookup(name).map(|info| (info.legacy, info.modern));
    for name in [
        "initialize",
        "notifications/initialized",
        "ping",
        "logging/setLevel",
        "resources/subscribe",
        "resources/unsubscribe",
        "notifications/roots/list_changed",
        "notifications/elicitation/complete",
        "sampling/createMessage",
        "elicitation/create",
        "roots/list",
        "tasks/list",
        "tasks/result",
    ] {
        assert_eq!(eras(name), Some((true, false)), "{name}");
    }
    for name in ["server/discover", "subscriptions/listen", "tasks/update"] {
        assert_eq!(eras(name), Some((false, true)), "{name}");
    }
    for name in [
        "tools/list",
        "tools/call",
        "prompts/list",
        "prompts/get",
        "resources/list",
        "resources/read",
        "resources/templates/list",
        "completion/complete",
    ] {
        assert_eq!(eras(name), Some((true, true)), "{name}");
    }
    assert_eq!(eras("vendor/x"), None);
    let names: std::collections::HashSet<_> = method::METHODS.iter().map(|info| info.name).collect();
    assert_eq!(names.len(), method::METHODS.len());
    let all = |f: fn(&method::MethodInfo) -> bool| {
        let mut names: Vec<_> = method::METHODS.iter().filter(|info| f(info)).map(|info| info.name).collect();
        names.sort_unstable();
        names
    };
    assert_eq!(
        all(|info| info.cacheable),
        [
            "prompts/list",
            "resources/list",
            "resources/read",
            "resources/templates/list",
            "server/discover",
            "tools/list"
        ]
    );
    assert_eq!(all(|info| info.input_required), ["prompts/get", "resources/read", "tools/call"]);
    assert!(!method::lookup("tools/call").expect("known").idempotent);
}
