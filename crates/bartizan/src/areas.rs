//! What the administration does in other crates: kill switches, definitions, the record,
//! approvals. Only hands over and translates; who may is in the table of `bartizan_admin`, and
//! in the crates themselves.

use std::sync::Arc;

use bartizan_admin::{AreaAsk, AreaDone, AreaError, Areas, OnRecord, Operation};
use bartizan_approvals::{Answer, Approvals, DecideError, Decider};
use bartizan_audit::{AskError, Audit, Bodies, BodyError, BodyReader, Cursor, Granularity, Query, Row, search};
use bartizan_catalog::Snapshot;
use bartizan_catalog::pin::PinKind;
use bartizan_config::Live;
use bartizan_gate::{KillError, Kills, Lifted, NewKill};
use bartizan_model::{Clock, PrincipalKind, ReasonCode, ServerId, ToolClass};
use bartizan_registry::review::{Ask, Reviewer, Terms};
use bartizan_registry::{Registry, RegistryError};
use bartizan_store::repo::kill_switch::{self, KillSwitch};
use bartizan_store::{Store, StoreError};
use serde_json::{Value, json};

use crate::admin::Objects;

/// Most kill switches and events in one answer.
const MOST: u32 = 1_000;
/// Most approvals in one answer.
const APPROVALS: u32 = 200;

/// What does it.
#[derive(Clone)]
pub(crate) struct AreaDeps {
    pub(crate) kills: Kills,
    pub(crate) registry: Registry,
    pub(crate) approvals: Approvals,
    pub(crate) bodies: Bodies,
    pub(crate) audit: Audit,
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) live: Arc<Live<Snapshot>>,
    pub(crate) objects: Arc<Objects>,
}

/// All of it as one function.
pub(crate) fn areas(deps: AreaDeps) -> Areas {
    Arc::new(move |ask| {
        let deps = deps.clone();
        Box::pin(async move { deps.act(ask).await })
    })
}

fn shown(body: Value) -> AreaDone {
    AreaDone { body, record: None }
}

fn argument(text: &str) -> AreaError {
    AreaError::Argument(text.to_owned())
}

impl AreaDeps {
    async fn act(&self, ask: AreaAsk) -> Result<AreaDone, AreaError> {
        match ask.operation {
            Operation::Kills | Operation::SetKill | Operation::LiftKill => self.kill(ask).await,
            Operation::Definitions
            | Operation::Definition
            | Operation::DefinitionHistory
            | Operation::DecideDefinition => self.definition(ask).await,
            Operation::Events => self.events(&ask).await,
            Operation::Figures => self.figures(&ask).await,
            Operation::Body => self.body(ask).await,
            Operation::Approvals | Operation::DecideApproval | Operation::WithdrawApproval => self.approval(ask).await,
        }
    }

    async fn kill(&self, ask: AreaAsk) -> Result<AreaDone, AreaError> {
        let by = ask.principal.key().to_string();
        match ask.operation {
            Operation::SetKill => {
                let wanted: NewKill = serde_json::from_value(ask.body).map_err(|_| {
                    argument("send `scope`, `subject`, `reason` and, where it ends by itself, `until_ms`")
                })?;
                let switch = self.kills.set(wanted, &by).await.map_err(kill_error)?;
                let record = Some(kill_line("kill/set", &switch, &switch.reason));
                Ok(AreaDone { body: kill_value(&switch), record })
            }
            Operation::LiftKill => {
                let reason = ask.body.get("reason").and_then(Value::as_str).unwrap_or_default();
                // What goes on must be on record; what is stopped is stopped in any case.
                if !self.audit.ready() {
                    return Err(AreaError::Record);
                }
                let lifted = self.kills.lift(&ask.id, &by, reason).await.map_err(kill_error)?;
                let switch = kill_switch::get(&self.store, &ask.id).await.map_err(store_error)?;
                let switch = switch.ok_or(AreaError::NotFound)?;
                let method = if lifted == Lifted::Yes { "kill/lift" } else { "kill/ask_to_lift" };
                let mut body = kill_value(&switch);
                if let Some(members) = body.as_object_mut() {
                    members.insert("second_needed".to_owned(), (lifted == Lifted::AskedFirst).into());
                }
                Ok(AreaDone { body, record: Some(kill_line(method, &switch, reason)) })
            }
            _ => {
                let all = self.kills.list(number(&ask, "limit", MOST)?).await.map_err(kill_error)?;
                Ok(shown(json!({"items": all.iter().map(kill_value).collect::<Vec<_>>()})))
            }
        }
    }

    async fn definition(&self, ask: AreaAsk) -> Result<AreaDone, AreaError> {
        if ask.operation == Operation::Definitions {
            let all = self.registry.definitions(ask.parameter("server"), ask.parameter("state")).await;
            return Ok(shown(json!({"items": all.map_err(registry_error)?})));
        }
        if ask.operation == Operation::DecideDefinition {
            let wanted: Ask = serde_json::from_value(ask.body)
                .map_err(|_| argument("send `server`, `kind`, `name`, `pin`, `decision` and `reason`"))?;
            let key = ask.principal.key().to_string();
            let by = Reviewer { who: &key, kind: ask.principal.kind, roles: ask.roles };
            // On record by itself.
            let done = self.registry.decide(by, &wanted, self.terms(&wanted)).await.map_err(registry_error)?;
            return Ok(shown(json!(done)));
        }
        let server = ask.parameter("server").ok_or_else(|| argument("`server` is needed"))?;
        let kind = ask.parameter("kind").and_then(PinKind::parse);
        let kind = kind.ok_or_else(|| argument("`kind` is `tool`, `prompt`, `template` or `server`"))?;
        let name = ask.parameter("name").unwrap_or_default();
        if ask.operation == Operation::Definition {
            let review = self.registry.review(server, kind, name).await.map_err(registry_error)?;
            return Ok(shown(json!(review)));
        }
        let lines = self.registry.history(server, kind, name).await.map_err(registry_error)?;
        Ok(shown(json!({"items": lines})))
    }

    /// What the server's settings ask of a decision.
    fn terms(&self, ask: &Ask) -> Terms {
        let id = ServerId::parse(&ask.server).ok();
        let class = match (ask.kind.as_str(), id) {
            ("tool", Some(id)) => {
                self.live.load().servers.get(&id).map_or(ToolClass::Unknown, |server| server.class_of(&ask.name))
            }
            ("tool", None) => ToolClass::Unknown,
            _ => ToolClass::Read,
        };
        Terms { two_persons: self.objects.two_persons(&ask.server), class }
    }

    async fn events(&self, ask: &AreaAsk) -> Result<AreaDone, AreaError> {
        let text = |name| ask.parameter(name).map(str::to_owned);
        let code = text("code");
        if code.as_deref().is_some_and(|code| ReasonCode::parse(code).is_none()) {
            return Err(argument("`code` is no code of a refusal"));
        }
        let query = Query {
            principal: text("principal"),
            server: text("server"),
            target: text("target"),
            code,
            kind: text("kind"),
            id: text("id"),
            allow: flag(ask, "allow")?,
            since_ms: whole(ask, "since_ms")?,
            until_ms: whole(ask, "until_ms")?,
            limit: number(ask, "limit", MOST)?,
            after: ask
                .parameter("after")
                .map(|text| cursor(text).ok_or_else(|| argument("`after` is `next` of the page before")))
                .transpose()?,
            ..Query::default()
        };
        let page = search(&self.store, &query).await.map_err(|error| {
            tracing::error!(%error, "the record cannot be searched");
            AreaError::Store
        })?;
        let next = page.next.map(|next| format!("{}:{}:{}", next.at_ms, next.seq, next.writer));
        Ok(shown(json!({"items": page.rows.iter().map(event_value).collect::<Vec<_>>(), "next": next})))
    }

    async fn figures(&self, ask: &AreaAsk) -> Result<AreaDone, AreaError> {
        let text = |name| ask.parameter(name).map(str::to_owned);
        let wanted = bartizan_audit::Ask {
            granularity: match ask.parameter("granularity") {
                None | Some("daily") => Granularity::Daily,
                Some("monthly") => Granularity::Monthly,
                Some(_) => return Err(argument("`granularity` is `daily` or `monthly`")),
            },
            aggregate: flag(ask, "aggregate")?.unwrap_or_default(),
            // A sign that came as a space was not encoded.
            tz: text("tz").map(|tz| tz.replace(' ', "+")),
            days: match ask.parameter("days") {
                None => None,
                Some(days) => Some(days.parse().map_err(|_| argument("`days` must be from 1 to 179"))?),
            },
            portal: text("portal"),
            server: text("server"),
        };
        let figures = bartizan_audit::figures(&self.store, &wanted, self.clock.now_ms()).await;
        figures.map(|figures| shown(json!(figures))).map_err(|error| match error {
            AskError::TimeZone | AskError::Days => AreaError::Argument(error.to_string()),
            AskError::Store(error) => {
                tracing::error!(%error, "figures cannot be counted");
                AreaError::Store
            }
        })
    }

    async fn body(&self, ask: AreaAsk) -> Result<AreaDone, AreaError> {
        let reader = BodyReader { kind: ask.principal.kind, who: ask.who, roles: ask.roles };
        // Each reading is on record by itself.
        match self.bodies.read(&self.audit, &ask.id, reader).await {
            Ok(Some(body)) => Ok(shown(json!(body))),
            Ok(None) | Err(BodyError::NotAuditor) => Err(AreaError::NotFound),
            Err(error) => {
                tracing::error!(%error, "a body cannot be shown");
                Err(AreaError::Store)
            }
        }
    }

    async fn approval(&self, ask: AreaAsk) -> Result<AreaDone, AreaError> {
        let decider = Decider::Person { principal: Arc::clone(&ask.principal), roles: ask.roles };
        let is_person = ask.principal.kind == PrincipalKind::User;
        match ask.operation {
            Operation::DecideApproval => {
                // A program that asks for calls must not be what lets them pass.
                if !is_person {
                    return Err(AreaError::AnotherPerson("a person answers, and no program".to_owned()));
                }
                let reason = ask.body.get("reason").and_then(Value::as_str);
                let answer = answer(&ask.body)?;
                let record = self.approvals.decide(&decider, &ask.id, &answer, reason, None).await;
                Ok(shown(approval_value(&record.map_err(decide_error)?)))
            }
            Operation::WithdrawApproval => {
                self.approvals.withdraw_as(&decider, &ask.id).await.map_err(decide_error)?;
                Ok(shown(json!({"id": ask.id, "state": "withdrawn"})))
            }
            _ => {
                let asked = self.approvals.asked_by(&ask.principal, APPROVALS).await.map_err(decide_error)?;
                let waiting = if is_person {
                    let most = usize::try_from(APPROVALS).unwrap_or(usize::MAX);
                    self.approvals.to_decide(&decider, most).await.map_err(decide_error)?
                } else {
                    Vec::new()
                };
                let list = |all: &[bartizan_approvals::Record]| all.iter().map(approval_value).collect::<Vec<_>>();
                Ok(shown(json!({"asked": list(&asked), "to_decide": list(&waiting)})))
            }
        }
    }
}

fn number(ask: &AreaAsk, name: &str, most: u32) -> Result<u32, AreaError> {
    match ask.parameter(name).map(str::parse) {
        None => Ok(most.min(200)),
        Some(Ok(number)) if (1..=most).contains(&number) => Ok(number),
        Some(_) => Err(AreaError::Argument(format!("`{name}` is a number from 1 to {most}"))),
    }
}

fn whole(ask: &AreaAsk, name: &str) -> Result<Option<i64>, AreaError> {
    let wrong = |_| AreaError::Argument(format!("`{name}` is a time in milliseconds since 1970"));
    ask.parameter(name).map(|text| text.parse().map_err(wrong)).transpose()
}

fn flag(ask: &AreaAsk, name: &str) -> Result<Option<bool>, AreaError> {
    let wrong = |_| AreaError::Argument(format!("`{name}` is `true` or `false`"));
    ask.parameter(name).map(|text| text.parse().map_err(wrong)).transpose()
}

fn cursor(text: &str) -> Option<Cursor> {
    let mut parts = text.splitn(3, ':');
    let (at_ms, seq) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    Some(Cursor { at_ms, seq, writer: parts.next()?.to_owned() })
}

fn answer(body: &Value) -> Result<Answer, AreaError> {
    let seconds = || {
        let seconds = body.get("seconds").and_then(Value::as_u64).and_then(|seconds| u32::try_from(seconds).ok());
        seconds.ok_or_else(|| argument("`seconds` is needed: how long it lasts"))
    };
    match body.get("answer").and_then(Value::as_str) {
        Some("call") => Ok(Answer::Call),
        Some("tool") => Ok(Answer::Tool(seconds()?)),
        Some("entry") => Ok(Answer::Entry(seconds()?)),
        Some("reject") => Ok(Answer::Reject),
        _ => Err(argument("`answer` is `call`, `tool`, `entry` or `reject`")),
    }
}

/// `user alice@example.com`, `everything`.
fn kill_line(method: &'static str, switch: &KillSwitch, reason: &str) -> OnRecord {
    let target = format!("{} {}", switch.scope, switch.subject).trim_end().to_owned();
    OnRecord { method, target, note: format!("{}: {reason}", switch.id) }
}

fn kill_value(switch: &KillSwitch) -> Value {
    json!({
        "id": switch.id, "scope": switch.scope, "subject": switch.subject, "reason": switch.reason,
        "set_by": switch.set_by, "set_ms": switch.set_ms, "until_ms": switch.until_ms,
        "lift_asked_by": switch.lift_asked_by, "lifted_by": switch.lifted_by, "lifted_ms": switch.lifted_ms,
        "lift_reason": switch.lift_reason,
    })
}

fn event_value(row: &Row) -> Value {
    let mut value = json!(row.event);
    if let Some(members) = value.as_object_mut() {
        members.insert("writer".into(), row.writer.as_str().into());
        members.insert("seq".into(), row.seq.into());
        if row.erased {
            members.insert("who".into(), Value::Null);
        }
    }
    value
}

fn approval_value(record: &bartizan_approvals::Record) -> Value {
    let row = &record.row;
    json!({
        "id": row.id, "kind": row.kind, "requester": row.requester, "subject": row.subject, "digest": row.digest,
        "state": row.state, "scope": row.scope, "asked_ms": row.asked_ms, "expires_ms": row.expires_ms,
        "decided_ms": row.decided_ms, "decided_by": row.decided_by, "reason": row.reason, "until_ms": row.until_ms,
        "longest_s": row.longest_s, "waits_for": record.waits_for(), "details": record.details,
    })
}

fn store_error(error: StoreError) -> AreaError {
    tracing::error!(%error, "the administration cannot use the store");
    AreaError::Store
}

fn kill_error(error: KillError) -> AreaError {
    match error {
        KillError::Store(error) => store_error(error),
        KillError::Unknown => AreaError::NotFound,
        KillError::SamePerson => AreaError::AnotherPerson(error.to_string()),
        KillError::Invalid(_) | KillError::TooMany => AreaError::Argument(error.to_string()),
    }
}

fn registry_error(error: RegistryError) -> AreaError {
    match error {
        RegistryError::Store(error) => store_error(error),
        RegistryError::Unknown => AreaError::NotFound,
        RegistryError::Conflict => AreaError::Outdated(error.to_string()),
        RegistryError::Forbidden(_) => AreaError::AnotherPerson(error.to_string()),
        RegistryError::State(_) => AreaError::Argument(error.to_string()),
        RegistryError::Audit => AreaError::Record,
    }
}

fn decide_error(error: DecideError) -> AreaError {
    match error {
        DecideError::Unknown => AreaError::NotFound,
        DecideError::Own => AreaError::AnotherPerson(error.to_string()),
        DecideError::Closed(_) => AreaError::Outdated(error.to_string()),
        DecideError::Bad(_) | DecideError::Link => AreaError::Argument(error.to_string()),
        DecideError::Unavailable(why) => {
            tracing::error!(why, "approvals are not available");
            AreaError::Store
        }
    }
}
