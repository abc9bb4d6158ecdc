//! The admin API (P54).
