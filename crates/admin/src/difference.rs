//! What changed between two versions of an object, with secrets masked.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::secrets::SUMMARY;

/// Longest text of a value in a difference, characters.
const SHOWN: usize = 300;
/// Most members in the difference of one object.
const MEMBERS: usize = 200;

/// One member that is different.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Member {
    /// JSON pointer.
    pub pointer: String,
    /// Former value; absent when there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// New value; absent when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
}

/// The members that differ between two shown bodies.
pub fn members(before: Option<&Value>, after: Option<&Value>) -> Vec<Member> {
    let mut found = Vec::new();
    compare("", before, after, &mut found);
    found.truncate(MEMBERS);
    found
}

fn compare(pointer: &str, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<Member>) {
    if before == after || (is_nothing(before) && is_nothing(after)) {
        return;
    }
    let empty = Map::new();
    let (left, right) = match (before, after) {
        (Some(Value::Object(left)), Some(Value::Object(right))) => (left, right),
        (None, Some(Value::Object(right))) if pointer.is_empty() => (&empty, right),
        (Some(Value::Object(left)), None) if pointer.is_empty() => (left, &empty),
        _ => {
            found.push(Member { pointer: pointer.to_owned(), before: before.map(short), after: after.map(short) });
            return;
        }
    };
    let mut keys: Vec<&String> = left.keys().chain(right.keys().filter(|key| !left.contains_key(*key))).collect();
    keys.sort();
    for key in keys {
        let below = format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"));
        compare(&below, left.get(key), right.get(key), found);
    }
}

/// What an absent member and its default look like. Shown differences leave them out.
fn is_nothing(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::Array(items)) => items.is_empty(),
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Object(members)) => members.values().all(|value| is_nothing(Some(value)) || *value == false),
        Some(_) => false,
    }
}

fn short(value: &Value) -> Value {
    let text = value.to_string();
    if text.chars().count() <= SHOWN {
        return value.clone();
    }
    Value::String(text.chars().take(SHOWN).chain(['…']).collect())
}

/// Whether a member says only something about secrets.
pub fn is_about_secrets(member: &Member) -> bool {
    member.pointer.starts_with(&format!("/{SUMMARY}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn l10_a_difference_names_each_member() {
        let before = json!({"id": "a", "name": "A", "list": [1], "inner": {"x": 1, "y": 2}, "none": null});
        let after = json!({"id": "a", "name": "B", "list": [1, 2], "inner": {"x": 1, "y": 3}, "new": true});
        let found = members(Some(&before), Some(&after));
        let pointers: Vec<_> = found.iter().map(|one| one.pointer.as_str()).collect();
        assert_eq!(pointers, ["/inner/y", "/list", "/name", "/new"]);
        assert_eq!(found[2].before, Some(json!("A")));
        assert_eq!(members(Some(&before), Some(&before)), []);
        assert!(members(None, Some(&after)).iter().all(|one| one.before.is_none()));
        let long = json!({"text": "x".repeat(10_000)});
        assert!(serde_json::to_string(&members(None, Some(&long))).unwrap().len() < 500);
    }
}
