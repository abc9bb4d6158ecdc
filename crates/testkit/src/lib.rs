//! Test kit: servers, clients and helpers for tests of the whole product. Never part of it.

pub mod fixture;
