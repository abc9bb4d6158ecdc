//! Questions in the middle of a request (P9).

use bartizan_wire::translate::{
    InputRequired, LegacyAsk, MAX_ASKS, MrtrError, ResultKind, answer_fits, answer_to_modern, ask_to_legacy,
    ask_to_modern, elicitation_complete, link_result, result_kind, retry_params, strip_retry, take_answers,
};
use bartizan_wire::{Ask, AskAnswer, Revision, RpcError, codes};

use crate::support::{client, raw, same};

fn ask(method: &str, params: &str) -> Ask {
    Ask { key: "k".into(), method: method.into(), params: Some(raw(params)) }
}

#[test]
fn p9_input_required_there_and_back() {
    let text = r#"{"resultType":"input_required","inputRequests":{"user_name":{"method":"elicitation/create","params":{"message":"m","n":1.0}},"client_roots":{"method":"roots/list"}},"requestState":"a\"b"}"#;
    let parsed = InputRequired::parse(&raw(text)).expect("valid");
    assert_eq!(parsed.asks.iter().map(|a| a.key.as_str()).collect::<Vec<_>>(), ["user_name", "client_roots"]);
    assert_eq!(parsed.request_state.as_deref(), Some("a\"b"));
    assert_eq!(parsed.asks[1].params, None);
    same(&parsed.to_raw(), text);
    let only_state = r#"{"resultType":"input_required","requestState":""}"#;
    same(&InputRequired::parse(&raw(only_state)).expect("valid").to_raw(), only_state);
}

#[test]
fn p9_input_required_that_is_malformed() {
    let many: String = (0..=MAX_ASKS).map(|i| format!(r#""k{i}":{{"method":"roots/list"}},"#)).collect();
    let many = format!(r#"{{"inputRequests":{{{}}}}}"#, many.trim_end_matches(','));
    for (text, error) in [
        ("{}", MrtrError::Empty),
        (r#"{"inputRequests":{}}"#, MrtrError::Empty),
        (r#"{"inputRequests":[]}"#, MrtrError::Requests),
        (r#"{"inputRequests":{"a":5}}"#, MrtrError::Requests),
        (r#"{"inputRequests":{"a":{"method":5}}}"#, MrtrError::Requests),
        (r#"{"inputRequests":{"a":{"method":"roots/list"},"a":{"method":"roots/list"}}}"#, MrtrError::Requests),
        (r#"{"requestState":5}"#, MrtrError::State),
        (r#"{"requestState":"\ud800"}"#, MrtrError::State),
        (&many, MrtrError::TooMany),
    ] {
        assert_eq!(InputRequired::parse(&raw(text)), Err(error), "{text}");
    }
}

#[test]
fn p9_result_kinds() {
    for (text, kind) in [
        ("{}", ResultKind::Complete),
        (r#"{"resultType":"complete"}"#, ResultKind::Complete),
        (r#"{"resultType":"input_required"}"#, ResultKind::InputRequired),
        (r#"{"resultType":"task"}"#, ResultKind::Task),
        (r#"{"resultType":"other"}"#, ResultKind::Other("other".into())),
        (r#"{"resultType":5}"#, ResultKind::Other(String::new())),
    ] {
        assert_eq!(result_kind(&raw(text)), kind, "{text}");
    }
}

#[test]
fn p9_retry_keeps_the_original_params() {
    let original =
        raw(r#"{"name":"t","arguments":{"n":1.0},"requestState":"old","inputResponses":{"x":{}},"_meta":{"k":1}}"#);
    let answers = [("a".to_owned(), raw(r#"{"action":"accept","content":{"n":1.50}}"#))];
    same(
        &retry_params(Some(&original), &answers, Some("new")),
        r#"{"name":"t","arguments":{"n":1.0},"requestState":"new","inputResponses":{"a":{"action":"accept","content":{"n":1.50}}},"_meta":{"k":1}}"#,
    );
    // No state was given: none is echoed, not even an old one.
    same(&retry_params(Some(&original), &[], None), r#"{"name":"t","arguments":{"n":1.0},"_meta":{"k":1}}"#);
    same(&strip_retry(&original), r#"{"name":"t","arguments":{"n":1.0},"_meta":{"k":1}}"#);
    same(&retry_params(None, &answers[..0], Some("s")), r#"{"requestState":"s"}"#);
}

#[test]
fn p9_answers_have_the_shape_of_their_question() {
    for (method, good, bad) in [
        ("elicitation/create", r#"{"action":"accept","content":{}}"#, r#"{"action":"yes"}"#),
        ("elicitation/create", r#"{"action":"decline"}"#, "{}"),
        ("elicitation/create", r#"{"action":"cancel","content":null}"#, r#"{"action":"accept","content":[]}"#),
        (
            "sampling/createMessage",
            r#"{"role":"assistant","content":{"type":"text","text":""},"model":"m"}"#,
            r#"{"role":"assistant"}"#,
        ),
        ("sampling/createMessage", r#"{"role":"assistant","content":[]}"#, r#"{"content":{}}"#),
        ("roots/list", r#"{"roots":[]}"#, r#"{"roots":{}}"#),
    ] {
        assert!(answer_fits(method, &raw(good)), "{good}");
        assert!(!answer_fits(method, &raw(bad)), "{bad}");
        assert!(!answer_fits(method, &raw("\"text\"")));
    }
}

#[test]
fn p9_legacy_answers_for_a_modern_server() {
    let ok = AskAnswer::Result(raw(r#"{"action":"accept","content":{"a":1.0}}"#));
    same(&answer_to_modern("elicitation/create", &ok).expect("fits"), r#"{"action":"accept","content":{"a":1.0}}"#);
    let error = AskAnswer::Error(RpcError::new(-1, "user closed the window"));
    same(&answer_to_modern("elicitation/create", &error).expect("cancel"), r#"{"action":"cancel"}"#);
    assert_eq!(answer_to_modern("sampling/createMessage", &error).expect_err("error").code, -1);
    assert_eq!(
        answer_to_modern("roots/list", &AskAnswer::Result(raw("{}"))).expect_err("shape").code,
        codes::INVALID_PARAMS
    );
}

#[test]
fn p9_url_questions_for_legacy_clients() {
    let question = ask("elicitation/create", r#"{"mode":"url","url":"https://x/y","message":"Log in","n":1.0}"#);
    let new = client(Revision::V2025_11_25, r#"{"elicitation":{"url":{}}}"#);
    let LegacyAsk::Request(request) = ask_to_legacy(&question, &new, "e-1") else { panic!("a request") };
    same(
        &request.params.expect("params"),
        r#"{"mode":"url","url":"https://x/y","message":"Log in","n":1.0,"elicitationId":"e-1"}"#,
    );
    // Not declared, or a revision that has no such mode.
    for old in [
        client(Revision::V2025_11_25, r#"{"elicitation":{}}"#),
        client(Revision::V2025_06_18, r#"{"elicitation":{"url":{}}}"#),
    ] {
        let link = LegacyAsk::Link { message: "Log in".into(), url: "https://x/y".into() };
        assert_eq!(ask_to_legacy(&question, &old, "e-1"), link);
    }
    same(
        &link_result("Log in", "https://x/y"),
        r#"{"content":[{"type":"text","text":"Log in\nhttps://x/y"}],"isError":true}"#,
    );
    same(&elicitation_complete("e-1"), r#"{"elicitationId":"e-1"}"#);
}

#[test]
fn p9_other_questions_for_legacy_clients_pass_or_are_refused() {
    let question = ask("sampling/createMessage", r#"{"messages":[],"maxTokens":100.0}"#);
    let can = client(Revision::V2025_03_26, r#"{"sampling":{}}"#);
    assert_eq!(ask_to_legacy(&question, &can, "x"), LegacyAsk::Request(question.clone()));
    assert_eq!(ask_to_legacy(&question, &client(Revision::V2025_03_26, "{}"), "x"), LegacyAsk::Unsupported);
}

#[test]
fn p9_legacy_questions_for_modern_clients() {
    let modern = client(Revision::V2026_07_28, "{}");
    let question = ask(
        "elicitation/create",
        r#"{"mode":"url","elicitationId":"e","url":"u","task":{"ttl":1},"x":1.0,"_meta":{"io.modelcontextprotocol/related-task":{}}}"#,
    );
    same(&ask_to_modern(&question, &modern).params.expect("params"), r#"{"mode":"url","url":"u","x":1.0}"#);
    let legacy = client(Revision::V2025_11_25, "{}");
    assert_eq!(ask_to_modern(&question, &legacy), question);
}

#[test]
fn p9_answers_are_matched_to_questions() {
    let asks = [
        Ask { key: "a".into(), ..ask("elicitation/create", "{}") },
        Ask { key: "b".into(), ..ask("roots/list", "{}") },
        Ask { key: "c".into(), ..ask("roots/list", "{}") },
    ];
    let responses = [
        ("extra".to_owned(), raw("{}")),
        ("b".to_owned(), raw(r#"{"roots":[1.0]}"#)),
        ("a".to_owned(), raw(r#"{"action":"accept"}"#)),
        ("c".to_owned(), raw(r#"{"roots":"malformed"}"#)),
    ];
    let (answers, open) = take_answers(&asks, &responses);
    assert_eq!(answers, [responses[2].clone(), responses[1].clone()]);
    assert_eq!(open.iter().map(|ask| ask.key.as_str()).collect::<Vec<_>>(), ["c"]);
    assert_eq!(take_answers(&asks, &[]).1.len(), 3);
}
