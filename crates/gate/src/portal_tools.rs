//! Tools of the portal itself (feature rows P14, P36). They go the way of every other
//! call and are answered here.

use std::sync::OnceLock;

use bartizan_config::resources::ServerStatus;
use bartizan_model::ServerId;
use bartizan_wire::RawJson;
use serde::Serialize;

use crate::status::ErrorDetails;

/// One server as `portal_list_servers` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServerLine {
    /// The administrator's id.
    pub id: ServerId,
    /// Name for people.
    pub name: String,
    /// Whether the server's tools are offered.
    pub on: bool,
    /// `ready`, `waiting`, `error`, `sync_required`, `stale`, `login_needed`, `off`, `disabled` or `killed`.
    pub status: &'static str,
    /// Why it is not ready, without words of the network (P23).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_details: Option<ErrorDetails>,
    /// Page on which the caller connects an account, when that is needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

impl ServerLine {
    /// Whether it is for the person to switch: what an administrator switched off is not.
    pub fn is_choice(&self) -> bool {
        !matches!(self.status, "disabled" | "killed")
    }

    /// The status word of a server that is not offered.
    pub(crate) fn off(status: ServerStatus) -> Option<&'static str> {
        match status {
            ServerStatus::Enabled => None,
            ServerStatus::Disabled => Some("disabled"),
            ServerStatus::Killed => Some("killed"),
        }
    }
}

/// One of the portal's own tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PortalTool {
    /// `portal_list_servers`.
    List,
    /// `portal_toggle_servers`: the page on which a person chooses.
    Page,
    /// `portal_toggle_single_server`.
    Single,
    /// `portal_next_page`: only where results are given in pages (P52).
    NextPage,
}

impl PortalTool {
    /// In the order of lists; what is not among them is listed where it is of use.
    pub(crate) const ALL: [Self; 3] = [Self::List, Self::Page, Self::Single];

    /// Its name; no server's tool gets it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::List => "portal_list_servers",
            Self::Page => "portal_toggle_servers",
            Self::Single => "portal_toggle_single_server",
            Self::NextPage => "portal_next_page",
        }
    }

    /// The tool of this name.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().chain([Self::NextPage]).find(|tool| tool.name() == name)
    }

    /// The definition in `tools/list`.
    pub(crate) fn definition(self) -> &'static RawJson {
        static LIST: OnceLock<RawJson> = OnceLock::new();
        static PAGE: OnceLock<RawJson> = OnceLock::new();
        static SINGLE: OnceLock<RawJson> = OnceLock::new();
        static NEXT: OnceLock<RawJson> = OnceLock::new();
        match self {
            Self::List => LIST.get_or_init(list),
            Self::Page => PAGE.get_or_init(page),
            Self::Single => SINGLE.get_or_init(single),
            Self::NextPage => NEXT.get_or_init(next_page),
        }
    }
}

fn list() -> RawJson {
    RawJson::from(&serde_json::json!({
        "name": PortalTool::List.name(),
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
                    "error_details": {"type": "object"},
                        "url": {"type": "string"}
                },
                "required": ["id", "name", "on", "status"]
            }}},
            "required": ["servers"]
        },
        "annotations": {"readOnlyHint": true, "openWorldHint": false}
    }))
}

fn page() -> RawJson {
    RawJson::from(&serde_json::json!({
        "name": PortalTool::Page.name(),
        "title": "Choose servers on a page",
        "description": "Returns the address of a page on which the user switches servers of this portal on and off and connects accounts. Show the address to the user; it is good for ten minutes and for this user only.",
        "inputSchema": {"type": "object", "properties": {}, "additionalProperties": false},
        "outputSchema": {
            "type": "object",
            "properties": {"url": {"type": "string"}},
            "required": ["url"]
        },
        "annotations": {"readOnlyHint": true, "openWorldHint": false}
    }))
}

fn single() -> RawJson {
    RawJson::from(&serde_json::json!({
        "name": PortalTool::Single.name(),
        "title": "Switch one server on or off",
        "description": "Switches one server of this portal on (`toggle`) or off (`untoggle`) for this user's session. Its tools appear in the list of tools, or disappear from it.",
        "inputSchema": {
            "type": "object",
            "properties": {
                "server_id": {"type": "string", "description": "Id of the server, as portal_list_servers tells it"},
                "action": {"type": "string", "enum": ["toggle", "untoggle"], "description": "toggle: on; untoggle: off"}
            },
            "required": ["server_id", "action"],
            "additionalProperties": false
        },
        "outputSchema": {
            "type": "object",
            "properties": {
                "server_id": {"type": "string"},
                "on": {"type": "boolean"},
                "status": {"type": "string"},
                "url": {"type": "string"}
            },
            "required": ["server_id", "on", "status"]
        },
        "annotations": {"readOnlyHint": false, "destructiveHint": false, "idempotentHint": true, "openWorldHint": false}
    }))
}

fn next_page() -> RawJson {
    RawJson::from(&serde_json::json!({
        "name": PortalTool::NextPage.name(),
        "title": "Next page of a long result",
        "description": "Returns the next page of a result that was given in pages. The page before tells the handle; it is good for ten minutes.",
        "inputSchema": {
            "type": "object",
            "properties": {"handle": {"type": "string", "description": "The handle that the page before gave"}},
            "required": ["handle"],
            "additionalProperties": false
        },
        "annotations": {"readOnlyHint": true, "openWorldHint": false}
    }))
}

/// The result of a call, for either era: what it says as text and as data.
pub(crate) fn result(text: &str, structured: &serde_json::Value, modern: bool) -> RawJson {
    finished(
        serde_json::json!({
            "content": [{"type": "text", "text": text}],
            "structuredContent": structured,
            "isError": false
        }),
        modern,
    )
}

/// The result of a call that could not do what it was asked for.
pub(crate) fn failure(text: &str, modern: bool) -> RawJson {
    finished(serde_json::json!({"content": [{"type": "text", "text": text}], "isError": true}), modern)
}

fn finished(mut result: serde_json::Value, modern: bool) -> RawJson {
    if modern && let Some(object) = result.as_object_mut() {
        object.insert("resultType".to_owned(), "complete".into());
    }
    RawJson::from(&result)
}
