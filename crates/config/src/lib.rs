//! Configuration: files, environment and flags become one validated snapshot.
//!
//! Settings (listeners, store, keys, public URL) are read once at start;
//! resources (servers, portals, policies, grants, limits) can be reloaded.
//! This crate must never be read on the request path other than as one snapshot.

pub mod diagnostic;
pub mod resources;
pub mod settings;

pub use diagnostic::Diagnostic;
