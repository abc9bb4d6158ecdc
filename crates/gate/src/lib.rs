//! One governed call: the list of stages every tool call, prompt, resource read and
//! relayed request goes through, the lists that show only what could be called, and
//! the explanation of both.
//!
//! [`pipeline`] is the list of stages; each stage is a file under `stages`. Every call
//! runs in a task of its own and ends in exactly one audit event. This crate must never
//! know HTTP, and must never have a second path to an upstream server.

mod access;
mod admit;
mod budget;
mod call;
mod discover;
mod entry;
mod exchange;
mod explain;
mod failed_auth;
mod gate;
mod kills;
mod limits;
mod listing;
mod lists;
mod pages;
mod park;
mod personal;
mod pipeline;
mod portal_tools;
mod replays;
mod request_state;
mod revocation;
mod rewrite;
mod run;
#[cfg(any(test, feature = "sabotage"))]
mod sabotage;
mod scopes;
mod slot;
mod spans;
mod stages;
mod status;
mod step_up;
mod subscribe;
#[cfg(test)]
mod tests;
mod toggles;
mod views;

pub use bartizan_policy::Need;
pub use call::{CallHandle, CallOutput, CallReply, Caller, Circumstances, Endpoint, GovernedCall, Refusal, Unknown};
pub use discover::Discovery;
pub use explain::StageVerdict;
pub use gate::{Access, Gate, GateDeps};
pub use kills::{KillError, KillScope, Kills, Lifted, NewKill};
pub use listing::ListCall;
pub use pages::SelectionView;
pub use portal_tools::ServerLine;
pub use revocation::{Ended, Revocation};
#[cfg(any(test, feature = "sabotage"))]
pub use sabotage::{Sabotage, Stop};
pub use scopes::Scopes;
pub use stages::Stage;
pub use status::{ErrorDetails, ServerState, StateChange};
pub use step_up::{StepUp, StepUps};
pub use subscribe::{Note, Subscription, SubscriptionControl};
pub use toggles::{
    Changed, LinkError, NewSession, Off, PortalStates, SEEN_EVERY_MS, Selection, State, Unavailable, credential_holder,
    session_holder,
};
