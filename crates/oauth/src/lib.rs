//! OAuth 2.1 and OpenID Connect on the wire: parameters, PKCE, redirect URIs, metadata
//! documents, challenges, token answers and signed tokens, as pure functions used by both
//! sides (bartizan as authorization server, and as client of providers and upstreams).
//!
//! Must never do I/O, read a clock or keep state.

pub mod authorization_answer;
pub mod challenge;
pub mod client_assertion;
pub mod client_document;
pub mod discovery;
pub mod error;
pub mod jwt;
mod link;
pub mod params;
pub mod pkce;
pub mod redirect;
pub mod registration;
pub mod resource;
pub mod scope;
pub mod server_metadata;
pub mod text;
pub mod token_answer;
pub mod token_request;

pub use error::{OAuthCode, OAuthError};
pub use link::{is_issuer, safe_link};
