//! `bartizan stdio URL` (feature row U14): a client that only knows stdio, at a server that
//! only knows HTTP. Runs on the machine of a person, not in the gateway.
//!
//! Responsible for: lines of stdin to POST, answers and streams to lines of stdout, signing in
//! with the person's browser, tokens in the key store of the operating system. Must never:
//! start anything but the browser, give the browser anything but an http(s) address, hand a
//! token to another server than the one it is for, or write anything but messages to stdout.

mod bridge;
mod browser;
mod callback;
mod keys;
mod link;
mod sign_in;

pub use bridge::{Bridge, BridgeDeps};
pub use browser::{Browser, Opener};
pub use keys::{Keys, MemoryKeys, SystemKeys};
pub use sign_in::{Obtain, Obtained, tell_with};

/// Why the bridge cannot go on. Never holds a token.
#[derive(Debug, thiserror::Error)]
pub enum BridgeError {
    /// The URL is none that can be bridged.
    #[error("{0}")]
    Url(String),
    /// The server cannot be reached.
    #[error("{0}")]
    Unreachable(String),
    /// Nobody signed in.
    #[error("sign-in: {0}")]
    SignIn(String),
    /// stdin or stdout broke.
    #[error("stdio: {0}")]
    Stdio(#[from] std::io::Error),
}
