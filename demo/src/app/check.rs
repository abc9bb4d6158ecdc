//! Checks arguments against the small part of JSON Schema the demo tools use.

use serde_json::{Map, Value};

/// Says what is wrong with `args`, if anything.
pub(crate) fn check(schema: &Value, args: &Map<String, Value>) -> Result<(), String> {
    let empty = Map::new();
    let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
    for name in schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        if !args.contains_key(name) {
            return Err(format!("argument `{name}` is missing"));
        }
    }
    for (name, value) in args {
        let Some(schema) = properties.get(name) else {
            let known: Vec<&str> = properties.keys().map(String::as_str).collect();
            return Err(format!("unknown argument `{name}`; known are: {}", known.join(", ")));
        };
        check_value(schema, value).map_err(|problem| format!("argument `{name}` {problem}"))?;
    }
    Ok(())
}

fn check_value(schema: &Value, value: &Value) -> Result<(), String> {
    let kind = schema.get("type").and_then(Value::as_str).unwrap_or_default();
    let fits = match kind {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "array" => value.as_array().is_some_and(|items| items.iter().all(Value::is_string)),
        _ => true,
    };
    if !fits {
        return Err(format!("must be of type {kind}"));
    }
    if let Some(words) = schema.get("enum").and_then(Value::as_array)
        && !words.contains(value)
    {
        let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
        return Err(format!("must be one of: {}", words.join(", ")));
    }
    if schema.get("minLength").is_some() && value.as_str().is_some_and(|text| text.trim().is_empty()) {
        return Err("must not be empty".to_owned());
    }
    let bound = |name: &str| schema.get(name).and_then(Value::as_i64);
    match value.as_i64() {
        Some(given) if bound("minimum").is_some_and(|least| given < least) => {
            Err(format!("must be at least {}", bound("minimum").unwrap_or_default()))
        }
        Some(given) if bound("maximum").is_some_and(|most| given > most) => {
            Err(format!("must be at most {}", bound("maximum").unwrap_or_default()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::{number, object, one_of, text, texts};
    use serde_json::json;

    #[test]
    fn arguments_are_checked() {
        let schema = object([
            ("!key", text("")),
            ("state", one_of("", &["open", "closed"])),
            ("amount", number("", 1, 10)),
            ("labels", texts("")),
        ]);
        for (args, expected) in [
            (json!({"key": "A", "state": "open", "amount": 10, "labels": ["a"]}), Ok(())),
            (json!({}), Err("argument `key` is missing")),
            (json!({"key": "  "}), Err("argument `key` must not be empty")),
            (json!({"key": 1}), Err("argument `key` must be of type string")),
            (json!({"key": "A", "state": "x"}), Err("argument `state` must be one of: open, closed")),
            (json!({"key": "A", "amount": 11}), Err("argument `amount` must be at most 10")),
            (json!({"key": "A", "amount": 0}), Err("argument `amount` must be at least 1")),
            (json!({"key": "A", "amount": 1.5}), Err("argument `amount` must be of type integer")),
            (json!({"key": "A", "labels": [1]}), Err("argument `labels` must be of type array")),
            (json!({"key": "A", "no": 1}), Err("unknown argument `no`; known are: key, state, amount, labels")),
        ] {
            let found = check(&schema, args.as_object().unwrap());
            assert_eq!(found, expected.map_err(str::to_owned), "{args}");
        }
    }
}
