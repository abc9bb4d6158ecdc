//! A JSON object read shallowly and lazily: only members whose name some policy
//! mentions are kept, as text; nested objects are opened when asked for.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Folded member names that policies mention.
pub(crate) type Keys = HashSet<Box<str>>;

/// A form equal for all spellings of a key that some JSON reader takes for the same:
/// many ignore case, a few by Unicode rules (`ſ` = `s`, the Kelvin sign = `k`), and
/// readers made from schemas take `userId` and `user_id` for one.
pub(crate) fn fold(key: &str) -> Cow<'_, str> {
    if key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
        return key.into();
    }
    let letters = key.chars().filter(|c| !matches!(c, '_' | '-'));
    if key.is_ascii() {
        return letters.map(|c| c.to_ascii_lowercase()).collect::<String>().into();
    }
    letters.flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect::<String>().into()
}

/// One object. Its members are kept by folded name.
pub(crate) struct Document<'a> {
    members: HashMap<Box<str>, Member<'a>>,
}

/// One kept member.
pub(crate) struct Member<'a> {
    key: Cow<'a, str>,
    raw: &'a str,
    /// Another member has the same folded name.
    twin: bool,
    keys: &'a Keys,
    child: OnceCell<Result<Document<'a>, &'static str>>,
}

impl<'a> Document<'a> {
    /// Reads the members of an object.
    ///
    /// # Errors
    /// When the text is not one JSON object.
    pub(crate) fn parse(text: &'a str, keys: &'a Keys) -> Result<Self, &'static str> {
        let mut reader = serde_json::Deserializer::from_str(text);
        let members = reader.deserialize_map(Members { keys }).map_err(|_| "is not an object")?;
        reader.end().map_err(|_| "is not an object")?;
        Ok(Self { members })
    }

    /// The member of this name, if it is there exactly once and nothing looks like it.
    ///
    /// # Errors
    /// When a duplicate or a look-alike is there.
    pub(crate) fn get(&self, name: &str) -> Result<Option<&Member<'a>>, String> {
        match self.members.get(&*fold(name)) {
            None => Ok(None),
            Some(member) if member.twin => Err(format!("`{name}` is given more than once")),
            Some(member) if member.key == name => Ok(Some(member)),
            Some(_) => Err(format!("a member is spelled almost like `{name}`")),
        }
    }
}

impl<'a> Member<'a> {
    /// The JSON text of the value.
    pub(crate) fn text(&self) -> &'a str {
        self.raw
    }

    /// The value as an object, read once.
    pub(crate) fn object(&self) -> Result<&Document<'a>, &'static str> {
        self.child.get_or_init(|| Document::parse(self.raw, self.keys)).as_ref().map_err(|why| *why)
    }
}

struct Members<'a> {
    keys: &'a Keys,
}

impl<'a> Visitor<'a> for Members<'a> {
    type Value = HashMap<Box<str>, Member<'a>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members: Self::Value = HashMap::new();
        while let Some(key) = map.next_key_seed(Key)? {
            let folded = fold(&key);
            if !self.keys.contains(&*folded) {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            if let Some(member) = members.get_mut(&*folded) {
                member.twin = true;
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let folded = folded.into();
            let raw: &'a RawValue = map.next_value()?;
            members
                .insert(folded, Member { key, raw: raw.get(), twin: false, keys: self.keys, child: OnceCell::new() });
        }
        Ok(members)
    }
}

/// Reads a key without copying it, unless it has escapes.
struct Key;

impl<'a> DeserializeSeed<'a> for Key {
    type Value = Cow<'a, str>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        struct Text;
        impl<'a> Visitor<'a> for Text {
            type Value = Cow<'a, str>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a member name")
            }
            fn visit_borrowed_str<E>(self, text: &'a str) -> Result<Self::Value, E> {
                Ok(text.into())
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(text.to_owned().into())
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(names: &[&str]) -> Keys {
        names.iter().map(|name| fold(name).into()).collect()
    }

    #[test]
    fn a20_duplicates_and_look_alikes_are_refused() {
        let keys = keys(&["amount", "task"]);
        for text in [
            r#"{"amount":1,"amount":2}"#,
            r#"{"amount":1,"Amount":2}"#,
            r#"{"AMOUNT":1}"#,
            r#"{"\u0061mount":1,"amount":1}"#,
            "{\"ta\u{17f}k\":1}",
            "{\"tas\u{212a}\":1}",
        ] {
            let document = Document::parse(text, &keys).unwrap();
            assert!(document.get("amount").is_err() || document.get("task").is_err(), "{text}");
        }
        let escaped = Document::parse(r#" { "\u0061mount" : 7 , "x":{"amount":[] } } "#, &keys).unwrap();
        assert_eq!(escaped.get("amount").unwrap().unwrap().text(), "7");
        let keys = self::keys(&["user_id"]);
        for text in [r#"{"userId":1}"#, r#"{"user-id":1}"#, r#"{"user_id":1,"userID":2}"#, r#"{"_user_id_":1}"#] {
            assert!(Document::parse(text, &keys).unwrap().get("user_id").is_err(), "{text}");
        }
        assert!(Document::parse(r#"{"user_id":1,"user":2,"id":3}"#, &keys).unwrap().get("user_id").is_ok());
        assert!(escaped.get("task").unwrap().is_none());
    }

    #[test]
    fn a20_only_objects_are_objects() {
        let keys = keys(&["a"]);
        for text in ["", "[]", "1", "null", "\"a\"", "{", "{}{}", "{\"a\":}", "{a:1}", "{\"a\":1,}", "{\"\\ud800\":1}"]
        {
            assert!(Document::parse(text, &keys).is_err(), "{text}");
        }
    }

    #[test]
    fn a20_deep_and_wide_arguments_do_not_exhaust_anything() {
        let keys = keys(&["a"]);
        let deep = format!("{{\"x\":{}{},\"a\":1}}", "[".repeat(100_000), "]".repeat(100_000));
        let document = Document::parse(&deep, &keys);
        // Read or refused, but never a crash.
        if let Ok(document) = document {
            assert!(document.get("a").unwrap().is_some());
        }
        let wide = format!("{{{}\"a\":1}}", "\"b\":1,".repeat(100_000));
        assert_eq!(Document::parse(&wide, &keys).unwrap().members.len(), 1);
    }
}
