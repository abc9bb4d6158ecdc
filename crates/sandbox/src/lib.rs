//! What a started process may do.
//!
//! Responsible for: starting children so that none outlives bartizan; later the sandbox
//! itself. Must never: fall back silently.

pub mod child;
