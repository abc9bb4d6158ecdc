//! Configuration: files, environment and flags become one validated snapshot.
//!
//! Settings (listeners, store, keys, public URL) are read once at start;
//! resources (servers, portals, policies, grants, limits) can be reloaded.
//! This crate must never be read on the request path other than as one snapshot.

pub mod access;
pub mod agents;
pub mod alerts;
pub mod bundles;
pub mod checks;
pub mod diagnostic;
pub mod environment;
pub mod export;
pub mod live;
pub mod load;
pub mod objects;
pub mod overrides;
mod people;
pub mod problem;
mod rate_limits;
pub mod render;
pub mod resources;
pub mod roles;
pub mod schema;
pub mod secrets;
pub mod settings;
pub mod sources;
pub mod suggest;
pub mod time;
mod tree;
mod validate;

pub use diagnostic::Diagnostic;
pub use environment::Environment;
pub use live::{Live, ReloadError};
pub use load::{Loaded, Unreadable, load, load_folder};
pub use overrides::Override;
pub use problem::{Problem, Report, Severity};
pub use secrets::Secrets;
