//! The methods of both eras, as a table (protocol reference 3.2, 3.4, 3.7, 3.9).

/// What is known about a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MethodInfo {
    /// Name on the wire.
    pub name: &'static str,
    /// Exists in the legacy era.
    pub legacy: bool,
    /// Exists in the modern era as a message of its own.
    pub modern: bool,
    /// Server capability that must be advertised, else the method is unknown.
    pub capability: Option<&'static str>,
    /// Member of `params` that `Mcp-Name` mirrors and that must be a string.
    pub name_member: Option<&'static str>,
    /// May be sent again when the outcome is unknown.
    pub idempotent: bool,
    /// Complete results carry `ttlMs` and `cacheScope`.
    pub cacheable: bool,
    /// May be answered `input_required`.
    pub input_required: bool,
    /// Takes `cursor`, answers `nextCursor`.
    pub paged: bool,
    /// Who sends it.
    pub from: From,
    /// Has no answer.
    pub notification: bool,
}

/// Who sends a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// The client.
    Client,
    /// The server.
    Server,
    /// Either.
    Both,
}

const BASE: MethodInfo = MethodInfo {
    name: "",
    legacy: true,
    modern: true,
    capability: None,
    name_member: None,
    idempotent: false,
    cacheable: false,
    input_required: false,
    paged: false,
    from: From::Client,
    notification: false,
};

const fn list(name: &'static str, capability: &'static str) -> MethodInfo {
    MethodInfo { name, capability: Some(capability), idempotent: true, cacheable: true, paged: true, ..BASE }
}

const fn legacy(name: &'static str, capability: Option<&'static str>) -> MethodInfo {
    MethodInfo { name, modern: false, capability, idempotent: true, ..BASE }
}

const fn task(name: &'static str, legacy: bool) -> MethodInfo {
    MethodInfo { name, legacy, name_member: Some("taskId"), ..BASE }
}

const fn note(name: &'static str, legacy: bool, modern: bool, from: From) -> MethodInfo {
    MethodInfo { name, legacy, modern, from, notification: true, ..BASE }
}

const fn ask(name: &'static str) -> MethodInfo {
    MethodInfo { name, modern: false, from: From::Server, ..BASE }
}

/// Every method the two eras define.
pub const METHODS: &[MethodInfo] = &[
    legacy("initialize", None),
    MethodInfo { from: From::Both, ..legacy("ping", None) },
    legacy("logging/setLevel", Some("logging")),
    legacy("resources/subscribe", Some("resources")),
    legacy("resources/unsubscribe", Some("resources")),
    legacy("tasks/list", Some("tasks")),
    MethodInfo { name_member: Some("taskId"), ..legacy("tasks/result", Some("tasks")) },
    MethodInfo { name: "server/discover", legacy: false, idempotent: true, cacheable: true, ..BASE },
    MethodInfo { name: "subscriptions/listen", legacy: false, idempotent: true, ..BASE },
    list("tools/list", "tools"),
    list("prompts/list", "prompts"),
    list("resources/list", "resources"),
    list("resources/templates/list", "resources"),
    MethodInfo {
        name: "tools/call",
        capability: Some("tools"),
        name_member: Some("name"),
        input_required: true,
        ..BASE
    },
    MethodInfo {
        name: "prompts/get",
        capability: Some("prompts"),
        name_member: Some("name"),
        idempotent: true,
        input_required: true,
        ..BASE
    },
    MethodInfo {
        name: "resources/read",
        capability: Some("resources"),
        name_member: Some("uri"),
        idempotent: true,
        cacheable: true,
        input_required: true,
        ..BASE
    },
    MethodInfo { name: "completion/complete", capability: Some("completions"), idempotent: true, ..BASE },
    MethodInfo { idempotent: true, ..task("tasks/get", true) },
    task("tasks/update", false),
    task("tasks/cancel", true),
    ask("sampling/createMessage"),
    ask("elicitation/create"),
    ask("roots/list"),
    note("notifications/initialized", true, false, From::Client),
    note("notifications/roots/list_changed", true, false, From::Client),
    note("notifications/cancelled", true, true, From::Both),
    note("notifications/progress", true, true, From::Both),
    note("notifications/message", true, true, From::Server),
    note("notifications/tools/list_changed", true, true, From::Server),
    note("notifications/prompts/list_changed", true, true, From::Server),
    note("notifications/resources/list_changed", true, true, From::Server),
    note("notifications/resources/updated", true, true, From::Server),
    note("notifications/elicitation/complete", true, false, From::Server),
    note("notifications/tasks/status", true, false, From::Both),
    note("notifications/tasks", false, true, From::Server),
    note("notifications/subscriptions/acknowledged", false, true, From::Server),
];

/// What is known about a method; nothing for methods neither era defines, which are
/// forwarded as they are.
pub fn lookup(method: &str) -> Option<&'static MethodInfo> {
    METHODS.iter().find(|info| info.name == method)
}

impl MethodInfo {
    /// True when the method exists in an era.
    pub fn in_era(&self, era: crate::Era) -> bool {
        match era {
            crate::Era::Legacy => self.legacy,
            crate::Era::Modern => self.modern,
        }
    }
}
