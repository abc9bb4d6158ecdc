//! Lets requests in that came through the gateway, and no others (feature row P59): each has an assertion of its own
//! in `Cf-Access-Jwt-Assertion`, signed by the gateway, for this server, a minute old at most, and used once.
//!
//! For servers of other people, so nothing of bartizan is in it. It opens no connection: how the gateway's keys are
//! fetched is a function of the server.
//!
//! ```
//! # use bartizan_origin::{Guard, GuardLayer};
//! # async fn fetched() -> Result<String, std::io::Error> { Ok(String::new()) }
//! let guard = Guard::new("https://mcp.example.com", "tag-of-this-server", || async {
//!     // GET https://mcp.example.com/.well-known/jwks.json
//!     fetched().await
//! });
//! let layer = GuardLayer::new(guard);
//! // axum: Router::new().route("/mcp", …).layer(layer)
//! ```

mod guard;
mod keys;
mod layer;
mod replay;

pub use guard::{Claims, Guard, Refused};
pub use layer::{GuardLayer, Guarded};

/// The header with the assertion.
pub const HEADER: &str = "cf-access-jwt-assertion";
