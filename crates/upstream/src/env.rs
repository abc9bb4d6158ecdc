//! What everything in this crate shares.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use bartizan_config::settings::WireLimits;
use bartizan_egress::{Body, Client, Egress, EgressError, Url};
use bartizan_model::Clock;
use bartizan_wire::{ClientProfile, Limits, RawJson};
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Method, Response};
use tokio_util::sync::CancellationToken;

use crate::processes::Processes;
use crate::types::{Authority, Outgoing};

/// Remembered capability digests.
const MAX_DIGESTS: usize = 1024;
/// Longest declaration whose digest is remembered, in bytes.
const MAX_REMEMBERED: usize = 4096;

/// Dependencies of [`crate::Upstreams`].
pub struct UpstreamDeps {
    /// The way out.
    pub egress: Egress,
    /// Sizes and times.
    pub limits: WireLimits,
    /// Wall clock, for dates of verdicts.
    pub clock: Arc<dyn Clock>,
    /// Path of the bartizan binary: local servers are started through its `__child`
    /// subcommand, which binds their life to this process. Without it they are started
    /// directly.
    pub child_program: Option<PathBuf>,
    /// bartizan's own environment; local servers get `PATH` and what their entry lists.
    pub environment: Vec<(OsString, OsString)>,
}

/// The way out, in whose name ever.
#[derive(Clone)]
pub(crate) struct Way {
    client: Client,
    authority: Option<Arc<RwLock<Arc<dyn Authority>>>>,
}

impl Way {
    fn newest(&self) -> Option<Arc<dyn Authority>> {
        let authority = self.authority.as_ref()?.read();
        Some(Arc::clone(&authority.unwrap_or_else(PoisonError::into_inner)))
    }

    /// Sends a request, with the authority as it is at this moment.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub(crate) async fn send(
        &self,
        url: &Url,
        method: Method,
        mut headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Body>, EgressError> {
        if let Some(authority) = self.newest() {
            headers.remove(AUTHORIZATION);
            let request = Outgoing { url, method: &method, headers: &headers, body: &body };
            // Without what it was to show, nothing is sent.
            let shown = authority.show(request).await;
            let shown = shown.map_err(|why| EgressError::Connect { host: url.host().to_string(), why })?;
            for (name, value) in shown {
                headers.insert(name, value);
            }
        }
        self.client.send(url, method, headers, body).await
    }
}

/// Shared by all servers of one [`crate::Upstreams`], but for the way out of those with an
/// authority of their own.
#[derive(Clone)]
pub(crate) struct Env {
    pub(crate) egress: Egress,
    pub(crate) client: Way,
    pub(crate) limits: WireLimits,
    pub(crate) json: Limits,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) child_program: Option<PathBuf>,
    pub(crate) environment: Vec<(OsString, OsString)>,
    pub(crate) processes: Arc<Processes>,
    /// Cancelled when the whole crate's state goes.
    pub(crate) stop: CancellationToken,
    /// `clientInfo` of bartizan itself.
    pub(crate) own_info: RawJson,
    /// Digests by capability text: the digest is needed on every call, its inputs hardly change.
    digests: Arc<Mutex<HashMap<RawJson, Arc<str>>>>,
}

impl Env {
    pub(crate) fn new(deps: UpstreamDeps) -> Self {
        let own_info = RawJson::object([
            ("name", &RawJson::string("bartizan")),
            ("version", &RawJson::string(env!("CARGO_PKG_VERSION"))),
        ]);
        Self {
            client: Way { client: deps.egress.client(), authority: None },
            egress: deps.egress,
            json: Limits { depth: deps.limits.json_depth },
            limits: deps.limits,
            clock: deps.clock,
            child_program: deps.child_program,
            environment: deps.environment,
            processes: Arc::new(Processes::new()),
            stop: CancellationToken::new(),
            own_info,
            digests: Arc::default(),
        }
    }

    /// The same with an authority that goes with every request.
    pub(crate) fn in_the_name_of(&self, authority: &Arc<dyn Authority>) -> Self {
        let mut own = self.clone();
        own.client.authority = Some(Arc::new(RwLock::new(Arc::clone(authority))));
        own
    }

    /// From now on with another authority of the same principal: it says who they are now,
    /// their groups for example.
    pub(crate) fn replace_authority(&self, authority: &Arc<dyn Authority>) {
        if let Some(known) = &self.client.authority {
            *known.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(authority);
        }
    }

    /// Digest of what a client declared.
    pub(crate) fn digest(&self, profile: &ClientProfile) -> Arc<str> {
        if profile.capabilities.len() > MAX_REMEMBERED {
            return profile.capability_digest().into();
        }
        let mut digests = self.digests.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(digest) = digests.get(&profile.capabilities) {
            return Arc::clone(digest);
        }
        let digest: Arc<str> = profile.capability_digest().into();
        if digests.len() >= MAX_DIGESTS {
            digests.clear();
        }
        digests.insert(profile.capabilities.detached(), Arc::clone(&digest));
        digest
    }

    /// Time for one list, and for anything bartizan asks on its own behalf.
    pub(crate) fn list_time(&self) -> Duration {
        Duration::from_millis(self.limits.list_ms)
    }

    /// Time for a call without progress.
    pub(crate) fn call_time(&self) -> Duration {
        Duration::from_millis(self.limits.call_ms)
    }

    /// Time for a call with progress.
    pub(crate) fn call_max(&self) -> Duration {
        Duration::from_millis(self.limits.call_max_ms)
    }
}
