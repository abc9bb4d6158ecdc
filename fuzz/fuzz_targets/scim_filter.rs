//! See `crates/scim/tests/targets/mod.rs`.
#![no_main]

#[path = "../../crates/scim/tests/targets/mod.rs"]
#[allow(dead_code, reason = "one target of several")]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::filters(data));
