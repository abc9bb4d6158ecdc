//! Tools of the portal itself (feature row P14). They go the way of every other
//! call and are answered here.

use std::sync::OnceLock;

use bartizan_config::resources::ServerStatus;
use bartizan_model::ServerId;
use bartizan_wire::RawJson;
use serde::Serialize;

/// Reserved on every portal.
pub(crate) const LIST_SERVERS: &str = "portal_list_servers";

/// One server as `portal_list_servers` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServerLine {
    /// The administrator's id.
    pub id: ServerId,
    /// Name for people.
    pub name: String,
    /// Whether the server's tools are offered.
    pub on: bool,
    /// `ready`, `waiting`, `error`, `login_needed`, `disabled` or `killed`.
    pub status: &'static str,
    /// Page on which the caller connects an account, when that is needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

impl ServerLine {
    /// The status word of a server that is not offered.
    pub(crate) fn off(status: ServerStatus) -> Option<&'static str> {
        match status {
            ServerStatus::Enabled => None,
            ServerStatus::Disabled => Some("disabled"),
            ServerStatus::Killed => Some("killed"),
        }
    }
}

/// The definition in `tools/list`.
pub(crate) fn definition() -> &'static RawJson {
    static DEFINITION: OnceLock<RawJson> = OnceLock::new();
    DEFINITION.get_or_init(|| {
        RawJson::from(&serde_json::json!({
            "name": LIST_SERVERS,
            "title": "List servers of this portal",
            "description": "Lists the servers behind this portal that you may use: id, name, whether each is on, and its status.",
            "inputSchema": {"type": "object", "properties": {}, "additionalProperties": false},
            "outputSchema": {
                "type": "object",
                "properties": {"servers": {"type": "array", "items": {
                    "type": "object",
                    "properties": {
                        "id": {"type": "string"},
                        "name": {"type": "string"},
                        "on": {"type": "boolean"},
                        "status": {"type": "string"},
                        "url": {"type": "string"}
                    },
                    "required": ["id", "name", "on", "status"]
                }}},
                "required": ["servers"]
            },
            "annotations": {"readOnlyHint": true, "openWorldHint": false}
        }))
    })
}

/// The result of a call, for either era.
pub(crate) fn result(servers: &[ServerLine], modern: bool) -> RawJson {
    let structured = serde_json::json!({ "servers": servers });
    let mut result = serde_json::json!({
        "content": [{"type": "text", "text": structured.to_string()}],
        "structuredContent": structured,
        "isError": false
    });
    if modern && let Some(object) = result.as_object_mut() {
        object.insert("resultType".to_owned(), "complete".into());
    }
    RawJson::from(&result)
}
