//! JSON texts in odd spellings, and short ways to make values.

use bartizan_wire::{ClientProfile, Limits, Message, Params, RawJson, Revision};
use bytes::Bytes;
use proptest::prelude::*;

pub(crate) fn raw(text: &str) -> RawJson {
    RawJson::parse(text.to_owned(), &Limits::default()).unwrap_or_else(|e| panic!("{e}: {text}"))
}

pub(crate) fn message(text: &str) -> Message {
    Message::parse(Bytes::copy_from_slice(text.as_bytes()), &Limits::default())
        .unwrap_or_else(|e| panic!("{e}: {text}"))
}

pub(crate) fn params(text: &str) -> Params {
    Params::parse(&raw(text)).unwrap_or_else(|e| panic!("{e}: {text}"))
}

pub(crate) fn client(revision: Revision, capabilities: &str) -> ClientProfile {
    ClientProfile { capabilities: raw(capabilities), ..ClientProfile::plain(revision) }
}

/// The same value, whatever the spelling; member order counts.
#[track_caller]
pub(crate) fn same(got: &RawJson, want: &str) {
    assert_eq!(got.as_str(), want);
}

fn space() -> impl Strategy<Value = String> {
    prop_oneof![6 => Just(String::new()), 1 => "[ \t\r\n]{1,3}"]
}

fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        "-?(0|[1-9][0-9]{0,20})",
        "-?(0|[1-9][0-9]{0,3})\\.[0-9]{1,20}",
        "-?(0|[1-9][0-9]{0,3})(\\.[0-9]{1,3})?[eE][+-]?[0-9]{1,4}",
    ]
}

/// A string with quotes, some of its characters spelled as escapes.
pub(crate) fn string() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        4 => "[a-zA-Z0-9_./{}\\[\\]:, -]{0,12}",
        1 => any::<char>().prop_filter_map("escaped otherwise", |c| {
            (c != '"' && c != '\\' && c >= ' ').then(|| c.to_string())
        }),
        1 => any::<char>().prop_map(|c| c.encode_utf16(&mut [0; 2]).iter().map(|u| format!("\\u{u:04X}")).collect()),
        1 => prop::sample::select(vec!["\\n", "\\\"", "\\\\", "\\/", "\\t", "\\b", "\\f", "\\r"]).prop_map(str::to_owned),
    ];
    prop::collection::vec(part, 0..4).prop_map(|parts| format!("\"{}\"", parts.concat()))
}

/// Any JSON value as text, with white space anywhere; names within one object differ.
pub(crate) fn json() -> impl Strategy<Value = String> {
    let leaf =
        prop_oneof![Just("null".to_owned()), Just("true".to_owned()), Just("false".to_owned()), number(), string(),];
    leaf.prop_recursive(5, 48, 6, |inner| prop_oneof![array(inner.clone()), object_of(inner)])
}

fn array(inner: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    prop::collection::vec((space(), inner, space()), 0..5).prop_map(|items| {
        let items: Vec<_> = items.into_iter().map(|(a, item, b)| format!("{a}{item}{b}")).collect();
        format!("[{}]", items.join(","))
    })
}

fn object_of(inner: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    prop::collection::vec((string(), space(), space(), inner, space()), 0..6).prop_map(|members| {
        let mut seen = std::collections::HashSet::new();
        let members: Vec<_> = members
            .into_iter()
            .filter(|(key, ..)| seen.insert(serde_json::from_str::<String>(key).expect("a string")))
            .map(|(key, a, b, value, c)| format!("{a}{key}{b}:{value}{c}"))
            .collect();
        format!("{{{}}}", members.join(","))
    })
}

/// An object as text.
pub(crate) fn object() -> impl Strategy<Value = String> {
    object_of(json())
}
