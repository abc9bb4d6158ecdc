//! The catalogue: resources compiled into one immutable [`Snapshot`], what servers
//! offer ([`ServerLists`]), and what of it one principal sees under which name
//! ([`View`]).
//!
//! This crate must never expose a definition that the snapshot's curation or policies
//! do not let through: a [`View`] is the only source of lists and of names that can be
//! called, so what is not in it does not exist for its principal.

mod agents;
mod budget;
mod check;
pub mod classify;
mod credential;
mod curation;
mod digest;
mod lists;
mod names;
pub mod pin;
mod roles;
mod shelf;
mod snapshot;
mod spec;
pub mod uri;
mod view;

pub use bartizan_config::resources::LongResults;
pub use budget::ResultBudget;
pub use credential::{
    AssertionConfig, Credential, OauthConfig, PatConfig, ProviderConfig, RESERVED_HEADERS, SigV4Config, TokenAuth,
    TokenConfig,
};
pub use lists::{Kind, PromptDef, ResourceDef, ServerLists, TemplateDef, ToolDef};
pub use names::{RESERVED_NAMES, exposed_name, name_digest};
pub use roles::Roles;
pub use snapshot::{CompileOptions, Snapshot};
pub use spec::{Judging, PortalSpec, ServerSpec, Transport};
pub use view::{Report, View, ViewPrompt, ViewResource, ViewTemplate, ViewTool};
