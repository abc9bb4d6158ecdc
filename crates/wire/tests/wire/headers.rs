//! Headers against bodies (P33).

use bartizan_wire::headers::{
    self, HeaderProblem, InvalidAnnotation, ParamHeader, check, check_params, decode_value, encode_value,
    param_headers, param_values,
};
use bartizan_wire::{Params, Revision, codes};
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

use crate::support::{message, raw};

fn map(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        map.append(HeaderName::try_from(*name).expect("name"), HeaderValue::try_from(*value).expect("value"));
    }
    map
}

#[test]
fn p33_value_codec_table() {
    for (text, coded) in [
        ("plain", "plain"),
        ("", ""),
        ("with space", "with space"),
        ("a\tb", "a\tb"),
        ("~!@#$%^&*()", "~!@#$%^&*()"),
        ("Hello, 世界", "=?base64?SGVsbG8sIOS4lueVjA==?="),
        (" lead", "=?base64?IGxlYWQ=?="),
        ("trail ", "=?base64?dHJhaWwg?="),
        ("\ttab", "=?base64?CXRhYg==?="),
        (" ", "=?base64?IA==?="),
        ("line\nbreak", "=?base64?bGluZQpicmVhaw==?="),
        ("\u{7f}", "=?base64?fw==?="),
        ("\0", "=?base64?AA==?="),
        ("=?base64?abc?=", "=?base64?PT9iYXNlNjQ/YWJjPz0=?="),
        ("=?base64??=", "=?base64?PT9iYXNlNjQ/Pz0=?="),
        ("=?BASE64?abc?=", "=?BASE64?abc?="),
        ("=?base64?abc", "=?base64?abc"),
        ("=?base64?=", "=?base64?="),
    ] {
        assert_eq!(encode_value(text), coded, "{text:?}");
        assert_eq!(decode_value(coded.as_bytes()).as_deref(), Ok(text), "{coded:?}");
    }
    // White space around the value belongs to HTTP.
    assert_eq!(decode_value(b"  x y\t").as_deref(), Ok("x y"));
    assert_eq!(decode_value(b" =?base64?SGk=?= ").as_deref(), Ok("Hi"));
    assert_eq!(decode_value(b"=?base64??=").as_deref(), Ok(""));
    for bad in [
        &b"=?base64?SGk?="[..],
        b"=?base64?SGk=x?=",
        b"=?base64?SG k=?=",
        b"=?base64?SGl=?=",
        b"=?base64?_-__?=",
        b"=?base64?/w==?=",
        b"=?base64?=?=",
        b"\xe4",
        b"a\xc3\xa9",
        b"a\x01",
        b"a\x7f",
    ] {
        assert!(decode_value(bad).is_err(), "{bad:?}");
    }
}

proptest! {
    #[test]
    fn p33_every_text_survives_the_codec(text in any::<String>()) {
        let coded = encode_value(&text);
        prop_assert!(coded.bytes().all(|b| matches!(b, b'\t' | 0x20..=0x7e)));
        prop_assert!(HeaderValue::try_from(&coded).is_ok());
        prop_assert_eq!(decode_value(coded.as_bytes()), Ok(text));
    }
}

const META: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;

fn checked(headers: &[(&str, &str)], method: &str, members: &str) -> Result<(), HeaderProblem> {
    let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{{members}{META}}}}}"#);
    let message = message(&text);
    check(&map(headers), &message, &Params::of(&message).expect("params")).map_err(|e| {
        assert_eq!((e.to_rpc().code, e.status().as_u16()), (codes::HEADER_MISMATCH, 400));
        e.problem
    })
}

#[test]
fn p33_standard_headers_must_equal_the_body() {
    use HeaderProblem::{Different, Malformed, Missing, Twice};
    let v = ("MCP-Protocol-Version", "2026-07-28");
    let call = ("Mcp-Method", "tools/call");
    let name = r#""name":"get Wetter ü","#;
    let coded = ("mcp-name", "=?base64?Z2V0IFdldHRlciDDvA==?=");
    assert_eq!(checked(&[v, call, coded], "tools/call", name), Ok(()));
    assert_eq!(checked(&[v, call, ("Mcp-Name", "x")], "tools/call", r#""name":"x","#), Ok(()));
    assert_eq!(checked(&[v, call, ("Mcp-Name", "  x ")], "tools/call", r#""name":"x","#), Ok(()));
    assert_eq!(checked(&[v, ("Mcp-Method", "tools/list")], "tools/list", ""), Ok(()));
    assert_eq!(checked(&[v, ("Mcp-Method", "vendor/x")], "vendor/x", r#""name":"y","#), Ok(()));
    for (headers, problem) in [
        (&[call, coded][..], Missing),
        (&[("MCP-Protocol-Version", "2025-11-25"), call, coded], Different),
        (&[v, v, call, coded], Twice),
        (&[v, coded], Missing),
        (&[v, call, call, coded], Twice),
        (&[v, ("Mcp-Method", "tools/list"), coded], Different),
        (&[v, ("Mcp-Method", "Tools/Call"), coded], Different),
        (&[v, call], Missing),
        (&[v, call, coded, coded], Twice),
        (&[v, call, ("Mcp-Name", "get Wetter")], Different),
        (&[v, call, ("Mcp-Name", "GET WETTER")], Different),
        (&[v, call, ("Mcp-Name", "=?base64?Z2V0IFdldHRlciDDvA?=")], Malformed),
        (&[v, call, ("Mcp-Name", "")], Different),
    ] {
        assert_eq!(checked(headers, "tools/call", name), Err(problem), "{headers:?}");
    }
    // The body has no name to compare with.
    assert_eq!(checked(&[v, call, ("Mcp-Name", "x")], "tools/call", ""), Err(Different));
    assert_eq!(checked(&[v, call], "tools/call", ""), Ok(()), "left to the params check");
}

#[test]
fn p33_each_method_mirrors_its_own_member() {
    let v = ("MCP-Protocol-Version", "2026-07-28");
    for (method, member) in [
        ("tools/call", "name"),
        ("prompts/get", "name"),
        ("resources/read", "uri"),
        ("tasks/get", "taskId"),
        ("tasks/update", "taskId"),
        ("tasks/cancel", "taskId"),
    ] {
        let body = format!(r#""{member}":"test://a?b=c d","#);
        let headers = [v, ("Mcp-Method", method), ("Mcp-Name", "test://a?b=c d")];
        assert_eq!(checked(&headers, method, &body), Ok(()), "{method}");
        assert_eq!(checked(&headers[..2], method, &body), Err(HeaderProblem::Missing), "{method}");
    }
}

#[test]
fn p33_notifications_need_no_method_header_but_a_right_one() {
    let text = r#"{"jsonrpc":"2.0","method":"notifications/x"}"#;
    let m = message(text);
    let version = ("mcp-protocol-version", "2026-07-28");
    let run = |headers: &[(&str, &str)]| check(&map(headers), &m, &Params::empty()).map_err(|e| e.problem);
    assert_eq!(run(&[version]), Ok(()));
    assert_eq!(run(&[version, ("mcp-method", "notifications/x")]), Ok(()));
    assert_eq!(run(&[version, ("mcp-method", "notifications/y")]), Err(HeaderProblem::Different));
}

#[test]
fn p33_version_header_for_era_detection() {
    assert_eq!(headers::protocol_version(&HeaderMap::new()), None);
    assert_eq!(headers::protocol_version(&map(&[("mcp-protocol-version", " 2025-11-25 ")])), Some("2025-11-25"));
    let twice = map(&[("mcp-protocol-version", "2025-11-25"), ("mcp-protocol-version", "2026-07-28")]);
    assert_eq!(headers::protocol_version(&twice), Some(""));
    let mut odd = HeaderMap::new();
    odd.insert(headers::PROTOCOL_VERSION, HeaderValue::from_bytes(b"\xff").expect("value"));
    assert_eq!(headers::protocol_version(&odd), Some(""));
}

#[test]
fn p33_headers_for_requests_upstream() {
    let p = raw(r#"{"name":"Größe","arguments":{}}"#);
    let got: Vec<_> = headers::for_request(Revision::V2026_07_28, "tools/call", Some(&p))
        .into_iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().expect("ascii")))
        .collect();
    assert_eq!(
        got,
        ["mcp-protocol-version: 2026-07-28", "mcp-method: tools/call", "mcp-name: =?base64?R3LDtsOfZQ==?="]
    );
    assert_eq!(headers::for_request(Revision::V2026_07_28, "tools/list", None).len(), 2);
    assert_eq!(headers::for_request(Revision::V2026_07_28, "tools/call", Some(&raw("{\"name\":1}"))).len(), 2);
    // What is built passes the check.
    let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{{"uri":" x\n",{META}}}}}"#);
    let m = message(&text);
    let map: HeaderMap =
        headers::for_request(Revision::V2026_07_28, "resources/read", m.params().as_ref()).into_iter().collect();
    assert_eq!(check(&map, &m, &Params::of(&m).expect("params")), Ok(()));
}

fn found(schema: &str) -> Result<Vec<(String, String)>, InvalidAnnotation> {
    let headers = param_headers(&raw(schema))?;
    Ok(headers.into_iter().map(|header| (header.name.clone(), header.path.join("/"))).collect())
}

fn schema(property: &str) -> String {
    format!(r#"{{"type":"object","properties":{{"p":{property}}}}}"#)
}

#[test]
fn p33_annotations_that_are_valid() {
    let one = |name: &str, path: &str| Ok(vec![(name.to_owned(), path.to_owned())]);
    for kind in ["\"string\"", "\"integer\"", "\"boolean\"", "[\"string\",\"null\"]"] {
        assert_eq!(found(&schema(&format!(r#"{{"type":{kind},"x-mcp-header":"Region"}}"#))), one("Region", "p"));
    }
    assert_eq!(
        found(&schema(r#"{"type":"object","properties":{"q":{"type":"string","x-mcp-header":"A-b.c~1"}}}"#)),
        one("A-b.c~1", "p/q")
    );
    assert_eq!(found(&schema(r#"{"type":"string","x-mcp-\u0068eader":"Region"}"#)), one("Region", "p"));
    assert_eq!(found(&schema(r#"{"type":"string"}"#)), Ok(vec![]));
    // Neither a property of that name nor data is an annotation.
    assert_eq!(found(r#"{"properties":{"x-mcp-header":{"type":"string"}}}"#), Ok(vec![]));
    assert_eq!(
        found(&schema(r#"{"type":"string","default":{"x-mcp-header":"A"},"enum":[{"x-mcp-header":"B"}]}"#)),
        Ok(vec![])
    );
    assert_eq!(found("true"), Ok(vec![]));
}

#[test]
fn p33_annotations_that_make_a_tool_unusable() {
    let string = r#"{"type":"string","x-mcp-header":"A"}"#;
    for bad in [
        schema(r#"{"type":"string","x-mcp-header":""}"#),
        schema(r#"{"type":"string","x-mcp-header":"a b"}"#),
        schema(r#"{"type":"string","x-mcp-header":"a:b"}"#),
        schema(r#"{"type":"string","x-mcp-header":"ü"}"#),
        schema(r#"{"type":"string","x-mcp-header":"a\r\nb"}"#),
        schema(r#"{"type":"string","x-mcp-header":5}"#),
        schema(r#"{"type":"string","x-mcp-header":null}"#),
        schema(r#"{"type":"number","x-mcp-header":"A"}"#),
        schema(r#"{"type":"object","x-mcp-header":"A"}"#),
        schema(r#"{"type":"array","x-mcp-header":"A"}"#),
        schema(r#"{"type":["string","integer"],"x-mcp-header":"A"}"#),
        schema(r#"{"x-mcp-header":"A"}"#),
        schema(&format!(r#"{{"type":"array","items":{string}}}"#)),
        schema(&format!(r#"{{"type":"array","prefixItems":[{string}]}}"#)),
        schema(&format!(r#"{{"type":"array","items":[{string}]}}"#)),
        schema(&format!(r#"{{"oneOf":[{string}]}}"#)),
        schema(&format!(r#"{{"anyOf":[{string}]}}"#)),
        schema(&format!(r#"{{"allOf":[{string}]}}"#)),
        schema(&format!(r#"{{"not":{string}}}"#)),
        schema(&format!(r#"{{"additionalProperties":{string}}}"#)),
        schema(&format!(r#"{{"if":{{"properties":{{"q":{string}}}}}}}"#)),
        schema(&format!(r#"{{"then":{string}}}"#)),
        schema(&format!(r#"{{"else":{string}}}"#)),
        format!(r##"{{"type":"object","properties":{{"p":{{"$ref":"#/$defs/a"}}}},"$defs":{{"a":{string}}}}}"##),
        format!(r#"{{"patternProperties":{{"^a":{string}}}}}"#),
        r#"{"type":"string","x-mcp-header":"A"}"#.to_owned(),
        r#"{"properties":{"a":{"type":"string","x-mcp-header":"Same"},"b":{"type":"string","x-mcp-header":"sAME"}}}"#
            .to_owned(),
        format!("{}{string}{}", r#"{"properties":{"a":"#.repeat(63), "}}".repeat(63)).replace("\"A\"", "\"\""),
    ] {
        assert!(found(&bad).is_err(), "{bad}");
    }
    let error = found(&schema(r#"{"type":"number","x-mcp-header":"A"}"#)).expect_err("number");
    assert_eq!(error.at, "p");
}

fn annotated() -> Vec<ParamHeader> {
    param_headers(&raw(
        r#"{"properties":{"region":{"type":"string","x-mcp-header":"Region"},"n":{"type":"integer","x-mcp-header":"N"},
        "o":{"type":"object","properties":{"b":{"type":"boolean","x-mcp-header":"Flag"}}}}}"#,
    ))
    .expect("valid")
}

#[test]
fn p33_param_headers_of_arguments() {
    let of = |arguments: &str| -> Vec<String> {
        let values = param_values(&annotated(), Some(&raw(arguments)));
        values.iter().map(|(n, v)| format!("{n}: {}", v.to_str().expect("ascii"))).collect()
    };
    assert_eq!(
        of(r#"{"region":"eu","n":42,"o":{"b":true}}"#),
        ["mcp-param-region: eu", "mcp-param-n: 42", "mcp-param-flag: true"]
    );
    assert_eq!(
        of(r#"{"region":"世","n":42.0,"o":{"b":false}}"#),
        ["mcp-param-region: =?base64?5LiW?=", "mcp-param-n: 42", "mcp-param-flag: false"]
    );
    assert_eq!(of(r#"{"region":"","n":-1e2}"#), ["mcp-param-region: ", "mcp-param-n: -100"]);
    assert!(of(r#"{"region":null,"o":null,"n":null}"#).is_empty());
    assert!(of("{}").is_empty() && of("[]").is_empty());
    assert!(of(r#"{"region":{"x":1},"n":[1],"o":5}"#).is_empty());
    assert!(param_values(&annotated(), None).is_empty());
}

#[test]
fn p33_param_headers_must_equal_the_arguments() {
    use HeaderProblem::{Different, Malformed, Missing, Twice};
    let run = |headers: &[(&str, &str)], arguments: &str| {
        check_params(&map(headers), &annotated(), Some(&raw(arguments))).map_err(|e| e.problem)
    };
    let eu = ("Mcp-Param-Region", "eu");
    assert_eq!(run(&[eu], r#"{"region":"eu"}"#), Ok(()));
    assert_eq!(run(&[("mcp-param-region", "=?base64?ZXU=?=")], r#"{"region":"\u0065u"}"#), Ok(()));
    assert_eq!(run(&[("mcp-param-n", "42")], r#"{"n":42.0}"#), Ok(()));
    assert_eq!(run(&[("mcp-param-n", "42.0")], r#"{"n":42}"#), Ok(()));
    assert_eq!(run(&[("mcp-param-flag", "true")], r#"{"o":{"b":true}}"#), Ok(()));
    assert_eq!(run(&[("mcp-param-other", "x")], "{}"), Ok(()), "unknown ones are not judged");
    assert_eq!(run(&[], r#"{"region":null}"#), Ok(()));
    for (headers, arguments, problem) in [
        (&[][..], r#"{"region":"eu"}"#, Missing),
        (&[("mcp-param-region", "us")][..], r#"{"region":"eu"}"#, Different),
        (&[("mcp-param-region", "EU")], r#"{"region":"eu"}"#, Different),
        (&[eu, eu], r#"{"region":"eu"}"#, Twice),
        (&[("mcp-param-region", "=?base64?Z?=")], r#"{"region":"eu"}"#, Malformed),
        (&[eu], "{}", Different),
        (&[eu], r#"{"region":null}"#, Different),
        (&[eu], r#"{"region":["eu"]}"#, Different),
        (&[("mcp-param-n", "43")], r#"{"n":42}"#, Different),
        (&[("mcp-param-n", "+42")], r#"{"n":42}"#, Different),
        (&[("mcp-param-n", "042")], r#"{"n":42}"#, Different),
        (&[("mcp-param-n", "")], r#"{"n":42}"#, Different),
        (&[("mcp-param-n", "abc")], r#"{"n":0}"#, Different),
        (&[("mcp-param-region", "42.0")], r#"{"region":"42"}"#, Different),
        (&[("mcp-param-flag", "True")], r#"{"o":{"b":true}}"#, Different),
    ] {
        assert_eq!(run(headers, arguments), Err(problem), "{headers:?} {arguments}");
    }
}

#[test]
fn p33_all_param_headers_are_forwarded() {
    let map = map(&[("Mcp-Param-A", "1"), ("mcp-param-zz", "=?base64?5LiW?="), ("mcp-name", "x"), ("cookie", "y")]);
    let mut names: Vec<_> = headers::forwarded(&map).into_iter().map(|(name, _)| name.as_str().to_owned()).collect();
    names.sort();
    assert_eq!(names, ["mcp-param-a", "mcp-param-zz"]);
}
