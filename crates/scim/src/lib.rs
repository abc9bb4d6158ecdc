//! SCIM 2.0 (RFC 7643, RFC 7644): a company's directory says who exists, who is active and
//! who is in which group (feature row A14).
//!
//! What a request means is decided here; what it means for people who sign in is decided by
//! `store::repo::scim`, in the same transaction. Only what the schema names is kept: no
//! password, no attribute of our own that a request could set.

mod describe;
mod error;
mod filter;
mod groups;
mod http;
mod limit;
mod patch;
mod path;
mod project;
mod query;
mod schema;
mod search;
#[cfg(test)]
mod tests;
mod users;
mod value;

use std::sync::Arc;

use bartizan_identity::Recorder;
use bartizan_model::{Clock, Secret};
use bartizan_store::Store;

pub use http::{ClientAddress, router};

/// What provisioning works with.
pub struct ScimDeps {
    /// Where users and groups are kept.
    pub store: Store,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Public URL without a final slash; resources are at `{public_url}/scim/v2/…`.
    pub public_url: String,
    /// The bearer tokens that are good. None: nobody comes in.
    pub tokens: Arc<Vec<Secret<String>>>,
    /// Takes events for the record.
    pub record: Recorder,
}

/// For fuzzing: reads a filter of users, and takes the same text as the path of a change of a
/// user. Whether the filter fits the user; `None` when one of them is refused.
#[doc(hidden)]
pub fn fuzz(filter: &str, user: &str) -> Option<bool> {
    let kind = &schema::USER;
    let parsed = filter::parse(filter, kind);
    let _ = path::parse(filter, kind);
    let Ok(serde_json::Value::Object(user)) = serde_json::from_str(user) else { return None };
    let mut content = value::normalise(kind, user).ok()?;
    let fits = parsed.ok().map(|parsed| filter::matches(&parsed, &content));
    let operations = [serde_json::json!({"op": "replace", "path": filter, "value": "x"})];
    let _ = patch::apply(kind, &mut content, &operations);
    fits
}
