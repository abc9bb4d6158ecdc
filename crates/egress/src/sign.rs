//! Signatures over requests that go out. Pure: nothing here sends or reads a clock.

pub mod sigv4;
pub mod webhook;
