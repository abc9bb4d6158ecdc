//! A YAML document as a tree in which every value knows where it was written.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Spanned};

use crate::problem::{Place, Problem};

/// Index of a file (or of the environment) in the list of sources.
pub(crate) type SourceId = usize;

/// Where a value begins; line and column count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) source: SourceId,
    pub(crate) line: usize,
    pub(crate) column: usize,
    /// Characters to underline.
    pub(crate) length: usize,
}

/// A value and its place.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) mark: Mark,
    pub(crate) value: Value,
}

/// A member of a mapping.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) key: String,
    pub(crate) key_mark: Mark,
    pub(crate) node: Node,
}

/// YAML values as the core schema reads them.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Member>),
}

impl Node {
    pub(crate) fn empty_map(mark: Mark) -> Self {
        Self { mark, value: Value::Map(Vec::new()) }
    }

    pub(crate) fn members(&self) -> &[Member] {
        match &self.value {
            Value::Map(members) => members,
            _ => &[],
        }
    }

    pub(crate) fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Member> {
        self.members().iter().find(|member| member.key == key)
    }

    /// What the value is, in the words of an error message.
    pub(crate) fn kind(&self) -> String {
        match &self.value {
            Value::Null => "nothing".to_owned(),
            Value::Bool(value) => format!("the truth value `{value}`"),
            Value::Int(value) => format!("the number `{value}`"),
            Value::Float(value) => format!("the number `{value}`"),
            Value::Text(_) => "text".to_owned(),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a mapping".to_owned(),
        }
    }

    /// The value without places.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match &self.value {
            Value::Null => Json::Null,
            Value::Bool(value) => Json::Bool(*value),
            Value::Int(value) => match (u64::try_from(*value), i64::try_from(*value)) {
                (Ok(value), _) => value.into(),
                (_, Ok(value)) => value.into(),
                _ => Json::Null,
            },
            Value::Float(value) => serde_json::Number::from_f64(*value).map_or(Json::Null, Json::Number),
            Value::Text(value) => Json::String(value.clone()),
            Value::List(items) => items.iter().map(Self::to_json).collect(),
            Value::Map(members) => members
                .iter()
                .map(|member| (member.key.clone(), member.node.to_json()))
                .collect::<serde_json::Map<_, _>>()
                .into(),
        }
    }
}

/// Parses one document. Keys written twice are reported, and the first one is kept.
pub(crate) fn parse(source: SourceId, name: &str, text: &str, problems: &mut Vec<Problem>) -> Option<Node> {
    // The deepest legal value is eight levels down.
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_events: 200_000, max_aliases: 1_000, max_anchors: 1_000, max_depth: 16, flow_nesting_limit: 16 },
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        strict_booleans: true,
        with_snippet: false,
    };
    let raw: Option<Raw> = match serde_saphyr::from_str_with_options(text, options) {
        Ok(raw) => raw,
        Err(error) => {
            problems.push(syntax(name, &error));
            return None;
        }
    };
    let start = Mark { source, line: 1, column: 1, length: 1 };
    let mut node = match raw {
        Some(raw) => convert(source, raw, name, problems),
        None => Node::empty_map(start),
    };
    if matches!(node.value, Value::Null) {
        node = Node::empty_map(start);
    }
    Some(node)
}

fn syntax(name: &str, error: &serde_saphyr::Error) -> Problem {
    let error = error.without_snippet();
    let location = error.location().filter(|location| location.line() > 0);
    let place = location.map(|location| Place {
        file: name.to_owned(),
        line: clamp(location.line()),
        column: clamp(location.column()),
        length: 1,
    });
    let message = error.render_with_formatter(&serde_saphyr::UserMessageFormatter);
    // The place is shown apart.
    let message = message.split(" at line ").next().unwrap_or(&message).trim().to_owned();
    Problem { place, ..Problem::error("syntax", "", message) }
}

fn clamp(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// The tree as the YAML library hands it over.
struct Raw(Spanned<RawValue>);

enum RawValue {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    List(Vec<Raw>),
    Map(Vec<(Spanned<String>, Raw)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Spanned::deserialize(deserializer).map(Self)
    }
}

impl<'de> Deserialize<'de> for RawValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = RawValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<RawValue, E> {
        Ok(RawValue::Null)
    }

    fn visit_none<E>(self) -> Result<RawValue, E> {
        Ok(RawValue::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<RawValue, E> {
        Ok(RawValue::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<RawValue, E> {
        Ok(RawValue::Int(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<RawValue, E> {
        Ok(RawValue::Int(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<RawValue, E> {
        Ok(RawValue::Int(value))
    }

    fn visit_u128<E>(self, value: u128) -> Result<RawValue, E> {
        Ok(RawValue::Int(i128::try_from(value).unwrap_or(i128::MAX)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<RawValue, E> {
        Ok(RawValue::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<RawValue, E> {
        Ok(RawValue::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<RawValue, E> {
        Ok(RawValue::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<RawValue, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(RawValue::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawValue, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(RawValue::Map(members))
    }
}

fn mark<T>(source: SourceId, spanned: &Spanned<T>) -> Mark {
    let at = spanned.referenced;
    let length = clamp(at.span().len()).clamp(1, 200);
    Mark { source, line: clamp(at.line()).max(1), column: clamp(at.column()).max(1), length }
}

fn convert(source: SourceId, raw: Raw, name: &str, problems: &mut Vec<Problem>) -> Node {
    let mark_of_value = mark(source, &raw.0);
    let value = match raw.0.value {
        RawValue::Null => Value::Null,
        RawValue::Bool(value) => Value::Bool(value),
        RawValue::Int(value) => Value::Int(value),
        RawValue::Float(value) => Value::Float(value),
        RawValue::Text(value) => Value::Text(value),
        RawValue::List(items) => {
            Value::List(items.into_iter().map(|item| convert(source, item, name, problems)).collect())
        }
        RawValue::Map(raw_members) => {
            let mut members: Vec<Member> = Vec::with_capacity(raw_members.len());
            for (key, value) in raw_members {
                let key_mark = mark(source, &key);
                let node = convert(source, value, name, problems);
                if let Some(first) = members.iter().find(|member| member.key == key.value) {
                    let message = format!("key `{}` is written twice in one mapping", key.value);
                    let place = Place {
                        file: name.to_owned(),
                        line: key_mark.line,
                        column: key_mark.column,
                        length: key_mark.length,
                    };
                    let suggestion = Some(format!("the first one is in line {}", first.key_mark.line));
                    let problem = Problem::error("duplicate_key", "", message);
                    problems.push(Problem { place: Some(place), suggestion, ..problem });
                    continue;
                }
                members.push(Member { key: key.value, key_mark, node });
            }
            Value::Map(members)
        }
    };
    Node { mark: mark_of_value, value }
}
