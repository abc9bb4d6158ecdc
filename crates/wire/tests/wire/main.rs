//! Tests of the wire layer. Names begin with the feature row they hold up.
#![allow(unreachable_pub, reason = "the fuzz targets are public for the fuzz crate")]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, too"
)]

mod canonical;
mod corpus;
mod envelope;
mod era;
mod headers;
mod listen;
mod mrtr;
mod params;
mod profile;
mod properties;
mod splice;
mod sse;
mod support;
#[path = "../targets/mod.rs"]
mod targets;
mod translate;
mod translate_errors;
