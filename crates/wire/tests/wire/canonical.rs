//! RFC 8785 (pins and digests).

use bartizan_wire::canonical::{Inexact, exact, rfc8785};
use proptest::prelude::*;

use crate::support::raw;

#[track_caller]
fn is(text: &str, want: &str) {
    assert_eq!(rfc8785(&raw(text)), want, "{text}");
}

#[test]
fn p30_canonical_members_are_sorted_by_utf16() {
    is(r#"{"b":1,"a":{"d":2,"c":[3, 4]}}"#, r#"{"a":{"c":[3,4],"d":2},"b":1}"#);
    // RFC 8785, section 3.2.3.
    is(
        r#"{"\u20ac":"Euro Sign","\r":"Carriage Return","\ufb33":"Hebrew Letter Dalet With Dagesh","1":"One",
        "\ud83d\ude00":"Emoji: Grinning Face","\u0080":"Control","\u00f6":"Latin Small Letter O With Diaeresis"}"#,
        "{\"\\r\":\"Carriage Return\",\"1\":\"One\",\"\u{80}\":\"Control\",\"ö\":\"Latin Small Letter O With Diaeresis\",\
         \"€\":\"Euro Sign\",\"😀\":\"Emoji: Grinning Face\",\"\u{fb33}\":\"Hebrew Letter Dalet With Dagesh\"}",
    );
}

#[test]
fn p30_canonical_order_of_unescaped_names() {
    // In UTF-8 the emoji sorts last, in UTF-16 its surrogates sort before U+FB33.
    is("{\"\u{fb33}\":1,\"😀\":2,\"z\":3,\"é\":4}", "{\"z\":3,\"é\":4,\"😀\":2,\"\u{fb33}\":1}");
    is("{\"ab\":1,\"a\":2,\"b\":3,\"\":4}", "{\"\":4,\"a\":2,\"ab\":1,\"b\":3}");
}

#[test]
fn p30_canonical_strings() {
    // RFC 8785, section 3.2.2.
    is(r#""\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/""#, "\"€$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"");
    is(r#""\b\t\n\f\r\u007f""#, "\"\\b\\t\\n\\f\\r\u{7f}\"");
    is(r#""\uD800x\udc00""#, r#""\ud800x\udc00""#);
}

#[test]
fn p30_canonical_numbers_as_ecmascript() {
    for (text, want) in [
        // RFC 8785, appendix B.
        ("0", "0"),
        ("-0", "0"),
        ("-0.0", "0"),
        ("5e-324", "5e-324"),
        ("-5e-324", "-5e-324"),
        ("1.7976931348623157e308", "1.7976931348623157e+308"),
        ("9007199254740992", "9007199254740992"),
        ("-9007199254740992", "-9007199254740992"),
        ("295147905179352830000", "295147905179352830000"),
        ("9.999999999999997e22", "9.999999999999997e+22"),
        ("1e23", "1e+23"),
        ("1.0000000000000001e23", "1.0000000000000001e+23"),
        ("999999999999999700000", "999999999999999700000"),
        ("999999999999999900000", "999999999999999900000"),
        ("1e21", "1e+21"),
        ("9.999999999999997e-7", "9.999999999999997e-7"),
        ("0.000001", "0.000001"),
        ("333333333.3333332", "333333333.3333332"),
        ("333333333.33333325", "333333333.33333325"),
        ("333333333.3333333", "333333333.3333333"),
        ("333333333.3333334", "333333333.3333334"),
        ("333333333.33333343", "333333333.33333343"),
        ("-0.0000033333333333333333", "-0.0000033333333333333333"),
        ("1424953923781206.2", "1424953923781206.2"),
        // Spellings of one value.
        ("1.0", "1"),
        ("1e0", "1"),
        ("100E-2", "1"),
        ("1e2", "100"),
        ("4.50", "4.5"),
        ("2e-3", "0.002"),
        ("1e-7", "1e-7"),
        ("123e-9", "1.23e-7"),
        ("333333333.33333329", "333333333.3333333"),
        ("1E30", "1e+30"),
        ("0.000000000000000000000000001", "1e-27"),
        // Beyond doubles: kept apart.
        ("1e400", "1e400"),
        ("-2E400", "-2E400"),
    ] {
        is(text, want);
    }
}

#[test]
fn p30_canonical_forms_are_equal_for_equal_values_only() {
    let form = |text: &str| rfc8785(&raw(text));
    assert_eq!(form(r#"{"a":1.0,"b":"\u0041"}"#), form(" { \"b\" : \"A\",\n\"a\":1e0 } "));
    assert_ne!(form(r#"{"a":1}"#), form(r#"{"a":"1"}"#));
    assert_ne!(form(r#"["\ud800"]"#), form(r#"["\ud801"]"#));
    assert_ne!(form("[1e400]"), form("[1e401]"));
    assert_ne!(form(r#"{"a":1,"a":2}"#), form(r#"{"a":2,"a":1}"#));
    is("[]", "[]");
    is(" [ [ ] , { } ,null,true , false]", "[[],{},null,true,false]");
}

#[test]
fn p30_canonical_is_linear_in_deep_texts() {
    let deep = format!("{}\"{}\"{}", "[{\"a\":".repeat(60), "x".repeat(100_000), "}]".repeat(60));
    assert_eq!(rfc8785(&raw(&deep)), deep);
}

#[test]
fn p30_deepest_texts_do_not_exhaust_the_stack() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let deep = format!("{}1{}", open.repeat(512), close.repeat(512));
        let value =
            bartizan_wire::RawJson::parse(deep.clone(), &bartizan_wire::Limits { depth: 512 }).expect("just fits");
        assert_eq!(rfc8785(&value), deep);
        // As part of something larger it is still whole.
        let outer = bartizan_wire::splice::set_path(&raw("{}"), &["x", "y"], &value);
        assert_eq!(bartizan_wire::splice::get_path(&outer, &["x", "y"]), Some(value));
    }
}

proptest! {
    /// RFC 8785's own criterion: the text reads back as the same double.
    #[test]
    fn p30_canonical_numbers_read_back_as_the_same_double(bits in any::<u64>()) {
        let value = f64::from_bits(bits);
        prop_assume!(value.is_finite());
        let form = rfc8785(&raw(&format!("{value:e}")));
        prop_assert_eq!(form.parse::<f64>().ok(), Some(value + 0.0));
    }
}

#[test]
fn p43_what_has_no_exact_form_is_refused() {
    for (text, why) in [
        (r#"{"a":1,"a":1}"#, Inexact::Duplicate),
        (r#"{"x":[{"a":1,"\u0061":2}]}"#, Inexact::Duplicate),
        (r#"{"a":"\ud800"}"#, Inexact::Surrogate),
        (r#"["x\udc00y"]"#, Inexact::Surrogate),
        (r#"{"\ud800":1}"#, Inexact::Surrogate),
        ("1e400", Inexact::Number),
        ("[-1e309]", Inexact::Number),
        ("1e-400", Inexact::Number),
        ("1e99999999999999999999", Inexact::Number),
    ] {
        assert_eq!(exact(&raw(text)), Err(why), "{text}");
    }
}

#[test]
fn p43_numbers_that_a_double_rounds_keep_their_digits() {
    for (text, want) in [
        ("9007199254740993", "9007199254740993"),
        ("18446744073709551615", "18446744073709551615"),
        ("0.1000000000000000055511151231257827", "0.1000000000000000055511151231257827"),
        // What a double holds is written as RFC 8785 says.
        ("9007199254740992", "9007199254740992"),
        ("1.50", "1.5"),
        ("10e-1", "1"),
        ("-0.0", "0"),
        ("0e999", "0"),
        ("1e23", "1e+23"),
        ("295147905179352830000", "295147905179352830000"),
        ("5e-324", "5e-324"),
        ("1.7976931348623157e308", "1.7976931348623157e+308"),
    ] {
        assert_eq!(exact(&raw(text)).as_deref(), Ok(want), "{text}");
    }
    assert_ne!(exact(&raw("9007199254740993")), exact(&raw("9007199254740992")));
}
