//! Single settings from the environment (`BARTIZAN_…`) and from flags.
//!
//! `BARTIZAN_STORE__DATA_DIR=/data` sets `store.data_dir`: two underscores go one level
//! down. Text settings take the value as it is, all others read it as YAML. The lists of
//! resources (servers, portals, …) cannot be set this way.

use serde_json::Value as Json;

use crate::environment::Environment;
use crate::problem::Problem;
use crate::resources::Resources;
use crate::sources::Sources;
use crate::suggest::nearest;
use crate::tree::{self, Mark, Member, Node, Value};

/// Begin of every variable that is read.
pub const PREFIX: &str = "BARTIZAN_";

/// Variables with this prefix that are not settings.
const OTHERS: [&str; 3] = ["BARTIZAN_CONFIG", "BARTIZAN_LOG", "BARTIZAN_BIN"];

/// One setting given outside of the file.
#[derive(Clone, Debug)]
pub struct Override {
    /// `store.data_dir`.
    pub path: String,
    /// The value as text.
    pub value: String,
    /// `BARTIZAN_STORE__DATA_DIR` or `--data-dir`, for messages.
    pub origin: String,
}

/// Reads the settings out of the environment. `referenced` are the names of variables the
/// file itself uses; they are not settings even if they begin with the prefix.
pub(crate) fn from_environment(
    environment: &Environment,
    schema: &Json,
    referenced: &[String],
    problems: &mut Vec<Problem>,
) -> Vec<Override> {
    let mut found = Vec::new();
    for (name, value) in environment.with_prefix(PREFIX) {
        if OTHERS.contains(&name) || referenced.iter().any(|known| known == name) {
            continue;
        }
        let rest = name.strip_prefix(PREFIX).unwrap_or(name).to_lowercase();
        let steps: Vec<&str> = rest.split("__").collect();
        match find(schema, &steps) {
            Ok(_) => found.push(Override {
                path: steps.join("."),
                value: value.to_owned(),
                origin: format!("environment variable {name}"),
            }),
            // Some other program's variable; only a slip of the keyboard is worth stopping for.
            Err(Unknown { depth: 0, near: None }) => {}
            Err(Unknown { near, .. }) => {
                let problem = Problem::error("unknown_variable", "", format!("`{name}` sets nothing"));
                let near = near.map(|near| format!("did you mean `{PREFIX}{}`?", near.to_uppercase()));
                problems.push(Problem { suggestion: near, ..problem });
            }
        }
    }
    found
}

struct Unknown {
    depth: usize,
    near: Option<String>,
}

/// The schema of a setting.
fn find<'a>(root: &'a Json, steps: &[&str]) -> Result<&'a Json, Unknown> {
    let mut schema = root;
    let lists = serde_json::to_value(Resources::default()).unwrap_or_default();
    for (depth, step) in steps.iter().enumerate() {
        let choices = properties(root, schema);
        let known = || choices.iter().map(|(key, _)| *key).filter(|key| depth > 0 || lists.get(*key).is_none());
        match choices.iter().find(|(key, _)| key == step) {
            Some((key, next)) if depth > 0 || lists.get(*key).is_none() => schema = next,
            _ => {
                let taken = steps.iter().take(depth).map(|s| (*s).to_owned());
                let near =
                    nearest(step, known()).map(|near| taken.chain([near.to_owned()]).collect::<Vec<_>>().join("__"));
                return Err(Unknown { depth, near });
            }
        }
    }
    Ok(schema)
}

/// Members of a schema, also of one that is optional or a choice of one-key mappings.
fn properties<'a>(root: &'a Json, schema: &'a Json) -> Vec<(&'a str, &'a Json)> {
    let reference = schema.get("$ref").and_then(Json::as_str).and_then(|r| r.strip_prefix('#'));
    if let Some(schema) = reference.and_then(|pointer| root.pointer(pointer)) {
        return properties(root, schema);
    }
    let choices = ["anyOf", "oneOf"].iter().filter_map(|name| schema.get(name).and_then(Json::as_array)).flatten();
    let own = schema.get("properties").and_then(Json::as_object).into_iter().flatten();
    own.map(|(key, schema)| (key.as_str(), schema)).chain(choices.flat_map(|c| properties(root, c))).collect()
}

/// Puts the settings into the tree; later ones win.
pub(crate) fn apply(
    root: &mut Node,
    overrides: &[Override],
    schema: &Json,
    sources: &mut Sources,
    problems: &mut Vec<Problem>,
) {
    for given in overrides {
        let source = sources.add(given.origin.clone(), "");
        let mark = Mark { source, line: 1, column: 1, length: 1 };
        let steps: Vec<&str> = given.path.split('.').collect();
        let is_text = find(schema, &steps).is_ok_and(|schema| {
            let kind = schema.get("type");
            let has = |kind: &Json| kind.as_str() == Some("string");
            kind.is_some_and(|kind| has(kind) || kind.as_array().is_some_and(|kinds| kinds.iter().any(has)))
        });
        let mut value = if is_text {
            Node { mark, value: Value::Text(given.value.clone()) }
        } else {
            let mut found = Vec::new();
            let Some(node) = tree::parse(source, &given.origin, &given.value, &mut found) else {
                problems.extend(found);
                continue;
            };
            node
        };
        place_all(&mut value, mark);
        set(root, &steps, value, mark);
    }
}

/// Words such as `fast` are texts, whatever their schema.
fn place_all(node: &mut Node, mark: Mark) {
    node.mark = mark;
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(|item| place_all(item, mark)),
        Value::Map(members) => members.iter_mut().for_each(|member| {
            member.key_mark = mark;
            place_all(&mut member.node, mark);
        }),
        _ => {}
    }
}

fn set(node: &mut Node, steps: &[&str], value: Node, mark: Mark) {
    let Some((first, rest)) = steps.split_first() else {
        *node = value;
        return;
    };
    // `key` holds one of several keys: another one replaces it.
    let replaces = !rest.is_empty() && *first == "key";
    if !matches!(node.value, Value::Map(_)) {
        *node = Node::empty_map(mark);
    }
    let Value::Map(members) = &mut node.value else { return };
    match members.iter_mut().find(|member| member.key == *first) {
        Some(member) => {
            if replaces {
                member.node = Node::empty_map(mark);
            }
            set(&mut member.node, rest, value, mark);
        }
        None => {
            let mut node = Node::empty_map(mark);
            set(&mut node, rest, value, mark);
            members.push(Member { key: (*first).to_owned(), key_mark: mark, node });
        }
    }
}
