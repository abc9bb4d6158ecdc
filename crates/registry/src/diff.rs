//! What changed between two definitions, for whoever decides (P45): texts by words, schemas by
//! properties, and what a change lets a tool do.

mod words;

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

pub use words::{Op, Part, words};

/// Most changes that are told one by one.
const MOST: usize = 500;

/// One changed member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Where, as a JSON pointer (RFC 6901).
    pub path: String,
    /// In a schema what it means: `property added`, `now required`, …
    pub what: &'static str,
    /// Before, as JSON; absent where it was not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// After, as JSON; absent where it is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Words of a text that changed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub words: Vec<Part>,
    /// It may let the tool do more, or makes callers say more.
    pub permission: bool,
}

/// All changes from one canonical text to another; from nothing when there is none.
pub fn changes(before: Option<&str>, after: Option<&str>) -> Vec<Change> {
    let leaves = |text: Option<&str>| {
        let mut all = BTreeMap::new();
        if let Some(value) = text.and_then(|text| serde_json::from_str::<Value>(text).ok()) {
            flatten(String::new(), &value, &mut all);
        }
        all
    };
    let (old, new) = (leaves(before), leaves(after));
    let mut paths: Vec<&String> = old.keys().chain(new.keys()).collect();
    paths.sort_unstable();
    paths.dedup();
    let differing = paths.into_iter().filter(|path| old.get(*path) != new.get(*path));
    differing.take(MOST).map(|path| change(path, old.get(path), new.get(path))).collect()
}

fn change(path: &str, before: Option<&Value>, after: Option<&Value>) -> Change {
    let shown = |value: Option<&Value>| value.map(|value| visible(&value.to_string()));
    let words = match (before, after) {
        (Some(Value::String(before)), Some(Value::String(after))) => words(before, after),
        _ => Vec::new(),
    };
    let what = meaning(path, before, after);
    Change {
        path: visible(path),
        what,
        permission: is_permission(path, what, after),
        before: shown(before),
        after: shown(after),
        words,
    }
}

/// Whether a path is a schema's property itself, not something about it.
fn is_property(path: &str) -> bool {
    let mut parts = path.rsplit('/');
    let _name = parts.next();
    parts.next() == Some("properties")
}

fn meaning(path: &str, before: Option<&Value>, after: Option<&Value>) -> &'static str {
    let schema = path.starts_with("/inputSchema") || path.starts_with("/outputSchema");
    let last = path.rsplit('/').next().unwrap_or_default();
    match (schema, before, after) {
        (true, None, Some(_)) if is_property(path) => "property added",
        (true, Some(_), None) if is_property(path) => "property removed",
        (true, _, _) if last == "required" => "required changed",
        (true, _, _) if last == "type" => "type changed",
        (true, _, _) if last == "enum" || last == "const" => "values changed",
        (_, None, Some(_)) => "added",
        (_, Some(_), None) => "removed",
        _ => "changed",
    }
}

fn is_permission(path: &str, what: &str, after: Option<&Value>) -> bool {
    match path {
        "/annotations/readOnlyHint" => after != Some(&Value::Bool(true)),
        "/annotations/destructiveHint" | "/annotations/openWorldHint" => after != Some(&Value::Bool(false)),
        _ => {
            let input = path.starts_with("/inputSchema");
            (input && matches!(what, "property added" | "required changed" | "values changed" | "type changed"))
                || path.starts_with("/execution")
        }
    }
}

/// Leaves by their path. Lists of plain values are one leaf, and so is a property that is as
/// small as its type, so that a new parameter is one change and not five.
fn flatten(path: String, value: &Value, out: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            if is_property(&path) {
                let kind = members.get("type").cloned().unwrap_or(Value::Null);
                out.insert(path.clone(), Value::Object([("type".to_owned(), kind)].into_iter().collect()));
            }
            for (name, member) in members {
                flatten(format!("{path}/{}", name.replace('~', "~0").replace('/', "~1")), member, out);
            }
        }
        Value::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => {
            for (at, item) in items.iter().enumerate() {
                flatten(format!("{path}/{at}"), item, out);
            }
        }
        leaf => {
            out.insert(path, leaf.clone());
        }
    }
}

/// The text with everything that a reader would not see, or that a terminal would obey, spelled
/// out as `\u{…}`.
pub fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\n' || !is_hidden(c) {
            out.push(c);
        } else {
            out.push_str(&format!("\\u{{{:x}}}", u32::from(c)));
        }
    }
    out
}

fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{e000}'..='\u{f8ff}' | '\u{e0000}'..='\u{10ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(before: &str, after: &str) -> Vec<(String, &'static str, bool)> {
        changes(Some(before), Some(after)).into_iter().map(|each| (each.path, each.what, each.permission)).collect()
    }

    #[test]
    fn p45_schema_changes_are_named() {
        let before = r#"{"inputSchema":{"properties":{"a":{"type":"string"}},"required":["a"],"type":"object"}}"#;
        let after = r#"{"inputSchema":{"properties":{"a":{"type":"integer"},"bcc":{"type":"string","description":"x"}},"required":["a","bcc"],"type":"object"}}"#;
        let all = told(before, after);
        assert!(all.contains(&("/inputSchema/properties/bcc".into(), "property added", true)), "{all:?}");
        assert!(all.contains(&("/inputSchema/required".into(), "required changed", true)), "{all:?}");
        assert!(all.contains(&("/inputSchema/properties/a/type".into(), "type changed", true)), "{all:?}");
        assert!(told(after, before).contains(&("/inputSchema/properties/bcc".into(), "property removed", false)));
    }

    #[test]
    fn p45_hints_that_flip_are_permissions() {
        let all = told(r#"{"annotations":{"readOnlyHint":true}}"#, r#"{"annotations":{"readOnlyHint":false}}"#);
        assert_eq!(all, [("/annotations/readOnlyHint".to_owned(), "changed", true)]);
        assert!(changes(Some("{}"), Some("{}")).is_empty());
        assert_eq!(changes(None, Some(r#"{"name":"a"}"#)).len(), 1);
    }

    #[test]
    fn p45_nothing_hides_and_no_terminal_obeys() {
        let text = visible("a\u{1b}[2Jb\u{200b}c\u{202e}d\u{e0041}\r\u{7f}\u{9b}é😀");
        assert_eq!(text, "a\\u{1b}[2Jb\\u{200b}c\\u{202e}d\\u{e0041}\\u{d}\\u{7f}\\u{9b}é😀");
    }
}
