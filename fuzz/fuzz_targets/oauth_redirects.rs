//! See `crates/oauth/tests/targets/mod.rs`.
#![no_main]

#[path = "../../crates/oauth/tests/targets/mod.rs"]
#[allow(dead_code, reason = "one target of several")]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::redirects(data));
