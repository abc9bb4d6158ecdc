//! The JSON-RPC envelope (P30).

use bartizan_wire::{EnvelopeProblem, JsonError, Kind, Limits, MAX_BATCH, Message, RequestId, RpcError, build, codes};
use bytes::Bytes;

use crate::support::{message, raw};

fn parse(text: impl AsRef<[u8]>) -> Result<Message, bartizan_wire::EnvelopeError> {
    Message::parse(Bytes::copy_from_slice(text.as_ref()), &Limits::default())
}

#[track_caller]
fn refused(text: impl AsRef<[u8]>, code: i64) -> bartizan_wire::EnvelopeError {
    let error = parse(text.as_ref()).expect_err(&String::from_utf8_lossy(text.as_ref()));
    assert_eq!(error.code(), code, "{}: {error}", String::from_utf8_lossy(text.as_ref()));
    assert_eq!(error.status(), 400);
    error
}

#[test]
fn p30_the_four_kinds() {
    for (text, kind) in [
        (r#"{"jsonrpc":"2.0","id":1,"method":"a"}"#, Kind::Request),
        (r#"{"jsonrpc":"2.0","method":"a","params":{}}"#, Kind::Notification),
        (r#"{"jsonrpc":"2.0","id":"x","result":{}}"#, Kind::Response),
        (r#"{"jsonrpc":"2.0","id":"x","result":null}"#, Kind::Response),
        (r#"{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"m"}}"#, Kind::Error),
        (r#"{"jsonrpc":"2.0","id":null,"error":{"code":-1,"message":"m"}}"#, Kind::Error),
        (r#"{"jsonrpc":"2.0","error":{"code":-1,"message":"m"}}"#, Kind::Error),
        // Members that do not apply, written as null by some servers.
        (r#"{"jsonrpc":"2.0","id":1,"result":{},"error":null}"#, Kind::Response),
        (r#"{"jsonrpc":"2.0","id":1,"result":null,"error":{"code":1,"message":""}}"#, Kind::Error),
    ] {
        assert_eq!(message(text).kind(), kind, "{text}");
    }
}

#[test]
fn p30_members_are_the_bytes_that_came() {
    let text = "\n{ \"x\" : [1.0,  2e0] , \"params\" :\t{\"b\": 1.50 ,\"a\":01e0}\n, \"method\":\"tools/call\",\"id\": 7 ,\"jsonrpc\":\"2.0\" } ";
    assert!(parse(text).is_err(), "a leading zero is not JSON");
    let text = text.replace("01e0", "1E+0");
    let message = message(&text);
    assert_eq!(message.raw(), text.as_bytes());
    assert_eq!(message.params().map(|p| p.as_str().to_owned()).as_deref(), Some("{\"b\": 1.50 ,\"a\":1E+0}"));
    assert_eq!(message.method(), Some("tools/call"));
    assert_eq!(message.id().map(RequestId::raw_json), Some("7"));
}

#[test]
fn p30_nothing_but_the_named_member_changes() {
    let text = r#"{"zz":1.0,"id":"a","jsonrpc":"2.0", "params" : {"k":1e2},"method":"m","unknown":{"deep":[]}}"#;
    let m = message(text);
    let id = RequestId::number(42);
    assert_eq!(m.with_id(&id), text.replace("\"id\":\"a\"", "\"id\":42"));
    assert_eq!(m.with_params(&raw("{}")), text.replace("{\"k\":1e2}", "{}"));
    assert_eq!(message(r#"{"jsonrpc":"2.0","method":"m"}"#).with_id(&id), r#"{"jsonrpc":"2.0","method":"m"}"#);
}

#[test]
fn p30_malformed_json_is_a_parse_error() {
    for text in [
        "",
        " ",
        "{",
        "}",
        "nonsense",
        "tru",
        "{\"jsonrpc\":\"2.0\",}",
        "{'a':1}",
        "{\"a\" 1}",
        "{\"a\":1 \"b\":2}",
        "{\"a\":1}{}",
        "{\"a\":1} x",
        "{\"a\":01}",
        "{\"a\":1.}",
        "{\"a\":.5}",
        "{\"a\":+1}",
        "{\"a\":1e}",
        "{\"a\":-}",
        "{\"a\":NaN}",
        "{\"a\":Infinity}",
        "{\"a\":\"\\x\"}",
        "{\"a\":\"\\u12\"}",
        "{\"a\":\"\\u12g4\"}",
        "{\"a\":\"\n\"}",
        "{\"a\":\"\u{1}\"}",
        "{\"a\":\"abc",
        "{\"a\":\"abc\\",
        "{\"a\":[1,]}",
        "{\"a\":[,1]}",
        "{\"a\":[1 2]}",
        "{\"a\":[}",
        "{\"a\":{]}",
        "{\"a\":[1}",
        "{1:2}",
        "{\"a\":1,,\"b\":2}",
        "// c\n{}",
        "{}\0",
        "\u{feff}{}",
        "{\"a\":TRUE}",
    ] {
        assert!(refused(text, codes::PARSE_ERROR).id().is_none(), "{text}");
    }
}

#[test]
fn p30_control_characters_at_every_place_of_a_string() {
    for byte in 0..=0x7f_u8 {
        for before in 0..20 {
            let text =
                [&b"{\"jsonrpc\":\"2.0\",\"method\":\""[..], &[b'x'].repeat(before), &[byte], b"yyyyyyyyyyyy\"}"]
                    .concat();
            let fine = byte >= 0x20 && !matches!(byte, b'"' | b'\\');
            assert_eq!(parse(&text).is_ok(), fine, "{byte:#x} after {before}");
        }
    }
}

#[test]
fn p30_invalid_utf8_is_a_parse_error() {
    for bytes in [
        &b"{\"jsonrpc\":\"2.0\",\"method\":\"\xff\"}"[..],
        b"{\"jsonrpc\":\"2.0\",\"method\":\"a\",\"params\":{\"x\":\"\xc3\x28\"}}",
        b"{\"jsonrpc\":\"2.0\",\"method\":\"\xed\xa0\x80\"}",
        b"{\"jsonrpc\":\"2.0\",\"method\":\"\xc0\xaf\"}",
        b"\xff\xfe{\0}\0",
    ] {
        let error = refused(bytes, codes::PARSE_ERROR);
        assert_eq!(error.problem, EnvelopeProblem::Json(JsonError::Utf8));
    }
}

#[test]
fn p30_shapes_that_are_no_message() {
    for text in [
        "null",
        "1",
        "\"a\"",
        "true",
        "{}",
        r#"{"jsonrpc":"2.0"}"#,
        r#"{"jsonrpc":"2.0","id":1}"#,
        r#"{"id":1,"method":"a"}"#,
        r#"{"jsonrpc":"1.0","id":1,"method":"a"}"#,
        r#"{"jsonrpc":2.0,"id":1,"method":"a"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":5}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":null}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"\ud800"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"a","result":{}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"a","error":{}}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{}}"#,
        r#"{"jsonrpc":"2.0","id":1,"error":"text"}"#,
        r#"{"jsonrpc":"2.0","id":1,"error":null}"#,
        r#"{"jsonrpc":"2.0","result":{}}"#,
        r#"{"jsonrpc":"2.0","id":null,"result":{}}"#,
    ] {
        refused(text, codes::INVALID_REQUEST);
    }
}

#[test]
fn p30_the_id_is_named_when_it_could_be_read() {
    let error = refused(r#"{"id":"req-9","method":"a"}"#, codes::INVALID_REQUEST);
    assert_eq!(error.id().map(RequestId::raw_json), Some("\"req-9\""));
    let error = refused(r#"{"jsonrpc":"2.0","id":1.0,"method":"a","method":"b"}"#, codes::INVALID_REQUEST);
    assert_eq!(error.id().map(RequestId::raw_json), Some("1.0"));
    // Which of two ids counts is the question itself.
    assert!(refused(r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"a"}"#, codes::INVALID_REQUEST).id().is_none());
    let body = build::error(error.id(), &error.to_rpc());
    assert_eq!(message(std::str::from_utf8(&body).expect("text")).id(), Some(&RequestId::number(1)));
}

#[test]
fn p30_duplicate_envelope_members_are_refused_in_every_spelling() {
    for text in [
        r#"{"jsonrpc":"2.0","id":1,"method":"a","method":"b"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"a","me\u0074hod":"b"}"#,
        r#"{"jsonrpc":"2.0","id":1,"\u006dethod":"a","method":"a"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"a","params":{},"params":{}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"a","p\u0061rams":{"name":"x"},"params":{}}"#,
        r#"{"jsonrpc":"2.0","jsonrpc":"2.0","id":1,"method":"a"}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{},"result":{}}"#,
        // Members nobody defines, too: who knows which one the server reads.
        r#"{"jsonrpc":"2.0","id":1,"method":"a","x":1,"x":2}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"a","x":1,"\u0078":2}"#,
        // A name that is half a surrogate pair is no name.
        r#"{"jsonrpc":"2.0","id":1,"method":"a","\ud800":2}"#,
    ] {
        assert_eq!(refused(text, codes::INVALID_REQUEST).problem, EnvelopeProblem::Ambiguous, "{text}");
    }
    let mut many: String = (0..40).map(|i| format!("\"k{i}\":{i},")).collect();
    let head = r#"{"jsonrpc":"2.0","id":1,"method":"a","#;
    assert!(parse(format!("{head}{many}\"z\":0}}")).is_ok());
    many.push_str("\"k7\":0,");
    assert_eq!(refused(format!("{head}{many}\"z\":0}}"), codes::INVALID_REQUEST).problem, EnvelopeProblem::Ambiguous);
}

#[test]
fn p30_an_escaped_name_alone_is_the_name() {
    let m = message(r#"{"jsonrpc":"2.0","id":1,"me\u0074hod":"to\u006fls\/call"}"#);
    assert_eq!(m.method(), Some("tools/call"));
}

#[test]
fn p30_names_a_lax_parser_confuses_are_refused() {
    for name in ["Method", "METHOD", "Params", "paramS", "param\u{17f}", "ID", "Result", "Jsonrpc"] {
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"a","{name}":1}}"#);
        assert_eq!(refused(&text, codes::INVALID_REQUEST).problem, EnvelopeProblem::Ambiguous, "{name}");
    }
    for name in ["methods", "param", "idd", "xmethod", "\u{17f}", "mëthod"] {
        assert!(parse(format!(r#"{{"jsonrpc":"2.0","id":1,"method":"a","{name}":1}}"#)).is_ok(), "{name}");
    }
}

#[test]
fn p30_depth_128_passes_and_129_does_not() {
    // The message itself and params are two levels.
    let at = |depth: usize| {
        format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"a","params":{{"x":{}{}}}}}"#,
            "[".repeat(depth - 2),
            "]".repeat(depth - 2)
        )
    };
    assert!(parse(at(128)).is_ok());
    let error = refused(at(129), codes::INVALID_REQUEST);
    assert_eq!(error.problem, EnvelopeProblem::Json(JsonError::Depth));
    let mixed = format!(r#"{{"jsonrpc":"2.0","method":"a","x":{}1{}}}"#, r#"{"a":["#.repeat(64), "]}".repeat(64));
    assert_eq!(refused(mixed, codes::INVALID_REQUEST).problem, EnvelopeProblem::Json(JsonError::Depth));
    // Unclosed brackets, as many as fit in a body.
    refused("[".repeat(1 << 20), codes::INVALID_REQUEST);
    refused(format!("{{\"a\":{}", "[".repeat(1 << 20)), codes::INVALID_REQUEST);
    // A caller cannot raise the limit beyond what the scanner can hold.
    let deep = format!(r#"{{"jsonrpc":"2.0","method":"a","x":{}{}}}"#, "[".repeat(600), "]".repeat(600));
    assert!(Message::parse(deep.into(), &Limits { depth: usize::MAX }).is_err());
}

#[test]
fn p30_brackets_in_strings_do_not_nest() {
    let text = format!(r#"{{"jsonrpc":"2.0","method":"a","params":{{"x":"{}"}}}}"#, "[{\\\"".repeat(500));
    assert!(parse(text).is_ok());
}

#[test]
fn p30_lone_surrogates_pass_where_nothing_is_decided() {
    let text =
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"arguments":{"x":"\ud800","y":"\udc00\ud800"}}}"#;
    assert_eq!(message(text).raw(), text.as_bytes());
}

#[test]
fn p30_huge_numbers_keep_their_spelling() {
    for number in
        ["1e999999", "-0.0000000000000000000000000000001", "123456789012345678901234567890.5", "1E-999", "-0", "-0.0"]
    {
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{{"n":{number}}}}}"#);
        let m = message(&text);
        assert_eq!(m.params().expect("params").as_str(), format!("{{\"n\":{number}}}"));
    }
}

#[test]
fn p30_ids_equal_by_value_and_spelled_as_they_came() {
    let id = |text: &str| RequestId::from_raw(&raw(text));
    let eq = |a: &str, b: &str| id(a).expect(a) == id(b).expect(b);
    assert!(eq("1", "1.0") && eq("1", "10e-1") && eq("1000", "1e3") && eq("-0", "0"));
    assert!(!eq("1", "\"1\"") && !eq("1", "-1") && !eq("\"a\"", "\"b\""));
    assert!(eq("\"a\"", "\"\\u0061\"") && eq("\"\\/\"", "\"/\"") && eq("\"é\"", "\"\\u00e9\""));
    assert!(eq("9007199254740993", "9007199254740993.0") && !eq("9007199254740993", "9007199254740992"));
    for text in ["1", "1.0", "1e3", "\"a\\u0062\"", "-5", "\"\"", "99999999999999999999999"] {
        assert_eq!(id(text).expect(text).raw_json(), text);
    }
    for bad in ["null", "true", "{}", "[]", "1.5", "1e-1", "1e400", "\"\\ud800\""] {
        assert!(id(bad).is_none(), "{bad}");
    }
    assert!(id(&format!("\"{}\"", "x".repeat(2000))).is_none());
    let mut set = std::collections::HashSet::new();
    set.extend([id("1"), id("1.0"), id("\"1\""), id("\"\\u0031\"")]);
    assert_eq!(set.len(), 2);
    assert_eq!(id("\"a\\n\"").and_then(|id| id.as_string()).as_deref(), Some("a\n"));
    assert_eq!(id("1e3").and_then(|id| id.as_i64()), Some(1000));
    assert_eq!(id("\"5\"").and_then(|id| id.as_i64()), None);
    assert_eq!(RequestId::string("a\"b"), id("\"a\\\"b\"").expect("id"));
}

#[test]
fn p30_null_and_fractional_ids_are_refused() {
    for id in ["null", "1.5", "1e-3", "true", "{}", "[]", "[1]"] {
        let error = refused(format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"a"}}"#), codes::INVALID_REQUEST);
        assert_eq!(error.problem, EnvelopeProblem::Id, "{id}");
    }
}

#[test]
fn p7_arrays_are_batches_and_only_batches() {
    let text = r#" [{"jsonrpc":"2.0","id":1,"method":"a"}, {"jsonrpc":"2.0","method":"b" } ]"#;
    assert!(parse(text).expect_err("batch").is_batch());
    let batch = |text: &str| Message::parse_batch(Bytes::copy_from_slice(text.as_bytes()), &Limits::default());
    let messages = batch(text).expect("two messages");
    assert_eq!(messages.iter().map(Message::method).collect::<Vec<_>>(), [Some("a"), Some("b")]);
    assert_eq!(messages[1].raw(), r#"{"jsonrpc":"2.0","method":"b" }"#);
    assert_eq!(batch(r#"{"jsonrpc":"2.0","method":"b"}"#).expect("one").len(), 1);
    for (bad, code) in [
        ("[]", codes::INVALID_REQUEST),
        ("[1]", codes::INVALID_REQUEST),
        ("[[]]", codes::INVALID_REQUEST),
        ("[{}]", codes::INVALID_REQUEST),
        ("[", codes::PARSE_ERROR),
        ("[{\"jsonrpc\":\"2.0\",\"method\":\"b\"},]", codes::PARSE_ERROR),
        ("[{\"jsonrpc\":\"2.0\",\"method\":\"b\"}] x", codes::PARSE_ERROR),
    ] {
        assert_eq!(batch(bad).expect_err(bad).code(), code, "{bad}");
    }
    let one = r#"{"jsonrpc":"2.0","method":"b"}"#;
    assert_eq!(batch(&format!("[{}]", vec![one; MAX_BATCH].join(","))).expect("full").len(), MAX_BATCH);
    let error = batch(&format!("[{}]", vec![one; MAX_BATCH + 1].join(","))).expect_err("too long");
    assert_eq!(error.problem, EnvelopeProblem::LongBatch(MAX_BATCH));
}

#[test]
fn p30_received_errors_keep_unknown_members() {
    let m = message(
        r#"{"jsonrpc":"2.0","id":1,"error":{"x":1.0,"code":-32000,"message":"caf\u00e9","data":{"b":2,"a":1},"y":[]}}"#,
    );
    let mut error = m.error().expect("an error");
    assert_eq!((error.code, error.message.as_str()), (-32000, "café"));
    assert_eq!(error.to_raw(), m.raw_error().expect("raw"));
    error.code = -32603;
    assert_eq!(error.to_raw().as_str(), r#"{"x":1.0,"code":-32603,"message":"caf\u00e9","data":{"b":2,"a":1},"y":[]}"#);
    error.data = None;
    assert_eq!(error.to_raw().as_str(), r#"{"x":1.0,"code":-32603,"message":"caf\u00e9","y":[]}"#);
    let odd = RpcError::from_raw(&raw(r#"{"code":"x","message":7}"#));
    assert_eq!((odd.code, odd.message.as_str()), (codes::INTERNAL_ERROR, ""));
    assert_eq!(RpcError::from_raw(&raw(r#"{"code":-32601.0,"message":""}"#)).code, -32601);
}

#[test]
fn p30_built_messages() {
    let id = RequestId::string("a\"\u{1}\n");
    let p = raw(r#"{"n":1.0}"#);
    assert_eq!(
        build::request(&id, "x/\"y", Some(&p)),
        r#"{"jsonrpc":"2.0","id":"a\"\u0001\n","method":"x/\"y","params":{"n":1.0}}"#
    );
    assert_eq!(build::request(&id, "x", None).len(), r#"{"jsonrpc":"2.0","id":"a\"\u0001\n","method":"x"}"#.len());
    assert_eq!(build::notification("n", None), r#"{"jsonrpc":"2.0","method":"n"}"#);
    assert_eq!(build::response(&RequestId::number(3), &p), r#"{"jsonrpc":"2.0","id":3,"result":{"n":1.0}}"#);
    let error = RpcError::new(-32600, "no").with_data(raw("[1]"));
    assert_eq!(
        build::error(None, &error),
        r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"no","data":[1]}}"#
    );
    assert_eq!(build::batch([&Bytes::from_static(b"{}"), &Bytes::from_static(b"[]")]), "[{},[]]");
}

#[test]
fn p30_one_line_for_stdio() {
    let m = raw("{\r\n  \"a\": \"x\\ny\",\n \"b\":1\r}");
    assert_eq!(m.one_line(), "{    \"a\": \"x\\ny\",  \"b\":1 }");
    assert_eq!(raw("{\"a\":1}").one_line(), "{\"a\":1}");
    assert_eq!(raw("{\r\"a\":1}").one_line(), "{ \"a\":1}");
}

#[test]
fn p30_a_response_has_no_params() {
    let text = r#"{"jsonrpc":"2.0","id":1,"result":{},"params":{"name":"x"}}"#;
    assert!(message(text).params().is_none());
    assert_eq!(message(text).raw(), text);
}

#[test]
fn p30_bodies_do_not_reach_logs() {
    let m = message(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"secret":"hunter2"}}"#);
    assert!(!format!("{m:?} {:?}", m.params()).contains("hunter2"));
}
