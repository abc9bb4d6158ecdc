//! P16, P20, P57, A26: accounts of people at upstream servers, against good and bad
//! authorization servers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
#![allow(unreachable_pub, reason = "tests")]

mod attacks;
mod connecting;
mod fake;
mod gateway;
mod refreshing;
mod shared;
#[path = "../../../store/tests/common/mod.rs"]
mod stores;
mod strategies;
mod summaries;
mod trusted;
