//! Checks a tree against the JSON schema, reporting every problem at its place, and
//! takes out what is wrong, so that later checks can run on the rest.

use std::net::SocketAddr;

use ipnet::IpNet;
use serde_json::Value as Json;

use crate::problem::Problem;
use crate::sources::Sources;
use crate::suggest::nearest;
use crate::tree::{Mark, Node, Value};

/// What a check found besides problems.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) problems: Vec<Problem>,
    /// An entry of a list was taken out, so references to it would seem unknown.
    pub(crate) dropped: bool,
}

/// The walk over tree and schema.
pub(crate) struct Validator<'a> {
    root: &'a Json,
    sources: &'a Sources,
    found: Found,
}

impl<'a> Validator<'a> {
    pub(crate) fn new(root: &'a Json, sources: &'a Sources) -> Self {
        Self { root, sources, found: Found::default() }
    }

    /// Checks `node` from the root of the schema.
    pub(crate) fn run(mut self, node: &mut Node) -> Found {
        if !self.check(node, self.root, "") {
            *node = Node::empty_map(node.mark);
        }
        self.found
    }

    fn report(&mut self, code: &'static str, path: &str, mark: Mark, message: String, suggestion: Option<String>) {
        let place = self.sources.place(mark);
        self.found.problems.push(Problem { suggestion, place, ..Problem::error(code, path, message) });
    }

    /// False if the value must be taken out.
    fn check(&mut self, node: &mut Node, schema: &'a Json, path: &str) -> bool {
        let schema = self.resolve(schema);
        if let Some(choices) = schema.get("anyOf").and_then(Json::as_array) {
            return self.check_optional(node, choices, path);
        }
        if let Some(choices) = schema.get("oneOf").and_then(Json::as_array) {
            return self.check_choice(node, choices, path);
        }
        let kinds = kinds(schema);
        if !kinds.is_empty() && !kinds.iter().any(|kind| fits(kind, &node.value)) {
            self.wrong_type(node, &kinds, path);
            return false;
        }
        match &mut node.value {
            Value::Map(_) => self.check_map(node, schema, path),
            Value::List(items) => {
                let Some(schema) = schema.get("items") else { return true };
                let mut kept = Vec::with_capacity(items.len());
                let before = items.len();
                for (index, mut item) in std::mem::take(items).into_iter().enumerate() {
                    if self.check(&mut item, schema, &format!("{path}[{index}]")) {
                        kept.push(item);
                    }
                }
                self.found.dropped |= kept.len() < before;
                *items = kept;
                true
            }
            Value::Text(text) => {
                let text = text.clone();
                self.check_text(&text, node.mark, schema, path)
            }
            Value::Int(number) => {
                let number = *number;
                self.check_number(number, node.mark, schema, path)
            }
            Value::Null | Value::Bool(_) | Value::Float(_) => true,
        }
    }

    fn resolve(&self, schema: &'a Json) -> &'a Json {
        let Some(reference) = schema.get("$ref").and_then(Json::as_str) else { return schema };
        reference.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer)).unwrap_or(schema)
    }

    /// `anyOf` of something and null.
    fn check_optional(&mut self, node: &mut Node, choices: &'a [Json], path: &str) -> bool {
        if matches!(node.value, Value::Null) {
            return true;
        }
        let real = choices.iter().find(|choice| choice.get("type").and_then(Json::as_str) != Some("null"));
        real.is_none_or(|schema| self.check(node, schema, path))
    }

    /// `oneOf` of words, of mappings with one key, or of both.
    fn check_choice(&mut self, node: &mut Node, choices: &'a [Json], path: &str) -> bool {
        let words: Vec<&str> = choices.iter().filter_map(|choice| choice.get("const").and_then(Json::as_str)).collect();
        let mapping = matches!(node.value, Value::Map(_)) && choices.iter().any(|choice| only_key(choice).is_some());
        if !words.is_empty() && !mapping {
            let Value::Text(text) = &node.value else {
                self.wrong_type(node, &["string"], path);
                return false;
            };
            return self.one_of(&text.clone(), &words, node.mark, path);
        }
        let keys: Vec<&str> = choices.iter().filter_map(only_key).collect();
        let Value::Map(members) = &node.value else {
            let message = format!("expected a mapping with one of the keys {}, found {}", list(&keys), node.kind());
            self.report("wrong_type", path, node.mark, message, None);
            return false;
        };
        let [member] = members.as_slice() else {
            let message = format!("expected exactly one of the keys {}", list(&keys));
            let in_list = path.ends_with(']');
            let hint = if in_list { "write each key as an entry of its own" } else { "keep one of them" }.to_owned();
            self.report("one_key", path, node.mark, message, Some(hint));
            return false;
        };
        match choices.iter().find(|choice| only_key(choice) == Some(member.key.as_str())) {
            Some(choice) => {
                // The only key is taken out when its value is wrong; the entry then has no meaning.
                self.check(node, choice, path) && !node.members().is_empty()
            }
            None => {
                let (key, mark) = (member.key.clone(), member.key_mark);
                self.unknown_key(&key, mark, &keys, path);
                false
            }
        }
    }

    fn check_map(&mut self, node: &mut Node, schema: &'a Json, path: &str) -> bool {
        let properties = schema.get("properties").and_then(Json::as_object);
        let others = schema.get("additionalProperties");
        let mark = node.mark;
        let Value::Map(members) = &mut node.value else { return true };
        let required = schema.get("required").and_then(Json::as_array);
        let missing: Vec<&str> = required
            .into_iter()
            .flatten()
            .filter_map(Json::as_str)
            .filter(|key| !members.iter().any(|member| member.key == *key))
            .collect();
        let mut whole = missing.is_empty();
        for key in missing {
            self.report("missing_key", path, mark, format!("key `{key}` is missing"), None);
        }
        let mut kept = Vec::with_capacity(members.len());
        for mut member in std::mem::take(members) {
            let at = join(path, &member.key);
            let schema = match properties.and_then(|all| all.get(&member.key)) {
                Some(schema) => schema,
                None => match others {
                    Some(Json::Bool(false)) => {
                        let known: Vec<&str> =
                            properties.into_iter().flat_map(|p| p.keys().map(String::as_str)).collect();
                        self.unknown_key(&member.key, member.key_mark, &known, path);
                        continue;
                    }
                    Some(schema) => schema,
                    None => {
                        kept.push(member);
                        continue;
                    }
                },
            };
            if self.check(&mut member.node, schema, &at) {
                kept.push(member);
            } else if required.is_some_and(|all| all.iter().any(|key| key.as_str() == Some(&member.key))) {
                whole = false;
            }
        }
        *members = kept;
        whole
    }

    fn unknown_key(&mut self, key: &str, mark: Mark, known: &[&str], path: &str) {
        let suggestion = match nearest(key, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known keys are {}", list(known)),
        };
        self.report("unknown_key", &join(path, key), mark, format!("unknown key `{key}`"), Some(suggestion));
    }

    fn one_of(&mut self, text: &str, words: &[&str], mark: Mark, path: &str) -> bool {
        if words.contains(&text) {
            return true;
        }
        let suggestion = nearest(text, words.iter().copied()).map(|near| format!("did you mean `{near}`?"));
        let message = format!("`{}` is not one of {}", shorten(text), list(words));
        self.report("unknown_word", path, mark, message, suggestion);
        false
    }

    fn wrong_type(&mut self, node: &Node, kinds: &[&str], path: &str) {
        let wanted = kinds.iter().copied().find(|kind| *kind != "null").unwrap_or("null");
        let message = format!("expected {}, found {}", name_of(wanted), node.kind());
        let suggestion = match (wanted, &node.value) {
            ("string", Value::Int(_) | Value::Float(_) | Value::Bool(_)) => Some("write it in quotes".to_owned()),
            ("array", Value::Null) => Some("write `[]` for an empty list".to_owned()),
            ("array", Value::Text(_) | Value::Map(_)) => Some("begin each entry with `- `".to_owned()),
            ("object", Value::Null) => Some("write `{}` for an empty mapping".to_owned()),
            ("boolean", Value::Text(text)) => match text.to_ascii_lowercase().as_str() {
                "yes" | "on" | "y" => Some("write `true`".to_owned()),
                "no" | "off" | "n" => Some("write `false`".to_owned()),
                _ => None,
            },
            _ => None,
        };
        self.report("wrong_type", path, node.mark, message, suggestion);
    }

    fn check_text(&mut self, text: &str, mark: Mark, schema: &Json, path: &str) -> bool {
        if let Some(words) = schema.get("enum").and_then(Json::as_array) {
            let words: Vec<&str> = words.iter().filter_map(Json::as_str).collect();
            return self.one_of(text, &words, mark, path);
        }
        if schema.get("pattern").is_some() && bartizan_model::ServerId::parse(text).is_err() {
            let message = format!("`{}` is not an id", shorten(text));
            let hint = "use 1 to 32 characters of a-z, 0-9 and `_`, with single `-` between them".to_owned();
            self.report("bad_id", path, mark, message, Some(hint));
            return false;
        }
        match schema.get("format").and_then(Json::as_str) {
            Some("socket-address") if text.parse::<SocketAddr>().is_err() => {
                let message = format!("`{}` is not an address with a port", shorten(text));
                let hint = "write e.g. `127.0.0.1:7420` or `[::1]:7420`; host names are not allowed here".to_owned();
                self.report("bad_address", path, mark, message, Some(hint));
                false
            }
            Some("ip-network") if text.parse::<IpNet>().is_err() => {
                let message = format!("`{}` is not a network", shorten(text));
                let hint = "write e.g. `10.0.0.0/8` or `192.0.2.7/32`".to_owned();
                self.report("bad_network", path, mark, message, Some(hint));
                false
            }
            _ => true,
        }
    }

    fn check_number(&mut self, number: i128, mark: Mark, schema: &Json, path: &str) -> bool {
        let most = match schema.get("format").and_then(Json::as_str) {
            Some("uint8") => i128::from(u8::MAX),
            Some("uint16") => i128::from(u16::MAX),
            Some("uint32") => i128::from(u32::MAX),
            _ => i128::from(i64::MAX),
        };
        let least: i128 = schema.get("minimum").and_then(Json::as_i64).unwrap_or(i64::MIN).into();
        let most = schema.get("maximum").and_then(Json::as_i64).map_or(most, i128::from);
        if (least..=most).contains(&number) {
            return true;
        }
        let message = if number < least {
            format!("{number} is less than {least}")
        } else {
            format!("{number} is more than {most}")
        };
        self.report("out_of_range", path, mark, message, None);
        false
    }
}

fn kinds(schema: &Json) -> Vec<&str> {
    match schema.get("type") {
        Some(Json::String(kind)) => vec![kind],
        Some(Json::Array(kinds)) => kinds.iter().filter_map(Json::as_str).collect(),
        _ => Vec::new(),
    }
}

fn fits(kind: &str, value: &Value) -> bool {
    matches!(
        (kind, value),
        ("null", Value::Null)
            | ("boolean", Value::Bool(_))
            | ("string", Value::Text(_))
            | ("array", Value::List(_))
            | ("object", Value::Map(_))
            | ("integer", Value::Int(_))
            | ("number", Value::Int(_) | Value::Float(_))
    )
}

fn name_of(kind: &str) -> &'static str {
    match kind {
        "boolean" => "`true` or `false`",
        "string" => "text",
        "array" => "a list",
        "object" => "a mapping",
        "integer" => "a whole number",
        "number" => "a number",
        _ => "nothing",
    }
}

/// The key of a mapping that has exactly one.
fn only_key(schema: &Json) -> Option<&str> {
    schema.get("required").and_then(Json::as_array).and_then(|keys| keys.first()).and_then(Json::as_str)
}

fn list(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

fn shorten(text: &str) -> String {
    text.chars().take(60).collect()
}

pub(crate) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
