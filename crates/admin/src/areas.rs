//! What other crates do for the administration: kill switches, definitions, the record,
//! approvals. Each is a row of the one table; what it does is a function that the process hands
//! in, so that this crate knows none of them.

use std::sync::Arc;

use bartizan_model::event::{AuditEvent, EventKind, Who};
use bartizan_model::{EventId, Principal, Role, RoleSet};
use http::StatusCode;
use serde_json::{Value, json};

use crate::api::{Answering, Caller};
use crate::change::Engine;
use crate::respond::{Refusal, Reply};
use crate::table::{Action, Endpoint, OVERVIEW, row};

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Kill switches, newest first (G24).
    Kills,
    /// Something is stopped.
    SetKill,
    /// Something goes on, or one of two has asked for it.
    LiftKill,
    /// Definitions of servers (P45).
    Definitions,
    /// One definition, with what changed.
    Definition,
    /// What happened to one definition (P48).
    DefinitionHistory,
    /// A definition is approved or rejected.
    DecideDefinition,
    /// Events, newest first (L1).
    Events,
    /// Figures about calls (L6).
    Figures,
    /// Arguments and result of one call (L4).
    Body,
    /// What the caller asked, and what waits for the caller (W12).
    Approvals,
    /// A question is answered.
    DecideApproval,
    /// A question is taken back.
    WithdrawApproval,
}

impl Operation {
    /// Whether it can change anything.
    pub fn is_mutation(self) -> bool {
        self.has_body() || self == Self::WithdrawApproval
    }

    /// Whether the request has a body.
    pub fn has_body(self) -> bool {
        matches!(self, Self::SetKill | Self::LiftKill | Self::DecideDefinition | Self::DecideApproval)
    }

    /// Whether the sender must mean it: reading a body stands on record under the reader's name.
    pub(crate) fn is_meant(self) -> bool {
        self.is_mutation() || self == Self::Body
    }

    /// Query parameters.
    pub(crate) fn parameters(self) -> &'static [&'static str] {
        match self {
            Self::Kills => &["limit"],
            Self::Definitions => &["server", "state"],
            Self::Definition | Self::DefinitionHistory => &["server", "kind", "name"],
            Self::Events => &[
                "id",
                "principal",
                "server",
                "target",
                "code",
                "kind",
                "allow",
                "since_ms",
                "until_ms",
                "limit",
                "after",
            ],
            Self::Figures => &["granularity", "aggregate", "tz", "days", "portal", "server"],
            _ => &[],
        }
    }

    /// Last part of the id in the document.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Kills => "list_kill_switches",
            Self::SetKill => "set_kill_switch",
            Self::LiftKill => "lift_kill_switch",
            Self::Definitions => "list_definitions",
            Self::Definition => "review_definition",
            Self::DefinitionHistory => "history_definition",
            Self::DecideDefinition => "decide_definition",
            Self::Events => "search_events",
            Self::Figures => "figures",
            Self::Body => "read_body",
            Self::Approvals => "list_approvals",
            Self::DecideApproval => "decide_approval",
            Self::WithdrawApproval => "withdraw_approval",
        }
    }

    /// Heading in the document.
    pub(crate) fn tag(self) -> &'static str {
        match self {
            Self::Kills | Self::SetKill | Self::LiftKill => "kill_switches",
            Self::Definitions | Self::Definition | Self::DefinitionHistory | Self::DecideDefinition => "definitions",
            Self::Events | Self::Figures | Self::Body => "audit",
            Self::Approvals | Self::DecideApproval | Self::WithdrawApproval => "approvals",
        }
    }

    /// Schema of the body.
    pub(crate) fn request(self) -> Option<Value> {
        let text = |longest: u32| json!({"type": "string", "minLength": 1, "maxLength": longest});
        let object = |required: &[&str], properties: Value| {
            Some(json!({"type": "object", "required": required, "additionalProperties": false,
                "properties": properties}))
        };
        match self {
            Self::SetKill => object(
                &["scope", "reason"],
                json!({"scope": {"type": "string", "enum": ["everything", "portal", "server", "tool", "user", "group",
                        "client", "agent", "service"]},
                    "subject": {"type": "string", "maxLength": 512, "description": "Which of that kind; a tool is `SERVER/TOOL`"},
                    "reason": text(500),
                    "until_ms": {"type": ["integer", "null"], "description": "When it ends by itself, milliseconds since 1970"}}),
            ),
            Self::LiftKill => object(&["reason"], json!({"reason": text(500)})),
            Self::DecideDefinition => object(
                &["server", "kind", "pin", "decision"],
                json!({"server": {"type": "string"},
                    "kind": {"type": "string", "enum": ["tool", "prompt", "template", "server"]},
                    "name": {"type": "string"},
                    "pin": {"type": "string", "description": "The version that was looked at"},
                    "decision": {"type": "string", "enum": ["approve", "approve_once", "reject"]},
                    "reason": {"type": "string", "maxLength": 2000}}),
            ),
            Self::DecideApproval => object(
                &["answer"],
                json!({"answer": {"type": "string", "enum": ["call", "tool", "entry", "reject"]},
                    "seconds": {"type": "integer", "minimum": 0, "description": "How long `tool` and `entry` last"},
                    "reason": {"type": "string"}}),
            ),
            _ => None,
        }
    }
}

/// The rows.
pub(crate) fn rows() -> Vec<Endpoint> {
    use Role::{Auditor, Governance, Owner, Security};
    const STOP: &[Role] = &[Owner, Security];
    const STOPPED: &[Role] = &[Owner, Security, Auditor];
    const GOVERN: &[Role] = &[Owner, Governance];
    // Not even an owner reads what was in a call.
    const BODIES: &[Role] = &[Auditor];
    use Operation as Op;
    let get = |path, op, roles, summary| row(http::Method::GET, path, Action::Area(op), roles, summary);
    let post = |path, op, roles, summary| row(http::Method::POST, path, Action::Area(op), roles, summary);
    vec![
        get("/kill_switches", Op::Kills, Some(STOPPED), "What is and was stopped, newest first"),
        post("/kill_switches", Op::SetKill, Some(STOP), "Stops something in every process"),
        post("/kill_switches/{id}/lift", Op::LiftKill, Some(STOP), "It goes on; everything takes two people"),
        get("/definitions", Op::Definitions, Some(OVERVIEW), "What servers offer, and what was decided about it"),
        get("/definitions/review", Op::Definition, Some(OVERVIEW), "One definition, with what changed"),
        get("/definitions/history", Op::DefinitionHistory, Some(OVERVIEW), "What happened to one, newest first"),
        post("/definitions/decide", Op::DecideDefinition, Some(GOVERN), "Approves or rejects one version of one"),
        get("/audit/events", Op::Events, Some(STOPPED), "Searches the record, newest first"),
        get("/audit/figures", Op::Figures, Some(OVERVIEW), "Calls per day or month, and how they ended"),
        get("/audit/events/{id}/body", Op::Body, Some(BODIES), "Arguments and result of a call; is on record itself"),
        get("/approvals", Op::Approvals, None, "What the caller asked for, and what waits for the caller"),
        post("/approvals/{id}/decide", Op::DecideApproval, None, "Answers, where the caller may"),
        post("/approvals/{id}/withdraw", Op::WithdrawApproval, None, "Takes back what the caller asked for"),
    ]
}

/// One request. The table has let the caller in.
pub struct AreaAsk {
    /// What is to be done.
    pub operation: Operation,
    /// Who asks.
    pub principal: Arc<Principal>,
    /// With which roles.
    pub roles: RoleSet,
    /// The same for the record.
    pub who: Who,
    /// Id in the path; empty where there is none.
    pub id: String,
    /// Query parameters: each is known, and there at most once.
    pub query: Vec<(String, String)>,
    /// The body; null where there is none.
    pub body: Value,
}

impl AreaAsk {
    /// A query parameter.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(its, _)| its == name).map(|(_, value)| value.as_str())
    }
}

/// What was done.
pub struct AreaDone {
    /// The answer.
    pub body: Value,
    /// What is to be put on record; `None` where that has happened, or nothing was changed.
    pub record: Option<OnRecord>,
}

/// A line for the record.
pub struct OnRecord {
    /// `kill/set`.
    pub method: &'static str,
    /// What it was about.
    pub target: String,
    /// More about it.
    pub note: String,
}

/// Why nothing was done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AreaError {
    /// There is no such thing, for this caller.
    #[error("there is no such thing")]
    NotFound,
    /// The request says something that it must not.
    #[error("{0}")]
    Argument(String),
    /// Not this caller, though the roles would do.
    #[error("{0}")]
    AnotherPerson(String),
    /// Somebody else was first, or it was looked at before it changed.
    #[error("{0}")]
    Outdated(String),
    /// The record does not take it.
    #[error("the change cannot be put on record")]
    Record,
    /// The store does not answer.
    #[error("the store does not answer")]
    Store,
}

impl From<AreaError> for Refusal {
    fn from(error: AreaError) -> Self {
        let text = error.to_string();
        match error {
            AreaError::NotFound => Self::not_found(),
            AreaError::Argument(_) => Self::argument(text),
            AreaError::AnotherPerson(_) => Self::new(StatusCode::CONFLICT, "another_person_needed", text),
            AreaError::Outdated(_) => Self::new(StatusCode::PRECONDITION_FAILED, "precondition_failed", text),
            AreaError::Record => Self::new(StatusCode::SERVICE_UNAVAILABLE, "audit_unavailable", text),
            AreaError::Store => Self::new(StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", text),
        }
    }
}

/// Does what a row says.
pub type Areas = Arc<dyn Fn(AreaAsk) -> Answering<Result<AreaDone, AreaError>> + Send + Sync>;

/// Asks, and puts on record what is not yet.
pub(crate) async fn act(
    areas: &Areas,
    engine: &Engine,
    operation: Operation,
    (id, query, body): (&str, Vec<(String, String)>, Value),
    caller: &Caller,
) -> Result<Reply, Refusal> {
    let ask = AreaAsk {
        operation,
        principal: Arc::clone(&caller.principal),
        roles: caller.roles,
        who: caller.about.who.clone(),
        id: id.to_owned(),
        query,
        body,
    };
    let done = areas(ask).await?;
    if let Some(line) = done.record {
        let now = engine.clock.now_ms();
        let about = &caller.about;
        let (kind, who) = (EventKind::Admin, about.who.clone());
        let mut event = AuditEvent::new(EventId::new(now), now, kind, about.kind, who, line.method);
        event.target = Some(line.target);
        event.note = Some(line.note);
        event.change = Some(json!({"source": about.source, "reason": about.reason}).to_string());
        if let Err(error) = (engine.record)(event).await {
            tracing::error!(error, method = line.method, "it was done and is not on record");
            return Err(AreaError::Record.into());
        }
    }
    Ok(Reply::ok(done.body))
}
