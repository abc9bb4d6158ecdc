//! The OpenAPI 3.1 document. Made of the table of endpoints and of the schemas that the
//! configuration has anyway: what is written in one place cannot differ in another.

use bartizan_config::objects::{self, Kind};
use serde_json::{Map, Value, json};

use crate::api::PATH;
use crate::respond::CODES;
use crate::secrets::SUMMARY;
use crate::table::{Action, Endpoint, table};

/// The document.
pub fn document() -> Value {
    let mut paths = Map::new();
    for row in table() {
        let item = paths.entry(format!("{PATH}{}", row.path)).or_insert_with(|| json!({}));
        if let Some(members) = item.as_object_mut() {
            members.insert(row.method.as_str().to_ascii_lowercase(), operation(&row));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "bartizan administration",
            "version": "1",
            "description": "Objects in the store, beside those of configuration files. A change is checked against \
                everything that is in use, takes effect in every process within a second, and is on record.",
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}, {"session": [], "csrf": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer",
                    "description": "A service token with a role, or a person's token for the resource /api/v1"},
                "session": {"type": "apiKey", "in": "cookie", "name": "__Host-bartizan",
                    "description": "The session of a browser"},
                "csrf": {"type": "apiKey", "in": "header", "name": "X-CSRF-Token",
                    "description": "With a session, for whatever is no GET; `csrf_token` of /me"},
            },
            "schemas": schemas(),
            "responses": responses(),
        },
    })
}

fn operation(row: &Endpoint) -> Value {
    let mut operation = json!({
        "operationId": operation_id(row),
        "summary": row.summary,
        "tags": [tag(row.action)],
        "parameters": parameters(row),
        "responses": answers(row),
    });
    let Some(members) = operation.as_object_mut() else { return operation };
    if let Some(roles) = row.roles {
        let roles: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
        members.insert("x-roles".to_owned(), json!(roles));
    }
    if let Some(schema) = request(row.action) {
        let media =
            if matches!(row.action, Action::Patch(_)) { "application/merge-patch+json" } else { "application/json" };
        members.insert("requestBody".to_owned(), json!({"required": true, "content": {media: {"schema": schema}}}));
    }
    operation
}

fn kind(action: Action) -> Option<Kind> {
    match action {
        Action::List(kind)
        | Action::Get(kind)
        | Action::Create(kind)
        | Action::Put(kind)
        | Action::Patch(kind)
        | Action::Remove(kind)
        | Action::History(kind)
        | Action::Restore(kind) => Some(kind),
        _ => None,
    }
}

fn tag(action: Action) -> &'static str {
    match action {
        Action::Area(operation) => operation.tag(),
        _ => kind(action).map_or("administration", Kind::plural),
    }
}

fn operation_id(row: &Endpoint) -> String {
    let word = match row.action {
        Action::Me => "me",
        Action::OpenApi => "openapi",
        Action::Refused => "refused",
        Action::Revisions => "revisions",
        Action::Export => "export",
        Action::Plan => "plan",
        Action::Apply => "apply",
        Action::List(_) => "list",
        Action::Get(_) => "get",
        Action::Create(_) => "create",
        Action::Put(_) => "replace",
        Action::Patch(_) => "patch",
        Action::Remove(_) => "remove",
        Action::History(_) => "history",
        Action::Restore(_) => "restore",
        Action::Area(operation) => operation.as_str(),
    };
    kind(row.action).map_or_else(|| word.to_owned(), |kind| format!("{word}_{}", kind.as_str()))
}

fn parameters(row: &Endpoint) -> Value {
    let mut all = Vec::new();
    let header = |name: &str, required: bool, text: &str, schema: Value| json!({"name": name, "in": "header", "required": required, "description": text, "schema": schema});
    if row.path.contains("{id}") {
        all.push(json!({"name": "id", "in": "path", "required": true,
            "schema": {"type": "string", "minLength": 1, "maxLength": 128}}));
    }
    let tag = json!({"type": "string"});
    match row.action {
        Action::Area(operation) => all.extend(
            operation
                .parameters()
                .iter()
                .map(|name| json!({"name": name, "in": "query", "required": false, "schema": {"type": "string"}})),
        ),
        Action::List(_) => {
            all.push(json!({"name": "limit", "in": "query", "required": false,
                "schema": {"type": "integer", "minimum": 1, "maximum": 1000}}));
            all.push(json!({"name": "after", "in": "query", "required": false,
                "description": "`next` of the page before", "schema": {"type": "string"}}));
        }
        Action::Put(_) | Action::Restore(_) => {
            all.push(header("If-Match", false, "ETag of the version that was seen", tag.clone()));
            all.push(header("If-None-Match", false, "`*` for a new object", json!({"type": "string", "const": "*"})));
        }
        Action::Patch(_) | Action::Remove(_) => {
            all.push(header("If-Match", true, "ETag of the version that was seen", tag.clone()));
        }
        Action::Create(_) => all.push(header(
            "Idempotency-Key",
            false,
            "The same request with the same key is done once",
            json!({"type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[!-~]+$"}),
        )),
        _ => {}
    }
    if row.action.is_mutation() {
        let schema = json!({"type": "string", "minLength": 1, "maxLength": 500, "pattern": "^[!-~]([ -~]*[!-~])?$"});
        all.push(header("X-Bartizan-Reason", false, "What the change is for; in the record", schema));
    }
    all.into()
}

fn request(action: Action) -> Option<Value> {
    let object = |kind: Kind| json!({"$ref": format!("#/components/schemas/{}", kind.schema_name())});
    match action {
        Action::Create(kind) | Action::Put(kind) => Some(object(kind)),
        Action::Patch(_) => Some(json!({"type": "object"})),
        Action::Area(operation) => operation.request(),
        Action::Restore(_) => Some(json!({"type": "object", "required": ["revision"], "properties": {
            "revision": {"type": "integer", "description": "`revision` of a version in the history"}}})),
        Action::Plan | Action::Apply => Some(json!({"$ref": "#/components/schemas/ObjectSet"})),
        _ => None,
    }
}

fn answers(row: &Endpoint) -> Value {
    let one = |kind: Kind| json!({"$ref": format!("#/components/schemas/{}Shown", kind.schema_name())});
    let content =
        |text: &str, schema: Value| json!({"description": text, "content": {"application/json": {"schema": schema}}});
    let any = || json!({"type": "object"});
    let items = |schema: Value| {
        json!({"type": "object", "required": ["items"], "properties": {
            "items": {"type": "array", "items": schema}, "next": {"type": ["string", "null"]},
            "revision": {"type": "integer"}}})
    };
    let mut all = Map::new();
    match row.action {
        Action::Create(kind) => drop(all.insert("201".into(), content("Made", one(kind)))),
        Action::Put(kind) | Action::Restore(kind) => {
            all.insert("200".into(), content("Changed, or as it was", one(kind)));
            all.insert("201".into(), content("Made", one(kind)));
        }
        Action::Patch(kind) => drop(all.insert("200".into(), content("Changed, or as it was", one(kind)))),
        Action::Get(kind) => {
            all.insert("200".into(), content("The object", one(kind)));
            all.insert("304".into(), json!({"description": "As the caller has it"}));
        }
        Action::List(kind) => {
            all.insert("200".into(), content("A page", items(one(kind))));
            all.insert("304".into(), json!({"description": "As the caller has it"}));
        }
        Action::Remove(_) => drop(all.insert("204".into(), json!({"description": "Gone"}))),
        Action::Refused | Action::Revisions | Action::History(_) => {
            all.insert("200".into(), content("A list", items(any())));
        }
        _ => drop(all.insert("200".into(), content("The answer", any()))),
    }
    for status in ["400", "401", "403", "404", "409", "412", "413", "415", "422", "428", "503"] {
        all.insert(status.into(), json!({"$ref": "#/components/responses/Refusal"}));
    }
    all.into()
}

fn responses() -> Value {
    json!({"Refusal": {"description": "Nothing was changed",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Refusal"}}}}})
}

fn schemas() -> Value {
    let mut all = Map::new();
    for (name, schema) in objects::definitions() {
        all.insert(name.clone(), moved(schema));
    }
    // What the configuration file has and the API has not.
    for name in ["Resources", "Alerts", "BuiltIn", "Roles"] {
        all.shift_remove(name);
    }
    for kind in Kind::ALL {
        let Some(mut shown) = all.get(kind.schema_name()).cloned() else { continue };
        if let Some(properties) = shown.get_mut("properties").and_then(Value::as_object_mut) {
            properties.insert("managed_by".into(), json!({"type": "string", "enum": ["api", "file"]}));
            properties.insert("revision".into(), json!({"type": "integer"}));
            if !kind.secrets().is_empty() {
                properties.insert(
                    SUMMARY.into(),
                    json!({"type": "object",
                    "additionalProperties": {"type": ["boolean", "integer"]}}),
                );
            }
        }
        all.insert(format!("{}Shown", kind.schema_name()), shown);
    }
    let lists: Map<String, Value> = Kind::ALL
        .into_iter()
        .map(|kind| {
            let item = json!({"$ref": format!("#/components/schemas/{}", kind.schema_name())});
            (kind.plural().to_owned(), json!({"type": "array", "items": item}))
        })
        .collect();
    all.insert(
        "ObjectSet".into(),
        json!({"type": "object", "required": ["objects"], "additionalProperties": false,
        "properties": {
            "objects": {"type": "object", "properties": lists, "additionalProperties": false},
            "revision": {"type": "integer", "description": "Only if this is the revision of the whole still"},
            "git_revision": {"type": "string"}, "reason": {"type": "string"}}}),
    );
    let problem = json!({"type": "object", "required": ["pointer", "code", "message"], "properties": {
        "object": {"type": "string"}, "pointer": {"type": "string"}, "code": {"type": "string"},
        "message": {"type": "string"}, "suggestion": {"type": "string"}}});
    all.insert("Problem".into(), problem);
    all.insert(
        "Refusal".into(),
        json!({"type": "object", "required": ["error"], "properties": {"error": {
        "type": "object", "required": ["code", "message", "request_id"], "properties": {
            "code": {"type": "string", "enum": CODES}, "message": {"type": "string"},
            "request_id": {"type": "string"},
            "problems": {"type": "array", "items": {"$ref": "#/components/schemas/Problem"}}}}}}),
    );
    all.into()
}

/// References as the document has them.
fn moved(schema: &Value) -> Value {
    match schema {
        Value::Object(members) => members
            .iter()
            .map(|(key, value)| match (key.as_str(), value) {
                ("$ref", Value::String(text)) => {
                    (key.clone(), text.replace("#/$defs/", "#/components/schemas/").into())
                }
                // Formats of Rust's integers say nothing to others.
                _ => (key.clone(), moved(value)),
            })
            .collect::<Map<_, _>>()
            .into(),
        Value::Array(items) => items.iter().map(moved).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares with the document in `docs`; `UPDATE_GOLDEN=1` writes it anew.
    #[test]
    fn p54_the_document_is_the_one_that_is_published() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/openapi.json");
        let text = format!("{:#}\n", document());
        if std::env::vars_os().any(|(name, _)| name == "UPDATE_GOLDEN") {
            std::fs::write(&path, &text).unwrap();
        }
        let published = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(text == published, "docs/reference/openapi.json differs; UPDATE_GOLDEN=1 writes it anew");
    }

    #[test]
    fn p54_every_endpoint_and_every_reference_is_there() {
        let document = document();
        for row in table() {
            let pointer = format!(
                "/paths/{}/{}",
                format!("{PATH}{}", row.path).replace('/', "~1"),
                row.method.as_str().to_ascii_lowercase()
            );
            let operation = document.pointer(&pointer).unwrap_or_else(|| panic!("{pointer} is missing"));
            assert_eq!(operation.get("x-roles").is_some(), row.roles.is_some(), "{pointer}");
            assert_eq!(operation.get("requestBody").is_some(), row.action.has_body(), "{pointer}");
        }
        let text = document.to_string();
        for reference in text.split("\"$ref\":\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(document.pointer(reference).is_some(), "{reference} leads nowhere");
        }
        assert!(!text.contains("#/$defs/"));
    }
}
