//! Test kit: servers, clients and helpers for tests of the whole product. Never part of it.
//!
//! The kit shares no protocol code with the product: what it sends and expects is written
//! down here once more, so that a mistake in `wire` shows instead of cancelling out.

#![allow(
    clippy::indexing_slicing,
    reason = "members of a serde_json::Value: absent reads as null; only objects made here are written to"
)]

pub mod accounts;
pub mod balancer;
pub mod client;
pub mod conformance;
pub mod exchange;
pub mod faulty;
pub mod fixture;
pub mod http;
pub mod issuer;
pub mod mmdb;
pub mod postgres;
pub mod process;
pub mod product;
pub mod scripts;
pub mod servers;
pub mod sign_in;
pub mod tools;
pub mod wait;
