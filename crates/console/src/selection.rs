//! Choosing servers of a portal (P36), for the pages. What a link is good for, and what is
//! kept, the gate decides.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use bartizan_identity::{BrowserSession, PageProblem};
use http::StatusCode;

/// One server of the portal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectionLine {
    /// Its id.
    pub id: String,
    /// Name for people.
    pub name: String,
    /// Whether it is on.
    pub on: bool,
    /// The administrator switched it off; nothing can be chosen then.
    pub fixed: bool,
    /// It was not there when the person last chose.
    pub added: bool,
    /// Whether an account must be connected first.
    pub connect: bool,
}

/// What a link shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Name of the portal.
    pub portal: String,
    /// Its servers that the person may use.
    pub servers: Vec<SelectionLine>,
}

/// Why a link does not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelectionError {
    /// Not one of ours, too old, used, or its session ended.
    Gone,
    /// Somebody else's.
    OtherPerson,
    /// The database does not answer.
    Unavailable,
}

/// An answer on its way.
pub type SelectionAnswer = Pin<Box<dyn Future<Output = Result<Selection, SelectionError>> + Send>>;

/// By session, address and link.
pub type Look = Arc<dyn Fn(&BrowserSession, Option<IpAddr>, &str) -> SelectionAnswer + Send + Sync>;

/// By session, address, link and the servers that stay on.
pub type Choose = Arc<dyn Fn(&BrowserSession, Option<IpAddr>, &str, Vec<String>) -> SelectionAnswer + Send + Sync>;

/// What the gate does for the page.
#[derive(Clone)]
pub struct SelectionPages {
    /// What a link shows to whoever is signed in.
    pub look: Look,
    /// Keeps which servers stay on.
    pub choose: Choose,
}

/// The page of a link that does not do.
pub(crate) fn problem(error: SelectionError) -> PageProblem {
    match error {
        SelectionError::Gone => PageProblem::new(
            StatusCode::GONE,
            "link_gone",
            "This link is not good any more",
            "It is for one use within ten minutes, and only as long as the client that asked is connected. Nothing was changed.",
        )
        .hint("Ask your AI client to choose servers again."),
        SelectionError::OtherPerson => PageProblem::new(
            StatusCode::FORBIDDEN,
            "other_person",
            "This link is for somebody else",
            "It was made for another person than the one who is signed in here. Nothing was changed.",
        )
        .hint("Sign out and sign in as the person who uses the AI client, then open the link again."),
        SelectionError::Unavailable => crate::backend::unavailable("the state of a session"),
    }
}
