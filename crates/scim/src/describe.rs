//! What the service says about itself (RFC 7643, sections 5 to 7).

use serde_json::{Map, Value, json};

use crate::query::MAX_RESULTS;
use crate::schema::{
    Attribute, ENTERPRISE_SCHEMA, GROUP, GROUP_SCHEMA, Kind, Mutability, ResourceKind, Schema, USER, USER_SCHEMA,
};

/// The schemas, for `/Schemas`.
pub(crate) static SCHEMAS: [&Schema; 3] = [&USER_SCHEMA, &GROUP_SCHEMA, &ENTERPRISE_SCHEMA];
/// The resource types, for `/ResourceTypes`.
pub(crate) static KINDS: [&ResourceKind; 2] = [&USER, &GROUP];

pub(crate) fn service(base: &str) -> Value {
    let off = json!({"supported": false});
    json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"],
        "patch": {"supported": true},
        "bulk": {"supported": false, "maxOperations": 0, "maxPayloadSize": 0},
        "filter": {"supported": true, "maxResults": MAX_RESULTS},
        "changePassword": off,
        "sort": off,
        "etag": {"supported": true},
        "authenticationSchemes": [{
            "type": "oauthbearertoken",
            "name": "Bearer token",
            "description": "The token the administrator configured",
            "specUri": "https://www.rfc-editor.org/info/rfc6750",
            "primary": true,
        }],
        "meta": {"resourceType": "ServiceProviderConfig", "location": format!("{base}/ServiceProviderConfig")},
    })
}

pub(crate) fn kind(base: &str, kind: &ResourceKind) -> Value {
    let extensions: Vec<Value> =
        kind.extensions.iter().map(|schema| json!({"schema": schema.urn, "required": false})).collect();
    let mut described = json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:ResourceType"],
        "id": kind.name,
        "name": kind.name,
        "description": kind.schema.description,
        "endpoint": format!("/{}", kind.endpoint),
        "schema": kind.schema.urn,
        "meta": {"resourceType": "ResourceType", "location": format!("{base}/ResourceTypes/{}", kind.name)},
    });
    if let (Some(members), false) = (described.as_object_mut(), extensions.is_empty()) {
        members.insert("schemaExtensions".to_owned(), extensions.into());
    }
    described
}

pub(crate) fn schema(base: &str, schema: &Schema) -> Value {
    json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:Schema"],
        "id": schema.urn,
        "name": schema.name,
        "description": schema.description,
        "attributes": schema.attributes.iter().map(attribute).collect::<Vec<Value>>(),
        "meta": {"resourceType": "Schema", "location": format!("{base}/Schemas/{}", schema.urn)},
    })
}

fn attribute(attribute: &Attribute) -> Value {
    let kind = match attribute.kind {
        Kind::Text => "string",
        Kind::Bool => "boolean",
        Kind::Reference(_) => "reference",
        Kind::Time => "dateTime",
        Kind::Complex(_) => "complex",
    };
    let mutability = match attribute.mutability {
        Mutability::ReadWrite => "readWrite",
        Mutability::ReadOnly => "readOnly",
        Mutability::Immutable => "immutable",
    };
    let mut members = Map::new();
    let mut add = |name: &str, value: Value| drop(members.insert(name.to_owned(), value));
    add("name", attribute.name.into());
    add("type", kind.into());
    add("multiValued", attribute.multi.into());
    add("description", attribute.name.into());
    add("required", attribute.required.into());
    if !attribute.words.is_empty() {
        add("canonicalValues", attribute.words.to_vec().into());
    }
    add("caseExact", attribute.exact.into());
    add("mutability", mutability.into());
    add("returned", "default".into());
    add("uniqueness", if attribute.unique { "server" } else { "none" }.into());
    if let Kind::Reference(types) = attribute.kind {
        add("referenceTypes", types.to_vec().into());
    }
    if !attribute.subs().is_empty() {
        add("subAttributes", attribute.subs().iter().map(self::attribute).collect::<Vec<Value>>().into());
    }
    Value::Object(members)
}
