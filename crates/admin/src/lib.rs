//! The administration over HTTP (P54): objects in the store beside those in files, who may
//! change them (A24), and what was changed (L10).
//!
//! Must never decide about calls: what it changes becomes part of the snapshot, which every
//! process compiles in the same way ([`overlay()`]).

mod api;
mod areas;
mod change;
mod difference;
mod openapi;
mod overlay;
mod permissions;
mod problem;
mod respond;
mod secrets;
mod set;
mod state;
mod table;
#[cfg(test)]
mod tests;

pub use api::{Answering, Api, Browser, Identified, Identify, NotIdentified, PATH, RolesOf, SCOPE};
pub use areas::{AreaAsk, AreaDone, AreaError, Areas, OnRecord, Operation};
pub use change::{About, BaseSource, Changed, Done, Edit, Engine, Keep, Outcome, Record, What};
pub use difference::{Member, is_about_secrets, members};
pub use openapi::document;
pub use overlay::{Base, Overlaid, Refused, overlay};
pub use permissions::Permission;
pub use problem::{AdminError, Problem};
pub use respond::CODES;
pub use set::{Drift, Plan, Wanted, apply, export, of_resources, plan};
pub use state::{Object, Reader, State};
pub use table::{Action, Endpoint, table};
