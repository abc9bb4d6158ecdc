//! Policies: one question, "may this principal do this?", with one answer, its
//! stable refusal code and the rule that decided.
//!
//! Two kinds of rules are compiled into one immutable [`Policies`]: short forms on
//! portals and servers (feature row A3) with grants (G3), evaluated natively, and
//! Cedar statements (A20). Every statement is filed under its scope, so a decision
//! looks only at candidates, and only the argument members that a candidate mentions
//! are read from the arguments.
//!
//! The order of a decision about a tool:
//!
//! 1. the portal, if the call came through one: no `block` or Cedar `forbid` may
//!    match, an `allow` (users), `service_auth` (service tokens) or `bypass` (anybody) must;
//! 2. the server, the same way; `visibility: public` counts as `allow` for users and
//!    for anonymous callers;
//! 3. unless the class is `read`: neither may be read-only for the caller (P51);
//! 4. Cedar `forbid` statements for the action itself;
//! 5. unless the class is `read`: a grant or a Cedar `permit` for the action.
//!
//! What a person could add — a second factor, a purpose — is asked for only when nothing
//! else is missing ([`Need`]); until then the target stays listed.
//!
//! Everything fails closed: what cannot be evaluated denies. This crate must never
//! know HTTP.

mod access;
mod approval;
mod args;
mod balance;
mod circumstance;
mod compile;
mod dead;
mod engine;
mod explain;
mod fold;
mod grant;
mod index;
mod infer;
mod need;
mod never;
mod query;
mod schema;
mod scope;
mod selector;
mod session;
mod simulate;
mod statement;
mod time;
mod window;

pub use approval::{Approval, Approver, Asks};
pub use compile::only_permits;
pub use engine::{ContextUse, Policies};
pub use explain::{Explanation, RuleKind, RuleVerdict, Verdict};
pub use need::Need;
pub use query::{Action, Decision, Query, RequestContext};
pub use session::SessionFacts;
pub use simulate::{Simulated, Unknowns};
pub use time::parse_rfc3339;
