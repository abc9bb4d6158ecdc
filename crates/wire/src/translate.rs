//! Between the eras (protocol reference, section 5): pure functions on raw JSON.
//!
//! Between equal eras every function returns what it was given, byte for byte, with
//! one exception: a modern server may leave out members a modern client must find
//! (reference 4.2, trap 7), and these are then added with their safe defaults.

mod capability;
mod discover;
mod error;
mod mrtr;
mod notify;
mod params;
mod result;

pub use capability::{to_legacy as capabilities_to_legacy, to_modern as capabilities_to_modern};
pub use discover::{discover_to_initialize, initialize_params, initialize_to_discover};
pub use error::{Translated, error_to};
pub use mrtr::{
    InputRequired, LegacyAsk, MAX_ASKS, MrtrError, answer_fits, answer_to_modern, ask_to_legacy, ask_to_modern,
    elicitation_complete, link_result, retry_params, strip_retry, take_answers,
};
pub use notify::{log_allowed, notification, notification_to_server};
pub use params::params;
pub use result::{ResultKind, result_kind, result_to};

use bartizan_model::Era;

use crate::profile::ClientProfile;
use crate::raw::RawJson;
use crate::revision::Revision;

/// One client in front and one server behind.
#[derive(Clone, Copy, Debug)]
pub struct Hop<'a> {
    /// The client as it declared itself.
    pub client: &'a ClientProfile,
    /// What is spoken to the server.
    pub upstream: Revision,
    /// The server's capabilities (ServerCapabilities), if known.
    pub capabilities: Option<&'a RawJson>,
    /// The server's name and version (Implementation), if known.
    pub server_info: Option<&'a RawJson>,
}

impl<'a> Hop<'a> {
    /// A hop of which nothing but the two sides' revisions is known.
    pub fn new(client: &'a ClientProfile, upstream: Revision) -> Self {
        Self { client, upstream, capabilities: None, server_info: None }
    }

    /// Era of client and server.
    pub fn eras(&self) -> (Era, Era) {
        (self.client.era, self.upstream.era())
    }

    /// True when nothing needs translating.
    pub fn same_era(&self) -> bool {
        self.client.era == self.upstream.era()
    }
}
