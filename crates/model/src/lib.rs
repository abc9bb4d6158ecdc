//! What bartizan talks about: identifiers, principals, tool classes, decisions,
//! audit events, refusal codes, time and secrets.
//!
//! This crate is plain data. It must never depend on another crate of the
//! workspace, do I/O, or know HTTP.

pub mod class;
pub mod clock;
pub mod era;
pub mod event;
pub mod facts;
pub mod id;
pub mod principal;
pub mod reason;
pub mod role;
pub mod secret;

pub use class::ToolClass;
pub use clock::{Clock, ManualClock, SystemClock};
pub use era::Era;
pub use facts::SignInFacts;
pub use id::{EventId, PortalId, ServerId};
pub use principal::{Principal, PrincipalKind, UserIdError, check_user_id, fold_user_id};
pub use reason::ReasonCode;
pub use role::{Role, RoleSet};
pub use secret::Secret;
