//! Names to addresses.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::Pin;
use std::sync::OnceLock;

use hickory_resolver::TokioResolver;

use crate::error::EgressError;

/// Most addresses of one name that are looked at.
const MAX_ADDRESSES: usize = 32;

/// A lookup under way.
pub type Resolving<'a> = Pin<Box<dyn Future<Output = Result<Vec<IpAddr>, EgressError>> + Send + 'a>>;

/// A resolver. The addresses it returns are checked by the caller; a resolver need not filter.
pub trait Resolve: Send + Sync + 'static {
    /// All addresses of a lower-case name without final dot.
    fn resolve<'a>(&'a self, name: &'a str) -> Resolving<'a>;
}

/// The machine's name servers and hosts file.
pub struct SystemResolver {
    /// Built at the first lookup: an installation that only uses addresses or local servers
    /// needs no resolver configuration.
    inner: OnceLock<Result<TokioResolver, String>>,
}

impl SystemResolver {
    /// A resolver that reads the system configuration when first used.
    pub fn new() -> Self {
        Self { inner: OnceLock::new() }
    }

    fn get(&self) -> &Result<TokioResolver, String> {
        self.inner.get_or_init(|| {
            TokioResolver::builder_tokio().and_then(|builder| builder.build()).map_err(|error| error.to_string())
        })
    }
}

impl Default for SystemResolver {
    fn default() -> Self {
        Self::new()
    }
}

impl Resolve for SystemResolver {
    fn resolve<'a>(&'a self, name: &'a str) -> Resolving<'a> {
        Box::pin(async move {
            // RFC 6761 section 6.3: never ask the network for these.
            if name == "localhost" || name.ends_with(".localhost") {
                return Ok(vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]);
            }
            let fail = |why: String| EgressError::Dns { host: name.to_owned(), why };
            let resolver = self.get().as_ref().map_err(|why| fail(why.clone()))?;
            let found = resolver.lookup_ip(name).await.map_err(|error| fail(error.to_string()))?;
            Ok(found.iter().take(MAX_ADDRESSES).collect())
        })
    }
}
