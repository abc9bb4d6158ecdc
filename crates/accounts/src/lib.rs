//! As whom upstream servers are called: the accounts that people connect at them (feature
//! rows P16, P20, P57).
//!
//! Responsible for: finding a server's authorization server, a client identity there, the
//! way of a person's browser through it, tokens at rest, refreshing, revoking. Must never:
//! show a token, send one anywhere but to the server it was issued for (and back to its
//! issuer), or use one person's account for another.

mod account;
mod accounts;
mod client;
mod connect;
mod discover;
mod feed;
mod problem;
mod refresh;
mod revoke;
mod scopes;
mod strategy;
mod summary;
mod trace;
mod web;
mod whom;

pub use accounts::{AccountError, AccountView, Accounts, AccountsDeps, After, Authorization, Servers};
pub use client::trusted;
pub use connect::{Connected, Destination};
pub use discover::{Found, discover, discover_traced};
pub use strategy::{AccountKind, Owners, Request, Standing, SubjectError, SubjectFuture, SubjectTokens, SubjectWanted};
pub use summary::SecretSummary;
pub use trace::{Exchange, Step, Trace};
