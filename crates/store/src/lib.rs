//! State that outlives a process: one SQLite file for a single node, PostgreSQL
//! for several (feature row O1). Migrations, leases, the change feed and one
//! module per noun in [`repo`].
//!
//! SQL never leaves this crate: callers see rows as plain structs and
//! [`StoreError`]. Every statement is written once in the subset both engines
//! share (64-bit milliseconds, text, blobs, `$1`, `ON CONFLICT`, `RETURNING`);
//! what must differ per engine is in a file of its own and says so.

pub mod dump;
mod engine;
mod error;
mod exec;
pub mod feed;
mod migrate;
pub mod repo;
mod schema;
mod url;

pub use engine::{Engine, Store};
pub use error::StoreError;
pub use migrate::{MigrationStep, Plan, SCHEMA_VERSION};
pub use url::{StoreUrl, UrlError};
