//! The router over a backend that says whatever a test wants.

mod account;
mod approvals;
mod client_endpoints;
mod connect;
mod consent;
mod fake;
mod golden;
mod headers;
mod login;
mod looks;
mod pages;
mod selection;
mod step_up;
