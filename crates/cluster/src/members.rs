//! Who lives and where.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use bartizan_egress::PeerDialer;
use bartizan_model::Clock;
use bartizan_portal::{PassError, Passing, Replicas};
use bartizan_store::Store;
use bartizan_store::repo::replica::{self, Replica};
use bartizan_tls::ReplicaTls;
use bytes::Bytes;
use http::Request;
use tokio::time::Instant;

use crate::link::{CONNECT, Link};

/// How often a process says that it lives, and looks who else does.
const BEAT: Duration = Duration::from_secs(2);
/// A process that said nothing for so long is gone; milliseconds.
const GONE_MS: i64 = 10_000;
/// Rows of processes that went without a word are kept for so long, milliseconds.
const KEEP_MS: i64 = 3_600_000;
/// Longest look into the store while a request waits.
const LOOK: Duration = Duration::from_millis(500);
/// Between two looks for requests: anybody can name a process that never lived.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the members of a cluster need.
pub struct ClusterDeps {
    /// The shared store.
    pub store: Store,
    /// Certificates.
    pub tls: ReplicaTls,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Name of this process.
    pub node: Arc<str>,
    /// `host:port` of its listener for the others.
    pub advertise: String,
}

/// This process among the others. Cheap to clone.
#[derive(Clone)]
pub struct Cluster(Arc<Inner>);

struct Inner {
    deps: ClusterDeps,
    dialer: PeerDialer,
    started_ms: i64,
    /// The others, by name.
    others: ArcSwap<HashMap<String, String>>,
    links: Mutex<HashMap<String, Arc<Link>>>,
    /// When it was last looked for a request. Held while looking: all who wait share one look.
    looked: tokio::sync::Mutex<Option<Instant>>,
}

impl Cluster {
    /// A member that nobody knows of yet.
    pub fn new(deps: ClusterDeps) -> Self {
        Self(Arc::new(Inner {
            dialer: PeerDialer::new(CONNECT),
            started_ms: deps.clock.now_ms(),
            others: ArcSwap::default(),
            links: Mutex::default(),
            looked: tokio::sync::Mutex::default(),
            deps,
        }))
    }

    /// Says that this process lives, and looks who else does. Also renews the certificate when it is time.
    ///
    /// # Errors
    /// When the store does not answer, in its words.
    pub async fn beat(&self) -> Result<(), String> {
        let deps = &self.0.deps;
        match deps.tls.rotate() {
            Ok(false) => {}
            Ok(true) => tracing::info!("the certificate for the other processes was renewed"),
            Err(error) => tracing::error!(%error, "the certificate for the other processes cannot be renewed"),
        }
        let now_ms = deps.clock.now_ms();
        let own = Replica {
            node: deps.node.to_string(),
            address: deps.advertise.clone(),
            certificate: deps.tls.fingerprint(),
            started_ms: self.0.started_ms,
            seen_ms: now_ms,
        };
        replica::beat(&deps.store, &own).await.map_err(|error| error.to_string())?;
        self.look().await
    }

    async fn look(&self) -> Result<(), String> {
        let deps = &self.0.deps;
        let since = deps.clock.now_ms() - GONE_MS;
        let found = replica::seen_since(&deps.store, since).await.map_err(|error| error.to_string())?;
        let others: HashMap<String, String> = found
            .into_iter()
            .filter(|other| *other.node != *deps.node)
            .map(|other| (other.node, other.address))
            .collect();
        let mut links = self.0.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.retain(|node, _| others.contains_key(node));
        self.0.others.store(Arc::new(others));
        Ok(())
    }

    /// Beats until it is dropped.
    pub async fn run(&self) {
        let mut ticks = tokio::time::interval(BEAT);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut failed = false;
        loop {
            ticks.tick().await;
            match self.beat().await {
                Ok(()) => failed = false,
                Err(error) if !failed => {
                    failed = true;
                    tracing::warn!(error, "the other processes cannot be looked for");
                }
                Err(_) => {}
            }
        }
    }

    /// Says that this process ends, and forgets rows of those that went without a word.
    pub async fn leave(&self) {
        let deps = &self.0.deps;
        let left = async {
            replica::leave(&deps.store, &deps.node).await?;
            replica::prune(&deps.store, deps.clock.now_ms() - KEEP_MS).await
        };
        if let Err(error) = left.await {
            tracing::warn!(%error, "the other processes are not told of the end");
        }
    }

    /// Looks for a process, unless somebody looked a moment ago.
    async fn look_seldom(&self, node: &str) -> Result<(), String> {
        let mut looked = self.0.looked.lock().await;
        if self.0.others.load().contains_key(node) || looked.is_some_and(|at| at.elapsed() < LOOK_EVERY) {
            return Ok(());
        }
        *looked = Some(Instant::now());
        self.look().await
    }

    async fn address(&self, node: &str) -> Result<String, PassError> {
        if let Some(address) = self.0.others.load().get(node) {
            return Ok(address.clone());
        }
        // It may have started a moment ago.
        let looked = tokio::time::timeout(LOOK, self.look_seldom(node)).await;
        let why = match looked {
            Ok(Ok(())) => "it does not live".to_owned(),
            Ok(Err(error)) => error,
            Err(_) => "the store does not answer".to_owned(),
        };
        self.0.others.load().get(node).cloned().ok_or(PassError::Unreachable(why))
    }

    fn link(&self, node: &str) -> Arc<Link> {
        let mut links = self.0.links.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(links.entry(node.to_owned()).or_default())
    }
}

impl Replicas for Cluster {
    fn pass(&self, node: &str, request: Request<Bytes>) -> Passing {
        let (cluster, node) = (self.clone(), node.to_owned());
        Box::pin(async move {
            let address = cluster.address(&node).await?;
            let (link, inner) = (cluster.link(&node), &cluster.0);
            link.send(&inner.dialer, &inner.deps.tls, &node, &address, request).await
        })
    }

    fn others(&self) -> Vec<Arc<str>> {
        self.0.others.load().keys().map(|node| node.as_str().into()).collect()
    }
}

#[cfg(test)]
mod tests;
