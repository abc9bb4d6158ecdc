//! Formats, and what is refused.
