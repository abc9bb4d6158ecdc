//! What the pages of approvals need (W12, A16).

use std::net::IpAddr;
use std::sync::Arc;

use bartizan_approvals::{Approvals, AskError, DecideError, Decider, Record};
use bartizan_identity::{BrowserSession, PageProblem};
use bartizan_model::{Principal, RoleSet};
use bartizan_policy::Approval;
use http::StatusCode;

/// Who somebody is who is signed in, and with which roles.
pub type WhoSource = Arc<dyn Fn(&BrowserSession) -> (Arc<Principal>, RoleSet) + Send + Sync>;

/// The rule by which somebody may be let in to `portal:ID` or `server:ID`, and the name of that.
pub type EntrySource =
    Arc<dyn Fn(&BrowserSession, Option<IpAddr>, &str) -> Option<(Arc<Approval>, String)> + Send + Sync>;

/// Answering and asking.
#[derive(Clone)]
pub struct ApprovalPages {
    /// Questions and answers.
    pub approvals: Approvals,
    /// Who somebody is.
    pub who: WhoSource,
    /// Where somebody could be let in.
    pub entry: EntrySource,
}

impl ApprovalPages {
    /// Somebody who is signed in, as one who answers.
    pub(crate) fn decider(&self, session: &BrowserSession) -> (Arc<Principal>, Decider) {
        let (principal, roles) = (self.who)(session);
        (Arc::clone(&principal), Decider::Person { principal, roles })
    }

    /// A question that somebody may see: their own, or one they may answer.
    pub(crate) async fn visible(
        &self,
        session: &BrowserSession,
        id: &str,
    ) -> Result<Option<(Record, Seen)>, DecideError> {
        let (principal, decider) = self.decider(session);
        let Some(record) = self.approvals.get(id).await? else { return Ok(None) };
        let seen = Seen { own: record.is_of(&principal), answers: record.allows(&decider).is_ok() };
        Ok((seen.own || seen.answers).then_some((record, seen)))
    }
}

/// As whom somebody sees a question.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// As who asked.
    pub(crate) own: bool,
    /// As who may answer.
    pub(crate) answers: bool,
}

/// The page of an answer that was not taken.
pub(crate) fn problem(error: &DecideError) -> PageProblem {
    let (status, code, title, text) = match error {
        DecideError::Unknown => return not_found(),
        DecideError::Own => (
            StatusCode::FORBIDDEN,
            "own_request",
            "This is your own request",
            "Somebody else has to answer it. Nothing was changed.".to_owned(),
        ),
        DecideError::Link => (
            StatusCode::GONE,
            "link_gone",
            "This link is not good any more",
            "It is for one answer within ten minutes. Nothing was changed.".to_owned(),
        ),
        DecideError::Closed(state) => (
            StatusCode::CONFLICT,
            "not_open",
            "This was answered already",
            format!("It is {state}. Nothing was changed."),
        ),
        DecideError::Bad(why) => {
            (StatusCode::BAD_REQUEST, "bad_answer", "This answer does not fit", format!("{why}. Nothing was changed."))
        }
        DecideError::Unavailable(why) => return crate::backend::unavailable(why),
    };
    PageProblem::new(status, code, title, text).hint("Open the list of approvals to see what waits for you.")
}

pub(crate) fn not_found() -> PageProblem {
    PageProblem::new(
        StatusCode::NOT_FOUND,
        "unknown_approval",
        "There is nothing here for you",
        "The request does not exist, or it waits for somebody else.",
    )
    .hint("Check that you are signed in as the right person, and open the list of approvals.")
}

/// The page of a question that could not be asked.
pub(crate) fn unasked(error: &AskError) -> PageProblem {
    match error {
        AskError::TooMany { retry_after_s } => PageProblem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "rate_limited",
            "You have asked very often",
            format!("Within one hour at most {} questions are asked.", bartizan_approvals::MOST_PER_HOUR),
        )
        .hint(format!("Try again in {} minutes.", retry_after_s.div_ceil(60))),
        AskError::Unavailable(why) => crate::backend::unavailable(why),
    }
}

/// Nobody can be asked to let this person in there.
pub(crate) fn no_entry() -> PageProblem {
    PageProblem::new(
        StatusCode::NOT_FOUND,
        "nothing_to_ask",
        "There is nothing to ask for here",
        "No rule lets somebody else decide whether you may use this.",
    )
    .hint("Ask your administrator, and name the address of this page.")
}
