//! Asking and answering.

use std::sync::Arc;
use std::time::Duration;

use bartizan_audit::Audit;
use bartizan_model::{Clock, EventId, Principal, PrincipalKind, ReasonCode, Role, RoleSet, fold_user_id};
use bartizan_policy::{Approval, Approver, Asks};
use bartizan_store::Store;
use bartizan_store::repo::approval::{self, Approval as Row, Asked, WINDOW_MS};
use bartizan_store::repo::replay;
use bartizan_vault::{Aad, Vault};

use crate::error::{AskError, DecideError};
use crate::events::{Actor, Events, Noted};
use crate::feed::{self, Memory};
use crate::link::{self, Opened};
use crate::question::{CallQuestion, Details, EntryQuestion, MAX_REASON};

/// How long a question waits for an answer, milliseconds (features section 1.3).
pub const LIFE_MS: i64 = 24 * 3_600_000;
/// How long an approval of one call is good, milliseconds (W12).
pub const PASS_MS: i64 = 600_000;
/// Questions of one principal within an hour (W12).
pub const MOST_PER_HOUR: i64 = 20;
/// Open questions that are looked at.
const OPEN: u32 = 1_000;

/// What approvals are made of.
pub struct ApprovalsDeps {
    /// Where they are kept.
    pub store: Store,
    /// Seals what they show, and links.
    pub vault: Vault,
    /// The record.
    pub audit: Audit,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Where the pages are, without trailing slash; `None` where there are none.
    pub public_url: Option<String>,
}

pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) vault: Vault,
    pub(crate) events: Events,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) public_url: Option<String>,
    pub(crate) memory: Memory,
}

/// Questions and answers of one installation. Cheap to clone.
#[derive(Clone)]
pub struct Approvals(pub(crate) Arc<Inner>);

/// A question with what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// As kept.
    pub row: Row,
    /// What is shown.
    pub details: Details,
    /// Who may answer.
    pub approvers: Vec<Approver>,
}

/// What lets a call go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pass {
    /// The approval.
    pub id: String,
    /// It is used up by the call.
    pub once: bool,
}

/// How a call stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Somebody said yes.
    Granted(Pass),
    /// Asked, and not answered.
    Open(String),
    /// Somebody said no, not long ago; why.
    Rejected(Option<String>),
    /// Nobody answered in time, or the yes was not used in time.
    Expired,
    /// It was not asked.
    Nothing,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Yes, to this exact call.
    Call,
    /// Yes, to every call of the tool for so many seconds.
    Tool(u32),
    /// Yes, let in for so many seconds.
    Entry(u32),
    /// No.
    Reject,
}

/// Who answers.
#[derive(Clone, Debug)]
pub enum Decider {
    /// A person who is signed in.
    Person {
        /// Who.
        principal: Arc<Principal>,
        /// With which roles.
        roles: RoleSet,
    },
    /// The operator of the machine, in a role that the operator names.
    Operator {
        /// Operating system user.
        uid: u32,
        /// The role.
        role: Role,
    },
}

impl Decider {
    fn key(&self) -> String {
        match self {
            Self::Person { principal, .. } => principal.key().to_string(),
            Self::Operator { .. } => "service:bartizan-cli".to_owned(),
        }
    }

    fn groups(&self) -> Vec<String> {
        match self {
            Self::Person { principal, .. } => principal.groups.iter().map(ToString::to_string).collect(),
            Self::Operator { .. } => Vec::new(),
        }
    }

    fn as_text(&self) -> String {
        match self {
            Self::Person { principal, .. } => principal.key().to_string(),
            Self::Operator { uid, role } => format!("operating system user {uid} as {}", role.as_str()),
        }
    }

    /// Whether the right is there, whoever asked.
    fn has_right(&self, approvers: &[Approver]) -> bool {
        let (roles, named) = match self {
            Self::Person { principal, roles } => (*roles, approvers.iter().any(|who| who.is(principal, *roles))),
            Self::Operator { role, .. } => {
                let roles = RoleSet::NONE.with(*role);
                let named = |who: &Approver| matches!(who, Approver::Role(wanted) if roles.allows(*wanted));
                (roles, approvers.iter().any(named))
            }
        };
        // Where only the person confirms, nobody else does.
        let others = approvers.iter().any(|who| *who != Approver::Requester);
        named || (others && (roles.allows(Role::Governance) || roles.allows(Role::Security)))
    }
}

impl Record {
    /// Whether somebody asked this.
    pub fn is_of(&self, principal: &Principal) -> bool {
        self.row.requester == **principal.key()
    }

    /// Whether somebody answers for the agent that asked this: then they would approve their own doing.
    pub fn is_answered_for_by(&self, principal: &Principal) -> bool {
        let person = principal.kind == PrincipalKind::User && !self.row.owner.is_empty();
        person && fold_user_id(&principal.id) == self.row.owner
    }

    /// Whether somebody may answer this.
    ///
    /// # Errors
    /// [`DecideError::Own`] or [`DecideError::Unknown`].
    pub fn allows(&self, decider: &Decider) -> Result<(), DecideError> {
        if let Decider::Person { principal, .. } = decider
            && (self.is_of(principal) || self.is_answered_for_by(principal))
        {
            // What an agent asks, nobody confirms for it as itself.
            let confirms = self.is_of(principal) && self.approvers.contains(&Approver::Requester);
            return if confirms { Ok(()) } else { Err(DecideError::Own) };
        }
        if decider.has_right(&self.approvers) { Ok(()) } else { Err(DecideError::Unknown) }
    }

    /// The approvers, for people: `group:leads or role:security`.
    pub fn waits_for(&self) -> String {
        self.approvers.iter().map(Approver::text).collect::<Vec<_>>().join(" or ")
    }

    /// True for access; false for a call.
    pub fn is_entry(&self) -> bool {
        self.row.kind == "access"
    }
}

impl Approvals {
    /// Puts approvals together.
    pub fn new(deps: ApprovalsDeps) -> Self {
        let events = Events { audit: deps.audit, clock: Arc::clone(&deps.clock) };
        let inner = Arc::new(Inner {
            store: deps.store,
            vault: deps.vault,
            events,
            clock: deps.clock,
            public_url: deps.public_url.map(|url| url.trim_end_matches('/').to_owned()),
            memory: Memory::default(),
        });
        feed::spawn(&inner);
        Self(inner)
    }

    /// Address of the page of a question.
    pub fn page(&self, id: &str) -> Option<String> {
        Some(format!("{}/approvals/{id}", self.0.public_url.as_deref()?))
    }

    /// Address of the page on which access is asked for; `subject` is `portal:ID` or `server:ID`.
    pub fn entry_page(&self, subject: &str) -> Option<String> {
        let (kind, id) = subject.split_once(':')?;
        Some(format!("{}/request-access?{kind}={id}", self.0.public_url.as_deref()?))
    }

    /// A link for a message to a channel.
    pub fn link(&self, id: &str, channel: &str) -> Option<String> {
        let (page, now_ms) = (self.page(id)?, self.0.clock.now_ms());
        let nonce = EventId::new(now_ms).to_string();
        let sealed = link::seal(&self.0.vault.handles(), nonce, id, channel, now_ms)?;
        Some(format!("{page}?link={sealed}"))
    }

    /// How a call stands with one rule that asks.
    ///
    /// # Errors
    /// When it cannot be told.
    pub async fn standing(
        &self,
        requester: &Principal,
        approval: &Approval,
        subject: &str,
        digest: &str,
        definition: &str,
    ) -> Result<Standing, AskError> {
        let now_ms = self.0.clock.now_ms();
        let since = now_ms.saturating_sub(LIFE_MS + PASS_MS);
        let mut rows = approval::of_call(&self.0.store, requester.key(), subject, digest, definition, since).await?;
        let (who, longest) = (approvers_text(approval), longest(approval));
        rows.retain(|row| row.approvers == who && row.longest_s == longest);
        let live = |row: &&Row| row.state == "approved" && row.until_ms.is_some_and(|until| until > now_ms);
        let pass = rows.iter().filter(live).find_map(|row| match row.scope.as_deref() {
            Some("tool") if row.definition == definition => Some(Pass { id: row.id.clone(), once: false }),
            Some("once") if row.digest == digest => Some(Pass { id: row.id.clone(), once: true }),
            _ => None,
        });
        if let Some(pass) = pass {
            return Ok(Standing::Granted(pass));
        }
        let Some(last) = rows.iter().find(|row| row.digest == digest) else { return Ok(Standing::Nothing) };
        let lately = |at: Option<i64>| at.is_some_and(|at| at > now_ms.saturating_sub(PASS_MS));
        Ok(match last.state.as_str() {
            "open" if last.expires_ms > now_ms => Standing::Open(last.id.clone()),
            "rejected" if lately(last.decided_ms) => Standing::Rejected(last.reason.clone()),
            "open" | "expired" | "approved" if lately(last.until_ms.or(Some(last.expires_ms))) => Standing::Expired,
            _ => Standing::Nothing,
        })
    }

    /// Asks about a call. Returns the id of the question, which may have been open before.
    ///
    /// # Errors
    /// [`AskError`]; then nothing was asked.
    pub async fn ask(&self, question: CallQuestion<'_>) -> Result<String, AskError> {
        let mut details = question.details;
        let before = approval::last_approved(&self.0.store, question.requester.key(), question.subject).await?;
        if let Some(before) = before {
            // What cannot be opened any more is nothing to compare with.
            let before = self.0.open_details(&before).and_then(|before| before.arguments);
            let now = details.arguments.as_deref().unwrap_or("{}");
            details.difference = before.map(|before| crate::difference::between(&before, now));
        }
        let mut row = self.0.row("call", question.requester, question.approval, question.subject, question.digest);
        question.definition.clone_into(&mut row.definition);
        row.owner = question.owner.map(|owner| fold_user_id(owner).into_owned()).unwrap_or_default();
        self.put(row, &details, Some(question.event)).await
    }

    /// Asks to be let in. Returns the id of the question.
    ///
    /// # Errors
    /// [`AskError`]; then nothing was asked.
    pub async fn ask_entry(&self, question: EntryQuestion<'_>) -> Result<String, AskError> {
        let Asks::Entry { subject, least_s, .. } = &question.approval.asks else {
            return Err(AskError::Unavailable("the rule lets nobody in for a while".to_owned()));
        };
        let details = Details {
            requester: question.requester.key().to_string(),
            target: if question.name.is_empty() { subject.to_string() } else { question.name.to_owned() },
            rule: question.approval.rule.to_string(),
            reason: Some(question.reason.chars().take(MAX_REASON).collect()),
            least_s: Some(*least_s),
            ..Details::default()
        };
        let row = self.0.row("access", question.requester, question.approval, subject, "");
        self.put(row, &details, None).await
    }

    async fn put(&self, mut row: Row, details: &Details, related: Option<EventId>) -> Result<String, AskError> {
        let text = serde_json::to_vec(details).map_err(|error| AskError::Unavailable(error.to_string()))?;
        let sealed = self.0.vault.seal(&aad(&row.id), &text);
        row.details = Some(sealed.map_err(|error| AskError::Unavailable(error.to_string()))?);
        match approval::ask(&self.0.store, &row, MOST_PER_HOUR).await? {
            Asked::Open(id) => return Ok(id),
            Asked::TooMany { oldest_ms } => {
                let wait = (oldest_ms + WINDOW_MS - row.asked_ms).max(1_000);
                return Err(AskError::TooMany { retry_after_s: u64::try_from(wait / 1_000).unwrap_or(1) });
            }
            Asked::New => {}
        }
        let note = format!("asked of {}", row.approvers);
        let actor = Actor::of(&row.requester);
        let noted = Noted { method: "approval/asked", actor, code: None, related, note };
        if let Err(error) = self.0.events.write(&row, noted).await {
            // What is not on record was not asked.
            let _ = approval::withdraw(&self.0.store, &row.id).await;
            return Err(AskError::Unavailable(error.to_string()));
        }
        self.heard();
        Ok(row.id)
    }

    /// Uses up what was approved for one call; the event of the call is `event`. True for exactly
    /// one of all that try, on whatever process.
    ///
    /// # Errors
    /// When it cannot be kept or put on record: then the call must not go on.
    pub async fn use_up(&self, pass: &Pass, requester: &Principal, event: EventId) -> Result<bool, AskError> {
        let now_ms = self.0.clock.now_ms();
        if pass.once && !approval::use_up(&self.0.store, &pass.id, now_ms).await? {
            return Ok(false);
        }
        let row = approval::get(&self.0.store, &pass.id).await?;
        let Some(row) = row.filter(|row| row.requester == **requester.key()) else { return Ok(false) };
        let note = if pass.once { "used".to_owned() } else { "used, for the whole tool".to_owned() };
        let actor = Actor::of(&row.requester);
        let noted = Noted { method: "approval/used", actor, code: None, related: Some(event), note };
        self.0.events.write(&row, noted).await.map_err(|error| AskError::Unavailable(error.to_string()))?;
        Ok(true)
    }

    /// When temporary access of somebody ends, milliseconds since the epoch; `None` without any.
    ///
    /// # Errors
    /// When it cannot be told.
    pub async fn entered(&self, requester: &Principal, approval: &Approval) -> Result<Option<i64>, AskError> {
        let Asks::Entry { subject, .. } = &approval.asks else { return Ok(None) };
        Ok(self.0.entered(requester.key(), subject, &approvers_text(approval)).await?)
    }

    /// One question; `None` when there is none, or what it shows cannot be opened.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn get(&self, id: &str) -> Result<Option<Record>, DecideError> {
        let row = approval::get(&self.0.store, id).await?;
        Ok(row.and_then(|row| {
            let details = self.0.open_details(&row)?;
            Some(self.0.record(row, details))
        }))
    }

    /// Open questions that somebody may answer, those that end first in front, at most `limit`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn to_decide(&self, decider: &Decider, limit: usize) -> Result<Vec<Record>, DecideError> {
        let mut found = Vec::new();
        for row in approval::open(&self.0.store, self.0.clock.now_ms(), OPEN).await? {
            let record = self.0.record(row, Details::default());
            if record.allows(decider).is_ok() && found.len() < limit {
                found.extend(self.get(&record.row.id).await?);
            }
        }
        Ok(found)
    }

    /// What somebody asked, the newest first, at most `limit`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn asked_by(&self, principal: &Principal, limit: u32) -> Result<Vec<Record>, DecideError> {
        let mut found = Vec::new();
        for row in approval::of_requester(&self.0.store, principal.key(), limit).await? {
            found.extend(self.get(&row.id).await?);
        }
        Ok(found)
    }

    /// Answers a question, by a link where there is one. Of several answers one counts.
    ///
    /// # Errors
    /// [`DecideError`]; then nothing changed, and what somebody tried who must not is on record.
    pub async fn decide(
        &self,
        decider: &Decider,
        id: &str,
        answer: &Answer,
        reason: Option<&str>,
        link: Option<&str>,
    ) -> Result<Record, DecideError> {
        let record = self.get(id).await?.ok_or(DecideError::Unknown)?;
        let opened = match link.map(|link| self.open_link(id, link)) {
            None => None,
            Some(Some(opened)) => Some(opened),
            Some(None) => return self.refuse(&record, decider, DecideError::Link, "forged or old link").await,
        };
        if let Err(error) = record.allows(decider) {
            let why = if error == DecideError::Own { "by who asked" } else { "by somebody without the right" };
            return self.refuse(&record, decider, error, why).await;
        }
        if record.row.state != "open" || record.row.expires_ms <= self.0.clock.now_ms() {
            let state = if record.row.state == "open" { "expired".to_owned() } else { record.row.state };
            return Err(DecideError::Closed(state));
        }
        let (scope, lasts_ms) = scope(&record, answer)?;
        if let Some(opened) = opened {
            let marker = format!("approval-link/{}", opened.nonce);
            if !replay::consume(&self.0.store, &marker, opened.expires_ms).await? {
                return self.refuse(&record, decider, DecideError::Link, "link was used before").await;
            }
        }
        let now_ms = self.0.clock.now_ms();
        let reason = reason.map(str::trim).filter(|reason| !reason.is_empty());
        let reason: Option<String> = reason.map(|reason| reason.chars().take(MAX_REASON).collect());
        let key = decider.key();
        let kept = approval::Answer {
            scope,
            by: &key,
            reason: reason.as_deref(),
            now_ms,
            until_ms: lasts_ms.map(|ms| now_ms.saturating_add(ms)),
        };
        if !approval::decide(&self.0.store, id, &kept).await? {
            let state = approval::get(&self.0.store, id).await?.map_or_else(String::new, |row| row.state);
            return Err(DecideError::Closed(state));
        }
        let method = if scope.is_some() { "approval/approved" } else { "approval/rejected" };
        let length = lasts_ms.map_or_else(String::new, |ms| format!(" for {} s", ms / 1_000));
        let note = format!("{}{length}, by {}", scope.unwrap_or("rejected"), decider.as_text());
        let actor = Actor { key: &key, groups: decider.groups() };
        let noted = Noted { method, actor, code: None, related: None, note };
        if let Err(error) = self.0.events.write(&record.row, noted).await {
            // What is not on record does not count.
            let _ = approval::withdraw(&self.0.store, id).await;
            return Err(DecideError::Unavailable(error.to_string()));
        }
        self.heard();
        self.get(id).await?.ok_or(DecideError::Unknown)
    }

    /// Takes back what somebody asked, or ends an access that lasts.
    ///
    /// # Errors
    /// [`DecideError`].
    pub async fn withdraw(&self, principal: &Principal, id: &str) -> Result<(), DecideError> {
        let record = self.get(id).await?.filter(|record| record.is_of(principal)).ok_or(DecideError::Unknown)?;
        self.end(&record, Actor::of(principal.key()), "taken back".to_owned()).await
    }

    /// Ends what somebody may end: their own as in [`Self::withdraw`], what they could answer also when it was
    /// approved already, and what was approved for an agent they answer for.
    ///
    /// # Errors
    /// [`DecideError`].
    pub async fn withdraw_as(&self, decider: &Decider, id: &str) -> Result<(), DecideError> {
        let record = self.get(id).await?.ok_or(DecideError::Unknown)?;
        let own = |record: &Record| match decider {
            Decider::Person { principal, .. } => record.is_of(principal) || record.is_answered_for_by(principal),
            Decider::Operator { .. } => false,
        };
        if own(&record) || (record.row.state == "approved" && record.allows(decider).is_ok()) {
            let key = decider.key();
            let actor = Actor { key: &key, groups: decider.groups() };
            return self.end(&record, actor, format!("ended, by {}", decider.as_text())).await;
        }
        Err(DecideError::Unknown)
    }

    async fn end(&self, record: &Record, actor: Actor<'_>, note: String) -> Result<(), DecideError> {
        let id = &record.row.id;
        if !approval::withdraw(&self.0.store, id).await? {
            return Err(DecideError::Closed(record.row.state.clone()));
        }
        let noted = Noted { method: "approval/withdrawn", actor, code: None, related: None, note };
        let kept = self.0.events.write(&record.row, noted).await;
        self.heard();
        kept.map_err(|error| DecideError::Unavailable(error.to_string()))
    }

    /// What a link says; `None` when it is forged, too old or for another question.
    pub fn open_link(&self, id: &str, link: &str) -> Option<Opened> {
        link::open(&self.0.vault.handles(), link, id, self.0.clock.now_ms())
    }

    /// Puts a link on record that somebody opened and that is not good.
    pub async fn bad_link(&self, decider: &Decider, id: &str) {
        if let Ok(Some(record)) = self.get(id).await {
            let _ = self.refuse(&record, decider, DecideError::Link, "forged or old link").await;
        }
    }

    async fn refuse(
        &self,
        record: &Record,
        decider: &Decider,
        error: DecideError,
        why: &str,
    ) -> Result<Record, DecideError> {
        let key = decider.key();
        let noted = Noted {
            method: "approval/refused",
            actor: Actor { key: &key, groups: decider.groups() },
            code: Some(ReasonCode::PolicyDenied),
            related: None,
            note: format!("{why}, {}", decider.as_text()),
        };
        if let Err(error) = self.0.events.write(&record.row, noted).await {
            tracing::error!(%error, "a refused answer is not on record");
        }
        Err(error)
    }

    /// Ends what is over, with an event for each. Returns how many. To be called now and then.
    pub async fn expire(&self) -> usize {
        let ids = match approval::expire(&self.0.store, self.0.clock.now_ms()).await {
            Ok(ids) => ids,
            Err(error) => {
                tracing::warn!(%error, "approvals that are over cannot be ended");
                return 0;
            }
        };
        for id in &ids {
            let Ok(Some(row)) = approval::get(&self.0.store, id).await else { continue };
            let note = if row.decided_ms.is_some() { "its time is over" } else { "nobody answered" }.to_owned();
            let actor = Actor::process();
            let noted = Noted { method: "approval/expired", actor, code: None, related: None, note };
            if let Err(error) = self.0.events.write(&row, noted).await {
                tracing::error!(%error, "the end of an approval is not on record");
            }
        }
        ids.len()
    }

    /// Returns when something may have changed, or after a second.
    pub async fn changed(&self) {
        let mut heard = self.0.memory.heard.subscribe();
        let _ = tokio::time::timeout(Duration::from_secs(1), heard.changed()).await;
    }

    /// This process need not wait for the feed to hear of itself.
    fn heard(&self) {
        self.0.memory.heard.send_modify(|count| *count += 1);
    }
}

impl Inner {
    fn row(&self, kind: &str, requester: &Principal, approval: &Approval, subject: &str, digest: &str) -> Row {
        let now_ms = self.clock.now_ms();
        Row {
            id: EventId::new(now_ms).to_string(),
            kind: kind.to_owned(),
            requester: requester.key().to_string(),
            subject: subject.to_owned(),
            digest: digest.to_owned(),
            owner: String::new(),
            definition: String::new(),
            approvers: approvers_text(approval),
            longest_s: longest(approval),
            details: None,
            state: "open".to_owned(),
            scope: None,
            asked_ms: now_ms,
            expires_ms: now_ms.saturating_add(LIFE_MS),
            decided_ms: None,
            decided_by: None,
            reason: None,
            until_ms: None,
            used_ms: None,
        }
    }

    fn record(&self, mut row: Row, details: Details) -> Record {
        row.details = None;
        if row.state == "open" && row.expires_ms <= self.clock.now_ms() {
            row.state = "expired".to_owned();
        }
        let texts: Vec<String> = serde_json::from_str(&row.approvers).unwrap_or_default();
        let approvers = texts.iter().filter_map(|text| Approver::parse(text)).collect();
        Record { row, details, approvers }
    }

    fn open_details(&self, row: &Row) -> Option<Details> {
        let opened = self.vault.open(&aad(&row.id), row.details.as_deref()?);
        let opened = opened.inspect_err(|_| tracing::error!(id = row.id, "what an approval shows cannot be opened"));
        serde_json::from_slice(&opened.ok()?).ok()
    }
}

fn aad(id: &str) -> Aad<'_> {
    Aad { tenant: "", table: "approval", id, version: 1 }
}

fn approvers_text(approval: &Approval) -> String {
    serde_json::to_string(&approval.who()).unwrap_or_default()
}

fn longest(approval: &Approval) -> i64 {
    match approval.asks {
        Asks::Call { longest_s } | Asks::Entry { longest_s, .. } => i64::from(longest_s),
    }
}

/// What is kept of an answer: scope, and how long it lasts in milliseconds.
fn scope(record: &Record, answer: &Answer) -> Result<(Option<&'static str>, Option<i64>), DecideError> {
    let least = record.details.least_s.map_or(1, i64::from);
    let lasts = |seconds: u32| {
        let seconds = i64::from(seconds);
        let good = (least..=record.row.longest_s).contains(&seconds);
        if good { Ok(Some(seconds * 1_000)) } else { Err(DecideError::Bad("the rule does not allow this length")) }
    };
    match (answer, record.is_entry()) {
        (Answer::Reject, _) => Ok((None, None)),
        (Answer::Call, false) => Ok((Some("once"), Some(PASS_MS))),
        (Answer::Tool(seconds), false) => Ok((Some("tool"), lasts(*seconds)?)),
        (Answer::Entry(seconds), true) => Ok((Some("entry"), lasts(*seconds)?)),
        _ => Err(DecideError::Bad("this is not what was asked")),
    }
}
