//! The HTTP data plane and the operations listener. Everything here speaks HTTP and
//! MCP to clients; what a caller may do is asked of `gate`, and this crate must never
//! decide it.
//!
//! The way of one request is `portal.rs`: admit → authenticate → decode → dispatch
//! (`legacy`, `modern`) → respond.

mod admit;
mod authenticate;
mod body;
mod cluster;
mod cors;
mod credentials;
mod decode;
mod drain;
mod facts;
mod failures;
mod geo;
mod legacy;
mod listener;
mod modern;
mod narrowing;
mod ops;
mod places;
mod portal;
mod pump;
mod respond;
mod route;
mod sessions;
mod settings;
mod streams;
mod web;

pub use body::{Body, BrokenOff};
pub use cluster::{PassError, PassedBody, Passing, Replicas};
pub use drain::{Drain, Phase};
pub use facts::ConnectionFacts;
pub use geo::{Countries, CountriesError};
pub use ops::{Check, MetricsText, Ops, OpsDeps, Readiness};
pub use portal::{Portal, PortalDeps};
pub use settings::{Settings, SettingsError};
pub use web::{Pages, Web, WebAnswer};
