//! The only sockets out (feature rows O9 and P28).
//!
//! Responsible for: parsing target URLs strictly, resolving names, checking every
//! address against the address rules, dialling only a checked address, TLS, proxies,
//! connection reuse, redirects re-checked hop by hop. Must never: let anybody else
//! build a client, follow a redirect unasked, or put a header value in an error.

mod body;
mod client;
mod dial;
mod error;
mod follow;
mod peer;
mod pool;
mod resolve;
mod rules;
pub mod sign;
mod stream;
mod tls;
mod url;

use std::sync::Arc;
use std::time::Duration;

pub use body::Body;
pub use client::Client;
pub use error::EgressError;
pub use peer::{PeerDialer, PeerStream};
pub use resolve::{Resolve, Resolving, SystemResolver};
pub use rules::{AddressRules, Rule};
pub use stream::Stream;
pub use url::{Host, Url};

/// The guarded way out: address rules, resolver, TLS configuration and connection pool.
///
/// Cheap to clone; all clones share one pool.
#[derive(Clone)]
pub struct Egress {
    client: Client,
    rules: Arc<AddressRules>,
}

impl Egress {
    /// Builds the guard from settings, with the machine's resolver (its hosts file included).
    /// `connect` bounds name lookup, dialling, proxy and TLS handshake together.
    ///
    /// # Errors
    /// [`EgressError::Config`] for an entry of `private_allow` that is neither a name, an
    /// address nor a network, for an unreadable CA file and for a bad proxy URL.
    pub fn new(settings: &bartizan_config::settings::Egress, connect: Duration) -> Result<Self, EgressError> {
        Self::with_resolver(settings, connect, Arc::new(SystemResolver::new()))
    }

    /// The same with a resolver of the caller's.
    ///
    /// # Errors
    /// As [`Egress::new`].
    pub fn with_resolver(
        settings: &bartizan_config::settings::Egress,
        connect: Duration,
        resolver: Arc<dyn Resolve>,
    ) -> Result<Self, EgressError> {
        let rules = Arc::new(AddressRules::parse(&settings.private_allow)?);
        let proxy = match settings.proxy.as_deref() {
            Some(text) => Some(dial::proxy_url(text)?),
            None => None,
        };
        let tls = tls::client_config(&settings.ca_files)?;
        let dialer = dial::Dialer::new(Arc::clone(&rules), resolver, proxy, tls, connect);
        Ok(Self { client: Client::new(dialer), rules })
    }

    /// The pooled client. It never follows redirects by itself.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// A connection for a protocol other than HTTP, to the host and port of `url` (its scheme and
    /// path do not matter); the same address rules hold. With `tls` it begins with a handshake.
    ///
    /// # Errors
    /// [`EgressError`].
    pub async fn connect(&self, url: &Url, tls: bool) -> Result<Stream, EgressError> {
        self.client.dialer().dial_other(url, tls).await
    }

    /// The TLS handshake on such a connection that began without (STARTTLS).
    ///
    /// # Errors
    /// [`EgressError`].
    pub async fn start_tls(&self, url: &Url, stream: Stream) -> Result<Stream, EgressError> {
        self.client.dialer().upgrade(url, stream).await
    }

    /// Parses a URL and applies the rules that need no name lookup: scheme, spelling of the
    /// host, literal addresses. Names are checked again, by address, each time they are dialled.
    ///
    /// # Errors
    /// [`EgressError::Url`] or [`EgressError::Blocked`].
    pub fn check_url(&self, text: &str) -> Result<Url, EgressError> {
        let url = Url::parse(text)?;
        if let Host::Ip(ip) = url.host() {
            self.rules
                .check(url.host(), *ip)
                .map_err(|rule| EgressError::Blocked { rule, host: url.host().to_string() })?;
        }
        Ok(url)
    }
}
