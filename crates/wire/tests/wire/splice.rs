//! Edits on text (P30).

use bartizan_wire::{RawJson, splice};

use crate::support::{raw, same};

#[test]
fn p30_get_takes_the_last_of_a_name_in_any_spelling() {
    let obj = raw(r#"{"a":1.0,"b":{"c":[1, 2]},"\u0061":2.50}"#);
    same(&splice::get(&obj, "a").expect("a"), "2.50");
    same(&splice::get_path(&obj, &["b", "c"]).expect("c"), "[1, 2]");
    let [b, a, none] = splice::pick(&obj, ["b", "a", "none"]);
    assert_eq!((b, a, none), (splice::get(&obj, "b"), splice::get(&obj, "a"), None));
    assert!(splice::get(&obj, "c").is_none());
    assert!(splice::get(&raw("[1]"), "a").is_none());
    assert!(splice::get(&raw("\"a\""), "a").is_none());
    assert!(splice::get(&raw("{}"), "").is_none());
    same(&splice::get(&raw(r#"{"":1}"#), "").expect("empty name"), "1");
}

#[test]
fn p30_set_replaces_in_place_and_appends_at_the_end() {
    let two = raw("2");
    for (text, want) in [
        ("{}", r#"{"a":2}"#),
        ("{ }", r#"{"a":2 }"#),
        (r#"{"a":1}"#, r#"{"a":2}"#),
        (r#"{ "a" : 1.0 , "b" : 1e0 }"#, r#"{ "a" : 2 , "b" : 1e0 }"#),
        (r#"{ "b" : 1e0 }"#, r#"{ "b" : 1e0,"a":2 }"#),
        (r#"{"\u0061":1,"b":3}"#, r#"{"\u0061":2,"b":3}"#),
        (r#"{"a":1,"a":3}"#, r#"{"a":2,"a":2}"#),
        ("[1]", "[1]"),
        ("null", "null"),
    ] {
        same(&splice::set(&raw(text), "a", &two), want);
    }
    same(&splice::set(&raw("{}"), "q\"\n\u{1}", &two), r#"{"q\"\n\u0001":2}"#);
}

#[test]
fn p30_remove_takes_the_right_comma() {
    for (text, want) in [
        (r#"{"a":1}"#, "{}"),
        (r#"{ "a" : 1 }"#, "{ }"),
        (r#"{"a":1,"b":2}"#, r#"{"b":2}"#),
        (r#"{"b":2,"a":1}"#, r#"{"b":2}"#),
        (r#"{"b":2 , "a":1 , "c":3}"#, r#"{"b":2 , "c":3}"#),
        (r#"{ "a":1 , "c":3 }"#, r#"{ "c":3 }"#),
        (r#"{"a":1,"b":2,"a":3}"#, r#"{"b":2}"#),
        (r#"{"a":1,"a":3}"#, "{}"),
        (r#"{"a":1,"a":3,"b":1.0}"#, r#"{"b":1.0}"#),
        (r#"{"b":{"a":1}}"#, r#"{"b":{"a":1}}"#),
        (r#"{"b":"\"a\":1,"}"#, r#"{"b":"\"a\":1,"}"#),
    ] {
        same(&splice::remove(&raw(text), "a"), want);
    }
}

#[test]
fn p30_nothing_changed_means_the_same_bytes() {
    let obj = raw(r#"{ "a" : 1 }"#);
    for same in [
        splice::set(&obj, "a", &raw("1")),
        splice::remove(&obj, "b"),
        splice::edit(&obj, &[]),
        splice::remove_path(&obj, &["x", "y"]),
        splice::edit_in(&obj, "_meta", &[("k", None)]),
    ] {
        // Not only equal: the very same memory.
        assert_eq!(same.as_bytes().as_ptr(), obj.as_bytes().as_ptr());
    }
    let list = raw("[1.0, 2]");
    assert_eq!(splice::map_items(&list, |item| Some(item.clone())).as_bytes().as_ptr(), list.as_bytes().as_ptr());
}

#[test]
fn p30_many_edits_in_one_pass() {
    let (one, x) = (raw("1"), raw("\"x\""));
    same(
        &splice::edit(
            &raw(r#"{"a":0,"b":0.0,"c":0}"#),
            &[("c", Some(&x)), ("a", None), ("n", Some(&one)), ("m", Some(&x))],
        ),
        r#"{"b":0.0,"c":"x","n":1,"m":"x"}"#,
    );
    same(&splice::set_many(&raw(r#"{"a":0}"#), &[("a", &one), ("b", &one)]), r#"{"a":1,"b":1}"#);
    same(&splice::edit(&raw(r#"{"a":0}"#), &[("a", None), ("b", Some(&one))]), r#"{"b":1}"#);
}

#[test]
fn p30_paths() {
    let v = raw("true");
    same(&splice::set_path(&raw("{}"), &["_meta", "k"], &v), r#"{"_meta":{"k":true}}"#);
    same(&splice::set_path(&raw(r#"{"_meta":{"j":1.0}}"#), &["_meta", "k"], &v), r#"{"_meta":{"j":1.0,"k":true}}"#);
    same(&splice::set_path(&raw(r#"{"_meta":null,"z":1}"#), &["_meta", "k"], &v), r#"{"_meta":{"k":true},"z":1}"#);
    same(&splice::set_path(&raw("{}"), &["a", "b", "c"], &v), r#"{"a":{"b":{"c":true}}}"#);
    same(&splice::set_path(&raw("{}"), &[], &v), "true");
    same(&splice::remove_path(&raw(r#"{"a":{"b":1, "c":2}}"#), &["a", "b"]), r#"{"a":{ "c":2}}"#);
    same(&splice::remove_path(&raw(r#"{"a":{"b":1}}"#), &["a", "b"]), r#"{"a":{}}"#);
    same(&splice::remove_path(&raw(r#"{"a":5}"#), &["a", "b"]), r#"{"a":5}"#);
}

#[test]
fn p30_edit_in_cleans_up_after_itself() {
    let v = raw("1");
    same(&splice::edit_in(&raw(r#"{"_meta":{"k":2},"z":0}"#), "_meta", &[("k", None)]), r#"{"z":0}"#);
    same(&splice::edit_in(&raw(r#"{"_meta":{"k":2,"j":3}}"#), "_meta", &[("k", None)]), r#"{"_meta":{"j":3}}"#);
    same(&splice::edit_in(&raw(r#"{"_meta":{}}"#), "_meta", &[("k", None)]), r#"{"_meta":{}}"#);
    same(&splice::edit_in(&raw("{}"), "_meta", &[("k", Some(&v))]), r#"{"_meta":{"k":1}}"#);
    same(&splice::edit_in(&raw("[]"), "_meta", &[("k", Some(&v))]), "[]");
}

#[test]
fn p30_members_and_items_in_order() {
    let obj = raw(r#"{"z":1.0,"a\n":[ ],"\ud800":3}"#);
    let members = splice::members(&obj);
    assert_eq!(
        members.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect::<Vec<_>>(),
        [("z", "1.0"), ("a\n", "[ ]"), ("\u{fffd}", "3")]
    );
    let items = splice::items(&raw("[ 1.0 , \"a,b\", [2,3] ]"));
    assert_eq!(items.iter().map(RawJson::as_str).collect::<Vec<_>>(), ["1.0", "\"a,b\"", "[2,3]"]);
    assert!(splice::items(&raw("{}")).is_empty() && splice::members(&raw("[]")).is_empty());
    same(&splice::map_items(&raw("[1, 2.0 ,3]"), |item| (item.as_str() != "1").then(|| item.clone())), "[2.0,3]");
}

#[test]
fn p30_values_are_read_without_retyping() {
    assert_eq!(raw("\"a\\u0062\"").as_string().as_deref(), Some("ab"));
    assert_eq!(raw("\"\\ud83d\\ude00\"").as_string().as_deref(), Some("😀"));
    assert_eq!(raw("\"\\ud83d\"").as_string(), None);
    assert_eq!(raw("\"\\ude00\\ud83d\"").as_string(), None);
    assert_eq!(raw("\"\\b\\f\\n\\r\\t\\/\\\\\\\"\"").as_string().as_deref(), Some("\u{8}\u{c}\n\r\t/\\\""));
    assert_eq!(raw("7").as_string(), None);
    assert_eq!((raw("4.2e1").as_i64(), raw("1.5").as_i64(), raw("\"1\"").as_i64()), (Some(42), None, None));
    assert_eq!((raw("true").as_bool(), raw("null").as_bool()), (Some(true), None));
    for bad in ["", "{", "01", "1 2", "\"", "nul", "[1,]"] {
        assert!(RawJson::try_from(bad).is_err(), "{bad}");
    }
}

#[test]
fn p30_raw_json_through_serde_keeps_its_spelling() {
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Holder {
        value: RawJson,
    }
    let text = r#"{"value":{"n":1.0, "b" : 1e2,"a":[ ]}}"#;
    let holder: Holder = serde_json::from_str(text).expect("reads");
    assert_eq!(serde_json::to_string(&holder).expect("writes"), text);
}
