//! When a person other than the caller has a say: an approval of one call (W12), or access
//! for some time (A16).

use std::sync::Arc;

use bartizan_config::Diagnostic;
use bartizan_config::resources::{RequireApproval, Temporary};
use bartizan_model::{Principal, PrincipalKind, Role, RoleSet, ToolClass, check_user_id};

use crate::query::{Action, Query};
use crate::selector::in_group;
use crate::window::seconds;

/// Shortest temporary access, seconds (A16).
const LEAST_S: u32 = 15 * 60;
/// Longest temporary access, and longest approval of a tool, seconds (A16).
const MOST_S: u32 = 8 * 3_600;
/// Longest approval of a tool unless said otherwise, seconds (W12).
const TOOL_S: u32 = 3_600;

/// Somebody who may answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Approver {
    /// Members of a group.
    Group(Arc<str>),
    /// One person, by folded id.
    User(Arc<str>),
    /// Everybody with a role.
    Role(Role),
    /// The person who asks.
    Requester,
}

impl Approver {
    /// Reads `group:NAME`, `user:NAME`, `role:NAME` or `self`.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, id) = match text.split_once(':') {
            None => return (text == "self").then_some(Self::Requester),
            Some((kind, id)) => (kind, Some(id).filter(|id| !id.is_empty() && id.trim() == *id)?),
        };
        match kind {
            "group" => Some(Self::Group(id.into())),
            "user" => check_user_id(id).ok().map(|id| Self::User(Arc::from(&*id))),
            "role" => {
                let given = Role::ALL.into_iter().find(|role| role.as_str() == id)?;
                // What everybody has is nobody's right to decide.
                (given != Role::Employee).then_some(Self::Role(given))
            }
            _ => None,
        }
    }

    /// The text that [`Self::parse`] reads.
    pub fn text(&self) -> String {
        match self {
            Self::Group(id) => format!("group:{id}"),
            Self::User(id) => format!("user:{id}"),
            Self::Role(role) => format!("role:{}", role.as_str()),
            Self::Requester => "self".to_owned(),
        }
    }

    /// Whether a principal is meant; who asks is for the caller to compare.
    pub fn is(&self, principal: &Principal, roles: RoleSet) -> bool {
        let person = principal.kind == PrincipalKind::User && principal.is_proper();
        person
            && match self {
                Self::Group(group) => in_group(principal, group),
                Self::User(id) => **id == *principal.id,
                Self::Role(role) => roles.allows(*role),
                Self::Requester => false,
            }
    }
}

/// What an answer is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Asks {
    /// One call.
    Call {
        /// The longest an approval of the whole tool lasts, seconds; 0 = there is none.
        longest_s: u32,
    },
    /// Being let in for a while.
    Entry {
        /// `portal:ID` or `server:ID`.
        subject: Arc<str>,
        /// Shortest, seconds.
        least_s: u32,
        /// Longest, seconds.
        longest_s: u32,
    },
}

/// One question that must be answered before a request may go on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Approval {
    /// Any of these answers.
    pub approvers: Arc<[Approver]>,
    /// What about.
    pub asks: Asks,
    /// The rule that says so.
    pub rule: Arc<str>,
    /// Classes that are asked about; none = all.
    pub(crate) classes: Vec<ToolClass>,
}

impl Approval {
    /// From a rule or grant.
    pub(crate) fn call(
        from: &RequireApproval,
        rule: &Arc<str>,
        path: &str,
        findings: &mut Vec<Diagnostic>,
    ) -> Arc<Self> {
        let path = format!("{path}.require_approval");
        let approvers = approvers(from.approvers.texts(), &format!("{path}.approvers"), findings);
        let longest_s = match from.lasts.as_deref() {
            None => TOOL_S,
            Some("call") => 0,
            Some(text) => seconds(text).filter(|s| *s <= MOST_S).unwrap_or_else(|| {
                let message = format!("`{text}` is neither `call` nor a time of at most 8 hours");
                findings.push(Diagnostic::new(format!("{path}.for"), "invalid_age", message).suggest("write `1h`"));
                0
            }),
        };
        let classes = from.classes.clone();
        Arc::new(Self { approvers, asks: Asks::Call { longest_s }, rule: Arc::clone(rule), classes })
    }

    /// From the rule of `subject`.
    pub(crate) fn entry(
        from: &Temporary,
        subject: &str,
        rule: &Arc<str>,
        path: &str,
        findings: &mut Vec<Diagnostic>,
    ) -> Arc<Self> {
        let path = format!("{path}.temporary");
        let written = from.approvers.texts();
        let approvers = approvers(written, &format!("{path}.approvers"), findings);
        if approvers.contains(&Approver::Requester) {
            let message = "nobody lets themselves in";
            findings.push(Diagnostic::new(format!("{path}.approvers"), "invalid_approver", message));
        }
        let both = |text: &str| match text.split_once(['-', '–']) {
            Some((least, longest)) => Some((seconds(least.trim())?, seconds(longest.trim())?)),
            None => Some((LEAST_S, seconds(text)?)),
        };
        let range = from.lasts.as_deref().map_or(Some((LEAST_S, MOST_S)), both);
        let range = range.filter(|(least, longest)| LEAST_S <= *least && least <= longest && *longest <= MOST_S);
        let (least_s, longest_s) = range.unwrap_or_else(|| {
            let message = "temporary access lasts between 15 minutes and 8 hours";
            findings.push(Diagnostic::new(format!("{path}.for"), "invalid_age", message).suggest("write `15m-8h`"));
            (LEAST_S, LEAST_S)
        });
        let asks = Asks::Entry { subject: subject.into(), least_s, longest_s };
        Arc::new(Self { approvers, asks, rule: Arc::clone(rule), classes: Vec::new() })
    }

    /// From the annotation of a Cedar permit: approvers, separated by commas.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn annotation(text: &str, rule: &Arc<str>) -> Result<Arc<Self>, String> {
        let all = text.split(',').map(|one| Approver::parse(one.trim()).ok_or_else(|| not_one(one.trim())));
        let mut approvers = all.collect::<Result<Vec<_>, _>>()?;
        approvers.sort();
        approvers.dedup();
        let asks = Asks::Call { longest_s: TOOL_S };
        Ok(Arc::new(Self { approvers: approvers.into(), asks, rule: Arc::clone(rule), classes: Vec::new() }))
    }

    /// Whether the question is to be asked before this request.
    pub(crate) fn concerns(&self, query: &Query<'_>) -> bool {
        match self.asks {
            Asks::Entry { .. } => true,
            Asks::Call { .. } => {
                // What comes in is not asked about, only what is done there, be it known here or not.
                !matches!(query.action, Action::UsePortal | Action::UseServer)
                    && (self.classes.is_empty() || self.classes.contains(&query.class))
            }
        }
    }

    /// The approvers as text, for records and people.
    pub fn who(&self) -> Vec<String> {
        self.approvers.iter().map(Approver::text).collect()
    }
}

fn approvers(texts: &[String], path: &str, findings: &mut Vec<Diagnostic>) -> Arc<[Approver]> {
    if texts.is_empty() {
        findings.push(Diagnostic::new(path, "invalid_approver", "nobody could ever approve"));
    }
    let mut all = Vec::new();
    for text in texts {
        match Approver::parse(text) {
            Some(approver) => all.push(approver),
            None => findings.push(
                Diagnostic::new(path, "invalid_approver", not_one(text))
                    .suggest("write `group:NAME`, `role:governance`, `user:NAME` or `self`"),
            ),
        }
    }
    all.sort();
    all.dedup();
    all.into()
}

fn not_one(text: &str) -> String {
    format!("`{text}` is nobody who could approve")
}

/// The rule that would do with an approval, while one without is looked for.
#[derive(Default)]
pub(crate) struct Asking<'s>(Option<(&'s Arc<str>, &'s [Arc<Approval>])>);

impl<'s> Asking<'s> {
    /// Whether a rule lets in without asking anybody; the first that does not is kept.
    pub(crate) fn nobody(&mut self, rule: &'s Arc<str>, approvals: &'s [Arc<Approval>], query: &Query<'_>) -> bool {
        let asks = approvals.iter().any(|approval| approval.concerns(query));
        if asks {
            self.0.get_or_insert((rule, approvals));
        }
        !asks
    }

    pub(crate) fn is_some(&self) -> bool {
        self.0.is_some()
    }

    /// The rule that asks, with its questions noted.
    pub(crate) fn rule(self, query: &Query<'_>, wanted: &mut Vec<Arc<Approval>>) -> Option<Arc<str>> {
        let (rule, approvals) = self.0?;
        for approval in approvals.iter().filter(|approval| approval.concerns(query)) {
            let same =
                |known: &&mut Arc<Approval>| known.approvers == approval.approvers && known.asks == approval.asks;
            if wanted.iter_mut().find(same).is_none() {
                wanted.push(Arc::clone(approval));
            }
        }
        Some(Arc::clone(rule))
    }
}
