//! The JSON schema of the file, for editors and for [`crate::validate`].

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::settings::File;

/// The JSON schema (draft 2020-12) of the configuration file.
pub fn file() -> serde_json::Value {
    let mut schema = schemars::schema_for!(File).to_value();
    if let Some(members) = schema.as_object_mut() {
        members.insert("title".to_owned(), "bartizan configuration".into());
    }
    schema
}

macro_rules! text_schema {
    ($(#[$doc:meta])* $name:ident, $schema:tt) => {
        $(#[$doc])*
        pub(crate) struct $name;

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

text_schema! {
    /// Server and portal ids (P3).
    IdText, {"type": "string", "minLength": 1, "maxLength": 32, "pattern": "^[a-z0-9_]+(?:-[a-z0-9_]+)*$"}
}
text_schema! {
    /// `127.0.0.1:7420`, `[::1]:7420`.
    AddressText, {"type": "string", "format": "socket-address"}
}
text_schema! {
    /// `10.0.0.0/8`.
    NetworkText, {"type": "string", "format": "ip-network"}
}
text_schema! {
    /// Tool classes.
    ClassText, {"type": "string", "enum": ["read", "write", "destructive", "unknown"]}
}

/// The other names of `auth_type`s, which are those of the strategies (P17).
pub(crate) fn auth_type_aliases(schema: &mut Schema) {
    let Some(choices) = schema.get_mut("oneOf").and_then(serde_json::Value::as_array_mut) else { return };
    for (alias, name) in [("none", "unauthenticated"), ("static", "bearer"), ("oauth_user", "oauth")] {
        let text = format!("The same as `{name}`.");
        choices.push(serde_json::json!({"type": "string", "const": alias, "description": text}));
    }
}
