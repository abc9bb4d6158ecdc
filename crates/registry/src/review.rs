//! Deciding about definitions (P45): who sees what, and what a decision does. The administration,
//! pages and the command line call these functions.

use bartizan_catalog::pin::PinKind;
use bartizan_model::event::{AuditEvent, EventKind, Who};
use bartizan_model::{EventId, PrincipalKind, Role, RoleSet, ServerId, ToolClass};
use bartizan_store::repo::definition::{self, Definition, Edit, history};
use bartizan_store::repo::server_life;
use serde::{Deserialize, Serialize};

use crate::diff::{self, Change};
use crate::judge::{MISSING_MS, is_lapsed};
use crate::proof::Entry;
use crate::registry::{Registry, RegistryError};
use crate::similar;

/// How long "once" is at most, milliseconds.
const ONCE_MS: i64 = 24 * 3_600_000;
/// Longest reason, characters.
const MAX_REASON: usize = 2_000;
/// Most lines of the history of one definition.
const MAX_LINES: u32 = 1_000;

/// Who decides.
#[derive(Clone, Copy, Debug)]
pub struct Reviewer<'a> {
    /// Key of the principal: `user:ana@example.com`.
    pub who: &'a str,
    /// What kind of principal it is.
    pub kind: PrincipalKind,
    /// Its roles.
    pub roles: RoleSet,
}

/// A definition in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Server id.
    pub server: String,
    /// `tool`, `prompt`, `template` or `server`.
    pub kind: String,
    /// Original name.
    pub name: String,
    /// `quarantined`, `approved`, `changed`, `rejected` or `missing`.
    pub state: String,
    /// Pin of what is approved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approved_pin: Option<String>,
    /// Who approved it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approved_by: Option<String>,
    /// Pin of what was seen last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen_pin: Option<String>,
    /// Whose list it was seen in, where lists are personal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen_by: Option<String>,
    /// When, milliseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen_ms: Option<i64>,
    /// Who gave the first of two approvals.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_approval_by: Option<String>,
    /// The missing definition it is much like (P46).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub much_like: Option<String>,
}

impl From<Definition> for Summary {
    fn from(row: Definition) -> Self {
        Self {
            server: row.server,
            kind: row.kind,
            name: row.name,
            state: row.state,
            approved_pin: row.approved,
            approved_by: row.approved_by,
            seen_pin: row.seen,
            seen_by: row.seen_by,
            seen_ms: row.seen_ms,
            first_approval_by: row.first_by,
            much_like: row.alias_of,
        }
    }
}

/// All that a reviewer needs to decide about one definition.
#[derive(Clone, Debug, Serialize)]
pub struct Review {
    /// What it is.
    #[serde(flatten)]
    pub summary: Summary,
    /// From what is approved to what was seen last.
    pub changes: Vec<Change>,
    /// What of it lets the tool do more.
    pub permissions: Vec<String>,
    /// Names of other servers' tools that this one could be taken for, with their server (P46).
    pub looks_like: Vec<String>,
    /// What scanners say; there are none yet.
    pub scan: &'static str,
    /// The approved text, canonical JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approved: Option<String>,
    /// The text that was seen last, canonical JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen: Option<String>,
}

/// A decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// It is good until it changes.
    Approve,
    /// It is good until it changes, for 24 hours at most; what was approved before stays approved.
    ApproveOnce,
    /// It stays hidden, whatever the server's settings say.
    Reject,
}

/// What is decided about.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// Server id.
    pub server: String,
    /// `tool`, `prompt`, `template` or `server`.
    pub kind: String,
    /// Original name.
    #[serde(default)]
    pub name: String,
    /// The pin that was looked at: a decision is about that and nothing newer.
    pub pin: String,
    /// What to do.
    pub decision: Decision,
    /// Why.
    #[serde(default)]
    pub reason: String,
}

/// What the server's settings ask of a decision.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terms {
    /// Two people approve what is not known to read only.
    pub two_persons: bool,
    /// Reviewed class of the tool.
    pub class: ToolClass,
}

/// What a decision did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Done {
    /// The definition after it.
    #[serde(flatten)]
    pub summary: Summary,
    /// True while a second person has to approve too.
    pub second_needed: bool,
}

impl Registry {
    /// Definitions, of one server or of all, in one state or in all.
    ///
    /// # Errors
    /// [`RegistryError::Store`].
    pub async fn definitions(&self, server: Option<&str>, state: Option<&str>) -> Result<Vec<Summary>, RegistryError> {
        let servers = match server {
            Some(server) => vec![server.to_owned()],
            None => definition::servers(&self.0.store).await?,
        };
        let now_ms = self.0.clock.now_ms();
        let mut all = Vec::new();
        for server in servers {
            let rows = definition::of_server(&self.0.store, &server).await?;
            let shown = rows.into_iter().filter(|row| {
                let over = row.missing_ms.is_some_and(|since| now_ms.saturating_sub(since) > MISSING_MS);
                !over && state.is_none_or(|state| row.state == state)
            });
            all.extend(shown.map(Summary::from));
        }
        Ok(all)
    }

    /// One definition with everything that changed since it was approved.
    ///
    /// # Errors
    /// [`RegistryError::Unknown`] and [`RegistryError::Store`].
    pub async fn review(&self, server: &str, kind: PinKind, name: &str) -> Result<Review, RegistryError> {
        let row = self.0.row(server, kind, name).await?;
        let store = &self.0.store;
        let body = async |pin: &Option<String>| match pin {
            Some(pin) => definition::body(store, pin).await,
            None => Ok(None),
        };
        let (approved, seen) = (body(&row.approved).await?, body(&row.seen).await?);
        let changes = diff::changes(approved.as_deref(), seen.as_deref());
        let permissions = changes.iter().filter(|change| change.permission);
        let permissions = permissions.map(|change| format!("{}: {}", change.path, change.what)).collect();
        let elsewhere =
            if kind == PinKind::Tool { definition::names_elsewhere(store, server).await? } else { Vec::new() };
        let alike = elsewhere.into_iter().filter(|(_, other)| similar::looks_like(name, other));
        Ok(Review {
            changes,
            permissions,
            looks_like: alike.map(|(server, name)| format!("{server}/{name}")).take(20).collect(),
            scan: "not scanned",
            approved,
            seen,
            summary: row.into(),
        })
    }

    /// What happened to one definition, newest first.
    ///
    /// # Errors
    /// [`RegistryError::Store`].
    pub async fn history(&self, server: &str, kind: PinKind, name: &str) -> Result<Vec<Entry>, RegistryError> {
        let lines = history::of(&self.0.store, server, kind.as_str(), name, MAX_LINES).await?;
        Ok(lines.iter().map(Entry::from).collect())
    }

    /// Decides about one definition.
    ///
    /// # Errors
    /// [`RegistryError`]: without the role of governance, by whom may not decide this, about what is
    /// not what was looked at, and when the record or the store does not answer.
    pub async fn decide(&self, by: Reviewer<'_>, ask: &Ask, terms: Terms) -> Result<Done, RegistryError> {
        if !by.roles.allows(Role::Governance) {
            return Err(RegistryError::Forbidden("this needs the role `governance`"));
        }
        let kind = PinKind::parse(&ask.kind).ok_or(RegistryError::Unknown)?;
        if ask.reason.chars().count() > MAX_REASON {
            return Err(RegistryError::State("the reason is longer than 2,000 characters"));
        }
        if self.0.audit.as_ref().is_some_and(|audit| !audit.ready()) {
            return Err(RegistryError::Audit);
        }
        let row = self.0.row(&ask.server, kind, &ask.name).await?;
        let seen = row.seen.as_deref() == Some(&*ask.pin);
        let withdraws = ask.decision == Decision::Reject && row.approved.as_deref() == Some(&*ask.pin);
        if !seen && !withdraws {
            return Err(RegistryError::Conflict);
        }
        if terms.two_persons && ask.decision != Decision::Reject {
            let life = server_life::get(&self.0.store, &ask.server).await?;
            if life.is_some_and(|life| life.asked_by == by.who || life.owner == by.who) {
                return Err(RegistryError::Forbidden("who asked for the server does not approve its definitions"));
            }
        }
        let (edit, second_needed) = self.edit(by, ask, terms, row)?;
        let method = match (ask.decision, second_needed) {
            (Decision::Reject, _) => "definition/reject",
            (_, true) => "definition/first_approval",
            (Decision::Approve, false) => "definition/approve",
            (Decision::ApproveOnce, false) => "definition/approve_once",
        };
        let edits = [edit];
        let change = definition::Change {
            server: &ask.server,
            first_of: None,
            who: by.who,
            edits: &edits,
            seal: crate::proof::seal,
        };
        if !self.0.apply(&change).await? {
            return Err(RegistryError::Conflict);
        }
        let [edit] = edits;
        self.record(by, ask, method, &edit).await?;
        Ok(Done { summary: edit.row.into(), second_needed })
    }

    fn edit(&self, by: Reviewer<'_>, ask: &Ask, terms: Terms, row: Definition) -> Result<(Edit, bool), RegistryError> {
        let now_ms = self.0.clock.now_ms();
        let pin = Some(ask.pin.clone());
        let former = row.approved.clone();
        let two = terms.two_persons && terms.class.needs_grant() && ask.decision != Decision::Reject;
        let first = row.first_by.as_deref().filter(|_| row.first_pin == pin);
        if two && first == Some(by.who) {
            return Err(RegistryError::Forbidden("the second approval is somebody else's"));
        }
        let second_needed = two && first.is_none();
        let clear = Definition { first_pin: None, first_by: None, ..row.clone() };
        let (row, action) = match ask.decision {
            _ if second_needed => {
                (Definition { first_pin: pin.clone(), first_by: Some(by.who.to_owned()), ..row }, "first approval")
            }
            Decision::Approve => {
                let approved_by = match first {
                    Some(first) => format!("{first}, {}", by.who),
                    None => by.who.to_owned(),
                };
                let next = Definition {
                    state: "approved".to_owned(),
                    approved: pin.clone(),
                    approved_by: Some(approved_by),
                    approved_ms: Some(now_ms),
                    once_pin: None,
                    once_ms: None,
                    rejected: None,
                    missing_ms: None,
                    alias_of: None,
                    ..clear
                };
                (next, "approved")
            }
            Decision::ApproveOnce => {
                let rejected = row.rejected.filter(|rejected| *rejected != ask.pin);
                let once_ms = Some(now_ms.saturating_add(ONCE_MS));
                (Definition { once_pin: pin.clone(), once_ms, rejected, ..clear }, "approved once")
            }
            Decision::Reject => {
                let approved = row.approved.filter(|approved| *approved != ask.pin && !is_lapsed(&clear, now_ms));
                let next = Definition {
                    state: "rejected".to_owned(),
                    approved,
                    rejected: pin.clone(),
                    once_pin: None,
                    once_ms: None,
                    ..clear
                };
                (next, "rejected")
            }
        };
        Ok((Edit { row, body: None, action, pin, former, reason: ask.reason.clone() }, second_needed))
    }

    async fn record(
        &self,
        by: Reviewer<'_>,
        ask: &Ask,
        method: &'static str,
        edit: &Edit,
    ) -> Result<(), RegistryError> {
        let Some(audit) = &self.0.audit else { return Ok(()) };
        let now_ms = self.0.clock.now_ms();
        let who = Who { principal: by.who.to_owned(), ..Who::default() };
        let mut event = AuditEvent::new(EventId::new(now_ms), now_ms, EventKind::Admin, by.kind, who, method);
        event.server = ServerId::parse(&ask.server).ok();
        event.target = Some(crate::events::target(&ask.kind, &ask.name));
        event.pin = Some(ask.pin.clone());
        let before = edit.former.as_deref().unwrap_or("nothing");
        event.note = Some(format!("before {before}; reason: {}", ask.reason));
        audit.append_durable(event).await.map(drop).map_err(|error| {
            tracing::error!(%error, "a decision is in the history and not in the audit record");
            RegistryError::Audit
        })
    }
}
